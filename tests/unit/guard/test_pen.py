# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered is the entries' doing, whoever looks: at once, later, or out of the notes of a checkpoint."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import guard_load as load
import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import sqlite as under_test
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


@pytest.mark.parametrize("lag", [0, 1, 7, 128])
@pytest.mark.parametrize("seed", range(6))
def test_controllers_in_turns_know_what_a_new_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: int, seed: int
) -> None:
    dice = random.Random(seed)
    paths = [str(tmp_path / "ledger.sqlite"), str(tmp_path / "always.sqlite")]
    with ExitStack() as ending:
        several = [ending.enter_context(closing(SqliteLedger(paths[0]))) for _each in range(3)]
        always = ending.enter_context(closing(SqliteLedger(paths[1])))
        for number in range(120):
            turn = dice.randrange(2**32)
            refusals: List[str] = []
            for ledger, its in ((dice.choice(several), lag), (always, 0)):
                monkeypatch.setattr(under_test._Rows, "lag", its)
                try:
                    something(ledger, random.Random(turn), number)
                except DeliveryError as refusal:
                    refusals.append(refusal.message)
            assert len(set(refusals)) <= 1 and len(refusals) in (0, 2), refusals
            if number % 4 == 0:
                assert remembered(dice.choice(several)) == remembered(always)
        with closing(SqliteLedger(paths[0])) as new:
            assert remembered(new) == remembered(always) == remembered(several[0]) == remembered(several[1])
            assert new.verify() is None and always.verify() is None
            assert [entry.body for entry in new.all_entries()] == [entry.body for entry in always.all_entries()]


def filled(path: Path, count: int) -> SqliteLedger:
    ledger = SqliteLedger(str(path))
    for number in range(count):
        decided(ledger, f"t{number}", SERVICES[number % 2], NOW + number)
    return ledger


def change(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)


def test_the_notes_are_written_seldom_and_never_further_back_than_said(tmp_path: Path) -> None:
    with closing(filled(tmp_path / "ledger.sqlite", 2)) as ledger:
        notes = []
        for number in range(200):
            ledger.append(SERVICES[0], "note", "ada", {}, NOW)
            decided(ledger, f"t{number + 2}", SERVICES[number % 3], NOW + 2 + number)
            seq = ledger.note("checkpoint").get("seq", 0)
            notes.append(seq)
            assert 0 <= ledger.last_entries("", 1)[0].seq - int(str(seq)) <= under_test._Rows.lag
        assert 3 <= len(set(notes)) <= 8


def test_who_only_adds_what_nobody_remembers_does_not_leave_the_notes_behind(tmp_path: Path) -> None:
    with closing(filled(tmp_path / "ledger.sqlite", 2)) as ledger:
        for _each in range(300):
            with closing(SqliteLedger(ledger._store.path)) as other:  # type: ignore[attr-defined]
                other.append(SERVICES[0], "note", "ada", {}, NOW)
        behind = ledger.last_entries("", 1)[0].seq - int(str(ledger.note("checkpoint")["seq"]))
        assert behind <= 2 * under_test._Rows.lag and ledger.verify() is None


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DELETE FROM entry WHERE seq = 3", "no entry 3 follows entry 2"),
        ("UPDATE entry SET prev = 'x' WHERE seq = 3", "no entry 3 follows entry 2"),
        ("UPDATE entry SET body = '{' WHERE seq = 3", "Entry 3 in the ledger .* was changed: it cannot be read"),
        (
            """INSERT INTO note VALUES ('checkpoint', '{"number":1,"seq":900}')""",
            "the guard remembers entry 900, and there is none after",
        ),
    ],
)
def test_a_guard_whose_memory_hangs_on_what_was_changed_decides_nothing(tmp_path: Path, sql: str, told: str) -> None:
    path = tmp_path / "ledger.sqlite"
    filled(path, 4).close()
    change(path, sql)
    with closing(SqliteLedger(str(path))) as ledger:
        count = len(seqs(path))
        with pytest.raises(StoreError, match=told):
            decided(ledger, "new", SERVICES[0], NOW + 10)
        assert len(seqs(path)) == count


def seqs(path: Path) -> List[Any]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT seq FROM entry").fetchall()


@pytest.mark.parametrize("more", [0, 3])
def test_a_ledger_that_was_put_back_is_read_anew(tmp_path: Path, more: int) -> None:
    path, copy = tmp_path / "ledger.sqlite", tmp_path / "copy.sqlite"
    with closing(filled(path, 4)) as ledger:
        change(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(path, copy)
        decided(ledger, "lost", SERVICES[2], NOW + 20)
        before = remembered(ledger)
        # as a restore does, with whoever has it open
        with closing(sqlite3.connect(copy)) as older, closing(sqlite3.connect(path)) as newer:
            older.backup(newer)
        with closing(SqliteLedger(str(path))) as other:
            for number in range(more):
                decided(other, f"m{number}", SERVICES[0], NOW + 30 + number)
            assert remembered(ledger) == remembered(other) != before
        assert ledger.verify() is None


def test_what_was_refused_is_forgotten(tmp_path: Path) -> None:
    with (
        closing(filled(tmp_path / "ledger.sqlite", 4)) as ledger,
        closing(SqliteLedger(str(tmp_path / "ledger.sqlite"))) as other,
    ):
        grant = decided(other, "a1", SERVICES[3], NOW + 50)
        assert grant.lease is not None
        before = remembered(ledger)
        with pytest.raises(DeliveryError, match="There has been a rollout a1 before"):
            other.release(grant.lease, NOW + 51)
            other.set_state(
                other.acquire(SERVICES[3], "run", 30, NOW + 51), "a1", "done", {"ok": True}, "run", NOW + 52
            )
            decided(ledger, "a1", SERVICES[2], NOW + 60)
        after = remembered(ledger)
        assert after["memories"][SERVICES[2]] == before["memories"][SERVICES[2]]
        assert after == remembered(other)
