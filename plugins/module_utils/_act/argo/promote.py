# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""To promote with Argo Rollouts: all of the traffic for the newest release, and the mark that it is known good."""

from __future__ import annotations

from dataclasses import replace

from ..._errors import PlaceError
from ..kube.images import images_mark, running
from ..kube.workload import refuse_paused
from ..model import FAILED, Good, Promote
from . import status
from .hands import Sight
from .run import Run


def expect(run: Run, release: str) -> None:
    """Only what is current, and has not failed, can be promoted."""
    seen = run.view.situation
    if seen.current != release or run.view.current is None:
        raise PlaceError(f"cannot promote release {release}: {seen.current or 'no release'} is current here")
    journal = seen.journal
    if journal and journal.phase == FAILED and journal.to == release:
        raise PlaceError(
            f"cannot promote release {release}: it failed here: {journal.problem}",
            mend="Deploy it again, which settles that",
        )


def promote_fully(run: Run) -> None:
    """`kubectl argo rollouts promote --full`, and wait until it is healthy."""
    if status.healthy(run.rollout):
        return
    refuse_paused(run.rollout, run.hands.target)
    stops = status.stops(run.rollout)
    if stops:
        raise PlaceError(f"cannot promote release {run.view.situation.current}: {stops}", mend="Retry it, or go back")
    run.template = run.rollout["spec"].get("template")
    if run.how.dry:
        run.ask_full()
        return

    def whole(sight: Sight) -> bool:
        if not run.ready(sight):
            return False
        if not status.promoted(run.rollout):
            run.ask_full()
        return status.healthy(run.rollout)

    run.follow(whole, "promoted")


def praise(run: Run, wish: Promote) -> None:
    """Mark the current release as known good, with what its images really are."""
    current = run.view.current
    if current is None:
        raise PlaceError(f"cannot mark release {wish.release}: its ReplicaSet is gone")
    images = running(current.template, run.hands.pods_of(current))
    run.facts.update(template=current.template, images=images, revision=current.number)
    known = replace(current.as_release, id=wish.release, complete=True)
    good = known.known_good
    if known.trusted and good and (not wish.rollout or good.rollout == wish.rollout):
        return
    run.remember()
    run.mark(current, replace(known, known_good=Good(run.clock(), wish.rollout), bad=None), images_mark(images))
    run.did(f"marked {wish.release} as known good")
