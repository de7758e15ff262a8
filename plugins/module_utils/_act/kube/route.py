# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact shares: the weights of a Gateway API route, split between a Service and its canary, and put back as they were.

What the weights were is kept on the route itself, in the same change that splits them, so that whoever comes next can
put them back. Pure; the requests are `canary`'s.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

from ..._errors import OptionError, nearest
from ..wishes import Spec
from .api import Forbidden, NotFound
from .marks import name_of, notes_of
from .names import PREFIX, object_name, path_of
from .sibling import Apart, owner_reference, sibling_name

Object = Mapping[str, Any]
Ref = Dict[str, Any]

# on a route, for each workload whose share it splits: the weights as they were
WEIGHTS = PREFIX + "weights"
GROUP = "gateway.networking.k8s.io/v1"
ROUTES = {"HTTPRoute": "httproutes", "GRPCRoute": "grpcroutes"}
ROUTE: Spec = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": sorted(ROUTES), "default": "HTTPRoute"},
    "rule": {"type": "str"},
}
_HEAVIEST = 1_000_000  # the most that the Gateway API takes as a weight


@dataclass(frozen=True)
class RouteOption:
    """Which route splits the requests; `rule` is the index or the name of the only rule to touch, or empty."""

    name: str
    kind: str = "HTTPRoute"
    rule: str = ""


def route_option(told: Optional[Mapping[str, object]]) -> Optional[RouteOption]:
    """The option `route` of a task."""
    if not told:
        return None
    kind, rule = str(told.get("kind") or "HTTPRoute"), told.get("rule")
    if kind not in ROUTES:
        raise OptionError(
            f"route.kind {kind!r} is not a route{nearest(kind, ROUTES)}", mend=f"Use one of {', '.join(ROUTES)}"
        )
    return RouteOption(object_name(str(told.get("name") or ""), "route.name"), kind, "" if rule is None else str(rule))


def route_path(option: RouteOption, namespace: str) -> str:
    return path_of(GROUP, ROUTES[option.kind], namespace, option.name)


def nearest_route(option: RouteOption, namespace: str, others: Callable[[], Iterable[Object]]) -> OptionError:
    """There is no such route: the nearest one, or that the cluster knows no routes."""
    try:
        names = sorted(name_of(each) for each in others())
    except NotFound:
        return OptionError(
            f"this cluster has no kind {option.kind} of {GROUP}", mend="Install the Gateway API, or leave out route"
        )
    except Forbidden:
        names = []
    return OptionError(
        f"namespace {namespace} has no {option.kind} {option.name!r}{nearest(option.name, names)}",
        mend=f"It has {', '.join(names[:10]) or 'none'}",
    )


def rules_of(route: Object, option: RouteOption) -> Tuple[int, ...]:
    """The indexes of the rules that may be touched."""
    rules = (route.get("spec") or {}).get("rules") or []
    if not option.rule:
        return tuple(range(len(rules)))
    names = {str(rule.get("name") or index): index for index, rule in enumerate(rules)}
    if option.rule in names:
        return (names[option.rule],)
    if option.rule.isdecimal() and int(option.rule) < len(rules):
        return (int(option.rule),)
    raise OptionError(
        f"{option.kind} {option.name} has no rule {option.rule!r}{nearest(option.rule, names)}",
        mend=f"It has {', '.join(names) or 'none'}",
    )


def backend_of(route: Object, option: RouteOption, services: Mapping[str, Object], workload: str) -> str:
    """The one Service among `services`, those of the workload's pods, that the rules send requests to."""
    namespace = route["metadata"]["namespace"]
    told = [ref for index in rules_of(route, option) for ref in _refs(route["spec"]["rules"][index])]
    named = {str(ref["name"]) for ref in told if _is_service(ref, namespace)}
    ours = sorted(named.intersection(services))
    if len(ours) == 1:
        return ours[0]
    where = f"{option.kind} {option.name}" + (f", rule {option.rule}," if option.rule else "")
    if ours:
        raise OptionError(
            f"{where} sends requests to {workload} by several Services: {', '.join(ours)}", mend="Name one route.rule"
        )
    raise OptionError(
        f"{where} has no backendRef to a Service that selects the pods of {workload}",
        mend=f"It sends to {', '.join(sorted(named)) or 'no Service'}; "
        f"the pods are selected by {', '.join(sorted(services)) or 'no Service'}",
    )


def weights_of(weight: int, share: float) -> Tuple[int, int, int]:
    """`(stable, canary, factor)`: `weight` split, and what other weights of the rule are multiplied by.

    In hundredths, or in ten thousandths for a share that is no whole number; neither side is ever 0.
    """
    factor = 100 if float(share).is_integer() else 10_000
    canary = min(max(1, round(share * factor / 100)), factor - 1)
    return weight * (factor - canary), weight * canary, factor


def split(
    route: Object, option: RouteOption, *, workload: str, service: str, canary: str, share: float
) -> Dict[str, Any]:
    """`route` with `share` percent of what `service` gets going to `canary`; the rest as it was before any split."""
    new = restored(route, workload)
    rules, kept = new["spec"]["rules"], []
    for index in rules_of(new, option):
        refs = _refs(rules[index])
        at = [each for each, ref in enumerate(refs) if ref["name"] == service and _is_service(ref, _home(new))]
        if at:
            kept.append({"rule": index, "weights": {_key(ref): ref.get("weight") for ref in refs}})
            rules[index]["backendRefs"] = _split(refs, at, canary, share, f"{option.kind} {option.name}")
    _note(new, {**_records(new), workload: {"canary": canary, "rules": kept}})
    return new


def restored(route: Object, workload: str) -> Dict[str, Any]:
    """`route` as it was before its weights were split for `workload`; whatever others changed since stays."""
    new = copy.deepcopy(dict(route))
    records = _records(new)
    mine = records.pop(workload, None)
    if mine is None:
        return new
    for index, rule in enumerate(new["spec"].get("rules") or []):
        refs = [ref for ref in _refs(rule) if ref["name"] != mine.get("canary")]
        if len(refs) < len(_refs(rule)):
            before = _before(mine.get("rules") or [], index, refs)
            rule["backendRefs"] = [_weighed(ref, before.get(_key(ref), ref.get("weight"))) for ref in refs]
    _note(new, records)
    return new


def is_split(route: Object, workload: str) -> bool:
    return workload in _records(route)


def change(before: Object, after: Object) -> Optional[Dict[str, Any]]:
    """The merge patch, pinned, that makes `after` of `before`; None when they are the same."""
    if before["spec"] == after["spec"] and notes_of(before) == notes_of(after):
        return None
    about = {
        "resourceVersion": before["metadata"]["resourceVersion"],
        "annotations": {WEIGHTS: notes_of(after).get(WEIGHTS)},
    }
    return {"metadata": about, "spec": {"rules": after["spec"]["rules"]}}


def canary_service(
    service: Object, name: str, apart: Apart, stable: Object, about: Mapping[str, Any]
) -> Dict[str, Any]:
    """A Service like `service` for the pods that are kept `apart` from it; `about` has its labels and annotations."""
    spec = service["spec"]
    ports = [{key: value for key, value in port.items() if key != "nodePort"} for port in spec.get("ports") or []]
    same = ("sessionAffinity", "sessionAffinityConfig", "publishNotReadyAddresses", "internalTrafficPolicy")
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": service["metadata"]["namespace"],
            **copy.deepcopy(dict(about)),
            "ownerReferences": [owner_reference(stable)],
        },
        "spec": {
            **{key: copy.deepcopy(spec[key]) for key in same if key in spec},
            **({"clusterIP": "None"} if spec.get("clusterIP") == "None" else {}),
            "selector": {**spec["selector"], apart.key: apart.value},
            "ports": ports,
        },
    }


def _split(refs: List[Ref], at: List[int], canary: str, share: float, where: str) -> List[Ref]:
    if len(at) > 1 or len({_key(ref) for ref in refs}) < len(refs):
        raise OptionError(f"{where} names one backend twice in one rule, so its share cannot be told")
    weight = _weight(refs[at[0]])
    if weight == 0:
        raise OptionError(
            f"{where} gives {refs[at[0]]['name']} the weight 0: it gets no request to share",
            mend="Give it a weight, or name another route.rule",
        )
    others = [_weight(ref) for index, ref in enumerate(refs) if index != at[0]]
    # alone in its rule, only the proportion counts
    stable, new, factor = weights_of(weight if any(others) else 1, share)
    if max([stable, new, *(other * factor for other in others)]) > _HEAVIEST:
        raise OptionError(
            f"the weights of {where} are too large to be split: times {factor} they exceed {_HEAVIEST}",
            mend="Make the weights of that rule smaller, in the same proportion",
        )
    weighed = [_weighed(ref, stable if index == at[0] else _weight(ref) * factor) for index, ref in enumerate(refs)]
    weighed.insert(at[0] + 1, _weighed({**copy.deepcopy(refs[at[0]]), "name": canary}, new))
    return weighed


def _before(records: List[Dict[str, Any]], index: int, refs: List[Ref]) -> Dict[str, Optional[int]]:
    """The weights that a rule with these backends had, also when rules were added before it meanwhile."""
    keys = {_key(ref) for ref in refs}
    alike = [record for record in records if set(record.get("weights") or {}) == keys]
    exact = [record for record in alike if record.get("rule") == index]
    near = [record for record in records if record.get("rule") == index]
    found = exact or alike or near
    return dict(found[0].get("weights") or {}) if found else {}


def _weighed(ref: Ref, weight: Optional[int]) -> Ref:
    bare = {key: value for key, value in ref.items() if key != "weight"}
    return bare if weight is None else {**bare, "weight": weight}


def _weight(ref: Ref) -> int:
    """The Gateway API takes 1 for a weight that is not said."""
    told = ref.get("weight")
    return 1 if told is None else int(told)


def _refs(rule: Object) -> List[Ref]:
    return list(rule.get("backendRefs") or [])


def _home(route: Object) -> str:
    return str(route["metadata"]["namespace"])


def _is_service(ref: Ref, namespace: str) -> bool:
    mine = ref.get("namespace") in (None, "", namespace)
    return mine and not ref.get("group") and ref.get("kind") in (None, "Service")


def _key(ref: Ref) -> str:
    return "/".join(str(ref.get(part) or "") for part in ("group", "kind", "namespace", "name", "port"))


def _records(route: Object) -> Dict[str, Any]:
    try:
        told = json.loads(notes_of(route).get(WEIGHTS) or "{}")
    except ValueError:
        return {}
    return {str(name): _record(str(name), mine) for name, mine in told.items()} if isinstance(told, dict) else {}


def _record(workload: str, mine: object) -> Dict[str, Any]:
    """One workload's record. Whoever edits it by hand can only lose the weights, and never name another's Service."""
    rules = mine.get("rules") if isinstance(mine, dict) else None
    kept = [rule for rule in rules if _is_rule(rule)] if isinstance(rules, list) else []
    return {"canary": sibling_name(workload), "rules": kept}


def _is_rule(rule: object) -> bool:
    weights = rule.get("weights") if isinstance(rule, dict) else None
    return isinstance(weights, dict) and all(each is None or isinstance(each, int) for each in weights.values())


def _note(route: Dict[str, Any], records: Mapping[str, Any]) -> None:
    notes = {key: value for key, value in notes_of(route).items() if key != WEIGHTS}
    told = {WEIGHTS: json.dumps(records, sort_keys=True)} if records else {}
    route["metadata"] = {**route["metadata"], "annotations": {**notes, **told}}
