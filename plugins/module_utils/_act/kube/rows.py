# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the info module tells of each release and of each pod, whatever kind of workload they are of. Pure."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ..model import Release
from .marks import name_of
from .progress import ready, restarts_of, started_at
from .revisions import Revision, epoch
from .workload import images_of

Object = Mapping[str, Any]


def release_row(release: Release, revision: Optional[Revision]) -> Dict[str, object]:
    """The release, with what its revision adds where Kubernetes still has one."""
    row = release.as_dict()
    if revision is None:
        return row
    return {
        **row,
        "revision": revision.number,
        "images": images_of(revision.template),
        "created": revision.created,
        "change_cause": revision.cause,
    }


def pod_row(pod: Object, release: Optional[str]) -> Dict[str, object]:
    """One live pod and its release; `started_at` is in epoch seconds, None while nothing of it has started."""
    started = started_at(pod)
    return {
        "name": name_of(pod),
        "uid": str(pod["metadata"]["uid"]),
        "release": release,
        "ready": ready(pod),
        "restarts": restarts_of(pod),
        "started_at": min(map(epoch, started)) if started else None,
        "phase": str((pod.get("status") or {}).get("phase") or ""),
    }
