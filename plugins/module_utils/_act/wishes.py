# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that every backend's module shares, and the wishes they stand for.

A backend's module takes `CONTROLLER`, `WISHES` and what is its own; the action beside it keeps what is the
controller's and hands the rest to the module. Standard library only: modules run on places with Python 3.9.
"""

from __future__ import annotations

import os
import pwd
from typing import Any, Dict, Mapping, Optional, Protocol

from .._errors import OptionError
from .model import DEPLOYED, KNOWN_GOOD, PROMOTED, STATES, Deploy, Outcome, Promote, Rollback, text

Spec = Dict[str, Dict[str, Any]]  # as Ansible wants it

# where the ledger is; what of it belongs to which store is said by `_guard/open.py`
LEDGER: Spec = {
    "ledger": {
        "type": "dict",
        "default": {},
        "options": {
            "store": {"type": "str", "choices": ["sqlite", "postgresql", "kubernetes"]},
            "path": {"type": "path"},
            "allow_network": {"type": "bool", "default": False},
            "dsn": {"type": "str", "no_log": True},
            "password": {"type": "str", "no_log": True},
            "schema": {"type": "str"},
            "namespace": {"type": "str"},
            "name": {"type": "str"},
            "kubeconfig": {"type": "path"},
            "context": {"type": "str"},
        },
    }
}
# what the action plugin beside the module takes for itself, on the controller; nothing of it is read by the module
CONTROLLER: Spec = {
    "service": {"type": "str"},
    "lease": {"type": "dict"},
    "lease_ttl": {"type": "float", "default": 60.0},
    **LEDGER,
}
WISHES: Spec = {
    "release": {"type": "str"},
    "state": {"type": "str", "choices": list(STATES), "default": DEPLOYED},
    "version": {"type": "str"},
    "by": {"type": "str"},
    "rollback": {"type": "str", "choices": ["allowed", "blocked"]},
    "to": {"type": "str"},
    "mark_bad": {"type": "str"},
    "undo": {"type": "bool", "default": False},
    "keep": {"type": "int", "default": 5},
    "rollout": {"type": "str"},
    "before": {"type": "str"},
    "token": {"type": "int", "no_log": False},
}
# how the roles name the backend of a policy; its own options travel as one mapping
BACKENDS = ("releases", "deployment", "argo_rollout", "helm", "git", "flag")
DISPATCH: Spec = {
    "backend": {"type": "str", "choices": list(BACKENDS), "default": BACKENDS[0]},
    "backend_options": {"type": "dict", "default": {}},
    "share": {"type": "float", "default": 100.0},
}
REQUIRED_IF = [("state", DEPLOYED, ["release"]), ("state", PROMOTED, ["release"]), ("undo", True, ["rollout"])]


def deploy_of(params: Mapping[str, object]) -> Deploy:
    """The wish of `state: deployed`, without what only one backend knows; add that with `dataclasses.replace`."""
    return Deploy(
        release=text(params, "release"),
        version=text(params, "version"),
        by=text(params, "by") or _user(),
        rollback=text(params, "rollback") or None,
        before=text(params, "before"),
        rollout=text(params, "rollout"),
        token=whole(params.get("token")),
    )


def rollback_of(params: Mapping[str, object]) -> Rollback:
    """The wish of `state: known_good`."""
    return Rollback(
        to=text(params, "to"),
        leave=text(params, "release"),
        bad=text(params, "mark_bad"),
        undo=params.get("undo") is True,
        rollout=text(params, "rollout"),
        token=whole(params.get("token")),
    )


def promote_of(params: Mapping[str, object]) -> Promote:
    """The wish of `state: promoted`."""
    keep = whole(params.get("keep")) or 0
    if keep < 1:
        raise OptionError(f"keep is {keep}, but at least the current release has to stay")
    return Promote(
        release=text(params, "release"),
        keep=keep,
        before=text(params, "before"),
        rollout=text(params, "rollout"),
        token=whole(params.get("token")),
    )


class Willing(Protocol):
    """What can be wished for of every backend; see `model.Backend`."""

    def deploy(self, wish: Deploy) -> Outcome: ...

    def rollback(self, wish: Rollback) -> Outcome: ...

    def promote(self, wish: Promote) -> Outcome: ...


def fulfilled(backend: Willing, params: Mapping[str, object]) -> Outcome:
    """Do what `state` and the other wishes of a module's options say."""
    state = text(params, "state")
    if state == KNOWN_GOOD:
        return backend.rollback(rollback_of(params))
    if state == PROMOTED:
        return backend.promote(promote_of(params))
    return backend.deploy(deploy_of(params))


def whole(value: object) -> Optional[int]:
    """`value` when it is a whole number, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
