# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is an error code new, or raised, since a deploy? Only then may a release be blamed for it. Pure.

Given all errors before and after, those after are binomial with p = r·e_after / (r·e_after + e_before) where the rate
has become r times what it was (e: exposure, in requests or in seconds). The one-sided conditional test of
r ≤ `ratio` (Przyborowski and Wilenski 1940) is exact at any count, also at none before. Errors of a leak begin late, so
the newest stretch is tested beside the whole time since the deploy, each at half the level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Optional, Sequence

from .._judge.model import FAIL, INCONCLUSIVE, PASS, finite
from .._judge.once import binomial_tail
from .._sense.line import Line, Point

CHANCE = 0.01  # of a wrong fail where the rate is at most `ratio` times as high, and of a wrong pass where it is more

NEW, RAISED = "new", "raised"


@dataclass(frozen=True)
class Tally:
    """How many errors in how many requests, or in how many seconds that were watched."""

    count: float
    exposure: float

    @property
    def rate(self) -> Optional[float]:
        return self.count / self.exposure if self.exposure > 0 else None

    def as_dict(self) -> Dict[str, Optional[float]]:
        return {"count": finite(self.count), "exposure": finite(self.exposure), "rate": finite(self.rate)}


@dataclass(frozen=True)
class Since:
    """`verdict` is fail for a code that is `new` or `raised`, pass for one that is shown not to be.

    `chance` is the p-value of what spoke loudest for a fail, None where nothing could be compared.
    """

    verdict: str
    reason: str
    chance: Optional[float] = None

    @property
    def counts(self) -> bool:
        """May it count against the release? Without data it does not: nobody is rolled back on a guess."""
        return self.verdict == FAIL


def judge_since(
    before: Optional[Tally], after: Sequence[Tally], *, ratio: float = 2.0, min_count: int = 5, chance: float = CHANCE
) -> Since:
    """Hold each stretch after the deploy, the whole time first, against the time before; None where nobody knows it.

    Counts that are no numbers, or negative, are no data.
    """
    tallies = [tally for tally in (before, *after) if tally is not None and _is_sound(tally)]
    if before is None or len(tallies) < 1 + len(after) or not after:
        return Since(INCONCLUSIVE, "no_data")
    chances = [_chance(before, stretch, ratio) for stretch in after]
    loud = [p for stretch, p in zip(after, chances) if stretch.count >= min_count and p <= chance / len(after)]
    if loud:
        return Since(FAIL, RAISED if before.count > 0 else NEW, min(loud))
    quiet = binomial_tail(before.count, before.count + after[0].count, 1.0 - _part(before, after[0], ratio))
    # where there was none before, nothing can be shown by a ratio: as long without one is as good
    if quiet <= chance or (before.count + after[0].count == 0 and after[0].exposure >= before.exposure):
        return Since(PASS, "", min(chances))
    few = after[0].count < min_count
    return Since(INCONCLUSIVE, "low_sample" if few else "undecided", min(chances))


def _is_sound(tally: Tally) -> bool:
    return 0.0 <= tally.count < math.inf and 0.0 < tally.exposure < math.inf


def _part(before: Tally, after: Tally, ratio: float) -> float:
    """Which part of all errors comes after the deploy when the rate has become `ratio` times what it was."""
    weighted = ratio * after.exposure
    return weighted / (weighted + before.exposure)


def _chance(before: Tally, after: Tally, ratio: float) -> float:
    """P(as many errors after the deploy, or more) where the rate is `ratio` times what it was."""
    return binomial_tail(after.count, before.count + after.count, _part(before, after, ratio))


def gained(lines: Sequence[Line], begin: float, end: float, *, gap: float = math.inf) -> float:
    """What counters gained after `begin` and until `end`: after a reset they start at 0, and so does a new series.

    An error counts at the scrape that saw it, whole: cut between two scrapes, it would lie on both sides of a deploy.
    What came while nobody scraped for over `gap` seconds is left out, for nobody knows on which side it belongs.
    """
    return sum(_climbed(line.points, begin, end, gap) for line in lines)


def _climbed(points: Sequence[Point], begin: float, end: float, gap: float) -> float:
    climbed, before = 0.0, 0.0
    last = math.inf
    for at, value in points:
        if begin < at <= end and at - last <= gap:
            climbed += value - before if value >= before else value
        last, before = at, value
    return climbed


def covered(points: Sequence[Point], step: float, begin: float, end: float) -> float:
    """For how many seconds of the stretch there was anything at all, by points that stand `step` seconds apart."""
    seen = sum(1 for at, _value in points if begin < at <= end)
    return min(seen * step, max(0.0, end - begin))
