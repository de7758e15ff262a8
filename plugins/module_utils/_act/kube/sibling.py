# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second Deployment that stands beside a stable one for a while: its name, size, labels and manifest. Pure.

It is owned by the stable Deployment, so that it goes with it and so that GitOps controllers do not take it for their
own. What it runs and for whom is on itself, as annotations: the journal with the release, the rollout, the token.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from ..._errors import OptionError, PlaceError
from ..model import Journal, Release
from .marks import name_of, notes_of, pending_of, workload_marks
from .names import PREFIX, RESTARTED_AT, ROLLOUT, TRACK
from .workload import cleaned, digest_of, gitops_of

Object = Mapping[str, Any]

CANARY = "canary"
GREEN = "green"
# on the sibling, as an annotation: the digest of the stable's pod template that its own was made of
BASE = PREFIX + "base"
# on the sibling, as an annotation: the label that keeps its pods apart from the stable ones
APART = PREFIX + "apart"

# labels by which a pod is told from those of other apps, the most telling one first
_TELLING = ("app.kubernetes.io/instance", "app.kubernetes.io/name", "app", "k8s-app")
_LABEL = 63  # characters that a label's value may have


def sibling_name(name: str, track: str = CANARY) -> str:
    """The name of what stands beside the workload `name`."""
    return f"{name}-{track}"


@dataclass(frozen=True)
class Apart:
    """The one label by which a sibling's pods are not selected as the stable's are: `key` is `value`, not `before`."""

    key: str
    before: str
    value: str


@dataclass(frozen=True)
class Plan:
    """A sibling as it is to be. `template` is the stable's with the new release in it; `notes` are more annotations."""

    stable: Object
    template: Object
    replicas: int
    release: Release
    journal: Journal
    token: Optional[int] = None
    track: str = CANARY
    apart: Optional[Apart] = None
    notes: Mapping[str, str] = field(default_factory=dict)


def checked_share(share: object) -> float:
    """A share in percent, above 0 and at most 100; OptionError for anything else."""
    good = isinstance(share, (int, float)) and not isinstance(share, bool) and math.isfinite(share)
    number = float(share) if good and isinstance(share, (int, float)) else 0.0
    if not 0 < number <= 100:
        raise OptionError(f"share is {share!r}, not a percentage above 0 and up to 100", mend="Write share: 10")
    return number


def checked_keep_for(seconds: object) -> float:
    """For how long a side is kept, in seconds; OptionError for what is no such time."""
    good = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not good or not isinstance(seconds, (int, float)) or seconds < 0:
        raise OptionError(f"keep_for is {seconds!r}, not a number of seconds from 0 on", mend="Write keep_for: 600")
    return float(seconds)


def by_weight(stable: int, share: float) -> int:
    """How many pods carry `share` percent of what `stable` pods carry now, when a route says who gets what."""
    # rounding first keeps 7 % of 100 at 7, which floating point makes 7.000000000000001
    return max(1, math.ceil(round(stable * share / 100, 9)))


def by_replicas(stable: int, share: float) -> int:
    """How many pods beside `stable` ones get `share` percent, when all are behind one Service.

    At most as many as the stable ones: more would be a second full size and beyond, which is a different thing.
    """
    wanted = math.floor(stable * share / (100 - share) + 0.5) if share < 100 else math.inf
    if wanted > stable:
        raise OptionError(
            f"a share of {share:g} % by replicas takes more pods than the {stable} that are stable",
            mend="Use a share of at most 50, or 100, or name a route, which splits exactly",
        )
    return max(1, int(wanted))


def real_share(stable: int, beside: int) -> float:
    """The percentage of pods that are `beside`, to one decimal."""
    return round(100 * beside / (stable + beside), 1)


def base_of(stable: Object) -> str:
    """Tells whether somebody deployed to the stable Deployment since; a restart is no deploy."""
    return digest_of(unrestarted(stable["spec"]["template"]))


def unrestarted(template: Object) -> Dict[str, Any]:
    """A pod template without the time of its last restart."""
    bare = cleaned(template)
    about = bare.get("metadata") or {}
    notes = {key: value for key, value in (about.get("annotations") or {}).items() if key != RESTARTED_AT}
    bare["metadata"] = {**{key: value for key, value in about.items() if key != "annotations"}}
    if notes:
        bare["metadata"]["annotations"] = notes
    return bare


def pod_labels(workload: Object) -> Dict[str, str]:
    return dict(((workload["spec"]["template"].get("metadata") or {}).get("labels")) or {})


def selecting(services: Iterable[Object], labels: Mapping[str, str]) -> List[Object]:
    """The Services that send requests to pods with these labels."""
    return [service for service in services if _selector(service).items() <= labels.items() and _selector(service)]


def apart_of(services: Sequence[Object], track: str) -> Apart:
    """Which label to change so that none of these Services selects the sibling's pods."""
    common = set(_selector(services[0])).intersection(*map(_selector, services)) if services else set()
    if not common:
        names = ", ".join(map(name_of, services))
        raise OptionError(
            f"Services {names} have no label in common in their selectors, so pods cannot be kept out of them at once",
            mend="Name the one that takes the requests: switch",
        )
    key = next((key for key in _TELLING if key in common), min(common))
    before = _selector(services[0])[key]
    return Apart(key, before, f"{before[: _LABEL - len(track) - 1]}-{track}" if before else track)


def manifest(plan: Plan) -> Dict[str, Any]:
    """The sibling of `plan`, ready to be created."""
    about, spec = plan.stable["metadata"], copy.deepcopy(dict(plan.stable["spec"]))
    spec.pop("paused", None)
    changed = {TRACK: plan.track, **({plan.apart.key: plan.apart.value} if plan.apart else {})}
    template = unrestarted(plan.template)
    template["metadata"]["labels"] = {**(template["metadata"].get("labels") or {}), **changed}
    spec.update(
        replicas=plan.replicas,
        selector=_own_selector(spec["selector"], changed, plan.apart),
        template=template,
        revisionHistoryLimit=1,
    )
    release = replace(plan.release, digest=digest_of(template))
    notes = {**plan.notes, **({APART: plan.apart.key} if plan.apart else {}), BASE: base_of(plan.stable)}
    return {
        "apiVersion": plan.stable["apiVersion"],
        "kind": "Deployment",
        "metadata": {
            "name": sibling_name(about["name"], plan.track),
            "namespace": about["namespace"],
            "labels": {**(about.get("labels") or {}), TRACK: plan.track},
            "annotations": {**notes, **marks(release, plan.journal, plan.token)},
            "ownerReferences": [owner_reference(plan.stable)],
        },
        "spec": spec,
    }


def plain_template(sibling: Object, stable: Object) -> Dict[str, Any]:
    """The sibling's pod template without what makes it one: what the stable Deployment would run of its release."""
    template = unrestarted(sibling["spec"]["template"])
    labels, before = template["metadata"]["labels"], pod_labels(stable)
    apart = notes_of(sibling).get(APART, "")
    kept = {key: before.get(key, value) if key == apart else value for key, value in labels.items()}
    template["metadata"]["labels"] = {key: value for key, value in kept.items() if key != TRACK or TRACK in before}
    return template


def marks(release: Release, journal: Journal, token: Optional[int]) -> Dict[str, str]:
    """What a sibling says of itself."""
    return {**workload_marks(journal, token, release), ROLLOUT: journal.rollout}


def runs(sibling: Object, wanted: Object) -> bool:
    """Does it run the same content of the same release as the one that is wanted?"""
    mine, other = pending_of(sibling), pending_of(wanted)
    return mine is not None and other is not None and (mine.id, mine.digest) == (other.id, other.digest)


def rollout_of(sibling: Object) -> str:
    return notes_of(sibling).get(ROLLOUT, "")


def release_named(sibling: Object) -> str:
    """The id of the release that it runs."""
    release = pending_of(sibling)
    return release.id if release else ""


def is_sibling(found: Object, stable: Object, track: str) -> bool:
    """Did we make this one, beside exactly this Deployment?"""
    about = found["metadata"]
    beside = any(owner.get("uid") == stable["metadata"]["uid"] for owner in about.get("ownerReferences") or [])
    return beside and (about.get("labels") or {}).get(TRACK) == track and ROLLOUT in notes_of(found)


def check_ours(found: Object, stable: Object, track: str) -> None:
    """PlaceError for an object that has the sibling's name and is somebody else's."""
    if not is_sibling(found, stable, track):
        raise PlaceError(
            f"{found.get('kind', 'object')} {name_of(found)} is not ours but {whose(found)}",
            mend="Rename or remove it: the canary or green side of this Deployment needs that name",
            details={"changed": False},
        )


def whose(found: Object) -> str:
    """Who an object belongs to, as far as it tells: `of ReplicaSet x`, `managed by Helm`, `made by kubectl`."""
    about = found["metadata"]
    owners = about.get("ownerReferences") or []
    if owners:
        return f"of {owners[0].get('kind')} {owners[0].get('name')}"
    told = (about.get("labels") or {}).get("app.kubernetes.io/managed-by") or gitops_of(found)
    if told:
        return f"managed by {told}"
    managers = [field.get("manager") for field in about.get("managedFields") or [] if field.get("manager")]
    return f"made by {managers[0]}" if managers else "somebody else's"


def owner_reference(stable: Object) -> Dict[str, Any]:
    about = stable["metadata"]
    return {
        "apiVersion": stable["apiVersion"],
        "kind": "Deployment",
        "name": about["name"],
        "uid": about["uid"],
        "controller": True,
        # not in the way of deleting the stable one, and no right to its finalizers is needed
        "blockOwnerDeletion": False,
    }


def _own_selector(selector: Object, changed: Mapping[str, str], apart: Optional[Apart]) -> Dict[str, Any]:
    own: Dict[str, Any] = {"matchLabels": {**(selector.get("matchLabels") or {}), **changed}}
    kept = [each for each in selector.get("matchExpressions") or [] if not apart or each.get("key") != apart.key]
    return {**own, "matchExpressions": kept} if kept else own


def _selector(service: Object) -> Dict[str, str]:
    return dict((service.get("spec") or {}).get("selector") or {})
