# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger in PostgreSQL: for many controllers on many machines.

Every piece of work that writes takes one advisory lock for the length of its transaction, so that pieces of work follow
one another and nothing that one has read changes under it. Writes are kept back and go out together with the next read
or with COMMIT: a transaction costs one round trip to begin, one for each read, and one to end.

When the answer to COMMIT is lost, nobody may guess what became of it. Each transaction leaves its number in the row of
the store that made it, and a new connection looks it up, once the lock says that the old one has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from .._errors import OptionError, StoreError
from . import chain, postgresql_failures
from .model import UNFINISHED, Command, Entry, Lease, Rollout
from .postgresql_wire import (
    LOCK_WITHIN,
    OLDEST,
    Answer,
    Failure,
    Row,
    Statement,
    Value,
    Wire,
    connect,
    encoded,
    need_psycopg,
    parsed,
    rolled_back,
)

T = TypeVar("T")
VERSION = 1
_TRIES = 3
_SETTLE_WITHIN = 10  # seconds to find out what became of a COMMIT; a server that crashed is back by then, or it is not
_PAGE = 1000
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_IS_UNFINISHED = f"state IN {UNFINISHED!r}"
# "C" sorts by code point, as every other store does; what is rewritten often has room to be rewritten in place
_LAYOUT = f"""
CREATE TABLE layout (version integer NOT NULL, commands bigint NOT NULL DEFAULT 0);
INSERT INTO layout (version) VALUES ({VERSION});

CREATE TABLE writer (id text PRIMARY KEY, number bigint NOT NULL, at timestamptz NOT NULL) WITH (fillfactor = 50);

CREATE TABLE lease (
    service text COLLATE "C" PRIMARY KEY, holder text NOT NULL, token bigint NOT NULL,
    expires double precision NOT NULL) WITH (fillfactor = 50);

CREATE TABLE rollout (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE,
    service text COLLATE "C" NOT NULL, release text NOT NULL, kind text NOT NULL, state text NOT NULL,
    token bigint NOT NULL, opened_at double precision NOT NULL, updated_at double precision NOT NULL,
    intent text NOT NULL, progress text NOT NULL, outcome text NOT NULL, started_by text NOT NULL)
    WITH (fillfactor = 70);
CREATE UNIQUE INDEX rollout_unfinished ON rollout (service) WHERE {_IS_UNFINISHED};
CREATE INDEX rollout_service ON rollout (service, number);

CREATE TABLE command (
    seq bigint PRIMARY KEY, service text COLLATE "C" NOT NULL, command text NOT NULL, said_by text NOT NULL,
    reason text NOT NULL, at double precision NOT NULL, taken double precision, rollout text COLLATE "C" NOT NULL);
CREATE INDEX command_rollout ON command (rollout);

CREATE TABLE entry (
    seq bigint PRIMARY KEY, at double precision NOT NULL, service text COLLATE "C" NOT NULL, kind text NOT NULL,
    actor text NOT NULL, body text NOT NULL, prev text NOT NULL, hash text NOT NULL);
CREATE INDEX entry_service ON entry (service, seq);

CREATE TABLE seen (
    service text COLLATE "C" NOT NULL, trigger text COLLATE "C" NOT NULL, what text NOT NULL,
    at double precision NOT NULL, PRIMARY KEY (service, trigger));
CREATE INDEX seen_at ON seen (at);

CREATE TABLE note (key text COLLATE "C" PRIMARY KEY, value text NOT NULL) WITH (fillfactor = 50);
"""
_LEASE = "SELECT service, holder, token, expires FROM lease"
_ROLLOUT = (
    "SELECT id, service, release, kind, state, token, opened_at, updated_at, intent, progress, outcome, started_by,"
    " number FROM rollout"
)
_COMMAND = "SELECT seq, service, command, said_by, reason, at, taken, rollout FROM command"
_ENTRY = "SELECT seq, at, service, kind, actor, body, prev, hash FROM entry"


class PostgresqlStore:
    """The `Store` in one schema of one database. For one process and one thread: each opens its own.

    `dsn` is a connection string or URL of libpq; `host`, `port`, `dbname`, `user` and `password` come before what it
    says, and libpq's own environment and files (PGPASSWORD, .pgpass, service files) after it. The schema with its
    tables is made when it is missing, unless `create` is off.
    """

    def __init__(
        self,
        dsn: str = "",
        *,
        host: str = "",
        port: int = 0,
        dbname: str = "",
        user: str = "",
        password: str = "",
        schema: str = "selfheal",
        create: bool = True,
    ) -> None:
        if not _IDENTIFIER.match(schema) or schema.startswith("pg_"):
            raise OptionError(
                f"The ledger's schema cannot be {schema!r}",
                mend="Use a-z, 0-9 and _, at most 63, not beginning with pg_",
            )
        need_psycopg()
        given = {"host": host, "port": str(port or ""), "dbname": dbname, "user": user, "password": password}
        self._options = {**parsed(dsn), **{key: value for key, value in given.items() if value}}
        self.where = postgresql_failures.place(self._options, schema)
        self._schema = schema
        # all that is called by name in this schema, and nothing that another schema could put in its place
        self._path = f'pg_catalog, "{schema}", pg_temp'
        key = int.from_bytes(hashlib.sha256(f"selfheal.delivery {schema}".encode()).digest()[:8], "big", signed=True)
        self._lock: Statement = (f"SELECT pg_advisory_xact_lock({key})", ())
        self._head: Statement = (
            f"SELECT (SELECT string_agg(version::text, ', ') FROM \"{schema}\".layout),"
            " extract(epoch FROM clock_timestamp()), (SELECT max(seq) FROM entry),"
            " (SELECT hash FROM entry ORDER BY seq DESC LIMIT 1)",
            (),
        )
        self._writer, self._number = uuid.uuid4().hex, 0
        self._wire: Optional[Wire] = None
        self._pid, self._busy = os.getpid(), threading.Lock()
        with self._told():
            self._lay_out(create)

    def write(self, work: Callable[[PostgresqlRows], T]) -> T:
        """Do `work` in one transaction, after all others; from the start again when it was cut off or a deadlock."""
        with self._told():
            return _tried(lambda: self._changed(work))

    def read(self, work: Callable[[PostgresqlRows], T]) -> T:
        """Do `work` on the state of one moment."""
        with self._told():
            return _tried(lambda: self._looked_at(work))

    def close(self) -> None:
        if self._wire is not None and os.getpid() == self._pid:
            self._wire.close()
        self._wire = None

    # --- transactions

    def _changed(self, work: Callable[[PostgresqlRows], T]) -> T:
        wire = self._connected()
        with rolled_back(wire):
            # READ COMMITTED: what is read after the lock is what the last holder left
            begun = wire.ask([("BEGIN ISOLATION LEVEL READ COMMITTED", ()), self._lock, self._head])
            rows = self._rows(wire, begun[-1])
            result = work(rows)
            if not rows.changed:
                wire.ask([("ROLLBACK", ())])
                return result
            self._number += 1
            rows.put(
                "INSERT INTO writer VALUES ($1, $2, now())"
                " ON CONFLICT (id) DO UPDATE SET number = EXCLUDED.number, at = EXCLUDED.at",
                *(self._writer, self._number),
            )
            self._commit(wire, rows)
        return result

    def _commit(self, wire: Wire, rows: PostgresqlRows) -> None:
        try:
            tag = wire.ask([*rows.taken(), ("COMMIT", ())])[-1].tag
        except Failure as failure:
            if not failure.lost:
                raise
            if not self._settled(failure):
                raise Failure(failure.text, lost=True, silent=failure.silent) from failure
            return
        if tag != "COMMIT":
            raise StoreError(f"{self.where}: the transaction had failed and was not kept ({tag})")

    def _settled(self, failure: Failure) -> bool:
        """Whether the newest transaction of this store was kept, asked over a new connection."""
        deadline = time.monotonic() + _SETTLE_WITHIN
        while True:
            try:
                wire = self._connected()
                with rolled_back(wire):
                    values = encoded(self._writer), encoded(self._number)
                    kept = ("SELECT count(*) FROM writer WHERE id = $1 AND number = $2", values)
                    answers = wire.ask([("BEGIN", ()), self._lock, kept, ("ROLLBACK", ())])
                return answers[2].rows[0][0] == "1"
            except Failure as error:
                if time.monotonic() > deadline or not postgresql_failures.may_come_back(error):
                    raise postgresql_failures.in_doubt(failure, error, self.where) from error
                time.sleep(0.2)

    def _looked_at(self, work: Callable[[PostgresqlRows], T]) -> T:
        wire = self._connected()
        with rolled_back(wire):
            begun = wire.ask([("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ()), self._head])
            result = work(self._rows(wire, begun[-1]))
            wire.ask([("ROLLBACK", ())])
        return result

    def _rows(self, wire: Wire, head: Answer) -> PostgresqlRows:
        version, now, seq, newest = head.rows[0]
        postgresql_failures.check_version(version, VERSION, self.where)
        return PostgresqlRows(wire, self.where, float(now), (int(seq or 0), newest or chain.GENESIS))

    # --- connection, layout, errors

    def _connected(self) -> Wire:
        if self._wire is None or self._wire.closed:
            self._wire = None
            wire = connect(self._options)
            with rolled_back(wire):
                self._prepare(wire)
            self._wire = wire
        return self._wire

    def _prepare(self, wire: Wire) -> None:
        """Settings of this connection, and whether the server is one that a ledger can be kept on."""
        settings = {
            "search_path": self._path,
            "extra_float_digits": "1",
            "lock_timeout": f"{LOCK_WITHIN}s",
            "statement_timeout": f"{LOCK_WITHIN + 1}s",
            # a controller that was stopped in the middle of a transaction must not stop all others
            "idle_in_transaction_session_timeout": f"{LOCK_WITHIN - 2}s",
        }
        ask = [("SELECT set_config($1, $2, false)", (encoded(name), encoded(to))) for name, to in settings.items()]
        durable = (
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        standby = wire.ask([*ask, (durable, ()), ("SELECT pg_is_in_recovery()", ())])[-1].rows[0][0] == "t"
        postgresql_failures.check_server(wire.version, OLDEST, standby, self.where)

    def _lay_out(self, create: bool) -> None:
        try:
            _tried(lambda: self._looked_at(lambda rows: None))
        except Failure as failure:
            if not create or failure.state != postgresql_failures.NO_TABLE:
                raise
            _tried(self._create)

    def _create(self) -> None:
        wire = self._connected()
        with rolled_back(wire):
            there = "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL"
            names = encoded(self._schema), encoded(f"{self._schema}.layout")
            found = wire.ask([("BEGIN ISOLATION LEVEL READ COMMITTED", ()), self._lock, (there, names)])[-1].rows[0]
            layout = [part.strip() for part in _LAYOUT.split(";") if part.strip()]
            # inside the lock and the transaction: of many that come at once, one makes it, and makes it as a whole
            making = [] if found[0] == "t" else [f'CREATE SCHEMA "{self._schema}"']
            # nothing of the same name elsewhere is in the way, or is taken for ours
            making += [f'SET LOCAL search_path = "{self._schema}", pg_catalog', *layout]
            for statement in making if found[1] == "f" else []:
                wire.ask([(statement, ())])
            wire.ask([("COMMIT", ())])
        _tried(lambda: self._looked_at(lambda rows: None))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """One piece of work at a time; whatever fails becomes a StoreError that says where and what to do."""
        if os.getpid() != self._pid:
            raise StoreError(f"{self.where} was opened before a fork", mend="Open it anew in each process")
        if not self._busy.acquire(blocking=False):
            raise StoreError(f"{self.where} is at work already", mend="Open a store of its own for each thread")
        try:
            yield
        except Failure as failure:
            raise postgresql_failures.told(failure, self.where) from failure
        finally:
            self._busy.release()


class PostgresqlRows:
    """The `Rows` of one transaction. What is written goes out with the next read, or at the end."""

    def __init__(self, wire: Wire, where: str, now: float, newest: Tuple[int, str]) -> None:
        self._wire = wire
        self._where = where
        self._now = now - time.monotonic()
        self._newest: Optional[Tuple[int, str]] = newest
        self._later: List[Statement] = []
        self.changed = False

    def put(self, sql: str, *values: Value) -> None:
        self._later.append((sql, [encoded(value) for value in values]))
        self.changed = True

    def taken(self) -> List[Statement]:
        """What has not gone out yet; from now on it counts as gone."""
        later, self._later = self._later, []
        return later

    def _ask(self, sql: str, *values: Value) -> Answer:
        own = (sql, [encoded(value) for value in values])
        return self._wire.ask([*self.taken(), own])[-1]

    def _put_at_once(self, sql: str, *values: Value) -> Answer:
        self.changed = True
        return self._ask(sql, *values)

    # --- leases

    def lease(self, service: str) -> Optional[Lease]:
        return next(iter(self._leases(f"{_LEASE} WHERE service = $1", service)), None)

    def leases(self, now: float) -> Sequence[Lease]:
        return self._leases(f"{_LEASE} WHERE expires > $1 ORDER BY service", now)

    def put_lease(self, lease: Lease) -> None:
        self.put(
            "INSERT INTO lease VALUES ($1, $2, $3, $4) ON CONFLICT (service)"
            " DO UPDATE SET holder = EXCLUDED.holder, token = EXCLUDED.token, expires = EXCLUDED.expires",
            *(lease.service, lease.holder, lease.token, lease.expires),
        )

    def _leases(self, sql: str, value: Value) -> List[Lease]:
        rows = self._ask(sql, value).rows
        return [Lease(service, holder, int(token), float(expires)) for service, holder, token, expires in rows]

    # --- rollouts

    def rollout(self, rollout_id: str) -> Optional[Rollout]:
        return next(iter(self._rollouts("WHERE id = $1", rollout_id)), None)

    def unfinished(self, service: str) -> Sequence[Rollout]:
        where, values = _of_service(service)
        return self._rollouts(f"WHERE {where} AND {_IS_UNFINISHED} ORDER BY number", *values)

    def last_rollouts(self, service: str, limit: int) -> Sequence[Rollout]:
        where, values = _of_service(service)
        return self._rollouts(f"WHERE {where} ORDER BY number DESC LIMIT ${len(values) + 1}", *values, limit)

    def all_rollouts(self) -> Iterable[Rollout]:
        last, found = "0", True
        while found:
            page = self._ask(f"{_ROLLOUT} WHERE number > $1 ORDER BY number LIMIT {_PAGE}", last).rows
            yield from map(self._as_rollout, page)
            found, last = bool(page), page[-1][-1] if page else last

    def add_rollout(self, rollout: Rollout) -> None:
        one = rollout
        bodies = map(chain.canonical, (one.intent, one.progress, one.outcome))
        self.put(
            "INSERT INTO rollout (id, service, release, kind, state, token, opened_at, updated_at, intent, progress,"
            " outcome, started_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            *(one.id, one.service, one.release, one.kind, one.state, one.token, one.opened_at, one.updated_at),
            *(*bodies, one.by),
        )

    def put_rollout(self, rollout: Rollout) -> None:
        self.put(
            "UPDATE rollout SET state = $1, token = $2, updated_at = $3, outcome = $4 WHERE id = $5",
            *(rollout.state, rollout.token, rollout.updated_at, chain.canonical(rollout.outcome), rollout.id),
        )

    def put_progress(
        self, rollout_id: str, service: str, progress: Mapping[str, object], token: int, now: float
    ) -> bool:
        saved = self._put_at_once(
            "UPDATE rollout SET progress = $1, token = $2, updated_at = $3"
            f" WHERE id = $4 AND service = $5 AND {_IS_UNFINISHED}",
            *(chain.canonical(progress), token, now, rollout_id, service),
        )
        return saved.count > 0

    def _rollouts(self, where: str, *values: Value) -> List[Rollout]:
        return [self._as_rollout(row) for row in self._ask(f"{_ROLLOUT} {where}", *values).rows]

    # --- people's commands

    def commands(self, service: str, after: int, rollout: str) -> Sequence[Command]:
        where = "WHERE ($1 = '' OR service = $1) AND seq > $2 AND ($3 = '' OR rollout = $3) ORDER BY seq"
        return [_command(row) for row in self._ask(f"{_COMMAND} {where}", service, after, rollout).rows]

    def add_command(self, command: Command) -> Command:
        # not a sequence: that would leave a gap behind a transaction that is rolled back
        answer = self._put_at_once(
            "WITH next AS (UPDATE layout SET commands = commands + 1 RETURNING commands)"
            " INSERT INTO command (seq, service, command, said_by, reason, at, taken, rollout)"
            " SELECT commands, $1, $2, $3, $4, $5::float8, $6::float8, $7 FROM next RETURNING seq",
            *(command.service, command.command, command.by, command.reason, command.at, command.taken),
            command.rollout,
        )
        return replace(command, seq=int(answer.rows[0][0]))

    def take_commands(self, rollout: str, now: float) -> None:
        self.put("UPDATE command SET taken = $1 WHERE rollout = $2 AND taken IS NULL", now, rollout)

    # --- the chain

    def newest(self) -> Tuple[int, str]:
        if self._newest is None:
            rows = self._ask("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1").rows
            self._newest = (int(rows[0][0]), rows[0][1]) if rows else (0, chain.GENESIS)
        return self._newest

    def add_entry(self, entry: Entry) -> None:
        self.put(
            "INSERT INTO entry (seq, at, service, kind, actor, body, prev, hash)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *(entry.seq, entry.at, entry.service, entry.kind, entry.actor, chain.canonical(entry.body)),
            *(entry.prev, entry.hash),
        )
        self._newest = (entry.seq, entry.hash)

    def entries(self, service: str, after: int, limit: int) -> Sequence[Entry]:
        where, values = _of_service(service)
        first, second = len(values) + 1, len(values) + 2
        return self._entries(f"WHERE {where} AND seq > ${first} ORDER BY seq LIMIT ${second}", *values, after, limit)

    def last_entries(self, service: str, limit: int) -> Sequence[Entry]:
        where, values = _of_service(service)
        return self._entries(f"WHERE {where} ORDER BY seq DESC LIMIT ${len(values) + 1}", *values, limit)

    def all_entries(self) -> Iterable[Entry]:
        last, found = 0, True
        while found:
            page = self._entries(f"WHERE seq > $1 ORDER BY seq LIMIT {_PAGE}", last)
            yield from page
            found, last = bool(page), page[-1].seq if page else last

    def _entries(self, where: str, *values: Value) -> List[Entry]:
        return [self._as_entry(row) for row in self._ask(f"{_ENTRY} {where}", *values).rows]

    # --- triggers that were decided on, and small documents

    def seen(self, service: str, trigger: str) -> Optional[str]:
        rows = self._ask("SELECT what FROM seen WHERE service = $1 AND trigger = $2", service, trigger).rows
        return rows[0][0] if rows else None

    def mark_seen(self, service: str, trigger: str, what: str, now: float) -> None:
        self.put(
            "INSERT INTO seen VALUES ($1, $2, $3, $4) ON CONFLICT (service, trigger)"
            " DO UPDATE SET what = EXCLUDED.what, at = EXCLUDED.at",
            *(service, trigger, what, now),
        )

    def note(self, key: str) -> Mapping[str, object]:
        return self._notes("key = $1", key).get(key, {})

    def put_note(self, key: str, value: Mapping[str, object]) -> None:
        self.put(
            "INSERT INTO note VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value",
            *(key, chain.canonical(value)),
        )

    def notes(self, prefix: str) -> Mapping[str, Mapping[str, object]]:
        return self._notes("starts_with(key, $1)", prefix)

    def _notes(self, where: str, value: str) -> Dict[str, Mapping[str, object]]:
        found: Dict[str, Mapping[str, object]] = {}
        for key, text in self._ask(f"SELECT key, value FROM note WHERE {where} ORDER BY key", value).rows:
            try:
                found[key] = chain.decode(text)
            except ValueError as error:
                raise self._unreadable(f"Note {key}", error) from error
        return found

    # --- the store itself

    def time(self) -> float:
        """The server's clock, as it was when the transaction began, and what has passed since."""
        return self._now + time.monotonic()

    def cut(self, seq: int, rollouts: Sequence[str], seen_before: float) -> None:
        ids = json.dumps(list(rollouts))
        self.put("DELETE FROM entry WHERE seq <= $1", seq)
        for table, column in (("command", "rollout"), ("rollout", "id")):
            self.put(f"DELETE FROM {table} WHERE {column} IN (SELECT json_array_elements_text($1::json))", ids)
        self.put("DELETE FROM seen WHERE at < $1", seen_before)
        self._newest = None

    def _as_rollout(self, row: Row) -> Rollout:
        try:
            name, service, release, kind, state, token, opened, updated, *bodies, by, number = row
            intent, progress, outcome = map(chain.decode, bodies)
            times = float(opened), float(updated)
            return Rollout(name, service, release, kind, state, int(token), *times, intent, progress, outcome, by)
        except ValueError as error:
            raise self._unreadable(f"Rollout {row[0]}", error) from error

    def _as_entry(self, row: Row) -> Entry:
        seq, at, service, kind, actor, body, prev, own = row
        try:
            entry = Entry(int(seq), float(at), service, kind, actor, chain.decode(body), prev, own)
            if chain.canonical(entry.body) != body:
                raise ValueError("its body is not written as the ledger writes")
            return entry
        except ValueError as error:
            raise self._unreadable(f"Entry {seq}", error) from error

    def _unreadable(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"{self._where}: {what} was changed: it cannot be read ({error})",
            mend="Restore a copy of the ledger, and find out who changed it",
        )


def _of_service(service: str) -> Tuple[str, Tuple[str, ...]]:
    """A condition and its values; one that does not ask whether it applies, so that an index can be used."""
    return ("service = $1", (service,)) if service else ("true", ())


def _command(row: Row) -> Command:
    seq, service, command, by, reason, at, taken, rollout = row
    return Command(int(seq), service, command, by, reason, float(at), float(taken) if taken else None, rollout)


def _tried(once: Callable[[], T]) -> T:
    """`once()`, and again when what stopped it is over at once."""
    tries = 1
    while True:
        try:
            return once()
        except Failure as failure:
            if tries == _TRIES or not postgresql_failures.passing(failure):
                raise
        tries += 1
