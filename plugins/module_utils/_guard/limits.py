# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's options: what people write for all services and for one, checked and typed. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import FrozenSet, Mapping, Optional, Sequence, Tuple

from .._errors import OptionError
from .._judge.part import Part, shown
from .chain import canonical
from .freeze import Window, parse_windows
from .memory import ACTIONS_KEPT, SERVICES_KEPT

OBSERVE, RECOMMEND, ACT = "observe", "recommend", "act"
MODES = (OBSERVE, RECOMMEND, ACT)
KEYS = (
    "mode",
    "alerts",
    "codes",
    "calls",
    "cooldown",
    "global_cooldown",
    "max_actions",
    "window",
    "breaker",
    "max_steps_back",
    "hold_for",
    "clear_for",
    "rearm_below",
    "max_services",
    "services_window",
    "max_alarming",
    "freeze",
    "attribution_window",
    "approval_ttl",
    "watchdog",
    "clock",
)


@dataclass(frozen=True)
class GuardPolicy:
    """When a service may be healed. Durations are seconds; `version` is the beginning of the SHA-256 of `plain`."""

    service: str
    mode: str = RECOMMEND
    alerts: FrozenSet[str] = frozenset()
    codes: FrozenSet[str] = frozenset()
    calls: FrozenSet[str] = frozenset()
    cooldown: float = 900.0
    global_cooldown: float = 60.0
    max_actions: int = 3
    window: float = 86400.0
    breaker_failures: int = 1
    breaker_reset: float = 3600.0
    max_steps_back: int = 1
    hold_for: float = 0.0
    clear_for: float = 300.0
    rearm_below: float = 0.8  # of the limit
    max_services: int = 3
    services_window: float = 3600.0
    max_alarming: float = 0.3  # share of all services
    freeze: Tuple[Window, ...] = ()
    attribution_window: float = 3600.0
    approval_ttl: float = 1800.0
    watchdog: Optional[float] = None
    clock_tolerance: float = 60.0
    clock_settle: float = 300.0
    version: str = ""
    plain: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)


def parse_guard(raw: Mapping[str, object], service: str) -> GuardPolicy:
    """The policy of `service`, or an OptionError that says which key is wrong and what would be right."""
    try:
        return _policy(Part("guard", raw, KEYS), service)
    except OptionError as error:
        raise error.on(service) from None


def _policy(part: Part, service: str) -> GuardPolicy:
    usual = GuardPolicy(service)
    breaker = _inner(part, "breaker", ("failures", "reset"))
    clock = _inner(part, "clock", ("tolerance", "settle"))
    plain = part.plain()
    return GuardPolicy(
        service=service,
        mode=part.choice("mode", MODES, usual.mode),
        alerts=_names(part, "alerts"),
        codes=_names(part, "codes"),
        calls=_names(part, "calls"),
        cooldown=part.seconds("cooldown", usual.cooldown),
        global_cooldown=part.seconds("global_cooldown", usual.global_cooldown),
        max_actions=_count(part, "max_actions", usual.max_actions, ACTIONS_KEPT),
        window=part.seconds("window", usual.window, least=1.0),
        breaker_failures=_count(breaker, "failures", usual.breaker_failures, 100),
        breaker_reset=breaker.seconds("reset", usual.breaker_reset, least=1.0),
        max_steps_back=_count(part, "max_steps_back", usual.max_steps_back, 10),
        hold_for=part.seconds("hold_for", usual.hold_for),
        clear_for=part.seconds("clear_for", usual.clear_for),
        rearm_below=part.share("rearm_below", usual.rearm_below, least=0.0, most=1.0),
        max_services=_count(part, "max_services", usual.max_services, SERVICES_KEPT),
        services_window=part.seconds("services_window", usual.services_window, least=1.0),
        max_alarming=part.share("max_alarming", usual.max_alarming, least=0.0, most=1.0),
        freeze=parse_windows(part.items("freeze")),
        attribution_window=part.seconds("attribution_window", usual.attribution_window, least=1.0),
        approval_ttl=part.seconds("approval_ttl", usual.approval_ttl, least=1.0),
        watchdog=part.maybe_seconds("watchdog", least=1.0),
        clock_tolerance=clock.seconds("tolerance", usual.clock_tolerance, least=1.0),
        clock_settle=clock.seconds("settle", usual.clock_settle),
        version=sha256(canonical(plain).encode()).hexdigest()[:12],
        plain=plain,
    )


def _inner(part: Part, key: str, known: Sequence[str]) -> Part:
    raw = part.get(key)
    return Part(f"{part.where}: {key}", {} if raw is None else raw, known)


def _count(part: Part, key: str, default: int, most: int) -> int:
    value = part.whole(key, default, least=1)
    if value > most:
        raise OptionError(f"{part.where}: {key} must be at most {most}, not {value}", mend=f"Correct {key}")
    return value


def _names(part: Part, key: str) -> FrozenSet[str]:
    names = part.items(key)
    for name in names:
        if not isinstance(name, str) or not name.strip() or "*" in name:
            raise OptionError(
                f"{part.where}: {key} must be names, not {shown(name)}",
                mend="Name each one in full: nothing here stands for all of them",
            )
    return frozenset(str(name) for name in names)
