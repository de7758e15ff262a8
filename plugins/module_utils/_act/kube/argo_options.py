# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of module `argo_rollout`, and what they stand for."""

from __future__ import annotations

from typing import Dict, Mapping

from ..._errors import OptionError
from ..model import KNOWN_GOOD, PROMOTED, STATES, text
from ..wishes import CONTROLLER, WISHES, Spec, deploy_of, promote_of, rollback_of, whole
from .api import Api
from .argo import ArgoBackend
from .argo_commands import COMMANDS
from .argo_hands import Hands, How, target_of
from .argo_run import ArgoOutcome
from .connection import CONNECTION, access
from .names import object_name

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
    "change_cause": {"type": "str"},
    "analysis": {"type": "str", "choices": [IGNORE, READ], "default": IGNORE},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 300.0},
}


def change(params: Mapping[str, object], *, dry: bool) -> ArgoOutcome:
    """Do what the options say; in a dry run the API server only rehearses it."""
    backend = backend_of(params, dry=dry)
    state = text(params, "state")
    if state in COMMANDS:
        return backend.command(state, whole(params.get("token")))
    if state == KNOWN_GOOD:
        return backend.rollback(rollback_of(params))
    if state == PROMOTED:
        return backend.promote(promote_of(params))
    return backend.deploy(deploy_of(params))


def backend_of(params: Mapping[str, object], *, dry: bool) -> ArgoBackend:
    """The backend on the Rollout that the options name; asks nobody yet."""
    target = target_of(object_name(text(params, "namespace"), "namespace"), object_name(text(params, "name")))
    return ArgoBackend(Hands(Api(access(params)), target, _how(params, dry=dry)))


def _how(params: Mapping[str, object], *, dry: bool) -> How:
    timeout, share = params.get("timeout"), params.get("share")
    if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
        raise OptionError("timeout is not a number of seconds above 0")
    images = _mapping(params, "images")
    for container, image in images.items():
        if not isinstance(image, str) or not image:
            raise OptionError(f"images: the image of {container} is not a text")
    return How(
        images=images,
        patch=_mapping(params, "patch"),
        share=float(share) if isinstance(share, (int, float)) else None,
        change_cause=text(params, "change_cause"),
        wait=params.get("wait") is not False,
        timeout=float(timeout),
        read_analysis=params.get("analysis") == READ,
        to_revision=whole(params.get("to_revision")),
        dry=dry,
    )


def _mapping(params: Mapping[str, object], option: str) -> Dict[str, object]:
    value = params.get(option)
    if value is not None and not isinstance(value, dict):
        raise OptionError(f"{option} is not a mapping")
    return dict(value or {})
