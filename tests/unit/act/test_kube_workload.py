# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a workload, its revisions, its progress and its images say, without a cluster."""

from __future__ import annotations

import copy
from typing import Any, Dict, Tuple

import pytest
from cluster import daemon_set, deployment, stateful_set
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act import plan
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube import images, progress, workload
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.marks import release_mark, workload_marks
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.revisions import (
    epoch,
    previous_of,
    revision_of,
    view_of,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import (
    DEPLOYED,
    KNOWN_GOOD,
    RESTARTING,
    SETTLED,
    Good,
    Journal,
    Release,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError

Doc = Dict[str, Any]
FULL = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}


def living(doc: Doc, **status: Any) -> Doc:
    """As the API server would give it, at generation 2."""
    about = {"uid": "w", "generation": 2, "annotations": {}, **doc["metadata"]}
    return {**doc, "metadata": about, "status": {"observedGeneration": 2, **status}}


def replica_set(name: str, image: str, number: int, owner: str = "w", **annotations: str) -> Doc:
    template = copy.deepcopy(deployment("shop", image)["spec"]["template"])
    template["metadata"]["labels"]["pod-template-hash"] = name
    about = {
        "name": name,
        "uid": f"uid-{name}",
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "ownerReferences": [{"kind": "Deployment", "name": "shop", "uid": owner, "controller": True}],
        "annotations": {"deployment.kubernetes.io/revision": str(number), **annotations},
    }
    return {"metadata": about, "spec": {"template": template}}


@pytest.mark.parametrize(
    ("status", "left"),
    [
        (FULL, ""),
        ({**FULL, "observedGeneration": 1}, "its controller has not seen the change yet"),
        ({**FULL, "updatedReplicas": 2}, "2 of 3 updated"),
        ({**FULL, "replicas": 4}, "1 old pod is still there"),
        ({**FULL, "availableReplicas": 1}, "1 of 3 available"),
        ({**FULL, "terminatingReplicas": 2}, "2 pods are still terminating"),
        ({}, "0 of 3 updated"),
    ],
)
def test_how_far_a_deployment_is(status: Doc, left: str) -> None:
    thing = living(deployment("shop", "shop:1"), **status)
    assert progress.missing(thing) == left
    told = progress.status_text(thing)
    assert told == (
        f'deployment "shop" is not rolled out: {left}' if left else 'deployment "shop" successfully rolled out'
    )


def test_how_far_the_others_are() -> None:
    part = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    cases: Tuple[Tuple[Doc, Doc, str], ...] = (
        (stateful_set("db", "shop:1"), {"updatedReplicas": 1}, "1 of 3 updated"),
        (stateful_set("db", "shop:1"), {"updatedReplicas": 3, "readyReplicas": 2}, "2 of 3 available"),
        (stateful_set("db", "shop:1", updateStrategy=part), {"updatedReplicas": 1, "availableReplicas": 3}, ""),
        (stateful_set("db", "shop:1", updateStrategy={"type": "OnDelete"}), {"availableReplicas": 3}, ""),
        (
            stateful_set("db", "shop:1"),
            {"updatedReplicas": 3, "availableReplicas": 3, "replicas": 4},
            "1 pod is too many",
        ),
        (daemon_set("log", "shop:1"), {"desiredNumberScheduled": 2, "updatedNumberScheduled": 1}, "1 of 2 updated"),
        (
            daemon_set("log", "shop:1"),
            {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 1},
            "1 of 2 available",
        ),
        (daemon_set("log", "shop:1"), {}, ""),
    )
    for doc, status, left in cases:
        assert progress.missing(living(doc, **status)) == left


def pod(reason: str, restarts: int = 0, **metadata: Any) -> Doc:
    status = {"name": "app", "restartCount": restarts, "state": {"waiting": {"reason": reason, "message": "so"}}}
    return {"metadata": {"name": "shop-x", **metadata}, "status": {"containerStatuses": [status]}}


def test_what_will_not_get_better() -> None:
    assert progress.trouble_of(pod("CrashLoopBackOff", 1)) == ""
    assert progress.trouble_of(pod("CrashLoopBackOff", 2)).endswith("container app: CrashLoopBackOff, 2 restarts (so)")
    assert progress.trouble_of(pod("ContainerCreating")) == ""
    assert progress.trouble_of(pod("ErrImagePull", deletionTimestamp="now")) == ""
    thing, revision = living(deployment("shop", "shop:1")), replica_set("shop-new", "shop:1", 2)
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    thing["status"]["conditions"] = [{**late, "message": 'ReplicaSet "shop-old" has timed out progressing.'}]
    assert progress.failure(thing, revision, []) == ""
    thing["status"]["conditions"] = [{**late, "message": 'ReplicaSet "shop-new" has timed out progressing.'}]
    assert progress.failure(thing, revision, []).startswith("ProgressDeadlineExceeded: ReplicaSet")
    thing["status"]["observedGeneration"] = 1
    assert progress.failure(thing, revision, [pod("ErrImagePull")]).endswith("container app: ErrImagePull (so)")


def test_revisions_are_owned_marked_and_ordered() -> None:
    good = Release("1.0.0", complete=True, known_good=Good(5.0))
    thing = living(deployment("shop", "shop:2"), **FULL)
    first = replica_set("shop-a", "shop:1", 1, **release_mark(good, "shop-a"))
    copied = replica_set("shop-b", "shop:2", 3, **release_mark(good, "shop-a"))
    foreign = replica_set("till-a", "shop:2", 2, owner="other", **release_mark(Release("9.9.9", complete=True)))
    view = view_of(thing, [first, foreign, copied])
    assert [revision.name for revision in view.revisions] == ["shop-b", "shop-a"]
    assert (view.situation.current, plan.known_good(view.situation)) == ("shop-b", "1.0.0")
    assert view.current and view.current.created == epoch("2026-01-02T03:04:05Z") == 1767323045.0
    assert previous_of(view) == view.revisions[1]
    assert "pod-template-hash" not in view.revisions[1].template["metadata"]["labels"]


def test_a_revision_is_its_release_before_it_carries_the_mark() -> None:
    thing = living(deployment("shop", "shop:2"), **FULL)
    pending = Release("2.0.0", complete=True, digest=workload.digest_of(workload.template_of(thing)))
    journal = Journal(DEPLOYED, "shop-a", "2.0.0", RESTARTING, 1.0, "r-2")
    thing["metadata"]["annotations"] = workload_marks(journal, 7, pending)
    sets = [replica_set("shop-a", "shop:1", 1)]
    for there in (sets, [*sets, replica_set("shop-b", "shop:2", 2)]):
        seen = view_of(thing, there).situation
        assert (seen.current, seen.token, plan.owned(seen, "r-2")) == ("2.0.0", 7, "2.0.0")
        assert seen.journal and seen.journal.phase == SETTLED  # nobody waited, but it is rolled out
    thing["status"]["updatedReplicas"] = 1
    assert view_of(thing, there).situation.unsettled
    thing["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:3"  # by somebody else, since
    seen = view_of(thing, [*there, replica_set("shop-c", "shop:3", 3)]).situation
    assert seen.current == "shop-c"


def test_nothing_is_previous_after_a_rollback() -> None:
    thing = living(deployment("shop", "shop:1"), **FULL)
    thing["metadata"]["annotations"] = workload_marks(Journal(KNOWN_GOOD, "shop-b", "shop-a", SETTLED, 1.0), None)
    view = view_of(thing, [replica_set("shop-a", "shop:1", 3), replica_set("shop-b", "shop:2", 2)])
    assert previous_of(view) is None


@pytest.mark.parametrize("said", ["blocked", "allowed", "nonsense"])
@pytest.mark.parametrize("in_template", [True, False])
def test_a_release_says_itself_that_it_must_not_be_rolled_back(said: str, in_template: bool) -> None:
    marked = release_mark(Release("2.0.0", rollback="allowed" if said == "blocked" else "blocked"), "shop-2")
    thing = replica_set("shop-2", "shop:2", 2, **marked)
    notes = thing["spec"]["template"]["metadata"].setdefault("annotations", {}) if in_template else {}
    (notes if in_template else thing["metadata"]["annotations"])["selfheal.delivery/rollback"] = said
    view = view_of(living(deployment("shop", "shop:2"), **FULL), [thing])
    (release,) = view.situation.releases
    assert release.blocked == (said != "allowed")


def test_a_controller_revision() -> None:
    template = stateful_set("db", "shop:1")["spec"]["template"]
    about = {"name": "db-5f", "uid": "u", "labels": {"controller-revision-hash": "5f"}}
    raw = {"metadata": about, "revision": 4, "data": {"spec": {"template": {**template, "$patch": "replace"}}}}
    revision = revision_of(raw)
    assert (revision.number, revision.template, revision.hashes) == (4, template, ("db-5f", "5f"))


def test_which_keys_change_without_their_values() -> None:
    one = {"spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "hunter2"}], "image": "a"}]}}
    other = {"spec": {"containers": [{"name": "app", "env": [{"name": "A", "value": "x"}], "image": "b"}], "x": 1}}
    assert workload.changed_keys(one, other) == (
        "spec.containers[app].env[A].value",
        "spec.containers[app].image",
        "spec.x",
    )


def test_the_text_of_a_selector() -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "old", "operator": "DoesNotExist"},
        {"key": "new", "operator": "Exists"},
        {"key": "env", "operator": "NotIn", "values": ["test"]},
    ]
    doc = {"spec": {"selector": {"matchLabels": {"app": "shop"}, "matchExpressions": expressions}}}
    assert workload.selector_of(doc) == "app=shop,tier in (a,b),!old,new,env notin (test)"


def test_who_keeps_it_and_who_changed_it() -> None:
    thing = living(deployment("shop", "shop:1"))
    assert workload.gitops_of(thing) == workload.owner_of(thing) == ""
    at = "2026-01-02T03:04:05Z"
    ours = {"manager": "selfheal.delivery", "operation": "Update", "time": at}
    thing["metadata"]["managedFields"] = [ours, {"manager": "kubelet", "subresource": "status", "time": "2027"}]
    after = copy.deepcopy(thing)
    after["metadata"]["managedFields"].append({"manager": "argocd-controller", "operation": "Apply", "time": at})
    assert workload.last_change(after, thing) == f"by argocd-controller at {at}"
    assert workload.last_change(thing) == f"by selfheal.delivery at {at}"
    assert workload.gitops_of(after) == "Argo CD"


@pytest.mark.parametrize(
    "image", ["shop", "shop:1.0", "a.io:5000/x/shop:v1_2", "shop@sha256:" + "0" * 64, "x/y-z/shop:1@sha256:" + "a" * 64]
)
def test_images_that_are_references(image: str) -> None:
    assert images.image_of(image, "9", "app") == image


@given(st.text(alphabet=" \n\"'{}$;&|<>()!*?", min_size=1))
def test_no_image_brings_a_stranger_character(text: str) -> None:
    with pytest.raises(OptionError, match="is not an image reference"):
        images.image_of("shop:" + text, "1.0.0", "app")


def test_the_patch_of_a_release() -> None:
    template = {"spec": {"initContainers": [{"name": "first", "image": "a"}], "containers": [{"name": "app"}]}}
    patch: Doc = {"metadata": {"labels": {"x": "y"}}, "spec": {"containers": [{"name": "app", "env": []}]}}
    change = images.change_of(template, {"app": "shop:{release}", "first": "a:{release}"}, patch, "2.0.0")
    assert change["spec"]["template"] == {
        "metadata": {"labels": {"x": "y"}},
        "spec": {
            "containers": [{"name": "app", "env": [], "image": "shop:2.0.0"}],
            "initContainers": [{"name": "first", "image": "a:2.0.0"}],
        },
    }
    assert patch["spec"]["containers"] == [{"name": "app", "env": []}]
    assert images.change_of(template, {}, {}, "2.0.0") == {}


def test_content_under_the_same_name() -> None:
    template = {"spec": {"containers": [{"name": "app", "image": "r:5000/shop:1"}]}}
    one, other = f"r:5000/shop@sha256:{'1' * 64}", f"docker-pullable://r:5000/shop@sha256:{'2' * 64}"
    statuses = [{"status": {"containerStatuses": [{"name": "app", "imageID": each}]}} for each in (one, other)]
    before, after = (images.running(template, [status]) for status in statuses)
    assert images.differences(before, before) == []
    assert images.differences(before, after) == [
        f"container app: r:5000/shop:1 was {one} when it was promoted, and is {other} now"
    ]
    assert images.pinned(template, after)["spec"]["containers"][0]["image"] == f"r:5000/shop@sha256:{'2' * 64}"
    both = images.running(template, statuses)
    for known in ({}, both, {"app": {"image": "x", "ids": ["sha256:" + "3" * 64]}}):
        with pytest.raises(PlaceError, match="no single digest"):
            images.pinned(template, known)
    fixed = {"spec": {"containers": [{"name": "app", "image": one}]}}
    assert images.pinned(fixed, {}) == fixed
