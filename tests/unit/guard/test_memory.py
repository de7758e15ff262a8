# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each entry of the chain changes in the guard's memory, and that it survives being kept."""

from __future__ import annotations

import json
from typing import List, Mapping, Optional, Tuple

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.chain import GENESIS, canonical, decode, link
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Trigger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import (
    ACTIONS_KEPT,
    CALM,
    CONDITIONS_KEPT,
    NAME_KEPT,
    RECOMMENDATIONS_KEPT,
    SERVICES_KEPT,
    SIGNALS_KEPT,
    UNMEASURED,
    Condition,
    Fleet,
    Memory,
    Pause,
    Running,
    altered,
    fold,
    fold_fleet,
    news,
    shortened,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry


def entry(at: float, kind: str, body: Mapping[str, object], service: str = "shop", actor: str = "ada") -> Entry:
    return link(1, GENESIS, at=at, service=service, kind=kind, actor=actor, body=body)


def triggered(
    at: float,
    incident: str,
    active: bool = True,
    level: Optional[float] = None,
    name: str = "High",
    service: str = "shop",
) -> Entry:
    trigger = Trigger("alert", name, incident, at, active, level)
    return entry(at, "trigger", {**vars(trigger), "condition": trigger.condition}, service)


def decided(at: float, verdict: str, action: str = "rollback", service: str = "shop", **more: object) -> Entry:
    body = {"id": f"d{at:g}", "verdict": verdict, "action": action, "condition": "alert:High", "release": "2.0"}
    return entry(
        at, "decision", {**body, "target": "1.9", "reason": "", "until": None, "approved": "", **more}, service
    )


def ran(
    at: float, kind: str, state: str, outcome: Optional[Mapping[str, object]] = None, **intent: object
) -> List[Entry]:
    """A rollout that was opened at `at` and went to `state` ten seconds later."""
    opened = {"rollout": f"r{at:g}", "kind": kind, "state": "open", "intent": intent}
    ended = {"rollout": f"r{at:g}", "from": "open", "state": state, "outcome": outcome or {}}
    return [entry(at, "rollout", opened), entry(at + 10, "state", ended)]


def after(*entries: Entry, start: Optional[Memory] = None) -> Memory:
    memory = start or Memory()
    for one in entries:
        memory = fold(memory, one)
    return memory


# --- rollouts and actions


def test_a_rollout_that_passed_is_a_change_and_closes_everything() -> None:
    bad = Memory(failures=3, failed_at=5.0, tripped_at=6.0, steps_back=2)
    memory = after(*ran(100, "canary", "done"), start=bad)
    assert memory == Memory(changed_from=100.0, changed_at=110.0)


def test_what_is_under_way_is_known_until_it_is_closed() -> None:
    opened, held = ran(100, "canary", "held")
    assert after(opened, held).running == Running("r100", "canary", 100.0)
    assert after(opened, *ran(50, "canary", "done")[1:]).running is not None  # of another rollout
    assert after(held) == Memory()
    assert after(*ran(100, "canary", "undone")) == Memory(acted_at=110.0)


VERIFIED = {
    verdict: {"ok": True, "verified": {"verdict": verdict}} for verdict in ("recovered", "not_recovered", "unverified")
}


@pytest.mark.parametrize(
    ("kind", "state", "outcome", "failures", "tripped"),
    [
        ("rollback", "done", VERIFIED["recovered"], 0, False),
        ("rollback", "done", VERIFIED["not_recovered"], 2, True),
        ("rollback", "done", VERIFIED["unverified"], 1, True),
        ("rollback", "done", {}, 1, True),
        ("rollback", "undone", {"ok": False}, 2, True),
        ("rollback", "unresolved", {}, 2, True),
        ("action", "done", {"ok": True}, 0, False),
        ("action", "done", {"ok": False}, 2, True),
        ("action", "done", VERIFIED["unverified"], 1, True),
        ("action", "done", VERIFIED["recovered"], 0, False),
        ("action", "done", {"ok": True, "verified": "odd"}, 0, False),
    ],
)
def test_how_an_action_ended_counts_for_the_breaker(
    kind: str, state: str, outcome: Mapping[str, object], failures: int, tripped: bool
) -> None:
    memory = after(*ran(100, kind, state, outcome), start=Memory(failures=1, failed_at=50.0, tripped_at=60.0))
    assert (memory.failures, memory.tripped_at is not None) == (failures, tripped)
    assert memory.failed_at == {0: None, 1: 50.0, 2: 110.0}[failures]
    assert memory.acted_at == 110.0


@pytest.mark.parametrize(("state", "ok"), [("done", True), ("done", False), ("undone", False), ("unresolved", False)])
def test_a_flag_that_a_person_turned_on_heals_nothing_and_stops_nothing(state: str, ok: bool) -> None:
    """No cooldown for what it may set off; and no breaker that it opens, or closes."""
    for before in (Memory(), Memory(failures=1, failed_at=50.0, tripped_at=60.0, acted_at=50.0)):
        memory = after(*ran(100, "action", state, {"ok": ok}, action="flag_on"), start=before)
        assert altered(memory, running=None) == before


def test_what_could_not_be_finished_is_counted_once() -> None:
    opened, stuck = ran(100, "rollback", "unresolved")
    again = entry(200, "state", {"rollout": "r100", "from": "unresolved", "state": "open", "outcome": {}})
    closed = entry(
        300, "state", {"rollout": "r100", "from": "open", "state": "done", "outcome": VERIFIED["not_recovered"]}
    )
    memory = after(opened, stuck, again, stuck)
    assert (memory.failures, memory.steps_back, memory.running) == (1, 1, Running("r100", "rollback", 100.0, True))
    memory = after(closed, start=memory)
    assert (memory.failures, memory.steps_back, memory.running) == (1, 1, None)


def test_steps_back_are_counted_until_a_rollout_passes() -> None:
    memory = after(*ran(100, "rollback", "done"), *ran(200, "action", "done", {"ok": True}, action="rollback"))
    assert (memory.steps_back, memory.changed_from, memory.changed_at) == (2, 200.0, 210.0)
    memory = after(
        *ran(300, "rollback", "undone"), *ran(400, "action", "done", {"ok": True}, action="restart"), start=memory
    )
    assert (memory.steps_back, memory.changed_at) == (2, 210.0)
    assert after(*ran(500, "watch", "done"), start=memory).steps_back == 0


def test_one_step_too_many_trips_the_breaker_once() -> None:
    refused = decided(100, "denied", reason="breaker_open")
    assert after(refused).tripped_at == 100.0
    assert after(refused, decided(200, "denied", reason="breaker_open")).tripped_at == 100.0
    assert after(decided(100, "denied", reason="breaker_open", until=900.0)).tripped_at is None  # it was open already
    assert after(decided(100, "denied", reason="cooldown")) == Memory()


# --- decisions


def test_an_allowed_action_is_remembered_and_disarms_its_condition() -> None:
    memory = after(triggered(90, "t1", level=3.0), decided(100, "allowed"))
    assert (memory.actions, memory.acted_at) == ((100.0,), 100.0)
    assert memory.condition("alert:High") == Condition(90.0, 100.0, ((90.0, 3.0),), ("t1",))
    assert after(decided(100, "allowed", action="undo")) == Memory(acted_at=100.0)
    assert after(decided(100, "allowed", action="rollout")) == Memory()
    assert after(decided(100, "allowed", condition="person:ada")).conditions == {}
    assert after(decided(100, "observed")) == Memory()


def test_a_recommendation_waits_is_approved_and_used() -> None:
    memory = after(decided(100, "recommended", until=160.0))
    assert memory.approvable("d100", 159.0) is None
    assert memory.approvable("d100", 160.0) == "it expired at 1970-01-01 00:02:40 UTC"
    assert memory.approvable("d7", 159.0) == "there is no such recommendation of this service, or many came after it"
    memory = after(entry(120, "approval", {"decision": "d100", "reason": "yes"}, actor="bob"), start=memory)
    assert memory.approvable("d100", 130.0) == "bob approved it already"
    assert memory.spent("d100", 130.0) is None
    memory = after(decided(130, "allowed", approved="d100", condition="person:bob"), start=memory)
    assert memory.approvable("d100", 140.0) == "it was carried out already"
    assert memory.condition("alert:High").disarmed_at == 130.0
    assert after(entry(120, "approval", {"decision": "d7", "reason": "yes"}), start=memory) == memory


def test_pauses_of_one_and_of_all() -> None:
    paused = {"event": "paused", "until": 500.0, "reason": "a drill"}
    mine, everybodys = entry(100, "pause", paused), entry(100, "pause", paused, service="")
    pause = Pause("ada", 100.0, "a drill", 500.0)
    assert after(mine).paused(499.0) == pause
    assert after(mine).paused(500.0) is None
    assert after(everybodys) == Memory()
    assert after(mine, entry(200, "pause", {"event": "resumed"})).pause is None
    assert fold_fleet(Fleet(), mine) == Fleet()
    assert fold_fleet(Fleet(), everybodys).paused(499.0) == pause
    assert fold_fleet(Fleet(), everybodys).paused(500.0) is None
    assert after(entry(100, "pause", {**paused, "until": None})).paused(1e12) is not None


# --- conditions


def test_a_condition_lasts_from_its_first_incident_to_the_end_of_its_last() -> None:
    memory = after(triggered(100, "t1"), triggered(110, "t2", level=2.0), triggered(120, "t1", False))
    assert memory.condition("alert:High") == Condition(
        100.0, None, ((100.0, UNMEASURED), (110.0, 2.0)), ("t2",), ("t1",)
    )
    memory = after(triggered(130, "t2", False), start=memory)
    assert memory.condition("alert:High").since is None
    assert memory.condition("alert:High").height == CALM
    memory = after(triggered(140, "t2"), start=memory)  # a late copy
    assert memory.condition("alert:High").since is None
    assert after(triggered(150, "t3"), start=memory).condition("alert:High").since == 150.0


def test_of_many_incidents_at_once_nobody_knows_the_end_until_a_rollout_passes() -> None:
    count = SIGNALS_KEPT + 1
    memory = after(*(triggered(100 + number, f"t{number}") for number in range(count)))
    assert len(memory.condition("alert:High").firing) == SIGNALS_KEPT
    memory = after(*(triggered(200 + number, f"t{number}", False) for number in range(count)), start=memory)
    assert memory.condition("alert:High").since == 100.0
    memory = after(*ran(300, "canary", "done"), start=memory)
    assert memory.condition("alert:High").since is None
    assert memory.condition("alert:High").height == CALM


def test_only_what_says_when_it_is_over_is_a_condition() -> None:
    assert after(entry(1, "trigger", {"kind": "call", "name": "ci", "id": "t1", "condition": "call:ci"})) == Memory()
    assert after(entry(1, "trigger", {"kind": "alert", "id": "t1"})) == Memory()  # as older ledgers have them
    assert after(entry(1, "lease", {"event": "acquired"})) == Memory()


def test_a_rollout_that_passed_arms_again_and_begins_anew() -> None:
    firing = after(
        triggered(90, "t1", level=3.0), triggered(91, "t2", name="Slow"), triggered(92, "t2", False, name="Slow")
    )
    memory = after(decided(100, "allowed"), *ran(190, "canary", "done"), start=firing)
    assert memory.condition("alert:High") == Condition(200.0, None, ((200.0, 3.0),), ("t1",))
    assert memory.condition("alert:Slow") == Condition(None, None, ((200.0, CALM),), (), ("t2",))


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (Trigger("alert", "High", "t1", level=3.0), False),  # a copy
        (Trigger("alert", "High", "t1", level=2.0), False),
        (Trigger("alert", "High", "t1", level=0.8), True),  # low by now
        (Trigger("alert", "High", "t1", active=False), True),
        (Trigger("alert", "High", "t2", level=3.0), True),
        (Trigger("alert", "High", "t0"), False),  # a late copy
        (Trigger("alert", "Slow", "t9"), True),
        (Trigger("call", "ci", "t9"), False),
    ],
)
def test_what_is_news(trigger: Trigger, expected: bool) -> None:
    memory = after(triggered(80, "t0"), triggered(85, "t0", False), triggered(90, "t1", level=3.0))
    assert news(memory, trigger, 0.8) is expected


# --- all services


def test_the_fleet_knows_who_was_acted_on_and_who_alarms() -> None:
    fleet = Fleet()
    for one in [
        decided(100, "allowed"),
        decided(110, "allowed", action="rollout", service="bank"),
        decided(120, "denied", service="mail"),
        decided(130, "allowed", action="restart", service="crm"),
        triggered(140, "t1"),
        triggered(150, "t2", name="Slow"),
        triggered(160, "t3"),
        triggered(170, "t4", service="bank"),
        triggered(180, "t4", False, service="bank"),
        triggered(190, "t5", False, service="mail"),
        entry(200, "lease", {}),
    ]:
        fleet = fold_fleet(fleet, one)
    assert fleet == Fleet(
        acted={"shop": 100.0, "crm": 130.0}, alarming={"shop": {"alert:High": 140.0, "alert:Slow": 150.0}}
    )


# --- size


def test_its_size_is_bounded_whatever_comes() -> None:
    memory, fleet = Memory(), Fleet()
    for number in range(300):
        name, service = f"{'x' * 500}{number}", f"s{number}"
        for one in [
            triggered(number, f"{'i' * 500}{number}", name=name if number % 2 else "High"),
            triggered(number, f"{'i' * 500}{number - 9}", False, name="High"),
            decided(number, "recommended", until=number + 60.0),
            decided(number, "allowed"),
        ]:
            memory = fold(memory, one)
            fleet = fold_fleet(fleet, one)
        for one in (triggered(number, "t", service=service), decided(number, "allowed", service=service)):
            fleet = fold_fleet(fleet, one)
    assert len(memory.actions) == ACTIONS_KEPT
    assert len(memory.conditions) == CONDITIONS_KEPT
    assert len(memory.recommendations) == RECOMMENDATIONS_KEPT
    assert len(fleet.acted) == len(fleet.alarming) == SERVICES_KEPT
    for one in memory.conditions.values():
        assert max(len(one.levels), len(one.firing), len(one.ended)) <= SIGNALS_KEPT
    assert len(canonical(memory.as_dict())) < 64_000
    assert len(canonical(fleet.as_dict())) < 64_000
    assert memory.condition("alert:High").disarmed_at is not None  # what was acted on is not forgotten first


def test_when_only_such_are_left_the_oldest_is_forgotten() -> None:
    entries: List[Entry] = []
    for number in range(CONDITIONS_KEPT + 1):
        entries += [decided(number, "allowed", condition=f"alert:{number}")]
    assert "alert:0" not in after(*entries).conditions
    assert "alert:1" in after(*entries).conditions


def test_what_is_forgotten_does_not_depend_on_how_often_it_was_read_back() -> None:
    kept = Memory(), Fleet()
    straight = Memory(), Fleet()
    for number in range(SERVICES_KEPT + 50):
        name, service = f"{number * 37 % 101}", f"s{number * 101 % 311}"
        mine = [triggered(number, "t", name=name), decided(number, "recommended", until=number + 60.0)]
        mine += [decided(number, "allowed", condition=f"alert:{name}")] if number % 3 == 0 else []
        others = [triggered(number, "t", service=service), decided(number, "allowed", service=service)]
        for one in [*mine, *others]:
            alone = one.service == "shop"
            straight = fold(straight[0], one) if alone else straight[0], fold_fleet(straight[1], one)
            kept = fold(kept[0], one) if alone else kept[0], fold_fleet(kept[1], one)
        kept = Memory.of(through_json(kept[0].as_dict())), Fleet.of(through_json(kept[1].as_dict()))
    assert kept == straight


def through_json(note: Mapping[str, object]) -> Mapping[str, object]:
    return decode(canonical(note))


def test_long_names_stay_apart() -> None:
    one, other = shortened("x" * 200 + "1"), shortened("x" * 200 + "2")
    assert one != other
    assert len(one) == NAME_KEPT
    assert shortened("short") == "short"


# --- kept and read back


def full() -> Tuple[Memory, Fleet]:
    entries = [
        triggered(90, "t1", level=3.0),
        triggered(95, "t0", False, name="Slow"),
        decided(96, "recommended", until=160.0),
        decided(100, "allowed"),
        *ran(105, "canary", "done"),
        *ran(120, "rollback", "unresolved"),
        decided(140, "denied", reason="breaker_open"),
        entry(150, "pause", {"event": "paused", "until": None, "reason": "a drill"}),
    ]
    fleet = Fleet(pause=Pause("ada", 1.0, "why", 2.0))
    for one in entries:
        fleet = fold_fleet(fleet, one)
    return after(*entries), fleet


def test_it_survives_being_kept() -> None:
    memory, fleet = full()
    assert Memory.of(json.loads(canonical(memory.as_dict()))) == memory
    assert Fleet.of(json.loads(canonical(fleet.as_dict()))) == fleet
    assert Memory.of({}) == Memory()
    assert Fleet.of({}) == Fleet()
    assert Memory.of(json.loads(canonical(Memory().as_dict()))) == Memory()


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ({"cooldown": 3}, "'cooldown' is unknown"),
        ({"acted_at": "soon"}, "'acted_at' is not as it was written"),
        ({"acted_at": True}, "'acted_at' is not as it was written"),
        ({"failures": -1}, "'failures' is not as it was written"),
        ({"failures": 1.5}, "'failures' is not as it was written"),
        ({"actions": 3}, "'actions' is not as it was written"),
        ({"actions": [None]}, "'actions' is not as it was written"),
        ({"running": []}, "it is not a mapping"),
        ({"running": {"rollout": "r1"}}, "'kind' is not as it was written"),
        ({"running": {"rollout": "r1", "kind": "canary", "opened_at": 1, "counted": 0}}, "'counted' is not as"),
        ({"pause": {"by": "ada", "at": 1.0, "reason": "x", "end": 3}}, "'end' is unknown"),
        ({"conditions": []}, "'conditions' is not as it was written"),
        ({"conditions": {"alert:High": {"levels": [[1.0]]}}}, "'levels' is not as it was written"),
        ({"conditions": {"alert:High": {"levels": [[1.0, None]]}}}, "'levels' is not as it was written"),
        ({"acted_at": [1]}, "'acted_at' is not as it was written"),
        ({"running": {"rollout": "r1", "kind": "canary"}}, "'opened_at' is not as it was written"),
        ({"conditions": {"alert:High": {"firing": [1]}}}, "'firing' is not as it was written"),
        ({"recommendations": {"d1": {"action": 1}}}, "'action' is not as it was written"),
    ],
)
def test_what_was_not_written_like_this_is_refused(kept: Mapping[str, object], why: str) -> None:
    with pytest.raises(StoreError) as caught:
        Memory.of(kept)
    assert "What the guard remembers of a service cannot be read" in caught.value.message
    assert why in caught.value.message


def test_what_is_remembered_of_all_is_refused_likewise() -> None:
    with pytest.raises(StoreError, match="of all services cannot be read: 'shop' is not as it was written"):
        Fleet.of({"acted": {"shop": "x"}})
    with pytest.raises(StoreError, match="it is not a mapping"):
        Fleet.of({"alarming": {"shop": 3}})
