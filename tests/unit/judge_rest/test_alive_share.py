# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two gates that every bake has: is the canary there, and does it get its share?"""

from __future__ import annotations

import json
from typing import Dict, Mapping, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.alive import LONELY_LOOKS, AliveGate
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Arms,
    Counts,
    GateLook,
    Liveness,
    Look,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.share import ShareGate, mismatch

ARMS = Arms(("a",), ("b", "c"))
UP, DOWN = Liveness(True), Liveness(False, detail="connection refused")
ALL_UP: Mapping[str, Liveness] = {"a": UP, "b": UP, "c": UP}


def look(alive: Mapping[str, Liveness], arms: Arms = ARMS, warming: Tuple[str, ...] = ()) -> Look:
    return Look(0, arms, {}, alive, warming)


def test_everybody_answers() -> None:
    assert AliveGate().observe(look(ALL_UP)).verdict == PASS


def test_down_at_two_looks_while_the_baseline_answers() -> None:
    gate = AliveGate()
    first, second = (gate.observe(look({**ALL_UP, "a": DOWN})) for _ in range(2))
    assert (first.verdict, first.reason) == (INCONCLUSIVE, "undecided")
    assert (second.verdict, second.reason, second.evidence["down"]) == (FAIL, "down", ["a"])


def test_one_look_without_an_answer_is_forgiven() -> None:
    gate = AliveGate()
    for alive in (DOWN, UP, DOWN, UP):
        assert gate.observe(look({**ALL_UP, "a": alive})).verdict != FAIL


def test_two_restarts_fail_but_not_those_from_before() -> None:
    gate = AliveGate()
    seen = [gate.observe(look({**ALL_UP, "a": Liveness(True, times)})).verdict for times in (3, 4, 5)]
    assert seen == [PASS, PASS, FAIL]


def test_restarts_of_a_place_that_is_still_warming_up_count() -> None:
    gate = AliveGate()
    for times in (0, 2):
        arms = Arms((), ("b", "c"))
        verdict = gate.observe(look({**ALL_UP, "a": Liveness(True, times)}, arms, warming=("a",)))
    assert (verdict.verdict, verdict.reason, verdict.value, verdict.limit) == (FAIL, "restarted", 1, 2)


def test_when_nothing_answers_nobody_can_tell() -> None:
    gate = AliveGate()
    for _ in range(10):
        verdict = gate.observe(look({"a": DOWN, "b": DOWN, "c": DOWN}))
    assert (verdict.verdict, verdict.reason) == (INCONCLUSIVE, "provider_error")


def test_another_canary_is_witness_enough() -> None:
    gate = AliveGate()
    for _ in range(2):
        verdict = gate.observe(look({"a": DOWN, "b": UP}, Arms(("a", "b"), ("c",))))
    assert verdict.verdict == FAIL


def test_without_any_old_place_silence_fails_late() -> None:
    gate = AliveGate()
    seen = [gate.observe(look({"a": DOWN}, Arms(("a",), ()))) for _ in range(LONELY_LOOKS)]
    assert [verdict.verdict for verdict in seen] == [INCONCLUSIVE] * (LONELY_LOOKS - 1) + [FAIL]


@pytest.mark.parametrize(("arms", "alive"), [(ARMS, {"b": UP}), (Arms((), ("b",)), {"b": UP})])
def test_a_canary_that_nobody_looked_at_does_not_pass(arms: Arms, alive: Mapping[str, Liveness]) -> None:
    verdict = AliveGate().observe(look(alive, arms))
    assert (verdict.verdict, verdict.reason) == (INCONCLUSIVE, "no_data")


def test_what_it_knows_survives() -> None:
    gate, resumed = AliveGate(), AliveGate()
    gate.observe(look({**ALL_UP, "a": Liveness(True, 1)}))
    gate.observe(look({**ALL_UP, "a": DOWN}))
    resumed.restore(json.loads(json.dumps(gate.state())))
    assert resumed.observe(look({**ALL_UP, "a": DOWN})).verdict == FAIL


@given(st.integers(0, 500), st.integers(1, 500), st.sampled_from([0.05, 0.25, 0.5]))
def test_the_mismatch_is_the_chi_square_of_scipy(canary: int, rest: int, intended: float) -> None:
    total = canary + rest
    expected = chisquare([canary, rest], [total * intended, total * (1 - intended)]).pvalue
    assert mismatch(canary, total, intended) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def counts(canary: float, each: float) -> GateLook:
    return GateLook(counts={"a": Counts(0, canary), "b": Counts(0, each), "c": Counts(0, each)})


@pytest.mark.parametrize(
    ("canary", "each", "verdict", "reason"),
    [
        (100, 100, PASS, ""),
        (60, 100, PASS, ""),
        (30, 100, INCONCLUSIVE, "share_mismatch"),
        (0, 100, INCONCLUSIVE, "share_mismatch"),
        (0, 2, PASS, ""),
        (0, 0, INCONCLUSIVE, "no_data"),
    ],
)
def test_less_than_half_of_the_share_beyond_chance(canary: float, each: float, verdict: str, reason: str) -> None:
    told = ShareGate().observe(counts(canary, each), ARMS, 2)
    assert (told.verdict, told.reason) == (verdict, reason)


def test_a_canary_that_joins_late_is_forgiven() -> None:
    gate = ShareGate()
    seen = [gate.observe(counts(0 if at < 60 else 100, 100), ARMS, at).verdict for at in range(0, 300, 2)]
    assert seen[20] == INCONCLUSIVE and seen[-1] == PASS


def test_a_share_that_is_not_by_number_of_places() -> None:
    assert ShareGate(0.05).observe(counts(10, 95), ARMS, 0).verdict == PASS


@pytest.mark.parametrize("arms", [Arms(("a",), ()), Arms((), ("b", "c"))])
def test_without_both_sides_there_is_no_share(arms: Arms) -> None:
    assert ShareGate().observe(counts(1, 100), arms, 0).verdict == PASS


def test_the_share_survives() -> None:
    gate, resumed = ShareGate(0.2), ShareGate()
    gate.observe(counts(0, 10), ARMS, 0)
    resumed.restore(json.loads(json.dumps(gate.state())))
    state: Dict[str, object] = resumed.state()
    assert state == gate.state()
    assert gate.observe(counts(0, 10), ARMS, 30) == resumed.observe(counts(0, 10), ARMS, 30)
