# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the backend `helm`: the modules' argument specifications, and what they stand for."""

from __future__ import annotations

import json
import os
import re
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from ..._errors import OptionError
from .. import plan
from ..kube.connection import CONNECTION, access
from ..kube.names import object_name
from ..model import number, text
from ..wishes import CONTROLLER, WISHES, Spec, fulfilled, whole
from .backend import HelmBackend
from .cli import Chart, Helm, Pace, binary_of, way_of
from .place import Changes, Eyes, Hands, NoHands
from .store import Store

_WHERE: Spec = {
    **CONNECTION,
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "required": True},
    "binary_path": {"type": "path"},
}
ARGUMENTS: Spec = {
    **CONTROLLER,
    **WISHES,
    **_WHERE,
    "chart": {"type": "str"},
    "chart_version": {"type": "str"},
    # as text, so that Ansible takes the whole of it for a secret, and not each word of it
    "values": {"type": "json", "no_log": True},
    "values_files": {"type": "list", "elements": "path", "default": []},
    "reuse_values": {"type": "bool", "default": False},
    "wait": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 300.0},
    "pending_timeout": {"type": "float", "default": 600.0},
    "history_max": {"type": "int", "default": 10},
}
REQUIRED_IF = [
    ("state", "deployed", ["release", "chart"]),
    ("state", "promoted", ["release"]),
    ("undo", True, ["rollout"]),
]
INFO_ARGUMENTS: Spec = dict(_WHERE)

_NAME_LENGTH = 53  # Helm's own limit
_HIDDEN_LENGTH = 4  # shorter values are words of every message


def packed(given: Mapping[str, Any]) -> Dict[str, Any]:
    """A task's options as the module must get them: of a mapping Ansible would mask each word in every result."""
    others = {option: value for option, value in given.items() if option != "values"}
    values = given.get("values")
    if not values:
        return others  # an empty text would be masked everywhere, too
    return {**others, "values": values if isinstance(values, str) else json.dumps(values)}


def change(params: Mapping[str, Any], *, dry: bool) -> Dict[str, object]:
    """Do what the options of module `helm_release` say; in check mode only tell what would happen."""
    with _opened(params, dry=dry) as backend:
        outcome = fulfilled(backend, params)
        return {**outcome.as_dict(), **backend.history.tip()}


def look(params: Mapping[str, Any]) -> Dict[str, object]:
    """What module `helm_release_info` tells; reads only. Where nothing was ever deployed, there is nothing to tell."""
    with _opened(params, dry=True) as backend:
        history = backend.history = backend.eyes.look()
        warnings: List[str] = []
        if history.last is None:
            backend.eyes.check_namespace()
            warnings.append(backend.eyes.missing().message)
        seen = history.situation()
        return {
            **plan.facts(seen),
            **backend.history.tip(),
            "warnings": warnings,
        }


@contextmanager
def _opened(params: Mapping[str, Any], *, dry: bool) -> Iterator[HelmBackend]:
    """The backend that the options speak of."""
    name, namespace = object_name(text(params, "name")), object_name(text(params, "namespace"), "namespace")
    if len(name) > _NAME_LENGTH:
        raise OptionError(f"name {name!r} has more than {_NAME_LENGTH} characters, which Helm does not take")
    binary, cluster = binary_of(text(params, "binary_path")), access(params)
    chart, hidden = _chart(params)
    pace = _pace(params)
    with ExitStack() as stack:
        way = stack.enter_context(way_of(params, os.environ))
        patience = cluster.request_timeout + 30  # helm asks more than once
        helm = Helm(binary, way, name, namespace, pace=pace, patience=patience, hidden=hidden)
        store = Store(cluster, name, namespace)
        hands: Changes = NoHands(helm) if dry else Hands(helm, store)
        limit = number(params, "pending_timeout") or 600.0
        yield HelmBackend(Eyes(helm, store), hands, chart=chart, keep=pace.keep, patience=limit)


def _pace(params: Mapping[str, Any]) -> Pace:
    if "timeout" not in params:
        return Pace()  # the info module waits for nothing
    keep = whole(params.get("history_max")) or 0
    if keep == 1 or keep < 0:
        raise OptionError(f"history_max is {keep}, but going back needs at least 2 revisions; 0 keeps all")
    for option in ("timeout", "pending_timeout"):
        if not 0 < number(params, option) < float("inf"):
            raise OptionError(f"{option} is not a number of seconds above 0")
    return Pace(number(params, "timeout"), params.get("wait") is not False, keep)


def _chart(params: Mapping[str, Any]) -> Tuple[Optional[Chart], Tuple[str, ...]]:
    """The chart, and the values that no message may hold."""
    given = text(params, "values")
    values = _mapping(given) if given else {}
    files = tuple(os.path.expanduser(str(path)) for path in params.get("values_files") or ())
    hidden = tuple(sorted(set(_leaves([values, [_loaded(path) for path in files]]))))
    reference = text(params, "chart")
    if not reference:
        return None, hidden
    if reference.startswith("-"):
        raise OptionError(f"chart {reference!r} is no chart")
    if os.path.sep in reference and os.path.exists(os.path.expanduser(reference)):
        reference = os.path.expanduser(reference)
    reuse = params.get("reuse_values") is True
    return Chart(reference, text(params, "chart_version"), given, files, reuse), hidden


def _mapping(given: str) -> Mapping[str, object]:
    try:
        values = json.loads(given)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise OptionError("values is not a mapping", mend="Give what you would write into a values file")
    return values


def _loaded(path: str) -> object:
    """The content of a values file, only to hide it; one that cannot be read is told when it is needed."""
    import yaml  # the kubernetes library brings it

    try:
        with open(path, encoding="utf-8") as stream:
            return yaml.safe_load(stream)
    except (OSError, ValueError, yaml.YAMLError):
        return None


def _leaves(value: object) -> Iterator[str]:
    """Every text in `value` that is long enough to be told from other words, and its lines."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield from (part for part in re.split(r"[\r\n]+", str(value)) if len(part) >= _HIDDEN_LENGTH)
