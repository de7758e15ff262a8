# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options and the environment to a ledger: the one place that knows which stores there are.

A store's own library is only imported when that store is opened.
"""

from __future__ import annotations

import os
from typing import Callable, Dict, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from .._errors import OptionError, StoreError, nearest
from .ledger import Ledger

ENVIRONMENT = "SELFHEAL_LEDGER"
SQLITE, POSTGRESQL, KUBERNETES = "sqlite", "postgresql", "kubernetes"
# store → its own options
OPTIONS: Mapping[str, Mapping[str, type]] = {
    SQLITE: {"path": str, "allow_network": bool},
    POSTGRESQL: {"dsn": str, "password": str, "schema": str},
    KUBERNETES: {"namespace": str, "name": str, "kubeconfig": str, "context": str},
}
SCHEMA = "selfheal"  # in PostgreSQL
STORES = tuple(OPTIONS)
_SCHEMES = {"postgresql": POSTGRESQL, "postgres": POSTGRESQL, "kubernetes": KUBERNETES}
_KNOWN = ("store", *(name for own in OPTIONS.values() for name in own))
Options = Dict[str, object]


def open_ledger(
    options: Mapping[str, object], *, create: bool = True, environ: Optional[Mapping[str, str]] = None
) -> Ledger:
    """The ledger that `options` name, each of them with a default; see `OPTIONS` for what belongs to which store.

    What the options leave open is taken from SELFHEAL_LEDGER. With `create` off, a ledger that is not there is a
    StoreError instead of a new one.
    """
    environ = os.environ if environ is None else environ
    store, given = settled(options, environ)
    return _OPENERS[store](given, create, environ)


def settled(options: Mapping[str, object], environ: Mapping[str, str]) -> Tuple[str, Options]:
    """The store, and what is given for it by the options or else by the environment."""
    for name in options:
        if name not in _KNOWN:
            raise OptionError(f"The ledger has no option {name!r}{nearest(name, _KNOWN)}")
    given = {name: value for name, value in options.items() if name != "store" and value not in (None, "", False)}
    told, from_environment = _told(environ.get(ENVIRONMENT, ""))
    # a path is a file wherever it stands, and an environment made for another store does not change that
    store = options.get("store") or (SQLITE if "path" in given else told)
    if store not in OPTIONS:
        known = ", ".join(STORES)
        raise OptionError(
            f"There is no ledger store {store!r}{nearest(str(store), STORES)}", mend=f"Set store to one of {known}"
        )
    store = str(store)
    for name, value in given.items():
        _check(store, name, value)
    return store, {**(from_environment if told == store else {}), **given}


def _check(store: str, name: str, value: object) -> None:
    kind = OPTIONS[store].get(name)
    if kind is None:
        other = next(owner for owner, own in OPTIONS.items() if name in own)
        raise OptionError(
            f"The ledger's option {name} belongs to the store {other}, and this one is in {store}",
            mend=f"Set store to {other}, or leave {name} out",
        )
    if not isinstance(value, kind):  # its value may be a secret
        raise OptionError(f"The ledger's option {name} is of type {type(value).__name__}, not {kind.__name__}")


def _told(said: str) -> Tuple[str, Options]:
    """What SELFHEAL_LEDGER says, a path or a URL. Never quoted: it may hold a password."""
    scheme, found, _rest = said.partition("://")
    if not found:
        return SQLITE, {"path": said} if said else {}
    store = _SCHEMES.get(scheme)
    if store is None:
        known = "a path, postgresql://user@host/database, or kubernetes://namespace/name"
        raise OptionError(f"{ENVIRONMENT} begins with {scheme}://, which is no store", mend=f"Set it to {known}")
    if store == POSTGRESQL:
        return store, {"dsn": said}
    parts = urlsplit(said)
    name = parts.path.strip("/")
    if not parts.netloc or "/" in name or "@" in parts.netloc or parts.query or parts.fragment:
        raise OptionError(f"{ENVIRONMENT} names no ConfigMap", mend="Write kubernetes://namespace/name")
    return store, {"namespace": parts.netloc, **({"name": name} if name else {})}


def default_path(environ: Mapping[str, str]) -> str:
    """`selfheal/ledger.sqlite` in the user's state folder (XDG base directories)."""
    state = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # the standard says to ignore a relative one
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "selfheal", "ledger.sqlite")


def _open_sqlite(given: Options, create: bool, environ: Mapping[str, str]) -> Ledger:
    from .book import Book
    from .sqlite import MEMORY, SqliteStore

    path = str(given.get("path") or default_path(environ))
    if path != MEMORY:
        path = os.path.abspath(os.path.expanduser(path))
        if not create and not os.path.exists(path):
            raise StoreError(
                f"There is no ledger at {path}",
                mend=f"Set the ledger's path, or {ENVIRONMENT}, to the one that the rollouts use",
                details={"path": path},
            )
    return Book(SqliteStore(path, create=create, allow_network=given.get("allow_network") is True))


def _open_postgresql(given: Options, create: bool, environ: Mapping[str, str]) -> Ledger:
    from .book import Book
    from .postgresql import PostgresqlStore

    # what is left open libpq takes from its own environment: PGHOST, PGPASSWORD, .pgpass
    dsn, password = str(given.get("dsn", "")), str(given.get("password", ""))
    return Book(PostgresqlStore(dsn, password=password, schema=str(given.get("schema", SCHEMA)), create=create))


def _open_kubernetes(given: Options, create: bool, environ: Mapping[str, str]) -> Ledger:
    from .book import Book
    from .kubernetes import open_store

    return Book(open_store(given, create=create, environ=environ))


_OPENERS: Mapping[str, Callable[[Options, bool, Mapping[str, str]], Ledger]] = {
    SQLITE: _open_sqlite,
    POSTGRESQL: _open_postgresql,
    KUBERNETES: _open_kubernetes,
}
