# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole file of alert rules: every service's, the error codes', and the Watchdog. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from .._codes.generate import Doc, as_yaml
from .._codes.generate import groups as code_groups
from .._codes.model import METRIC, Catalogue
from .._errors import OptionError
from .burn import RELEASE, SERVICE, Unwatched, groups
from .model import Watched, Watching

MADE = "# Made by selfheal.delivery.alert_rules from the services' policies. Do not edit.\n---\n"


@dataclass(frozen=True)
class Made:
    """The file's text, the names of its alerts by service, and which gates no alert watches.

    `acted_on` is the alert that asks for a rollback, and `unheeded` are the services whose guard does not act on it.
    """

    text: str
    alerts: Dict[str, List[str]]
    unwatched: Tuple[Unwatched, ...]
    acted_on: str
    unheeded: Tuple[str, ...]


def rules(
    services: Sequence[Watched], watching: Watching, catalogue: Optional[Catalogue] = None, metric: str = METRIC
) -> Made:
    """The same services always give the same text, in whatever order they come."""
    docs: List[Doc] = []
    alerts: Dict[str, List[str]] = {}
    unwatched: List[Unwatched] = []
    for service in _sorted(services):
        made, left = groups(service, watching)
        docs += made
        unwatched += left
        alerts[service.identity] = sorted({name for group in made for name in _names(group)})
    if catalogue is not None:
        docs += code_groups(catalogue, metric)
    if watching.watchdog:
        docs.append({"name": "selfheal-watchdog", "rules": [_watchdog(watching.watchdog)]})
    acted_on = RELEASE if watching.labels.version else SERVICE
    unheeded = [one.service for one in _sorted(services) if alerts[one.identity] and acted_on not in one.heeded]
    return Made(MADE + as_yaml({"groups": docs}), alerts, tuple(unwatched), acted_on, tuple(unheeded))


def _sorted(services: Sequence[Watched]) -> List[Watched]:
    ordered = sorted(services, key=lambda one: one.identity)
    for one, other in zip(ordered, ordered[1:]):
        if one.identity == other.identity:
            raise OptionError(f"{one.identity} is there twice", mend="Name each service once")
    return ordered


def _names(group: Doc) -> List[str]:
    made = group["rules"]
    return [str(rule["alert"]) for rule in made if "alert" in rule] if isinstance(made, list) else []


def _watchdog(name: str) -> Doc:
    return {
        "alert": name,
        "expr": "vector(1)",
        "labels": {"severity": "none"},
        "annotations": {
            "summary": "Alerts are alive",
            "description": "Fires always, and is missed by who acts on alerts when a part of the way to them is down.",
        },
    }
