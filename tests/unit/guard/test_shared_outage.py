# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What alarms together is nobody's own release, however long it lasts."""

from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ROLLBACK,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import (
    Condition,
    Fleet,
    Memory,
    fold_fleet,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import View, decide, parse_guard

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("at", "incident", "expected"),
    [
        (NOW - 7200, "t0", "blast_radius"),  # the sender says when it began
        (None, "t1", "blast_radius"),  # the ledger saw this very incident begin
        (None, "t0", ""),  # a new one: whose alarms go on for hours have no part in it
    ],
)
def test_a_shared_outage_that_outlasts_the_window_is_not_acted_on_at_a_repeat(
    at: Optional[float], incident: str, expected: str
) -> None:
    fleet = Fleet(alarming={f"s{number}": {"alert:High": NOW - 7300} for number in range(9)})
    firing = Condition(since=NOW - 7200, levels=((NOW - 7200, 2.0),), firing=(incident,))
    memory = Memory(NOW - 7900, NOW - 7800, conditions={"alert:High": firing})
    policy = parse_guard({"mode": "act", "alerts": ["High"], "attribution_window": "3h"}, "shop")
    here = Situation(confirmed=True, current="2.0", known_good="1.9", places=4, services=20)
    trigger = Trigger("alert", "High", "t1", at)
    decision = decide(policy, Request("d1", "shop", ROLLBACK, trigger, "x", here), View(memory, fleet), NOW)
    assert (decision.allowed, decision.reason) == (not expected, expected)


@pytest.mark.parametrize(("environment", "reason"), [("production", "blast_radius"), ("staging", "")])
def test_what_alarms_in_another_environment_is_no_part_of_it(environment: str, reason: str) -> None:
    fleet = Fleet(alarming={f"{environment}/s{number}": {"alert:High": NOW - 60} for number in range(9)})
    policy = parse_guard({"mode": "act", "alerts": ["High"]}, "production/shop")
    here = Situation(confirmed=True, current="2.0", known_good="1.9", places=4, services=20)
    request = Request("d1", "production/shop", ROLLBACK, Trigger("alert", "High", "t1", NOW - 100), "x", here)
    view = View(Memory(NOW - 900, NOW - 600), fleet)
    assert decide(policy, request, view, NOW).reason == reason


def test_the_source_counts_what_alarms_and_people_are_paged_once_for_all_of_it() -> None:
    here = Situation(confirmed=True, current="2.0", known_good="1.9", places=4, services=500, alarming=300)
    memory, fleet, pages = Memory(NOW - 900, NOW - 600), Fleet(), []
    for number in range(300):
        service = f"production/s{number}"
        policy = parse_guard({"mode": "act", "alerts": [] if number == 7 else ["High"]}, service)
        request = Request(f"d{number}", service, ROLLBACK, Trigger("alert", "High", "t1", NOW - 100), "x", here)
        decision = decide(policy, request, View(memory, fleet), NOW + number)
        assert decision.storm and decision.reason == ("not_eligible" if number == 7 else "blast_radius")
        fleet = fold_fleet(fleet, Entry(number, NOW + number, service, "decision", "x", decision.as_dict(), "", ""))
        pages += [decision] if decision.page else []
    assert [page.service for page in pages] == ["production/s0"]
    assert "300 of 500 services alarm together" in pages[0].message
    assert Fleet.of(fleet.as_dict()) == fleet

    elsewhere = Request("d", "staging/s1", ROLLBACK, Trigger("alert", "High", "t1", NOW), "x", here)
    assert decide(parse_guard({"mode": "act"}, "staging/s1"), elsewhere, View(memory, fleet), NOW).page
    later = Request("d", "production/s1", ROLLBACK, Trigger("alert", "High", "t9", NOW), "x", here)
    unfit = decide(parse_guard({"mode": "act"}, "production/s1"), later, View(memory, fleet), NOW + 3600)
    assert unfit.page and "Besides, 300 of 500 services alarm together" in unfit.message
