# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Are the gates good? Asked of places that went back to the old release, and of a held rollout that may resume.

Both add up what the gates measure and hold it against one level per gate: what the gate tolerates, given the level the
baseline had. After an undo nothing is tested any more: a rate counts as too high only beyond the chance of a Poisson
count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .._errors import DeliveryError
from . import stored
from .model import Absent, GateLook, Look, finite
from .ratio import RatioSpec
from .spec import BurnRule, GateSpec, Policy, RanksRule, RatioRule, ValueRule

RECOVERED = "recovered"
NOT_RECOVERED = "not_recovered"
UNVERIFIED = "unverified"
VERIFYING = "verifying"

CHANCE = 0.01
DOWN_LOOKS = 2


def ratio_spec(policy: Policy, gate: GateSpec, alpha: Optional[float] = None) -> RatioSpec:
    """The ratio gate's full specification: the preset's figures wherever the policy leaves the choice.

    The floor is never above the limit, so that no rate both passes and fails. `alpha` defaults to an even part of the
    policy's over all ratio and latency gates.
    """
    rule = gate.rule
    if not isinstance(rule, RatioRule):
        raise DeliveryError(f"gate {gate.name!r} is not a ratio gate")
    tested = sum(isinstance(other.rule, RatioRule) for other in policy.gates)
    usual = RatioSpec(gate.name).floor if rule.max is None else min(RatioSpec(gate.name).floor, rule.max)
    return RatioSpec.of(
        gate.name,
        preset=policy.preset,
        alpha=policy.alpha / tested if alpha is None else alpha,
        tolerance=rule.tolerance,
        maximum=rule.max,
        margin=rule.margin,
        min_bad=rule.min_bad,
        min_requests=rule.min_requests,
        floor=usual if rule.floor is None else rule.floor,
    )


@dataclass
class Tally:
    """What the gates measured since `since`: [bad, total], or [sum, number] of values; canary, then baseline."""

    since: float
    sums: Dict[str, List[float]] = field(default_factory=dict)

    def add(self, gate: str, look: GateLook, canary: Sequence[str], baseline: Sequence[str], *, latest: bool) -> None:
        """Take in one look. `latest` keeps only the newest look's values, for numbers that look back themselves."""
        sums = self.sums.setdefault(gate, [0.0] * 4)
        for index, places in ((0, canary), (2, baseline)):
            counts = [look.counts[place] for place in places if place in look.counts]
            values = [look.values[place] for place in places if place in look.values]
            if latest and values:
                sums[index : index + 2] = [0.0, 0.0]
            sums[index] += sum(count.bad for count in counts) + sum(values)
            sums[index + 1] += sum(count.total for count in counts) + len(values)

    def of(self, gate: str) -> Tuple[Optional[float], float, Optional[float], float]:
        """The canary's figure and its sample, the baseline's figure and its sample."""
        bad, total, bad_b, total_b = self.sums.get(gate, [0.0] * 4)
        return (bad / total if total > 0 else None, total, bad_b / total_b if total_b > 0 else None, total_b)

    def state(self) -> Dict[str, object]:
        return {"since": self.since, "sums": {gate: list(sums) for gate, sums in self.sums.items()}}

    @classmethod
    def of_state(cls, state: Mapping[str, object]) -> "Tally":
        sums = {gate: (stored.numbers(row) + [0.0] * 4)[:4] for gate, row in stored.table(state.get("sums")).items()}
        return cls(stored.number(state.get("since")), sums)


@dataclass(frozen=True)
class Standing:
    """One gate against its level. `good` is None where nobody can tell; then `reason` says why."""

    gate: str
    good: Optional[bool]
    value: Optional[float] = None
    limit: Optional[float] = None
    samples: float = 0.0
    reason: str = ""

    def as_dict(self) -> Dict[str, object]:
        return {
            "gate": self.gate,
            "good": self.good,
            "value": finite(self.value),
            "limit": finite(self.limit),
            "samples": finite(self.samples),
            "reason": self.reason,
        }


def standing(
    policy: Policy,
    gate: GateSpec,
    tally: Tally,
    *,
    level: Optional[float] = None,
    factor: float = 1.0,
    chance: float = 0.0,
) -> Standing:
    """Hold what a gate measured against what it tolerates, times `factor` (below 1 for a lower threshold).

    `level` is the baseline's figure where the tally has none of its own; with `chance` above 0, a count of bad requests
    is too high only when a healthy service would show it less often than that.
    """
    value, total, baseline, _total = tally.of(gate.name)
    reference = level if level is not None else baseline
    if value is None:
        return Standing(gate.name, None, reason="no_data")
    rule = gate.rule
    if isinstance(rule, ValueRule):
        return _against_limits(gate.name, rule, value, total, factor)
    if isinstance(rule, RanksRule):
        return _against_level(gate.name, rule, value, total, reference, factor)
    limit, needed = _rate_limit(policy, gate, reference)
    limit *= factor
    if total < needed:
        return Standing(gate.name, None, value, limit, total, "low_sample")
    bad = value * total
    good = value <= limit or (chance > 0 and poisson_tail(bad, total * limit) >= chance)
    return Standing(gate.name, good, value, limit, total)


def _rate_limit(policy: Policy, gate: GateSpec, level: Optional[float]) -> Tuple[float, int]:
    rule = gate.rule
    if isinstance(rule, BurnRule):
        return rule.pass_burn * (1 - rule.slo), rule.min_requests
    spec = ratio_spec(policy, gate)
    limit = max(spec.margin * level, spec.floor) if level is not None else spec.maximum or spec.floor
    return min(limit, spec.maximum if spec.maximum is not None else limit), spec.min_requests


def _against_limits(gate: str, rule: ValueRule, value: float, samples: float, factor: float) -> Standing:
    highest = rule.pass_max if factor < 1 and rule.pass_max is not None else rule.max
    lowest = rule.pass_min if factor < 1 and rule.pass_min is not None else rule.min
    if highest is not None and highest > 0 and rule.pass_max is None:
        highest *= factor
    if lowest is not None and lowest > 0 and rule.pass_min is None:
        lowest /= factor
    good = (highest is None or value <= highest) and (lowest is None or value >= lowest)
    return Standing(gate, good, value, highest if highest is not None else lowest, samples)


def _against_level(
    gate: str, rule: RanksRule, value: float, samples: float, level: Optional[float], factor: float
) -> Standing:
    if level is None:
        return Standing(gate, None, value, None, samples, "no_data")
    room = rule.tolerance * abs(level) * factor
    above, below = value - level > room, level - value > room
    bad = above if rule.direction == "increase" else below if rule.direction == "decrease" else above or below
    return Standing(gate, not bad, value, level - room if rule.direction == "decrease" else level + room, samples)


def poisson_tail(count: float, expected: float) -> float:
    """P(X ≥ count) for a Poisson count with that mean; counts of interpolated counters round down."""
    if count < 1:
        return 1.0
    if expected <= 0:
        return 0.0
    below = (math.exp(k * math.log(expected) - expected - math.lgamma(k + 1)) for k in range(math.floor(count)))
    return max(0.0, 1.0 - math.fsum(below))


@dataclass(frozen=True)
class RecoveryReport:
    """`verdict` is verifying until the time is up, then recovered, not_recovered or unverified."""

    verdict: str
    reason: str
    elapsed: float
    total: float
    gates: Tuple[Standing, ...] = ()
    down: Tuple[str, ...] = ()

    def as_dict(self) -> Dict[str, object]:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "elapsed": self.elapsed,
            "total": self.total,
            "gates": [gate.as_dict() for gate in self.gates],
            "down": list(self.down),
        }


class Recovery:
    """Watches places that went back, for `verify_for` seconds, and says whether their gates are good again.

    `levels` are the baseline's figures before or during the bake, by gate (`Bake.levels()`). Looks name the places that
    went back as `arms.canary`; what else is in the look is not judged.
    """

    def __init__(self, policy: Policy, places: Sequence[str], *, levels: Mapping[str, float], started: float) -> None:
        if not places:
            raise DeliveryError(
                "a recovery over no place cannot be verified",
                mend="Name the places that went back",
                service=policy.service,
            )
        self._policy = policy
        self._places = tuple(places)
        self._levels = dict(levels)
        self._tally = Tally(started)
        self._down: Dict[str, float] = {}
        self._source_down = False

    def look(self, look: Look, source_down: Optional[Absent] = None) -> RecoveryReport:
        """Take in one look; after `verify_for` seconds the report is final."""
        self._source_down = source_down is not None
        if source_down is None:
            for gate in self._policy.gates:
                measured = look.gates.get(gate.name, GateLook())
                self._tally.add(gate.name, measured, self._places, (), latest=True)
            for place in self._places:
                if place in look.alive:
                    self._down[place] = 0 if look.alive[place].up else self._down.get(place, 0) + 1
        return self._report(look.elapsed - self._tally.since)

    def _report(self, elapsed: float) -> RecoveryReport:
        total = self._policy.bake.verify_for
        gates = tuple(
            standing(self._policy, gate, self._tally, level=self._levels.get(gate.name), chance=CHANCE)
            for gate in self._policy.gates
        )
        down = tuple(sorted(place for place, looks in self._down.items() if looks >= DOWN_LOOKS))
        verdict, reason = VERIFYING, ""
        if elapsed >= total:
            verdict, reason = self._conclude(gates, down)
        return RecoveryReport(verdict, reason, elapsed, total, gates, down)

    def _conclude(self, gates: Sequence[Standing], down: Sequence[str]) -> Tuple[str, str]:
        if self._source_down:
            return UNVERIFIED, "provider_error"
        if down:
            return NOT_RECOVERED, f"down: {', '.join(down)}"
        bad = next((gate for gate in gates if gate.good is False), None)
        if bad is not None:
            return NOT_RECOVERED, bad.gate
        unknown = next((gate for gate in gates if gate.good is None), None)
        return (RECOVERED, "") if unknown is None else (UNVERIFIED, f"{unknown.gate}: {unknown.reason}")

    def state(self) -> Dict[str, object]:
        return {
            "places": list(self._places),
            "levels": dict(self._levels),
            "tally": self._tally.state(),
            "down": dict(self._down),
        }

    def restore(self, state: Mapping[str, object]) -> None:
        self._places = tuple(str(place) for place in stored.rows(state.get("places")))
        self._levels = stored.counted(state.get("levels"))
        self._tally = Tally.of_state(stored.table(state.get("tally")))
        self._down = stored.counted(state.get("down"))
