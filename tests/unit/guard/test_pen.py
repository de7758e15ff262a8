# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered is the entries' doing, whoever looks: at once, later, or out of the notes of a checkpoint."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import guard_load as load
import pytest
from guard_turns import NOW, SERVICES, decided, in_turns, remembered
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import sqlite as under_test
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Decision
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger


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
            """INSERT INTO note VALUES ('checkpoint', '{"seq":900}')""",
            "the guard remembers entry 900, and there is none after",
        ),
        ("""INSERT INTO note VALUES ('checkpoint', '{"seq":"1"}')""", "it cannot be read which entries"),
        (
            """INSERT INTO note VALUES ('memory:production/service-00', '{"failures":1}')""",
            "it is not said which entries",
        ),
        (
            """UPDATE entry SET body = replace(body, '"allowed"', '"denied"') WHERE kind = 'decision'""",
            r"entry \d+ is not what was written",
        ),
    ],
)
def test_a_guard_whose_memory_hangs_on_what_was_changed_decides_nothing(tmp_path: Path, sql: str, told: str) -> None:
    path = tmp_path / "ledger.sqlite"
    filled(path, 4).close()
    change(path, sql)
    with closing(SqliteLedger(str(path))) as ledger:
        before = ledger.head()
        with pytest.raises(StoreError, match=told):
            decided(ledger, "new", SERVICES[0], NOW + 10)
        with pytest.raises(StoreError, match=told):
            rehearsed(ledger)
        assert ledger.head() == before
        # who looks for what went wrong is shown what there is
        assert set(remembered(ledger)) == {"memories", "fleet", "counters", "owed", "services"}
        with pytest.raises(StoreError, match=told):
            rehearsed(ledger)


def rehearsed(ledger: Ledger) -> Decision:
    policy = load.policy(SERVICES[0], cooldown=20, window=900, max_actions=3)
    return ledger.check(load.request("new", SERVICES[0], NOW + 10), policy, now=NOW + 10, record=False)


def test_what_was_done_to_other_entries_stops_no_undo_no_pause_and_no_lease(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(SqliteLedger(str(path))) as ledger:
        grant = decided(ledger, "ours", SERVICES[0], NOW)
        ledger.append(SERVICES[1], "note", "ada", {}, NOW)
    change(path, "UPDATE entry SET body = '{' WHERE kind = 'note'")
    for number in range(300):
        with closing(SqliteLedger(str(path))) as ledger:
            ledger.append(SERVICES[0], "action", "run", {"number": number}, NOW + 1)
    with closing(SqliteLedger(str(path))) as ledger:
        assert grant.lease is not None
        ledger.set_state(grant.lease, "ours", "undone", {"ok": True}, "run", NOW + 2)
        ledger.release(grant.lease, NOW + 3)
        ledger.pause(SERVICES[0], "ada", "look", None, NOW + 4)
        ledger.acquire(SERVICES[2], "run", 30, NOW + 5)
        with pytest.raises(StoreError, match="cannot be read"):
            decided(ledger, "new", SERVICES[0], NOW + 10)
    change(path, "UPDATE entry SET body = '{}' WHERE kind = 'note'")
    with closing(SqliteLedger(str(path))) as ledger:
        assert ledger.verify() is None
        assert ledger.memory(SERVICES[0]).pause is not None and ledger.memory(SERVICES[0]).running is None


def test_a_decision_that_pages_is_owed_until_it_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite")
    with closing(SqliteLedger(path)) as ledger, closing(SqliteLedger(path)) as other:
        request = load.request("t0", SERVICES[0], NOW)
        unknown = replace(request, trigger=replace(request.trigger, name="Unheard"))
        policy = load.policy(SERVICES[0], cooldown=20, window=900, max_actions=3)
        assert ledger.check(unknown, policy, now=NOW).page
        assert list(ledger.owed()) == list(other.owed()) == ["t0"]
        other.told(["t0"])
        assert not ledger.owed() and not other.owed()


def test_what_is_removed_with_entries_that_no_note_told_is_not_forgotten(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite")
    with closing(SqliteLedger(path)) as ledger:
        for number in range(3):
            decided(ledger, f"t{number}", SERVICES[number], NOW + number)
        for unfinished in ledger.unfinished():
            lease = ledger.acquire(unfinished.service, "x", 30, NOW + 99)
            ledger.set_state(lease, unfinished.id, "done", {"ok": True}, "run", NOW + 99)
        for number in range(3):
            ledger.pause(SERVICES[0], "ada", f"{number}", None, NOW + 120 + number)
        before = remembered(ledger)
        assert ledger.prune(NOW + 1000, ledger.head(), "ada", NOW + 1000) is not None
        with closing(SqliteLedger(path)) as new:
            assert remembered(ledger) == remembered(new) == before and new.verify() is None


@pytest.mark.parametrize("more", [0, 1, 3])
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
                decided(other, f"m{number}", SERVICES[3], NOW + 30 + number)
            assert remembered(ledger) == remembered(other) != before
        assert ledger.verify() is None


def test_what_was_refused_is_forgotten(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite")
    with closing(SqliteLedger(path)) as ledger, closing(SqliteLedger(path)) as other:
        grant = decided(ledger, "a1", SERVICES[0], NOW)
        assert grant.lease is not None
        ledger.set_state(grant.lease, "a1", "done", {"ok": True}, "run", NOW + 1)
        before = remembered(ledger)
        with pytest.raises(DeliveryError, match="There has been a rollout a1 before"):
            decided(ledger, "a1", SERVICES[1], NOW + 2)
        assert remembered(ledger) == remembered(other) == before


def test_two_triggers_stay_two_although_their_users_are_not_kept(tmp_path: Path) -> None:
    """A user's name in a URL is not kept; two ids that differ only there are two all the same."""
    with closing(SqliteLedger(str(tmp_path / "ledger.sqlite"))) as ledger:
        first, second = (f"https://{user}@jenkins/job/7" for user in ("ann", "bob"))
        for ident, service, reason in ((first, 0, ""), (second, 0, "cooldown"), (first, 0, "duplicate")):
            grant = decided(ledger, f"d{reason}", SERVICES[service], NOW + 40, id=ident)
            assert grant.decision.reason == reason
            if grant.lease is not None:
                ledger.set_state(grant.lease, f"d{reason}", "done", {"ok": True}, "run", NOW + 41)
                ledger.release(grant.lease, NOW + 42)
        assert ledger.verify() is None
        assert not any("ann" in str(entry.body) or "bob" in str(entry.body) for entry in ledger.all_entries())
