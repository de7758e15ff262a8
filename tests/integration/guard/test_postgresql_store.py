# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's store in PostgreSQL, on a real server that is locked, stopped, killed and cut off."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import guard_load
import pytest
from postgres import PASSWORD, Postgres, postgres

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.book import Book
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Command, Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.postgresql import PostgresqlStore
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.postgresql_rows import PostgresqlRows
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.postgresql_wire import Failure

NOW = 1_800_000_000.25
SHOP = "prod/shop"
ROLLOUT = Rollout("r1", SHOP, "2.0", "canary", "open", 7, NOW, NOW, {"fleet": ["a"]}, {"step": 0}, {}, "ada")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture
def schema(server: Postgres, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"t{abs(hash(request.node.name)):x}"
    yield name
    server.sql(f'DROP SCHEMA IF EXISTS "{name}" CASCADE')


@pytest.fixture
def store(server: Postgres, schema: str) -> Iterator[PostgresqlStore]:
    opened = PostgresqlStore(server.dsn, schema=schema, busy_timeout=1.0)
    yield opened
    opened.close()


def add(store: PostgresqlStore, step: int = 1) -> None:
    def work(rows: PostgresqlRows) -> None:
        rows.put_note("count", {"n": count(rows) + step})

    store.write(work)


def count(rows: PostgresqlRows) -> int:
    found = rows.note("count").get("n", 0)
    assert isinstance(found, int)
    return found


def entry(
    rows: PostgresqlRows, kind: str = "note", service: str = SHOP, trigger: str = "", told: str = "", **body: object
) -> None:
    seq, prev = rows.newest()
    one = chain.link(seq + 1, prev, at=NOW, service=service, kind=kind, actor="ada", body=body)
    rows.add_entry(one, trigger=trigger, told=told)


# --- rows


def test_what_is_written_comes_back_the_same_in_and_after_the_transaction(store: PostgresqlStore) -> None:
    lease = Lease(SHOP, "ci 7 äö", 7, NOW + 0.1)
    other = Lease("prod/a", "ci", 2**60, 1e308)

    def look(rows: PostgresqlRows) -> List[object]:
        return [
            rows.lease(SHOP),
            rows.lease("nobody"),
            rows.leases(NOW),
            rows.rollout("r1"),
            rows.unfinished(SHOP),
            rows.unfinished(""),
            rows.last_rollouts("", 5),
            list(rows.all_rollouts()),
            rows.commands(SHOP, 0, "r1"),
            rows.told(SHOP, "alert:1"),
            rows.all_told(),
            rows.note("memory:" + SHOP),
            rows.notes("memory:"),
            rows.entries(SHOP, 0, 10),
            rows.last_entries("", 1),
            list(rows.all_entries()),
            rows.newest(),
        ]

    def work(rows: PostgresqlRows) -> List[object]:
        look(rows)  # what was known before a write must not be told after it
        rows.put_lease(lease)
        rows.put_lease(other)
        rows.add_rollout(ROLLOUT)
        assert rows.add_command(Command(0, SHOP, "hold", "bob", "", NOW, None, "r1")).seq == 1
        rows.put_note("memory:" + SHOP, {"wörter": ["\U0001f680", 1.5, None]})
        rows.put_note("memory:", {"token": 7})
        rows.put_note("memory", {})
        entry(rows, "trigger", trigger="alert:1", text="é\n")
        entry(rows, "decision", trigger="alert:1", told="denied")
        return look(rows)

    inside = store.write(work)
    assert inside == store.read(look)
    assert inside[:5] == [lease, None, [other, lease], ROLLOUT, [ROLLOUT]]
    assert inside[8] == [Command(1, SHOP, "hold", "bob", "", NOW, None, "r1")]
    assert inside[9:11] == ["denied", {(SHOP, "alert:1"): "denied"}]
    assert inside[12] == {"memory:": {"token": 7}, "memory:" + SHOP: {"wörter": ["\U0001f680", 1.5, None]}}
    entries = inside[15]
    assert isinstance(entries, list)
    assert [one.kind for one in entries] == ["trigger", "decision"]
    assert chain.first_break(entries) is None


def test_what_is_expected_is_never_older_than_what_was_written(store: PostgresqlStore) -> None:
    def work(early: bool) -> Callable[[PostgresqlRows], List[object]]:
        def whole(rows: PostgresqlRows) -> List[object]:
            if early:
                rows.expect(SHOP, "alert:1", ["memory:"])
            rows.put_lease(Lease(SHOP, "ci", 1 + early, NOW))
            entry(rows, trigger="alert:1", told=f"told {early}")
            rows.put_note("memory:", {"early": early})
            rows.expect(SHOP, "alert:1", ["memory:"])
            if early:
                rows.add_rollout(ROLLOUT)
                assert rows.put_progress("r1", SHOP, {"step": 2}, 7, NOW)
            return [rows.lease(SHOP), rows.told(SHOP, "alert:1"), rows.note("memory:"), len(rows.unfinished(SHOP))]

        return whole

    for early in (False, True):
        found = store.write(work(early))
        assert found == [Lease(SHOP, "ci", 1 + early, NOW), f"told {early}", {"early": early}, int(early)]


def test_rows_that_change(store: PostgresqlStore) -> None:
    def work(rows: PostgresqlRows) -> None:
        rows.add_rollout(ROLLOUT)
        assert rows.put_progress("r1", SHOP, {"step": 1}, 8, NOW + 1)
        assert not rows.put_progress("r1", "other", {"step": 2}, 8, NOW + 1)
        rows.add_command(Command(0, SHOP, "hold", "bob", "", NOW, None, "r1"))
        rows.take_commands("r1", NOW + 1)
        saved = rows.rollout("r1")
        assert saved == replace(ROLLOUT, progress={"step": 1}, token=8, updated_at=NOW + 1)
        rows.put_rollout(replace(ROLLOUT, state="done", outcome={"places": 3}))
        assert rows.unfinished(SHOP) == []
        assert not rows.put_progress("r1", SHOP, {"step": 3}, 8, NOW + 1)
        rows.add_rollout(replace(ROLLOUT, id="r2"))
        entry(rows, trigger="old", told="x")
        entry(rows, trigger="new", told="x")

    store.write(work)
    taken = store.read(lambda rows: rows.commands("", 0, ""))
    assert [command.taken for command in taken] == [NOW + 1]
    assert [rollout.id for rollout in store.read(lambda rows: rows.last_rollouts(SHOP, 1))] == ["r2"]

    store.write(lambda rows: rows.cut(1, ["r1"]))
    assert [one.seq for one in store.read(lambda rows: list(rows.all_entries()))] == [2]
    assert store.read(lambda rows: [rows.rollout("r1"), rows.commands("", 0, ""), rows.told(SHOP, "old")]) == [
        None,
        [],
        None,
    ]
    assert store.read(lambda rows: rows.told(SHOP, "new")) == "x"
    # a number is never given twice, also after its command is gone
    again = store.write(lambda rows: rows.add_command(Command(0, SHOP, "hold", "bob", "", NOW, None, "r2")))
    assert again.seq == 2


def test_thousands_of_rows_come_in_pages(store: PostgresqlStore) -> None:
    def work(rows: PostgresqlRows) -> None:
        for number in range(2001):
            entry(rows, n=number)
            rows.add_rollout(replace(ROLLOUT, id=f"r{number}", state="done"))

    store.write(work)
    assert chain.first_break(store.read(lambda rows: list(rows.all_entries()))) is None
    assert len(store.read(lambda rows: list(rows.all_rollouts()))) == 2001


def test_work_that_fails_leaves_nothing(store: PostgresqlStore) -> None:
    def work(rows: PostgresqlRows) -> None:
        rows.put_note("count", {"n": 1})
        assert rows.note("count") == {"n": 1}
        entry(rows)
        raise KeyError("x")

    with pytest.raises(KeyError):
        store.write(work)
    with pytest.raises(StoreError, match="only reads wrote"):
        store.read(lambda rows: rows.put_note("count", {"n": 1}))
    assert store.read(lambda rows: [rows.note("count"), rows.newest()]) == [{}, (0, chain.GENESIS)]


@pytest.mark.parametrize("text", ["nul\0", "half \ud800"])
def test_a_text_that_cannot_be_kept_is_refused(store: PostgresqlStore, text: str) -> None:
    with pytest.raises(OptionError, match="cannot keep a text"):
        store.write(lambda rows: rows.put_lease(Lease(text, "x", 1, NOW)))
    add(store)


def test_the_servers_clock(store: PostgresqlStore) -> None:
    assert abs(store.read(lambda rows: rows.time()) - time.time()) < 5


def test_a_read_sees_one_moment(server: Postgres, schema: str, store: PostgresqlStore) -> None:
    other = PostgresqlStore(server.dsn, schema=schema)
    add(store)

    def work(rows: PostgresqlRows) -> List[object]:
        before = rows.notes("c")
        add(other)
        return [before, rows.note("count")]

    assert store.read(work) == [{"count": {"n": 1}}, {"n": 1}]
    other.close()


# --- many at once


def increments(dsn: str, schema: str, times: int) -> None:
    store = PostgresqlStore(dsn, schema=schema)
    for _time in range(times):
        add(store)
    store.close()


@pytest.mark.parametrize("kind", [threading.Thread, multiprocessing.get_context("fork").Process])
def test_nothing_is_lost_between_many_that_also_create_it(server: Postgres, schema: str, kind: Any) -> None:
    workers = [kind(target=increments, args=(server.dsn, schema, 100)) for _worker in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    store = PostgresqlStore(server.dsn, schema=schema, create=False)
    assert store.read(count) == 800
    store.close()


def test_a_store_is_for_one_thread_and_one_process(store: PostgresqlStore) -> None:
    with pytest.raises(StoreError, match="at work already"):
        store.write(lambda rows: add(store))
    add(store)
    child = os.fork()
    if child == 0:
        try:
            add(store)
        except StoreError as error:
            os._exit(7 if "before a fork" in error.message else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    add(store)
    assert store.read(count) == 2


def test_who_is_stopped_in_a_transaction_stops_nobody_for_long(
    server: Postgres, schema: str, store: PostgresqlStore
) -> None:
    inside, calls = threading.Event(), []

    def stopped(rows: PostgresqlRows) -> None:
        calls.append(rows.note("count"))
        inside.set()
        if len(calls) == 1:
            time.sleep(1.5)  # as SIGSTOP would: longer than the server lets a transaction wait
        rows.put_note("count", {"n": count(rows) + 1})

    thread = threading.Thread(target=lambda: store.write(stopped))
    thread.start()
    assert inside.wait(10)
    other = PostgresqlStore(server.dsn, schema=schema, busy_timeout=1.0)
    add(other, 10)
    thread.join()
    assert calls == [{}, {"n": 10}]
    assert other.read(count) == 11
    other.close()


# --- a server that goes away


def test_a_server_that_was_restarted_is_found_again(server: Postgres, store: PostgresqlStore) -> None:
    add(store)
    server.restart()
    add(store)
    server.restart()
    assert store.read(count) == 2


def test_a_server_killed_in_the_middle_keeps_all_or_nothing(server: Postgres, store: PostgresqlStore) -> None:
    add(store)
    calls = []

    def work(rows: PostgresqlRows) -> None:
        rows.put_note("count", {"n": count(rows) + 1})
        calls.append(rows.notes("c"))  # sends it
        if len(calls) == 1:
            server.kill()
            server.start()
        entry(rows)

    store.write(work)
    assert calls == [{"count": {"n": 2}}] * 2
    assert store.read(lambda rows: [count(rows), rows.newest()[0]]) == [2, 1]
    server.kill()
    with pytest.raises(StoreError, match=r"does not answer.*nothing was written, so try again"):
        add(store)
    server.start()
    add(store)
    assert store.read(count) == 3


def test_a_server_that_hangs_is_given_up(server: Postgres, store: PostgresqlStore) -> None:
    add(store)
    server.hang()
    try:
        began = time.monotonic()
        with pytest.raises(StoreError, match="does not answer .no answer within 3 s"):
            add(store)
        assert time.monotonic() - began < 5
    finally:
        server.go_on()
    add(store)


class Cutter:
    """A TCP proxy before the server. When it is armed, what the client sends next is the last it will send.

    `before`: the server never gets it. `after`: the server gets it and answers, and the client never hears it.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.armed = ""
        self.then: Callable[[], object] = lambda: None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                if self._listener.fileno() < 0:
                    return
                client.close()
                continue
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(client):
            how, self.armed = self.armed, ""
            if how != "before":
                self._deaf = bool(how)
                server.sendall(data)
            if how:
                time.sleep(0.2 if how == "after" else 0)  # the server ends what it was told
                self.then()
                break
        _end(client, server)

    _deaf = False

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        while data := _received(server):
            if not self._deaf:
                client.sendall(data)
        _end(client, server)
        self._deaf = False


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except OSError:
        return b""


def _end(*ends: socket.socket) -> None:
    for end in ends:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


@contextmanager
def cut_off(server: Postgres, schema: str) -> Iterator[Dict[str, Any]]:
    cutter = Cutter(server.port)
    store = PostgresqlStore(f"{server.dsn} port={cutter.port}", schema=schema, busy_timeout=2.0)
    calls: List[int] = []

    def work(rows: PostgresqlRows) -> int:
        calls.append(count(rows))
        rows.put_note("count", {"n": calls[-1] + 1})
        if given["adds"]:
            entry(rows)
        cutter.armed = how if len(calls) == 1 else ""
        return calls[-1]

    how = ""
    given: Dict[str, Any] = {"cutter": cutter, "store": store, "calls": calls, "adds": True}

    def run(mode: str) -> int:
        nonlocal how
        how = mode
        return store.write(work)

    given["run"] = run
    try:
        yield given
    finally:
        store.close()
        cutter.close()


@pytest.mark.parametrize("adds", [True, False])  # an entry, which is looked for then
@pytest.mark.parametrize(("mode", "calls"), [("before", [0, 0]), ("after", [0])])
def test_a_lost_answer_to_commit_is_found_out(
    server: Postgres, schema: str, mode: str, calls: List[int], adds: bool
) -> None:
    with cut_off(server, schema) as given:
        given["adds"] = adds
        assert given["run"](mode) == 0
        assert given["calls"] == calls
        assert given["store"].read(lambda rows: [count(rows), rows.newest()[0]]) == [1, int(adds)]
    assert server.sql(f"SELECT count(*) FROM {schema}.writer") == ("0" if adds else "1")


@pytest.mark.parametrize(("mode", "calls"), [("before", [0, 0]), ("after", [0])])
def test_also_when_the_server_crashes_and_comes_back(
    server: Postgres, schema: str, mode: str, calls: List[int]
) -> None:
    killed = threading.Event()

    def crash() -> None:
        server.kill()
        killed.set()

    with cut_off(server, schema) as given:
        given["cutter"].then = crash
        result: List[int] = []
        thread = threading.Thread(target=lambda: result.append(given["run"](mode)))
        thread.start()
        assert killed.wait(10)
        server.start()  # here, not in the proxy's thread: the server dies with the thread that starts it
        thread.join()
        assert (result, given["calls"]) == ([0], calls)
        assert given["store"].read(lambda rows: [count(rows), rows.newest()[0]]) == [1, 1]


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_a_commit_that_lands_while_it_is_looked_for_is_found(server: Postgres, schema: str, level: str) -> None:
    """Whatever the database's own level is: a look that began before it would not see what it waited for."""
    escaped = level.replace(" ", "\\\\ ")
    store = PostgresqlStore(f"{server.dsn} options='-c default_transaction_isolation={escaped}'", schema=schema)
    late = store._connected()
    assert late.ask([("SHOW default_transaction_isolation", ())])[0].rows == [(level,)]
    rows = PostgresqlRows(late, store.where, schema, store._begin, {})
    entry(rows)
    trace = store._trace(rows)
    late.ask(rows.taken())
    store._wire = None
    with ThreadPoolExecutor(1) as pool:
        settled = pool.submit(store._settled, Failure("the connection was closed", lost=True), trace)
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        until = time.monotonic() + 5
        while server.sql(waiting) != "1":
            assert time.monotonic() < until
        late.ask([("COMMIT", ())])
        assert settled.result(10) is True
    late.close()
    store.close()


def test_what_cannot_be_found_out_is_said(server: Postgres, schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{PostgresqlStore.__module__}._SETTLE_WITHIN", 1)
    with cut_off(server, schema) as given:
        given["cutter"].then = server.kill
        with pytest.raises(StoreError, match="may or may not have been written") as caught:
            given["run"]("after")
        server.start()
        assert caught.value.details["in_doubt"] is True
        assert given["store"].read(count) == 1


# --- bad input


def refused(match: str, kind: type = StoreError, /, *args: str, **options: Any) -> str:
    with pytest.raises(kind, match=match) as caught:
        PostgresqlStore(*args, **options).close()
    told = f"{caught.value.message} {caught.value.details}"  # type: ignore[attr-defined]
    for secret in ("hunter2", PASSWORD):
        assert secret not in told
    return str(caught.value)


def test_what_a_connection_can_fail_by(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = server.dsn
    told = refused(r"does not let this user in", StoreError, dsn, password="hunter2")
    assert f"127.0.0.1:{server.port}, database postgres, schema selfheal" in told
    refused("does not let this user in", StoreError, server.dsn_of("nobody", "hunter2"))
    refused("has no such database", StoreError, dsn + " dbname=nowhere")
    refused("nothing listens there", StoreError, dsn + " port=1")
    refused("its socket is not there", StoreError, dsn + " host=/nowhere")
    refused("host name is unknown", StoreError, dsn + " host=nowhere.invalid")
    refused("cannot be spoken to safely", StoreError, dsn + " sslmode=require")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused("does not answer", StoreError, f"{dsn} connect_timeout=2 port={silent.getsockname()[1]}")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    PostgresqlStore(f"postgresql://postgres@127.0.0.1:{server.port}/postgres", schema="own").close()
    server.sql("DROP SCHEMA own CASCADE")


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter2@p@127.0.0.1/db",
        "postgresql://u:hunter2/p@127.0.0.1/db",
        "postgresql://u:12/hunter2@127.0.0.1/db",
        "password=my hunter2 host=x",
        "hunter2",
        "hsot=hunter2",
    ],
)
def test_a_dsn_that_cannot_be_understood_is_not_repeated(dsn: str) -> None:
    refused("The ledger's dsn", OptionError, dsn)


@pytest.mark.parametrize("schema", ["", "Shop", "a-b", 'a"b', "pg_mine", "1a", "a" * 64, "a\n"])
def test_a_schema_is_a_plain_name(schema: str) -> None:
    refused("schema cannot be", OptionError, schema=schema)


def test_a_layout_that_is_not_ours(server: Postgres, schema: str) -> None:
    dsn = server.dsn
    refused("has no ledger", StoreError, dsn, schema=schema, create=False)
    assert server.sql(f"SELECT to_regnamespace('{schema}') IS NULL") == "t"
    server.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.entry (x int)")
    refused("not a ledger", StoreError, dsn, schema=schema)
    assert server.sql(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'") == "1"
    server.sql(f"DROP TABLE {schema}.entry")
    store = PostgresqlStore(dsn, schema=schema)
    server.sql(f"UPDATE {schema}.layout SET version = 99")
    refused("has layout version 99, and this release knows version 3", StoreError, dsn, schema=schema)
    for work in (add, lambda one: one.write(lambda rows: rows.put_note("x", {}))):
        with pytest.raises(StoreError, match="has layout version 99"):
            work(store)
    assert server.sql(f"SELECT count(*) FROM {schema}.note") == "0"
    server.sql(f"DROP TABLE {schema}.layout; CREATE TABLE {schema}.layout (x int)")
    refused("not a ledger", StoreError, dsn, schema=schema)
    store.close()


def test_rows_that_somebody_changed(server: Postgres, schema: str, store: PostgresqlStore) -> None:
    def work(rows: PostgresqlRows) -> None:
        entry(rows)
        rows.put_note("count", {"n": 1})
        rows.add_rollout(ROLLOUT)

    store.write(work)
    server.sql(f"UPDATE {schema}.note SET value = '['; UPDATE {schema}.rollout SET intent = '[]'")
    server.sql(f"UPDATE {schema}.entry SET body = '{{\"a\": 1}}'")
    for read, what in (
        (lambda rows: rows.note("count"), "Note count"),
        (lambda rows: rows.rollout("r1"), "Rollout r1"),
        (lambda rows: rows.last_entries("", 1), "Entry 1"),
    ):
        with pytest.raises(StoreError, match=f"{what} was changed: it cannot be read"):
            store.read(read)


def test_what_a_server_can_refuse(server: Postgres, schema: str, store: PostgresqlStore) -> None:
    add(store)
    guest = f"guest_{schema}"
    server.sql(f"CREATE ROLE {guest} LOGIN PASSWORD 'hunter2'")
    dsn = server.dsn_of(guest, "hunter2")
    try:
        refused("denies the right", StoreError, dsn, schema=schema)
        refused("denies the right", StoreError, dsn, schema="another")
        server.sql(
            f"GRANT USAGE ON SCHEMA {schema} TO {guest}; GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {guest}"
        )
        reader = PostgresqlStore(dsn, schema=schema)
        assert reader.read(count) == 1
        with pytest.raises(StoreError, match="denies the right"):
            add(reader)
        server.sql(f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {guest}")
        add(reader)
        reader.write(lambda rows: rows.add_rollout(ROLLOUT))  # its number comes from a sequence
        server.sql(f"ALTER ROLE {guest} SET default_transaction_read_only = on")
        reader.close()
        assert reader.read(count) == 2
        with pytest.raises(StoreError, match="is read-only"):
            add(reader)
        reader.close()
        server.sql(f"ALTER ROLE {guest} CONNECTION LIMIT 0")
        with pytest.raises(StoreError, match="too many connections"):
            add(reader)
    finally:
        server.sql(f"DROP OWNED BY {guest}; DROP ROLE {guest}")


def test_a_full_disk_and_a_lock(server: Postgres, schema: str, store: PostgresqlStore) -> None:
    add(store)
    server.sql(
        f"CREATE FUNCTION {schema}.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;"
        f" CREATE TRIGGER refuse BEFORE UPDATE ON {schema}.writer EXECUTE FUNCTION {schema}.refuse()"
    )
    with pytest.raises(StoreError, match="disk is full.*nothing was written, so try again"):
        add(store)
    server.sql(f"DROP FUNCTION {schema}.refuse CASCADE")
    import psycopg

    with psycopg.connect(server.dsn) as other:
        other.execute(f'LOCK TABLE "{schema}".note')
        with pytest.raises(StoreError, match="is locked by another controller"):
            add(store)
    add(store)
    assert store.read(count) == 2


def test_a_standby_is_refused(server: Postgres, schema: str, store: PostgresqlStore) -> None:
    add(store)
    signal = server.data / "standby.signal"
    server.stop()
    signal.touch()
    server.start()
    try:
        refused("is a standby", StoreError, server.dsn, schema=schema)
        with pytest.raises(StoreError, match="is a standby"):
            add(store)
    finally:
        server.stop()
        signal.unlink()
        server.start()
    add(store)


def test_a_database_that_cannot_hold_every_text(server: Postgres, schema: str) -> None:
    server.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    try:
        store = PostgresqlStore(f"{server.dsn} dbname=latin", schema=schema)
        with pytest.raises(OptionError, match="cannot keep this text"):
            store.write(lambda rows: rows.put_lease(Lease("配送", "x", 1, NOW)))
        store.close()
    finally:
        server.sql("DROP DATABASE latin")


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refused(r"psycopg, which is not installed\. Install psycopg\[binary\] 3\.1 or newer for /\S+ \(Python 3")


# --- the ledger over it


def test_a_decision_takes_one_round_trip_to_read_and_one_to_write(store: PostgresqlStore) -> None:
    book, policy = Book(store), guard_load.policy(SHOP, cooldown=900, window=3600, max_actions=5)

    def decide(name: str) -> "Tuple[bool, List[int]]":
        trips: List[int] = []
        wire = store._connected()
        asked = wire.ask
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(wire, "ask", lambda statements: [trips.append(len(statements)), asked(statements)][1])
            grant = book.decide(guard_load.request(name, SHOP, NOW), policy, holder="ci", ttl=60, now=NOW)
        return grant.decision.allowed, trips

    # BEGIN, lock, all that is read; all that is written, COMMIT
    assert [decide(name) for name in ("t1", "t2", "t3")] == [(True, [3, 2]), (False, [3, 2]), (False, [3, 2])]
    assert book.verify() is None


def test_a_book_over_it_keeps_a_whole_chain(server: Postgres, schema: str, tmp_path: Path) -> None:
    book = Book(PostgresqlStore(server.dsn, schema=schema))
    lease = book.acquire(SHOP, "ci", 60, NOW)
    book.open_rollout(lease, ROLLOUT, "ada", NOW)
    book.say(SHOP, "hold", "bob", "", NOW)
    assert [said.command for said in book.look(lease, "r1", {"step": 1}, ttl=60, now=NOW)[1]] == ["hold"]
    book.set_state(lease, "r1", "done", {"places": 1}, "ada", NOW)
    book.release(lease, NOW)
    assert book.verify(book.head()) is None
    server.sql(f"UPDATE {schema}.entry SET actor = 'eve' WHERE seq = 2")
    assert book.verify() == "Entry 2 was changed after it had been written."
    book.close()
