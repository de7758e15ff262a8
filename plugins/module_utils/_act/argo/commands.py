# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `kubectl argo rollouts` has a command for, and what needs no release to be named: promote, abort, retry …"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping

from ..._errors import PlaceError
from . import status, steps
from .hands import Sight
from .run import Run

Object = Mapping[str, Any]


def step(run: Run) -> None:
    """`promote`: past this pause, or past the step that runs."""
    if status.promoted(run.rollout):
        return
    stops = status.stops(run.rollout)
    if stops:
        raise PlaceError(f"cannot promote a step: {stops}", mend="Retry it first, or go back")
    if run.paused:
        run.spec([{"op": "remove", "path": "/spec/paused"}], "resumed")
    before = status.status_of(run.rollout).get("currentStepIndex")
    run.ask_step()
    _go_on(run, lambda: status.status_of(run.rollout).get("currentStepIndex") != before)


def abort(run: Run) -> None:
    """`abort`: back to the stable pods; the pod template stays, so that the Rollout is Degraded until it is retried."""
    if status.promoted(run.rollout) or status.status_of(run.rollout).get("abort"):
        return
    run.ask({"abort": True}, f"aborted {run.view.situation.current}")
    _await(run, _aborted, "aborted")


def retry(run: Run) -> None:
    if status.status_of(run.rollout).get("abort"):
        run.ask({"abort": False}, f"retried {run.view.situation.current}")
        _go_on(run, lambda: not status.status_of(run.rollout).get("abort"))


def pause(run: Run) -> None:
    if not run.paused:
        run.spec([{"op": "add", "path": "/spec/paused", "value": True}], "paused")
        _await(run, lambda sight: status.phase(sight.view.workload) == status.PAUSED, "paused")


def resume(run: Run) -> None:
    if run.paused:
        run.spec([{"op": "remove", "path": "/spec/paused"}], "resumed")
        _go_on(run, lambda: True)


def restart(run: Run) -> None:
    # pods are restarted that are older, by whole seconds: those of this second have to be, too
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(run.clock()) + 1))
    run.spec([{"op": "add", "path": "/spec/restartAt", "value": at}], "restarted")

    def done(sight: Sight) -> bool:
        rollout = sight.view.workload
        pods = sight.pods_of(sight.view.stable) if sight.view.stable else ()
        rests = status.healthy(rollout) or status.phase(rollout) in (status.PAUSED, status.DEGRADED)
        whole = len(pods) == sight.view.stable.raw["spec"].get("replicas") if sight.view.stable else True
        return bool(status.status_of(rollout).get("restartedAt") == at and rests and whole)

    _await(run, done, "restarted")


COMMANDS: Dict[str, Callable[[Run], None]] = {
    "promoted_step": step,
    "aborted": abort,
    "retried": retry,
    "paused": pause,
    "resumed": resume,
    "restarted": restart,
}


def _await(run: Run, look: Callable[[Sight], bool], wanted: str) -> None:
    if run.how.wait:
        run.follow(look, wanted)


def _go_on(run: Run, begun: Callable[[], bool]) -> None:
    """Until it waits for somebody again, or all runs the newest template."""

    def rests(sight: Sight) -> bool:
        if not run.ready(sight) or not begun():
            return False
        waits = status.phase(run.rollout) == status.PAUSED and not _passes(run.rollout)
        return waits or status.healthy(run.rollout)

    _await(run, rests, "healthy or waiting for somebody")


def _passes(rollout: Object) -> bool:
    """Does this pause end by itself?"""
    index = status.status_of(rollout).get("currentStepIndex")
    return any(pause.index == index and pause.duration for pause in steps.pauses(rollout))


def _aborted(sight: Sight) -> bool:
    """The stable pods are all there, and the others have nothing to do any more."""
    rollout, stable = sight.view.workload, sight.view.stable
    wanted = rollout["spec"].get("replicas", 1)
    there = stable is not None and (stable.raw.get("status") or {}).get("availableReplicas", 0) >= wanted
    routed = (steps.canary(rollout) or {}).get("trafficRouting") or steps.canary(rollout) is None
    gone = routed or not status.status_of(rollout).get("updatedReplicas")
    return bool(status.aborted(rollout) and there and gone)
