# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a canary of Argo Rollouts: where it waits for somebody, and its share of the traffic there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..._errors import OptionError

Object = Mapping[str, Any]


@dataclass(frozen=True)
class Pause:
    """A step that waits: its index among all steps, the share in percent there, for how long ("" is for a person)."""

    index: int
    share: float
    duration: str = ""


def canary(rollout: Object) -> Optional[Dict[str, Any]]:
    """The canary strategy, or None where it is another one."""
    strategy: Dict[str, Any] = (rollout.get("spec") or {}).get("strategy") or {}
    return None if strategy.get("blueGreen") is not None else strategy.get("canary") or {}


def steps(rollout: Object) -> List[Dict[str, Any]]:
    return list((canary(rollout) or {}).get("steps") or [])


def pauses(rollout: Object) -> Tuple[Pause, ...]:
    found = []
    for index, step in enumerate(steps(rollout)):
        if step.get("pause") is not None:
            duration = step["pause"].get("duration")
            found.append(Pause(index, _share_at(rollout, index), "" if duration is None else str(duration)))
    return tuple(found)


def share_of(rollout: Object) -> float:
    """How much of the traffic the newest pod template has by now, in percent, as its steps say."""
    status = rollout.get("status") or {}
    if status.get("currentPodHash") and status.get("currentPodHash") == status.get("stableRS"):
        return 100.0
    if status.get("abort") or canary(rollout) is None:
        return 0.0
    index = status.get("currentStepIndex")
    known = steps(rollout)
    if not known or (index is not None and index >= len(known)):
        return 100.0
    return _share_at(rollout, int(index or 0))


def hold_at(rollout: Object, share: float) -> Pause:
    """The first pause without an end that has at least `share` percent; OptionError with all of them where none has."""
    if canary(rollout) is None:
        raise OptionError(
            "share has no meaning for the strategy blueGreen", mend="Leave it out: the preview is up before the switch"
        )
    if not 0 < share <= 100:
        raise OptionError(f"share is {share:g}, but has to be a percentage above 0 and up to 100")
    known = pauses(rollout)
    for pause in known:
        if not pause.duration and pause.share >= share:
            return pause
    listed = ", ".join(f"{pause.share:g} % ({pause.duration or 'until promoted'})" for pause in known) or "none"
    raise OptionError(
        f"no step waits at {share:g} % or more until it is promoted",
        mend=f"Add such a setWeight and a pause without a duration to strategy.canary.steps. Its pauses are: {listed}",
    )


def _share_at(rollout: Object, index: int) -> float:
    """The weight that was set last, up to this step, as a part of the router's largest one."""
    routing = (canary(rollout) or {}).get("trafficRouting") or {}
    largest = float(routing.get("maxTrafficWeight") or 100)
    for step in reversed(steps(rollout)[: index + 1]):
        if step.get("setWeight") is not None:
            return 100.0 * float(step["setWeight"]) / largest
    return 0.0
