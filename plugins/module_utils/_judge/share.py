# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in share check: does the canary get the requests it is meant to get?

A canary that is out of the load balancer looks healthy, so less than half of the intended share, beyond chance
(sample ratio mismatch: χ² with one degree of freedom, p = erfc(√(χ²/2)) < 0.001), is `share_mismatch`. Counts are
forgotten with a half-life, so that a canary that joins late is judged by what it gets now. Forgetting only shrinks χ².
"""

from __future__ import annotations

import math
from typing import Dict, Mapping, Optional

from . import stored
from .model import INCONCLUSIVE, PASS, Arms, GateLook, Verdict

NAME = "share"
HALF_LIFE = 60.0  # seconds
LEAST_SHARE = 0.5  # of the intended share
SURE = 0.001


def mismatch(canary: float, total: float, intended: float) -> float:
    """p-value that `canary` of `total` requests is no farther from the intended share (0..1) than chance has it."""
    expected = total * intended
    variance = total * intended * (1 - intended)
    return math.erfc(abs(canary - expected) / math.sqrt(2 * variance)) if variance > 0 else 1.0


class ShareGate:
    """Fed with the counts of one gate. `intended` is the canary's share where it is not by number of places."""

    name = NAME

    def __init__(self, intended: Optional[float] = None) -> None:
        self.intended = intended
        self._canary = 0.0
        self._total = 0.0
        self._expected = 0.0
        self._last: Optional[float] = None

    def observe(self, look: GateLook, arms: Arms, elapsed: float) -> Verdict:
        if self._last is not None:
            kept = 0.5 ** ((elapsed - self._last) / HALF_LIFE)
            self._canary, self._total, self._expected = self._canary * kept, self._total * kept, self._expected * kept
        self._last = elapsed
        canary = sum(look.counts[place].total for place in arms.canary if place in look.counts)
        baseline = sum(look.counts[place].total for place in arms.baseline if place in look.counts)
        places = len(arms.canary) + len(arms.baseline)
        if arms.canary and arms.baseline:
            share = self.intended if self.intended is not None else len(arms.canary) / places
            self._canary += canary
            self._total += canary + baseline
            self._expected += (canary + baseline) * share
        return self._judge(compared=bool(arms.canary and arms.baseline))

    def _judge(self, *, compared: bool) -> Verdict:
        if not compared:
            return Verdict(PASS, NAME, evidence={"compared": False})
        samples = {"canary": self._canary, "total": self._total}
        if self._total <= 0 or self._expected <= 0:
            return Verdict(INCONCLUSIVE, NAME, "no_data", samples=samples)
        share, intended = self._canary / self._total, self._expected / self._total
        chance = mismatch(self._canary, self._total, intended)
        starved = share < LEAST_SHARE * intended and chance < SURE
        return Verdict(
            INCONCLUSIVE if starved else PASS,
            NAME,
            "share_mismatch" if starved else "",
            value=share,
            limit=LEAST_SHARE * intended,
            baseline=intended,
            samples=samples,
            evidence={"p": chance},
        )

    def state(self) -> Dict[str, object]:
        return {"sums": [self._canary, self._total, self._expected], "last": self._last, "intended": self.intended}

    def restore(self, state: Mapping[str, object]) -> None:
        self._canary, self._total, self._expected = (stored.numbers(state.get("sums")) + [0.0] * 3)[:3]
        self._last = stored.maybe(state.get("last"))
        self.intended = stored.maybe(state.get("intended"))
