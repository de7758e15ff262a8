# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A workload's revisions as releases, and with them the Situation that decisions are made on. Pure.

A revision belongs to a workload by ownership (the controller's uid), never by labels alone: two apps in one namespace
may share those.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

from ..model import DEPLOYED, FAILED, SETTLED, Journal, Release, Situation
from .marks import declared, journal_of, name_of, notes_of, owner_uid, pending_of, release_of, token_of
from .names import CHANGE_CAUSE, REVISION
from .progress import missing
from .workload import HASH_LABEL, cleaned, digest_of, same, template_of

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Revision:
    """One ReplicaSet or ControllerRevision of a workload. `template` can be applied; `release` is what it is marked."""

    name: str
    uid: str
    number: int
    created: float  # epoch seconds
    template: Dict[str, Any]
    raw: Object
    release: Optional[Release] = None

    @property
    def as_release(self) -> Release:
        """As marked, else by its own name; what its author says of going back goes before the mark."""
        unmarked = Release(id=self.name, version=self.name, deployed_at=self.created, complete=True)
        return declared(self.release or unmarked, self.template, self.raw)

    @property
    def id(self) -> str:
        return self.release.id if self.release else self.name

    @property
    def cause(self) -> str:
        return notes_of(self.raw).get(CHANGE_CAUSE, "")

    @property
    def hashes(self) -> Tuple[str, ...]:
        """What a pod of this revision may carry in its label controller-revision-hash."""
        labels = self.raw["metadata"].get("labels") or {}
        return tuple(word for word in (self.name, labels.get("controller-revision-hash")) if word)


@dataclass(frozen=True)
class View:
    """A workload with its revisions, newest first, at one instant; `current` has the workload's own template."""

    workload: Object
    revisions: Tuple[Revision, ...]
    current: Optional[Revision]
    situation: Situation

    def of(self, release: Optional[str]) -> Optional[Revision]:
        """The revision of a release: the current one if it is that, else the newest (a restart makes another one)."""
        if self.current and self.current.id == release:
            return self.current
        return next((revision for revision in self.revisions if revision.id == release), None)

    def all_of(self, release: str) -> Tuple[Revision, ...]:
        """The revisions of a release: a restart, or images pinned by digest, make more than one."""
        return tuple(revision for revision in self.revisions if revision.id == release)

    def numbered(self, number: int) -> Optional[Revision]:
        return next((revision for revision in self.revisions if revision.number == number), None)

    def equal(self, template: Object) -> Optional[Revision]:
        """The revision that Kubernetes would use again for `template`."""
        return next((revision for revision in self.revisions if same(revision.template, template)), None)


def view_of(workload: Object, objects: Iterable[Object]) -> View:
    """What there is. An unfinished deploy's revision is its release before it carries the mark."""
    revisions = tuple(sorted(_owned(workload, objects), key=lambda each: (each.number, each.name), reverse=True))
    current = next((each for each in revisions if same(each.template, template_of(workload))), None)
    pending = pending_of(workload)
    if pending and pending.digest != digest_of(template_of(workload)):
        pending = None
    if pending and current and not current.release:
        marked = replace(current, release=pending)
        revisions = tuple(marked if each is current else each for each in revisions)
        current = marked
    return View(workload, revisions, current, _situation(workload, revisions, current, pending))


def _situation(
    workload: Object, revisions: Tuple[Revision, ...], current: Optional[Revision], pending: Optional[Release]
) -> Situation:
    releases: Dict[str, Release] = {}
    first = (current,) if current else ()
    for revision in (*first, *revisions):
        releases.setdefault(revision.id, revision.as_release)
    running = current.id if current else None
    if running is None and pending:
        running = pending.id
        releases.setdefault(pending.id, pending)
    ordered = [releases.pop(each.id) for each in revisions if each.id in releases]
    return Situation(running, (*releases.values(), *ordered), _journal(workload, running), token_of(workload))


def _journal(workload: Object, current: Optional[str]) -> Optional[Journal]:
    """The last change; one that nobody waited for is settled when the cluster is rolled out."""
    journal = journal_of(workload)
    if journal is None or journal.settled or journal.to != current:
        return journal
    return replace(journal, phase=SETTLED, problem="") if not missing(workload) else journal


def _owned(workload: Object, objects: Iterable[Object]) -> Iterable[Revision]:
    uid = workload["metadata"]["uid"]
    for thing in objects:
        if owner_uid(thing) == uid and not (thing["metadata"].get("deletionTimestamp")):
            yield revision_of(thing)


def revision_of(thing: Object) -> Revision:
    """A ReplicaSet numbers itself in an annotation, a ControllerRevision in a field; so do their templates differ."""
    replica_set = "spec" in thing
    template = thing["spec"]["template"] if replica_set else (thing.get("data") or {}).get("spec", {}).get("template")
    number = notes_of(thing).get(REVISION, "") if replica_set else str(thing.get("revision", ""))
    return Revision(
        name=name_of(thing),
        uid=str(thing["metadata"]["uid"]),
        number=int(number) if number.isdecimal() else 0,
        created=epoch(thing["metadata"].get("creationTimestamp")),
        template=cleaned(template or {}),
        raw=thing,
        release=release_of(thing),
    )


def belongs(pod: Object, revision: Revision) -> bool:
    """Is this a pod of that revision? Of a ReplicaSet by ownership, else by the hash that its controller wrote."""
    if owner_uid(pod) == revision.uid:
        return True
    labels = pod["metadata"].get("labels") or {}
    of_workload = owner_uid(pod) and owner_uid(pod) == owner_uid(revision.raw)
    return bool(of_workload) and HASH_LABEL not in labels and labels.get("controller-revision-hash") in revision.hashes


def previous_of(view: View) -> Optional[Revision]:
    """What ran before the current release by the journal, else the next lower revision; never after a rollback."""
    journal = view.situation.journal
    if journal and journal.to == view.situation.current:
        if journal.state != DEPLOYED:
            return None
        known = view.of(journal.before)
        if known:
            return known
    lower = [each for each in view.revisions if view.current and each.number < view.current.number]
    return lower[0] if lower else None


def failed_here(view: View) -> bool:
    journal = view.situation.journal
    return journal is not None and journal.phase == FAILED


def epoch(text: object) -> float:
    """Kubernetes' times, as in 2026-01-02T03:04:05Z, in seconds since the epoch; 0 for none."""
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return 0.0
