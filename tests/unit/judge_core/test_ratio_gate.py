# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a ratio gate says, and that it says the same after its controller was replaced."""

from __future__ import annotations

import json
import math
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Absent,
    Arms,
    Counts,
    GateLook,
    Verdict,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.ratio import RatioGate, RatioSpec

PLACES = tuple(f"place-{index}" for index in range(10))
ARMS = Arms(PLACES[:1], PLACES[1:])
ALONE = Arms(PLACES[:1], ())
Rate = Callable[[int, float], float]


def look_of(rate: Rate, elapsed: float, rng: np.random.Generator, each: float = 20.0) -> GateLook:
    """Two seconds of traffic: `each` requests per place, `rate(place, elapsed)` of them bad."""
    return GateLook(
        counts={
            place: Counts(float(rng.poisson(each * rate(index, elapsed))), each) for index, place in enumerate(PLACES)
        }
    )


def bake(
    gate: RatioGate, rate: Rate, *, seconds: float = 600.0, arms: Arms = ARMS, past: float = 600.0, seed: int = 1
) -> List[Verdict]:
    rng = np.random.default_rng(seed)
    for elapsed in np.arange(-past, 0.0, 10.0).tolist():
        gate.observe(look_of(lambda _place, at: rate(1, at), elapsed, rng, 100.0), Arms((), arms.baseline), elapsed)
    return [
        gate.observe(look_of(rate, elapsed, rng), arms, elapsed) for elapsed in np.arange(0.0, seconds, 2.0).tolist()
    ]


def steady(usual: float, canary: Optional[float] = None) -> Rate:
    return lambda place, _elapsed: canary if canary is not None and place == 0 else usual


def first(verdicts: List[Verdict], wanted: str) -> Tuple[int, Verdict]:
    return next((index, verdict) for index, verdict in enumerate(verdicts) if verdict.verdict == wanted)


@pytest.mark.parametrize("preset", ["careful", "balanced", "fast"])
def test_a_bad_release_fails_soon_and_stays_failed(preset: str) -> None:
    gate = RatioGate(RatioSpec.of("errors", preset=preset))
    verdicts = bake(gate, lambda place, at: 0.05 if place == 0 and at < 60 else 0.005)
    index, verdict = first(verdicts, FAIL)
    assert index < 30
    assert verdict.reason == "worse_than_baseline"
    assert verdict.evidence["fail"] == 1.0
    assert verdict.value is not None and verdict.baseline is not None and verdict.value > 3 * verdict.baseline
    assert {later.verdict for later in verdicts[index:]} == {FAIL}


@pytest.mark.parametrize("preset", ["careful", "balanced", "fast"])
def test_a_good_release_passes(preset: str) -> None:
    verdicts = bake(RatioGate(RatioSpec.of("errors", preset=preset)), steady(0.005), seconds=1800)
    assert not any(verdict.verdict == FAIL for verdict in verdicts)
    assert verdicts[-1].verdict == PASS
    assert verdicts[-1].limit == pytest.approx(0.01, rel=0.2)


def test_a_service_without_any_error_passes() -> None:
    index, verdict = first(bake(RatioGate(RatioSpec("errors")), steady(0.0)), PASS)
    assert 60 < index * 2.0 < 300
    assert (verdict.value, verdict.baseline, verdict.limit) == (0.0, 0.0, 0.002)
    assert verdict.evidence["dispersion"] == 9.0


def test_errors_all_over_the_service_are_not_the_canarys() -> None:
    verdicts = bake(RatioGate(RatioSpec("errors")), lambda _place, at: 0.4 if 100 <= at < 220 else 0.005)
    assert not any(verdict.verdict == FAIL for verdict in verdicts)


def test_a_leak_that_shows_late_is_seen() -> None:
    gate = RatioGate(RatioSpec("errors"))
    verdicts = bake(gate, lambda place, at: 0.05 if place == 0 and at >= 1200 else 0.005, seconds=1500)
    index, verdict = first(verdicts, FAIL)
    assert 600 < index < 650
    assert verdict.evidence["recent"] == pytest.approx(0.05, rel=0.5)


def test_half_of_all_requests_bad_fails_within_a_slot() -> None:
    index, verdict = first(bake(RatioGate(RatioSpec("errors")), steady(0.005, 0.5)), FAIL)
    assert index < 4
    assert verdict.evidence["test"] == "gross"


def test_min_bad_guards_a_fail() -> None:
    verdicts = bake(RatioGate(RatioSpec("errors", min_bad=40)), steady(0.0, 0.05), seconds=120)
    assert first(verdicts, FAIL)[1].samples["bad"] >= 40
    assert max(verdict.samples["bad"] for verdict in verdicts if verdict.verdict != FAIL) >= 30


def test_min_requests_guards_a_pass_but_not_a_fail() -> None:
    spec = RatioSpec("errors", min_requests=5000)
    index, _verdict = first(bake(RatioGate(spec), steady(0.0)), PASS)
    assert index == 249
    assert first(bake(RatioGate(spec), steady(0.0, 0.05)), FAIL)[0] < 60
    assert bake(RatioGate(spec), steady(0.0), seconds=20)[-1].reason == "low_sample"


def test_the_limit_judges_where_there_is_no_baseline() -> None:
    spec = RatioSpec("errors", maximum=0.01)
    index, verdict = first(bake(RatioGate(spec), steady(0.0, 0.1), arms=ALONE, past=0), FAIL)
    assert (verdict.reason, verdict.limit, verdict.baseline) == ("over_limit", 0.01, None)
    assert index < 20
    passed = first(bake(RatioGate(spec), steady(0.0, 0.001), arms=ALONE, past=0), PASS)[1]
    assert passed.limit == 0.01
    assert not passed.evidence["weak"]


def test_the_limit_judges_an_outage_that_the_baseline_excuses() -> None:
    verdicts = bake(RatioGate(RatioSpec("errors", maximum=0.02)), steady(0.2), past=0)
    assert first(verdicts, FAIL)[1].reason == "over_limit"


def test_a_limit_that_breaks_after_the_comparison_failed_becomes_the_reason() -> None:
    verdicts = bake(RatioGate(RatioSpec("errors", maximum=0.02)), steady(0.005, 0.06))
    reasons = [verdict.reason for verdict in verdicts if verdict.verdict == FAIL]
    assert (reasons[0], reasons[-1]) == ("worse_than_baseline", "over_limit")


def test_without_baseline_and_limit_only_the_floor_can_be_shown() -> None:
    verdicts = bake(RatioGate(RatioSpec("errors")), steady(0.5), arms=ALONE, past=0)
    assert {verdict.verdict for verdict in verdicts} == {INCONCLUSIVE}
    assert bake(RatioGate(RatioSpec("errors")), steady(0.0), arms=ALONE, past=0)[-1].verdict == PASS


def test_few_places_say_that_they_are_few() -> None:
    few = Arms(PLACES[:1], PLACES[1:4])
    verdict = first(bake(RatioGate(RatioSpec("errors")), steady(0.005, 0.2), arms=few), FAIL)[1]
    assert verdict.evidence["weak"] is True
    assert first(bake(RatioGate(RatioSpec("errors")), steady(0.005, 0.2)), FAIL)[1].evidence["weak"] is False


@pytest.mark.parametrize(
    ("gone", "why", "reason"),
    [
        ((0,), "no_series", "no_data"),
        ((0,), "provider_error", "provider_error"),
        (tuple(range(10)), "query_error", "query_error"),
        (tuple(range(1, 10)), "stale", "no_data"),
        ((3,), "provider_error", ""),
    ],
)
def test_a_side_that_is_away_never_passes_and_proves_nothing(gone: Tuple[int, ...], why: str, reason: str) -> None:
    gate = RatioGate(RatioSpec("errors"))
    before = bake(gate, steady(0.0), seconds=400)[-1]
    assert before.verdict == PASS
    away = [PLACES[index] for index in gone]
    look = GateLook(
        counts={place: Counts(0.0, 20.0) for place in PLACES if place not in away},
        absent={place: Absent(why) for place in away},
    )
    verdict = gate.observe(look, ARMS, 400.0)
    assert (verdict.verdict, verdict.reason) == ((INCONCLUSIVE, reason) if reason else (PASS, ""))
    assert gate.observe(look_of(steady(0.0), 402.0, np.random.default_rng(1)), ARMS, 402.0).verdict == PASS


def test_looks_with_one_side_only_are_no_evidence_against_the_baseline() -> None:
    gate = RatioGate(RatioSpec("errors"))
    for index in range(200):
        missing = GateLook(counts={PLACES[0]: Counts(10.0, 20.0)}, absent={p: Absent("stale") for p in PLACES[1:]})
        verdict = gate.observe(missing, ARMS, index * 2.0)
    assert (verdict.verdict, verdict.reason) == (INCONCLUSIVE, "no_data")
    assert verdict.evidence["fail"] == 0.0


def test_before_any_request_there_is_no_data() -> None:
    gate = RatioGate(RatioSpec("errors"))
    verdict = gate.observe(GateLook(), ARMS, 0.0)
    assert (verdict.verdict, verdict.reason, verdict.value) == (INCONCLUSIVE, "no_data", None)
    idle = GateLook(counts={place: Counts(0.0, 0.0) for place in PLACES})
    assert gate.observe(idle, ARMS, 2.0).reason == "no_data"
    assert gate.observe(idle, Arms((), PLACES), 4.0).reason == "no_data"


def test_arms_are_read_anew_and_a_shared_outage_after_the_share_grew_is_nobodys() -> None:
    gate, rng = RatioGate(RatioSpec("errors")), np.random.default_rng(5)
    for elapsed in range(0, 900, 2):
        arms = ARMS if elapsed < 300 else Arms(PLACES[:5], PLACES[5:])
        verdict = gate.observe(look_of(steady(0.3 if elapsed > 600 else 0.005), elapsed, rng), arms, elapsed)
        assert verdict.verdict != FAIL


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -1.0])
def test_a_count_that_is_no_count_is_left_out(wrong: float) -> None:
    gate = RatioGate(RatioSpec("errors"))
    counts = {place: Counts(0.0, 20.0) for place in PLACES}
    verdict = gate.observe(GateLook(counts={**counts, PLACES[1]: Counts(wrong, 20.0)}), ARMS, 0.0)
    assert verdict.samples["baseline"] == 160.0
    verdict = gate.observe(GateLook(counts={**counts, PLACES[1]: Counts(0.0, wrong)}), ARMS, 2.0)
    assert verdict.samples["baseline"] == 320.0


def test_its_verdict_and_its_state_are_json_and_bounded() -> None:
    gate, sizes = RatioGate(RatioSpec("errors", maximum=0.05)), []
    rng = np.random.default_rng(3)
    for index in range(3000):
        verdict = gate.observe(look_of(steady(0.01), index * 2.0, rng), ARMS, index * 2.0)
        json.dumps(verdict.as_dict(), allow_nan=False)
        sizes.append(len(json.dumps(gate.state(), allow_nan=False)))
    assert max(sizes) < 6000
    assert max(sizes[1500:]) < 1.1 * max(sizes[:1500])


Step = Tuple[float, float, List[Tuple[int, int]]]
steps = st.lists(
    st.tuples(
        st.floats(0.5, 30.0),
        st.integers(1, 3),
        st.lists(st.tuples(st.integers(0, 8), st.integers(0, 60)), min_size=4, max_size=4),
    ),
    min_size=2,
    max_size=60,
)


@given(steps, st.data(), st.sampled_from(["careful", "balanced", "fast"]), st.sampled_from([None, 0.02]))
@settings(max_examples=60)
def test_it_goes_on_as_if_nothing_had_happened(
    path: List[Step], data: st.DataObject, preset: str, maximum: Optional[float]
) -> None:
    spec = RatioSpec.of("errors", preset=preset, maximum=maximum)
    whole, cut = RatioGate(spec), data.draw(st.integers(0, len(path) - 1))
    resumed, elapsed = RatioGate(spec), -60.0
    for index, (step, canaries, bad) in enumerate(path):
        elapsed += step
        counts = {PLACES[i]: Counts(float(b), float(b + good)) for i, (b, good) in enumerate(bad)}
        arms = Arms(PLACES[:canaries] if elapsed >= 0 else (), PLACES[canaries:4])
        if index == cut:
            resumed = RatioGate(spec)
            resumed.restore(json.loads(json.dumps(whole.state())))
        said = whole.observe(GateLook(counts=counts), arms, elapsed)
        if index >= cut:
            assert resumed.observe(GateLook(counts=counts), arms, elapsed) == said
    assert resumed.state() == whole.state()


def _without(key: str) -> Callable[[Dict[str, object]], Dict[str, object]]:
    return lambda state: {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    "spoil",
    [
        _without("places"),
        _without("evidence"),
        _without("sums"),
        _without("divisors"),
        lambda state: {**state, "evidence": {}},
        lambda state: {**state, "dispersion": {"most": 0, "windows": []}},
        lambda _state: RatioGate(RatioSpec("errors", maximum=0.1)).state(),
    ],
)
def test_the_state_of_something_else_is_refused(
    spoil: Callable[[Mapping[str, object]], Mapping[str, object]],
) -> None:
    gate = RatioGate(RatioSpec("errors"))
    with pytest.raises(ValueError, match="not|another"):
        gate.restore(spoil(gate.state()))


def test_a_spec_takes_from_its_preset_what_it_is_not_told() -> None:
    assert RatioSpec.of("errors") == RatioSpec("errors")
    careful = RatioSpec.of("errors", preset="careful", min_bad=2)
    assert (careful.tolerance, careful.min_bad, careful.min_requests) == (2.0, 2, 500)
    with pytest.raises(KeyError):
        RatioSpec.of("errors", preset="bold")


@pytest.mark.parametrize("maximum", [None, 0.05])
@pytest.mark.parametrize("preset", ["careful", "balanced", "fast"])
def test_the_tests_of_a_gate_share_its_alpha(preset: str, maximum: Optional[float]) -> None:
    spec = RatioSpec.of("errors", preset=preset, maximum=maximum, alpha=0.004)
    assert sum(1.0 / needed for needed in spec.needed().values()) == pytest.approx(0.004)
