# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of module `argo_rollout`, and what they stand for."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

from ..._errors import OptionError
from .. import plan
from ..kube.api import Api
from ..kube.connection import CONNECTION, access
from ..kube.marks import name_of, owner_uid
from ..kube.names import object_name
from ..kube.rows import pod_row, release_row
from ..kube.workload import is_paused
from ..model import STATES, Outcome, text
from ..wishes import CONTROLLER, WISHES, Spec, fulfilled, whole
from .backend import ArgoBackend
from .commands import COMMANDS
from .hands import ArgoHow, Hands, target_of
from .status import told
from .steps import pauses, share_of
from .view import ArgoView

IGNORE, READ = "ignore", "read"
ARGUMENTS: Spec = {
    **CONTROLLER,
    **WISHES,
    "state": {"type": "str", "choices": [*STATES, *COMMANDS], "default": STATES[0]},
    **CONNECTION,
    "namespace": {"type": "str", "required": True},
    "name": {"type": "str", "required": True},
    "images": {"type": "dict", "default": {}},
    "patch": {"type": "dict", "default": {}},
    "share": {"type": "float"},
    "to_revision": {"type": "int"},
    "to_previous": {"type": "bool", "default": False},
    "template": {"type": "dict"},
    "record_template": {"type": "bool", "default": True},
    "on_digest_change": {"type": "str", "choices": ["warn", "refuse"], "default": "warn"},
    "on_gitops": {"type": "str", "choices": ["warn", "refuse"], "default": "warn"},
    "change_cause": {"type": "str"},
    "analysis": {"type": "str", "choices": [IGNORE, READ], "default": IGNORE},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 300.0},
}


def change(params: Mapping[str, object], *, dry: bool) -> Dict[str, object]:
    """Do what the options say; in a dry run the API server only rehearses it."""
    result = outcome_of(backend_of(params, dry=dry), params).as_dict()
    if params.get("record_template") is False:
        result.pop("template", None)
    return result


def outcome_of(backend: ArgoBackend, params: Mapping[str, object]) -> Outcome:
    """What comes of the state that the options ask for."""
    state = text(params, "state")
    if state in COMMANDS:
        return backend.command(state, whole(params.get("token")))
    return fulfilled(backend, params)


def backend_of(params: Mapping[str, object], *, dry: bool = False) -> ArgoBackend:
    """The backend on the Rollout that the options name; asks nobody yet."""
    target = target_of(object_name(text(params, "namespace"), "namespace"), object_name(text(params, "name")))
    return ArgoBackend(Hands(Api(access(params)), target, _how(params, dry=dry)))


def _how(params: Mapping[str, object], *, dry: bool) -> ArgoHow:
    timeout, share = params.get("timeout", 300.0), params.get("share")
    if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise OptionError("timeout is not a number of seconds above 0")
    if sum(bool(params.get(option)) for option in ("to", "to_revision", "to_previous")) > 1:
        raise OptionError("to, to_revision and to_previous exclude each other", mend="Say one of them")
    return ArgoHow(
        images=_mapping(params, "images"),
        patch=_mapping(params, "patch"),
        change_cause=text(params, "change_cause"),
        wait=params.get("wait") is not False,
        timeout=float(timeout),
        on_digest_change=text(params, "on_digest_change") or "warn",
        on_gitops=text(params, "on_gitops") or "warn",
        to_revision=whole(params.get("to_revision")),
        to_previous=params.get("to_previous") is True,
        template=_mapping(params, "template"),
        dry=dry,
        share=float(share) if isinstance(share, (int, float)) else None,
        read_analysis=params.get("analysis") == READ,
    )


def _mapping(params: Mapping[str, object], option: str) -> Dict[str, Any]:
    value = params.get(option)
    if value is not None and not isinstance(value, dict):
        raise OptionError(f"{option} is not a mapping")
    return {str(key): part for key, part in (value or {}).items()}


def look(params: Mapping[str, object]) -> Dict[str, object]:
    """What module `kubernetes_rollout_info` tells of a Rollout; reads only."""
    hands = backend_of(params).hands
    view = hands.look()
    seen = view.situation
    return {
        **plan.facts(seen),
        "known_good": plan.known_good(view.deciding),
        "stable": view.stable.id if view.stable else None,
        "share": share_of(view.workload),
        "pauses": [pause.share for pause in pauses(view.workload) if not pause.duration],
        "releases": [release_row(release, view.of(release.id)) for release in seen.releases],
        "status": told(view.workload),
        "paused": is_paused(view.workload),
        "pods": _pods(hands, view),
        "requests": hands.api.requests,
    }


def pod_lister(params: Mapping[str, object]) -> Callable[[], List[Mapping[str, Any]]]:
    """A function that lists the Rollout's live pods now, each with its release, as `look` does."""
    hands = backend_of(params).hands
    return lambda: list(_pods(hands, hands.look()))


def _pods(hands: Hands, view: ArgoView) -> List[Dict[str, object]]:
    """The Rollout's live pods by name: each has the release of the ReplicaSet that owns it."""
    by_uid = {revision.uid: revision.id for revision in view.revisions}
    pods = [pod for pod in hands.pods() if owner_uid(pod) in by_uid]
    return [pod_row(pod, by_uid[owner_uid(pod)]) for pod in sorted(pods, key=name_of)]
