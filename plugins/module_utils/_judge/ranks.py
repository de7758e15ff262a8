# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ranks gate: is the canary's number shifted against the baseline's, whatever its distribution?

Mann–Whitney's test inverted to an interval for the shift (Hodges–Lehmann), with mid-ranks, tie correction and
continuity correction, as in R's asymptotic `wilcox.test`. A shift counts when the whole interval lies beyond
`tolerance` × the baseline's median, and beyond where one more of the baseline's own places might lie (Student's
prediction interval over the places' medians): a place that has always been slower is not a regression. It passes when
the whole interval lies within the tolerance. The test is not anytime-valid, so it looks only when the smaller side has
doubled, and each look gets its part of 1 − confidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist, median, stdev
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from . import stored
from .model import FAIL, INCONCLUSIVE, PASS, Arms, GateLook, Verdict
from .spec import RanksRule
from .value import absence

_BISECTIONS = 60


@dataclass(frozen=True)
class Shift:
    """How much higher the canary lies than the baseline, in the metric's unit: an interval and its middle."""

    low: float
    estimate: float
    high: float


def deviate(
    canary: Sequence[float], baseline: Sequence[float], shift: float = 0.0, *, continuity: bool = True
) -> float:
    """The standard normal deviate of the rank sum of `canary − shift` among both; 0 where all values are equal."""
    m, n = len(canary), len(baseline)
    pooled = sorted([(value - shift, 0) for value in canary] + [(value, 1) for value in baseline])
    rank_sum, ties, index = 0.0, 0.0, 0
    while index < m + n:
        end = index
        while end < m + n and pooled[end][0] == pooled[index][0]:
            end += 1
        size = end - index
        own = sum(side == 0 for _value, side in pooled[index:end])
        rank_sum += own * (index + end + 1) / 2
        ties += size**3 - size
        index = end
    distance = rank_sum - m * (m + 1) / 2 - m * n / 2
    variance = m * n / 12 * ((m + n + 1) - ties / ((m + n) * (m + n - 1)))
    if variance <= 0:
        return 0.0
    correction = math.copysign(0.5, distance) if continuity and distance else 0.0
    return (distance - correction) / math.sqrt(variance)


def hodges_lehmann(canary: Sequence[float], baseline: Sequence[float], confidence: float) -> Shift:
    """The shift of `canary` against `baseline` with its two-sided interval at `confidence`. Both sides non-empty."""
    z = NormalDist().inv_cdf(1 - (1 - confidence) / 2)
    return Shift(
        low=_root(canary, baseline, z, continuity=True),
        estimate=_root(canary, baseline, 0.0, continuity=False),
        high=_root(canary, baseline, -z, continuity=True),
    )


def _root(canary: Sequence[float], baseline: Sequence[float], level: float, *, continuity: bool) -> float:
    """The shift at which the deviate, which falls as the shift grows, crosses `level`."""
    low, high = min(canary) - max(baseline), max(canary) - min(baseline)
    if deviate(canary, baseline, low, continuity=continuity) <= level:
        return low
    if deviate(canary, baseline, high, continuity=continuity) >= level:
        return high
    for _turn in range(_BISECTIONS):
        middle = (low + high) / 2
        if deviate(canary, baseline, middle, continuity=continuity) > level:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def student(level: float, freedom: int) -> float:
    """The quantile of Student's t: exact for 1 and 2 degrees of freedom, else the Cornish–Fisher expansion.

    Abramowitz and Stegun, 26.7.5; within 4 % up to the level 0.995.
    """
    if freedom == 1:
        return math.tan(math.pi * (level - 0.5))
    if freedom == 2:
        return (2 * level - 1) / math.sqrt(2 * level * (1 - level))
    z = NormalDist().inv_cdf(level)
    terms: Tuple[float, ...] = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


class RanksGate:
    """A `Gate` over one number per place: the mean of each window of each place is one sample."""

    def __init__(self, name: str, rule: RanksRule, *, deadline: float) -> None:
        self._name = name
        self._rule = rule
        looks = 1 + max(0, int(math.log2(max(1.0, deadline / rule.window / rule.min_samples))))
        self.confidence = 1 - (1 - rule.confidence) / looks
        self._window: Optional[int] = None
        self._open: Dict[str, List[float]] = {}  # place -> [sum, number of values, 1 on the canary's side]
        self._canary: List[float] = []
        self._baseline: Dict[str, List[float]] = {}
        self._next = rule.min_samples
        self._shift: Optional[Shift] = None
        self._verdict = INCONCLUSIVE

    @property
    def name(self) -> str:
        return self._name

    def observe(self, look: GateLook, arms: Arms, elapsed: float) -> Verdict:
        window = int(elapsed // self._rule.window)
        if self._window is not None and window != self._window:
            self._close()
        self._window = window
        sides = [(place, 1.0) for place in arms.canary] + [(place, 0.0) for place in arms.baseline]
        for place, side in sides:
            if place in look.values:
                kept = self._open.get(place, [0.0, 0.0, side])
                same = kept[2] == side  # a place that changed sides inside a window starts it anew
                self._open[place] = [kept[0] * same + look.values[place], kept[1] * same + 1, side]
        missing = "" if any(place in look.values for place in arms.canary) else absence(look, arms.canary)
        return self._told(missing)

    def _close(self) -> None:
        for place, (total, number, side) in self._open.items():
            if side:
                self._canary.append(total / number)
            else:
                self._baseline.setdefault(place, []).append(total / number)
        self._open = {}
        smaller = min(len(self._canary), sum(map(len, self._baseline.values())))
        if smaller >= self._next and self._verdict != FAIL:
            self._next = 2 * smaller
            self._test()

    def _test(self) -> None:
        pooled = [value for values in self._baseline.values() for value in values]
        self._shift = hodges_lehmann(self._canary, pooled, self.confidence)
        room, bound = self._room(), self.bound()
        up, down = self._rule.direction != "decrease", self._rule.direction != "increase"
        if (up and self._shift.low > bound) or (down and self._shift.high < -bound):
            self._verdict = FAIL
        elif (not up or self._shift.high <= room) and (not down or self._shift.low >= -room):
            self._verdict = PASS
        else:
            self._verdict = INCONCLUSIVE

    def _room(self) -> float:
        """The shift that is tolerated, and that a pass has to stay under."""
        return self._rule.tolerance * abs(median(value for values in self._baseline.values() for value in values))

    def bound(self) -> float:
        """The shift that fails: beyond what is tolerated and what one more of the baseline's places might have."""
        medians = [median(values) for values in self._baseline.values()]
        if len(medians) < 2:
            return self._room()
        reach = student(1 - (1 - self._rule.confidence) / 2, len(medians) - 1) * math.sqrt(1 + 1 / len(medians))
        return max(self._room(), reach * stdev(medians))

    def _told(self, missing: str) -> Verdict:
        pooled = [value for values in self._baseline.values() for value in values]
        value = median(self._canary) if self._canary else None
        baseline = median(pooled) if pooled else None
        enough = min(len(self._canary), len(pooled)) / self._rule.min_samples
        verdict, reason = self._verdict, ""
        if verdict == FAIL:
            reason = "shifted"
        elif missing:
            verdict, reason = INCONCLUSIVE, missing
        elif verdict == INCONCLUSIVE:
            reason = "low_sample" if enough < 1 else "undecided"
        limit = None
        if baseline is not None:
            limit = baseline - self.bound() if self._rule.direction == "decrease" else baseline + self.bound()
        evidence: Dict[str, object] = {"fail": float(self._verdict == FAIL), "pass": float(self._verdict == PASS)}
        if self._shift is not None:
            evidence.update(low=self._shift.low, shift=self._shift.estimate, high=self._shift.high)
        samples = {"canary": float(len(self._canary)), "baseline": float(len(pooled))}
        return Verdict(verdict, self._name, reason, value, limit, baseline, samples, evidence)

    def state(self) -> Dict[str, object]:
        shift = self._shift
        return {
            "window": self._window,
            "open": {place: list(kept) for place, kept in self._open.items()},
            "canary": list(self._canary),
            "baseline": {place: list(values) for place, values in self._baseline.items()},
            "next": self._next,
            "shift": [shift.low, shift.estimate, shift.high] if shift else [],
            "verdict": self._verdict,
        }

    def restore(self, state: Mapping[str, object]) -> None:
        window, shift = stored.maybe(state.get("window")), stored.numbers(state.get("shift"))
        self._window = None if window is None else int(window)
        self._open = {place: stored.numbers(kept) for place, kept in stored.table(state.get("open")).items()}
        self._canary = stored.numbers(state.get("canary"))
        self._baseline = {place: stored.numbers(row) for place, row in stored.table(state.get("baseline")).items()}
        self._next = int(stored.number(state.get("next"), float(self._rule.min_samples)))
        self._shift = Shift(shift[0], shift[1], shift[2]) if len(shift) == 3 else None
        self._verdict = str(state.get("verdict") or INCONCLUSIVE)
