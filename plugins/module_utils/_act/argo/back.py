# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""To go back with Argo Rollouts: the pod template of a release known to be good, promoted in full."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Optional, Tuple

from ..._errors import OptionError, PlaceError
from .. import plan
from ..kube.images import differences, pinned, recorded, running
from ..kube.marks import release_of
from ..kube.revisions import Revision, previous_of
from ..kube.workload import same
from ..model import KNOWN_GOOD, SWITCHING, Bad, Good, Journal, Release, Rollback
from . import status
from .hands import Operations, Sight
from .run import Run


@dataclass(frozen=True)
class _Goal:
    """What to go back to. Argo makes a ReplicaSet anew where `template` has none, or one that Argo does not find."""

    release: Release
    template: Mapping[str, Any]
    revision: Optional[Revision] = None


def go_back(run: Run, wish: Rollback) -> None:
    """Leave the current release, if it has to be left; finish what an interrupted run has begun."""
    run.refuse_foreign()
    to = _target(run, wish)
    current = run.view.current
    if to is not None:
        goal = _goal(run, to)
        _blame(run, wish)
        before = run.view.situation.current
        journal = Journal(KNOWN_GOOD, before, to, SWITCHING, run.clock(), wish.rollout, wish.token)
        # a Rollout that is paused would do nothing
        unpause: Operations = [{"op": "remove", "path": "/spec/paused"}] if run.paused else []
        cause = run.how.change_cause or (goal.revision.cause if goal.revision else "")
        run.put(goal.template, journal, goal.release, cause, unpause)
        _finish(run, goal, left=current.uid if current else "")
    elif current and run.view.situation.unsettled:
        _finish(run, _Goal(current.as_release, current.template, current), left="")


def _target(run: Run, wish: Rollback) -> Optional[str]:
    """The release to go to, or None when nothing has to be left."""
    if run.how.to_revision is not None:
        return _numbered(run, wish, run.how.to_revision)
    if run.how.to_previous:
        return _previous(run, wish)
    seen = run.view.deciding
    if run.how.template and wish.to and seen.find(wish.to) is None:
        kept = Release(wish.to, wish.to, complete=True, known_good=Good(run.clock(), "ledger"))
        seen = replace(seen, releases=(*seen.releases, kept))
    if not plan.leaves(seen, wish):
        return None
    try:
        return plan.target(seen, wish)
    except PlaceError as error:
        limit = run.rollout["spec"].get("revisionHistoryLimit", 10)
        pruned = (
            f"Argo keeps {limit} old ReplicaSets (revisionHistoryLimit); the ledger keeps the pod template of promoted"
            " releases: give it as to and template"
        )
        raise PlaceError(
            error.what, mend=f"{error.mend}. {pruned}", details={**error.details, "pruned": True}
        ) from None


def _numbered(run: Run, wish: Rollback, number: int) -> Optional[str]:
    """The release of a revision that a person names: it need not be known good."""
    revision, current = run.view.numbered(number), run.view.current
    known = ", ".join(f"{each.number} ({each.id})" for each in reversed(run.view.revisions)) or "none"
    if revision is None:
        raise OptionError(f"{run.hands.target} has no revision {number}", mend=f"It has {known}")
    if current and number == current.number:
        raise OptionError(f"revision {number} of {run.hands.target} is the current one", mend=f"It has {known}")
    if current and current.uid == revision.uid:
        return None  # it has a higher number since it was gone back to
    plan.leavable(run.view.situation, wish)
    bad = revision.as_release.bad
    if bad:
        run.warnings.append(f"revision {number} is release {revision.id}, which was found bad here: {bad.reason}")
    return revision.id


def _previous(run: Run, wish: Rollback) -> Optional[str]:
    journal = run.view.situation.journal
    if journal and journal.state == KNOWN_GOOD and journal.to == run.view.situation.current:
        run.warnings.append("the last change here went back already, so there is no previous release to go to")
        return None
    previous = previous_of(run.view)
    if previous is None:
        raise PlaceError(f"{run.hands.target} has no previous revision")
    plan.leavable(run.view.situation, wish)
    return previous.id


def _goal(run: Run, to: str) -> _Goal:
    """The release's pod template: of its ReplicaSet, by recorded digests where tags are not trusted, or as given."""
    revision = run.view.of(to)
    if revision is None:
        if not isinstance(run.how.template.get("spec"), dict):
            raise OptionError("template is not a pod template", mend="Give what the ledger recorded at promotion")
        kept = Release(to, to, run.clock(), complete=True, known_good=Good(run.clock(), "ledger"))
        return _Goal(kept, run.how.template)
    if run.how.on_digest_change == "refuse":
        template = pinned(revision.template, recorded(revision.raw))
        if not same(template, revision.template):
            return _Goal(revision.as_release, template, revision)
    return _Goal(revision.as_release, revision.template, revision)


def _finish(run: Run, goal: _Goal, left: str) -> None:
    """Let `goal` be all that runs; its pod template is in the Rollout by now, in place of the ReplicaSet `left`'s."""
    if run.how.dry:
        run.foresee(goal.release)
        return
    pods: Tuple[Mapping[str, Any], ...] = ()

    def home(sight: Sight) -> bool:
        nonlocal pods
        current = sight.view.current
        if not run.ready(sight) or current is None or current.uid == left:
            return False
        pods = sight.pods_of(current)
        if release_of(current.raw) is None and goal.release.id != current.name and run.once(f"mark {current.uid}"):
            run.mark(current, goal.release)
        if not status.promoted(run.rollout):
            run.ask_full()
        return status.healthy(run.rollout) or not run.how.wait

    run.follow(home, f"back on release {goal.release.id}")
    before = recorded(goal.revision.raw) if goal.revision else {}
    if run.how.wait:
        run.warnings += differences(before, running(goal.template, pods))  # a tag may have other content by now


def _blame(run: Run, wish: Rollback) -> None:
    """Mark the current release before it is left: afterwards nothing would tell that it has to be."""
    current = run.view.current
    if current is None:
        return
    known = current.as_release
    good = known.known_good
    if wish.undo and good and good.rollout == wish.rollout:
        good = None  # its rollout did not finish, so it has passed nothing
    bad = Bad(run.clock(), wish.bad) if wish.bad and not known.bad else known.bad
    if (good, bad) != (known.known_good, known.bad):
        run.mark(current, replace(known, known_good=good, bad=bad))
        run.did(f"marked {known.id} as {'bad' if bad else 'not known good'}")
