# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service on real places with a real ledger, and a controller of it at any time of the test's choice.

The controller does what the role `rollback` does, with the product's own parts and without Ansible: it looks at the
places, pins the targets, asks the guard, goes back, says what the gates said, and closes. What the gates say, and what
time it is, comes from the test.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
import traceback
import uuid
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from act_place import MEMORY, Place
from stores import Kept

from ansible_collections.selfheal.delivery.plugins.action import rollback_plan
from ansible_collections.selfheal.delivery.plugins.action.rollout import _counted
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ALERT,
    ROLLBACK,
    Clock,
    Decision,
    Grant,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import last_known_good, rolled_back
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import DONE, OPEN, Entry, Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import GuardPolicy, parse_guard

SERVICE, ALARM = "prod/shop", "ShopErrors"
TTL = 60.0
PATIENCE = 30.0  # with another process, in real seconds
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
FORKS = multiprocessing.get_context("fork")
# what people write, and the defaults for the rest; the store's own clock is far from the test's
POLICY: Mapping[str, object] = {"mode": "act", "alerts": [ALARM], "clock": {"tolerance": 10**9}}
RECOVERED, NOT_RECOVERED = "recovered", "not_recovered"


def policy(service: str = SERVICE, **given: object) -> GuardPolicy:
    return parse_guard({**POLICY, **given}, service)


def alarm(ident: str = "a1", **given: Any) -> Trigger:
    """The alert that the service may be healed for; `ident` is its fingerprint and start."""
    return Trigger(ALERT, given.pop("name", ALARM), ident, **given)


class Site:
    """`places` with a `restart` and a health check each, `now` in epoch seconds, and who is at work on them."""

    def __init__(self, kept: Kept, folder: Path, now: float, names: "tuple[str, ...]" = ("web1", "web2")) -> None:
        self.kept, self.now = kept, now
        self.places: Dict[str, Place] = {name: Place(folder / name) for name in names}
        self.ledger = kept.open()

    def restarted(self) -> None:
        """The controller is another process now: nothing is known but what is kept."""
        self.ledger.close()
        self.ledger = self.kept.open()

    def wait(self, seconds: float) -> float:
        self.now += seconds
        return self.now

    # --- a release on its way

    def start(self, release: str, **given: Any) -> "tuple[Rollout, Lease]":
        """Put it on every place; its bake has not ended."""
        before = {name: place.current() or "" for name, place in self.places.items()}
        what = rollouts.Begin(SERVICE, release, "canary", {"fleet": list(self.places), "before": before})
        begun, lease = rollouts.begin(
            self.ledger, what, holder="pipeline", actor="ada", ttl=TTL, now=self.now, policy=policy()
        )
        for place in self.places.values():
            place.deploy(release, rollout=begun.id, token=lease.token, **given)
        return begun, lease

    def promote(self, begun: Rollout, lease: Lease) -> Rollout:
        for place in self.places.values():
            place.do(state="promoted", release=begun.release, rollout=begun.id, token=lease.token)
        outcome = {"places": list(self.places)}
        return rollouts.close(self.ledger, lease, begun.id, state=DONE, outcome=outcome, actor="pipeline", now=self.now)

    def release(self, *releases: str, **given: Any) -> None:
        """Each passes its bake on every place, five minutes after the one before."""
        for release in releases:
            self.promote(*self.start(release, **given))
            self.wait(5 * MINUTE)

    # --- what the role finds out

    def states(self) -> Dict[str, Dict[str, Any]]:
        return {name: place.look() for name, place in self.places.items()}

    def plan(self, why: str = f"alert {ALARM}", accused: str = "") -> Dict[str, Any]:
        """As the module rollback_plan, of places that the role has read."""
        states = {name: rollback_plan._place(told) for name, told in self.states().items()}
        known = last_known_good(self.ledger, SERVICE)
        accused = accused or rollback_plan._accused(states, known.release if known else "")
        ways = rollback_plan.ways_back(states, accused, rolled_back(self.ledger, SERVICE))
        options = {"why": why, "batches": ["100%"]}
        return rollback_plan._planned(options, list(self.places), states, accused, ways)

    def situation(self, plan: Mapping[str, Any], confirmed: Optional[bool]) -> Situation:
        return Situation(
            confirmed=confirmed,
            current=plan["release"],
            known_good=plan["known_good"],
            changed_at=None,
            blocked=plan["blocked"],
            places=len(plan["intent"]["before"]) + len(plan["intent"]["left"]),
            services=20,
        )

    # --- what it does

    def ask(
        self,
        trigger: Trigger,
        *,
        action: str = ROLLBACK,
        confirmed: Optional[bool] = True,
        guard: Optional[GuardPolicy] = None,
        clock: Optional[Clock] = None,
        approved: str = "",
        holder: str = "controller",
        ledger: Optional[Ledger] = None,
        plan: Optional[Mapping[str, Any]] = None,
        **facts: Any,
    ) -> Grant:
        """May we? A yes has written the intent and taken the lease. `facts` are of the situation."""
        plan = plan or self.plan()
        situation = replace(self.situation(plan, confirmed), **facts)
        back = action == ROLLBACK
        intent = {"action": action, **(plan["intent"] if back else {})}
        opens = Rollout("", SERVICE, plan["release"], ROLLBACK if back else "action", OPEN, 0, 0.0, 0.0, intent)
        request = Request(uuid.uuid4().hex[:12], SERVICE, action, trigger, "guard", situation, approved)
        return (ledger or self.ledger).decide(
            request, guard or policy(), holder=holder, ttl=TTL, now=self.now, clock=clock, opens=opens
        )

    def go_back(self, rollout: Rollout, lease: Lease, at: Callable[[str], None] = lambda _step: None) -> Dict[str, Any]:
        """Every place of the intent; what came of it by place. `at` hears of each step."""
        before: Any = rollout.intent["before"]
        results: Dict[str, Any] = {}
        for name, target in before.items():
            told = {"rollout": rollout.id, "place": name}
            at(f"to record that {name} is to change")
            self.ledger.append(SERVICE, "action", "guard", {**told, "state": "known_good"}, self.now, lease)
            at(f"to change {name}")
            results[name] = self.back_on(name, rollout, target, lease)
            at(f"to record what came of {name}")
            self.ledger.append(SERVICE, "outcome", "guard", {**told, **results[name]}, self.now)
        return results

    def back_on(self, name: str, rollout: Rollout, target: str, lease: Lease) -> Dict[str, Any]:
        wish = {"release": rollout.release, "to": target, "mark_bad": str(rollout.intent.get("why") or "its gates")}
        try:
            outcome = self.places[name].back(rollout=rollout.id, token=lease.token, **wish)
        except DeliveryError as error:
            return {"failed": True, "msg": error.message, "changed": error.details.get("changed")}
        return {"changed": outcome.changed, "current": outcome.current}

    def close(self, rollout: Rollout, lease: Lease, results: Dict[str, Any], verdict: str = RECOVERED) -> Rollout:
        """With what the gates said when they were read again."""
        facts = {"places": results, "verified": {"verdict": verdict}, "why": rollout.intent.get("why")}
        state = _counted(self.ledger, rollout, facts, [])
        return rollouts.close(self.ledger, lease, rollout.id, state=state, outcome=facts, actor="guard", now=self.now)

    def act(self, grant: Grant, verdict: str = RECOVERED) -> Rollout:
        """What was allowed, to its end."""
        assert grant.lease is not None and grant.rollout is not None, grant.decision
        return self.close(grant.rollout, grant.lease, self.go_back(grant.rollout, grant.lease), verdict)

    def heal(self, trigger: Trigger, verdict: str = RECOVERED, **asked: Any) -> Decision:
        """Ask, and where it is allowed do it."""
        grant = self.ask(trigger, **asked)
        if grant.lease is not None:
            self.act(grant, verdict)
        return grant.decision

    def settle(self) -> List[str]:
        """What `reconcile` does: every unfinished rollback and action is finished, closed, or left to a person."""
        done = []
        for due in rollouts.find(self.ledger, on_interrupt="undo", now=self.now, service=SERVICE):
            done.append(due.action)
            who: Dict[str, Any] = {"holder": "reconcile", "actor": "reconcile", "ttl": TTL, "now": self.now}
            if due.action == rollouts.CLOSE:
                rollouts.give_up(self.ledger, due.rollout.id, due.why, **who)
            if due.action == rollouts.UNDO:
                taken, lease = rollouts.take_over(self.ledger, due.rollout.id, **who)
                self.close(taken, lease, self.go_back(taken, lease))
        return done

    # --- what is true

    def current(self) -> Dict[str, Optional[str]]:
        """What every place points to, which must be what runs there."""
        for place in self.places.values():
            assert place.current() == place.running()
        return {name: place.current() for name, place in self.places.items()}

    def everywhere(self, release: str) -> bool:
        return self.current() == dict.fromkeys(self.places, release)

    def entries(self, *kinds: str) -> List[Entry]:
        return [entry for entry in self.ledger.entries(limit=100_000) if entry.kind in kinds]

    def rollbacks(self) -> List[Rollout]:
        return [one for one in self.ledger.last_rollouts(SERVICE, 1000) if one.kind == ROLLBACK]

    def allowed(self, action: str = ROLLBACK) -> List[Entry]:
        said = self.entries("decision")
        return [one for one in said if one.body["verdict"] == "allowed" and one.body["action"] == action]

    def whole(self) -> bool:
        """Nothing is unfinished or held, and the chain is what it must be."""
        assert self.ledger.verify(self.ledger.head()) is None
        return not self.ledger.unfinished() and not self.ledger.leases(self.now)


def forked(work: Callable[[], object]) -> int:
    """The id of a process that does `work` and ends; what it raises is printed, and its end is then not 0."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def ended(child: int) -> int:
    """How it ended: its exit status, or minus the signal that killed it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.005)


def die() -> None:
    """As the kernel's killer ends a process: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def site_on(kept: Kept, now: float) -> Iterator[Site]:
    """A site of its own, in memory, for one test."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        site = Site(kept, Path(folder), now)
        yield site
        site.ledger.close()
