# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers against limits: grey zone, k of n, in a row, per place."""

from __future__ import annotations

import json
from typing import Dict, List, Optional, Sequence, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Absent,
    Arms,
    GateLook,
    Verdict,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import ValueRule
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.value import ValueGate, absence

ARMS = Arms(("a", "b"), ("c",))


def told(gate: ValueGate, looks: Sequence[Optional[float]]) -> List[Tuple[str, str]]:
    verdicts = []
    for index, value in enumerate(looks):
        values = {} if value is None else {"a": value, "b": 0.5, "c": 0.4}
        verdict = gate.observe(GateLook(values=values), ARMS, 10.0 * index)
        verdicts.append((verdict.verdict, verdict.reason))
    return verdicts


def test_three_of_five_over_the_limit_fail_and_stay_failed() -> None:
    gate = ValueGate("m", ValueRule(max=1.0))
    verdicts = told(gate, [2, 0, 2, 0, 2, 0, 0, 0, 0, 0])
    assert [verdict for verdict, _reason in verdicts] == [INCONCLUSIVE] * 4 + [FAIL] * 6
    assert verdicts[4] == (FAIL, "limit")


def test_five_good_in_the_window_pass_and_one_bad_takes_it_back() -> None:
    verdicts = told(ValueGate("m", ValueRule(max=1.0)), [0.9] * 5 + [2, 0.9])
    assert verdicts[3:] == [
        (INCONCLUSIVE, "low_sample"),
        (PASS, ""),
        (INCONCLUSIVE, "undecided"),
        (INCONCLUSIVE, "undecided"),
    ]


def test_in_a_row() -> None:
    gate = ValueGate("m", ValueRule(max=1.0, fail_count=5, consecutive=2))
    assert told(gate, [2, 0, 2, 2]) == [(INCONCLUSIVE, "low_sample")] * 3 + [(FAIL, "consecutive")]


def test_between_the_limits_is_neither() -> None:
    gate = ValueGate("m", ValueRule(max=1.0, pass_max=0.6))
    assert told(gate, [0.8] * 7)[-1] == (INCONCLUSIVE, "undecided")


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.3, FAIL), (0.5, INCONCLUSIVE), (0.9, PASS), (1.4, INCONCLUSIVE), (2.0, FAIL)]
)
def test_a_band_has_two_sides(value: float, verdict: str) -> None:
    rule = ValueRule(max=1.5, pass_max=1.2, min=0.4, pass_min=0.6, fail_count=1, fail_of=1)
    look = ValueGate("m", rule).observe(GateLook(values={"a": value}), Arms(("a",), ()), 0)
    assert look.verdict == verdict
    assert look.limit == (0.4 if value < 0.4 else 1.5)


@pytest.mark.parametrize(
    ("rule", "worst"), [(ValueRule(max=5), 9), (ValueRule(min=5), 1), (ValueRule(min=0, max=7), 9)]
)
def test_the_worst_place_speaks(rule: ValueRule, worst: float) -> None:
    verdict = ValueGate("m", rule).observe(GateLook(values={"a": 1, "b": 9, "c": 3}), ARMS, 0)
    assert (verdict.value, verdict.baseline) == (worst, 3)


def test_the_mean_of_the_places_when_asked() -> None:
    verdict = ValueGate("m", ValueRule(max=5, per="mean")).observe(GateLook(values={"a": 1, "b": 7}), ARMS, 0)
    assert (verdict.value, verdict.baseline, verdict.limit) == (4, None, 5)


def test_only_a_minimum() -> None:
    gate = ValueGate("m", ValueRule(min=1.0, fail_count=1))
    assert gate.observe(GateLook(values={"a": 0.5, "b": 2}), ARMS, 0).verdict == FAIL


def test_a_value_counts_once_per_interval() -> None:
    gate = ValueGate("m", ValueRule(max=1.0, every=10))
    for index in range(10):
        verdict = gate.observe(GateLook(values={"a": 2, "b": 0}), ARMS, float(index))
    assert verdict.samples["bad"] == 1


def test_no_data_never_passes_and_names_why() -> None:
    gate = ValueGate("m", ValueRule(max=1.0))
    assert told(gate, [None])[0] == (INCONCLUSIVE, "no_data")
    told(gate, [0.5] * 5)
    assert told(gate, [None])[0] == (INCONCLUSIVE, "no_data")
    silent = GateLook(values={"b": 0.5}, absent={"a": Absent("provider_error")})
    assert gate.observe(silent, ARMS, 900).reason == "provider_error"


def test_a_place_without_a_number_can_still_be_outvoted_by_a_bad_one() -> None:
    gate = ValueGate("m", ValueRule(max=1.0, fail_count=1))
    assert gate.observe(GateLook(values={"a": 2}), ARMS, 0).verdict == FAIL


@pytest.mark.parametrize(
    ("reasons", "told_as"),
    [
        ((), "no_data"),
        (("stale",), "no_data"),
        (("several_series",), "query_error"),
        (("no_series", "query_error"), "query_error"),
        (("query_error", "provider_error"), "provider_error"),
    ],
)
def test_absence_names_the_worst(reasons: Tuple[str, ...], told_as: str) -> None:
    absent = {str(index): Absent(reason) for index, reason in enumerate(reasons)}
    assert absence(GateLook(absent=absent), tuple(absent)) == told_as


@given(st.lists(st.one_of(st.none(), st.sampled_from([0.2, 0.8, 2.0])), max_size=30), st.data())
def test_resumed_anywhere_it_says_the_same(looks: List[Optional[float]], data: st.DataObject) -> None:
    rule = ValueRule(max=1.0, pass_max=0.5, consecutive=4)
    straight, broken = ValueGate("m", rule), ValueGate("m", rule)
    cut = data.draw(st.integers(0, len(looks)))
    for index, value in enumerate(looks):
        if index == cut:
            state = json.loads(json.dumps(broken.state(), allow_nan=False))
            broken = ValueGate("m", rule)
            broken.restore(state)
        values: Dict[str, float] = {} if value is None else {"a": value, "b": 0.1}
        verdicts: List[Verdict] = [
            gate.observe(GateLook(values=values), ARMS, 10.0 * index) for gate in (straight, broken)
        ]
        assert verdicts[0] == verdicts[1]
    assert straight.name == "m"
