# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of flags in a Kubernetes cluster. Every change is pinned to the resourceVersion that was read."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from .._act.kube.api import JSON_PATCH, Api, Conflict, Forbidden, Lost, NotFound
from .._act.kube.connection import access
from .._errors import OptionError, PlaceError
from .document import Flags, Moved
from .model import Deadline, FlagError, Options
from .names import segment
from .texts import KEPT, MAX_BYTES, YAML, edited, form_of, parsed, same

GROUP = "core.openfeature.dev/v1beta1"


# by a label or an annotation of these, somebody else says what the object shall be
_KEEPERS = {
    "argocd.argoproj.io/tracking-id": "Argo CD",
    "argocd.argoproj.io/instance": "Argo CD",
    "kustomize.toolkit.fluxcd.io/name": "Flux",
    "helm.toolkit.fluxcd.io/name": "Flux",
}


class _Object:
    """One object in the API server, read and changed within the provider's timeout and the deadline."""

    kind = ""

    def __init__(self, options: Options, deadline: Deadline) -> None:
        if not options.name:
            raise OptionError(f"provider has the kind {self.kind} and no name", mend="Set provider.name")
        self.namespace = options.namespace or "default"
        self.name = f"{self.kind} {self.namespace}/{options.name}"
        self._options, self._deadline = options, deadline
        self._api: Optional[Api] = None
        self.note = ""

    def close(self) -> None:
        if self._api is not None:
            self._api.close()

    def _path(self) -> str:
        base = "/api/v1" if self.kind == "ConfigMap" else f"/apis/{GROUP}"
        plural = "configmaps" if self.kind == "ConfigMap" else "featureflags"
        return f"{base}/namespaces/{segment(self.namespace)}/{plural}/{segment(self._options.name)}"

    def _read(self) -> Dict[str, Any]:
        with self._asked() as api:
            found = api.get(self._path())
        self.note = _kept_by(found["metadata"])
        return found

    def _patch(self, steps: List[Mapping[str, Any]], revision: str) -> None:
        """The steps of a JSON patch, while the object still is at `revision`."""
        pin = {"op": "replace", "path": "/metadata/resourceVersion", "value": revision}
        with self._asked() as api:
            api.patch(self._path(), [pin, *steps], JSON_PATCH)

    @contextmanager
    def _asked(self) -> Iterator[Api]:
        timeout = min(self._options.timeout, self._deadline.left())
        if timeout <= 0:
            raise FlagError(f"{self.name} was not asked: the deadline has passed")
        try:
            if self._api is None:
                self._api = Api(access({**self._options.cluster, "request_timeout": timeout}))
            self._api.access = replace(self._api.access, request_timeout=timeout)
            yield self._api
        except Conflict:
            raise Moved(f"{self.name} was changed since it was read") from None
        except Lost as error:
            raise Moved(f"{self.name}: {error.what}", details={"lost": True}) from None
        except NotFound as error:
            raise FlagError(
                f"{self.name} is not there, or its kind is not: {error.what}",
                mend="Check provider.namespace, provider.name and the cluster's context",
                details=error.details,
            ) from None
        except Forbidden as error:
            raise FlagError(error.what, mend=error.mend, details=error.details) from None
        except PlaceError as error:
            raise FlagError(f"{self.name}: {error.what}", mend=error.mend, details=error.details) from None


class ConfigMapDocument(_Object):
    """One key of a ConfigMap. Who mounts it sees a change when the kubelet has synchronised it."""

    kind = "ConfigMap"

    def __init__(self, options: Options, deadline: Deadline, yaml: str = YAML) -> None:
        super().__init__(options, deadline)
        self._text, self._yaml = "", yaml

    def read(self) -> Tuple[Flags, str]:
        found = self._read()
        data = found.get("data") or {}
        key = self._key(data)
        if found.get("immutable"):
            raise FlagError(f"{self.name} is immutable", mend="Keep flags in one that can be changed")
        self._text = str(data[key])
        flags = parsed(self._text, self._about(key), form_of(key, self._text, self._yaml))
        return flags, str(found["metadata"]["resourceVersion"])

    def write(self, document: Mapping[str, Any], revision: str) -> None:
        key = self._options.key
        text = edited(self._text, document, self._about(key), form_of(key, self._text, self._yaml))
        if len(text.encode()) > MAX_BYTES:
            raise FlagError(f"{self._about(key)} would be larger than {MAX_BYTES // 2**20} MiB")
        self._patch([_replaced("data", key, text)], revision)

    def _key(self, data: Mapping[str, str]) -> str:
        """The key of the flags; one that is alone needs no naming."""
        key = self._options.key
        if not key and len(data) == 1:
            key = next(iter(data))
            self._options = replace(self._options, key=key)
        if key not in data:
            named = f"has no key {key!r}" if key else "has several keys, and none was chosen"
            raise FlagError(
                f"{self.name} {named}", mend=f"Set provider.key; it has {', '.join(sorted(data)) or 'none'}"
            )
        return key

    def _about(self, key: str) -> str:
        return f"{self.name} key {key}"


class FeatureFlagDocument(_Object):
    """The flags of an OpenFeature operator's resource: its `spec.flagSpec`.

    The resource's definition drops a flag's metadata, so what a flag keeps there lies in one annotation, and is handed
    out and taken back as if it were metadata.
    """

    kind = "FeatureFlag"

    def __init__(self, options: Options, deadline: Deadline) -> None:
        super().__init__(options, deadline)
        self._found: Dict[str, Any] = {}

    def read(self) -> Tuple[Flags, str]:
        self._found = self._read()
        flags: Flags = json.loads(json.dumps((self._found.get("spec") or {}).get("flagSpec") or {"flags": {}}))
        for name, kept in self._kept().items():
            flag = flags.get("flags", {}).get(name)
            if isinstance(flag, dict):
                flag["metadata"] = {**flag.get("metadata", {}), KEPT: kept}
        return flags, str(self._found["metadata"]["resourceVersion"])

    def write(self, document: Mapping[str, Any], revision: str) -> None:
        wanted: Flags = json.loads(json.dumps(document))
        kept: Dict[str, str] = {}
        for name, flag in wanted["flags"].items():
            metadata = flag.get("metadata", {})
            if KEPT in metadata:
                kept[name] = metadata.pop(KEPT)
                if not metadata:
                    del flag["metadata"]
        before = self._found["spec"]["flagSpec"]["flags"]
        changed = [name for name, flag in wanted["flags"].items() if not same(flag, before.get(name))]
        steps = [_replaced("spec/flagSpec/flags", name, wanted["flags"][name]) for name in changed]
        self._patch([*self._annotated(kept), *steps], revision)

    def _kept(self) -> Dict[str, str]:
        text = (self._found["metadata"].get("annotations") or {}).get(KEPT)
        if not text:
            return {}
        try:
            kept = json.loads(text)
        except ValueError:
            kept = None
        if not isinstance(kept, dict):
            raise FlagError(f"the annotation {KEPT} of {self.name} is not as it was written", mend="Mend or remove it")
        return kept

    def _annotated(self, kept: Mapping[str, str]) -> List[Mapping[str, Any]]:
        annotations = self._found["metadata"].get("annotations")
        text = json.dumps(kept, sort_keys=True)
        if not kept:
            gone = {"op": "remove", "path": f"/metadata/annotations/{_pointed(KEPT)}"}
            return [gone] if KEPT in (annotations or {}) else []
        if annotations is None:
            return [{"op": "add", "path": "/metadata/annotations", "value": {KEPT: text}}]
        return [{"op": "add", "path": f"/metadata/annotations/{_pointed(KEPT)}", "value": text}]


def _kept_by(metadata: Mapping[str, Any]) -> str:
    """Who would undo a change, as a sentence; '' for nobody that it can be told of."""
    owner = next((one for one in metadata.get("ownerReferences") or () if one.get("controller")), None)
    if owner is not None:
        return f"{owner.get('kind')} {owner.get('name')} makes it, and may put it back"
    marks = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}
    keeper = next((who for mark, who in _KEEPERS.items() if mark in marks), "")
    return f"{keeper} keeps it, and may put it back: change it there, too" if keeper else ""


def _pointed(key: str) -> str:
    """A key in a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def _replaced(path: str, key: str, value: object) -> Mapping[str, Any]:
    return {"op": "replace", "path": f"/{path}/{_pointed(key)}", "value": value}
