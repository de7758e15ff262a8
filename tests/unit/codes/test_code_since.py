# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A code counts for a rollback only when it is new or raised since the deploy, beyond chance, never without data."""

from __future__ import annotations

import math
from typing import List, Optional, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ansible_collections.selfheal.delivery.plugins.module_utils._codes.ask import Question
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.since import (
    Tally,
    covered,
    gained,
    judge_since,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.line import Line

HOUR = 3600.0
# errors before in an hour, errors after, seconds after, and what is said
CASES = [
    (0, 8, 300, "fail", "new"),
    (3, 40, 300, "fail", "raised"),
    (60, 60, 3600, "pass", ""),
    (60, 5, 300, "inconclusive", "undecided"),
    (600, 50, 300, "pass", ""),
    (600, 90, 300, "inconclusive", "undecided"),  # 1.8 times as often is within the ratio, and is not shown to be
    (0, 4, 300, "inconclusive", "low_sample"),  # fewer than min_count
    (0, 0, 300, "inconclusive", "low_sample"),
    (0, 0, 3600, "pass", ""),
    (0, 5, 3600, "inconclusive", "undecided"),  # 5 in an hour after none in an hour may be chance
    (7200, 0, 300, "pass", ""),  # it has stopped
]


@pytest.mark.parametrize(("before", "after", "seconds", "verdict", "reason"), CASES)
def test_what_is_said(before: int, after: int, seconds: float, verdict: str, reason: str) -> None:
    told = judge_since(Tally(before, HOUR), [Tally(after, seconds)])
    assert (told.verdict, told.reason, told.counts) == (verdict, reason, verdict == "fail")


def test_more_traffic_alone_raises_nothing() -> None:
    assert judge_since(Tally(30, 10_000), [Tally(300, 100_000)]).verdict == "pass"
    assert judge_since(Tally(30, HOUR), [Tally(300, HOUR)]).verdict == "fail", "by the clock it would"


def test_what_begins_late_is_seen_in_the_newest_part() -> None:
    before, whole, recent = Tally(100, HOUR), Tally(150, 3000), Tally(70, 300)
    assert judge_since(before, [whole]).verdict == "inconclusive"
    assert judge_since(before, [whole, recent]).reason == "raised"


NOTHING: List[Tuple[Optional[Tally], List[Tally]]] = [
    (None, [Tally(50, 300)]),
    (Tally(0, 0), [Tally(50, 300)]),
    (Tally(0, HOUR), []),
    (Tally(0, HOUR), [Tally(50, 0)]),
    (Tally(math.nan, HOUR), [Tally(50, 300)]),
    (Tally(0, HOUR), [Tally(math.inf, 300)]),
    (Tally(-1, HOUR), [Tally(50, 300)]),
    (Tally(0, HOUR), [Tally(50, 300), Tally(5, 0)]),
]


@pytest.mark.parametrize(("before", "after"), NOTHING)
def test_without_data_nothing_counts(before: Optional[Tally], after: List[Tally]) -> None:
    told = judge_since(before, after)
    assert (told.verdict, told.reason, told.counts, told.chance) == ("inconclusive", "no_data", False, None)


@given(before=st.integers(0, 200), after=st.integers(0, 200), seconds=st.floats(10, 7200))
def test_the_chance_is_that_of_the_exact_binomial_test(before: int, after: int, seconds: float) -> None:
    told = judge_since(Tally(before, HOUR), [Tally(after, seconds)])
    part = 2 * seconds / (2 * seconds + HOUR)
    expected = stats.binomtest(after, before + after, part, alternative="greater").pvalue if before + after else 1.0
    assert told.chance == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert (told.verdict == "fail") == (after >= 5 and expected <= 0.01)


def test_a_steady_code_is_seldom_blamed() -> None:
    """At every rate, with the newest part looked at, too: at most 1 % at the ratio, hardly ever at no change."""
    chance = np.random.default_rng(5)
    for rate in (2, 20, 200):
        for grown, most in ((1.0, 0.001), (2.0, 0.013)):
            fails = 0
            for before, early, late in chance.poisson([rate, rate * grown * 1.5, rate * grown / 2], (2000, 3)):
                whole = Tally(float(early + late), 2 * HOUR)
                fails += judge_since(Tally(float(before), HOUR), [whole, Tally(float(late), HOUR / 2)]).counts
            assert fails / 2000 <= most, (rate, grown)


def test_the_stretches_are_before_since_and_the_newest_part() -> None:
    asked = Question("A", "shop", "test", 10_000.0)
    assert asked.stretches(10_100.0) == [(6400.0, 10_000.0), (10_000.0, 10_100.0)]
    assert asked.stretches(11_000.0)[2] == (10_700.0, 11_000.0)
    assert asked.stretches(99_999.0)[1:] == [(10_000.0, 13_600.0), (13_300.0, 13_600.0)], (
        "later errors have other causes"
    )


def line(*points: Tuple[float, float]) -> Line:
    return Line({}, points)


def test_increments_are_counted_through_births_and_resets() -> None:
    standing = line((0, 100), (10, 100), (20, 104))
    born = line((15, 7), (20, 9))
    restarted = line((0, 50), (10, 60), (20, 5))
    assert gained([standing], 10, 20) == 4 and gained([standing], 0, 20) == 4
    assert gained([born], 10, 20) == 9, "its first errors count, too"
    assert gained([born], 16, 20) == 2
    assert gained([standing], 5, 15) == 0 and gained([standing], 15, 19.9) == 0, "it counts when it is seen"
    assert gained([restarted], 10, 20) == 5 and gained([restarted], 0, 20) == 15
    assert gained([standing, born, restarted], 10, 20) == 18
    assert gained([line((0, 5), (10, 6), (200, 90), (210, 92))], 0, 300, gap=150) == 3, "nobody knows when the 84 came"
    assert gained([], 0, 20) == 0 and gained([Line({})], 0, 20) == 0


def test_time_counts_only_where_something_was_seen() -> None:
    points = [(float(at), 1.0) for at in range(10, 60, 10)]
    assert covered(points, 10, 0, 50) == 50 and covered(points, 10, 30, 100) == 20
    assert covered((), 10, 0, 50) == 0 and covered(points, 30, 0, 20) == 20
