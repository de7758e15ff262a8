# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several controllers on one ledger, each with what it knows from before, that must know what a new one reads."""

from __future__ import annotations

import random
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any, Callable, Dict

import guard_load as load
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger

SERVICES = load.SERVICES[:4]
NOW = 1_790_000_000.0


def remembered(ledger: Ledger) -> Dict[str, Any]:
    """All that the guard goes by."""
    return {
        "memories": {service: ledger.memory(service).as_dict() for service in SERVICES},
        "fleet": ledger.fleet().as_dict(),
        "counters": ledger.counters(),
        "owed": ledger.owed(),
        "services": ledger.services(),
    }


def decided(ledger: Ledger, name: str, service: str, now: float, **trigger: Any) -> Any:
    policy = load.policy(service, cooldown=20, window=900, max_actions=3)
    request = load.request(name, service, now)
    request = replace(request, trigger=replace(request.trigger, **trigger))
    return ledger.decide(request, policy, holder="run", ttl=30, now=now, opens=load.action(service))


def something(ledger: Ledger, dice: random.Random, number: int) -> None:
    """One thing that a controller or a person may do; some of them are refused."""
    service, now, what = dice.choice(SERVICES), NOW + 5 * number, dice.randrange(12)
    known = [entry for entry in ledger.last_entries(service, 5) if entry.kind == "decision"]
    if what < 5:
        grant = decided(ledger, f"t{number}", service, now)
        if grant.lease is not None and dice.random() < 0.8:
            end, well = dice.choice(("done", "undone")), dice.random() < 0.5
            ledger.set_state(grant.lease, f"t{number}", end, {"ok": well}, "run", now + 1)
            ledger.release(grant.lease, now + 2)
    elif what == 5 and known:  # again: counted, and no entry
        decided(ledger, str(known[0].body["trigger"]), service, now)
    elif what == 6 and known:  # it is over
        decided(ledger, str(known[0].body["trigger"]), service, now, active=False)
    elif what == 7:
        ledger.pause(dice.choice([service, ""]), "ada", "lunch", now + 30, now)
    elif what == 8:
        ledger.unpause(service, "ada", "back", now)
    elif what == 9:
        ledger.told(list(ledger.owed())[:1])
    elif what == 10:
        ledger.append(service, "note", "ada", {"number": number}, now)
    elif what == 11 and number % 3 == 0:
        ledger.prune(now - 200, ledger.head(), "ada", now)


def in_turns(opener: Callable[[], Ledger], other: str, seed: int, rounds: int) -> None:
    """`rounds` of `something` by three controllers in turns, and the same by one alone on SQLite at `other`.

    Whoever is asked knows the same, and the entries say the same.
    """
    dice = random.Random(seed)
    with ExitStack() as ending:
        several = [ending.enter_context(closing(opener())) for _each in range(3)]
        alone = ending.enter_context(closing(SqliteLedger(other)))
        for number in range(rounds):
            turn = dice.randrange(2**32)
            refusals = [refusal(ledger, turn, number) for ledger in (dice.choice(several), alone)]
            assert refusals[0] == refusals[1]
            if number % 4 == 0:
                assert remembered(dice.choice(several)) == remembered(alone)
        with closing(opener()) as new:
            assert remembered(new) == remembered(alone) == remembered(several[0]) == remembered(several[1])
            assert new.verify() is None and alone.verify() is None
            assert [entry.body for entry in new.all_entries()] == [entry.body for entry in alone.all_entries()]


def refusal(ledger: Ledger, turn: int, number: int) -> str:
    try:
        something(ledger, random.Random(turn), number)
    except DeliveryError as error:
        return error.message
    return ""
