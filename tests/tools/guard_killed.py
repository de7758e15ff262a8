# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that is told of one alert: it decides, goes back on every place, verifies, and records it.

It is what the role `rollback` does, with the same calls and without Ansible, so that it can be killed at every point:
before, inside and after each write to the ledger, and at each step of each change of a place.
"""

from __future__ import annotations

import os
import signal
from contextlib import closing
from typing import Any, Callable, Dict, List, Mapping, Optional, TypeVar

from act_place import Place

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.book import Book
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ALERT,
    ROLLBACK,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import DONE, OPEN, Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.store import Rows, Store

T = TypeVar("T")
SERVICE = "test/shop"
BAD, GOOD = "2.0.0", "1.0.0"
TTL = 30.0
# the tests' clock is made up, and a server's is not: that they differ is not what is tested here
CLOCK = {"tolerance": "100000h"}
POLICY = parse_guard({"mode": "act", "alerts": ["TooManyErrors"], "clock": CLOCK}, SERVICE)
ALARM = Trigger(ALERT, "TooManyErrors", "fingerprint-and-start")


class Killer:
    """Counts the points that it passes, and kills this process at one of them (0: at none)."""

    def __init__(self, nth: int = 0) -> None:
        self.nth = nth
        self.passed: List[str] = []

    def __call__(self, point: str) -> None:
        self.passed.append(point)
        if len(self.passed) == self.nth:
            os.kill(os.getpid(), signal.SIGKILL)


class WatchedStore:
    """A store whose every write passes three points: before it, with its work done, and when it is kept."""

    def __init__(self, store: Store, point: Callable[[str], None]) -> None:
        self._store, self._point = store, point

    def write(self, work: Callable[[Rows], T]) -> T:
        def watched(rows: Rows) -> T:
            result = work(rows)
            self._point("written, not kept")
            return result

        self._point("to be written")
        result = self._store.write(watched)
        self._point("kept")
        return result

    def read(self, work: Callable[[Rows], T]) -> T:
        return self._store.read(work)

    def close(self) -> None:
        self._store.close()


class Controller:
    """One controller at one time. `opened` gives the real ledger anew; it is closed with the controller."""

    def __init__(
        self, opened: Callable[[], Ledger], places: Mapping[str, Place], *, name: str, now: float, nth: int = 0
    ) -> None:
        self.killer = Killer(nth)
        real: Any = opened()
        self.ledger = Book(WatchedStore(real._store, self.killer))
        self.places, self.name, self.now = places, name, now

    def run(self) -> str:
        """Settle what is left, then answer the alert; what came of it in one word."""
        with closing(self.ledger):
            settled = self.settle()
            return settled or self.answer()

    def settle(self) -> str:
        for due in rollouts.find(self.ledger, on_interrupt="undo", now=self.now, service=SERVICE):
            if due.action != rollouts.UNDO:
                return due.action
            try:
                taken, lease = rollouts.take_over(
                    self.ledger, due.rollout.id, holder=self.name, actor="guard", ttl=TTL, now=self.now
                )
            except LeaseError:
                return "taken"
            return self.back(taken, lease)
        return ""

    def answer(self) -> str:
        current = {name: place.current() for name, place in self.places.items()}
        accused = BAD if BAD in current.values() else GOOD
        before = {name: GOOD for name, release in current.items() if release == BAD}
        request = Request(
            f"{self.name}-{len(self.ledger.last_rollouts())}",
            SERVICE,
            ROLLBACK,
            ALARM,
            "guard",
            # when nothing is bad any more, a real source would not confirm it: here it does, to ask the guard alone
            Situation(True, accused, GOOD, self.now - 600.0, "", len(self.places), 10),
        )
        intent = {"action": ROLLBACK, "fleet": list(self.places), "before": before}
        opens = Rollout("", SERVICE, BAD, ROLLBACK, OPEN, 0, self.now, self.now, intent)
        grant = self.ledger.decide(request, POLICY, holder=self.name, ttl=TTL, now=self.now, opens=opens)
        if grant.lease is None or grant.rollout is None:
            return grant.decision.reason
        return self.back(grant.rollout, grant.lease)

    def back(self, rollout: Rollout, lease: Lease) -> str:
        before: Any = rollout.intent["before"]
        results: Dict[str, Dict[str, object]] = {}
        for name, target in before.items():
            intent = {"rollout": rollout.id, "place": name, "state": "known_good"}
            self.ledger.append(SERVICE, "action", "guard", intent, self.now, lease)
            outcome = self.places[name].do(
                state="known_good",
                release=rollout.release,
                to=target,
                mark_bad="its gates are bad",
                rollout=rollout.id,
                token=lease.token,
                checkpoint=self.killer,
            )
            results[name] = {"changed": outcome.changed, "current": outcome.current}
            told = {"rollout": rollout.id, "place": name, "ok": True, **results[name]}
            self.ledger.append(SERVICE, "outcome", "guard", told, self.now)
        left = rollouts.unresolved(self.ledger, rollout, results)
        ended = {"places": results, "verified": {"verdict": "recovered"}, "left": list(left)}
        rollouts.close(self.ledger, lease, rollout.id, state=DONE, outcome=ended, actor="guard", now=self.now)
        return "done"


def in_a_child(work: Callable[[], object]) -> Optional[int]:
    """Run it in a forked process; the signal that ended it, or None. Whatever it raises ends the test."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    ended = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(ended):
        return os.WTERMSIG(ended)
    if os.WEXITSTATUS(ended):
        raise RuntimeError("the controller broke: its traceback is in the output above")
    return None
