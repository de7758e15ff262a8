# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in gate of every bake: is the new release there at all?

A canary place that is down at two looks in a row, or whose process has restarted twice since it runs the new release,
fails, as long as a baseline place answers. When nothing answers at all, nobody can tell a bad release from a broken
network: inconclusive. Only where no old place is left to ask does silence everywhere fail, after LONELY_LOOKS.
"""

from __future__ import annotations

from typing import Dict, Mapping

from . import stored
from .model import FAIL, INCONCLUSIVE, PASS, Liveness, Look, Verdict

NAME = "alive"
DOWN_LOOKS = 2
LONELY_LOOKS = 5
RESTARTS = 2


class AliveGate:
    """Fed with whole looks, because it watches places that are still warming up as well."""

    name = NAME

    def __init__(self) -> None:
        self._down: Dict[str, float] = {}  # place -> looks in a row without an answer
        self._first: Dict[str, float] = {}  # place -> restarts when it was first seen on the new release

    def observe(self, look: Look) -> Verdict:
        """Where the gate stands after this look; places the look says nothing of keep what was known."""
        places = tuple(dict.fromkeys(look.arms.canary + look.warming))
        seen = {place: look.alive[place] for place in places if place in look.alive}
        for place, life in seen.items():
            self._down[place] = 0 if life.up else self._down.get(place, 0) + 1
            if life.up:
                self._first[place] = min(life.restarts, self._first.get(place, life.restarts))
        witness = any(look.alive[place].up for place in look.arms.baseline if place in look.alive)
        return self._judge(seen, len(places), witness=witness, lonely=not look.arms.baseline)

    def _judge(self, seen: Mapping[str, Liveness], places: int, *, witness: bool, lonely: bool) -> Verdict:
        down = sorted(place for place, life in seen.items() if not life.up)
        restarted = {place: life.restarts - self._first.get(place, life.restarts) for place, life in seen.items()}
        looping = sorted(place for place, times in restarted.items() if times >= RESTARTS)
        samples = {"canary": float(places), "answered": float(len(seen) - len(down))}
        told = {"down": down, "restarted": looping}
        if looping and (witness or len(down) < len(seen)):
            return Verdict(
                FAIL, NAME, "restarted", float(len(looping)), RESTARTS, samples=samples, evidence=_sure(told)
            )
        if len(seen) < places or not places:
            return Verdict(INCONCLUSIVE, NAME, "no_data", samples=samples, evidence=told)
        if not down:
            return Verdict(PASS, NAME, value=0.0, samples=samples, evidence={**told, "fail": 0.0, "pass": 1.0})
        longest = max(self._down[place] for place in down)
        needed = DOWN_LOOKS if witness or len(down) < len(seen) else LONELY_LOOKS
        if witness or lonely or len(down) < len(seen):
            if longest >= needed:
                return Verdict(FAIL, NAME, "down", float(len(down)), 0.0, samples=samples, evidence=_sure(told))
            share = {"fail": longest / needed, "pass": 0.0}
            return Verdict(
                INCONCLUSIVE, NAME, "undecided", float(len(down)), samples=samples, evidence={**told, **share}
            )
        return Verdict(INCONCLUSIVE, NAME, "provider_error", float(len(down)), samples=samples, evidence=told)

    def state(self) -> Dict[str, object]:
        return {"down": dict(self._down), "first": dict(self._first)}

    def restore(self, state: Mapping[str, object]) -> None:
        self._down = stored.counted(state.get("down"))
        self._first = stored.counted(state.get("first"))


def _sure(told: Mapping[str, object]) -> Dict[str, object]:
    return {**told, "fail": 1.0, "pass": 0.0}
