# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alerts by the thousands on a few services, and the policy that they are decided by: for the race and the bench."""

from __future__ import annotations

from typing import List

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ALERT,
    RESTART,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import GuardPolicy, parse_guard

SERVICES: List[str] = [f"production/service-{number:02}" for number in range(20)]


def policy(service: str, *, cooldown: float, window: float, max_actions: int) -> GuardPolicy:
    """It acts by itself, and nothing but cooldown and rate stands in its way."""
    raw = {
        "mode": "act",
        "alerts": ["HighErrorRate"],
        "cooldown": cooldown,
        "global_cooldown": 0,
        "window": window,
        "max_actions": max_actions,
        "clear_for": 0,
        "max_services": len(SERVICES),
        "max_alarming": 1.0,
        "clock": {"tolerance": 10**9},  # who calls this may say what time it is
    }
    return parse_guard(raw, service)


def request(name: str, service: str, at: float) -> Request:
    """A wish to restart `service` because of an alert that nobody has seen before; `name` is its and the trigger's."""
    evidence = {"alertname": "HighErrorRate", "severity": "page", "value": 0.07, "fingerprint": name}
    trigger = Trigger(ALERT, "HighErrorRate", name, at, level=1.4, evidence=evidence)
    situation = Situation(True, "2.4.1", "2.4.0", at - 600, places=6, services=len(SERVICES))
    return Request(name, service, RESTART, trigger, "alertmanager", situation)


def action(service: str) -> Rollout:
    """What `request` opens when it is allowed."""
    return Rollout("", service, "2.4.1", "action", "", 0, 0.0, 0.0, {"action": RESTART, "places": ["web1", "web2"]})
