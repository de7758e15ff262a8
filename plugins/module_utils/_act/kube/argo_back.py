# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""To go back with Argo Rollouts: the pod template of a release known to be good, promoted in full."""

from __future__ import annotations

from dataclasses import replace
from typing import Tuple

from ..._errors import OptionError, PlaceError
from .. import plan
from ..model import KNOWN_GOOD, SWITCHING, Bad, Good, Journal, Rollback, Situation
from . import argo_status as status
from .argo_hands import Operations, Sight
from .argo_run import Run
from .images import differences, recorded, running
from .revisions import Revision


def go_back(run: Run, wish: Rollback) -> None:
    """Leave the current release, if it has to be left; finish what an interrupted run has begun."""
    run.refuse_foreign()
    wish, seen = _asked(run, wish)
    if plan.leaves(seen, wish):
        to = plan.target(seen, wish)
        target = run.view.of(to)
        if target is None:
            raise PlaceError(f"the ReplicaSet of release {to} is gone, and its pod template with it")
        _leave(run, wish, target)
    elif seen.unsettled and run.view.current:
        _finish(run, run.view.current)


def _asked(run: Run, wish: Rollback) -> Tuple[Rollback, Situation]:
    """The wish, and what it is decided on: a revision that a person names need not be known good."""
    number, seen = run.how.to_revision, run.view.deciding
    if number is None:
        return wish, seen
    if wish.to:
        raise OptionError("to and to_revision exclude each other")
    revision = run.view.numbered(number)
    if revision is None:
        known = ", ".join(f"{each.number} ({each.id})" for each in reversed(run.view.revisions)) or "none"
        raise OptionError(f"{run.hands.target} has no revision {number}", mend=f"It has {known}")
    if run.view.current and number == run.view.current.number:
        raise OptionError(f"revision {number} is the current one of {run.hands.target}")
    bad = revision.as_release.bad
    if bad:
        run.warnings.append(f"release {revision.id} was found bad here before: {bad.reason}")
    trusted = replace(revision.as_release, known_good=Good(run.clock()), bad=None)
    releases = tuple(trusted if each.id == trusted.id else each for each in seen.releases)
    return replace(wish, to=revision.id), replace(seen, releases=releases)


def _leave(run: Run, wish: Rollback, target: Revision) -> None:
    _blame(run, wish)
    before = run.view.situation.current
    journal = Journal(KNOWN_GOOD, before, target.id, SWITCHING, run.clock(), wish.rollout, wish.token)
    # a Rollout that is paused would do nothing
    unpause: Operations = [{"op": "remove", "path": "/spec/paused"}] if run.paused else []
    run.put(target.template, journal, target.as_release, target.cause, unpause)
    _finish(run, target)


def _finish(run: Run, target: Revision) -> None:
    """Let `target` be all that runs; its pod template is in the Rollout by now."""
    if run.how.dry:
        run.foresee(target.as_release)
        return
    pods: Tuple[object, ...] = ()

    def home(sight: Sight) -> bool:
        nonlocal pods
        current = sight.view.current
        if not run.ready(sight) or current is None or current.uid != target.uid:
            return False
        pods = sight.pods_of(current)
        if not status.promoted(run.rollout):
            run.ask_full()
        return status.healthy(run.rollout) or not run.how.wait

    run.follow(home, f"back on release {target.id}")
    before = recorded(target.raw)
    if before and run.how.wait:
        run.warnings += differences(before, running(target.template, pods))  # a tag may have other content by now


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
