# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranks: the test is scipy's, the interval is R's, and the gate is calmer than either alone."""

from __future__ import annotations

import json
import math
import random
from statistics import NormalDist, median
from typing import List, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, t

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Absent,
    Arms,
    GateLook,
    Verdict,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.ranks import (
    RanksGate,
    deviate,
    hodges_lehmann,
    student,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import RanksRule

PLACES = tuple(f"b{index}" for index in range(9))
ARMS = Arms(("a",), PLACES)

sides = st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=25)


@given(sides, sides)
def test_the_deviate_is_that_of_scipy(canary: List[float], baseline: List[float]) -> None:
    assume(len(set(canary + baseline)) > 1)
    expected = mannwhitneyu(canary, baseline, alternative="two-sided", method="asymptotic", use_continuity=True).pvalue
    assert math.isclose(
        min(1.0, 2 * NormalDist().cdf(-abs(deviate(canary, baseline)))), expected, rel_tol=1e-6, abs_tol=1e-9
    )


@settings(max_examples=50)
@given(sides, sides)
def test_the_interval_holds_the_middle_and_its_ends_are_where_the_test_gives_in(x: List[float], y: List[float]) -> None:
    shift = hodges_lehmann(x, y, 0.95)
    slack = 1e-6
    assert shift.low <= shift.estimate + slack <= shift.high + 2 * slack
    z = NormalDist().inv_cdf(0.975)
    if shift.low > min(x) - max(y) + slack:
        assert deviate(x, y, shift.low - slack) >= z >= deviate(x, y, shift.low + slack)
    differences = [a - b for a in x for b in y]
    assert min(differences) - slack <= shift.estimate <= max(differences) + slack


def test_the_estimate_is_the_median_of_the_differences() -> None:
    rng = random.Random(7)
    x, y = [rng.gauss(5, 1) for _ in range(15)], [rng.gauss(3, 2) for _ in range(21)]
    assert hodges_lehmann(x, y, 0.98).estimate == pytest.approx(median(a - b for a in x for b in y), abs=1e-6)


# the intervals are R's asymptotic Wilcoxon ones at 98 %, the estimates the median of all differences
REFERENCE = [
    ([100.0] * 7 + [1.0] * 3, [1.0] * 10, 0.0, 99.0, 99.0),
    ([100.0] * 8 + [1.0] * 2, [1.0] * 10, 99.0, 99.0, 99.0),
    ([1.0, 4, 2, 3, 1], [0.0] * 5, 1.0, 2.0, 4.0),
    ([20.0, 22, 21, 25, 30], [1.0, 2.2, 1.1, 2.5, 3.0], 17.0, 20.0, 29.0),
    ([10.0, 12.2, 10.1, 12.5, 23.0], [20.0, 22, 21, 25, 30], -20.0, -10.0, 3.0),
    ([10.0, 11.0], [1.0, 2.0], 8.0, 9.0, 10.0),
]


@pytest.mark.parametrize(("canary", "baseline", "low", "estimate", "high"), REFERENCE)
def test_known_intervals(canary: List[float], baseline: List[float], low: float, estimate: float, high: float) -> None:
    shift = hodges_lehmann(canary, baseline, 0.98)
    assert (shift.low, shift.high) == pytest.approx((low, high), abs=1e-3)
    assert shift.estimate == pytest.approx(estimate, abs=0.11)


def test_equal_values_deviate_by_nothing() -> None:
    assert deviate([1.0, 1.0], [1.0, 1.0, 1.0]) == 0


@given(st.integers(1, 40), st.sampled_from([0.75, 0.9, 0.975, 0.99, 0.995]))
def test_the_quantile_of_student_is_that_of_scipy(freedom: int, level: float) -> None:
    assert student(level, freedom) == pytest.approx(float(t.ppf(level, freedom)), rel=0.04)


def bake(gate: RanksGate, canary: Sequence[float], spread: float = 0.01, *, seed: int = 1) -> List[Verdict]:
    """One look per 10 s; a window is 30 s. Nine baseline places around 1."""
    rng = random.Random(seed)
    verdicts = []
    for index, value in enumerate(canary):
        values = {place: rng.gauss(1, spread) for place in PLACES}
        values["a"] = rng.gauss(value, spread)
        verdicts.append(gate.observe(GateLook(values=values), ARMS, 10.0 * index))
    return verdicts


def gate(direction: str = "increase", tolerance: float = 0.1) -> RanksGate:
    return RanksGate("p99", RanksRule(direction=direction, tolerance=tolerance), deadline=1800)


@pytest.mark.parametrize(
    ("direction", "value", "verdict"),
    [
        ("increase", 1.5, FAIL),
        ("increase", 0.5, PASS),
        ("increase", 1.0, PASS),
        ("decrease", 0.5, FAIL),
        ("decrease", 1.5, PASS),
        ("either", 0.5, FAIL),
        ("either", 1.5, FAIL),
        ("either", 1.0, PASS),
    ],
)
def test_a_shift_in_the_direction_that_matters(direction: str, value: float, verdict: str) -> None:
    last = bake(gate(direction), [value] * 60)[-1]
    assert last.verdict == verdict
    assert last.limit == pytest.approx(0.9 if direction == "decrease" else 1.1, abs=0.02)
    assert last.baseline == pytest.approx(1, abs=0.01)


def test_a_shift_within_the_tolerance_of_the_baseline_passes() -> None:
    assert bake(gate(), [1.05] * 60)[-1].verdict == PASS
    assert bake(gate(tolerance=0.02), [1.05] * 60)[-1].verdict == FAIL


def test_one_baseline_place_leaves_only_the_tolerance() -> None:
    watched = gate()
    for index in range(60):
        look = GateLook(values={"a": 1.3, "b0": 1.0 + index % 3 / 100})
        verdict = watched.observe(look, Arms(("a",), ("b0",)), 10.0 * index)
    assert verdict.verdict == FAIL and verdict.limit == pytest.approx(1.111)


def test_at_the_edge_of_the_tolerance_nobody_can_tell() -> None:
    last = bake(gate(), [1.1] * 36, spread=0.05)[-1]
    assert (last.verdict, last.reason) == (INCONCLUSIVE, "undecided")


def test_five_samples_a_side_are_the_least() -> None:
    verdicts = bake(gate(), [9.0] * 15)
    assert {(verdict.verdict, verdict.reason) for verdict in verdicts} == {(INCONCLUSIVE, "low_sample")}
    assert verdicts[-1].samples["canary"] == 4


def test_a_failed_gate_stays_failed() -> None:
    verdicts = bake(gate(), [3.0] * 60 + [1.0] * 300)
    first = next(index for index, verdict in enumerate(verdicts) if verdict.verdict == FAIL)
    assert all(verdict.verdict == FAIL and verdict.reason == "shifted" for verdict in verdicts[first:])


def test_a_baseline_whose_own_places_differ_is_not_taken_for_a_regression() -> None:
    """The canary is as far from the middle as some of the old places are."""
    watched = gate()
    for index in range(60):
        values = {place: 1 + 0.1 * nth for nth, place in enumerate(PLACES)} | {"a": 1.7}
        verdict = watched.observe(GateLook(values=values), ARMS, 10.0 * index)
    assert verdict.verdict != FAIL


def test_a_healthy_canary_is_rarely_failed_although_it_is_looked_at_again_and_again() -> None:
    failed = sum(bake(gate(tolerance=0.0), [1.0] * 80, seed=seed)[-1].verdict == FAIL for seed in range(20))
    assert failed <= 1


def test_silence_is_told_and_never_passes() -> None:
    watched = gate()
    assert watched.observe(GateLook(), ARMS, 0).reason == "no_data"
    bake(watched, [1.0] * 60)
    lost = watched.observe(GateLook(absent={"a": Absent("provider_error")}), ARMS, 2000)
    assert (lost.verdict, lost.reason) == (INCONCLUSIVE, "provider_error")


def test_a_place_that_changes_sides_starts_its_window_anew() -> None:
    watched = gate()
    watched.observe(GateLook(values={"a": 1.0, "b0": 7.0}), Arms(("a",), ("b0",)), 0)
    watched.observe(GateLook(values={"a": 1.0, "b0": 9.0}), Arms(("a", "b0"), ()), 10)
    verdict = watched.observe(GateLook(values={"a": 1.0}), Arms(("a", "b0"), ()), 30)
    assert verdict.value == 5.0 and verdict.baseline is None and verdict.limit is None


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([0.9, 1.0, 1.4, 3.0]), min_size=1, max_size=70), st.data())
def test_resumed_anywhere_it_says_the_same(values: List[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    straight, broken = gate(), gate()
    for index, value in enumerate(values):
        if index == cut:
            state = json.loads(json.dumps(broken.state(), allow_nan=False))
            broken = gate()
            broken.restore(state)
        look = GateLook(values={"a": value, **{place: 1 + nth / 100 for nth, place in enumerate(PLACES)}})
        assert straight.observe(look, ARMS, 10.0 * index) == broken.observe(look, ARMS, 10.0 * index)
    assert straight.name == "p99"
