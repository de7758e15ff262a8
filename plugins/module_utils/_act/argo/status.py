# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Rollout of Argo Rollouts says of itself, read as `kubectl argo rollouts` reads it. Pure.

A Rollout's observedGeneration is a text. Until it is the generation, and while somebody's promotion has not been taken
up, its phase is of the time before the change, and so says nothing.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional

Object = Mapping[str, Any]

HASH = "rollouts-pod-template-hash"
HEALTHY, PAUSED, PROGRESSING, DEGRADED = "Healthy", "Paused", "Progressing", "Degraded"
# reasons of a pause that an analysis has asked for, because it could not tell
UNDECIDED = ("InconclusiveAnalysisRun", "InconclusiveExperiment")
# phases of an AnalysisRun or an Experiment
PASSED, UNSURE, BROKEN = ("Successful",), ("Inconclusive",), ("Failed", "Error")


def status_of(rollout: Object) -> Mapping[str, Any]:
    return rollout.get("status") or {}


def current_hash(rollout: Object) -> str:
    return str(status_of(rollout).get("currentPodHash") or "")


def stable_hash(rollout: Object) -> str:
    return str(status_of(rollout).get("stableRS") or "")


def observed(rollout: Object) -> bool:
    """Is the status of the newest spec?"""
    told = str(status_of(rollout).get("observedGeneration") or "")
    return told.isdecimal() and int(told) == rollout["metadata"]["generation"]


def phase(rollout: Object) -> str:
    """Healthy, Paused, Progressing or Degraded; Progressing while the controller has not taken up what was asked."""
    status = status_of(rollout)
    unpausing = status.get("controllerPause") and not status.get("pauseConditions")
    retrying = aborted(rollout) and not status.get("abort")
    if not observed(rollout) or unpausing or retrying:
        return PROGRESSING
    return str(status.get("phase") or PROGRESSING)


def told(rollout: Object) -> str:
    """Its phase with its own words, for messages."""
    message = str(status_of(rollout).get("message") or "")[:300]
    return f"{phase(rollout)}: {message}" if message else phase(rollout)


def healthy(rollout: Object) -> bool:
    """Does everything run the newest pod template?"""
    return phase(rollout) == HEALTHY and promoted(rollout)


def promoted(rollout: Object) -> bool:
    """Is the newest pod template the stable one?"""
    return observed(rollout) and current_hash(rollout) != "" and current_hash(rollout) == stable_hash(rollout)


def aborted(rollout: Object) -> bool:
    return _condition(rollout, "Progressing").get("reason") == "RolloutAborted"


def invalid(rollout: Object) -> str:
    """What the controller has against the spec; empty when it takes it."""
    if not observed(rollout):
        return ""
    return str(_condition(rollout, "InvalidSpec").get("message") or "")


def pause_reasons(rollout: Object) -> List[str]:
    return [str(each.get("reason") or "") for each in status_of(rollout).get("pauseConditions") or []]


def stops(rollout: Object) -> Optional[str]:
    """Why it will not go on by itself, for its newest pod template; None while it may."""
    against = invalid(rollout)
    if against:
        return f"InvalidSpec: {against}"
    if not observed(rollout) or phase(rollout) == PROGRESSING:
        return None
    late = _condition(rollout, "Progressing")
    if late.get("reason") == "ProgressDeadlineExceeded":
        return f"ProgressDeadlineExceeded: {late.get('message')}"
    return str(status_of(rollout).get("message") or DEGRADED) if phase(rollout) == DEGRADED else None


def template_hash(thing: Object) -> str:
    """Of a ReplicaSet, a pod, an AnalysisRun: the pod template that it is of."""
    return str(((thing.get("metadata") or {}).get("labels") or {}).get(HASH) or "")


def analysis(runs: Iterable[Object]) -> List[Dict[str, Any]]:
    """What AnalysisRuns and Experiments have found: `{name, kind, phase, message, metrics: [{name, phase, message}]}`.

    A metric that is measured by Argo only for show (dryRun) is left out.
    """
    return [
        {
            "name": run["metadata"]["name"],
            "kind": run.get("kind") or ("AnalysisRun" if "metrics" in (run.get("spec") or {}) else "Experiment"),
            "phase": str(status_of(run).get("phase") or "Pending"),
            "message": str(status_of(run).get("message") or "")[:300],
            "metrics": [_metric(each) for each in status_of(run).get("metricResults") or [] if not each.get("dryRun")],
        }
        for run in runs
    ]


def told_analysis(found: Mapping[str, Any]) -> str:
    """`AnalysisRun shop-abc-2 Failed: metric errors Failed (3 of 3 failed): value 0.07`, of one of `analysis`."""
    said = "; ".join(
        f"metric {metric['name']} {metric['phase']} ({metric['message']})"
        if metric["message"]
        else f"metric {metric['name']} {metric['phase']}"
        for metric in found["metrics"]
        if metric["phase"] in BROKEN + UNSURE
    )
    words = ": ".join(part for part in (found["message"], said) if part)
    return f"{found['kind']} {found['name']} is {found['phase']}" + (f": {words}" if words else "")


def _metric(result: Object) -> Dict[str, Any]:
    measured = result.get("measurements") or [{}]
    value = str(measured[-1].get("value") or "")[:100]
    message = str(result.get("message") or measured[-1].get("message") or "")[:300]
    return {"name": result.get("name"), "phase": result.get("phase"), "message": message, "value": value}


def _condition(rollout: Object, kind: str) -> Mapping[str, Any]:
    found = status_of(rollout).get("conditions") or []
    return next((each for each in found if each.get("type") == kind), {})
