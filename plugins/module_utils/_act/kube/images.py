# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of containers: what a release asks for, and which content really runs. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Match, Optional, Set

from ..._errors import OptionError, PlaceError, nearest
from .marks import notes_of
from .names import PREFIX
from .workload import containers_of, images_of

Object = Mapping[str, Any]
# container -> {"image": as the template says, "ids": the imageIDs that run}
Running = Dict[str, Dict[str, Any]]

# on a revision: `Running` when it was promoted, as JSON
IMAGES = PREFIX + "images"

_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]+)?/)?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"{_HOST}{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@[a-z0-9]+:[0-9a-f]{{32,}})?\Z", re.ASCII
)
_DIGEST = re.compile(r"@([a-z0-9]+:[0-9a-f]{32,})\Z")


def image_of(text: str, release: str, container: str) -> str:
    """`shop:{release}` as the image reference that it stands for; OptionError when it is none."""
    image = text.replace("{release}", release)
    if not _REFERENCE.match(image):
        raise OptionError(
            f"images.{container} {image!r} is not an image reference",
            mend="Write it as registry/repository:tag or registry/repository@sha256:digest, in lower case",
        )
    return image


def change_of(template: Object, images: Mapping[str, object], patch: Mapping[str, Any], release: str) -> Dict[str, Any]:
    """The strategic merge patch of a workload that brings `images` and `patch`; OptionError for a wrong container."""
    known = images_of(template)
    spec: Dict[str, Any] = dict(patch.get("spec") or {})
    initial = {str(each.get("name")) for each in (template.get("spec") or {}).get("initContainers") or []}
    for container, text in images.items():
        if container not in known:
            raise OptionError(
                f"images names container {container!r}, which is not in the pod template{nearest(container, known)}",
                mend=f"It has {', '.join(known)}",
            )
        key = "initContainers" if container in initial else "containers"
        rows: List[Dict[str, Any]] = [dict(row) for row in spec.get(key) or []]
        mine = next((row for row in rows if row.get("name") == container), None)
        if mine is None:
            mine = {"name": container}
            rows.append(mine)
        mine["image"] = image_of(str(text), release, container)
        spec[key] = rows
    body = {**patch, "spec": spec} if spec else dict(patch)
    return {"spec": {"template": body}} if body else {}


def running(template: Object, pods: Iterable[Object]) -> Running:
    """Which content runs in the containers of `pods`."""
    ids: Dict[str, Set[str]] = {}
    for pod in pods:
        status = pod.get("status") or {}
        for each in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            if each.get("imageID"):
                ids.setdefault(str(each.get("name")), set()).add(str(each["imageID"]))
    return {name: {"image": image, "ids": sorted(ids.get(name, ()))} for name, image in images_of(template).items()}


def recorded(revision: Object) -> Running:
    """What ran when the revision was promoted; nothing where nobody wrote it down."""
    try:
        told = json.loads(notes_of(revision).get(IMAGES) or "null")
    except ValueError:
        return {}
    rows = told.items() if isinstance(told, dict) else ()
    return {str(name): row for name, row in rows if isinstance(row, dict) and isinstance(row.get("ids"), list)}


def images_mark(images: Running) -> Dict[str, str]:
    return {IMAGES: json.dumps(images, sort_keys=True)}


def differences(before: Running, after: Running) -> List[str]:
    """Containers whose content is another one under the same image, in words."""
    told = []
    for name, row in before.items():
        now = after.get(name)
        if not now or row.get("image") != now["image"] or not row["ids"] or not now["ids"]:
            continue
        others = sorted(set(now["ids"]) - {str(each) for each in row["ids"]})
        if others:
            was = ", ".join(str(each) for each in row["ids"])
            told.append(f"container {name}: {row['image']} was {was} when it was promoted, and is {others[0]} now")
    return told


def pinned(template: Object, images: Running) -> Dict[str, Any]:
    """The template with every tag replaced by the digest that was promoted; PlaceError when that is not known."""
    known = {str(each.get("name")): _pin(each, images) for each in containers_of(template)}
    spec = dict(template["spec"])
    for key in ("initContainers", "containers"):
        if spec.get(key):
            spec[key] = [{**each, "image": known[str(each.get("name"))]} for each in spec[key]]
    return {**template, "spec": spec}


def _pin(container: Object, images: Running) -> str:
    name, image = str(container.get("name")), str(container.get("image") or "")
    if _DIGEST.search(image):
        return image
    ids = (images.get(name) or {}).get("ids") or []
    digest: Optional[Match[str]] = _DIGEST.search(str(ids[0])) if len(ids) == 1 else None
    if digest is None:
        raise PlaceError(
            f"container {name}: no single digest of {image} was recorded when it was promoted",
            mend="Deploy images by digest, or go back with on_digest_change: warn",
            details={"changed": False},
        )
    return f"{_repository(image)}@{digest[1]}"


def _repository(image: str) -> str:
    """`registry:5000/shop` of `registry:5000/shop:1.0.0`."""
    head, slash, last = image.rpartition("/")
    return head + slash + last.partition(":")[0]
