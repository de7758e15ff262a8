# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of the race: decides on triggers as fast as it can, and proves on the side what it was allowed.

Called with JSON: the ledger's options, a folder of witnesses, this racer's number, how many triggers, and the policy's
figures. It prints, as JSON, when each action that it was allowed was decided, and how long the slowest decision took.

A witness is a file for each service that only its actor may have made: it proves overlap without the ledger's help.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from typing import Any, Callable, Dict, List, TypeVar

import guard_load as load

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Grant
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

T = TypeVar("T")
TTL = 60.0
PATIENCE = 60.0  # seconds


class Racer:
    """A caller as a controller is one: what the store could not write because others were faster, is tried again."""

    def __init__(self) -> None:
        self.tries: Counter[str] = Counter()

    def patiently(self, work: Callable[[], T]) -> T:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return work()
            except StoreError as error:
                if error.details.get("written") == "unknown" or time.monotonic() > until:
                    raise
                self.tries["again"] += 1

    def act(self, ledger: Ledger, grant: Grant, witness: str) -> None:
        """What an allowed action does: it is alone on its service, writes what it does, and says how it ended."""
        lease, rollout = grant.lease, grant.rollout
        assert lease is not None and rollout is not None
        os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
        body = {"rollout": rollout.id, "place": "web1"}
        self.patiently(lambda: ledger.append(lease.service, "action", lease.holder, body, time.time(), lease))
        os.unlink(witness)
        self.patiently(lambda: ledger.set_state(lease, rollout.id, "done", {"ok": True}, lease.holder, time.time()))
        self.patiently(lambda: ledger.release(lease, time.time()))


def race(told: Dict[str, Any]) -> Dict[str, Any]:
    racer, me = Racer(), f"racer {told['racer']}"
    ledger = racer.patiently(lambda: open_ledger(told["options"], environ={}))
    policies = {service: load.policy(service, **told["policy"]) for service in load.SERVICES}
    allowed: List[List[object]] = []
    answers: Counter[str] = Counter()
    slowest, begun = 0.0, time.monotonic()
    for number in range(told["triggers"]):
        service = load.SERVICES[(number + told["racer"]) % len(load.SERVICES)]
        asked: List[float] = []

        def decide(number: int = number, service: str = service, asked: List[float] = asked) -> Grant:
            asked.append(time.time())  # the time of the decision is that of the try that was kept
            request = load.request(f"{told['racer']}-{number}", service, asked[-1])
            return ledger.decide(
                request, policies[service], holder=me, ttl=TTL, now=asked[-1], opens=load.action(service)
            )

        started = time.monotonic()
        grant = racer.patiently(decide)
        slowest = max(slowest, time.monotonic() - started)
        answers[grant.decision.reason or grant.decision.verdict] += 1
        if grant.decision.allowed:
            allowed.append([service, asked[-1]])
            racer.act(ledger, grant, f"{told['witnesses']}/{service.replace('/', '_')}")
    took = time.monotonic() - begun
    ledger.close()
    return {"allowed": allowed, "answers": answers, "slowest": slowest, "took": took, **racer.tries}


def stopped(told: Dict[str, Any]) -> Dict[str, Any]:
    """Begin an action under a short lease, say so, and go on when somebody lets it: by then it is too late."""
    ledger = open_ledger(told["options"], environ={})
    service = load.SERVICES[0]
    policy = load.policy(service, **told["policy"])
    request = load.request("stopped", service, time.time())
    grant = ledger.decide(
        request, policy, holder="stopped", ttl=told["ttl"], now=time.time(), opens=load.action(service)
    )
    lease = grant.lease
    assert lease is not None
    print(json.dumps({"expires": lease.expires}), flush=True)
    sys.stdin.readline()
    refused = []
    for what in (
        lambda: ledger.renew(lease, TTL, time.time()),
        lambda: ledger.save_progress(lease, "stopped", {"step": 1}, time.time()),
        lambda: ledger.append(service, "action", "stopped", {"place": "web1"}, time.time(), lease),
        lambda: ledger.set_state(lease, "stopped", "done", {"ok": True}, "stopped", time.time()),
    ):
        try:
            what()
        except LeaseError as error:
            refused.append(error.what)
    ledger.close()
    return {"refused": refused}


if __name__ == "__main__":
    wanted: Dict[str, Any] = json.loads(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps({"race": race, "stopped": stopped}[wanted["mode"]](wanted)))
