# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Rollout's pod template: the one that is wished, and the one that a ReplicaSet was made of. Pure.

A Rollout is a custom resource: the API server knows no strategic merge for it, so that lists are merged here.
"""

from __future__ import annotations

import copy
import json
import re
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..._errors import OptionError, nearest
from ..kube.images import image_of
from ..kube.workload import images_of
from .status import HASH

Object = Mapping[str, Any]

_EPHEMERAL = "rollout.argoproj.io/ephemeral-metadata"
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([A-Za-z]{0,2})\Z", re.ASCII)
_EMPTY: Tuple[object, ...] = (None, {}, [], "")
# where false is as good as nothing; elsewhere nothing may stand for true
_NO = ("hostNetwork", "hostPID", "hostIPC", "readOnly", "stdin", "stdinOnce", "tty")
_UNITS = {
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in zip((-3, -2, -1, 1, 2, 3, 4, 5, 6), "numkMGTPE")},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}
# lists whose items have a name of their own, as in Kubernetes' own merging; any other list is replaced
_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
}


def wished(template: Object, images: Mapping[str, object], patch: Object, release: str) -> Dict[str, Any]:
    """`template` with the `images` of its containers and `patch` laid over it; `{release}` in an image is filled in."""
    known = images_of(template)
    for name in images:
        if name not in known:
            raise OptionError(
                f"images: the pod template has no container {name!r}{nearest(name, known)}",
                mend=f"It has {', '.join(known)}",
            )
    made = merged(template, patch)
    for kind in ("initContainers", "containers"):
        for container in made["spec"].get(kind) or []:
            name = str(container["name"])
            if name in images:
                container["image"] = image_of(str(images[name]), release, name)
    return made


def merged(old: Object, patch: Object) -> Dict[str, Any]:
    """`patch` laid over `old`: null removes, lists of named things are merged by name, other values are replaced."""
    result = copy.deepcopy(dict(old))
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            before = result.get(key)
            result[key] = merged(before if isinstance(before, Mapping) else {}, value)
        elif isinstance(value, list) and key in _KEYS and isinstance(result.get(key), list):
            result[key] = _merged_list(result[key], value, _KEYS[key])
        else:
            result[key] = copy.deepcopy(value)
    return result


def original(replicaset: Object) -> Dict[str, Any]:
    """The pod template that a ReplicaSet was made of, without what the controller has added to it."""
    template: Dict[str, Any] = copy.deepcopy(replicaset["spec"]["template"])
    about = template.setdefault("metadata", {})
    about.pop("creationTimestamp", None)
    (about.get("labels") or {}).pop(HASH, None)
    notes = (replicaset["metadata"].get("annotations") or {}).get(_EPHEMERAL)
    for kind, added in (json.loads(notes) if notes else {}).items():
        for key in added or {}:
            (about.get(kind) or {}).pop(key, None)
    if template["spec"].get("affinity"):
        _without_own_affinity(template["spec"])
    return template


def normal(template: object) -> Any:
    """A pod template in one spelling: the controller writes it back without what is empty, and 500m for 0.5."""
    if isinstance(template, Mapping):
        parts = {key: _spelled(key, value) for key, value in template.items()}
        return {key: value for key, value in parts.items() if value not in _EMPTY and not (key in _NO and not value)}
    return [normal(part) for part in template] if isinstance(template, list) else template


def alike(one: object, other: object) -> bool:
    """Are both the same pod template?"""
    return bool(normal(one) == normal(other))


def same_but_false(one: object, other: object) -> bool:
    """`alike`, where false and 0 may also be left out: the controller does so with some of them."""
    return alike(_without_false(one), _without_false(other))


def covers(live: object, desired: object) -> bool:
    """Does `live`, to which the API server has added its defaults, have all that `desired` says?"""
    if isinstance(desired, Mapping):
        return isinstance(live, Mapping) and all(
            covers(live.get(key), value) for key, value in desired.items() if value not in (None, {}, [], "")
        )
    if isinstance(desired, list):
        same = isinstance(live, list) and len(live) == len(desired)
        return same and all(covers(one, other) for one, other in zip(live, desired))  # type: ignore[call-overload]
    return live == desired


def _spelled(key: str, value: object) -> Any:
    if key in ("limits", "requests") and isinstance(value, Mapping):
        return {name: _quantity(amount) for name, amount in value.items()}
    return normal(value)


def _quantity(amount: object) -> str:
    """`500m`, `0.5` and `0.50` as the same text; what is no quantity as it is."""
    told = _QUANTITY.match(str(amount))
    if told is None or told[2] not in _UNITS:
        return str(amount)
    return str((Decimal(told[1]) * _UNITS[told[2]]).normalize())


def _without_false(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_false(part) for key, part in value.items() if part is not False and part != 0}
    return [_without_false(part) for part in value] if isinstance(value, list) else value


def _merged_list(old: List[Any], patch: List[Any], key: str) -> List[Any]:
    result = copy.deepcopy(old)
    for item in patch:
        if not isinstance(item, Mapping) or key not in item:
            raise OptionError(f"patch: an item of a list has no {key}, by which it is told from the others")
        place: Optional[int] = next((at for at, have in enumerate(result) if have.get(key) == item[key]), None)
        gone = item.get("$patch") == "delete"
        if place is None:
            result += [] if gone else [copy.deepcopy(dict(item))]
        elif gone:
            del result[place]
        else:
            result[place] = merged(result[place], item)
    return result


def _without_own_affinity(spec: Dict[str, Any]) -> None:
    """Drop the rules by which the controller keeps canary and stable pods apart: they name a pod template's hash."""
    affinity = spec["affinity"]
    rules = affinity.get("podAntiAffinity") or {}
    for when in list(rules):
        kept = [rule for rule in rules[when] or [] if HASH not in json.dumps(rule)]
        rules.pop(when)
        if kept:
            rules[when] = kept
    if not rules:
        affinity.pop("podAntiAffinity", None)
    if not affinity:
        spec.pop("affinity")
