# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Burn rates: the workbook's factors in the bake's own time."""

from __future__ import annotations

import json
from typing import List, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.burn_rate import BurnRateGate, scaled_windows
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
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import BurnRule, BurnWindow

ARMS = Arms(("a",), ("b",))
RULE = BurnRule(slo=0.999)


def watch(gate: BurnRateGate, counts: Sequence[Tuple[float, float]], *, every: float = 2.0) -> List[Verdict]:
    return [
        gate.observe(GateLook(counts={"a": Counts(bad, total), "b": Counts(0, 100)}), ARMS, (index + 1) * every)
        for index, (bad, total) in enumerate(counts)
    ]


def test_the_windows_keep_their_proportions() -> None:
    assert scaled_windows(21600) == (BurnWindow(3600, 300, 14.4), BurnWindow(21600, 1800, 6.0))
    quick, slow = scaled_windows(1800)
    assert (quick.long, quick.short, slow.long, slow.short) == pytest.approx((300, 25, 1800, 150))


def test_a_fast_burn_fails_by_the_quick_window() -> None:
    verdicts = watch(BurnRateGate("budget", RULE, deadline=1800), [(1, 50)] * 10)
    first = next(index for index, verdict in enumerate(verdicts) if verdict.verdict == FAIL)
    assert first == 3 and verdicts[first].reason == "burns 20 times the budget in 300s"
    assert verdicts[first].limit == pytest.approx(0.003)
    assert verdicts[first].samples == {"canary": 200, "baseline": 400, "bad": 4, "baseline_bad": 0}


def test_a_slow_burn_fails_by_the_slow_window() -> None:
    verdicts = watch(BurnRateGate("budget", RULE, deadline=1800), [(0, 100), (0, 100), (4, 100), (0, 100)] * 20)
    assert verdicts[-1].verdict == FAIL and verdicts[-1].reason.endswith("in 1800s")


def test_a_burst_that_is_over_lets_the_short_window_go() -> None:
    rule = BurnRule(slo=0.99, windows=(BurnWindow(600, 60, 6.0),), min_bad=40)
    verdicts = watch(BurnRateGate("budget", rule, deadline=1800), [(0, 100)] * 100 + [(10, 100)] * 3 + [(0, 100)] * 100)
    assert all(verdict.verdict != FAIL for verdict in verdicts)


def test_few_bad_requests_never_fail() -> None:
    verdicts = watch(BurnRateGate("budget", RULE, deadline=1800), [(1, 2), (1, 2), (1, 2)])
    assert [verdict.verdict for verdict in verdicts] == [INCONCLUSIVE] * 3


def test_a_pass_needs_the_rule_of_three() -> None:
    verdicts = watch(BurnRateGate("budget", RULE, deadline=1800), [(0, 100)] * 12)
    assert [verdict.verdict for verdict in verdicts] == [INCONCLUSIVE] * 9 + [PASS] * 3
    assert verdicts[0].reason == "low_sample" and verdicts[4].evidence["pass"] == pytest.approx(0.5)


def test_between_pass_and_fail_it_is_undecided() -> None:
    verdict = watch(BurnRateGate("budget", RULE, deadline=1800), [(0, 100)] * 20 + [(2, 100)] * 4)[-1]
    assert (verdict.verdict, verdict.reason) == (INCONCLUSIVE, "undecided")


def test_silence_is_told() -> None:
    gate = BurnRateGate("budget", RULE, deadline=1800)
    assert gate.observe(GateLook(), ARMS, 0).reason == "no_data"
    watch(gate, [(0, 100)] * 20)
    assert gate.observe(GateLook(absent={"a": Absent("query_error")}), ARMS, 60).reason == "query_error"
    idle = BurnRateGate("budget", RULE, deadline=1800)
    verdict = watch(idle, [(0, 0)] * 5)[-1]
    assert (verdict.reason, verdict.value) == ("no_data", None)


def test_what_is_older_than_the_longest_window_is_forgotten() -> None:
    gate = BurnRateGate("budget", BurnRule(slo=0.9, windows=(BurnWindow(60, 60, 9.0),)), deadline=1800)
    verdicts = watch(gate, [(40, 100)] * 10 + [(0, 100)] * 40)
    assert verdicts[9].value == pytest.approx(0.4) and verdicts[-1].value == 0
    slots = gate.state()["slots"]
    assert isinstance(slots, list) and len(slots) <= 31


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(3, 60)), max_size=60), st.data())
def test_resumed_anywhere_it_says_the_same(looks: List[Tuple[int, int]], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(looks)))
    straight, broken = (BurnRateGate("budget", RULE, deadline=120) for _ in range(2))
    for index, (bad, total) in enumerate(looks):
        if index == cut:
            state = json.loads(json.dumps(broken.state(), allow_nan=False))
            broken = BurnRateGate("budget", RULE, deadline=120)
            broken.restore(state)
        look = GateLook(counts={"a": Counts(bad, total)})
        assert straight.observe(look, ARMS, 2.0 * index) == broken.observe(look, ARMS, 2.0 * index)
    assert straight.name == "budget"
