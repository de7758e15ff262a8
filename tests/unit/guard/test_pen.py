# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered is the entries' doing, whoever looks: at once, later, or out of the notes of a checkpoint."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, List

import pytest
from guard_turns import NOW, SERVICES, decided, in_turns, remembered
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import sqlite as under_test


@pytest.mark.parametrize("lag", [0, 1, 7, 128])
@pytest.mark.parametrize("seed", range(6))
def test_controllers_in_turns_know_what_a_new_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lag: int, seed: int
) -> None:
    monkeypatch.setattr(under_test._Rows, "lag", lag)
    path = str(tmp_path / "ledger.sqlite")
    in_turns(lambda: SqliteLedger(path), str(tmp_path / "always.sqlite"), seed, rounds=120)


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
