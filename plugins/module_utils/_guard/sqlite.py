# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger in one SQLite file: for one controller, with nothing to install.

Every write is one BEGIN IMMEDIATE transaction: the state changes together with its entry in the chain, or neither
does. WAL with synchronous=FULL keeps what was committed through a power cut. The file appears whole, by a link, so
that no two processes ever create it and no crash leaves half a layout.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from contextlib import closing, contextmanager
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._errors import OptionError, StoreError
from . import chain, files, rules
from .model import COMMAND, LEASE, ROLLOUT, STATE, UNFINISHED, Command, Entry, Lease, Rollout

MEMORY = ":memory:"
VERSION = 1
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
    body TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL);
CREATE INDEX entry_service ON entry (service);
"""
_LEASE = "SELECT service, holder, token, expires FROM lease"
_ROLLOUT = (
    "SELECT id, service, release, kind, state, token, opened_at, updated_at, intent, progress, outcome, started_by"
    " FROM rollout"
)
_COMMAND = "SELECT seq, service, command, said_by, reason, at, taken, rollout FROM command"
_ENTRY = "SELECT seq, at, service, kind, actor, body, prev, hash FROM entry"
_OF_SERVICE = "(:service = '' OR service = :service)"

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


class SqliteLedger:
    """The `Ledger` in the file `path`, which is created with its folder unless `create` is off.

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
        self._pid = os.getpid()
        if path == MEMORY and allow_memory:
            self._db = sqlite3.connect(MEMORY, isolation_level=None)
            _lay_out(self._db)
            return
        if path == MEMORY:
            raise StoreError("A ledger in memory would be forgotten at once", mend="Set the ledger's path to a file")
        if not os.path.isabs(path):
            raise OptionError(f"The ledger's path {path!r} is not absolute", mend="Set it to the full path of a file")
        if not allow_network:
            files.refuse_network(path)
        with self._told():
            if create and not os.path.exists(path):
                _create(path)
            self._db = _connect(path, busy_timeout)
            try:
                self._check()
            except BaseException:
                self._db.close()
                raise

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

    # --- leases

    def acquire(self, service: str, holder: str, ttl: float, now: float) -> Lease:
        with self._write():
            current = self._lease(service)
            lease = rules.grant(current, service, holder, ttl, now)
            self._db.execute(
                "INSERT OR REPLACE INTO lease (service, holder, token, expires) VALUES (?, ?, ?, ?)",
                (lease.service, lease.holder, lease.token, lease.expires),
            )
            expired = current.holder if current is not None and current.expires > 0 else None
            body = {"event": "acquired", "token": lease.token, "ttl": ttl, "expired_holder": expired}
            self._append(service, LEASE, holder, body, now)
        return lease

    def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        with self._write():
            return self._renew(lease, ttl, now)

    def release(self, lease: Lease, now: float) -> None:
        with self._write():
            current = self._lease(lease.service)
            ours = current is not None and (current.token, current.holder) == (lease.token, lease.holder)
            if not ours or (current and current.expires <= 0):
                return
            # not `now`: a clock that is set back must not bring the lease to life again
            self._db.execute("UPDATE lease SET expires = 0 WHERE service = ?", (lease.service,))
            self._append(lease.service, LEASE, lease.holder, {"event": "released", "token": lease.token}, now)

    def holder(self, service: str, now: float) -> Optional[Lease]:
        with self._told():
            current = self._lease(service)
        return current if current is not None and rules.in_force(current, now) else None

    def leases(self, now: float) -> Sequence[Lease]:
        with self._told():
            rows = self._db.execute(f"{_LEASE} WHERE expires > ? ORDER BY service", (now,)).fetchall()
        return [Lease(*row) for row in rows]

    def _lease(self, service: str) -> Optional[Lease]:
        row = self._db.execute(f"{_LEASE} WHERE service = ?", (service,)).fetchone()
        return Lease(*row) if row else None

    def _hold(self, lease: Lease, now: float) -> Lease:
        return rules.hold(self._lease(lease.service), lease, now)

    def _renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        renewed = rules.prolong(self._hold(lease, now), ttl, now)
        self._db.execute("UPDATE lease SET expires = ? WHERE service = ?", (renewed.expires, renewed.service))
        return renewed

    # --- rollouts

    def open_rollout(self, lease: Lease, rollout: Rollout, actor: str, now: float) -> Rollout:
        with self._write():
            self._hold(lease, now)
            other = self._one_rollout(f"service = :key AND {_IS_UNFINISHED}", rollout.service)
            opened = rules.begin(lease, rollout, other, actor, now)
            if self._one_rollout("id = :key", rollout.id) is not None:
                raise OptionError(f"There has been a rollout {rollout.id} before", mend="Give each an id of its own")
            intent, progress, outcome = map(chain.canonical, (opened.intent, opened.progress, opened.outcome))
            self._db.execute(
                "INSERT INTO rollout (id, service, release, kind, state, token, opened_at, updated_at, intent,"
                " progress, outcome, started_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (opened.id, opened.service, opened.release, opened.kind, opened.state, opened.token)
                + (opened.opened_at, opened.updated_at, intent, progress, outcome, opened.by),
            )
            self._append(opened.service, ROLLOUT, actor, chain.opening(opened), now)
            return self._unfinished(lease, opened.id)

    def save_progress(self, lease: Lease, rollout_id: str, progress: Mapping[str, object], now: float) -> None:
        with self._write():
            self._hold(lease, now)
            self._save(lease, rollout_id, progress, now)

    def look(
        self, lease: Lease, rollout_id: str, progress: Mapping[str, object], *, ttl: float, now: float, after: int = 0
    ) -> Tuple[Lease, Sequence[Command]]:
        with self._write():
            renewed = self._renew(lease, ttl, now)
            self._save(renewed, rollout_id, progress, now)
            said = self._commands("", after, rollout_id)
            if any(command.taken is None for command in said):
                self._db.execute("UPDATE command SET taken = ? WHERE rollout = ? AND taken IS NULL", (now, rollout_id))
                said = self._commands("", after, rollout_id)
        return renewed, said

    def set_state(
        self, lease: Lease, rollout_id: str, state: str, outcome: Mapping[str, object], actor: str, now: float
    ) -> Rollout:
        with self._write():
            self._hold(lease, now)
            before = self._unfinished(lease, rollout_id)
            after = rules.move(lease, before, state, now)
            self._db.execute(
                "UPDATE rollout SET state = ?, token = ?, updated_at = ?, outcome = ? WHERE id = ?",
                (after.state, after.token, after.updated_at, chain.canonical(outcome), after.id),
            )
            body = {"rollout": after.id, "from": before.state, "state": state, "token": after.token, "outcome": outcome}
            self._append(after.service, STATE, actor, body, now)
            moved = self._one_rollout("id = :key", after.id)
        return moved or after

    def rollout(self, rollout_id: str) -> Optional[Rollout]:
        with self._told():
            return self._one_rollout("id = :key", rollout_id)

    def unfinished(self, service: str = "") -> Sequence[Rollout]:
        with self._told():
            return self._rollouts(f"{_OF_SERVICE} AND {_IS_UNFINISHED} ORDER BY number", {"service": service})

    def last_rollouts(self, service: str = "", limit: int = 20) -> Sequence[Rollout]:
        with self._told():
            return self._rollouts(
                f"{_OF_SERVICE} ORDER BY number DESC LIMIT :limit", {"service": service, "limit": limit}
            )

    def _rollouts(self, where: str, values: Mapping[str, object]) -> List[Rollout]:
        return [self._as_rollout(row) for row in self._db.execute(f"{_ROLLOUT} WHERE {where}", values)]

    def _one_rollout(self, where: str, key: str) -> Optional[Rollout]:
        return next(iter(self._rollouts(where, {"key": key})), None)

    def _unfinished(self, lease: Lease, rollout_id: str) -> Rollout:
        return rules.unfinished(lease, rollout_id, self._one_rollout("id = :key", rollout_id))

    def _save(self, lease: Lease, rollout_id: str, progress: Mapping[str, object], now: float) -> None:
        saved = self._db.execute(
            "UPDATE rollout SET progress = ?, token = ?, updated_at = ?"
            f" WHERE id = ? AND service = ? AND {_IS_UNFINISHED}",
            (chain.canonical(progress), lease.token, now, rollout_id, lease.service),
        )
        if not saved.rowcount:
            self._unfinished(lease, rollout_id)  # says why

    # --- what people say

    def say(self, service: str, command: str, by: str, reason: str, now: float) -> Command:
        with self._write():
            rollout = self._one_rollout(f"service = :key AND {_IS_UNFINISHED}", service)
            last = self._one_rollout("service = :key ORDER BY number DESC", service)
            about = rules.speak(service, command, by, reason, rollout, last)
            seq = self._db.execute(
                "INSERT INTO command (service, command, said_by, reason, at, rollout) VALUES (?, ?, ?, ?, ?, ?)",
                (service, command, by, reason, now, about.id),
            ).lastrowid
            body = {"command": command, "reason": reason, "rollout": about.id, "seq": seq}
            self._append(service, COMMAND, by, body, now)
        return Command(seq or 0, service, command, by, reason, now, None, about.id)

    def commands(self, service: str = "", after: int = 0, rollout: str = "") -> Sequence[Command]:
        with self._told():
            return self._commands(service, after, rollout)

    def _commands(self, service: str, after: int, rollout: str) -> List[Command]:
        where = f"{_OF_SERVICE} AND seq > :after AND (:rollout = '' OR rollout = :rollout) ORDER BY seq"
        values = {"service": service, "after": after, "rollout": rollout}
        return [Command(*row) for row in self._db.execute(f"{_COMMAND} WHERE {where}", values)]

    # --- the record

    def append(
        self, service: str, kind: str, actor: str, body: Mapping[str, object], now: float, lease: Optional[Lease] = None
    ) -> Entry:
        rules.own_kind(kind)
        with self._write():
            if lease is not None:
                self._hold(lease, now)
            return self._append(service, kind, actor, body, now)

    def entries(self, service: str = "", after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        with self._told():
            where = f"WHERE {_OF_SERVICE} AND seq > :after ORDER BY seq LIMIT :limit"
            return self._entries(where, {"service": service, "after": after, "limit": limit})

    def last_entries(self, service: str = "", limit: int = 20) -> Sequence[Entry]:
        with self._told():
            where = f"WHERE {_OF_SERVICE} ORDER BY seq DESC LIMIT :limit"
            return self._entries(where, {"service": service, "limit": limit})

    def verify(self, kept: str = "") -> Optional[str]:
        with self._told(), self._transaction("BEGIN"):
            try:
                entries = self._entries("ORDER BY seq", {})
                rollouts = self._rollouts("1 ORDER BY number", {})
                return chain.first_break(entries, kept) or chain.first_lie(entries, rollouts)
            except StoreError as error:
                return error.message

    def head(self) -> str:
        with self._told():
            return self._head()[1]

    def close(self) -> None:
        with self._told():
            self._db.close()

    def _head(self) -> Tuple[int, str]:
        row = self._db.execute("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, chain.GENESIS)

    def _append(self, service: str, kind: str, actor: str, body: Mapping[str, object], now: float) -> Entry:
        seq, prev = self._head()
        entry = chain.link(seq + 1, prev, at=now, service=service, kind=kind, actor=actor, body=body)
        self._db.execute(
            "INSERT INTO entry (seq, at, service, kind, actor, body, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (entry.seq, entry.at, service, kind, actor, chain.canonical(entry.body), entry.prev, entry.hash),
        )
        return entry

    def _entries(self, where: str, values: Mapping[str, object]) -> List[Entry]:
        return [self._as_entry(row) for row in self._db.execute(f"{_ENTRY} {where}", values)]

    # --- rows, transactions, errors

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
            if chain.canonical(entry.body) != body:
                raise ValueError("its body is not written as the ledger writes")
            return entry
        except (TypeError, ValueError) as error:
            raise self._unreadable(f"Entry {row[0]}", error) from error

    def _unreadable(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"{what} in the ledger {self.path} was changed: it cannot be read ({error})",
            mend="Restore a copy of the ledger, and find out who changed it",
            details={"path": self.path},
        )

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._told(), self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._db.execute(begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever fails inside becomes a StoreError that says which file, what happened and what to do."""
        if os.getpid() != self._pid:
            raise StoreError(f"The ledger {self.path} was opened before a fork", mend="Open it anew in each process")
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            text = str(error)
            for mark, what, mend in _FAILURES:
                if mark in text:
                    raise StoreError(f"The ledger {self.path} {what}", mend=mend, details=self._fact(text)) from error
            raise StoreError(f"The ledger {self.path} failed: {text}", details=self._fact(text)) from error
        except UnicodeEncodeError as error:
            raise OptionError("The ledger cannot keep a text that is not valid Unicode") from error

    def _fact(self, text: str) -> Mapping[str, object]:
        return {"path": self.path, "error": text}


def _connect(path: str, busy_timeout: float) -> sqlite3.Connection:
    # mode=rw: a file that somebody removes in between is not silently begun anew
    db = sqlite3.connect(f"file:{quote(path)}?mode=rw", uri=True, timeout=busy_timeout, isolation_level=None)
    db.execute("PRAGMA synchronous=FULL")
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
        with closing(_connect(draft, 0.0)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            _lay_out(db)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another process was first, and its file is as good
