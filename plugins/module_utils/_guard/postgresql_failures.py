# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What PostgreSQL says when it fails → what happened to the ledger, and what to do. Nothing here has a password."""

from __future__ import annotations

import os
from typing import Mapping

from .._errors import DeliveryError, OptionError, StoreError
from .postgresql_wire import Failure

NO_TABLE = "42P01"
_NOTHING = "nothing was written, so try again"
_NOT_MADE = "Check host, dbname and schema; run once with a role that may create the schema"
_RIGHTS = (
    "Grant the role USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on its tables; to make the schema"
    " it needs CREATE on the database"
)
_POOLER = "Connect directly, or by a pooler in session mode: the ledger needs a connection of its own"
# SQLSTATE, or the beginning of one → what happened, what to do (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_STATES = (
    ("28", "does not let this user in", "Check user and password (PGPASSWORD, .pgpass) and the server's pg_hba.conf"),
    ("3D000", "has no such database", "Check dbname, or create the database"),
    ("42501", "denies the right to do this", _RIGHTS),
    ("25006", "is read-only", "Connect to the primary, with a role and a database that may be written to"),
    (NO_TABLE, "has no ledger", _NOT_MADE),
    ("3F000", "has no ledger", _NOT_MADE),
    ("42703", "has tables of these names that are not a ledger", "Name another schema"),
    ("42P07", "has tables of these names that are not a ledger", "Name another schema"),
    ("42804", "has tables of these names that are not a ledger", "Name another schema"),
    ("42883", "has tables of these names that are not a ledger", "Name another schema"),
    ("53100", "cannot grow: the server's disk is full", f"Free some space; {_NOTHING}"),
    ("53300", "has too many connections", f"Raise max_connections, or run fewer controllers; {_NOTHING}"),
    ("55P03", "is locked by another controller", f"Find who keeps a transaction open (pg_stat_activity); {_NOTHING}"),
    ("57014", "took too long and gave up", f"Look at the server's load and locks (pg_stat_activity); {_NOTHING}"),
    ("57P03", "does not let anybody in right now", f"It is starting or stopping; {_NOTHING}"),
    ("40", "had other work in the way, again and again", f"See who else writes to the schema; {_NOTHING}"),
    ("26000", "forgot what this connection had prepared", _POOLER),
    ("58030", "cannot read or write its disk", "Look at the server's log and disk"),
    ("XX", "is damaged", "Look at the server's log; restore a copy"),
)
# without a SQLSTATE: what libpq, or the server before anybody is in, says of a connection
_WORDS = (
    ("password authentication failed", *_STATES[0][1:]),
    ("no password supplied", *_STATES[0][1:]),
    ("no pg_hba.conf entry", *_STATES[0][1:]),
    ("authentication", *_STATES[0][1:]),
    ("too many", "has too many connections", f"Raise max_connections, or run fewer controllers; {_NOTHING}"),
    ("remaining connection slots", "has too many connections", "Raise max_connections, or run fewer controllers"),
    ("starting up", "does not let anybody in right now", f"It is starting; {_NOTHING}"),
    ("shutting down", "does not let anybody in right now", f"It is stopping; {_NOTHING}"),
    ("recovery mode", "does not let anybody in right now", f"It recovers from a crash; {_NOTHING}"),
    ("role ", "does not know this user", "Check user, or create the role"),
    ("database ", "has no such database", "Check dbname, or create the database"),
    ("read-only", "is read-only", "Connect to the primary"),
    ("refused", "does not answer: nothing listens there", f"Check that it runs, host and port; {_NOTHING}"),
    ("No such file", "does not answer: its socket is not there", f"Check that it runs, host and port; {_NOTHING}"),
    ("translate host name", "cannot be found: its host name is unknown", "Check host, and the resolver"),
    ("resolve host", "cannot be found: its host name is unknown", "Check host, and the resolver"),
    ("Name or service", "cannot be found: its host name is unknown", "Check host, and the resolver"),
    ("closed the connection", "closed the connection at once", f"Look at the server's log; {_NOTHING}"),
    ("timeout", "does not answer", f"Check the network on the way to it, host and port; {_NOTHING}"),
    ("SSL", "cannot be spoken to safely", "Check sslmode and the certificates"),
    ("certificate", "cannot be spoken to safely", "Check sslmode and the certificates"),
)


def place(options: Mapping[str, object], schema: str) -> str:
    """`The ledger in PostgreSQL at db1:5432, database shop, schema selfheal`, as far as it is known."""
    given = (options.get(name) for name in ("host", "hostaddr", "service"))
    host = next(filter(None, given), None) or os.environ.get("PGHOST") or "the local socket"
    port = options.get("port") or os.environ.get("PGPORT") or "5432"
    dbname = options.get("dbname") or os.environ.get("PGDATABASE") or "of the user's name"
    return f"The ledger in PostgreSQL at {host}:{port}, database {dbname}, schema {schema}"


def passing(failure: Failure) -> bool:
    """The same may work right away: the connection was cut (not: hangs), or another transaction was in the way."""
    return failure.lost and not failure.silent or failure.state.startswith("40")


def may_come_back(failure: Failure) -> bool:
    """The server may be there again in some seconds: it did not say no."""
    return not failure.state or failure.state == "57P03"


def told(failure: Failure, where: str) -> DeliveryError:
    """What is raised for a failure after which nothing is kept."""
    fact = {"ledger": where, "error": failure.text, "sqlstate": failure.state}
    if failure.state in ("22021", "22P05"):
        return OptionError(
            f"{where} cannot keep this text in the database's encoding", mend="Use a database in UTF8", details=fact
        )
    if failure.silent:
        mend = f"Look whether the server hangs, or the network on the way to it; {_NOTHING}"
        return StoreError(f"{where} does not answer ({failure.text})", mend=mend, details=fact)
    by_state = [(what, mend) for state, what, mend in _STATES if failure.state.startswith(state)]
    by_word = [(what, mend) for word, what, mend in _WORDS if not failure.state and word in failure.text]
    for what, mend in by_state + by_word:
        return StoreError(f"{where} {what}", mend=mend, details=fact)
    if failure.lost:
        mend = f"Look at the server's log; {_NOTHING}"
        return StoreError(f"{where} closed the connection ({failure.text})", mend=mend, details=fact)
    return StoreError(f"{where} failed: {failure.text}", details=fact)


def in_doubt(failure: Failure, error: Failure, where: str) -> StoreError:
    """What is raised when the answer to COMMIT was lost, and nobody can say what became of it."""
    return StoreError(
        f"{where} was lost while the transaction was ending: it may or may not have been written",
        mend="Bring the server back, then look at what the ledger says before anything is done again",
        details={"ledger": where, "error": failure.text, "then": error.text, "in_doubt": True},
    )


def check_version(found: str, known: int, where: str) -> None:
    """StoreError unless `found`, the version in the layout, is `known`."""
    if found != str(known):
        raise StoreError(
            f"{where} has layout version {found or 'none'}, and this release knows version {known}",
            mend="Use the release of this collection that wrote it, or name another schema",
            details={"ledger": where},
        )


def check_server(version: int, oldest: int, standby: bool, where: str) -> None:
    """StoreError for a server that no ledger can be kept on; versions as libpq counts them (130004 is 13.4)."""
    if version < oldest:
        raise StoreError(f"{where} is on version {version // 10000}", mend=f"Use PostgreSQL {oldest // 10000} or newer")
    if standby:
        raise StoreError(
            f"{where} is a standby, which is read-only and late",
            mend="Connect to the primary, or name all hosts of the cluster in host, separated by commas",
            details={"ledger": where},
        )
