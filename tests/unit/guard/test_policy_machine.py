# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens in whatever order: the guard never allows what the plainest model of its promises forbids."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Dict, List, Mapping, Optional, Set, Tuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.chain import GENESIS, canonical, link
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ALLOWED,
    DUPLICATE,
    HEALING,
    RECOMMENDED,
    ROLLBACK,
    UNDO,
    Decision,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import Fleet, Memory, fold, fold_fleet
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import View, decide, mark, parse_guard

NAMES = ("shop", "bank", "mail", "crm")
SERVICES = st.sampled_from(NAMES)
CONDITIONS = st.sampled_from(["High", "Slow"])
ACTIONS = st.sampled_from([ROLLBACK, "restart", "flag_off"])
ENDS = st.sampled_from(["recovered", "recovered", "not_recovered", "unverified", "failed", "stuck"])
COOLDOWN, GLOBAL, WINDOW, MOST, RESET, CLEAR, TTL = 5.0, 1.0, 60.0, 2, 20.0, 4.0, 30.0
FLEET_MOST, FLEET_WINDOW = 2, 20.0
POLICY: Mapping[str, object] = {
    "alerts": ["High", "Slow"],
    "calls": ["ci"],
    "cooldown": COOLDOWN,
    "global_cooldown": GLOBAL,
    "max_actions": MOST,
    "window": WINDOW,
    "breaker": {"failures": 1, "reset": RESET},
    "clear_for": CLEAR,
    "approval_ttl": TTL,
    "max_services": FLEET_MOST,
    "services_window": FLEET_WINDOW,
}


@dataclass
class Service:
    """What a person with a notebook would know of one service."""

    deployed_at: Optional[float] = None
    healed_at: List[float] = field(default_factory=list)
    quiet_from: Optional[float] = None  # the last action's beginning or end, or the last undo's
    running: Optional[Tuple[str, str]] = None  # rollout and kind
    broken_at: Optional[float] = None
    went_back: bool = False
    acted_on: Dict[str, float] = field(default_factory=dict)  # condition: when, since the last deploy
    firing: Dict[str, Set[str]] = field(default_factory=dict)  # condition: incidents
    clear_from: Dict[str, float] = field(default_factory=dict)  # condition: nothing fires since then
    cleared: Set[str] = field(default_factory=set)  # conditions: long enough, since they were acted on
    pause: Optional[Tuple[Optional[float]]] = None  # its end
    used: Set[str] = field(default_factory=set)  # triggers that were allowed
    recommended: Dict[str, Tuple[float, str]] = field(default_factory=dict)  # until when, which action


def paused(pause: Optional[Tuple[Optional[float]]], now: float) -> bool:
    return pause is not None and (pause[0] is None or now < pause[0])


class GuardMachine(RuleBasedStateMachine):
    """The guard, with a ledger that is a list, beside the notebook."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.number = 10_000.0, 0
        self.entries: List[Entry] = []
        self.memories: Dict[str, Memory] = {name: Memory() for name in NAMES}
        self.fleet = Fleet()
        self.seen: Dict[Tuple[str, str], str] = {}
        self.book: Dict[str, Service] = {name: Service() for name in NAMES}
        self.everything: Optional[Tuple[Optional[float]]] = None
        self.triggers: List[Tuple[str, Trigger]] = []
        self.approved: Set[str] = set()
        for name in NAMES:
            assert self.ask(name, "rollout", self.new("ci", "pipeline")).allowed
            self.begin(name, "canary", f"first {name}")
            self.end(name, "done", {})
            self.book[name].deployed_at = self.now

    # --- what a ledger does

    def write(self, service: str, kind: str, body: Mapping[str, object], actor: str = "ada") -> None:
        entry = link(len(self.entries) + 1, GENESIS, at=self.now, service=service, kind=kind, actor=actor, body=body)
        self.entries.append(entry)
        if service:
            self.memories[service] = fold(self.memories[service], entry)
        self.fleet = fold_fleet(self.fleet, entry)

    def unfinished(self, service: str) -> Optional[Rollout]:
        running = self.book[service].running
        return Rollout(running[0], service, "2.0", running[1], "open", 1, self.now, self.now) if running else None

    def ask(self, service: str, action: str, trigger: Trigger, *, mode: str = "act", approved: str = "") -> Decision:
        self.number += 1
        key = (service, trigger.id if trigger.active else f"{trigger.id}:resolved")
        situation = Situation(confirmed=True, current="2.0", known_good="1.9", places=2, services=50)
        request = Request(f"d{self.number}", service, action, trigger, "x", situation, approved)
        view = View(self.memories[service], self.fleet, unfinished=self.unfinished(service), seen=self.seen.get(key))
        decision = decide(parse_guard({**POLICY, "mode": mode}, service), request, view, self.now)
        if view.seen is not None and (view.seen == mark(decision, view.seen) or decision.reason == DUPLICATE):
            return decision
        if view.seen is None:
            self.told(service, trigger)
            self.write(service, "trigger", {**vars(trigger), "condition": trigger.condition}, "x")
        body = {**decision.as_dict(), "condition": trigger.condition, "approved": approved}
        self.write(service, "decision", {**body, "release": "2.0", "target": "1.9"}, "x")
        self.seen[key] = mark(decision, view.seen)
        if decision.allowed and action in HEALING:
            self.begin(service, "rollback" if action == ROLLBACK else "action", decision.id)
        return decision

    def begin(self, service: str, kind: str, name: str) -> None:
        self.write(
            service, "rollout", {"rollout": name, "service": service, "kind": kind, "state": "open", "intent": {}}
        )
        self.book[service].running = (name, kind)

    def end(self, service: str, state: str, outcome: Mapping[str, object]) -> None:
        running = self.book[service].running
        assert running is not None
        self.write(service, "state", {"rollout": running[0], "from": "open", "state": state, "outcome": outcome})
        if state != "unresolved":
            self.book[service].running = None

    def told(self, service: str, trigger: Trigger) -> None:
        book, name = self.book[service], trigger.condition
        firing = book.firing.setdefault(name, set())
        if trigger.active:
            if self.clear(service, name):
                book.cleared.add(name)
            firing.add(trigger.id)
        elif trigger.id in firing:
            firing.discard(trigger.id)
            book.clear_from[name] = self.now

    def clear(self, service: str, name: str) -> bool:
        """Is it, or was it, clear for long enough since it was acted on?"""
        book = self.book[service]
        acted = book.acted_on.get(name, self.now)
        since = max(book.clear_from.get(name, acted), acted)
        return name in book.cleared or (not book.firing.get(name) and self.now - since >= CLEAR)

    def new(self, condition: str, kind: str = "alert") -> Trigger:
        self.number += 1
        return Trigger(kind, condition, f"t{self.number}", self.now)

    # --- what may happen

    @rule(seconds=st.sampled_from([0.5, 3.0, 6.0, 12.0, 25.0, -3.0]))
    def time_passes_or_is_set_back(self, seconds: float) -> None:
        self.now += seconds

    @rule(service=SERVICES, condition=CONDITIONS, action=ACTIONS)
    def an_alert_fires(self, service: str, condition: str, action: str) -> None:
        trigger = self.new(condition)
        self.triggers.append((service, trigger))
        before = self.obstacles(service, trigger, action)
        decision = self.ask(service, action, trigger)
        self.judge(service, trigger, decision, before)

    @rule(service=SERVICES, action=ACTIONS, how=ENDS, wait=st.sampled_from([6.0, 25.0]))
    def a_call_comes_twice(self, service: str, action: str, how: str, wait: float) -> None:
        trigger = self.new("ci", "call")
        for _round in range(2):
            before = self.obstacles(service, trigger, action)
            self.judge(service, trigger, self.ask(service, action, trigger), before)
            self.an_action_ends(service, how)
            self.now += wait

    @precondition(lambda self: self.triggers)
    @rule(data=st.data(), action=ACTIONS)
    def an_alert_is_told_again(self, data: st.DataObject, action: str) -> None:
        service, trigger = data.draw(st.sampled_from(self.triggers))
        before = self.obstacles(service, trigger, action)
        self.judge(service, trigger, self.ask(service, action, trigger), before)

    @precondition(lambda self: self.triggers)
    @rule(data=st.data())
    def an_alert_is_resolved(self, data: st.DataObject) -> None:
        service, trigger = data.draw(st.sampled_from(self.triggers))
        over = Trigger(trigger.kind, trigger.name, trigger.id, trigger.at, active=False)
        decision = self.ask(service, ROLLBACK, over)
        assert (decision.verdict, decision.reason) == ("denied", "not_confirmed")

    @rule(service=SERVICES, condition=CONDITIONS, action=ACTIONS)
    def an_alert_asks_for_approval(self, service: str, condition: str, action: str) -> None:
        trigger = self.new(condition)
        self.triggers.append((service, trigger))
        decision = self.ask(service, action, trigger, mode="recommend")
        assert not decision.allowed
        if decision.verdict == RECOMMENDED:
            self.book[service].recommended[decision.id] = (self.now + TTL, action)

    @rule(service=SERVICES, data=st.data())
    def a_person_approves(self, service: str, data: st.DataObject) -> None:
        known = self.book[service].recommended
        if not known:
            return
        name = data.draw(st.sampled_from(sorted(known)))
        if self.memories[service].approvable(name, self.now) is None:
            self.write(service, "approval", {"decision": name, "reason": "yes"}, "bob")
            self.approved.add(name)

    @rule(service=SERVICES, data=st.data(), condition=CONDITIONS)
    def what_was_approved_is_carried_out(self, service: str, data: st.DataObject, condition: str) -> None:
        book = self.book[service]
        if not book.recommended:
            return
        name = data.draw(st.sampled_from(sorted(book.recommended)))
        until, action = book.recommended[name]
        busy = book.running is not None or paused(book.pause, self.now) or paused(self.everything, self.now)
        good = name in self.approved and self.now < until and not busy
        decision = self.ask(service, action, self.new(condition), mode="recommend", approved=name)
        assert decision.allowed == good
        if decision.allowed:
            del book.recommended[name]
            self.noted(service, f"alert:{condition}", "")

    @rule(service=SERVICES)
    def a_person_rolls_back(self, service: str) -> None:
        busy = self.book[service].running is not None
        decision = self.ask(service, ROLLBACK, self.new("ada", "person"))
        assert decision.allowed != busy
        if decision.allowed:
            self.noted(service, "person:ada", "")

    @rule(service=SERVICES)
    def a_pipeline_begins_a_rollout(self, service: str) -> None:
        book = self.book[service]
        busy = book.running is not None or paused(book.pause, self.now) or paused(self.everything, self.now)
        decision = self.ask(service, "rollout", self.new("ci", "pipeline"))
        assert decision.allowed != busy
        if decision.allowed:
            self.begin(service, "canary", decision.id)

    @rule(service=SERVICES, state=st.sampled_from(["done", "done", "undone"]))
    def a_rollout_ends(self, service: str, state: str) -> None:
        book = self.book[service]
        if book.running is None or book.running[1] != "canary":
            return
        self.end(service, state, {})
        if state == "done":
            book.deployed_at, book.broken_at, book.went_back = self.now, None, False
            book.acted_on.clear()
            book.cleared.clear()
        else:
            book.quiet_from = self.now

    @rule(service=SERVICES, condition=CONDITIONS, action=ACTIONS, how=ENDS, wait=st.sampled_from([6.0, 6.0, 25.0]))
    def an_incident_from_its_beginning_to_its_end(
        self, service: str, condition: str, action: str, how: str, wait: float
    ) -> None:
        """So that long stories are told often."""
        self.an_alert_fires(service, condition, action)
        self.an_action_ends(service, how)
        self.ask(service, ROLLBACK, replace(self.triggers[-1][1], active=False))
        self.now += wait

    @rule(service=SERVICES, how=ENDS)
    def an_action_ends(self, service: str, how: str) -> None:
        book = self.book[service]
        if book.running is None or book.running[1] == "canary":
            return
        back = book.running[1] == "rollback"
        state = {"failed": "undone", "stuck": "unresolved"}.get(how, "done")
        outcome = {"ok": True, "verified": {"verdict": how}} if state == "done" else {"ok": False}
        self.end(service, state, outcome)
        book.quiet_from = self.now
        book.went_back = book.went_back or (back and state != "undone")
        if back and state != "undone":
            book.deployed_at = self.now
        if how == "recovered":
            book.broken_at = None
        elif how != "unverified":
            book.broken_at = self.now

    @rule(service=st.sampled_from(["", *NAMES]), ends=st.sampled_from([None, 3.0, 3.0, 12.0]), resumes=st.booleans())
    def a_person_pauses_or_resumes(self, service: str, ends: Optional[float], resumes: bool) -> None:
        until = None if ends is None else self.now + ends
        event = "resumed" if resumes else "paused"
        self.write(service, "pause", {"event": event, "until": None if resumes else until, "reason": "a drill"})
        self.set_pause(service, None if resumes else (until,))

    def set_pause(self, service: str, pause: Optional[Tuple[Optional[float]]]) -> None:
        if service:
            self.book[service].pause = pause
        else:
            self.everything = pause

    # --- what must hold

    def obstacles(self, service: str, trigger: Trigger, action: str) -> Set[str]:
        """By the notebook alone: why a system must not act now."""
        book, now = self.book[service], self.now
        others = [one.healed_at[-1] for name, one in self.book.items() if name != service and one.healed_at]
        tried = max([book.broken_at or now, *book.healed_at[-1:]])
        holds = {
            "running": book.running is not None,
            "paused": paused(book.pause, now) or paused(self.everything, now),
            "used": trigger.id in book.used,
            "cooldown": book.quiet_from is not None and now - book.quiet_from < COOLDOWN,
            "global": any(one.healed_at and now - one.healed_at[-1] < GLOBAL for one in self.book.values()),
            "rate": sum(at > now - WINDOW for at in book.healed_at) >= MOST,
            "broken": book.broken_at is not None and now - tried < RESET,
            "back": action == ROLLBACK and book.went_back,
            "disarmed": trigger.kind == "alert"
            and trigger.condition in book.acted_on
            and not self.clear(service, trigger.condition),
            "fleet": sum(at > now - FLEET_WINDOW for at in others) >= FLEET_MOST,
        }
        return {name for name, holding in holds.items() if holding}

    def judge(self, service: str, trigger: Trigger, decision: Decision, before: Set[str]) -> None:
        if decision.allowed:
            assert not before, f"allowed in spite of {before}"
            self.noted(service, trigger.condition, trigger.id)
        elif decision.verdict == RECOMMENDED:
            self.book[service].recommended[decision.id] = (self.now + TTL, decision.action)
            assert decision.reason == "not_attributable"
        elif not before and decision.reason not in (DUPLICATE, "not_confirmed"):
            # nothing that the notebook knows: then it was acted on before, or a refusal has opened the breaker
            assert trigger.condition in self.book[service].acted_on or decision.reason == "breaker_open"

    def noted(self, service: str, condition: str, trigger: str) -> None:
        book = self.book[service]
        book.healed_at.append(self.now)
        book.quiet_from = self.now
        book.acted_on[condition] = self.now
        book.cleared.discard(condition)
        if trigger:
            book.used.add(trigger)

    @invariant()
    def an_undo_is_always_allowed(self) -> None:
        for service in NAMES:
            request = Request("u", service, UNDO, Trigger("pipeline", "ci", "u"), "x", Situation())
            view = View(
                self.memories[service], self.fleet, unfinished=self.unfinished(service), seen=ALLOWED, drift=900
            )
            assert decide(parse_guard({}, service), request, view, self.now).allowed

    @invariant()
    def what_is_remembered_is_what_is_kept(self) -> None:
        for memory in self.memories.values():
            assert Memory.of(json.loads(canonical(memory.as_dict()))) == memory
        assert Fleet.of(json.loads(canonical(self.fleet.as_dict()))) == self.fleet

    def teardown(self) -> None:
        """Replayed from the chain alone, it is the same."""
        memories, fleet = {name: Memory() for name in NAMES}, Fleet()
        for entry in self.entries:
            if entry.service:
                memories[entry.service] = fold(memories[entry.service], entry)
            fleet = fold_fleet(fleet, entry)
        assert (memories, fleet) == (self.memories, self.fleet)


TestGuardMachine = GuardMachine.TestCase
TestGuardMachine.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
