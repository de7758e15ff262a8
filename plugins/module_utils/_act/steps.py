# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a release walks through a service's places. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple, Union

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

    def as_dict(self) -> Dict[str, object]:
        return {
            "index": self.index,
            "of": self.of,
            "places": list(self.places),
            "canary": list(self.canary),
            "baseline": list(self.baseline),
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
