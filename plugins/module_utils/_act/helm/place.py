# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One Helm release in one cluster: how it is read, and the two pairs of hands that change it.

`Hands` really does it, `NoHands` is for check mode. Each change gives the history as it is afterwards. Helm has no
compare-and-swap: what was looked at is looked at again right before helm starts, and what came out right after it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Mapping, Protocol

from ..._errors import PlaceError
from ..kube.names import PREFIX
from .cli import Chart, Helm
from .history import REMOVED, RUNS, History, Revision
from .labels import Labels, epoch
from .store import Store, Stored

_LOOKS = 3


class Eyes:
    """Reads a Helm release."""

    def __init__(self, helm: Helm, store: Store) -> None:
        self._helm, self._store = helm, store

    def look(self) -> History:
        """What is there now; nothing, where the Helm release is not there."""
        for _look in range(_LOOKS):
            stored = self._store.read()  # asked first: it says clearly when the cluster cannot be reached
            if not stored:
                return History()
            rows = {int(row["revision"]): row for row in self._helm.history()}
            if max(rows) == max(stored):
                return History(
                    tuple(_revision(rows[number], stored[number]) for number in sorted(rows.keys() & stored.keys()))
                )
        raise PlaceError("helm makes revisions faster than they can be read", mend="Look at who runs helm there")

    def same(self, one: int, other: int) -> bool:
        """Do two revisions hold the same objects?"""
        return self._helm.manifest(one) == self._helm.manifest(other)

    def missing(self) -> PlaceError:
        return self._store.missing()

    def check_namespace(self) -> None:
        self._store.check_namespace()


class Changes(Protocol):
    """Everything that may be done to a Helm release; `labels` are all of ours that a revision has afterwards."""

    def mark(self, history: History, revision: Revision, labels: Labels) -> History: ...
    def upgrade(self, history: History, chart: Chart, labels: Labels, keep: int) -> History: ...
    def rollback(self, history: History, revision: Revision, keep: int, *, wait: bool = True) -> History: ...


class Hands:
    """Really does it."""

    def __init__(self, helm: Helm, store: Store) -> None:
        self._helm, self._store, self._eyes = helm, store, Eyes(helm, store)

    def mark(self, history: History, revision: Revision, labels: Labels) -> History:
        if labels == revision.labels:
            return history
        found, pin = self._store.mark(revision.number, revision.labels, labels, revision.pin)
        return history.marked(revision.number, found, pin)

    def upgrade(self, history: History, chart: Chart, labels: Labels, keep: int) -> History:
        self._unmoved(history)
        self._helm.upgrade(chart, _handed(history, labels), keep=keep)
        return self._eyes.look()

    def rollback(self, history: History, revision: Revision, keep: int, *, wait: bool = True) -> History:
        self._unmoved(history)
        self._helm.rollback(revision.number, keep=keep, wait=wait)
        return self._eyes.look()

    def _unmoved(self, history: History) -> None:
        newest = max(self._store.read(), default=0)
        if newest != history.newest:
            raise PlaceError(
                f"somebody else made revision {newest} in this moment, so nothing was done",
                mend="Look at helm history and run this again",
                details={"conflict": True, "revision": newest},
            )


class NoHands:
    """Check mode: helm renders what it would install, and nothing happens."""

    def __init__(self, helm: Helm) -> None:
        self._helm, self._mended = helm, False

    def mark(self, history: History, revision: Revision, labels: Labels) -> History:
        return history.marked(revision.number, labels, revision.pin)

    def upgrade(self, history: History, chart: Chart, labels: Labels, keep: int) -> History:
        if not self._mended:  # helm renders nothing while it takes itself to be at it
            self._helm.upgrade(chart, {}, keep=keep, dry=True)
        made = Revision(history.newest + 1, RUNS, chart=chart.ref, labels=labels)
        return history.followed(made)

    def rollback(self, history: History, revision: Revision, keep: int, *, wait: bool = True) -> History:
        self._mended = True
        made = replace(
            revision, number=history.newest + 1, status=RUNS, description=f"Rollback to {revision.number}", pin=""
        )
        return history.followed(made)


def _handed(history: History, labels: Labels) -> Dict[str, str]:
    """`labels` for helm, with the removal of what the new revision would take over from the last one."""
    last = history.last
    inherited: Mapping[str, str] = last.labels if last and last.status != REMOVED else {}
    told = {PREFIX + key: "null" for key in inherited if key not in labels}
    return {**told, **{PREFIX + key: value for key, value in labels.items()}}


def _revision(row: Mapping[str, Any], stored: Stored) -> Revision:
    return Revision(
        number=int(row["revision"]),
        status=str(row.get("status") or ""),
        chart=str(row.get("chart") or ""),
        app_version=str(row.get("app_version") or ""),
        description=str(row.get("description") or ""),
        updated=epoch(str(row.get("updated") or "")),
        since=stored.since,
        labels=stored.labels,
        pin=stored.pin,
    )
