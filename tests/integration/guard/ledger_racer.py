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
from typing import Any, Dict, List

import guard_load as load

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Grant
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

TTL = 60.0


def act(ledger: Ledger, grant: Grant, witness: str) -> None:
    """What an allowed action does: it is the only one on its service, writes what it does, and says how it ended."""
    lease, rollout = grant.lease, grant.rollout
    assert lease is not None and rollout is not None
    os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
    ledger.append(lease.service, "action", lease.holder, {"rollout": rollout.id, "place": "web1"}, time.time(), lease)
    os.unlink(witness)
    ledger.set_state(lease, rollout.id, "done", {"ok": True}, lease.holder, time.time())
    ledger.release(lease, time.time())


def race(told: Dict[str, Any]) -> Dict[str, Any]:
    ledger, me = open_ledger(told["options"], environ={}), f"racer {told['racer']}"
    policies = {service: load.policy(service, **told["policy"]) for service in load.SERVICES}
    allowed: List[List[object]] = []
    answers: Counter[str] = Counter()
    slowest, begun = 0.0, time.monotonic()
    for number in range(told["triggers"]):
        service = load.SERVICES[(number + told["racer"]) % len(load.SERVICES)]
        at = time.time()
        request = load.request(f"{told['racer']}-{number}", service, at)
        started = time.monotonic()
        try:
            grant = ledger.decide(request, policies[service], holder=me, ttl=TTL, now=at, opens=load.action(service))
        finally:
            slowest = max(slowest, time.monotonic() - started)
        answers[grant.decision.reason or grant.decision.verdict] += 1
        if grant.decision.allowed:
            allowed.append([service, at])
            act(ledger, grant, f"{told['witnesses']}/{service.replace('/', '_')}")
    took = time.monotonic() - begun
    ledger.close()
    return {"allowed": allowed, "answers": answers, "slowest": slowest, "took": took}


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
