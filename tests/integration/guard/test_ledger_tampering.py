# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever can write to a store behind the ledger's back is found out, and a store that is broken refuses a decision."""

from __future__ import annotations

import itertools
import re
from contextlib import closing
from typing import Any, Callable, Dict, List

import guard_load as load
import pytest
from stores import Kept, Row, Serving

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Grant
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger

SHOP = "production/service-00"
NOW = 1_790_000_000.0
_NUMBERS = itertools.count(1)


def decided(ledger: Ledger, now: float) -> Grant:
    policy = load.policy(SHOP, cooldown=100, window=900, max_actions=3)
    request = load.request(f"t{next(_NUMBERS)}", SHOP, now)
    return ledger.decide(request, policy, holder="run", ttl=30, now=now, opens=load.action(SHOP))


@pytest.fixture
def kept(serve: Serving) -> Kept:
    """A ledger with an action that failed, so that the breaker is open, and a denial: nine entries."""
    kept = serve()
    ledger = kept.open()
    grant = decided(ledger, NOW)
    assert grant.lease is not None and grant.rollout is not None
    ledger.set_state(grant.lease, grant.rollout.id, "undone", {"ok": False}, "run", NOW + 1)
    ledger.release(grant.lease, NOW + 2)
    assert decided(ledger, NOW + 3).decision.reason == "breaker_open"
    ledger.append(SHOP, "note", "ada", {"text": "looked into it"}, NOW + 4)
    assert (ledger.verify(ledger.head()), len(ledger.entries())) == (None, 9)
    ledger.close()
    return kept


def verified(kept: Kept, head: str = "") -> str:
    ledger = kept.open()
    try:
        return str(ledger.verify(head))
    finally:
        ledger.close()


def head_of(kept: Kept) -> str:
    ledger = kept.open()
    head = ledger.head()
    ledger.close()
    return head


def edited(rows: List[Row]) -> List[Row]:
    return [{**row, "actor": "eve"} if row["seq"] == 4 else row for row in rows]


def edited_inside(rows: List[Row]) -> List[Row]:
    return [{**row, "body": {**row["body"], "action": "rollback"}} if row["seq"] == 2 else row for row in rows]


def deleted(rows: List[Row]) -> List[Row]:
    return [row for row in rows if row["seq"] != 5]


def beheaded(rows: List[Row]) -> List[Row]:
    return rows[2:]


def reordered(rows: List[Row]) -> List[Row]:
    first, second = rows[5], rows[6]
    return [*rows[:5], {**second, "seq": first["seq"]}, {**first, "seq": second["seq"]}, *rows[7:]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (edited, "Entry 4 was changed after it had been written."),
        (edited_inside, "Entry 2 was changed after it had been written."),
        (deleted, "Entry 5 is missing: entry 6 follows entry 4."),
        (beheaded, "Entry 1 is missing: entry 3 follows entry 0."),
        (reordered, "Entry 6 does not follow entry 5: it names another hash before it."),
    ],
)
def test_an_entry_that_was_edited_deleted_or_moved_is_named(
    kept: Kept, change: Callable[[List[Row]], List[Row]], told: str
) -> None:
    kept.edit("entry", change)
    assert verified(kept) == told


def test_entries_that_were_cut_off_show_against_the_exported_head(kept: Kept) -> None:
    head = head_of(kept)
    kept.edit("entry", lambda rows: rows[:-1])
    assert verified(kept) == "None"  # a note is nothing that anything else leans on
    assert f"The chain ends at entry 8 without the head {head[:12]}" in verified(kept, head)


def test_a_decision_that_was_cut_off_shows_in_what_is_remembered(kept: Kept) -> None:
    kept.edit("entry", lambda rows: rows[:4])
    assert verified(kept) != "None"


def rebuilt(rows: List[Row]) -> List[Row]:
    """The whole chain anew, with another text in the last entry: every hash is right."""
    prev, found = chain.GENESIS, []
    for row in rows:
        body = {"text": "nothing was wrong"} if row is rows[-1] else row["body"]
        told = {name: row[name] for name in ("service", "kind", "actor")}
        entry = chain.link(row["seq"], prev, at=row["at"], body=body, **told)
        prev = entry.hash
        found.append({**row, **vars(entry)})
    return found


def test_a_chain_that_was_rebuilt_shows_against_the_exported_head(kept: Kept) -> None:
    head = head_of(kept)
    kept.edit("entry", rebuilt)
    assert head_of(kept) != head
    assert verified(kept) == "None"
    assert f"without the head {head[:12]}" in verified(kept, head)


def altered(kept: Kept, key: str, **changed: object) -> None:
    def change(rows: List[Row]) -> List[Row]:
        assert key in [row["key"] for row in rows]
        return [{**row, "value": {**row["value"], **changed}} if row["key"] == key else row for row in rows]

    kept.edit("note", change)


def test_a_breaker_that_was_closed_by_hand_is_found(kept: Kept) -> None:
    altered(kept, f"memory:{SHOP}", failures=0, failed_at=None)
    assert verified(kept) == (
        f"What the guard remembers of {SHOP} is not what the entries say: it was changed behind the ledger."
    )


def test_what_is_remembered_of_all_services_is_held_against_the_chain_too(kept: Kept) -> None:
    altered(kept, "memory:", acted={})
    assert "What the guard remembers of all services together is not what the entries say" in verified(kept)


def test_a_memory_of_a_service_that_never_was_is_found(kept: Kept) -> None:
    def forged(rows: List[Row]) -> List[Row]:
        found: Dict[str, Any] = {row["key"]: row for row in rows}
        return [*rows, {**found[f"memory:{SHOP}"], "key": "memory:production/other"}]

    kept.edit("note", forged)
    assert "What the guard remembers of production/other is not" in verified(kept)


def test_a_trigger_that_is_made_to_look_new_is_found(kept: Kept) -> None:
    kept.forget_told()
    assert re.fullmatch(
        rf"What was decided about the trigger '\S+' of {SHOP} is not found as the entries say it: "
        "it was changed behind the ledger.",
        verified(kept),
    )


def test_a_checkpoint_that_was_moved_is_found(kept: Kept) -> None:
    with closing(kept.open()) as ledger:
        seq = ledger.note("checkpoint")["seq"]
    altered(kept, "checkpoint", seq=2)
    assert f"What the guard remembers of {SHOP} is not what the entries say" in verified(kept)
    altered(kept, "checkpoint", seq=seq + 90)
    assert f"to be that of entry {seq + 90}, which there is none of" in verified(kept)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"intent": {"action": "restart", "places": ["db1"]}}, "The intent of rollout t{} is not the one"),
        ({"service": "production/other"}, "The intent of rollout t{} is not the one"),
        ({"release": "9.9"}, "The intent of rollout t{} is not the one"),
        ({"state": "open"}, "Rollout t{} is open, but the last entry about it says undone."),
    ],
)
def test_a_rollout_that_was_altered_is_named(kept: Kept, changed: Row, told: str) -> None:
    names: List[str] = []

    def change(rows: List[Row]) -> List[Row]:
        names.extend(row["id"] for row in rows)
        return [{**row, **changed} for row in rows]

    kept.edit("rollout", change)
    assert verified(kept).startswith(told.format(names[0][1:]))


def test_a_rollout_that_was_removed_is_missed(kept: Kept) -> None:
    kept.edit("rollout", lambda rows: [])
    assert "was recorded and is gone" in verified(kept)


# --- stores that are broken


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("locked", "is locked by another"),
        ("full", "disk is full"),
        ("denied", r"read-only|denies the right|forbidden|cannot update"),
        ("corrupted", r"cannot be read|is corrupt"),
        ("unreachable", r"cannot be opened|cannot be reached|refused|could not be asked|not answer"),
        ("of_another_version", "has layout version 99, and this release knows version"),
    ],
)
def test_a_broken_store_refuses_a_decision_and_nothing_is_changed(kept: Kept, fault: str, told: str) -> None:
    breaking = getattr(kept, fault, None)
    if breaking is None:
        return  # an API server knows no locks, and its disk is tested with its quota in test_kubernetes_store.py
    before = state(kept.open())
    with breaking() as opened:
        for _turn in range(2):
            with pytest.raises(StoreError, match=told) as caught:
                decided(opened(), NOW + 5)
            assert "hunter2" not in str(caught.value) and "adm1n" not in str(caught.value)
    ledger = kept.open()
    assert state(ledger) == before
    assert decided(ledger, NOW + 6).decision.reason == "breaker_open"
    assert ledger.verify() is None


def state(ledger: Ledger) -> List[object]:
    return [
        ledger.verify(),
        ledger.entries(),
        ledger.last_rollouts(),
        ledger.leases(NOW + 5),
        ledger.memory(SHOP),
        ledger.fleet(),
        ledger.counters(),
    ]
