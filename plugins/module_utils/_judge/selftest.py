# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates' self-test: a synthetic bad canary must fail each gate within the bake, a synthetic good one must not.

The real gates are fed with deterministic looks: half of the bad canary's requests are bad, its numbers are far beyond
the limit or the baseline; the good one does what the baseline does.
"""

from __future__ import annotations

import math
from typing import Dict, Iterator, Optional, Tuple

from .bake import build_gates
from .model import FAIL, Arms, Counts, GateLook
from .spec import BurnRule, GateSpec, Policy, RanksRule, ValueRule

BAD_SHARE = 0.5  # of the bad canary's requests
BASE_SHARE = 0.001  # of everybody else's
_JITTER = 0.02


def time_to_fail(policy: Policy, gate: GateSpec, arms: Arms, *, rps: float, bad: bool) -> Optional[float]:
    """Seconds of the bake until the synthetic canary fails this gate; None when it does not before the deadline.

    `rps` are requests per second over all places, spread evenly.
    """
    built = build_gates(policy, policy.bake.deadline)[policy.gates.index(gate)]
    for elapsed, look in _looks(policy, gate, arms, rps=rps, bad=bad):
        if built.observe(look, arms, elapsed).verdict == FAIL:
            return elapsed
    return None


def _looks(policy: Policy, gate: GateSpec, arms: Arms, *, rps: float, bad: bool) -> Iterator[Tuple[float, GateLook]]:
    every, places = policy.bake.look_every, arms.canary + arms.baseline
    each = rps / len(places)
    for index in range(1, int(policy.bake.deadline / every) + 1):
        elapsed = index * every
        if isinstance(gate.rule, (ValueRule, RanksRule)):
            values = {place: _value(gate.rule, index, nth) for nth, place in enumerate(places)}
            if bad:
                values.update({place: _bad_value(gate.rule, values[place]) for place in arms.canary})
            yield elapsed, GateLook(values=values)
            continue
        base = 0.0 if isinstance(gate.rule, BurnRule) else BASE_SHARE
        counts: Dict[str, Counts] = {}
        for nth, place in enumerate(places):
            share = BAD_SHARE if bad and place in arms.canary else base
            phase = nth / len(places)  # so that rare errors do not fall into the same look everywhere
            total = _whole(each * elapsed) - _whole(each * (elapsed - every))
            failed = _whole(each * share * elapsed + phase) - _whole(each * share * (elapsed - every) + phase)
            counts[place] = Counts(min(failed, total), total)
        yield elapsed, GateLook(counts=counts)


def _whole(count: float) -> float:
    return float(math.floor(count + 1e-9))


def _value(rule: object, index: int, nth: int) -> float:
    """What a healthy place measures: on the good side of the limits, or near 1 where ranks decide."""
    if not isinstance(rule, ValueRule):
        return 1.0 + _JITTER * math.sin(1.0 + index * 12.9898 + nth * 78.233)
    highest = rule.max if rule.pass_max is None else rule.pass_max
    lowest = rule.min if rule.pass_min is None else rule.pass_min
    if highest is not None and lowest is not None:
        return (highest + lowest) / 2
    return highest if highest is not None else lowest or 0.0


def _bad_value(rule: object, healthy: float) -> float:
    """The same place with a release that is plainly bad."""
    if isinstance(rule, RanksRule):
        return healthy * 0.25 if rule.direction == "decrease" else healthy * 3
    if not isinstance(rule, ValueRule) or rule.max is None:
        lowest = rule.min if isinstance(rule, ValueRule) and rule.min is not None else 0.0
        return lowest - max(1.0, abs(lowest) / 2)
    return rule.max + max(1.0, abs(rule.max) / 2)
