# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three real stores of a ledger, for tests that want the same of each of them.

`serving(kind, folder)` starts what the store needs, and gives fresh ledgers: `Kept` is one of them, with the means of
the store itself (SQL, the Kubernetes API) to look into it, to change it behind the ledger's back, and to break it.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import cluster
import postgres
import psycopg
from cluster import Cluster
from postgres import Postgres
from psycopg.rows import dict_row

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.book import Book
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.kubernetes import open_store
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import STORES as STORES
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

Row = Dict[str, Any]
Change = Callable[[List[Row]], List[Row]]
Opener = Callable[[], Ledger]
# what a row keeps as JSON; `edit` gives it out read, and writes it as the ledger does
_JSON = {"entry": ("body",), "rollout": ("intent", "progress", "outcome"), "note": ("value",)}
_NUMBERS = itertools.count(1)


class Kept(ABC):
    """One ledger. `options` are those of `open_ledger`, JSON-safe, so that other processes can open it too.

    Each of the context managers breaks something, gives how to open the ledger that meets it, and mends it again.
    """

    options: Row

    def open(self, **more: Any) -> Ledger:
        return open_ledger({**self.options, **more}, environ={})

    @abstractmethod
    def edit(self, table: str, change: Change) -> None:
        """Put what `change` makes of the rows of `entry`, `rollout` or `note` in their place."""

    def forget_told(self) -> None:
        """Make it look as if no trigger was ever decided on."""
        self.edit("entry", lambda rows: [{**row, "told": ""} for row in rows])

    @abstractmethod
    def denied(self) -> "Breaking":
        """It may be read and not written."""

    @abstractmethod
    def corrupted(self) -> "Breaking":
        """One of its documents is no JSON any more."""

    @abstractmethod
    def unreachable(self) -> "Breaking": ...

    @abstractmethod
    def of_another_version(self) -> "Breaking": ...


Breaking = Any  # a context manager of an Opener
Serving = Callable[[], Kept]


class SqliteKept(Kept):
    def __init__(self, folder: Path) -> None:
        self.path = folder / f"ledger-{next(_NUMBERS)}.sqlite"
        self.options = {"store": "sqlite", "path": str(self.path)}

    def sql(self, text: str, *values: object) -> List[Row]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(text, values)]

    def edit(self, table: str, change: Change) -> None:
        rows = change([_read(table, row) for row in self.sql(f"SELECT * FROM {table} ORDER BY rowid")])
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute(f"DELETE FROM {table}")
            for row in map(_writer(table), rows):
                marks = ", ".join("?" * len(row))
                db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))

    @contextmanager
    def locked(self) -> Iterator[Opener]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ledger: Any = self.open()
            ledger._store._patience = 0.05
            yield lambda: ledger

    @contextmanager
    def full(self) -> Iterator[Opener]:
        yield lambda: self._with("max_page_count = 1")

    @contextmanager
    def denied(self) -> Iterator[Opener]:
        yield lambda: self._with("query_only = on")

    def _with(self, pragma: str) -> Ledger:
        ledger: Any = self.open()
        ledger._store._db.execute(f"PRAGMA {pragma}")
        opened: Ledger = ledger
        return opened

    @contextmanager
    def corrupted(self) -> Iterator[Opener]:
        (newest,) = self.sql("SELECT seq, body FROM entry ORDER BY seq DESC LIMIT 1")
        self.sql("UPDATE entry SET body = '{' WHERE seq = ?", newest["seq"])
        yield self.open
        self.sql("UPDATE entry SET body = ? WHERE seq = ?", newest["body"], newest["seq"])

    @contextmanager
    def unreachable(self) -> Iterator[Opener]:
        away = self.path.rename(self.path.with_suffix(".away"))
        self.path.mkdir()
        yield self.open
        self.path.rmdir()
        away.rename(self.path)

    @contextmanager
    def of_another_version(self) -> Iterator[Opener]:
        (known,) = self.sql("SELECT version FROM layout")
        self.sql("UPDATE layout SET version = 99")
        yield self.open
        self.sql("UPDATE layout SET version = ?", known["version"])


class PostgresqlKept(Kept):
    def __init__(self, server: Postgres) -> None:
        self.server, self.schema = server, f"ledger_{next(_NUMBERS)}"
        self.options = {"store": "postgresql", "dsn": server.dsn, "schema": self.schema}

    @contextmanager
    def _connected(self) -> "Iterator[psycopg.Connection[Row]]":
        with psycopg.connect(self.server.dsn, row_factory=dict_row) as db:
            db.execute(f"SET search_path = {self.schema}")
            yield db

    def sql(self, text: str) -> None:
        with self._connected() as db:
            db.execute(text.encode())

    def edit(self, table: str, change: Change) -> None:
        with self._connected() as db:
            order = {"entry": "seq", "rollout": "number", "note": "key"}[table]
            found = db.execute(f"SELECT * FROM {table} ORDER BY {order}".encode()).fetchall()
            rows = change([_read(table, row) for row in found])
            db.execute(f"DELETE FROM {table}".encode())
            for row in map(_writer(table), rows):
                marks = ", ".join(["%s"] * len(row))
                keep = "OVERRIDING SYSTEM VALUE" if table == "rollout" else ""
                text = f"INSERT INTO {table} ({', '.join(row)}) {keep} VALUES ({marks})"
                db.execute(text.encode(), tuple(row.values()))

    @contextmanager
    def locked(self) -> Iterator[Opener]:
        ledger: Any = self.open()
        ledger._store.close()
        ledger._store._patience = 0.2
        with self._connected() as other:
            other.execute("LOCK TABLE note")
            yield lambda: ledger

    @contextmanager
    def full(self) -> Iterator[Opener]:
        self.sql(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE"
            " 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON entry EXECUTE FUNCTION refuse()"
        )
        yield self.open
        self.sql("DROP FUNCTION refuse CASCADE")

    @contextmanager
    def denied(self) -> Iterator[Opener]:
        guest = f"guest_{self.schema}"
        self.sql(
            f"CREATE ROLE {guest} LOGIN PASSWORD 'hunter2'; GRANT USAGE ON SCHEMA {self.schema} TO {guest};"
            f" GRANT SELECT ON ALL TABLES IN SCHEMA {self.schema} TO {guest}"
        )
        yield lambda: self.open(dsn=self.server.dsn_of(guest, "hunter2"))
        self.sql(f"DROP OWNED BY {guest}; DROP ROLE {guest}")

    @contextmanager
    def corrupted(self) -> Iterator[Opener]:
        newest = "seq = (SELECT max(seq) FROM entry)"
        self.sql(f"UPDATE entry SET body = '{{' || body WHERE {newest}")
        yield self.open
        self.sql(f"UPDATE entry SET body = substr(body, 2) WHERE {newest}")

    @contextmanager
    def unreachable(self) -> Iterator[Opener]:
        ledger = self.open()
        self.server.stop()
        yield lambda: ledger
        self.server.start()

    @contextmanager
    def of_another_version(self) -> Iterator[Opener]:
        ledger = self.open()
        self.sql("ALTER TABLE layout ADD COLUMN ours integer; UPDATE layout SET ours = version, version = 99")
        yield lambda: ledger
        self.sql("UPDATE layout SET version = ours; ALTER TABLE layout DROP COLUMN ours")


class KubernetesKept(Kept):
    def __init__(self, running: Cluster) -> None:
        self.cluster, self.namespace = running, running.namespace("ledger")
        self.options = {"store": "kubernetes", "namespace": self.namespace, "kubeconfig": str(running.kubeconfig)}
        self._path = f"/api/v1/namespaces/{self.namespace}/configmaps/selfheal-ledger"

    def _data(self) -> Dict[str, str]:
        data: Dict[str, str] = self.cluster.get(self._path)["data"]
        return data

    def _change(self, **data: "str | None") -> None:
        self.cluster.patch(self._path, {"data": data})

    def edit(self, table: str, change: Change) -> None:
        data = self._data()
        section = {"entry": "entries", "rollout": "rollouts", "note": "notes", "told": "told"}[table]
        lines = data.get(section, "")
        rows = change([json.loads(line) for line in lines.split("\n")] if lines else [])
        changed = {section: "\n".join(map(_line, rows)) or None}
        if table == "entry":  # whoever cuts them off or writes them anew has thought of this
            newest = {"seq": rows[-1]["seq"], "hash": rows[-1]["hash"]}
            changed["ledger"] = _line({**json.loads(data["ledger"]), **newest})
            notes = [json.loads(line) for line in data["notes"].split("\n")]
            for note in notes:
                if note["key"] == "checkpoint":
                    note["value"]["seq"] = min(note["value"]["seq"], newest["seq"])
            changed["notes"] = "\n".join(map(_line, notes))
        self._change(**changed)

    def forget_told(self) -> None:
        self.edit("told", lambda rows: [])

    @contextmanager
    def denied(self) -> Iterator[Opener]:
        rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}
        reader = self.cluster.token_for(self.namespace, [rule])
        yield lambda: self.open(kubeconfig=str(reader))

    @contextmanager
    def corrupted(self) -> Iterator[Opener]:
        notes = self._data()["notes"]
        self._change(notes=notes[1:])
        yield self.open
        self._change(notes=notes)

    @contextmanager
    def unreachable(self) -> Iterator[Opener]:
        ledger = Book(open_store({**self.options, "store": None, "request_timeout": 0.5}, environ={}))
        self.cluster.kill_apiserver()
        yield lambda: ledger
        self.cluster.revive_apiserver()

    @contextmanager
    def of_another_version(self) -> Iterator[Opener]:
        ledger, known = self.open(), self._data()["layout"]
        self._change(layout="99")
        yield lambda: ledger
        self._change(layout=known)


def _read(table: str, row: Row) -> Row:
    return {**row, **{name: json.loads(row[name]) for name in _JSON[table]}}


def _writer(table: str) -> Callable[[Row], Row]:
    return lambda row: {**row, **{name: _line(row[name]) for name in _JSON[table]}}


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[Serving]:
    """What makes fresh ledgers in a store of that kind, while its servers run in `folder`."""
    if kind == "sqlite":
        yield lambda: SqliteKept(folder)
    elif kind == "postgresql":
        with postgres.postgres() as server:
            yield lambda: PostgresqlKept(server)
    else:
        with cluster.start(folder, nodes=False) as running:
            yield lambda: KubernetesKept(running)
