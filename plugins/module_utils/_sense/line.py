# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A series over time, as a metrics server keeps it, and what several of them say together. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import List, Mapping, Optional, Sequence, Tuple

Point = Tuple[float, float]  # epoch seconds, value

# scrapes that may be missed before a series counts as stale
MISSED_SCRAPES = 4.0
_SHORTEST = 10.0


@dataclass(frozen=True)
class Line:
    """Labels and points, oldest first; at least one point, or histograms `(at, sample)` as the API writes them."""

    labels: Mapping[str, str]
    points: Sequence[Point] = ()
    histograms: Sequence[Tuple[float, Mapping[str, object]]] = field(default=(), repr=False)

    @property
    def newest(self) -> float:
        return self.points[-1][0]

    @property
    def value(self) -> float:
        return self.points[-1][1]

    def at(self, instant: float) -> float:
        """The value at `instant`, on the line between the points around it; 0 before a counter's first point."""
        before = self.points[0]
        if instant < before[0]:
            return 0.0
        for after in self.points[1:]:
            if after[0] >= instant:
                share = (instant - before[0]) / (after[0] - before[0])
                return before[1] + share * (after[1] - before[1])
            before = after
        return before[1]

    def reset_between(self, begin: float, end: float) -> bool:
        within = [value for at, value in self.points if begin <= at <= end]
        return any(after < before for before, after in zip(within, within[1:]))


def patience(lines: Sequence[Line], window: float) -> float:
    """How old a newest sample may be, in seconds: a few of the scrape intervals that the lines show."""
    gaps = [after[0] - before[0] for line in lines for before, after in zip(line.points, line.points[1:])]
    return min(window, max(_SHORTEST, MISSED_SCRAPES * median(gaps))) if gaps else window


def living(lines: Sequence[Line], now: float, window: float) -> List[Line]:
    """The lines that still get samples; a line that ended (an instance that is gone) is none of them."""
    limit = patience(lines, window)
    return [line for line in lines if line.newest >= now - limit]


def total_at(lines: Sequence[Line], instant: float) -> float:
    return sum(line.at(instant) for line in lines)


def cut_of(lines: Sequence[Line]) -> float:
    """The newest instant that all lines have."""
    return min(line.newest for line in lines)


def increase(lines: Sequence[Line], begin: float, end: float) -> Optional[float]:
    """What the counters gained from `begin` to `end`; None when one of them was reset on the way."""
    if any(line.reset_between(begin, end) for line in lines):
        return None
    return total_at(lines, end) - total_at(lines, begin)
