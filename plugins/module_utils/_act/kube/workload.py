# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Deployment, StatefulSet or DaemonSet says of itself. Pure: objects in, facts out."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..._errors import PlaceError
from .marks import notes_of
from .names import JOURNAL, RESTARTED_AT, TOKEN, Kind, path_of

Object = Mapping[str, Any]

HASH_LABEL = "pod-template-hash"
# label or annotation -> the controller that would undo a change which is not in Git
_GITOPS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux (Kustomization)",
    "helm.toolkit.fluxcd.io/name": "Flux (HelmRelease)",
    "objectset.rio.cattle.io/id": "Rancher Fleet",
    "fleet.cattle.io/bundle-id": "Rancher Fleet",
}
_GITOPS_MANAGERS = {
    "argocd-controller": "Argo CD",
    "argocd-application-controller": "Argo CD",
    "kustomize-controller": "Flux (Kustomization)",
    "helm-controller": "Flux (HelmRelease)",
    "fleetagent": "Rancher Fleet",
}


@dataclass(frozen=True)
class Target:
    """The one workload that is changed, and where its things are in the API."""

    kind: Kind
    namespace: str
    name: str

    @property
    def collection(self) -> str:
        return path_of(self.kind.group, self.kind.plural, self.namespace)

    @property
    def path(self) -> str:
        return path_of(self.kind.group, self.kind.plural, self.namespace, self.name)

    @property
    def revisions(self) -> str:
        return path_of("apps/v1", self.kind.revisions, self.namespace)

    @property
    def pods(self) -> str:
        return path_of("v1", "pods", self.namespace)

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.name} in namespace {self.namespace}"


def template_of(workload: Object) -> Dict[str, Any]:
    return dict(workload["spec"]["template"])


def cleaned(template: Object) -> Dict[str, Any]:
    """A pod template without what controllers add for themselves: to compare, and to apply."""
    bare: Dict[str, Any] = _without_none(copy.deepcopy(dict(template)))
    bare.pop("$patch", None)
    metadata = bare.get("metadata") or {}
    labels = metadata.get("labels") or {}
    labels.pop(HASH_LABEL, None)
    return bare


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list) else value


def same(one: Object, other: Object) -> bool:
    """Would Kubernetes make the same revision of both?"""
    return cleaned(one) == cleaned(other)


def same_but_restarted(one: Object, other: Object) -> bool:
    """The same but for when it was told to restart."""
    return _unrestarted(one) == _unrestarted(other)


def _unrestarted(template: Object) -> Dict[str, Any]:
    bare = cleaned(template)
    metadata = bare.get("metadata") or {}
    notes = metadata.get("annotations") or {}
    notes.pop(RESTARTED_AT, None)
    if not notes:
        metadata.pop("annotations", None)
    return bare


def digest_of(template: Object) -> str:
    """`sha256:…` of a pod template as the API server gives it."""
    return "sha256:" + hashlib.sha256(json.dumps(cleaned(template), sort_keys=True).encode()).hexdigest()


def containers_of(template: Object) -> List[Object]:
    """All containers, those that only initialize first."""
    spec = template.get("spec") or {}
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def images_of(template: Object) -> Dict[str, str]:
    """Container -> image."""
    return {str(each.get("name")): str(each.get("image") or "") for each in containers_of(template)}


def changed_keys(before: Any, after: Any, path: str = "") -> Tuple[str, ...]:
    """The paths at which two templates differ, without their values: those may be secrets."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: List[str] = []
        for key in sorted({*before, *after}):
            found += changed_keys(before.get(key), after.get(key), f"{path}.{key}" if path else str(key))
        return tuple(found)
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        found = []
        for index, (one, other) in enumerate(zip(before, after)):
            name = one.get("name", index) if isinstance(one, dict) else index
            found += changed_keys(one, other, f"{path}[{name}]")
        return tuple(found)
    return () if before == after else (path,)


def selector_of(workload: Object) -> str:
    """The workload's label selector as a query's text. Others may match it too: ownership decides."""
    selector = workload["spec"].get("selector") or {}
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or []:
        key, operator = each["key"], each["operator"]
        values = ",".join(each.get("values") or [])
        words = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        parts.append(words.get(operator, f"!{key}"))
    return ",".join(parts)


def is_paused(workload: Object) -> bool:
    return workload["spec"].get("paused") is True


def wanted(workload: Object) -> int:
    """How many pods there should be."""
    if workload.get("kind") == "DaemonSet" or "replicas" not in workload["spec"]:
        return int((workload.get("status") or {}).get("desiredNumberScheduled") or 0)
    return int(workload["spec"]["replicas"])


def owner_of(workload: Object) -> str:
    """`Kind name` of the controller that owns the workload, and would undo what is done to it; or nothing."""
    owners = workload["metadata"].get("ownerReferences") or []
    return next((f"{owner['kind']} {owner['name']}" for owner in owners if owner.get("controller")), "")


def gitops_of(workload: Object) -> str:
    """The GitOps controller that keeps the workload as it is in Git, or nothing."""
    marked = {**(workload["metadata"].get("labels") or {}), **notes_of(workload)}
    managers = {str(each.get("manager")) for each in workload["metadata"].get("managedFields") or []}
    by_mark = [name for key, name in _GITOPS.items() if key in marked]
    return next(iter([*by_mark, *(name for key, name in _GITOPS_MANAGERS.items() if key in managers)]), "")


def last_change(workload: Object, before: Optional[Object] = None) -> str:
    """`by kubectl-set at 2026-01-02T03:04:05Z`: who changed it last, but for its status; since `before`, if given."""
    known = [_change(each) for each in (before or {"metadata": {}})["metadata"].get("managedFields") or []]
    fields = [each for each in workload["metadata"].get("managedFields") or [] if not each.get("subresource")]
    fresh = [each for each in fields if _change(each) not in known]
    last = max(fresh or fields, key=lambda each: str(each.get("time") or ""), default=None)
    return f"by {last.get('manager')} at {last.get('time')}" if last else "by somebody"


def _change(entry: Object) -> Tuple[object, ...]:
    return tuple(entry.get(key) for key in ("manager", "operation", "subresource", "time"))


def pins(workload: Object) -> Tuple[Tuple[str, object], ...]:
    """JSON pointer -> value of what a decision stands on: as long as these hold, it stands.

    Not the resourceVersion: a rollout under way changes it many times a second by its status alone.
    """
    notes = notes_of(workload)
    return (
        ("/metadata/uid", workload["metadata"]["uid"]),
        ("/metadata/generation", workload["metadata"]["generation"]),
        *((pointer(key), notes.get(key)) for key in (JOURNAL, TOKEN) if notes),
    )


def pointer(annotation: str) -> str:
    return "/metadata/annotations/" + annotation.replace("~", "~0").replace("/", "~1")


def moved(before: Object, after: Object) -> bool:
    """Did somebody do to the workload what makes a decision on it void? To scale it does not."""
    if before["metadata"]["uid"] != after["metadata"]["uid"] or is_paused(before) != is_paused(after):
        return True
    told, tells = notes_of(before), notes_of(after)
    return any(told.get(key) != tells.get(key) for key in (JOURNAL, TOKEN)) or not same(
        template_of(before), template_of(after)
    )


def refuse_owned(workload: Object, target: Target) -> None:
    owner = owner_of(workload)
    if owner:
        raise PlaceError(
            f"{target} is owned by {owner}, which would undo the change",
            mend=f"Change {owner} instead",
            details={"owner": owner, "changed": False},
        )


def refuse_paused(workload: Object, target: Target) -> None:
    if is_paused(workload):
        raise PlaceError(
            f"{target} is paused, so nothing would be rolled out",
            mend="Resume it first, by state: resumed or kubectl rollout resume",
            details={"changed": False},
        )


def gitops_warning(workload: Object, target: Target) -> Optional[str]:
    tool = gitops_of(workload)
    return f"{tool} keeps {target} as it is in Git, and would undo this: change it there" if tool else None
