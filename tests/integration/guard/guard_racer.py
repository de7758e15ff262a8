# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of the race and kill tests: uses a ledger as an action would, and proves on the side what it was given.

Called with the ledger's path, a mode, a folder of its own to prove things in, and how often.
"""

from __future__ import annotations

import os
import sys
import time

from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout

SERVICE = "prod/shop"
TTL = 60.0


def race(ledger: SqliteLedger, witness: str, times: int) -> None:
    """Take and give back the lease `times` times; while it is held nobody else may be able to create the witness."""
    me, taken = f"racer {os.getpid()}", 0
    while taken < times:
        try:
            lease = ledger.acquire(SERVICE, me, TTL, time.time())
        except LeaseError:
            continue
        os.close(os.open(witness, os.O_CREAT | os.O_EXCL))
        ledger.append(SERVICE, "note", me, {"token": lease.token}, time.time(), lease)
        os.unlink(witness)
        ledger.release(lease, time.time())
        taken += 1


def roll(ledger: SqliteLedger, _witness: str, times: int) -> None:
    """Roll out again and again, and print the chain's head after each write that was acknowledged."""
    for number in range(times):
        lease = forced(ledger)
        print(ledger.head(), flush=True)
        for left in ledger.unfinished(SERVICE):
            ledger.set_state(lease, left.id, "undone", {"by": "the next run"}, "racer", time.time())
            print(ledger.head(), flush=True)
        name = f"{os.getpid()}-{number}"
        ledger.open_rollout(
            lease, Rollout(name, SERVICE, "2.0", "canary", "", 0, 0, 0, {"n": number}), "racer", time.time()
        )
        print(ledger.head(), flush=True)
        ledger.say(SERVICE, "hold", "ada", "", time.time())
        for look in range(3):
            ledger.look(lease, name, {"look": look, "state": ["x" * 200] * 20}, ttl=TTL, now=time.time())
        ledger.set_state(lease, name, "done", {"n": number}, "racer", time.time())
        print(ledger.head(), flush=True)
        ledger.release(lease, time.time())


def forced(ledger: SqliteLedger) -> Lease:
    """The lease, also from a holder that was killed: this test's clock is then past its expiry."""
    held = ledger.holder(SERVICE, time.time())
    return ledger.acquire(SERVICE, f"racer {os.getpid()}", TTL, held.expires if held else time.time())


if __name__ == "__main__":
    path, mode, witness_path, count = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    {"race": race, "roll": roll}[mode](SqliteLedger(path), witness_path, int(count))
