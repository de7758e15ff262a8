# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The value gate: a number held against limits, with a grey zone, and counted so that one blip decides nothing.

Over `max` (under `min`) is bad; up to `pass_max` (from `pass_min`) is good; between is neither. It fails at
`fail_count` bad values among the last `fail_of`, or at `consecutive` in a row, and passes when the last `fail_of`
values were all good.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Tuple

from . import stored
from .model import FAIL, INCONCLUSIVE, PASS, Arms, GateLook, Verdict
from .spec import ValueRule

BAD, GREY, GOOD = -1.0, 0.0, 1.0


class ValueGate:
    """A `Gate` over one number per place. A look without a number for some canary place can only count as bad."""

    def __init__(self, name: str, rule: ValueRule) -> None:
        self._name = name
        self._rule = rule
        self._marks: List[float] = []
        self._last: Optional[float] = None
        self._failed = ""

    @property
    def name(self) -> str:
        return self._name

    def observe(self, look: GateLook, arms: Arms, elapsed: float) -> Verdict:
        values = [look.values[place] for place in arms.canary if place in look.values]
        baseline = [look.values[place] for place in arms.baseline if place in look.values]
        value = self._figure(values)
        missing = absence(look, arms.canary) if len(values) < len(arms.canary) or not values else ""
        mark = self._mark(value)
        due = self._last is None or elapsed >= self._last + self._rule.every - 1e-9
        if value is not None and due and (mark == BAD or not missing):
            self._last = elapsed
            self._marks = (self._marks + [mark])[-max(self._rule.fail_of, self._rule.consecutive or 0) :]
            self._failed = self._failed or self._failure()
        return self._verdict(value, missing, sum(baseline) / len(baseline) if baseline else None)

    def _figure(self, values: List[float]) -> Optional[float]:
        if not values:
            return None
        if self._rule.per == "mean":
            return sum(values) / len(values)
        return min(values, key=lambda value: (self._mark(value), -self._overshoot(value)))

    def _mark(self, value: Optional[float]) -> float:
        rule = self._rule
        if value is None:
            return GREY
        if (rule.max is not None and value > rule.max) or (rule.min is not None and value < rule.min):
            return BAD
        highest = rule.max if rule.pass_max is None else rule.pass_max
        lowest = rule.min if rule.pass_min is None else rule.pass_min
        good = (highest is None or value <= highest) and (lowest is None or value >= lowest)
        return GOOD if good else GREY

    def _overshoot(self, value: float) -> float:
        above = () if self._rule.max is None else (value - self._rule.max,)
        below = () if self._rule.min is None else (self._rule.min - value,)
        return max(above + below)

    def _failure(self) -> str:
        in_row = self._rule.consecutive
        recent = self._marks[-self._rule.fail_of :]
        if in_row is not None and len(self._marks) >= in_row and all(mark == BAD for mark in self._marks[-in_row:]):
            return "consecutive"
        return "limit" if recent.count(BAD) >= self._rule.fail_count else ""

    def _verdict(self, value: Optional[float], missing: str, baseline: Optional[float]) -> Verdict:
        recent = self._marks[-self._rule.fail_of :]
        fail, good = recent.count(BAD) / self._rule.fail_count, recent.count(GOOD) / self._rule.fail_of
        verdict, reason = INCONCLUSIVE, missing or ("low_sample" if len(recent) < self._rule.fail_of else "undecided")
        if self._failed:
            verdict, reason = FAIL, self._failed
        elif not missing and good >= 1.0:
            verdict, reason = PASS, ""
        return Verdict(
            verdict,
            self._name,
            reason,
            value=value,
            limit=self._limit(value),
            baseline=baseline,
            samples={"canary": float(len(recent)), "bad": float(recent.count(BAD))},
            evidence={"fail": 1.0 if self._failed else min(1.0, fail), "pass": good},
        )

    def _limit(self, value: Optional[float]) -> Optional[float]:
        rule = self._rule
        if rule.max is None or (rule.min is not None and value is not None and value < rule.min):
            return rule.min
        return rule.max

    def state(self) -> Dict[str, object]:
        return {"marks": list(self._marks), "last": self._last, "failed": self._failed}

    def restore(self, state: Mapping[str, object]) -> None:
        self._marks = stored.numbers(state.get("marks"))
        self._last = stored.maybe(state.get("last"))
        self._failed = str(state.get("failed") or "")


def absence(look: GateLook, places: Tuple[str, ...]) -> str:
    """The inconclusive reason for what these places did not answer: the source's own trouble before plain silence."""
    reasons = {look.absent[place].reason for place in places if place in look.absent}
    for reason in ("provider_error", "query_error"):
        if reason in reasons:
            return reason
    return "query_error" if "several_series" in reasons else "no_data"
