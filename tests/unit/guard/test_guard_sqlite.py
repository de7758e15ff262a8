# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite ledger's file, and every way in which it can be wrong; what all stores do is in test_ledger_stores.py."""

from __future__ import annotations

import multiprocessing
import os
import random
import sqlite3
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    OptionError,
    StoreError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import files
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.chain import link
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.store import Rows

pytestmark = pytest.mark.filterwarnings("error::DeprecationWarning:ansible_collections")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(str(path), busy_timeout=0.05)
    yield ledger
    ledger.close()


def test_it_keeps_the_protocol(ledger: Ledger) -> None:
    kept: Ledger = ledger
    assert kept.unfinished() == []


def test_the_file_and_its_folder_are_its_owners_alone(ledger: SqliteLedger, path: Path) -> None:
    ledger.acquire("shop", "run", 30, 100.0)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert path.name in {file.name for file in path.parent.iterdir()}


def test_it_is_durable_and_allows_readers_beside_a_writer(ledger: SqliteLedger, path: Path) -> None:
    assert ledger._store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ledger._store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert ledger.unfinished() == []
    writer.close()


def test_a_writer_that_stays_is_reported_as_locked_and_nothing_is_written(ledger: SqliteLedger, path: Path) -> None:
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=rf"The ledger {path} is locked by another process\. Find who has it open"):
        ledger.acquire("shop", "run", 30, 100.0)
    writer.close()
    assert ledger.acquire("shop", "run", 30, 100.0).token == 100


def test_what_it_knows_is_what_the_file_says(ledger: SqliteLedger, path: Path) -> None:
    def told(rows: Rows) -> List[object]:
        return [rows.note("n"), rows.lease("shop"), [one.id for one in rows.unfinished("shop")], rows.newest()]

    def change(rows: Rows) -> None:
        (seq, prev), token = rows.newest(), len(rows.all_entries()) + 1
        rows.put_note("n", {"n": token})
        rows.put_lease(Lease("shop", "ci", token, 1e9 + token))
        for rollout in rows.unfinished("shop"):
            rows.put_rollout(replace(rollout, state="done"))
        rows.add_rollout(Rollout(f"r{token}", "shop", "2.0", "canary", "open", token, 1e9, 1e9))
        rows.add_entry(link(seq + 1, prev, at=1e9, service="shop", kind="note", actor="ada", body={"n": token}))

    def fail(rows: Rows) -> None:
        change(rows)
        raise ValueError

    store = ledger._store
    with closing(SqliteLedger(str(path))) as other:
        for writer in (store, other._store, other._store, store, other._store):
            writer.write(change)
            after = writer.read(told)
            with pytest.raises(ValueError):
                writer.write(fail)
            assert store.read(told) == other._store.read(told) == after
            with closing(SqliteLedger(str(path))) as fresh:
                assert fresh._store.read(told) == after


def test_a_services_entries_are_found_wherever_they_lie(ledger: SqliteLedger) -> None:
    dice, services = random.Random(7), [f"s{number}" for number in range(5)]
    for number in range(300):
        ledger.append(dice.choice(services), "note", "ada", {"number": number}, float(number))

    def compared() -> None:
        every = list(ledger.all_entries())
        for service in (*services, "another"):
            mine = [entry for entry in every if entry.service == service]
            for limit in (1, 7, 1000):
                assert ledger.last_entries(service, limit) == mine[::-1][:limit]
                for after in (0, 100, 140, 141, 290, 300, 400):
                    later = [entry for entry in mine if entry.seq > after]
                    assert ledger.entries(service, after, limit) == later[:limit]

    compared()
    assert ledger.prune(140.0, ledger.head(), "ada", 500.0) is not None
    assert next(iter(ledger.all_entries())).seq > 128
    compared()


def test_a_file_that_may_only_be_read_can_be_read(ledger: SqliteLedger, path: Path) -> None:
    ledger._store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match=rf"The ledger {path} is read-only\. Give the user who runs this the right"):
        ledger.acquire("shop", "run", 30, 100.0)
    assert ledger.holder("shop", 100.0) is None


def broken(path: Path) -> None:
    ledger = SqliteLedger(str(path))
    for number in range(200):
        ledger.append("shop", "note", "ada", {"text": "x" * 200, "number": number}, 100.0)
    ledger.close()
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(path.stat().st_size - 8192 - 4096))


def text(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is no database at all, but a page of text\n" * 100)


def empty(path: Path) -> None:
    path.parent.mkdir()
    path.touch()


def folder(path: Path) -> None:
    path.mkdir(parents=True)


def newer(path: Path) -> None:
    SqliteLedger(str(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE layout SET version = 99")
    raw.close()


def unversioned(path: Path) -> None:
    SqliteLedger(str(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("DELETE FROM layout")
    raw.close()


def not_wal(path: Path) -> None:
    SqliteLedger(str(path)).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA journal_mode = DELETE")
    raw.close()


def everybodys(path: Path) -> None:
    SqliteLedger(str(path)).close()
    path.chmod(0o666)


def dangling(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("nowhere/ledger.sqlite")


def file_as_folder(path: Path) -> None:
    path.parent.touch()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (broken, "is corrupt. Restore a copy"),
        (text, "is not a ledger, or is corrupt. Check the path"),
        (empty, "is an SQLite file but not a ledger. Check the path: another program's file is left alone"),
        (folder, "cannot be opened for writing. Check that this user may write"),
        (newer, "has layout version 99, and this release knows version 4. Use the release of this collection that"),
        (unversioned, "has layout version none, and this release knows version 4"),
        (not_wal, "is in delete mode, not in WAL"),
        (everybodys, "can be written by everybody on this machine, so nothing in it can be believed. Look at who"),
        (dangling, "cannot be opened"),
        (file_as_folder, "failed: [Errno 17] File exists"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_what_to_do(path: Path, spoil: Callable[[Path], None], said: str) -> None:
    spoil(path)
    with pytest.raises(StoreError) as caught:
        SqliteLedger(str(path)).verify()
    assert str(caught.value).startswith(f"The ledger {path} {said}")


def test_a_file_that_vanishes_is_not_silently_begun_anew(path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteLedger(str(path), create=False)
    assert not path.exists()


def test_memory_relative_paths_and_network_file_systems_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="would be forgotten at once"):
        SqliteLedger(":memory:")
    with pytest.raises(OptionError, match=r"'ledger\.sqlite' is not absolute"):
        SqliteLedger("ledger.sqlite")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/export {tmp_path}/shared nfs4 rw 0 0\n")
    monkeypatch.setattr(files, "MOUNTS", str(mounts))
    shared = tmp_path / "shared" / "ledger.sqlite"
    with pytest.raises(StoreError, match="would lie on nfs4, which machines share"):
        SqliteLedger(str(shared))
    assert not shared.parent.exists()
    SqliteLedger(str(shared), allow_network=True).close()
    SqliteLedger(str(tmp_path / "local" / "ledger.sqlite")).close()


def test_it_is_refused_after_a_fork_and_in_another_thread(ledger: SqliteLedger) -> None:
    def use(told: Callable[[str], None]) -> None:
        try:
            ledger.acquire("shop", "run", 30, 100.0)
        except DeliveryError as error:
            told(error.message)

    pipe, end = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=use, args=(end.send,))
    child.start()
    assert "was opened before a fork. Open it anew in each process" in pipe.recv()
    child.join()
    heard: List[str] = []
    thread = threading.Thread(target=use, args=(heard.append,))
    thread.start()
    thread.join()
    assert "can only be used in that same thread" in heard[0]
    assert ledger.acquire("shop", "run", 30, 100.0).token == 100


def test_a_file_that_others_open_and_close_all_the_time_is_waited_for(tmp_path: Path) -> None:
    """Whoever closes a file in WAL as the last one has it for itself for a moment."""
    path = str(tmp_path / "ledger.sqlite")
    SqliteLedger(path).close()

    def writes(who: int) -> int:
        for number in range(60):
            with closing(SqliteLedger(path)) as ledger:
                ledger.append("shop", "note", "ada", {"who": who, "number": number}, 100.0)
            time.sleep(random.uniform(0, 0.004))
        return who

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(writes, range(4))) == [0, 1, 2, 3]
