# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gates' self-test: a synthetic bad canary must fail each gate within the bake, a synthetic good one must not.

The real gates are fed with deterministic looks: half of the bad canary's requests are bad, its numbers are far beyond
the limit or the baseline; the good one does what the baseline does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Iterator, Optional, Tuple, Union

from .bake import build_gates
from .model import FAIL, PASS, Arms, Counts, GateLook
from .spec import BurnRule, GateSpec, Policy, RanksRule, Rule, ValueRule

BAD_SHARE = 0.5  # of the bad canary's requests
BASE_SHARE = 0.001  # of everybody else's
_JITTER = 0.02
_LOOKS = 400  # at counts, at most


@dataclass(frozen=True)
class Proof:
    """When, in seconds of the bake, the synthetic canary first failed and first passed the gate; None for never."""

    failed: Optional[float] = None
    passed: Optional[float] = None


def prove(policy: Policy, gate: GateSpec, arms: Arms, *, rps: float, bad: bool, share: Optional[float] = None) -> Proof:
    """Feed the gate until the bake's deadline, and its extension for a good canary.

    `rps` are requests per second over all places, of which the canary gets `share` (0..1), or all the same.
    """
    built = build_gates(policy, policy.bake.deadline)[policy.gates.index(gate)]
    passed: Optional[float] = None
    part = len(arms.canary) / len(arms.canary + arms.baseline) if share is None else share
    for elapsed, look in _looks(policy, gate, arms, (rps, part), bad=bad):
        verdict = built.observe(look, arms, elapsed).verdict
        if verdict == FAIL:
            return Proof(elapsed, passed)
        passed = elapsed if verdict == PASS and passed is None else passed
    return Proof(None, passed)


def _looks(
    policy: Policy, gate: GateSpec, arms: Arms, traffic: Tuple[float, float], *, bad: bool
) -> Iterator[Tuple[float, GateLook]]:
    """`traffic` are the requests per second of all, and the canary's part of them."""
    (rps, share), (canary, baseline) = traffic, (len(arms.canary), len(arms.baseline))
    each = (rps * share / max(1, canary), rps * (1 - share) / max(1, baseline))
    until = policy.bake.deadline + (0.0 if bad else policy.bake.extend)
    every = max(policy.bake.look_every, _pace(gate.rule, until))
    for index in range(1, int(until / every) + 1):
        if isinstance(gate.rule, (ValueRule, RanksRule)):
            yield index * every, _values(gate.rule, arms, index, bad=bad)
        else:
            base = 0.0 if isinstance(gate.rule, BurnRule) else BASE_SHARE
            yield index * every, _counts(arms, index, (every * each[0], every * each[1]), base=base, bad=bad)


def _pace(rule: Rule, until: float) -> float:
    """How rarely it is enough to look, in seconds: the self-test need not be as tireless as the bake."""
    if isinstance(rule, ValueRule):
        return rule.every
    return rule.window / 3 if isinstance(rule, RanksRule) else until / _LOOKS


def _values(rule: Union[ValueRule, RanksRule], arms: Arms, index: int, *, bad: bool) -> GateLook:
    values = {place: _value(rule, index, nth) for nth, place in enumerate(arms.canary + arms.baseline)}
    if bad:
        values.update({place: _bad_value(rule, values[place]) for place in arms.canary})
    return GateLook(values=values)


def _counts(arms: Arms, index: int, requests: Tuple[float, float], *, base: float, bad: bool) -> GateLook:
    """`requests` are those of each canary place, and of each baseline place."""
    places = arms.canary + arms.baseline
    counts: Dict[str, Counts] = {}
    for nth, place in enumerate(places):
        each, share = requests[place not in arms.canary], BAD_SHARE if bad and place in arms.canary else base
        phase = nth / len(places)  # so that rare errors do not fall into the same look everywhere
        total, failed = _step(each, index, 0.0), _step(each * share, index, phase)
        counts[place] = Counts(min(failed, total), total)
    return GateLook(counts=counts)


def _step(each: float, index: int, phase: float) -> float:
    """Whole events of the `index`-th look where `each` come on average."""
    return _whole(each * index + phase) - _whole(each * (index - 1) + phase)


def _whole(count: float) -> float:
    return float(math.floor(count + 1e-9))


def _value(rule: Union[ValueRule, RanksRule], index: int, nth: int) -> float:
    """What a healthy place measures: on the good side of the limits, or near 1 where ranks decide."""
    if isinstance(rule, RanksRule):
        return 1.0 + _JITTER * math.sin(1.0 + index * 12.9898 + nth * 78.233)
    highest = rule.max if rule.pass_max is None else rule.pass_max
    lowest = rule.min if rule.pass_min is None else rule.pass_min
    ends = [end for end in (highest, lowest) if end is not None]
    return sum(ends) / len(ends)


def _bad_value(rule: Union[ValueRule, RanksRule], healthy: float) -> float:
    """The same place with a release that is plainly bad."""
    if isinstance(rule, RanksRule):
        return healthy * (0.25 if rule.direction == "decrease" else 4.0)
    if rule.max is not None:
        return rule.max + max(1.0, abs(rule.max) / 2)
    return healthy - max(1.0, abs(healthy) / 2)
