# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SQLite ledger: what each call keeps and refuses, and every way in which its file can be wrong."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    LeaseError,
    OptionError,
    RolloutError,
    StoreError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import files
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.sqlite import SqliteLedger

pytestmark = pytest.mark.filterwarnings("error::DeprecationWarning:ansible_collections")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(str(path), busy_timeout=0.05)
    yield ledger
    ledger.close()


def rollout(name: str = "r1", service: str = "shop") -> Rollout:
    return Rollout(name, service, "2.0.0", "canary", "", 0, 0.0, 0.0, {"before": {"web1": "1.0.0"}})


def begun(ledger: SqliteLedger, name: str = "r1") -> Lease:
    lease = ledger.acquire("shop", "run", 30, 100.0)
    ledger.open_rollout(lease, rollout(name), "ada", 100.0)
    return lease


def test_it_keeps_the_protocol(ledger: SqliteLedger) -> None:
    kept: Ledger = ledger
    assert kept.unfinished() == []


def test_a_rollout_goes_its_way_and_leaves_a_trace(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    ledger.save_progress(lease, "r1", {"step": 1}, 101.0)
    assert ledger.rollout("r1") == Rollout(
        "r1",
        "shop",
        "2.0.0",
        "canary",
        "open",
        lease.token,
        100.0,
        101.0,
        {"before": {"web1": "1.0.0"}},
        {"step": 1},
        {},
        "ada",
    )
    held = ledger.set_state(lease, "r1", "held", {"why": "undecided"}, "run", 102.0)
    assert (held.state, held.outcome, held.progress, held.updated_at) == (
        "held",
        {"why": "undecided"},
        {"step": 1},
        102.0,
    )
    assert [one.id for one in ledger.unfinished("shop")] == ["r1"]
    ledger.set_state(lease, "r1", "undone", {"left": []}, "run", 103.0)
    ledger.release(lease, 104.0)
    assert ledger.unfinished() == []
    assert [(entry.seq, entry.kind, entry.actor) for entry in ledger.entries()] == [
        (1, "lease", "run"),
        (2, "rollout", "ada"),
        (3, "state", "run"),
        (4, "state", "run"),
        (5, "lease", "run"),
    ]
    assert ledger.entries()[3].body == {
        "rollout": "r1",
        "from": "held",
        "state": "undone",
        "token": lease.token,
        "outcome": {"left": []},
    }
    assert ledger.verify() is None


def test_a_second_rollout_is_told_which_one_is_unfinished_and_what_to_do(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    with pytest.raises(RolloutError) as caught:
        ledger.open_rollout(lease, rollout("r2"), "bob", 101.0)
    assert str(caught.value) == (
        "shop: Rollout r1 of release 2.0.0, started by ada, is unfinished (open). Let playbooks/reconcile.yml settle"
        " it, or say abort or promote with the guard module, then run again."
    )
    assert caught.value.details == {"rollout": "r1", "release": "2.0.0", "state": "open", "by": "ada"}
    assert ledger.rollout("r2") is None


def test_a_held_lease_is_refused_with_who_holds_it(ledger: SqliteLedger) -> None:
    begun(ledger)
    with pytest.raises(LeaseError, match=r"shop: run is at work on it and holds the lease for 20 s more\. Wait for"):
        ledger.acquire("shop", "other", 30, 110.0)
    assert [lease.holder for lease in ledger.leases(110.0)] == ["run"]
    assert ledger.leases(131.0) == []


def test_a_holder_that_wakes_up_late_is_fenced_off_whatever_it_does(ledger: SqliteLedger) -> None:
    late = begun(ledger)
    writes: List[Callable[[], object]] = [
        lambda: ledger.renew(late, 30, 131.0),
        lambda: ledger.save_progress(late, "r1", {}, 131.0),
        lambda: ledger.look(late, "r1", {}, ttl=30, now=131.0),
        lambda: ledger.set_state(late, "r1", "done", {}, "run", 131.0),
        lambda: ledger.open_rollout(late, rollout("r2"), "ada", 131.0),
        lambda: ledger.append("shop", "action", "run", {}, 131.0, late),
    ]
    for write in writes:
        with pytest.raises(LeaseError, match="has expired"):
            write()
    newer = ledger.acquire("shop", "reconcile", 30, 131.0)
    for write in writes:
        with pytest.raises(LeaseError, match=r"\(token 100\) was lost: reconcile has it now\. Stop here"):
            write()
    ledger.release(late, 132.0)
    assert ledger.holder("shop", 132.0) == newer
    assert newer.token == late.token + 1
    assert ledger.set_state(newer, "r1", "undone", {}, "reconcile", 132.0).token == newer.token
    assert ledger.entries()[2].body == {"event": "acquired", "token": 101, "ttl": 30, "expired_holder": "run"}


def test_a_lease_nobody_ever_had_and_one_of_another_name_are_refused(ledger: SqliteLedger) -> None:
    with pytest.raises(LeaseError, match="was lost: it is gone"):
        ledger.renew(Lease("shop", "run", 1, 130.0), 30, 100.0)
    lease = ledger.acquire("shop", "run", 30, 100.0)
    with pytest.raises(LeaseError, match="was lost: run has it now"):
        ledger.renew(Lease("shop", "eve", lease.token, 130.0), 30, 100.0)


def test_a_ledger_begun_anew_gives_higher_tokens_than_the_lost_one(tmp_path: Path) -> None:
    for begun, highest in ((1_000.0, 0), (2_000.0, 1_002)):
        ledger = SqliteLedger(str(tmp_path / f"{begun}.sqlite"))
        for turn in range(3):
            lease = ledger.acquire("shop", "run", 30, begun + turn)
            assert lease.token > highest
            ledger.release(lease, begun + turn)


def test_a_lease_given_back_stays_dead_when_the_clock_is_set_back(ledger: SqliteLedger) -> None:
    lease = ledger.acquire("shop", "run", 30, 100.0)
    ledger.release(lease, 101.0)
    ledger.release(lease, 102.0)
    with pytest.raises(LeaseError):
        ledger.renew(lease, 30, 50.0)
    assert ledger.acquire("shop", "run", 30, 50.0).token == lease.token + 1
    assert [entry.body["event"] for entry in ledger.entries()] == ["acquired", "released", "acquired"]


@pytest.mark.parametrize(("service", "holder", "ttl"), [("", "run", 30), ("shop", "", 30), ("shop", "run", 0)])
def test_a_lease_of_nothing_by_nobody_or_for_no_time_is_refused(
    ledger: SqliteLedger, service: str, holder: str, ttl: float
) -> None:
    with pytest.raises(OptionError, match="A lease needs a service, a holder and a time to live"):
        ledger.acquire(service, holder, ttl, 100.0)


def test_a_closed_rollout_stays_closed(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    ledger.set_state(lease, "r1", "done", {}, "run", 101.0)
    for write in (
        lambda: ledger.set_state(lease, "r1", "open", {}, "run", 102.0),
        lambda: ledger.save_progress(lease, "r1", {}, 102.0),
    ):
        with pytest.raises(RolloutError, match=r"Rollout r1 is closed already \(done\)"):
            write()


def test_a_rollout_that_is_unknown_or_of_another_service_is_refused(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    bank = ledger.acquire("bank", "run", 30, 100.0)
    with pytest.raises(RolloutError, match="knows no rollout r9"):
        ledger.save_progress(lease, "r9", {}, 101.0)
    with pytest.raises(RolloutError, match="bank: Rollout r1 is one of shop"):
        ledger.set_state(bank, "r1", "done", {}, "run", 101.0)
    with pytest.raises(RolloutError, match="shop: Rollout r2 is one of bank"):
        ledger.open_rollout(lease, rollout("r2", "bank"), "ada", 101.0)


def test_ids_and_actors_are_needed_and_ids_are_never_used_twice(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    ledger.set_state(lease, "r1", "done", {}, "run", 101.0)
    with pytest.raises(OptionError, match="There has been a rollout r1 before"):
        ledger.open_rollout(lease, rollout("r1"), "ada", 102.0)
    with pytest.raises(OptionError, match="needs an id and somebody"):
        ledger.open_rollout(lease, rollout(""), "ada", 102.0)
    with pytest.raises(OptionError, match="needs an id and somebody"):
        ledger.open_rollout(lease, rollout("r2"), "", 102.0)


def test_a_state_that_is_none_is_refused_with_the_nearest(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    with pytest.raises(OptionError, match=r"cannot be 'undo' \(did you mean 'undone'\?\)"):
        ledger.set_state(lease, "r1", "undo", {}, "run", 101.0)


def test_what_cannot_be_kept_leaves_nothing_behind(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    before = ledger.entries()
    for body in ({"raw": b""}, {"raw": {1, 2}}):
        with pytest.raises(OptionError):
            ledger.set_state(lease, "r1", "done", body, "run", 101.0)
        with pytest.raises(OptionError):
            ledger.look(lease, "r1", body, ttl=60, now=101.0)
    with pytest.raises(OptionError, match="not valid Unicode"):
        ledger.append("shop", "note", "\udc80", {}, 101.0)
    assert ledger.entries() == before
    assert ledger.unfinished("shop")[0].state == "open"
    assert ledger.holder("shop", 101.0) == lease


def test_the_ledgers_own_kinds_of_entries_cannot_be_forged(ledger: SqliteLedger) -> None:
    for kind in ("", "rollout", "state", "command", "lease"):
        with pytest.raises(OptionError, match="written by the ledger itself"):
            ledger.append("shop", kind, "eve", {}, 100.0)
    entry = ledger.append("shop", "note", "guard", {"allowed": True}, 100.0)
    assert ledger.entries() == [entry]


def test_entries_and_rollouts_are_found_by_service_in_both_directions(ledger: SqliteLedger) -> None:
    for number in range(6):
        ledger.append("shop" if number % 2 else "bank", "note", "ada", {"number": number}, 100.0 + number)
    assert [entry.seq for entry in ledger.entries("shop", after=2, limit=1)] == [4]
    assert [entry.seq for entry in ledger.entries(after=4)] == [5, 6]
    assert [entry.seq for entry in ledger.last_entries("bank", 2)] == [5, 3]
    assert [entry.seq for entry in ledger.last_entries(limit=1)] == [6]
    lease = begun(ledger)
    ledger.set_state(lease, "r1", "done", {}, "run", 101.0)
    ledger.open_rollout(lease, rollout("r2"), "ada", 101.0)
    assert [one.id for one in ledger.last_rollouts("shop")] == ["r2", "r1"]
    assert [one.id for one in ledger.last_rollouts(limit=1)] == ["r2"]
    assert ledger.last_rollouts("bank") == []


# --- what people say


def test_a_word_reaches_the_bake_once_and_again_until_it_is_obeyed(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    said = ledger.say("shop", "hold", "ada", "", 101.0)
    renewed, heard = ledger.look(lease, "r1", {"obeyed": 0}, ttl=30, now=102.0)
    assert renewed.expires == 132.0
    assert [(one.seq, one.command, one.by, one.taken, one.rollout) for one in heard] == [
        (said.seq, "hold", "ada", 102.0, "r1")
    ]
    assert ledger.look(lease, "r1", {}, ttl=30, now=103.0)[1] == heard
    assert ledger.look(lease, "r1", {"obeyed": said.seq}, ttl=30, now=104.0, after=said.seq)[1] == []
    again = ledger.say("shop", "abort", "bob", "enough", 105.0)
    assert [one.seq for one in ledger.commands("shop", after=said.seq)] == [again.seq]
    assert [one.taken for one in ledger.commands()] == [102.0, None]
    assert ledger.last_entries(limit=1)[0].body == {"command": "abort", "reason": "enough", "rollout": "r1", "seq": 2}


def test_a_word_about_one_rollout_is_never_heard_by_the_next(ledger: SqliteLedger) -> None:
    lease = begun(ledger)
    ledger.say("shop", "abort", "ada", "", 101.0)
    ledger.set_state(lease, "r1", "undone", {}, "run", 102.0)
    ledger.open_rollout(lease, rollout("r2"), "ada", 103.0)
    assert ledger.look(lease, "r2", {}, ttl=30, now=104.0)[1] == []
    assert [one.command for one in ledger.commands(rollout="r1")] == ["abort"]
    assert ledger.commands("bank") == []


def test_words_that_make_no_sense_are_refused(ledger: SqliteLedger) -> None:
    with pytest.raises(RolloutError, match="There is no unfinished rollout to hold: it never had one"):
        ledger.say("shop", "hold", "ada", "", 100.0)
    lease = begun(ledger)
    with pytest.raises(OptionError, match=r"'holt' is no command \(did you mean 'hold'\?\)\. Say one of: hold, resume"):
        ledger.say("shop", "holt", "ada", "", 101.0)
    with pytest.raises(OptionError, match="Somebody has to say it"):
        ledger.say("shop", "hold", " ", "", 101.0)
    with pytest.raises(OptionError, match="needs a reason"):
        ledger.say("shop", "promote", "ada", " ", 101.0)
    ledger.set_state(lease, "r1", "done", {}, "run", 102.0)
    with pytest.raises(RolloutError, match=r"to abort: its last one, r1 of release 2\.0\.0, is done"):
        ledger.say("shop", "abort", "ada", "", 103.0)
    assert ledger.commands() == []


# --- the file


def test_the_file_and_its_folder_are_its_owners_alone(ledger: SqliteLedger, path: Path) -> None:
    begun(ledger)
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
        raw.execute("UPDATE layout SET version = 3")
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
        (newer, "has layout version 3, and this release knows version 2. Use the release of this collection that"),
        (unversioned, "has layout version none, and this release knows version 2"),
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
