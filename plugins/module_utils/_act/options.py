# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the backend `releases`: the modules' argument specifications, and what they stand for."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import Dict, Mapping, Optional, Tuple

from .._errors import OptionError, PlaceError
from . import plan
from .durable import Checkpoint, nowhere
from .health import Health, checked_url
from .model import KNOWN_GOOD, PROMOTED, RESTARTED, STATES, Outcome, number, text
from .place import Changes, Hands, Layout, NoHands
from .releases import ReleasesBackend
from .service import Restart, argv_of, service_argv
from .wishes import CONTROLLER, DISPATCH, WISHES, Spec, deploy_of, promote_of, rollback_of, whole

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
ARGUMENTS: Spec = {
    **CONTROLLER,
    **WISHES,
    **DISPATCH,
    "state": {**WISHES["state"], "choices": [*STATES, RESTARTED]},
    "path": {"type": "path"},
    "src": {"type": "path"},
    "remote_src": {"type": "bool", "default": False},
    "shared": {"type": "list", "elements": "str", "default": []},
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
INFO_ARGUMENTS: Spec = {
    "backend": DISPATCH["backend"],
    "backend_options": DISPATCH["backend_options"],
    "service": {"type": "str"},
    "path": {"type": "path"},
}
RELEASES_REQUIRED_IF = [("backend", "releases", ["path"])]


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
        return backend.rollback(rollback_of(params))
    if state == PROMOTED:
        return backend.promote(promote_of(params))
    if state == RESTARTED:
        return backend.restart(whole(params.get("token")))
    wish = deploy_of(params)
    return backend.deploy(replace(wish, src=text(params, "src"), shared=_words(params.get("shared"), "shared")))


def look(params: Mapping[str, object]) -> Dict[str, object]:
    """What module `release_info` tells; reads only. Where nothing was ever deployed, there is nothing to tell."""
    layout = Layout(text(params, "path"))
    try:
        seen = layout.see()
        free = shutil.disk_usage(_existing(layout.root)).free
    except OSError as problem:
        raise PlaceError(f"{layout.root} cannot be read: {problem.strerror} ({problem.filename})") from None
    return {
        **plan.facts(seen),
        "free_bytes": free,
    }


def _existing(path: str) -> str:
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


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
