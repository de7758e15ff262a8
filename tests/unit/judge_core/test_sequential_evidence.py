# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The likelihood ratios against scipy, and what makes them safe to read at every look: an expectation of at most 1."""

from __future__ import annotations

import json
import math
from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, poisson

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.presets import BETTER, HORIZON, PRESETS
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.sequential import (
    Evidence,
    against_baseline,
    against_rate,
    numbers,
)

WORSE = PRESETS["balanced"].worse
MULTIPLES = [multiple for multiple, _weight in WORSE]
requests = st.integers(min_value=1, max_value=5000).map(float)
some_bad = st.integers(min_value=0, max_value=60)
ratios = st.floats(min_value=0.5, max_value=5.0)


@given(requests, requests, some_bad, some_bad, ratios)
def test_against_baseline_is_the_binomial_likelihood_ratio(
    canary: float, baseline: float, bad: int, bad_b: int, ratio: float
) -> None:
    got = against_baseline((bad, canary), (bad_b, baseline), ratio, multiples=MULTIPLES)

    def logpmf(times: float) -> float:
        return float(binom.logpmf(bad, bad + bad_b, times * canary / (times * canary + baseline)))

    assert got == pytest.approx([logpmf(ratio * m) - logpmf(ratio) for m in MULTIPLES], abs=1e-6)


@given(requests, some_bad, st.floats(min_value=1e-4, max_value=0.2))
def test_against_rate_is_the_poisson_likelihood_ratio(total: float, bad: int, rate: float) -> None:
    got = against_rate((bad, total), rate, multiples=MULTIPLES)
    want = [poisson.logpmf(bad, m * rate * total) - poisson.logpmf(bad, rate * total) for m in MULTIPLES]
    assert got == pytest.approx(want, abs=1e-6)


@given(requests, requests, st.integers(min_value=0, max_value=40), ratios, st.floats(min_value=1e-6, max_value=1.0))
def test_a_look_gains_nothing_on_average_while_the_ratio_is_within_tolerance(
    canary: float, baseline: float, every: int, tolerance: float, part: float
) -> None:
    p = part * tolerance * canary / (part * tolerance * canary + baseline)
    gains = [
        against_baseline((bad, canary), (every - bad, baseline), tolerance, multiples=MULTIPLES)
        for bad in range(every + 1)
    ]
    assert max(binom.pmf(np.arange(every + 1), every, p) @ np.exp(gains)) <= 1.0 + 1e-9


@given(st.integers(min_value=1, max_value=200), st.floats(min_value=1e-3, max_value=0.05), st.floats(1e-6, 1.0))
def test_a_binomial_count_gains_nothing_on_average_against_a_limit_it_keeps(
    total: int, limit: float, part: float
) -> None:
    gains = [against_rate((bad, total), limit, multiples=MULTIPLES) for bad in range(total + 1)]
    assert max(binom.pmf(np.arange(total + 1), total, part * limit) @ np.exp(gains)) <= 1.0 + 1e-9


@given(st.integers(min_value=1, max_value=200), st.floats(min_value=1e-3, max_value=0.05), st.floats(1.0, 4.0))
def test_a_binomial_count_above_the_bound_gains_little_towards_a_pass(total: int, bound: float, above: float) -> None:
    better = [multiple for multiple, _weight in BETTER]
    gains = [against_rate((bad, total), bound, multiples=better) for bad in range(total + 1)]
    assert max(binom.pmf(np.arange(total + 1), total, above * bound) @ np.exp(gains)) <= 1.0 + 1e-9


looks = st.lists(st.lists(st.floats(-3.0, 3.0), min_size=4, max_size=4), min_size=1, max_size=30)


def test_without_evidence_the_stake_is_whole_at_any_time() -> None:
    evidence = Evidence(WORSE, now=0.9, cap=2.0)
    for slot in range(1, 500):
        evidence.close(slot * 10.0, 1.0, 1.0)
        assert evidence.value(1.0) == pytest.approx(1.0)


@given(looks, st.floats(1.0, 20.0))
def test_a_slot_never_gains_more_than_its_cap(given_looks: List[List[float]], divisor: float) -> None:
    evidence = Evidence(WORSE, now=1.0, cap=1.5)
    for look in given_looks:
        evidence.add(look)
    assert evidence.value(divisor) <= math.exp(1.5) + 1e-9


@given(looks, st.floats(1.0, 20.0), st.floats(1.0, 3.0))
def test_a_divisor_that_grows_never_adds_evidence(given_looks: List[List[float]], divisor: float, more: float) -> None:
    calm, shaken = (Evidence(WORSE, now=0.9, cap=10.0) for _ in range(2))
    for index, look in enumerate(given_looks):
        calm.add(look)
        shaken.add(look)
        calm.close(10.0 * index, divisor, divisor)
        shaken.close(10.0 * index, divisor, divisor * more)
        assert shaken.value(divisor) <= calm.value(divisor) * (1.0 + 1e-9)
        shaken = Evidence(WORSE, now=0.9, cap=10.0)
        shaken.restore(calm.state())


def test_a_late_start_is_seen_though_the_good_days_weighed_against_it() -> None:
    from_start, late = Evidence(WORSE, now=1.0), Evidence(WORSE, now=0.9)
    for slot in range(1, 150):
        for evidence in (from_start, late):
            evidence.add([-2.0] * 4)
            evidence.close(slot * 10.0, 1.0, 1.0)
    for evidence in (from_start, late):
        evidence.add([15.0] * 4)
    assert late.value(1.0) > 100.0 > from_start.value(1.0)
    assert late.state()["released"] == pytest.approx(0.1 * 1490.0 / (1490.0 + HORIZON))


@given(looks, looks)
def test_evidence_survives_json(before: List[List[float]], after: List[List[float]]) -> None:
    one, other = Evidence(WORSE, now=0.9, cap=4.0), Evidence(WORSE, now=0.9, cap=4.0)
    for index, look in enumerate(before):
        one.add(look)
        one.close(10.0 * index, 1.3, 1.2)
    one.add(after[0])
    other.restore(json.loads(json.dumps(one.state())))
    for look in after:
        one.add(look)
        other.add(look)
        assert one.value(1.2) == other.value(1.2)


@pytest.mark.parametrize("wrong", [None, "ab", [1.0], [1.0, "2"], [1.0, 2.0, 3.0]])
def test_numbers_refuses_what_is_not_its_own(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"not .* number"):
        numbers(wrong, 2)


def test_what_is_kept_is_bounded() -> None:
    evidence = Evidence(BETTER, ceiling=400.0)
    for slot in range(1, 1000):
        evidence.add([5.0] * len(BETTER))
        evidence.close(slot * 10.0, 1.0, 1.0)
    assert evidence.value(1.0) <= 400.0
