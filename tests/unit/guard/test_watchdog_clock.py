# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Watchdog that was heard of by a clock that ran ahead does not stand for alerts that are alive now."""

from __future__ import annotations

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ROLLBACK,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import Fleet, Memory
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import View, decide, parse_guard

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("heard", "reason"), [(NOW + 60, ""), (NOW + 61, "alerts_silent"), (NOW + 7200, "alerts_silent")]
)
def test_a_watchdog_from_a_time_to_come_says_nothing_of_now(heard: float, reason: str) -> None:
    policy = parse_guard({"mode": "act", "alerts": ["High"], "watchdog": "10m"}, "shop")
    here = Situation(confirmed=True, current="2.0", known_good="1.9", places=4, services=20)
    request = Request("d1", "shop", ROLLBACK, Trigger("alert", "High", "t1", NOW - 100), "x", here)
    view = View(Memory(NOW - 900, NOW - 600), Fleet(), watchdog_at=heard)
    assert decide(policy, request, view, NOW).reason == reason
