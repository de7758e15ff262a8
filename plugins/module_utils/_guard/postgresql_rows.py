# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of one transaction in PostgreSQL, with as few round trips as there can be.

A round trip takes longer than the statement in it, and a statement longer than a row of it. So one statement asks
everything that is expected to be asked, when the transaction begins; writes wait for the next read or the end, and then
those of different tables go as one statement.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from functools import lru_cache, partial
from typing import Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from .._errors import StoreError
from . import chain, postgresql_failures
from .model import UNFINISHED, Command, Entry, Lease, Rollout
from .postgresql_wire import Answer, Row, Statement, Value, Wire, encoded

VERSION = 3
IS_UNFINISHED = f"state IN {UNFINISHED!r}"
_PAGE = 1000

_LEASE = "SELECT service, holder, token, expires FROM lease"
_ROLLOUT = (
    "SELECT id, service, release, kind, state, token, opened_at, updated_at, intent, progress, outcome, started_by,"
    " number FROM rollout"
)
_COMMAND = "SELECT seq, service, command, said_by, reason, at, taken, rollout FROM command"
_ENTRY = "SELECT seq, at, service, kind, actor, body, prev, hash FROM entry"

_LEASE_OF = f"{_LEASE} WHERE service = $1"
# one at most, says its index; without an order there is no other index to be tempted by
_UNFINISHED_OF = f"{_ROLLOUT} WHERE service = $1 AND {IS_UNFINISHED}"
# the sum keeps the newest entries from being searched one by one for a trigger that none is about
_TOLD = "SELECT told FROM entry WHERE service = $1 AND trigger = $2 AND told <> '' ORDER BY seq + 0 DESC LIMIT 1"
_NOTE = "SELECT key, value FROM note WHERE key = $1"
_TOGETHER = 8  # rows in one INSERT, at most
_MARK = re.compile(r"\$(\d+)")

# rows that are asked for by text keys alone: their table, the statement, and the keys
Question = Tuple[str, str, Tuple[str, ...]]
# notes by key, as they were read or written last: while its text is the same, one need not be read again
Known = Dict[str, Tuple[str, Mapping[str, object]]]


class Expected(NamedTuple):
    service: str = ""
    trigger: str = ""
    notes: Tuple[str, ...] = ()


@lru_cache(maxsize=64)
def _opening(schema: str, notes: Optional[int]) -> str:
    """The layout's version, the server's time, and the newest entry's seq and hash; one row for each version.

    With a number of `notes` in each row also what is `Expected`: $1 is the service, $2 the trigger, then come the keys.
    """
    newest = "LEFT JOIN (SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1) AS newest ON true"
    head, source = "version, extract(epoch FROM clock_timestamp()), seq, hash", f'FROM "{schema}".layout {newest}'
    if notes is None:
        return f"SELECT {head} {source}"
    asked = [
        "holder, token, expires",
        f"EXISTS (SELECT FROM rollout WHERE service = $1 AND {IS_UNFINISHED})",
        f"({_TOLD})",
        *(f"(SELECT value FROM note WHERE key = ${number + 3})" for number in range(notes)),
    ]
    return f"SELECT {head}, {', '.join(asked)} {source} LEFT JOIN lease ON service = $1"


class Insert(NamedTuple):
    """Rows for one table, of which no two have the same first value."""

    into: str
    then: str
    rows: List[List[bytes]]

    def takes(self, into: str, row: Sequence[bytes]) -> bool:
        return self.into == into and len(self.rows) < _TOGETHER and all(row[0] != other[0] for other in self.rows)

    def statement(self) -> Statement:
        marks = _marks(len(self.rows), len(self.rows[0]))
        return f"{self.into} VALUES {marks} {self.then}", [value for row in self.rows for value in row]


def merged(writes: Sequence[Tuple[str, Statement]]) -> List[Statement]:
    """Statements with their tables, as fewer: in one of them, none sees what another writes, nor needs to."""
    groups: List[Dict[str, Statement]] = []
    for table, statement in writes:
        if not groups or table in groups[-1]:
            groups.append({})
        groups[-1][table] = statement
    return [
        (
            _together(tuple((sql, len(values)) for sql, values in group.values())),
            [value for _sql, values in group.values() for value in values],
        )
        for group in groups
    ]


def _moved(by: int, mark: "re.Match[str]") -> str:
    return f"${int(mark[1]) + by}"


@lru_cache(maxsize=256)
def _together(statements: Tuple[Tuple[str, int], ...]) -> str:
    """One statement of several, each with how many values it has."""
    parts: List[str] = []
    before = 0
    for sql, count in statements:
        parts.append(_MARK.sub(partial(_moved, before), sql))
        before += count
    first = ", ".join(f"part{number} AS ({part})" for number, part in enumerate(parts[:-1]))
    return f"WITH {first} {parts[-1]}" if first else parts[-1]


@lru_cache(maxsize=64)
def _marks(rows: int, columns: int) -> str:
    """($1, $2), ($3, $4): where the values go."""
    each = [[f"${row * columns + column + 1}" for column in range(columns)] for row in range(rows)]
    return ", ".join(f"({', '.join(one)})" for one in each)


class PostgresqlRows:
    """The `Rows` of one transaction, which the statements in `begin` begin.

    Nothing goes out before something is asked for.
    """

    lag = 128

    def __init__(self, wire: Wire, where: str, schema: str, begin: Sequence[Statement], notes: Known) -> None:
        self._wire = wire
        self._where = where
        self._schema = schema
        self._begin = list(begin)
        self._notes = notes
        self._expected: Optional[Expected] = None
        self._known: Dict[str, Dict[Question, List[Row]]] = {}
        self._later: List[Tuple[str, Union[Insert, Statement]]] = []
        self._newest: Optional[Tuple[int, str]] = None
        self._ahead = 0.0  # of the server's clock before our monotonic one
        self.added: Optional[Tuple[int, str]] = None  # seq and hash of the newest entry that the transaction adds
        self.changed = False

    @property
    def begun(self) -> bool:
        return not self._begin

    def begin(self) -> None:
        """Begin the transaction, unless it has begun; StoreError for a layout of another version."""
        if self._begin:
            self._exchange([])

    def taken(self) -> List[Statement]:
        """What has not gone out yet; from now on it counts as gone."""
        later, self._later = self._later, []
        return merged([(table, one.statement() if isinstance(one, Insert) else one) for table, one in later])

    def put(self, table: str, sql: str, *values: Value) -> None:
        self._later.append((table, (sql, [encoded(value) for value in values])))
        self._written(table)

    def _insert(self, table: str, into: str, *values: Value, then: str = "") -> None:
        row = [encoded(value) for value in values]
        last = next((one for other, one in reversed(self._later) if other == table), None)
        if isinstance(last, Insert) and last.takes(into, row):
            last.rows.append(row)
        else:
            self._later.append((table, Insert(into, then, [row])))
        self._written(table)

    def _put_at_once(self, table: str, sql: str, *values: Value) -> Answer:
        answer = self._exchange([(sql, [encoded(value) for value in values])])[-1]
        self._written(table)
        return answer

    def _written(self, table: str) -> None:
        self._known.pop(table, None)
        self.changed = True

    def _ask(self, sql: str, *values: Value) -> List[Row]:
        return self._exchange([(sql, [encoded(value) for value in values])])[-1].rows

    def expect(self, service: str, trigger: str, notes: Sequence[str]) -> None:
        # what waits to be written would change the answers
        if not self.begun and not self._later:
            self._expected = Expected(service, trigger, tuple(notes))

    def _find(self, table: str, sql: str, *keys: str) -> List[Row]:
        """The rows for `keys`; known when they were asked for before and the table was not written to since."""
        question = table, sql, keys
        if self._expected is not None and not self._later:
            self.begin()
        if question not in self._known.get(table, ()):
            rows = self._ask(sql, *keys)
            self._known.setdefault(table, {})[question] = rows
        return self._known[table][question]

    def _exchange(self, statements: Sequence[Statement]) -> List[Answer]:
        """One round trip, with what waits to go out before `statements`."""
        if not self._begin:
            return self._wire.ask([*self.taken(), *statements])
        begin, self._begin = self._begin, []
        expected, self._expected = None if self._later else self._expected, None
        values = [encoded(value) for value in (*expected[:2], *expected.notes)] if expected is not None else []
        opening = _opening(self._schema, len(expected.notes) if expected is not None else None)
        answers = self._wire.ask([*begin, (opening, values), *self.taken(), *statements])
        head = answers[len(begin)].rows
        postgresql_failures.check_version(", ".join(row[0] for row in head), VERSION, self._where)
        now, seq, newest = head[0][1:4]
        self._ahead = float(now) - time.monotonic()
        if self._newest is None:
            self._newest = int(seq or 0), newest or chain.GENESIS
        if expected is not None:
            self._learn(expected, head[0][4:])
        return answers

    def _learn(self, expected: Expected, row: Row) -> None:
        holder, token, expires, unfinished, told, *notes = row
        service = expected.service
        self._know("lease", _LEASE_OF, (service,), [(service, holder, token, expires)] if token else [])
        if unfinished == "f":  # else it is asked for when somebody wants to know which
            self._know("rollout", _UNFINISHED_OF, (service,), [])
        if expected.trigger:
            self._know("entry", _TOLD, (service, expected.trigger), [(told,)] if told else [])
        for key, text in zip(expected.notes, notes):
            self._know("note", _NOTE, (key,), [(key, text)] if text else [])

    def _know(self, table: str, sql: str, keys: Tuple[str, ...], rows: List[Row]) -> None:
        self._known.setdefault(table, {})[table, sql, keys] = rows

    # --- leases

    def lease(self, service: str) -> Optional[Lease]:
        rows = self._find("lease", _LEASE_OF, service)
        return _lease(rows[0]) if rows else None

    def leases(self, now: float) -> Sequence[Lease]:
        return [_lease(row) for row in self._ask(f"{_LEASE} WHERE expires > $1 ORDER BY service", now)]

    def put_lease(self, lease: Lease) -> None:
        self.put(
            "lease",
            "INSERT INTO lease VALUES ($1, $2, $3, $4) ON CONFLICT (service)"
            " DO UPDATE SET holder = EXCLUDED.holder, token = EXCLUDED.token, expires = EXCLUDED.expires",
            *(lease.service, lease.holder, lease.token, lease.expires),
        )

    # --- rollouts

    def rollout(self, rollout_id: str) -> Optional[Rollout]:
        rows = self._find("rollout", f"{_ROLLOUT} WHERE id = $1", rollout_id)
        return self._as_rollout(rows[0]) if rows else None

    def unfinished(self, service: str) -> Sequence[Rollout]:
        if not service:
            return self._rollouts(f"WHERE {IS_UNFINISHED} ORDER BY number")
        return [self._as_rollout(row) for row in self._find("rollout", _UNFINISHED_OF, service)]

    def last_rollouts(self, service: str, limit: int) -> Sequence[Rollout]:
        where, values = _of_service(service)
        return self._rollouts(f"WHERE {where} ORDER BY number DESC LIMIT ${len(values) + 1}", *values, limit)

    def all_rollouts(self) -> Iterable[Rollout]:
        last, found = "0", True
        while found:
            page = self._ask(f"{_ROLLOUT} WHERE number > $1 ORDER BY number LIMIT {_PAGE}", last)
            yield from map(self._as_rollout, page)
            found, last = bool(page), page[-1][-1] if page else last

    def add_rollout(self, rollout: Rollout) -> None:
        one = rollout
        bodies = map(chain.canonical, (one.intent, one.progress, one.outcome))
        self.put(
            "rollout",
            "INSERT INTO rollout (id, service, release, kind, state, token, opened_at, updated_at, intent, progress,"
            " outcome, started_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
            *(one.id, one.service, one.release, one.kind, one.state, one.token, one.opened_at, one.updated_at),
            *(*bodies, one.by),
        )

    def put_rollout(self, rollout: Rollout) -> None:
        self.put(
            "rollout",
            "UPDATE rollout SET state = $1, token = $2, updated_at = $3, outcome = $4 WHERE id = $5",
            *(rollout.state, rollout.token, rollout.updated_at, chain.canonical(rollout.outcome), rollout.id),
        )

    def put_progress(
        self, rollout_id: str, service: str, progress: Mapping[str, object], token: int, now: float
    ) -> bool:
        saved = self._put_at_once(
            "rollout",
            "UPDATE rollout SET progress = $1, token = $2, updated_at = $3"
            f" WHERE id = $4 AND service = $5 AND {IS_UNFINISHED}",
            *(chain.canonical(progress), token, now, rollout_id, service),
        )
        return saved.count > 0

    def _rollouts(self, where: str, *values: Value) -> List[Rollout]:
        return [self._as_rollout(row) for row in self._ask(f"{_ROLLOUT} {where}", *values)]

    # --- people's commands

    def commands(self, service: str, after: int, rollout: str) -> Sequence[Command]:
        where = "WHERE ($1 = '' OR service = $1) AND seq > $2 AND ($3 = '' OR rollout = $3) ORDER BY seq"
        return [_command(row) for row in self._ask(f"{_COMMAND} {where}", service, after, rollout)]

    def add_command(self, command: Command) -> Command:
        # not a sequence: that would leave a gap behind a transaction that is rolled back
        answer = self._put_at_once(
            "command",
            "WITH next AS (UPDATE layout SET commands = commands + 1 RETURNING commands)"
            " INSERT INTO command (seq, service, command, said_by, reason, at, rollout)"
            " SELECT commands, $1, $2, $3, $4, $5::float8, $6 FROM next RETURNING seq",
            *(command.service, command.command, command.by, command.reason, command.at, command.rollout),
        )
        return replace(command, seq=int(answer.rows[0][0]))

    def take_commands(self, rollout: str, now: float) -> None:
        self.put("command", "UPDATE command SET taken = $1 WHERE rollout = $2 AND taken IS NULL", now, rollout)

    # --- the chain

    def newest(self) -> Tuple[int, str]:
        self.begin()
        if self._newest is None:
            rows = self._ask("SELECT seq, hash FROM entry ORDER BY seq DESC LIMIT 1")
            self._newest = (int(rows[0][0]), rows[0][1]) if rows else (0, chain.GENESIS)
        return self._newest

    def add_entry(self, entry: Entry, body: str = "", trigger: str = "", told: str = "") -> None:
        self._insert(
            "entry",
            "INSERT INTO entry (seq, at, service, kind, actor, body, prev, hash, trigger, told)",
            *(entry.seq, entry.at, entry.service, entry.kind, entry.actor, body or chain.written(entry.body)),
            *(entry.prev, entry.hash, trigger, told),
        )
        self._newest = self.added = (entry.seq, entry.hash)

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
        return [self._as_entry(row) for row in self._ask(f"{_ENTRY} {where}", *values)]

    # --- triggers that were decided on, and small documents

    def told(self, service: str, trigger: str) -> Optional[str]:
        rows = self._find("entry", _TOLD, service, trigger)
        return rows[0][0] if rows else None

    def all_told(self) -> Mapping[Tuple[str, str], str]:
        rows = self._ask("SELECT service, trigger, told FROM entry WHERE told <> '' ORDER BY seq")
        return {(service, trigger): told for service, trigger, told in rows}

    def note(self, key: str) -> Mapping[str, object]:
        return self._as_notes(self._find("note", _NOTE, key)).get(key, {})

    def put_note(self, key: str, value: Mapping[str, object]) -> None:
        text = chain.written(value)
        then = "ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value"
        self._insert("note", "INSERT INTO note (key, value)", key, text, then=then)
        self._notes[key] = text, value

    def notes(self, prefix: str) -> Mapping[str, Mapping[str, object]]:
        sql = "SELECT key, value FROM note WHERE starts_with(key, $1) ORDER BY key"
        return self._as_notes(self._find("note", sql, prefix))

    def _as_notes(self, rows: Sequence[Row]) -> Dict[str, Mapping[str, object]]:
        found: Dict[str, Mapping[str, object]] = {}
        for key, text in rows:
            known, note = self._notes.get(key, ("", {}))
            try:
                found[key] = note if known == text else chain.decode(text)
            except ValueError as error:
                raise self._unreadable(f"Note {key}", error) from error
            self._notes[key] = text, found[key]
        return found

    # --- the store itself

    def time(self) -> float:
        """The server's clock, as it was when the transaction began, and what has passed since."""
        self.begin()
        return self._ahead + time.monotonic()

    def cut(self, seq: int, rollouts: Sequence[str]) -> None:
        self.begin()
        ids = json.dumps(list(rollouts))
        self.put("entry", "DELETE FROM entry WHERE seq <= $1", seq)
        for table, column in (("command", "rollout"), ("rollout", "id")):
            self.put(table, f"DELETE FROM {table} WHERE {column} IN (SELECT json_array_elements_text($1::json))", ids)
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
            if chain.written(entry.body) != body:
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


def _lease(row: Row) -> Lease:
    service, holder, token, expires = row
    return Lease(service, holder, int(token), float(expires))


def _command(row: Row) -> Command:
    seq, service, command, by, reason, at, taken, rollout = row
    return Command(int(seq), service, command, by, reason, float(at), float(taken) if taken else None, rollout)
