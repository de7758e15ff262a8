# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger in PostgreSQL: for many controllers on many machines.

Every piece of work that writes takes one advisory lock for the length of its transaction, so that pieces of work follow
one another and nothing that one has read changes under it. Writes are kept back and go out together with the next read
or with COMMIT: a transaction costs one round trip to begin, in which all that is expected to be asked is asked, one for
each other read, and one to end. Most decisions take two.

When the answer to COMMIT is lost, nobody may guess what became of it. Each transaction leaves a trace: the entry that
it adds, whose hash no other has, or else its number in the row of the store that made it. A new connection looks for
it, once the lock says that the old one has ended.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import uuid
from contextlib import contextmanager
from typing import Callable, Iterator, List, Optional, TypeVar

from .._errors import OptionError, StoreError
from . import postgresql_failures
from .postgresql_rows import IS_UNFINISHED, VERSION, Known, PostgresqlRows
from .postgresql_wire import (
    OLDEST,
    Failure,
    Statement,
    Wire,
    connect,
    encoded,
    need_psycopg,
    parsed,
    rolled_back,
)

T = TypeVar("T")
_TRIES = 3
_SETTLE_WITHIN = 10  # seconds to find out what became of a COMMIT; a server that crashed is back by then, or it is not
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
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
CREATE UNIQUE INDEX rollout_unfinished ON rollout (service) WHERE {IS_UNFINISHED};
CREATE INDEX rollout_service ON rollout (service, number);

CREATE TABLE command (
    seq bigint PRIMARY KEY, service text COLLATE "C" NOT NULL, command text NOT NULL, said_by text NOT NULL,
    reason text NOT NULL, at double precision NOT NULL, taken double precision, rollout text COLLATE "C" NOT NULL);
CREATE INDEX command_rollout ON command (rollout);

CREATE TABLE entry (
    seq bigint PRIMARY KEY, at double precision NOT NULL, service text COLLATE "C" NOT NULL, kind text NOT NULL,
    actor text NOT NULL, body text NOT NULL, prev text NOT NULL, hash text NOT NULL,
    trigger text COLLATE "C" NOT NULL, told text NOT NULL);
CREATE INDEX entry_service ON entry (service, seq);
CREATE INDEX entry_told ON entry (service, trigger, seq) WHERE told <> '';

CREATE TABLE note (key text COLLATE "C" PRIMARY KEY, value text NOT NULL) WITH (fillfactor = 50);
"""


class PostgresqlStore:
    """The `Store` in one schema of one database. For one process and one thread: each opens its own.

    `dsn` is a connection string or URL of libpq, which takes what is left open in it from its own environment and files
    (PGHOST, PGPASSWORD, .pgpass, service files); `password` comes before all of them. The schema with its tables is
    made when it is missing, unless `create` is off. `busy_timeout` is how long to wait for other controllers' writes,
    in seconds; a server that does not answer is given up two seconds later.
    """

    def __init__(
        self,
        dsn: str = "",
        *,
        password: str = "",
        schema: str = "selfheal",
        create: bool = True,
        busy_timeout: float = 6.0,
    ) -> None:
        if not _IDENTIFIER.match(schema) or schema.startswith("pg_"):
            raise OptionError(
                f"The ledger's schema cannot be {schema!r}",
                mend="Use a-z, 0-9 and _, at most 63, not beginning with pg_",
            )
        need_psycopg()
        self._options = {**parsed(dsn), **({"password": password} if password else {})}
        self.where = postgresql_failures.place(self._options, schema)
        self._schema = schema
        self._patience = busy_timeout
        # all that is called by name in this schema, and nothing that another schema could put in its place
        self._path = f'pg_catalog, "{schema}", pg_temp'
        key = int.from_bytes(hashlib.sha256(f"selfheal.delivery {schema}".encode()).digest()[:8], "big", signed=True)
        # READ COMMITTED, whatever the database says: what is read after the lock is what its last holder left
        lock = f"SELECT pg_advisory_xact_lock({key})"
        self._begin: List[Statement] = [("BEGIN ISOLATION LEVEL READ COMMITTED", ()), (lock, ())]
        self._writer, self._number = uuid.uuid4().hex, 0
        self._notes: Known = {}
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
        rows = PostgresqlRows(wire, self.where, self._schema, self._begin, self._notes)
        with rolled_back(wire):
            result = work(rows)
            if rows.changed:
                rows.begin()  # before COMMIT can go out: it may be another version's layout
                self._commit(wire, rows)
            elif rows.begun:
                wire.ask([("ROLLBACK", ())])
        return result

    def _commit(self, wire: Wire, rows: PostgresqlRows) -> None:
        trace = self._trace(rows)
        try:
            tag = wire.ask([*rows.taken(), ("COMMIT", ())])[-1].tag
        except Failure as failure:
            if not failure.lost:
                raise
            if not self._settled(failure, trace):
                raise Failure(failure.text, lost=True) from failure  # nothing was kept, and the server answers
            return
        if tag != "COMMIT":
            raise StoreError(f"{self.where}: the transaction had failed and was not kept ({tag})")

    def _trace(self, rows: PostgresqlRows) -> Statement:
        """What finds out afterwards whether this transaction was kept: the entry that it adds, or a row of its own."""
        if rows.added is not None:
            seq, own = rows.added
            return "SELECT count(*) FROM entry WHERE seq = $1 AND hash = $2", (encoded(seq), encoded(own))
        self._number += 1
        if self._number == 1:
            rows.put("writer", "DELETE FROM writer WHERE at < now() - interval '1 day'")
        rows.put(
            "writer",
            "INSERT INTO writer VALUES ($1, $2, now())"
            " ON CONFLICT (id) DO UPDATE SET number = EXCLUDED.number, at = EXCLUDED.at",
            *(self._writer, self._number),
        )
        values = encoded(self._writer), encoded(self._number)
        return "SELECT count(*) FROM writer WHERE id = $1 AND number = $2", values

    def _settled(self, failure: Failure, trace: Statement) -> bool:
        """Whether the transaction that leaves this `trace` was kept, asked over a new connection."""
        deadline = time.monotonic() + _SETTLE_WITHIN
        while True:
            try:
                wire = self._connected()
                with rolled_back(wire):
                    answers = wire.ask([*self._begin, trace, ("ROLLBACK", ())])
                return answers[2].rows[0][0] == "1"
            except Failure as error:
                if time.monotonic() > deadline or not postgresql_failures.may_come_back(error):
                    raise postgresql_failures.in_doubt(failure, error, self.where) from error
                time.sleep(0.2)

    def _looked_at(self, work: Callable[[PostgresqlRows], T]) -> T:
        wire = self._connected()
        begin: List[Statement] = [("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ())]
        rows = PostgresqlRows(wire, self.where, self._schema, begin, {})
        with rolled_back(wire):
            result = work(rows)
            if rows.changed:
                raise StoreError(f"{self.where}: what only reads wrote something", mend="This is a mistake in the code")
            if rows.begun:
                wire.ask([("ROLLBACK", ())])
        return result

    # --- connection, layout, errors

    def _connected(self) -> Wire:
        if self._wire is None or self._wire.closed:
            self._wire = None
            wire = connect(self._options, self._patience + 2)
            try:
                self._prepare(wire)
            except BaseException:
                wire.close()
                raise
            self._wire = wire
        return self._wire

    def _prepare(self, wire: Wire) -> None:
        """Settings of this connection, and whether the server is one that a ledger can be kept on."""
        settings = {
            "search_path": self._path,
            "extra_float_digits": "1",
            # one after another, so that whoever gives up can say why (milliseconds)
            "lock_timeout": f"{self._patience * 1000:.0f}",
            "statement_timeout": f"{self._patience * 1000 + 1000:.0f}",
            # a controller that was stopped in the middle of a transaction must not stop all others
            "idle_in_transaction_session_timeout": f"{self._patience * 600:.0f}",
        }
        ask = [("SELECT set_config($1, $2, false)", (encoded(name), encoded(to))) for name, to in settings.items()]
        durable = (
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        standby = wire.ask([*ask, (durable, ()), ("SELECT pg_is_in_recovery()", ())])[-1].rows[0][0] == "t"
        postgresql_failures.check_server(wire.version, OLDEST, standby, self.where)

    def _lay_out(self, create: bool) -> None:
        try:
            _tried(lambda: self._looked_at(lambda rows: rows.begin()))
        except Failure as failure:
            if not create or failure.state != postgresql_failures.NO_TABLE:
                raise
            _tried(self._create)

    def _create(self) -> None:
        wire = self._connected()
        with rolled_back(wire):
            there = "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL"
            names = encoded(self._schema), encoded(f"{self._schema}.layout")
            found = wire.ask([*self._begin, (there, names)])[-1].rows[0]
            layout = [part.strip() for part in _LAYOUT.split(";") if part.strip()]
            # inside the lock and the transaction: of many that come at once, one makes it, and makes it as a whole
            making = [] if found[0] == "t" else [f'CREATE SCHEMA "{self._schema}"']
            # nothing of the same name elsewhere is in the way, or is taken for ours
            making += [f'SET LOCAL search_path = "{self._schema}", pg_catalog', *layout]
            for statement in making if found[1] == "f" else []:
                wire.ask([(statement, ())])
            wire.ask([("COMMIT", ())])
        _tried(lambda: self._looked_at(lambda rows: rows.begin()))

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
