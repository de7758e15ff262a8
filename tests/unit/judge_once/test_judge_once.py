# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look's verdict: three honest answers, each wrong at most once in a hundred times."""

from __future__ import annotations

import math
from typing import Dict, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    Absent,
    Arms,
    Counts,
    GateLook,
    Verdict,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.once import (
    CHANCE,
    Z,
    against_limit,
    binomial_tail,
    judge_once,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import parse_policy

RATIO = {"name": "errors", "bad": "b", "total": "t"}
VALUE = {"name": "queue", "type": "value", "value": "v"}
CANARY = Arms(("a",), ())
BOTH = Arms(("a",), ("b",))


def judged(gate: Mapping[str, object], look: GateLook, arms: Arms = CANARY, **policy: object) -> Verdict:
    parsed = parse_policy({"source": {"type": "exposition"}, "gates": [gate], **policy}, "shop")
    return judge_once(parsed, parsed.gates[0], look, arms)


def counts(**places: Sequence[float]) -> GateLook:
    return GateLook(counts={place: Counts(bad, total) for place, (bad, total) in places.items()})


def values(**places: float) -> GateLook:
    return GateLook(values=places)


@pytest.mark.parametrize(
    ("bad", "total", "verdict", "reason"),
    [
        (40, 1000, "fail", "limit"),
        (0, 1000, "pass", ""),
        (8, 1000, "inconclusive", "undecided"),
        (13, 1000, "inconclusive", "undecided"),
        (0, 100, "inconclusive", "low_sample"),
        (3, 3, "inconclusive", "low_sample"),
        (4, 4, "fail", "limit"),
        (0, 0, "inconclusive", "low_sample"),
    ],
)
def test_a_rate_against_a_limit(bad: float, total: float, verdict: str, reason: str) -> None:
    told = judged({**RATIO, "max": "1%"}, counts(a=(bad, total)))
    assert (told.verdict, told.reason) == (verdict, reason)
    assert told.value == (bad / total if total else None)
    assert told.limit == 0.01


def test_a_limit_of_nothing_allows_nothing() -> None:
    none = {**RATIO, "max": 0, "min_bad": 1}
    assert judged(none, counts(a=(0, 1000))).verdict == "pass"
    assert judged(none, counts(a=(1, 1000))).verdict == "fail"


@pytest.mark.parametrize(
    ("canary", "baseline", "verdict"),
    [
        ((50, 1000), (5, 1000), "fail"),
        ((5, 1000), (5, 1000), "inconclusive"),
        ((500, 100_000), (500, 100_000), "pass"),
        ((0, 10_000), (0, 10_000), "pass"),
        ((3, 100), (0, 10_000), "inconclusive"),
        ((4, 100), (0, 10_000), "fail"),
        ((60_000, 600_000), (60_000, 600_000), "pass"),
        ((0, 0), (0, 0), "inconclusive"),
    ],
)
def test_a_rate_against_the_baselines(canary: Sequence[float], baseline: Sequence[float], verdict: str) -> None:
    told = judged(RATIO, counts(a=canary, b=baseline), BOTH)
    assert told.verdict == verdict
    assert told.samples["baseline_bad"] == baseline[0]


def test_a_limit_beside_a_baseline_must_hold_too() -> None:
    same = counts(a=(3000, 100_000), b=(3000, 100_000))
    assert judged(RATIO, same, BOTH).verdict == "pass"
    told = judged({**RATIO, "max": "1%"}, same, BOTH)
    assert (told.verdict, told.reason) == ("fail", "limit")


def test_several_places_are_summed() -> None:
    told = judged({**RATIO, "max": "1%"}, counts(a=(20, 500), c=(20, 500)), Arms(("a", "c"), ()))
    assert (told.verdict, told.samples["bad"], told.samples["canary"]) == ("fail", 40, 1000)


@pytest.mark.parametrize(
    ("absent", "reason"),
    [
        ({"c": Absent("provider_error"), "d": Absent("stale")}, "provider_error"),
        ({"c": Absent("several_series")}, "query_error"),
        ({"c": Absent("query_error")}, "query_error"),
        ({"c": Absent("no_series")}, "no_data"),
        ({}, "no_data"),
    ],
)
def test_a_place_without_an_answer_lets_nothing_pass(absent: Dict[str, Absent], reason: str) -> None:
    arms = Arms(("a", "c"), ())
    good = GateLook(counts={"a": Counts(0, 1000)}, absent=absent)
    told = judged({**RATIO, "max": "1%"}, good, arms)
    assert (told.verdict, told.reason) == ("inconclusive", reason)
    bad = GateLook(counts={"a": Counts(900, 1000)}, absent=absent)
    assert judged({**RATIO, "max": "1%"}, bad, arms).verdict == "fail"


@pytest.mark.parametrize(
    ("rule", "seen", "verdict", "limit"),
    [
        ({"max": 10}, {"a": 11.0}, "fail", 10),
        ({"max": 10}, {"a": 10.0}, "pass", 10),
        ({"max": 10, "pass_max": 5}, {"a": 7.0}, "inconclusive", 10),
        ({"min": 3}, {"a": 2.0}, "fail", 3),
        ({"min": 3, "pass_min": 5}, {"a": 4.0}, "inconclusive", 3),
        ({"min": 3, "max": 10}, {"a": 2.0}, "fail", 3),
        ({"min": 3, "max": 10}, {"a": 5.0}, "pass", 10),
    ],
)
def test_a_value_against_limits(rule: Dict[str, object], seen: Dict[str, float], verdict: str, limit: float) -> None:
    told = judged({**VALUE, **rule}, values(**seen))
    assert (told.verdict, told.limit) == (verdict, limit)


def test_the_worst_value_counts_or_the_mean() -> None:
    arms, seen = Arms(("a", "c"), ("b",)), values(a=1.0, c=15.0, b=2.0)
    assert judged({**VALUE, "max": 10}, seen, arms).value == 15.0
    mean = judged({**VALUE, "max": 10, "per": "mean"}, seen, arms)
    assert (mean.verdict, mean.value, mean.baseline) == ("pass", 8.0, 2.0)
    none = judged({**VALUE, "max": 10}, GateLook(absent={"a": Absent("no_series")}))
    assert (none.verdict, none.reason, none.value) == ("inconclusive", "no_data", None)


def test_what_one_look_cannot_judge_is_refused() -> None:
    burn = {"name": "burn", "type": "burn_rate", "bad": "b", "total": "t", "slo": 0.999}
    with pytest.raises(OptionError, match="cannot be judged by one look"):
        judged(burn, counts(a=(1, 2)))
    with pytest.raises(OptionError, match="has no limit"):
        judged(RATIO, counts(a=(1, 2)))


@given(st.integers(0, 60), st.integers(0, 60), st.floats(0.01, 0.99))
def test_the_binomial_tail_is_scipys(count: int, more: int, chance: float) -> None:
    assert binomial_tail(count, count + more, chance) == pytest.approx(
        stats.binom.sf(count - 1, count + more, chance), abs=1e-9
    )


def test_the_binomial_tail_at_its_edges() -> None:
    assert binomial_tail(1, 2, 0.0) == 0.0
    assert binomial_tail(1, 2, 1.0) == 1.0
    assert binomial_tail(2.5, 2.5, 0.5) == pytest.approx(stats.binom.sf(1, 3, 0.5))
    assert binomial_tail(5_200, 20_000, 0.25) == pytest.approx(stats.binom.sf(5_199, 20_000, 0.25), rel=0.06)


def test_the_deviate_is_that_of_one_in_a_hundred() -> None:
    assert pytest.approx(stats.norm.isf(CHANCE)) == Z


@given(st.integers(0, 500), st.integers(1, 5000), st.floats(0.001, 0.5))
def test_the_limit_is_held_as_by_wilsons_interval(bad: int, more: int, limit: float) -> None:
    total = bad + more
    low, high = stats.binomtest(bad, total).proportion_ci(1 - 2 * CHANCE, method="wilson")
    fail, good = against_limit(Counts(bad, total), limit)
    if not math.isclose(low, limit, abs_tol=1e-9) and not math.isclose(high, limit, abs_tol=1e-9):
        assert (fail >= 1.0) == (low > limit)
        assert (good >= 1.0) == (high < limit)


def test_a_healthy_release_fails_at_most_once_in_a_hundred_times() -> None:
    """At the limit itself, and at the tolerated ratio, which is the worst that is still healthy."""
    random, runs = np.random.default_rng(7), 2000
    limited = [
        judged({**RATIO, "max": "1%"}, counts(a=(int(random.binomial(2000, 0.01)), 2000))).verdict for _ in range(runs)
    ]
    compared = [
        judged(
            {**RATIO, "tolerance": 2},
            counts(a=(int(random.binomial(1000, 0.02)), 1000), b=(int(random.binomial(4000, 0.01)), 4000)),
            BOTH,
        ).verdict
        for _ in range(runs)
    ]
    for verdicts in (limited, compared):
        # the score test is a little generous where few are expected
        assert verdicts.count("fail") / runs <= 0.018
