# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What alert rules are made of: services with their policies, and how their error budgets are watched. Pure.

Names and label values that we choose are of a small alphabet, so that they mean the same in PromQL, in a matcher, in an
inventory and in a file's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Mapping, Sequence, Tuple

from .._errors import OptionError
from .._guard.model import identity_of
from .._judge.part import Part, shown
from .._judge.spec import Policy, parse_policy

CRITICAL, WARNING = "critical", "warning"
SEVERITIES = (CRITICAL, WARNING)
SERVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ALERT = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True)
class Window:
    """Fires when the budget burns faster than `factor` in the last `long` and the last `short` seconds."""

    long: float
    short: float
    factor: float
    severity: str = CRITICAL


# The Site Reliability Workbook, chapter 5, for a budget of 30 days: 2 % of it in an hour, 5 % in six, 10 % in a day,
# and 10 % in three.
WORKBOOK = (
    Window(3600.0, 300.0, 14.4),
    Window(21600.0, 1800.0, 6.0),
    Window(86400.0, 7200.0, 3.0, WARNING),
    Window(259200.0, 21600.0, 1.0, WARNING),
)


@dataclass(frozen=True)
class Labels:
    """Which labels tell Prometheus' series apart; empty where it has no such label."""

    service: str = "service"
    environment: str = "environment"
    version: str = "version"


@dataclass(frozen=True)
class Watching:
    """How services are watched. `hold` is the rules' `for`; it, `keep_firing_for` and `silent_for` are seconds."""

    objective: float = 0.999  # share of requests that must be good, where a gate does not say its own
    windows: Tuple[Window, ...] = WORKBOOK
    hold: float = 60.0
    keep_firing_for: float = 300.0
    silent_for: float = 600.0  # how long a metric may be missing
    labels: Labels = field(default_factory=Labels)
    watchdog: str = "Watchdog"  # the alert that always fires; empty for none


@dataclass(frozen=True)
class Watched:
    """One service. `series` are the labels by which Prometheus tells its series, where not by name and environment.

    `objectives` are by gate. `heeded` are the names of the alerts that its guard acts on.
    """

    service: str
    environment: str
    policy: Policy
    owner: str = ""
    runbook: str = ""
    heeded: Tuple[str, ...] = ()
    objectives: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return identity_of(self.environment, self.service)


def watched(
    service: str,
    policy: object,
    *,
    environment: str = "",
    objectives: object = None,
    series: object = None,
) -> Watched:
    """A service as its policy says it; raises OptionError for a name or a policy that is wrong."""
    if not SERVICE.fullmatch(service):
        raise OptionError(f"{shown(service)} is no service", mend="A service is a plain inventory group, such as shop")
    if environment and not _ENVIRONMENT.fullmatch(environment):
        mend = "Use letters, digits, '_' and '-', such as production"
        raise OptionError(f"{shown(environment)} is no environment", mend=mend).on(service)
    parsed = parse_policy(policy, service)
    guard = parsed.plain.get("guard")
    alerts = guard.get("alerts") if isinstance(guard, Mapping) else None
    try:
        return Watched(
            service,
            environment,
            parsed,
            owner=str(parsed.plain.get("owner") or ""),
            runbook=str(parsed.plain.get("runbook") or ""),
            heeded=tuple(str(name) for name in alerts) if isinstance(alerts, list) else (),
            objectives=_objectives(objectives, parsed),
            series=_series(series),
        )
    except OptionError as error:
        raise error.on(service) from None


def _objectives(raw: object, policy: Policy) -> Dict[str, float]:
    gates = tuple(gate.name for gate in policy.gates)
    part = Part("objectives", {} if raw is None else raw, gates, of="this service")
    return {name: share(part, name, 0.0) for name in gates if part.get(name) is not None}


def share(part: Part, key: str, default: float) -> float:
    """An objective: the share of requests that must be good."""
    given = part.maybe_share(key)
    if given is None:
        return default
    if not 0.5 <= given < 1.0:
        raise OptionError(
            f"{part.where}: {key} must be from 50% to below 100%, not {given:g}", mend="It is the share of good ones"
        )
    return given


def _series(raw: object) -> Dict[str, str]:
    if raw is not None and not isinstance(raw, Mapping):
        raise OptionError("series must be a mapping", mend="Write it as label: value")
    return {label_name(str(label)): str(value) for label, value in (raw or {}).items()}


def label_name(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise OptionError(f"{shown(text)} is no label", mend="Use letters, digits and '_', such as version")
    return text


def alert_name(text: str) -> str:
    if text and not _ALERT.fullmatch(text):
        raise OptionError(f"{shown(text)} is no alert's name", mend="Use letters, digits and '_', such as Watchdog")
    return text


def windows(raw: Sequence[object]) -> Tuple[Window, ...]:
    """Pairs of windows as people write them; the workbook's where there are none."""
    return tuple(_window(item) for item in raw) or WORKBOOK


def _window(raw: object) -> Window:
    part = Part("windows", raw, ("long", "short", "factor", "severity"))
    long = part.need("long", part.maybe_seconds("long", least=0.001), "the long window, such as 1h")
    short = part.seconds("short", long / 12, least=0.001)
    factor = part.need("factor", part.maybe("factor", above=0.0), "how many times faster than the budget allows")
    if short > long:
        raise OptionError(f"windows: short ({short:g}s) is longer than long ({long:g}s)", mend="Swap them")
    return Window(long, short, factor, part.choice("severity", SEVERITIES, CRITICAL))
