# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Flipt flag serves, as its rules say, and what they have to be for a wish. Both versions have the same. Pure.

After the published contract: Flipt docs, "Flags, Variants and Rollouts". A boolean flag has no off: its rollouts are
tried in turn, and `enabled` is merely what is served where none of them holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import List, Mapping, Optional, Tuple

from .._errors import OptionError
from .model import OFF, Where, Wish
from .vendors import mapping, mappings, number

BOOLEAN = "BOOLEAN_FLAG_TYPE"


@dataclass(frozen=True)
class Threshold:
    """A share of a boolean flag's clients. `place` is its place among the flag's rollouts, -1 for a new one."""

    place: int
    percentage: float
    value: bool


@dataclass(frozen=True)
class Rules:
    """What a flag serves. `segments` counts the rollouts that serve true to a segment's members."""

    boolean: bool
    enabled: bool
    thresholds: Tuple[Threshold, ...] = ()
    segments: int = 0
    other_segments: int = 0

    @property
    def on(self) -> bool:
        return self.enabled or any(one.value and one.percentage > 0 for one in self.thresholds)

    @property
    def percentage(self) -> Optional[float]:
        """How many of 100 are served true; None where segments have a say. Thresholds cut one and the same order."""
        if not self.boolean or self.segments or self.other_segments:
            return None
        reached = share = 0.0
        for one in self.thresholds:
            if one.percentage > reached:
                share += one.percentage - reached if one.value else 0
                reached = one.percentage
        return share + (100 - reached if self.enabled else 0)


def read(flag: Mapping[str, object], rollouts: object) -> Rules:
    """The rules of a flag as Flipt's APIs give it; what is false or 0 may be left out there."""
    thresholds: List[Threshold] = []
    segments = [0, 0]
    for place, one in enumerate(mappings(rollouts)):
        share = mapping(one.get("threshold"))
        if share:
            percentage = number(share.get("percentage")) or 0.0
            thresholds.append(Threshold(place, percentage, share.get("value") is True))
        else:
            segments[0 if mapping(one.get("segment")).get("value") is True else 1] += 1
    boolean = flag.get("type") == BOOLEAN
    return Rules(boolean, flag.get("enabled") is True, tuple(thresholds), segments[0], segments[1])


def for_wish(where: Where, wish: Wish, now: Rules) -> Rules:
    """What `now` has to become; OptionError for a wish that Flipt cannot have."""
    if wish.variation:
        raise OptionError(f"{where}: Flipt chooses variants by rules, not by name", mend="Change its rules in Flipt")
    if not now.boolean:
        if wish.percentage is not None:
            raise OptionError(f"{where} is no boolean flag, and only these have percentages")
        return replace(now, enabled=wish.state != OFF)
    if wish.serve is not (wish.state != OFF):
        raise OptionError(f"{where} is a boolean flag: on serves true, off serves false", mend="Set serve so")
    if wish.state == OFF:
        none = tuple(replace(one, percentage=0.0) if one.value else one for one in now.thresholds)
        return replace(now, enabled=False, thresholds=none)
    if wish.percentage is None:
        return replace(now, enabled=True)
    if len(now.thresholds) > 1:
        raise OptionError(f"{where} has several thresholds, of which none is the percentage", mend="Leave it one")
    place = now.thresholds[0].place if now.thresholds else -1
    return replace(now, enabled=False, thresholds=(Threshold(place, float(wish.percentage), True),))
