# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is a service bad now, by its own gates? Asked before somebody acts on what a trigger says of it. Pure.

Nothing is compared: each gate is held against its limit and against what it showed when a bake last passed, on all
places together. What a source remembers answers at once; where it remembers nothing, looks do. Nobody who can be asked
is never an answer: a source that is away, or places that are silent altogether, leave it open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from .model import FAIL, INCONCLUSIVE, PASS, Absent, Counts, GateLook, Look, finite
from .recovery import CHANCE, Recovery, Standing, Tally, standing
from .spec import BurnRule, Policy, RatioRule

SLOTS = 8  # parts of the window, of which the newest that can tell decide
AGAIN = 2  # looks in a row that say the same, before it is believed ahead of time

Slots = Mapping[str, Sequence[Mapping[str, Counts]]]


@dataclass(frozen=True)
class Confirmation:
    """`confirmed` is True when it is bad, False when it is not, None when nobody can tell; `reason` says by what."""

    confirmed: Optional[bool]
    reason: str
    gates: Tuple[Standing, ...] = ()
    down: Tuple[str, ...] = ()
    elapsed: float = 0.0

    @property
    def level(self) -> Optional[float]:
        """The worst of what was measured, as a multiple of its limit."""
        over = [gate.value / gate.limit for gate in self.gates if gate.value is not None and gate.limit]
        return max(over, default=None)

    @property
    def told(self) -> str:
        """The answer in a few words."""
        if self.confirmed is None:
            return f"it cannot be told ({self.reason})"
        return f"bad: {self.reason}" if self.confirmed else "its gates are good"

    def as_dict(self) -> Dict[str, object]:
        return {
            "confirmed": self.confirmed,
            "verdict": INCONCLUSIVE if self.confirmed is None else FAIL if self.confirmed else PASS,
            "reason": self.reason,
            "level": finite(self.level),
            "gates": [gate.as_dict() for gate in self.gates],
            "down": list(self.down),
            "elapsed": self.elapsed,
        }


class Confirm:
    """Asks until it is known. `levels` are what the gates showed when a bake last passed, by gate."""

    def __init__(self, policy: Policy, places: Sequence[str], *, levels: Mapping[str, float]) -> None:
        self._policy, self._places, self._levels = policy, tuple(places), levels
        self._recovery = Recovery(policy, places, levels=levels, started=0.0)
        self._past: Dict[str, Standing] = {}
        self._bad: Set[str] = set()
        self._away = 0

    def past(self, slots: Slots) -> Optional[Confirmation]:
        """What the sources remember, oldest slot first. An answer when a gate is bad, None when it takes a look."""
        for gate in self._policy.gates:
            if isinstance(gate.rule, (RatioRule, BurnRule)):
                self._past[gate.name] = self._newest(gate.name, slots.get(gate.name) or ())
        gates = tuple(self._past.values())
        bad = [gate.gate for gate in gates if gate.good is False]
        return Confirmation(True, bad[0], gates) if bad else None

    def look(self, look: Look, source_down: Optional[Absent] = None) -> Optional[Confirmation]:
        """Take in one look of now; None while it is not known yet."""
        report = self._recovery.look(look, source_down)
        self._away = self._away + 1 if source_down is not None else 0
        bad = {gate.gate for gate in report.gates if gate.good is False}
        again, self._bad = bad & self._bad, bad
        over = report.elapsed >= report.total or self._away >= AGAIN
        gates = tuple(self._better(gate) for gate in report.gates)
        alive = all(look.alive[place].up for place in self._places if place in look.alive)
        remembered = bool(self._past) and all(gate.good for gate in self._past.values())
        settled = remembered and source_down is None and alive and all(gate.good for gate in gates)
        if not (over or again or settled):
            return None
        confirmed, reason = self._concluded(report.gates if over or again else gates, report.down, source_down)
        return Confirmation(confirmed, reason, gates if settled else report.gates, report.down, report.elapsed)

    def _newest(self, name: str, slots: Sequence[Mapping[str, Counts]]) -> Standing:
        """By the newest slots that together can tell: after a fix the older ones are still bad."""
        gate = next(one for one in self._policy.gates if one.name == name)
        tally, told = Tally(0.0), Standing(name, None, reason="no_data")
        for counts in reversed(slots):
            tally.add(name, GateLook(counts=counts), self._places, (), latest=False)
            told = standing(self._policy, gate, tally, level=self._levels.get(name), chance=CHANCE)
            if told.good is not None:
                break
        return told

    def _better(self, live: Standing) -> Standing:
        """What was looked at, or what is remembered where the look does not tell yet."""
        past = self._past.get(live.gate)
        return past if live.good is None and past is not None and past.good is not None else live

    def _concluded(
        self, gates: Sequence[Standing], down: Sequence[str], source_down: Optional[Absent]
    ) -> Tuple[Optional[bool], str]:
        if source_down is not None:
            return None, source_down.reason
        bad = [gate.gate for gate in gates if gate.good is False]
        if bad:
            return True, bad[0]
        if len(down) == len(self._places):
            return None, "no place answers"  # it may as well be the way there
        if 2 * len(down) > len(self._places):
            return True, f"down: {', '.join(down)}"
        unknown: List[Standing] = [gate for gate in gates if gate.good is None]
        return (None, f"{unknown[0].gate}: {unknown[0].reason}") if unknown else (False, "")
