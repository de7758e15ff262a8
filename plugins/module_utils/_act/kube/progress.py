# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a rollout is, and whether it can still succeed. Pure: the cluster's objects in, words out.

The rules are those of `kubectl rollout status`, with what that leaves out: available means all of them, terminating
pods count where the status tells them, and pods that cannot start fail the rollout before its deadline does.
"""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping, Optional, Tuple

Object = Mapping[str, Any]

# why a container waits that will not get better by waiting
HOPELESS = (
    "ImagePullBackOff",
    "ErrImagePull",
    "ErrImageNeverPull",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
)
CRASHES = 2  # restarts after which a crash is a loop


def missing(workload: Object) -> str:
    """What is still to come, as `2 of 3 updated`; nothing when the workload's template is all that runs."""
    status = workload.get("status") or {}
    if not observed(workload):
        return "its controller has not seen the change yet"
    if workload.get("kind") == "DaemonSet":
        return _daemon_set(workload, status)
    if workload.get("kind") == "StatefulSet":
        return _stateful_set(workload, status)
    return _deployment(workload, status)


def observed(workload: Object) -> bool:
    """Is the status about the workload as it is now?"""
    generation = int(workload["metadata"].get("generation") or 0)
    return int((workload.get("status") or {}).get("observedGeneration") or 0) >= generation


def _deployment(workload: Object, status: Object) -> str:
    wanted = int(workload["spec"].get("replicas", 1))
    updated, available, there = (_count(status, key) for key in ("updatedReplicas", "availableReplicas", "replicas"))
    if updated < wanted:
        return f"{updated} of {wanted} updated"
    if there > updated:
        return f"{_pods(there - updated, 'old ')} still there"
    if available < wanted:
        return f"{available} of {wanted} available"
    if there > wanted:
        return f"{_pods(there - wanted)} too many"
    leaving = _count(status, "terminatingReplicas")
    return f"{_pods(leaving)} still terminating" if leaving else ""


def _stateful_set(workload: Object, status: Object) -> str:
    """Pods below `partition` stay as they are; with OnDelete so does every pod that nobody deletes."""
    wanted = int(workload["spec"].get("replicas", 1))
    partition = partition_of(workload)
    to_update = 0 if on_delete(workload) else max(0, wanted - partition)
    updated = _count(status, "updatedReplicas")
    if updated < to_update:
        return f"{updated} of {to_update} updated"
    available = (
        _count(status, "availableReplicas") if "availableReplicas" in status else _count(status, "readyReplicas")
    )
    if available < wanted:
        return f"{available} of {wanted} available"
    there = _count(status, "replicas")
    return f"{_pods(there - wanted)} too many" if there > wanted else ""


def _daemon_set(workload: Object, status: Object) -> str:
    wanted = _count(status, "desiredNumberScheduled")
    updated, available = _count(status, "updatedNumberScheduled"), _count(status, "numberAvailable")
    if updated < wanted and not on_delete(workload):
        return f"{updated} of {wanted} updated"
    return f"{available} of {wanted} available" if available < wanted else ""


def on_delete(workload: Object) -> bool:
    return bool((workload["spec"].get("updateStrategy") or {}).get("type") == "OnDelete")


def partition_of(workload: Object) -> int:
    strategy = workload["spec"].get("updateStrategy") or {}
    return int((strategy.get("rollingUpdate") or {}).get("partition") or 0)


def failure(workload: Object, revision: Optional[Object], pods: Iterable[Object]) -> str:
    """Why the rollout of `revision`, whose pods are `pods`, will not succeed by waiting; or nothing."""
    status = workload.get("status") or {}
    if workload["spec"].get("paused"):
        return "it was paused meanwhile"
    if revision and observed(workload):
        for condition in status.get("conditions") or []:
            told = str(condition.get("message") or "")
            # after a rollback the condition of the revision that was left stays for a moment
            if _is(condition, "Progressing", "False") and str(revision["metadata"]["name"]) in told:
                return f"{condition.get('reason')}: {told}"
        for condition in (revision.get("status") or {}).get("conditions") or []:
            if _is(condition, "ReplicaFailure", "True"):
                return f"{condition.get('reason')}: {condition.get('message')}"
    return next((trouble for trouble in map(trouble_of, pods) if trouble), "")


def trouble_of(pod: Object) -> str:
    """`pod shop-x: ImagePullBackOff (…)` when a container of it will not start; or nothing."""
    name = pod["metadata"]["name"]
    if pod["metadata"].get("deletionTimestamp"):
        return ""
    for container in _statuses(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = str(waiting.get("reason") or "")
        restarts = int(container.get("restartCount") or 0)
        if reason in HOPELESS:
            return _told(name, container, reason, waiting)
        if reason == "CrashLoopBackOff" and restarts >= CRASHES:
            return _told(name, container, f"{reason}, {restarts} restarts", waiting)
    return ""


def held(pods: Iterable[Object]) -> str:
    """What the first pod that is not ready waits for, as far as it says; or nothing."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or []:
            if _is(condition, "PodScheduled", "False"):
                return f"pod {pod['metadata']['name']}: {condition.get('reason')} ({condition.get('message')})"
        for container in _statuses(pod):
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason"):
                return _told(str(pod["metadata"]["name"]), container, str(waiting["reason"]), waiting)
    return ""


def _told(pod: str, container: Object, reason: str, waiting: Object) -> str:
    message = str(waiting.get("message") or "")[:300]
    return f"pod {pod}, container {container.get('name')}: {reason}" + (f" ({message})" if message else "")


def ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(_is(condition, "Ready", "True") for condition in conditions)


def restarts_of(pod: Object) -> int:
    return sum(int(each.get("restartCount") or 0) for each in _statuses(pod))


def started_at(pod: Object) -> Tuple[str, ...]:
    """When each running container was started, as Kubernetes writes times."""
    running = [(each.get("state") or {}).get("running") or {} for each in _statuses(pod)]
    return tuple(str(each["startedAt"]) for each in running if each.get("startedAt"))


def _statuses(pod: Object) -> List[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def status_text(workload: Object) -> str:
    """As `kubectl rollout status` would say it."""
    left = missing(workload)
    kind, name = str(workload.get("kind", "")).lower(), workload["metadata"]["name"]
    if workload["spec"].get("paused"):
        return f'{kind} "{name}" is paused' + (f": {left}" if left else "")
    return f'{kind} "{name}" is not rolled out: {left}' if left else f'{kind} "{name}" successfully rolled out'


def _is(condition: Object, kind: str, status: str) -> bool:
    return bool(condition.get("type") == kind and condition.get("status") == status)


def _pods(count: int, what: str = "") -> str:
    return f"1 {what}pod is" if count == 1 else f"{count} {what}pods are"


def _count(status: Object, key: str) -> int:
    return int(status.get(key) or 0)
