# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules' options: their argument specifications, and the wishes they stand for."""

from __future__ import annotations

import os
import pwd
import shutil
from typing import Any, Dict, Mapping, Optional, Tuple

from .._errors import OptionError, PlaceError
from . import plan
from .durable import Checkpoint, nowhere
from .health import Health, checked_url
from .model import DEPLOYED, KNOWN_GOOD, PROMOTED, STATES, Deploy, Outcome, Promote, Rollback, number, text
from .place import Changes, Hands, Layout, NoHands
from .releases import ReleasesBackend
from .service import Restart, argv_of, service_argv

Spec = Dict[str, Dict[str, Any]]  # as Ansible wants it

_RESTART: Spec = {
    "command": {"type": "raw"},
    "service": {"type": "str"},
    "chdir": {"type": "path", "default": "current"},
    "timeout": {"type": "float", "default": 60.0},
}
_HEALTH: Spec = {
    "url": {"type": "str"},
    "command": {"type": "raw"},
    "status": {"type": "list", "elements": "int", "default": [200]},
    "contains": {"type": "str"},
    "timeout": {"type": "float", "default": 30.0},
    "interval": {"type": "float", "default": 1.0},
}
# what the action plugin beside the module takes for itself, on the controller; nothing of it is read on the place
_CONTROLLER: Spec = {
    "service": {"type": "str"},
    "lease": {"type": "dict"},
    "lease_ttl": {"type": "float", "default": 60.0},
    "remote_src": {"type": "bool", "default": False},
    "ledger": {
        "type": "dict",
        "default": {},
        "options": {
            "store": {"type": "str", "choices": ["sqlite"], "default": "sqlite"},
            "path": {"type": "path"},
            "allow_network": {"type": "bool", "default": False},
        },
    },
}
ARGUMENTS: Spec = {
    **_CONTROLLER,
    "path": {"type": "path", "required": True},
    "release": {"type": "str"},
    "state": {"type": "str", "choices": list(STATES), "default": DEPLOYED},
    "src": {"type": "path"},
    "version": {"type": "str"},
    "by": {"type": "str"},
    "shared": {"type": "list", "elements": "str", "default": []},
    "rollback": {"type": "str", "choices": ["allowed", "blocked"]},
    "to": {"type": "str"},
    "mark_bad": {"type": "str"},
    "undo": {"type": "bool", "default": False},
    "keep": {"type": "int", "default": 5},
    "rollout": {"type": "str"},
    "before": {"type": "str"},
    "token": {"type": "int", "no_log": False},
    "restart": {
        "type": "dict",
        "options": _RESTART,
        "mutually_exclusive": [("command", "service")],
        "required_one_of": [("command", "service")],
    },
    "health": {
        "type": "dict",
        "options": _HEALTH,
        "mutually_exclusive": [("url", "command")],
        "required_one_of": [("url", "command")],
    },
    "lock_timeout": {"type": "float", "default": 10.0},
}
REQUIRED_IF = [("state", DEPLOYED, ["release"]), ("state", PROMOTED, ["release"]), ("undo", True, ["rollout"])]
INFO_ARGUMENTS: Spec = {"path": {"type": "path", "required": True}}


def change(params: Mapping[str, object], *, dry: bool, checkpoint: Checkpoint = nowhere) -> Outcome:
    """Do what the options of module `release` say; in a dry run only tell what would happen."""
    layout = Layout(text(params, "path"))
    restart, health = _restart(params.get("restart")), _health(params.get("health"))
    hands: Changes = NoHands(restarts=restart is not None)
    if not dry:
        patience = number(params, "lock_timeout")
        hands = Hands(layout, restart=restart, health=health, patience=patience, checkpoint=checkpoint)
    backend = ReleasesBackend(layout, hands)
    state = text(params, "state")
    if state == KNOWN_GOOD:
        return backend.rollback(_rollback(params))
    if state == PROMOTED:
        return backend.promote(_promote(params))
    return backend.deploy(_deploy(params))


def look(params: Mapping[str, object]) -> Dict[str, object]:
    """What module `release_info` tells; reads only. Where nothing was ever deployed, there is nothing to tell."""
    layout = Layout(text(params, "path"))
    try:
        seen = layout.see()
        free = shutil.disk_usage(_existing(layout.root)).free
    except OSError as problem:
        raise PlaceError(f"{layout.root} cannot be read: {problem.strerror} ({problem.filename})") from None
    return {
        "current": seen.current,
        "previous": seen.previous,
        "known_good": plan.known_good(seen),
        "releases": [release.as_dict() for release in seen.releases],
        "journal": seen.journal.as_dict() if seen.journal else None,
        "settled": not seen.unsettled,
        "token": seen.token,
        "free_bytes": free,
    }


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def _deploy(params: Mapping[str, object]) -> Deploy:
    return Deploy(
        release=text(params, "release"),
        src=text(params, "src"),
        version=text(params, "version"),
        by=text(params, "by") or _user(),
        shared=_words(params.get("shared"), "shared"),
        rollback=text(params, "rollback") or None,
        before=text(params, "before"),
        rollout=text(params, "rollout"),
        token=_whole(params.get("token")),
    )


def _rollback(params: Mapping[str, object]) -> Rollback:
    return Rollback(
        to=text(params, "to"),
        leave=text(params, "release"),
        bad=text(params, "mark_bad"),
        undo=params.get("undo") is True,
        rollout=text(params, "rollout"),
        token=_whole(params.get("token")),
    )


def _promote(params: Mapping[str, object]) -> Promote:
    keep = _whole(params.get("keep")) or 0
    if keep < 1:
        raise OptionError(f"keep is {keep}, but at least the current release has to stay")
    return Promote(
        release=text(params, "release"),
        keep=keep,
        before=text(params, "before"),
        rollout=text(params, "rollout"),
        token=_whole(params.get("token")),
    )


def _restart(options: object) -> Optional[Restart]:
    if not isinstance(options, dict):
        return None
    name = text(options, "service")
    argv = service_argv(name) if name else _command(options.get("command"), "restart.command")
    return Restart(argv, timeout=_seconds(options, "timeout", "restart"), chdir=text(options, "chdir") or "current")


def _health(options: object) -> Optional[Health]:
    if not isinstance(options, dict):
        return None
    url = text(options, "url")
    status = options.get("status")
    return Health(
        url=checked_url(url) if url else "",
        argv=() if url else _command(options.get("command"), "health.command"),
        status=tuple(code for code in status if isinstance(code, int)) if isinstance(status, list) else (200,),
        contains=text(options, "contains"),
        timeout=_seconds(options, "timeout", "health"),
        interval=_seconds(options, "interval", "health"),
    )


def _command(command: object, option: str) -> Tuple[str, ...]:
    return argv_of(command if isinstance(command, str) else _words(command, option), option)


def _words(value: object, option: str) -> Tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, (str, int)) for word in value):
        raise OptionError(f"{option} is neither text nor a list of texts")
    return tuple(str(word) for word in value)


def _seconds(options: Mapping[str, object], key: str, group: str) -> float:
    seconds = number(options, key)
    if not 0 < seconds < float("inf"):
        raise OptionError(f"{group}.{key} is not a number of seconds above 0")
    return seconds


def _whole(value: object) -> Optional[int]:
    return value if isinstance(value, int) else None


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
