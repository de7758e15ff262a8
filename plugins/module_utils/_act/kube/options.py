# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the backend `deployment`: the modules' argument specifications, and what they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence

from ..._errors import OptionError
from .. import plan
from ..durable import Checkpoint, nowhere
from ..model import RESTARTED, STATES, Backend, number, text
from ..wishes import CONTROLLER, WISHES, Spec, fulfilled, rollback_of, whole
from .api import Api
from .backend import DeploymentBackend
from .connection import CONNECTION, access
from .marks import name_of, owner_uid
from .names import kind_of, object_name
from .progress import status_text
from .revisions import View, belongs
from .route import ROUTE, route_option
from .rows import pod_row, release_row
from .sibling import CANARY, GREEN, checked_keep_for, checked_share
from .sides import named_siblings, seen_whole, siblings
from .workload import Target, is_paused
from .workload_steps import How, Steps

Object = Mapping[str, Any]

PAUSED, RESUMED = "paused", "resumed"

TARGET: Spec = {
    "namespace": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "default": "Deployment", "choices": ["Deployment", "StatefulSet", "DaemonSet"]},
}
_WAITING: Spec = {
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 300.0},
    "on_digest_change": {"type": "str", "choices": ["warn", "refuse"], "default": "warn"},
    "on_gitops": {"type": "str", "choices": ["warn", "refuse"], "default": "warn"},
    "template": {"type": "dict"},
}
ARGUMENTS: Spec = {
    **CONTROLLER,
    **WISHES,
    **CONNECTION,
    **TARGET,
    **_WAITING,
    "state": {**WISHES["state"], "choices": [*STATES, PAUSED, RESUMED, RESTARTED]},
    "images": {"type": "dict", "default": {}},
    "patch": {"type": "dict", "default": {}},
    "change_cause": {"type": "str"},
    "record_template": {"type": "bool", "default": True},
    "strategy": {"type": "str", "choices": ["rolling", "canary", "blue_green"], "default": "rolling"},
    "share": {"type": "float", "default": 100.0},
    "route": {"type": "dict", "options": ROUTE},
    "keep_for": {"type": "float", "default": 600.0},
    "switch": {"type": "str"},
}
_NUMBERS = ("share", "keep_for")  # 0 is not the same as nothing
_NOT_FOR_ROLLBACK = ("state", "version", "by", "rollback", "keep", "before")
ROLLBACK_ARGUMENTS: Spec = {
    **CONTROLLER,
    **{name: spec for name, spec in WISHES.items() if name not in _NOT_FOR_ROLLBACK},
    **CONNECTION,
    **TARGET,
    **_WAITING,
    "change_cause": {"type": "str"},
    "to_revision": {"type": "int"},
    "to_previous": {"type": "bool", "default": False},
}
ROLLBACK_EXCLUSIVE = [("to", "to_revision"), ("template", "to_revision")]
ROLLBACK_REQUIRED_IF = [("undo", True, ["rollout"])]
INFO_ARGUMENTS: Spec = {
    **CONNECTION,
    **TARGET,
    "kind": {**TARGET["kind"], "choices": [*TARGET["kind"]["choices"], "Rollout"]},
}


class _Told(Backend, Protocol):
    """A backend that has more to tell than the outcome."""

    @property
    def facts(self) -> Dict[str, object]: ...


def backend_of(
    params: Mapping[str, object], *, dry: bool = False, checkpoint: Checkpoint = nowhere
) -> DeploymentBackend:
    """The backend that the options ask for; asks the cluster nothing yet."""
    target = target_of(params)
    return DeploymentBackend(Steps(Api(access(params)), target, how_of(params, dry=dry, checkpoint=checkpoint)))


def target_of(params: Mapping[str, object]) -> Target:
    name, namespace = object_name(text(params, "name")), object_name(text(params, "namespace"), "namespace")
    return Target(kind_of(text(params, "kind") or "Deployment"), namespace, name)


def how_of(params: Mapping[str, object], *, dry: bool, checkpoint: Checkpoint = nowhere) -> How:
    timeout = number(params, "timeout") or 300.0
    if not 0 < timeout < float("inf"):
        raise OptionError("timeout is not a number of seconds above 0")
    if params.get("to_previous") is True and (params.get("to") or params.get("to_revision") is not None):
        raise OptionError("to_previous excludes to and to_revision", mend="Say one of them")
    return How(
        images=_mapping(params, "images"),
        patch=_pod_template(_mapping(params, "patch")),
        change_cause=text(params, "change_cause"),
        wait=params.get("wait") is not False,
        timeout=timeout,
        on_digest_change=text(params, "on_digest_change") or "warn",
        on_gitops=text(params, "on_gitops") or "warn",
        to_revision=whole(params.get("to_revision")),
        to_previous=params.get("to_previous") is True,
        template=_mapping(params, "template"),
        dry=dry,
        checkpoint=checkpoint,
    )


def _mapping(params: Mapping[str, object], key: str) -> Dict[str, Any]:
    value = params.get(key)
    return {str(name): part for name, part in value.items()} if isinstance(value, dict) else {}


def _pod_template(patch: Dict[str, Any]) -> Dict[str, Any]:
    other = sorted(set(patch) - {"metadata", "spec"})
    if other:
        raise OptionError(
            f"patch has {', '.join(other)}, which is not of a pod template",
            mend="It has metadata and spec, as below spec.template of the workload",
        )
    return patch


def change(params: Mapping[str, object], *, dry: bool, checkpoint: Checkpoint = nowhere) -> Dict[str, object]:
    """Do what the options of module `kubernetes_rollout` say; in a dry run only tell what would happen."""
    core = backend_of(params, dry=dry, checkpoint=checkpoint)
    state, token = text(params, "state"), whole(params.get("token"))
    if state in (PAUSED, RESUMED):
        return {**core.pause(state == PAUSED, token).as_dict(), **core.facts}
    if state == RESTARTED:
        return {**core.restart(token).as_dict(), **core.facts}
    backend = _strategic(core, params)
    result = {**fulfilled(backend, params).as_dict(), **backend.facts}
    if params.get("record_template") is False:
        result.pop("template", None)
    return result


def _strategic(core: DeploymentBackend, params: Mapping[str, object]) -> _Told:
    """The backend of the option `strategy`; what only one of them needs is loaded for it alone."""
    strategy, route = text(params, "strategy") or "rolling", params.get("route")
    share, keep_for = (ARGUMENTS[each]["default"] if params.get(each) is None else params[each] for each in _NUMBERS)
    if strategy == "canary":
        from .canary import CanaryBackend, CanaryOptions

        return CanaryBackend(
            core.steps,
            CanaryOptions(checked_share(share), route_option(route if isinstance(route, dict) else None)),
        )
    if share != 100.0 or route:
        raise OptionError("share and route are of strategy: canary", mend="Set it, or remove them")
    if strategy == "blue_green":
        from .blue_green import BlueGreenBackend, BlueGreenOptions

        return BlueGreenBackend(core.steps, BlueGreenOptions(checked_keep_for(keep_for), text(params, "switch")))
    return core


def roll_back(params: Mapping[str, object], *, dry: bool, checkpoint: Checkpoint = nowhere) -> Dict[str, object]:
    """Do what the options of module `kubernetes_rollback` say; what stands beside the workload goes with it."""
    backend = _standing(backend_of(params, dry=dry, checkpoint=checkpoint))
    return {**backend.rollback(rollback_of(params)).as_dict(), **backend.facts}


def _standing(core: DeploymentBackend) -> _Told:
    """The backend of the strategy of which something stands beside the workload now."""
    tracks = named_siblings(core.steps)
    if GREEN in tracks:
        from .blue_green import BlueGreenBackend, BlueGreenOptions

        how = core.steps.how
        if how.to_previous or how.to_revision is not None or how.template:
            raise OptionError(
                f"{core.steps.target} has a green side, which other revisions of the blue one say nothing of",
                mend="Go back without to_previous, to_revision and template, which switches to the blue side",
            )
        return BlueGreenBackend(core.steps, BlueGreenOptions())
    if CANARY in tracks:
        from .canary import CanaryBackend, CanaryOptions

        return CanaryBackend(core.steps, CanaryOptions())
    return core


def look(params: Mapping[str, object]) -> Dict[str, object]:
    """What module `kubernetes_rollout_info` tells; reads only."""
    if text(params, "kind") == "Rollout":
        from ..argo.options import look as look_at_rollout

        return look_at_rollout(params)
    backend = backend_of(params)
    view = backend.steps.look()
    beside = siblings(backend.steps, view.workload)
    seen, facts = seen_whole(backend.steps, view, beside)
    return {
        **plan.facts(seen),
        "releases": [release_row(release, view.of(release.id)) for release in seen.releases],
        "status": status_text(view.workload),
        "paused": is_paused(view.workload),
        "pods": live_pods(backend, view, beside),
        **facts,
        "requests": backend.steps.api.requests,
    }


def live_pods(
    backend: DeploymentBackend, view: View, beside: Optional[Sequence[Object]] = None
) -> List[Dict[str, object]]:
    """The live pods of the workload and of what stands `beside` it, each with the release of its own revision."""
    steps = backend.steps
    found = [_pod_row(pod, view) for pod in steps.pods() if _owned(pod, view)]
    for sibling in siblings(steps, view.workload) if beside is None else beside:
        own = Steps(steps.api, replace(steps.target, name=name_of(sibling)), steps.how)
        seen = own.look()
        found += [_pod_row(pod, seen) for pod in own.pods() if _owned(pod, seen)]
    return sorted(found, key=lambda row: str(row["name"]))


def _owned(pod: Object, view: View) -> bool:
    return any(belongs(pod, revision) for revision in view.revisions) or (
        owner_uid(pod) == view.workload["metadata"]["uid"]
    )


def _pod_row(pod: Object, view: View) -> Dict[str, object]:
    revision = next((each for each in view.revisions if belongs(pod, each)), None)
    return pod_row(pod, revision.id if revision else None)
