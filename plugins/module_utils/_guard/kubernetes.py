# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger in ConfigMaps of one namespace: for controllers in a cluster that have no disk and no database.

A transaction reads the head, does its work on a copy in memory, and writes the head back in one request that the API
server only takes while nobody else has changed it; else the work is done again from the start. What does not belong
into the head is written before it, as objects of their own that nothing names until the head does: a crash in between
leaves an object behind, which `cut` removes, and never half a transaction. The head remembers the last transactions, so
that one whose answer was lost is known to be done or not done.
"""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, TypeVar

from .._act.kube.api import Api, Conflict, Forbidden, Lost, NotFound
from .._act.kube.connection import CONNECTION, Access, access
from .._act.kube.names import object_name, path_of
from .._errors import OptionError, PlaceError, StoreError
from . import kubernetes_layout as layout
from .kubernetes_layout import Head, Ref, digest_of
from .kubernetes_rows import HeadRows
from .store import Rows

T = TypeVar("T")

NAME = "selfheal-ledger"
OPTIONS = ("namespace", "name", *CONNECTION)
_OWN_NAMESPACE = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
_LONGEST_NAME = 63  # of a label's value
_REQUEST_TIMEOUT = 10.0  # seconds: a decision cannot wait as long as a release
_PATIENCE = 10.0  # seconds that a transaction is begun again while others are faster
_PAUSE = 0.02  # seconds before it is, at most
_LONGEST_TURNS = 1.0  # seconds that the others are given, at most
_LONGEST_WAIT = 0.5  # seconds for the turn of another process of this machine
_LOOK = (0.001, 0.006)  # seconds between two looks whether it is over
_ORPHAN = 3600.0  # seconds after which an object that no head names is left over from a crash
_CACHED = 32  # segments
_CLOCK_ERROR = 2.0  # seconds; the API server's Date has whole ones
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class _Moved(Exception):
    """A part is gone because the head names it no more: the work has to begin again."""


def open_store(
    options: Mapping[str, Any], *, create: bool = True, environ: Optional[Mapping[str, str]] = None
) -> "KubernetesStore":
    """The store that `{namespace: …, name: …}` and the connection's options name; OptionError for what cannot be."""
    namespace = options.get("namespace") or _own_namespace(options)
    if not namespace:
        raise OptionError(
            "The ledger in Kubernetes needs a namespace", mend="Set its namespace, to one that is only for it"
        )
    timeout = options.get("request_timeout")
    params = {**options, "request_timeout": _REQUEST_TIMEOUT if timeout is None else timeout}
    name = str(options.get("name") or NAME)
    return KubernetesStore(access(params, environ), str(namespace), name, create=create)


def _own_namespace(options: Mapping[str, Any]) -> str:
    """That of the service account of the pod we run in, unless the cluster is named otherwise."""
    if any(options.get(name) for name in ("kubeconfig", "context", "host")):
        return ""
    with suppress(OSError), open(_OWN_NAMESPACE, encoding="ascii") as file:
        return file.read().strip()
    return ""


class KubernetesStore:
    """A `Store` in the ConfigMap `name` and in those that it names; made anew when nothing of it is there and `create`.

    For one process and one thread: each opens its own. `patience` is how long a transaction is begun again, in
    seconds, while others are faster; `sleep` comes in for tests.
    """

    def __init__(
        self,
        access: Access,
        namespace: str,
        name: str = NAME,
        *,
        create: bool = True,
        patience: float = _PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.namespace, self.name = object_name(namespace, "namespace"), object_name(name)
        if len(name) > _LONGEST_NAME:
            raise OptionError(f"The ledger's name {name!r} is longer than {_LONGEST_NAME} characters")
        self._pid = os.getpid()
        self._patience, self._sleep = patience, sleep
        self._api = Api(access)
        self._uid = ""
        here = digest_of(f"{self._api.access.server} {namespace} {name}")[:16]
        self._turns_file = os.path.join(tempfile.gettempdir(), f"selfheal-{os.getuid()}-{here}.turn")
        self._number, self._last, self._turns = 0, 0.0, 0.0
        self._ahead: Optional[float] = None  # seconds that the server's clock is ahead of ours
        self._cache: Dict[str, str] = {}
        self._uid = (self._begin() if create and self._find() is None else self._head()).uid

    @property
    def where(self) -> str:
        return f"ConfigMap {self.name} in namespace {self.namespace} of {self._api.access.server}"

    @property
    def requests(self) -> int:
        """How many were sent."""
        return self._api.requests

    # --- transactions

    def read(self, work: Callable[[Rows], T]) -> T:
        until, tries = self._until(), 0
        while True:
            tries += 1
            self._in_time(tries, until)
            head = self._head()
            with suppress(_Moved):
                return work(self._rows(head, _Writing(self, head)))

    def write(self, work: Callable[[Rows], T]) -> T:
        self._same_process()
        self._let_others()
        with self._turn():
            return self._write(work)

    def _write(self, work: Callable[[Rows], T]) -> T:
        until, tries, began = self._until(), 0, time.monotonic()
        head = self._head()
        written = _Writing(self, head)
        while True:
            tries += 1
            written.head = head
            try:
                self._in_time(tries, until)
                rows = self._rows(head, written)
                result = work(rows)
                new = rows.finish()
                fresh = self._publish(head, new, rows, written, until) if new else None
                if fresh is None:
                    written.remove_unused(rows)
                    if new:
                        self._wrote(head, (time.monotonic() - began) / tries)
                    return result
            except _Moved:
                fresh = self._head()
            except BaseException:
                written.remove()
                raise
            head = fresh

    def close(self) -> None:
        self._same_process()
        self._api.close()
        with suppress(OSError):  # the next one to write makes it anew
            os.unlink(self._turns_file)

    def _rows(self, head: Head, parts: "_Writing") -> HeadRows:
        return HeadRows(head, parts, self._time, f"ConfigMap {self.name} in namespace {self.namespace}")

    def _publish(self, head: Head, new: Head, rows: HeadRows, written: "_Writing", until: float) -> Optional[Head]:
        """Write `new` in the place of `head`; None when it is written, else the head to begin again from."""
        body = layout.head_object(new, written.id)
        written.flush(rows.named())
        written.in_doubt = True
        fresh = self._replace(head, body, written.id, until)
        written.in_doubt = False
        if fresh is None and rows.was_cut:
            self._remove_orphans()
        return fresh

    def _replace(self, head: Head, body: Mapping[str, Any], transaction: str, until: float) -> Optional[Head]:
        """As `_publish`. An answer that was lost is found out by the transaction's id in the head that is there now."""
        number = head.counters.transactions + 1
        while True:
            doubt: Optional[PlaceError] = None
            try:
                self._api.replace(self._path(self.name), body)
                return None
            except Conflict:
                pass
            except PlaceError as error:
                if not _may_be_done(error):
                    raise self._failed(error) from error
                doubt = error
            self._sleep(random.uniform(0, _PAUSE))
            fresh = self._head_after(doubt)
            if fresh.version != head.version:
                wrote = fresh.wrote(number, transaction)
                if wrote is None:
                    raise self._unknown(doubt or "more than 256 others came after it")
                return None if wrote else fresh
            # it did not arrive, or not yet: the same again, and only one of the two can be taken
            if time.monotonic() > until:
                raise self._unknown(doubt or "the API server sees a conflict where there is none")

    def _head_after(self, doubt: Optional[PlaceError]) -> Head:
        try:
            return self._head()
        except StoreError as error:
            if doubt is None:
                raise
            raise self._unknown(doubt) from error

    def _let_others(self) -> None:
        """Wait, after a transaction of ours, about as long as those need that came in between: else who was first once
        is first again, and somebody starves."""
        if self._turns and time.monotonic() - self._last < 1.0:
            self._sleep(random.uniform(0, self._turns))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The processes of one machine take turns, so that they do not all do the same work in vain.

        Only a courtesy: nothing depends on it, and nobody waits long for one that was stopped in its turn.
        """
        try:
            file = os.open(self._turns_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:  # another user's, or nothing can be written: it goes without
            yield
            return
        try:
            until = time.monotonic() + _LONGEST_WAIT
            while time.monotonic() < until and not _locked(file):
                self._sleep(random.uniform(*_LOOK))
            yield
        finally:
            os.close(file)

    def _wrote(self, head: Head, seconds: float) -> None:
        """Remember our place among the transactions; this one took so many seconds, without those in vain."""
        number = head.counters.transactions + 1
        others = number - self._number - 1 if self._number else 0
        self._number, self._last, self._turns = number, time.monotonic(), min(_LONGEST_TURNS, others * seconds)

    def _until(self) -> float:
        return time.monotonic() + self._patience

    def _in_time(self, tries: int, until: float) -> None:
        if tries > 1 and time.monotonic() > until:
            raise StoreError(
                f"The ledger's {self.where} was changed by others {tries - 1} times in {self._patience:g} s, each time"
                " before this could be written; nothing was written",
                mend="Try again; when it happens often, keep the ledger in PostgreSQL",
            )

    # --- the head

    def _find(self) -> Optional[Head]:
        self._same_process()
        with self._told():
            found = self._api.find(self._path(self.name))
        self._ahead = _ahead(self._api.date)
        if found is not None and found.get("kind") != "ConfigMap":
            raise StoreError(f"{self._api.access.server} does not answer as a Kubernetes API server", mend="Check host")
        return layout.read_head(found, self.where) if found is not None else None

    def _head(self) -> Head:
        head = self._find()
        if head is None:
            raise StoreError(
                f"There is no ledger: {self.where} is not there",
                mend="Check namespace, name and context; if it was deleted, restore a copy",
                details={"namespace": self.namespace, "name": self.name},
            )
        if self._uid not in ("", head.uid):
            raise StoreError(
                f"The ledger's {self.where} was deleted and made anew by somebody else",
                mend="Find out who did; run this again to go on with the new one",
            )
        return head

    def _begin(self) -> Head:
        """Make the ledger, unless something of it is left: that is no new ledger but a lost one."""
        left = {found["metadata"]["name"] for found in self._listed()}
        if left and self.name not in left:
            raise StoreError(
                f"The ledger's {self.where} is gone, but {len(left)} of its parts are there, as {min(left)}",
                mend="Restore a copy of it; to begin anew, delete the parts (label"
                f" {layout.LEDGER}={self.name}) when no rollout is unfinished",
                details={"parts": len(left)},
            )
        about = {"name": self.name, "labels": layout.labels(self.name, layout.HEAD)}
        marker = {**about, "name": f"{self.name}-begun", "labels": layout.labels(self.name, layout.BEGUN)}
        with self._told():
            # another process may be first, and its is as good
            self._create(layout.head_object(layout.empty(about)))
            # with the head alone in the namespace, its loss could not be told from a beginning
            self._create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": marker, "immutable": True})
        return self._head()

    def _create(self, body: Mapping[str, Any]) -> None:
        """One object; what is there of this name already, is it."""
        with suppress(Conflict):
            try:
                self._api.create(self._path(), body)
            except Lost:
                self._api.create(self._path(), body)

    def _listed(self) -> List[Dict[str, Any]]:
        """The metadata of all of the ledger's objects."""
        with self._told():
            return Api(self._api.access, accept=_METADATA).items(
                self._path(), labelSelector=f"{layout.LEDGER}={self.name}"
            )

    def _path(self, name: str = "") -> str:
        return path_of("v1", "configmaps", self.namespace, name)

    # --- parts

    def part(self, ref: Ref, head: Head) -> str:
        """Its text. _Moved when it is gone because the head has changed since."""
        if ref.name in self._cache:
            return self._cache[ref.name]
        with self._told():
            found = self._api.find(self._path(ref.name))
        where = f"ConfigMap {ref.name} in namespace {self.namespace}"
        if found is None:
            fresh = self._head()
            if fresh.version != head.version and ref.name not in self._rows(fresh, _Writing(self, fresh)).all_named():
                raise _Moved
            raise layout.corrupt(where, "it is gone")
        text = layout.part_text(found, ref, where)
        while len(self._cache) >= _CACHED:
            self._cache.pop(next(iter(self._cache)))
        self._cache[ref.name] = text
        return text

    def put_part(self, body: Mapping[str, Any]) -> None:
        with self._told():
            self._create(body)

    def remove_part(self, name: str) -> None:
        """As far as it can be: what stays is named by nothing."""
        self._cache.pop(name, None)
        with suppress(PlaceError):
            self._api.delete(self._path(name))

    def _remove_orphans(self) -> None:
        """What a crash left over. No transaction lives for an hour, so nothing of that age is still to be named."""
        head = self._head()
        named = self._rows(head, _Writing(self, head)).all_named()
        now = time.time() + (self._ahead or 0)
        for found in self._listed():
            about = found["metadata"]
            part = (about.get("labels") or {}).get(layout.PART)
            if part in (layout.SEGMENT, layout.BODY) and about["name"] not in named and _age(about, now) > _ORPHAN:
                self.remove_part(about["name"])

    # --- clock, processes, errors

    def _time(self) -> Optional[float]:
        """The API server's, where it is another than ours by more than its Date can tell."""
        ahead = self._ahead
        return None if ahead is None or abs(ahead) <= _CLOCK_ERROR else time.time() + ahead

    def _same_process(self) -> None:
        if os.getpid() != self._pid:
            raise StoreError(f"The ledger's {self.where} was opened before a fork", mend="Open it anew in each process")

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except PlaceError as error:
            raise self._failed(error) from error
        except ValueError as error:
            raise StoreError(
                f"{self._api.access.server} does not answer as a Kubernetes API server: {error}", mend="Check host"
            ) from error

    def _failed(self, error: PlaceError) -> StoreError:
        what, mend = error.what, error.mend
        if isinstance(error, Forbidden) and "exceeded quota" in what:
            mend = "Raise the namespace's quota of ConfigMaps, or shorten the ledger's retention"
        elif isinstance(error, Forbidden) and "being terminated" in what:
            mend = "Name a namespace that is not being deleted"
        elif isinstance(error, NotFound) and "namespaces" in what:
            mend = f"Make the namespace {self.namespace}, or name another"
        elif isinstance(error, NotFound):
            mend = "Restore a copy of it, and find out who deleted it"
        return StoreError(f"The ledger's {self.where} failed: {what}", mend=mend, details=error.details)

    def _unknown(self, why: object) -> StoreError:
        told = why.what if isinstance(why, PlaceError) else why
        return StoreError(
            f"It cannot be found out whether the ledger's {self.where} was changed: it may or may not have been written"
            f" ({told})",
            mend="Run it again when the API server answers: it goes on from what is recorded",
            details={"written": "unknown"},
        )


class _Writing:
    """The parts of one transaction over all its tries, and its id. Each has a name that no other transaction uses."""

    def __init__(self, store: KubernetesStore, head: Head) -> None:
        self._store, self.head = store, head
        self.id = secrets.token_hex(4)
        self.in_doubt = False  # the head that names them may have been written
        self._kept: Dict[str, Dict[str, Any]] = {}  # name → object
        self._names: Dict[str, str] = {}  # digest → name
        self._texts: Dict[str, str] = {}
        self._made: Set[str] = set()

    def load(self, ref: Ref) -> str:
        return self._texts[ref.name] if ref.name in self._texts else self._store.part(ref, self.head)

    def keep(self, kind: str, text: str, what: str) -> Ref:
        digest = layout.digest_of(text)
        if digest not in self._names:
            name = f"{self._store.name}-{kind}-{self.id}-{len(self._names) + 1}"
            self._kept[name] = layout.part_object(self._store.name, kind, name, text, what)
            self._names[digest], self._texts[name] = name, text
        return Ref(self._names[digest], digest)

    def flush(self, named: Set[str]) -> None:
        """Write those that the new head names."""
        for name in sorted(named & self._kept.keys() - self._made):
            self._made.add(name)
            self._store.put_part(self._kept[name])

    def remove(self) -> None:
        """The transaction is not done: remove what was written for it."""
        for name in sorted(() if self.in_doubt else self._made):
            self._store.remove_part(name)

    def remove_unused(self, rows: HeadRows) -> None:
        """The transaction is done: remove what an earlier try wrote, and what the rows name no more."""
        for name in sorted((self._made | rows.named_before) - rows.named()):
            self._store.remove_part(name)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _may_be_done(error: PlaceError) -> bool:
    status = error.details.get("status")
    return isinstance(error, Lost) or (isinstance(status, int) and status >= 500)


def _ahead(date: str) -> Optional[float]:
    """Seconds that a server which says `date` is ahead of this machine; its clock is, on average, half a second on."""
    try:
        return parsedate_to_datetime(date).timestamp() + 0.5 - time.time()
    except (TypeError, ValueError, IndexError):
        return None


def _age(about: Mapping[str, Any], now: float) -> float:
    made = datetime.strptime(about["creationTimestamp"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return now - made.timestamp()
