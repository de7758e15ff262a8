# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a release walks through a service's places. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Sequence, Tuple, Union

from .._errors import OptionError

Size = Union[int, str]


@dataclass(frozen=True)
class Step:
    """One step: the places that get the release now, and who is on which side while its bake runs."""

    index: int  # from 1
    of: int
    places: Tuple[str, ...]
    canary: Tuple[str, ...]
    baseline: Tuple[str, ...]
    # percent of the traffic inside a place, by place; what is not named gets the release whole
    shares: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, object]:
        return {
            "index": self.index,
            "of": self.of,
            "places": list(self.places),
            "canary": list(self.canary),
            "baseline": list(self.baseline),
            "shares": dict(self.shares),
        }


@dataclass(frozen=True)
class Walk:
    """All steps, and the places held back on the old release until the last bake has passed."""

    steps: Tuple[Step, ...]
    holdback: Tuple[str, ...]


def walk(sizes: Sequence[Size], places: Sequence[str], *, holdback: int = 1, ahead: int = 0) -> Walk:
    """Cut `places` into steps of growing size.

    `sizes` are cumulative: numbers of places or shares such as `"25%"`, which round up. Equal steps merge, and a last
    step short of all places is followed by one of all. `holdback` places stay on the old release while the last step
    bakes, as long as at least one place is left to bake on. The first `ahead` places run the release already: no step
    is smaller than that, and none of them is held back. Raises `OptionError` for no places, no sizes, sizes that are
    not numbers, that shrink, or that exceed the places.
    """
    if not places:
        raise OptionError("there is no place to release to", mend="Put hosts into the service's inventory group")
    if not sizes:
        raise OptionError("the canary steps are empty", mend='Give at least one, for example [1, "25%", "100%"]')
    counts = [_count(size, len(places)) for size in sizes]
    for earlier, later, size in zip(counts, counts[1:], sizes[1:]):
        if later < earlier:
            raise OptionError(
                f"canary step {size!r} is smaller than the one before it ({later} after {earlier} places)",
                mend="Steps only grow: order them from small to large",
            )
    merged = sorted({max(count, ahead) for count in counts} | {len(places)})
    return _cut(merged, tuple(places), max(0, min(holdback, len(places) - max(1, ahead))))


def with_traffic(way: Walk, shares: Sequence[Size]) -> Walk:
    """Walk the share inside each step's places too: `[10, 50]` is 10 %, then 50 % of the traffic in each of them.

    The places of the steps before get the release whole when the next step begins. What is left of the last share is
    for the promotion, so that old pods are there to compare with until the last bake has passed; with 100 as the last
    share they are not. Raises `OptionError` for shares that are no percentages, or that do not grow.
    """
    percents = [_percent(share) for share in shares]
    for earlier, later in zip(percents, percents[1:]):
        if later <= earlier:
            raise OptionError(f"traffic step {later:g} does not follow {earlier:g}", mend="Traffic steps only grow")
    steps: List[Step] = []
    for step in way.steps if percents else ():
        for nth, percent in enumerate(percents):
            whole = [place for place in step.canary if place not in step.places] if nth == 0 else []
            given = {**dict.fromkeys(whole, 100.0), **dict.fromkeys(step.places, percent)}
            steps.append(replace(step, places=tuple(given), shares=given))
    if not percents:
        return way
    return Walk(tuple(replace(step, index=nth, of=len(steps)) for nth, step in enumerate(steps, start=1)), way.holdback)


def _percent(share: Size) -> float:
    text = str(share).strip()
    try:
        percent = float(text[:-1] if text.endswith("%") else text)
    except ValueError:
        raise OptionError(f"traffic step {share!r} is no percentage", mend='Write 10 or "10%"') from None
    if isinstance(share, bool) or not 0 < percent <= 100:
        raise OptionError(f"traffic step {share!r} is not above 0 and at most 100", mend='Write 10 or "10%"')
    return percent


def _count(size: Size, places: int) -> int:
    text = str(size).strip()
    share = text.endswith("%")
    try:
        number = float(text[:-1]) if share else int(text)
    except ValueError:
        raise OptionError(
            f"canary step {size!r} is neither a number of places nor a share",
            mend='Write 1 or "25%"',
        ) from None
    if isinstance(size, bool) or not math.isfinite(number) or number <= 0:
        raise OptionError(f"canary step {size!r} is not above zero", mend='Write 1 or "25%"')
    # rounding first keeps 7 % of 100 at 7, which floating point makes 7.000000000000001
    count = math.ceil(round(number * places / 100, 9)) if share else int(number)
    if count > places:
        raise OptionError(
            f"canary step {size!r} exceeds the {places} places of the service", mend="Make it smaller, or use a share"
        )
    return count


def _cut(counts: Sequence[int], places: Tuple[str, ...], holdback: int) -> Walk:
    last = len(places) - holdback
    ends = sorted({min(count, last) for count in counts})
    steps: List[Step] = []
    for index, (start, end) in enumerate(zip([0, *ends], ends), start=1):
        steps.append(Step(index, len(ends), places[start:end], places[:end], places[end:]))
    return Walk(tuple(steps), places[last:])
