# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store in one SQLite file: for one controller, with nothing to install.

Every write is one BEGIN IMMEDIATE transaction, so that writers follow one another. WAL with synchronous=FULL keeps what
was committed through a power cut. The file appears whole, by a link, so that no two processes ever create it and no
crash leaves half a layout.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Type
from urllib.parse import quote

from .._errors import OptionError, StoreError
from . import chain, files
from .model import UNFINISHED, Command, Entry, Lease, Rollout
from .store import Rows, T

MEMORY = ":memory:"
VERSION = 4
# pages (4 MiB) of the log before it is begun anew: a commit that makes the file longer waits longer for the disk
_CHECKPOINT = 1000
_BUSY = 0.002  # seconds that SQLite waits by itself for a lock
_PAUSE = 0.004  # and the longest that we do before we ask it again
_IS_UNFINISHED = f"state IN {UNFINISHED!r}"
_LAYOUT = f"""
CREATE TABLE layout (version INTEGER NOT NULL);
INSERT INTO layout VALUES ({VERSION});

CREATE TABLE lease (
    service TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL, expires REAL NOT NULL);

CREATE TABLE rollout (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, service TEXT NOT NULL, release TEXT NOT NULL,
    kind TEXT NOT NULL, state TEXT NOT NULL, token INTEGER NOT NULL, opened_at REAL NOT NULL, updated_at REAL NOT NULL,
    intent TEXT NOT NULL, progress TEXT NOT NULL, outcome TEXT NOT NULL, started_by TEXT NOT NULL);
CREATE UNIQUE INDEX rollout_unfinished ON rollout (service) WHERE {_IS_UNFINISHED};
CREATE INDEX rollout_service ON rollout (service);

CREATE TABLE command (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, service TEXT NOT NULL, command TEXT NOT NULL, said_by TEXT NOT NULL,
    reason TEXT NOT NULL, at REAL NOT NULL, taken REAL, rollout TEXT NOT NULL);
CREATE INDEX command_rollout ON command (rollout);

CREATE TABLE entry (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, service TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL,
    body TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL, trigger TEXT NOT NULL, told TEXT NOT NULL);
CREATE INDEX entry_service ON entry (service, trigger);

CREATE TABLE note (key TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_LEASE = "SELECT service, holder, token, expires FROM lease"
_ROLLOUT = (
    "SELECT id, service, release, kind, state, token, opened_at, updated_at, intent, progress, outcome, started_by"
    " FROM rollout"
)
_COMMAND = "SELECT seq, service, command, said_by, reason, at, taken, rollout FROM command"
_ENTRY = "SELECT seq, at, service, kind, actor, body, prev, hash FROM entry"
# in its place, and not as a new row: it is rewritten at every decision
_PUT_NOTE = "INSERT INTO note (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"

# what SQLite says → what happened, and what to do; every version of it words these the same
_FAILURES = (
    ("locked", "is locked by another process", "Find who has it open for so long; nothing was written, so try again"),
    ("is full", "cannot grow: the disk is full", "Free some space; nothing was written, so try again"),
    ("readonly", "is read-only", "Give the user who runs this the right to write the file and its folder"),
    ("unable to open", "cannot be opened for writing", "Check that this user may write to the file and its folder"),
    ("malformed", "is corrupt", "Restore a copy; only when no rollout is unfinished, move it away to begin anew"),
    ("not a database", "is not a ledger, or is corrupt", "Check the path; restore a copy if this was the ledger"),
    ("no such table", "is an SQLite file but not a ledger", "Check the path: another program's file is left alone"),
    ("No space left", "cannot be created: the disk is full", "Free some space, then try again"),
    ("Read-only file system", "cannot be created on a read-only file system", "Name a path that can be written to"),
    ("Permission denied", "cannot be created here", "Name a path in a folder that this user may write to"),
    ("disk I/O", "could not be read or written (disk I/O error)", "Check the disk, its free space and its quota"),
)


def _of(service: str) -> str:
    """The beginning of a WHERE; without the service where it stands for all, so that an index is used where it does."""
    return "service = :service AND" if service else ""


class _Rows:
    """The rows of one connection, inside whatever transaction it is in."""

    lag = 128

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self._db = db
        self._path = path
        # what is known since nobody else changed the file: so it need not be read again
        self._version: Optional[int] = None
        self._notes: Dict[str, Mapping[str, object]] = {}
        self._leases: Dict[str, Optional[Lease]] = {}
        self._unfinished: Dict[str, Sequence[Rollout]] = {}
        self._newest: Optional[Tuple[int, str]] = None

    def begin(self) -> None:
        """A transaction has begun: forget what is known if another connection changed the file meanwhile."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self.forget()
            self._version = version

    def forget(self) -> None:
        for known in (self._notes, self._leases, self._unfinished):
            known.clear()
        self._newest = None

    def expect(self, service: str, trigger: str, notes: Sequence[str]) -> None:
        """Nothing to do: each question is answered at once."""

    # --- leases

    def lease(self, service: str) -> Optional[Lease]:
        if service not in self._leases:
            row = self._db.execute(f"{_LEASE} WHERE service = ?", (service,)).fetchone()
            self._leases[service] = Lease(*row) if row else None
        return self._leases[service]

    def leases(self, now: float) -> Sequence[Lease]:
        rows = self._db.execute(f"{_LEASE} WHERE expires > ? ORDER BY service", (now,))
        return [Lease(*row) for row in rows]

    def put_lease(self, lease: Lease) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO lease (service, holder, token, expires) VALUES (?, ?, ?, ?)",
            (lease.service, lease.holder, lease.token, lease.expires),
        )
        self._leases.pop(lease.service, None)

    # --- rollouts

    def rollout(self, rollout_id: str) -> Optional[Rollout]:
        return next(iter(self._rollouts("id = :key", {"key": rollout_id})), None)

    def unfinished(self, service: str) -> Sequence[Rollout]:
        if service not in self._unfinished:
            where = f"{_of(service)} {_IS_UNFINISHED} ORDER BY number"
            self._unfinished[service] = self._rollouts(where, {"service": service})
        return self._unfinished[service]

    def last_rollouts(self, service: str, limit: int) -> Sequence[Rollout]:
        where = f"{_of(service)} 1 ORDER BY number DESC LIMIT :limit"
        return self._rollouts(where, {"service": service, "limit": limit})

    def all_rollouts(self) -> Iterable[Rollout]:
        return self._rollouts("1 ORDER BY number", {})

    def add_rollout(self, rollout: Rollout) -> None:
        intent, progress, outcome = map(chain.canonical, (rollout.intent, rollout.progress, rollout.outcome))
        self._unfinished.clear()
        self._db.execute(
            "INSERT INTO rollout (id, service, release, kind, state, token, opened_at, updated_at, intent,"
            " progress, outcome, started_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (rollout.id, rollout.service, rollout.release, rollout.kind, rollout.state, rollout.token)
            + (rollout.opened_at, rollout.updated_at, intent, progress, outcome, rollout.by),
        )

    def put_rollout(self, rollout: Rollout) -> None:
        self._unfinished.clear()
        self._db.execute(
            "UPDATE rollout SET state = ?, token = ?, updated_at = ?, outcome = ? WHERE id = ?",
            (rollout.state, rollout.token, rollout.updated_at, chain.canonical(rollout.outcome), rollout.id),
        )

    def put_progress(
        self, rollout_id: str, service: str, progress: Mapping[str, object], token: int, now: float
    ) -> bool:
        self._unfinished.clear()
        saved = self._db.execute(
            "UPDATE rollout SET progress = ?, token = ?, updated_at = ?"
            f" WHERE id = ? AND service = ? AND {_IS_UNFINISHED}",
            (chain.canonical(progress), token, now, rollout_id, service),
        )
        return saved.rowcount > 0

    def _rollouts(self, where: str, values: Mapping[str, object]) -> List[Rollout]:
        return [self._as_rollout(row) for row in self._db.execute(f"{_ROLLOUT} WHERE {where}", values)]

    # --- people's commands

    def commands(self, service: str, after: int, rollout: str) -> Sequence[Command]:
        where = f"{_of(service)} seq > :after AND (:rollout = '' OR rollout = :rollout) ORDER BY seq"
        values = {"service": service, "after": after, "rollout": rollout}
        return [Command(*row) for row in self._db.execute(f"{_COMMAND} WHERE {where}", values)]

    def add_command(self, command: Command) -> Command:
        added = self._db.execute(
            "INSERT INTO command (service, command, said_by, reason, at, rollout) VALUES (?, ?, ?, ?, ?, ?)",
            (command.service, command.command, command.by, command.reason, command.at, command.rollout),
        )
        return replace(command, seq=added.lastrowid or 0)

    def take_commands(self, rollout: str, now: float) -> None:
        self._db.execute("UPDATE command SET taken = ? WHERE rollout = ? AND taken IS NULL", (now, rollout))

    # --- the chain

    def newest(self) -> Tuple[int, str]:
        if self._newest is None:
            row = self._db.execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
            self._newest = (row[0], row[1]) if row else (0, chain.GENESIS)
        return self._newest

    def add_entry(self, entry: Entry, body: str = "", trigger: str = "", told: str = "") -> None:
        self._db.execute(
            "INSERT INTO entry (seq, at, service, kind, actor, body, prev, hash, trigger, told)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (entry.seq, entry.at, entry.service, entry.kind, entry.actor, body or chain.written(entry.body))
            + (entry.prev, entry.hash, trigger, told),
        )
        self._newest = entry.seq, entry.hash

    def entries(self, service: str, after: int, limit: int) -> Sequence[Entry]:
        return self._entries("seq", service, after, limit)

    def last_entries(self, service: str, limit: int) -> Sequence[Entry]:
        return self._entries("seq DESC", service, 0, limit)

    def all_entries(self) -> Iterable[Entry]:
        return [self._as_entry(row) for row in self._db.execute(f"{_ENTRY} ORDER BY seq")]

    def _entries(self, order: str, service: str, after: int, limit: int) -> List[Entry]:
        where = f"seq > :after ORDER BY {order} LIMIT :limit"
        if service:
            # which ones says the index alone, in whatever order; only these are read
            where = f"seq IN (SELECT seq FROM entry INDEXED BY entry_service WHERE service = :service AND {where})"
            where += f" ORDER BY {order}"
        values = {"service": service, "after": after, "limit": limit}
        return [self._as_entry(row) for row in self._db.execute(f"{_ENTRY} WHERE {where}", values)]

    # --- triggers that were decided on, and notes

    def told(self, service: str, trigger: str) -> Optional[str]:
        row = self._db.execute(
            "SELECT told FROM entry WHERE service = ? AND trigger = ? AND told <> '' ORDER BY seq DESC LIMIT 1",
            (service, trigger),
        ).fetchone()
        return str(row[0]) if row else None

    def all_told(self) -> Mapping[Tuple[str, str], str]:
        rows = self._db.execute("SELECT service, trigger, told FROM entry WHERE told <> '' ORDER BY seq")
        return {(service, trigger): told for service, trigger, told in rows}

    def note(self, key: str) -> Mapping[str, object]:
        if key not in self._notes:
            row = self._db.execute("SELECT value FROM note WHERE key = ?", (key,)).fetchone()
            self._notes[key] = self._as_note(key, row[0]) if row else {}
        return self._notes[key]

    def put_note(self, key: str, value: Mapping[str, object]) -> None:
        self._db.execute(_PUT_NOTE, (key, chain.written(value)))
        self._notes[key] = value

    def notes(self, prefix: str) -> Mapping[str, Mapping[str, object]]:
        rows = self._db.execute(
            "SELECT key, value FROM note WHERE substr(key, 1, ?) = ? ORDER BY key", (len(prefix), prefix)
        )
        return {key: self._as_note(key, value) for key, value in rows}

    # --- the store itself

    def time(self) -> Optional[float]:
        return None  # it is this machine's

    def cut(self, seq: int, rollouts: Sequence[str]) -> None:
        self.forget()
        self._db.execute("DELETE FROM entry WHERE seq <= ?", (seq,))
        for name in rollouts:
            self._db.execute("DELETE FROM command WHERE rollout = ?", (name,))
            self._db.execute("DELETE FROM rollout WHERE id = ?", (name,))

    def _as_rollout(self, row: Tuple[str, ...]) -> Rollout:
        try:
            name, service, release, kind, state, token, opened, updated, *bodies, by = row
            intent, progress, outcome = map(chain.decode, bodies)
            times = float(opened), float(updated)
            return Rollout(name, service, release, kind, state, int(token), *times, intent, progress, outcome, by)
        except (TypeError, ValueError) as error:
            raise self._unreadable(f"Rollout {row[0]}", error) from error

    def _as_entry(self, row: Tuple[str, ...]) -> Entry:
        try:
            seq, at, service, kind, actor, body, prev, own = row
            entry = Entry(int(seq), float(at), str(service), str(kind), str(actor), chain.decode(body), str(prev), own)
            if chain.written(entry.body) != body:
                raise ValueError("its body is not written as the ledger writes")
            return entry
        except (TypeError, ValueError) as error:
            raise self._unreadable(f"Entry {row[0]}", error) from error

    def _as_note(self, key: str, text: str) -> Mapping[str, object]:
        try:
            return chain.decode(text)
        except (TypeError, ValueError) as error:
            raise self._unreadable(f"Note {key}", error) from error

    def _unreadable(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"{what} in the ledger {self._path} was changed: it cannot be read ({error})",
            mend="Restore a copy of the ledger, and find out who changed it",
            details={"path": self._path},
        )


class _Told:
    """Whatever fails inside becomes a StoreError that says which file, what happened and what to do."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._pid = os.getpid()

    def __enter__(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(f"The ledger {self._path} was opened before a fork", mend="Open it anew in each process")

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if isinstance(error, (sqlite3.Error, OSError)):
            text = str(error)
            details = {"path": self._path, "error": text}
            for mark, what, mend in _FAILURES:
                if mark in text:
                    raise StoreError(f"The ledger {self._path} {what}", mend=mend, details=details) from error
            raise StoreError(f"The ledger {self._path} failed: {text}", details=details) from error
        if isinstance(error, UnicodeEncodeError):
            raise OptionError("The ledger cannot keep a text that is not valid Unicode") from error


class SqliteStore:
    """The `Store` in the file `path`, which is created with its folder unless `create` is off.

    For one process and one thread: each opens its own. `busy_timeout` is how long to wait for another process's write,
    in seconds. `:memory:` is for tests.
    """

    def __init__(
        self,
        path: str,
        *,
        create: bool = True,
        busy_timeout: float = 5.0,
        allow_network: bool = False,
        allow_memory: bool = False,
    ) -> None:
        self.path = path
        self._told = _Told(path)
        self._patience = busy_timeout
        if path == MEMORY and allow_memory:
            self._db = sqlite3.connect(MEMORY, isolation_level=None)
            _lay_out(self._db)
            self._rows = _Rows(self._db, path)
            return
        if path == MEMORY:
            raise StoreError("A ledger in memory would be forgotten at once", mend="Set the ledger's path to a file")
        if not os.path.isabs(path):
            raise OptionError(f"The ledger's path {path!r} is not absolute", mend="Set it to the full path of a file")
        if not allow_network:
            files.refuse_network(path)
        with self._told:
            if create and not os.path.exists(path):
                _create(path)
            # whoever closes the file as the last one keeps others out for a moment
            self._db = self._patiently(lambda: _connect(path))
            try:
                self._patiently(self._check)
            except BaseException:
                self._db.close()
                raise
        self._rows = _Rows(self._db, path)

    def _check(self) -> None:
        if os.stat(self.path).st_mode & stat.S_IWOTH:
            raise StoreError(
                f"The ledger {self.path} can be written by everybody on this machine, so nothing in it can be believed",
                mend="Look at who changed it, then take that right away (chmod o-w)",
                details={"path": self.path},
            )
        versions = [row[0] for row in self._db.execute("SELECT version FROM layout")]
        if versions != [VERSION]:
            found = ", ".join(map(str, versions)) or "none"
            raise StoreError(
                f"The ledger {self.path} has layout version {found}, and this release knows version {VERSION}",
                mend="Use the release of this collection that wrote it, or name another file",
                details={"path": self.path},
            )
        mode = self._db.execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":
            raise StoreError(
                f"The ledger {self.path} is in {mode} mode, not in WAL", mend="Set PRAGMA journal_mode=WAL"
            )

    def write(self, work: Callable[[Rows], T]) -> T:
        with self._told:
            self._patiently(lambda: self._db.execute("BEGIN IMMEDIATE"))
            return self._ended(work)

    def read(self, work: Callable[[Rows], T]) -> T:
        def whole() -> T:
            self._db.execute("BEGIN")
            return self._ended(work)

        with self._told:
            return self._patiently(whole)

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """`attempt`, again and again while another process has the lock.

        SQLite's own waiting sleeps longer and longer, so that among many busy processes one may never have its turn.
        """
        until = time.monotonic() + self._patience
        while True:
            try:
                return attempt()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= until:
                    raise
            time.sleep(random.uniform(0, _PAUSE))

    def close(self) -> None:
        with self._told:
            self._db.close()

    def _ended(self, work: Callable[[Rows], T]) -> T:
        """`work`, in the transaction that has begun, which ends with it."""
        try:
            self._rows.begin()
            result = work(self._rows)
            self._db.execute("COMMIT")
            return result
        except BaseException:
            self._rows.forget()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _connect(path: str) -> sqlite3.Connection:
    # mode=rw: a file that somebody removes in between is not silently begun anew
    db = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=_BUSY, isolation_level=None)
    try:
        db.execute("PRAGMA synchronous=FULL")
        # nothing secret is kept, so what leaves a page need not be overwritten; some builds of SQLite do by themselves
        db.execute("PRAGMA secure_delete=OFF")
        db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
    except BaseException:
        db.close()
        raise
    return db


def _lay_out(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for statement in _LAYOUT.split(";"):
        db.execute(statement)
    db.execute("COMMIT")


def _create(path: str) -> None:
    """An empty ledger, readable by its owner only, that is either there as a whole or not at all."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ledger-", dir=folder) as drafts:
        draft = os.path.join(drafts, "ledger")
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with closing(_connect(draft)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            _lay_out(db)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first, and its file is as good
