# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Rollout of Argo Rollouts with its ReplicaSets as releases, and the Situation that decisions are made on. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

from ..kube.marks import journal_of, name_of, notes_of, owner_uid, pending_of, release_of, token_of
from ..kube.revisions import Revision, View, epoch
from ..kube.workload import digest_of, template_of
from ..model import FAILED, KNOWN_GOOD, SETTLED, Good, Journal, Release, Situation
from .status import PAUSED, current_hash, healthy, invalid, observed, phase, stable_hash, template_hash
from .template import covers, normal, original

Object = Mapping[str, Any]

REVISION = "rollout.argoproj.io/revision"
REVISION_HISTORY = "rollout.argoproj.io/revision-history"


@dataclass(frozen=True)
class ArgoView(View):
    """A Rollout and its revisions, newest first, at one instant.

    `current` has the Rollout's pod template, `stable` is the one that it goes back to when it is aborted; either is
    None where the controller has not made it. `workload` is the Rollout.
    """

    stable: Optional[Revision] = None

    def numbered(self, number: int) -> Optional[Revision]:
        """The revision that has this number, or had it before somebody went back to it."""
        known = super().numbered(number)
        return known or next((each for each in self.revisions if number in _earlier(each)), None)

    @property
    def deciding(self) -> Situation:
        """The situation for going back: while another pod template is being tried, the stable one is the best known.

        Argo never stopped it, whoever promoted it; only one that was found bad is not gone back to. Once it was gone
        back to, it is not left again.
        """
        seen, stable = self.situation, self.stable
        known = seen.find(stable.id) if stable else None
        went_back = seen.journal is not None and seen.journal.state == KNOWN_GOOD and seen.journal.to == seen.current
        if known is None or known.bad or (known.id == seen.current and not went_back):
            return seen
        newest = max(release.known_good.at if release.known_good else 0.0 for release in seen.releases)
        rollout = known.known_good.rollout if known.known_good else ""
        best = replace(known, known_good=Good(max(newest, known.deployed_at) + 1.0, rollout))
        releases = tuple(best if release.id == best.id else release for release in seen.releases)
        return replace(seen, releases=releases)


def view_of(rollout: Object, objects: Iterable[Object]) -> ArgoView:
    """What there is. An unfinished deploy's revision is its release before it carries the mark."""
    mine = [revision_of(each) for each in objects if _owned(each, rollout)]
    revisions = tuple(sorted(mine, key=lambda each: (each.number, each.created, each.name), reverse=True))
    pending = pending_of(rollout)
    if pending and ("template" not in rollout["spec"] or pending.digest != digest_of(normal(template_of(rollout)))):
        pending = None
    current = _current(rollout, revisions, pending)
    if pending and current and not current.release:
        marked = replace(current, release=replace(pending, digest=""))
        revisions = tuple(marked if each is current else each for each in revisions)
        current = marked
    stable = next((each for each in revisions if template_hash(each.raw) == stable_hash(rollout)), None)
    return ArgoView(rollout, revisions, current, _situation(rollout, revisions, current, pending), stable)


def revision_of(replicaset: Object) -> Revision:
    number = notes_of(replicaset).get(REVISION, "")
    return Revision(
        name=name_of(replicaset),
        uid=str(replicaset["metadata"]["uid"]),
        number=int(number) if number.isdecimal() else 0,
        created=epoch(replicaset["metadata"].get("creationTimestamp")),
        template=original(replicaset),
        raw=replicaset,
        release=release_of(replicaset),
    )


def of_revision(pod: Object, revision: Revision) -> bool:
    return owner_uid(pod) == revision.uid


def _owned(replicaset: Object, rollout: Object) -> bool:
    """By ownership, never by labels alone: two apps in one namespace may share those."""
    about = replicaset["metadata"]
    return owner_uid(replicaset) == rollout["metadata"]["uid"] and not about.get("deletionTimestamp")


def _earlier(revision: Revision) -> Tuple[int, ...]:
    told = notes_of(revision.raw).get(REVISION_HISTORY, "").split(",")
    return tuple(int(number) for number in told if number.isdecimal())


def _current(rollout: Object, revisions: Tuple[Revision, ...], pending: Optional[Release]) -> Optional[Revision]:
    """The revision of the Rollout's own template; the status names it, but not before the controller has seen it."""
    if observed(rollout) and not invalid(rollout):
        return next((each for each in revisions if template_hash(each.raw) == current_hash(rollout)), None)
    if pending:
        return next((each for each in revisions if each.release and each.release.id == pending.id), None)
    if "template" not in rollout["spec"]:
        return None
    return next((each for each in revisions if covers(each.raw["spec"]["template"], template_of(rollout))), None)


def _situation(
    rollout: Object, revisions: Tuple[Revision, ...], current: Optional[Revision], pending: Optional[Release]
) -> Situation:
    releases: Dict[str, Release] = {}
    for revision in (*((current,) if current else ()), *revisions):
        releases.setdefault(revision.id, revision.as_release)
    running = current.id if current else pending.id if pending else None
    if pending and current is None:
        releases.setdefault(pending.id, pending)
    ordered = [releases.pop(each.id) for each in revisions if each.id in releases]
    return Situation(running, (*releases.values(), *ordered), _journal(rollout, running), token_of(rollout))


def _journal(rollout: Object, current: Optional[str]) -> Optional[Journal]:
    """The last change. It is settled when all runs it, and, unless it failed, where the Rollout waits for somebody."""
    journal = journal_of(rollout)
    if journal is None or journal.settled or journal.to != current:
        return journal
    rests = healthy(rollout) or (journal.phase != FAILED and phase(rollout) == PAUSED)
    return replace(journal, phase=SETTLED, problem="") if rests else journal
