# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helm's storage objects as the API server shows them: one per revision, of which only the metadata is read.

What a revision holds, its values among it, is never asked for. A mark is a patch that is pinned on what was read, so
that one which Helm has written anew in the meantime is a Conflict.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple
from urllib.parse import quote

from ..._errors import OptionError, PlaceError, nearest
from ..kube.api import Api, Conflict, Forbidden
from ..kube.connection import Access
from ..kube.names import path_of
from .labels import Labels, change, epoch, ours

# objects without their content; a list can only be asked for as a list, and one object only as one
_METADATA = "application/json;as=PartialObjectMetadata{};v=v1;g=meta.k8s.io"
_STORAGE = {"": "secrets", "secret": "secrets", "secrets": "secrets", "configmap": "configmaps"}
_STORAGE["configmaps"] = _STORAGE["configmap"]


@dataclass(frozen=True)
class Stored:
    """The metadata of one revision's storage object; `since` is when its state changed last, in epoch seconds."""

    number: int
    labels: Labels
    pin: str
    since: float


class Store:
    """The storage of the Helm release `name` in `namespace`."""

    def __init__(self, access: Access, name: str, namespace: str) -> None:
        driver = os.environ.get("HELM_DRIVER", "").lower()
        if driver not in _STORAGE:
            raise OptionError(
                f"HELM_DRIVER is {driver!r}, but known good marks are labels of Helm's secrets or configmaps",
                mend="Unset it, or use secret or configmap",
            )
        self._lists = Api(access, accept=_METADATA.format("List"))
        self._each = Api(access, accept=_METADATA.format(""))
        self._name, self._namespace = name, namespace
        self._folder = path_of("v1", _STORAGE[driver], namespace)

    def read(self) -> Dict[int, Stored]:
        """Every revision that Helm has stored."""
        found = self._lists.items(self._folder, labelSelector=f"owner=helm,name={self._name}")
        stored = [_stored(each["metadata"]) for each in found]
        return {each.number: each for each in stored if each is not None}

    def mark(self, revision: int, before: Labels, after: Labels, pin: str) -> Tuple[Labels, str]:
        """Let the revision have our labels `after` in place of `before`; returns them and its new pin."""
        path = f"{self._folder}/{quote(f'sh.helm.release.v1.{self._name}.v{revision}', safe='')}"
        body = {"metadata": {"resourceVersion": pin, "labels": change(before, after)}}
        try:
            meta = self._each.patch(path, body)["metadata"]
        except Conflict:
            raise PlaceError(
                f"revision {revision} of helm release {self._name} was changed while it was looked at",
                mend="Somebody runs helm on it: look at helm history and run this again",
            ) from None
        return ours(meta.get("labels") or {}), str(meta["resourceVersion"])

    def missing(self) -> PlaceError:
        """That the Helm release is not there, with what is."""
        namespaces = self._namespaces()
        if namespaces and self._namespace not in namespaces:
            return PlaceError(
                f"there is no namespace {self._namespace!r}{nearest(self._namespace, namespaces)}",
                mend="Check namespace, and context for the cluster",
            )
        known = self._neighbours()
        mend = f"Helm releases there: {', '.join(known[:10])}" if known else "It has no helm release at all"
        where = f"in namespace {self._namespace}"
        return PlaceError(f"there is no helm release {self._name!r} {where}{nearest(self._name, known)}", mend=mend)

    def check_namespace(self) -> None:
        """PlaceError when it is not there, as far as we may know."""
        namespaces = self._namespaces()
        if namespaces and self._namespace not in namespaces:
            raise self.missing()

    def _namespaces(self) -> List[str]:
        try:
            return [str(each["metadata"]["name"]) for each in self._lists.items("/api/v1/namespaces")]
        except Forbidden:
            return []

    def _neighbours(self) -> List[str]:
        found = self._lists.items(self._folder, labelSelector="owner=helm")
        return sorted({str(each["metadata"]["labels"].get("name")) for each in found})


def _stored(meta: Mapping[str, Any]) -> Optional[Stored]:
    labels = meta.get("labels") or {}
    number = str(labels.get("version") or "")
    if not number.isdecimal():
        return None  # not one of Helm's, whatever it is
    modified = str(labels.get("modifiedAt") or "")
    since = max(epoch(str(meta.get("creationTimestamp") or "")), float(modified) if modified.isdecimal() else 0.0)
    return Stored(int(number), ours(labels), str(meta.get("resourceVersion") or ""), since)
