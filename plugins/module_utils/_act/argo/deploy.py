# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""To deploy with Argo Rollouts: set the pod template, and follow it to the pause that was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

from ..._errors import OptionError, PlaceError
from ..kube.marks import release_of
from ..kube.revisions import Revision
from ..kube.workload import changed_keys, images_of, refuse_paused, template_of
from ..model import DEPLOYED, SWITCHING, Deploy, Journal, Release
from . import status, steps
from .hands import Sight
from .run import Run
from .template import alike, wished


def bring(run: Run, wish: Deploy) -> None:
    """Let `wish.release` be the newest pod template, and have the share of the traffic that `how.share` says."""
    run.refuse_foreign()
    refuse_paused(run.rollout, run.hands.target)
    if run.rollout["spec"].get("replicas") == 0:
        raise PlaceError(f"{run.hands.target} has replicas: 0, so nothing would run", mend="Scale it up first")
    hold = _hold(run)
    template, release = _template(run, wish), _release(run, wish)
    _describe(run, wish)
    if not alike(template, template_of(run.rollout)):
        before = wish.before or run.view.situation.current
        journal = Journal(DEPLOYED, before, wish.release, SWITCHING, run.clock(), wish.rollout, wish.token)
        run.put(template, journal, release, run.how.change_cause, [])
    elif run.view.current and run.view.current.id not in (wish.release, run.view.current.name):
        raise _taken(run.view.current.id, wish.release)
    elif status.status_of(run.rollout).get("abort"):
        run.ask({"abort": False}, f"retried {wish.release}")
    run.template = template_of(run.rollout)
    if run.how.dry:
        run.foresee(release)
        return
    wanted = f"at {hold.share:g} %" if hold else "promoted" if run.how.share == 100 else "healthy or waiting"
    run.follow(lambda sight: _arrived(run, sight, wish, hold), wanted)
    run.read_analysis()


def _hold(run: Run) -> Optional[steps.Pause]:
    """The pause to wait at; None for the first one that waits for somebody, and for all of the traffic."""
    share = run.how.share
    if share is None:
        return None
    if not run.how.wait:
        raise OptionError("share needs wait, because earlier pauses are promoted on the way to it")
    if share == 100:
        return None
    hold = steps.hold_at(run.rollout, share)
    if hold.share > share:
        run.warnings.append(f"the first pause at {share:g} % or more has {hold.share:g} %")
    return hold


def _template(run: Run, wish: Deploy) -> Dict[str, Any]:
    """The pod template of the release; PlaceError when its id has other content, or its content another id.

    Without images and patch it is the one that the release has, else the one that runs.
    """
    known, present = run.view.of(wish.release), template_of(run.rollout)
    if not run.how.images and not run.how.patch:
        return known.template if known and known is not run.view.current else present
    template = wished(present, run.how.images, run.how.patch, wish.release)
    if known and images_of(known.template) != images_of(template):
        raise PlaceError(
            f"release {wish.release} is taken: its pod template differs in"
            f" {', '.join(changed_keys(images_of(known.template), images_of(template)))}",
            mend="Give the new content an id of its own",
        )
    twin = next((each for each in run.view.revisions if each.release and alike(each.template, template)), None)
    if twin and twin.id != wish.release:
        raise _taken(twin.id, wish.release)
    return template


def _taken(other: str, release: str) -> PlaceError:
    return PlaceError(
        f"release {release} would have the same pod template as release {other}",
        mend=f"Deploy {other}, or let images or patch tell them apart",
    )


def _release(run: Run, wish: Deploy) -> Release:
    known = run.view.situation.find(wish.release)
    fresh = Release(wish.release, wish.version or wish.release, run.clock(), wish.by, complete=True)
    made = known or fresh
    return replace(made, rollback=wish.rollback or made.rollback)


def _describe(run: Run, wish: Deploy) -> None:
    known, revision = run.view.situation.find(wish.release), run.view.of(wish.release)
    if known and known.bad:
        run.warnings.append(f"release {known.id} was found bad here before: {known.bad.reason}")
    if known and revision and wish.rollback and wish.rollback != known.rollback:
        run.mark(revision, replace(known, rollback=wish.rollback))
        run.did(f"set rollback of {known.id} to {wish.rollback}")


def _arrived(run: Run, sight: Sight, wish: Deploy, hold: Optional[steps.Pause]) -> bool:
    """One look: is it at `hold`, at full promotion (share 100), or where it waits for somebody? Else push it there."""
    current = sight.view.current
    if not run.ready(sight) or current is None:
        return False
    _vouch(run, current, wish)
    if not run.how.wait or status.healthy(run.rollout):
        return True
    if run.how.share == 100:
        run.ask_full()
        return False
    if status.phase(run.rollout) != status.PAUSED:
        return False
    if set(status.pause_reasons(run.rollout)) & set(status.UNDECIDED):
        run.read_analysis()
    return _waits(run, hold)


def _waits(run: Run, hold: Optional[steps.Pause]) -> bool:
    """At a pause: is it the one? Earlier ones are promoted, but for those that end by themselves."""
    index = int(status.status_of(run.rollout).get("currentStepIndex") or 0)
    timed = any(pause.index == index and pause.duration for pause in steps.pauses(run.rollout))
    if (hold is None and not timed) or (hold is not None and index >= hold.index):
        return True
    if not timed:
        run.ask_step()
    return False


def _vouch(run: Run, current: Revision, wish: Deploy) -> None:
    """Mark the revision that the controller made, or found to be the same: then it is a release already."""
    marked = release_of(current.raw)
    if marked and marked.id != wish.release:
        raise _taken(marked.id, wish.release)
    if marked is None and run.once(f"mark {current.uid}"):
        run.mark(current, _release(run, wish))
        run.did(f"marked {current.name} as release {wish.release}")
