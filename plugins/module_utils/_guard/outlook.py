# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard remembers of a service, and what follows from it by a policy: for people and for metrics. Pure."""

from __future__ import annotations

from typing import Dict, List, Optional

from .checks import cooldowns
from .memory import UNMEASURED, Fleet, Memory
from .policy import GuardPolicy, breaker

Facts = Dict[str, object]


def outlook(policy: GuardPolicy, service: str, memory: Memory, fleet: Fleet, now: float) -> Facts:
    """One service's state at `now`. Times are epoch seconds, and None where there is no such time."""
    state, until = breaker(policy, memory, now)
    pause = memory.paused(now)
    return {
        "service": service,
        "breaker": {"state": state, "until": until, "failures": memory.failures},
        "cooldown_until": cooldown_until(policy, memory, fleet, now),
        "pause": dict(vars(pause)) if pause is not None else None,
        "changed_at": memory.changed_at,
        "acted_at": memory.acted_at,
        "actions": sum(at > now - policy.window for at in memory.actions),
        "steps_back": memory.steps_back,
        "running": memory.running.rollout if memory.running is not None else None,
        "recommendations": recommendations(memory, now),
        "conditions": conditions(memory),
    }


def cooldown_until(policy: GuardPolicy, memory: Memory, fleet: Fleet, now: float) -> Optional[float]:
    """When the service may be healed again, as far as the two cooldowns go; None when it may be now."""
    until = max((end for end in cooldowns(policy, memory, fleet) if end is not None), default=now)
    return until if until > now else None


def recommendations(memory: Memory, now: float) -> List[Facts]:
    """Those that can still be approved, or carried out."""
    return [
        {"decision": name, **vars(one)}
        for name, one in memory.recommendations.items()
        if not one.used and now < one.until
    ]


def conditions(memory: Memory) -> List[Facts]:
    """What fires now, or was acted on. `level` is a multiple of its limit, or None."""
    return [
        {
            "condition": name,
            "since": one.since,
            "firing": len(one.firing),
            "level": one.height if one.firing and one.height < UNMEASURED else None,
            "acted_at": one.disarmed_at,
        }
        for name, one in memory.conditions.items()
        if one.firing or one.disarmed_at is not None
    ]
