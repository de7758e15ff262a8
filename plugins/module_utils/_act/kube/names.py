# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names in a cluster: kinds and their paths, our annotations and labels, and what can be a name at all. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Mapping
from urllib.parse import quote

from ..._errors import OptionError, nearest

PREFIX = "selfheal.delivery/"
# on a revision (ReplicaSet, ControllerRevision): the Release that it is, as JSON; it lives and dies with the revision
RELEASE = PREFIX + "release"
# by people, on the workload or its pod template, from where it goes to the revision: blocked | allowed
ROLLBACK = PREFIX + "rollback"
# on the workload itself: the highest fencing token seen, and the journal of the last change, as JSON
TOKEN = PREFIX + "token"
JOURNAL = PREFIX + "journal"
# on what we create beside a workload: as a label, what it is for; as an annotation, the id of the rollout it is of
TRACK = PREFIX + "track"
ROLLOUT = PREFIX + "rollout"
CHANGE_CAUSE = "kubernetes.io/change-cause"
REVISION = "deployment.kubernetes.io/revision"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")


@dataclass(frozen=True)
class Kind:
    """A kind of workload: where it is in the API, and which kind of object keeps its revisions."""

    kind: str
    group: str
    plural: str
    revisions: str  # replicasets | controllerrevisions


KINDS: Mapping[str, Kind] = {
    "Deployment": Kind("Deployment", "apps/v1", "deployments", "replicasets"),
    "StatefulSet": Kind("StatefulSet", "apps/v1", "statefulsets", "controllerrevisions"),
    "DaemonSet": Kind("DaemonSet", "apps/v1", "daemonsets", "controllerrevisions"),
    "Rollout": Kind("Rollout", "argoproj.io/v1alpha1", "rollouts", "replicasets"),
}


def kind_of(name: str) -> Kind:
    """The kind, whatever its case; raises OptionError with the nearest one."""
    by_lower: Dict[str, Kind] = {known.lower(): kind for known, kind in KINDS.items()}
    if name.lower() not in by_lower:
        raise OptionError(
            f"kind {name!r} is not one that can be rolled out{nearest(name, KINDS)}",
            mend=f"Use one of {', '.join(KINDS)}",
        )
    return by_lower[name.lower()]


def object_name(text: str, option: str = "name") -> str:
    """`text`, when Kubernetes can have an object of that name: it becomes part of a path."""
    if not _NAME.match(text):
        raise OptionError(
            f"{option} {text!r} cannot be a name in Kubernetes",
            mend="Use lower-case letters, digits, - and ., with a letter or a digit at both ends",
        )
    return text


def path_of(group: str, plural: str, namespace: str, name: str = "", subresource: str = "") -> str:
    """The API's path of a namespaced object, or of all of its kind: `path_of("apps/v1", "deployments", "shop")`."""
    root = f"/api/{group}" if "/" not in group else f"/apis/{group}"
    parts = [root, "namespaces", quote(namespace, safe=""), plural]
    parts += [quote(name, safe="")] if name else []
    return "/".join(parts + ([subresource] if subresource else []))
