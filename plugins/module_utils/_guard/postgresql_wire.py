# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One connection to PostgreSQL: any number of statements go out together, and their answers come back together.

psycopg opens the connection; the statements go over its libpq interface in pipeline mode, prepared once each. A round
trip costs more than most statements, and a deadline holds for the answer as a whole, also when a server hangs that
still has its end of the connection open.
"""

from __future__ import annotations

import importlib.util
import re
import select
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from .._errors import OptionError, StoreError

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGconn, PGresult

OLDEST = 130000  # PostgreSQL 13: what is older gets no fixes any more
CONNECT_WITHIN = 5  # seconds
_DEFAULTS = {
    "connect_timeout": CONNECT_WITHIN,
    "client_encoding": "utf8",
    "fallback_application_name": "selfheal.delivery",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,  # milliseconds
}
Value = Union[str, int, float]
Statement = Tuple[str, Sequence[Optional[bytes]]]  # SQL, and its values as `encoded` makes them
Row = Tuple[str, ...]  # NULL is an empty text: no column has both


class Failure(Exception):
    """PostgreSQL, or the way to it, failed. `state` is the SQLSTATE, where the server said one.

    `lost`: the connection is gone, and with it the answer. `silent`: it is gone because no answer came in time.
    """

    def __init__(self, text: str, *, state: str = "", lost: bool = False, silent: bool = False) -> None:
        super().__init__(text)
        self.text, self.state, self.lost, self.silent = text, state, lost, silent


@dataclass(frozen=True)
class Answer:
    rows: List[Row]
    tag: str  # what was done, as PostgreSQL says it: COMMIT, ROLLBACK, UPDATE 1

    @property
    def count(self) -> int:
        """How many rows a statement wrote."""
        return int(self.tag.rpartition(" ")[2])


class Wire:
    """An open connection, which has `within` seconds for each answer. After a Failure that is `lost`, or anything
    raised in the middle of `ask`, it is closed.
    """

    def __init__(self, connection: psycopg.Connection[Tuple[object, ...]], within: float) -> None:
        from psycopg import Error
        from psycopg.pq import ConnStatus, ExecStatus

        self._error = Error
        self._sync, self._fatal = int(ExecStatus.PIPELINE_SYNC), int(ExecStatus.FATAL_ERROR)
        self._fine = int(ConnStatus.OK)
        self._connection = connection  # it owns the socket, and closes it when it is forgotten
        self._pq: PGconn = connection.pgconn
        self._pq.nonblocking = 1
        self._pq.enter_pipeline_mode()
        self._poll = select.poll()
        self._poll.register(self._pq.socket, select.POLLIN)
        self._within = within
        self._names: Dict[str, bytes] = {}
        self._count = 0

    @property
    def version(self) -> int:
        return self._pq.server_version

    @property
    def closed(self) -> bool:
        return self._connection.closed

    def close(self) -> None:
        self._connection.close()

    def ask(self, statements: Sequence[Statement]) -> List[Answer]:
        """One answer for each of `statements`, in one round trip; when one fails, those after it are not done."""
        try:
            fresh: Dict[str, bytes] = {}
            wanted = [mine for sql, values in statements for mine in self._send(sql, values, fresh)]
            self._pq.pipeline_sync()
            results = self._results(time.monotonic() + self._within)
        except Failure:
            raise
        except BaseException as error:  # also when somebody stops us: an answer that is under way is never read
            self.close()
            if isinstance(error, self._error):
                raise Failure(_one_line(error), lost=True) from error
            raise
        self._names.update(fresh)
        return [_answer(result) for result, mine in zip(results, wanted) if mine]

    def _send(self, sql: str, values: Sequence[Optional[bytes]], fresh: Dict[str, bytes]) -> List[bool]:
        """Queue one statement; for each result that will come of it, whether the caller asked for it."""
        name = self._names.get(sql) or fresh.get(sql)
        wanted = [True]
        if name is None:
            self._count += 1
            name = fresh[sql] = b"s%d" % self._count
            self._pq.send_prepare(name, sql.encode())
            wanted = [False, True]
        self._pq.send_query_prepared(name, list(values))
        return wanted

    def _results(self, deadline: float) -> List[PGresult]:
        pq, results, failure = self._pq, [], None
        while pq.flush():
            self._wait(deadline, select.POLLIN | select.POLLOUT)
        while True:
            while pq.is_busy():
                self._wait(deadline, select.POLLIN)
            result = pq.get_result()
            status = result.status if result is not None else None
            if status == self._sync:
                break
            if result is not None and status == self._fatal and failure is None:
                failure = _failure(result)
            if pq.status != self._fine:
                self.close()
                raise Failure(failure.text if failure else "the connection was closed", lost=True)
            if result is not None:
                results.append(result)
        if failure is not None:
            raise failure
        return results

    def _wait(self, deadline: float, events: int) -> None:
        left = deadline - time.monotonic()
        self._poll.modify(self._pq.socket, events)
        if left <= 0 or not self._poll.poll(left * 1000):
            self.close()
            raise Failure(f"no answer within {self._within:g} s", lost=True, silent=True)
        self._pq.consume_input()


def connect(options: Mapping[str, object], within: float) -> Wire:
    """A connection with the parameters of libpq in `options`, which has `within` seconds for each answer."""
    import psycopg

    given = {key: value for key, value in options.items() if value not in ("", None)}
    if "," in str(given.get("host", "")):  # after a failover only one of them can be written to
        given.setdefault("target_session_attrs", "read-write")
    try:
        # the values are checked: psycopg takes each parameter of libpq by name
        connection = psycopg.connect("", **{**_DEFAULTS, **given})  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise Failure(_without(_one_line(error), str(options.get("password") or ""))) from error
    return Wire(connection, within)


def parsed(dsn: str) -> Dict[str, object]:
    """The parameters in `dsn`, a connection string or URL of libpq. No part of it is in any message."""
    from psycopg import Error
    from psycopg.conninfo import conninfo_to_dict

    mend = "Write key=value pairs, or postgresql://user@host:port/dbname with / : @ ? in a password as %2F %3A %40 %3F"
    try:
        found: Dict[str, object] = dict(conninfo_to_dict(dsn))
    except (Error, UnicodeError):
        # what libpq says of it may quote the password; no cause is kept, either
        raise OptionError("The ledger's dsn cannot be understood", mend=mend) from None
    if any("@" in str(found.get(key) or "") for key in ("host", "port", "dbname")):
        raise OptionError("The ledger's dsn has an @ where none can be", mend=mend)
    if not re.match(r"[0-9,]*\Z", str(found.get("port") or "")):
        raise OptionError("The ledger's dsn has a port that is not a number", mend=mend)
    return found


def need_psycopg() -> None:
    """StoreError where the library is missing, or its libpq too old for pipelines."""
    python = f"{sys.executable} (Python {sys.version_info[0]}.{sys.version_info[1]})"
    mend = f"Install psycopg[binary] 3.1 or newer for {python}"
    if importlib.util.find_spec("psycopg") is None:
        raise StoreError("A ledger in PostgreSQL needs the Python library psycopg, which is not installed", mend=mend)
    try:
        from psycopg import Pipeline
    except ImportError as error:  # it is there, but libpq is not
        raise StoreError(f"The Python library psycopg cannot be used ({_one_line(error)})", mend=mend) from error
    if not Pipeline.is_supported():
        raise StoreError("The libpq that psycopg uses is older than 14", mend=mend)


@contextmanager
def rolled_back(wire: Wire) -> Iterator[None]:
    """Whatever is raised inside, the transaction ends."""
    try:
        yield
    except BaseException:
        if not wire.closed:
            try:
                wire.ask([("ROLLBACK", ())])
            except Failure:
                wire.close()
        raise


def encoded(value: Union[str, int, float]) -> bytes:
    """As PostgreSQL reads it in a text; OptionError for what it cannot keep in one."""
    if not isinstance(value, str):
        return repr(value).encode()
    if "\0" in value:
        raise OptionError("The ledger cannot keep a text with a NUL character in it")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise OptionError("The ledger cannot keep a text that is not valid Unicode") from error


def _answer(result: PGresult) -> Answer:
    columns = range(result.nfields)
    rows = [
        tuple((result.get_value(number, column) or b"").decode() for column in columns)
        for number in range(result.ntuples)
    ]
    return Answer(rows, (result.command_status or b"").decode())


def _failure(result: PGresult) -> Failure:
    from psycopg.pq import DiagnosticField

    # the primary message only: the detail may quote a row
    text = result.error_field(DiagnosticField.MESSAGE_PRIMARY) or result.error_message
    state = result.error_field(DiagnosticField.SQLSTATE) or b""
    return Failure(" ".join(text.decode(errors="replace").split()), state=state.decode())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _without(text: str, secret: str) -> str:
    return text.replace(secret, "***") if secret else text
