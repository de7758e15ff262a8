# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a Deployment back on a real control plane: what breaks others, each as one case."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Dict, Tuple

import pytest
from cluster import Cluster, deployment
from kube_place import KubePlace

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Conflict
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import FencedError, OptionError, PlaceError


@pytest.fixture
def shop(cluster: Cluster, namespace: str) -> KubePlace:
    """One pod, release 1.0.0 promoted."""
    cluster.apply([deployment("shop", "shop:1.0.0", 1)], namespace)
    place = KubePlace(cluster, namespace)
    place.good("1.0.0", images={})
    return place


class Killed(BaseException):
    """As `kill -9` would: nothing of ours runs after it."""


def test_two_apps_with_the_same_labels(cluster: Cluster, namespace: str) -> None:
    labels = {"app": "same"}
    cluster.apply([deployment("shop", "shop:1.0.0", 1, labels), deployment("till", "till:1.0.0", 1, labels)], namespace)
    shop, till = KubePlace(cluster, namespace), KubePlace(cluster, namespace, "till")
    till.options["images"] = {"app": "till:{release}"}
    shop.good("1.0.0")
    till.good("1.0.0")
    shop.deploy("2.0.0")
    till.deploy("2.0.0")
    assert shop.back()["current"] == "1.0.0"
    assert (shop.image(), till.image()) == ("shop:1.0.0", "till:2.0.0")
    assert {pod["release"] for pod in till.info()["pods"]} == {"2.0.0"}


def test_back_over_three_bad_ones_once_and_with_what_others_wrote(shop: KubePlace) -> None:
    shop.cluster.patch(shop.path, {"metadata": {"annotations": {"else.example/where": "kept"}}})
    for release in ("2.0.0", "2.0.1-never", "2.0.2-crash"):
        shop.deploy(release, wait=False)
    gone = shop.back(mark_bad="it fails", wait=False)
    assert (gone["before"], gone["current"], gone["changed"]) == ("2.0.2-crash", "1.0.0", True)
    assert gone["requests"] <= 5
    again = shop.back(mark_bad="it fails")
    assert (again["current"], again["changed"]) == ("1.0.0", False)
    assert shop.image() == "shop:1.0.0"
    assert shop.annotations()["else.example/where"] == "kept"
    assert shop.annotations()["kubernetes.io/change-cause"] == "release 1.0.0"
    info = shop.info()
    assert {each["id"]: bool(each["bad"]) for each in info["releases"]} == {
        "1.0.0": False,
        "2.0.2-crash": True,
        "2.0.1-never": False,
        "2.0.0": False,
    }
    assert (info["settled"], info["previous"], info["known_good"]) == (True, "2.0.2-crash", None)


def test_history_pruned_to_nothing(cluster: Cluster, namespace: str) -> None:
    cluster.apply([deployment("shop", "shop:1.0.0", 1, revisionHistoryLimit=0)], namespace)
    shop = KubePlace(cluster, namespace)
    promoted = shop.good("1.0.0")
    deployed = shop.deploy("2.0.0")
    assert "revisionHistoryLimit is 0, so Kubernetes keeps nothing to go back to" in deployed["warnings"]
    cluster.wait(lambda: len(shop.revisions()) == 1, "the old revision is pruned")
    with pytest.raises(PlaceError, match="no known good release") as refused:
        shop.back()
    assert "keeps 0 old revisions (revisionHistoryLimit); the ledger keeps the pod template" in refused.value.message
    assert refused.value.details["changed"] is False
    with pytest.raises(PlaceError, match="release 1.0.0: it is not on this place"):
        shop.back(to="1.0.0")
    with pytest.raises(OptionError, match="template is given without to"):
        shop.back(template=promoted["template"])
    back = shop.back(to="1.0.0", template=promoted["template"], mark_bad="it fails")
    assert (back["current"], shop.image()) == ("1.0.0", "shop:1.0.0")
    assert not shop.back(to="1.0.0", template=promoted["template"])["changed"]
    assert shop.info()["releases"][0]["known_good"]["rollout"] == "ledger"


def test_a_newer_deploy_in_between_is_told_and_not_overwritten(shop: KubePlace) -> None:
    shop.deploy("2.0.0")

    def newer(step: str) -> None:
        if step == "applying":
            shop.set_image("shop:2.0.1")

    with pytest.raises(Conflict, match=r"changed by somebody at .* its images are now app: shop:2.0.1") as conflict:
        shop.back(checkpoint=newer)
    assert conflict.value.details["changed"] is False
    assert shop.image() == "shop:2.0.1"


def test_to_scale_in_between_is_no_conflict(shop: KubePlace) -> None:
    shop.deploy("2.0.0")

    def scaled(step: str) -> None:
        if step == "applying":
            shop.cluster.patch(shop.path, {"spec": {"replicas": 2}})

    assert shop.back(checkpoint=scaled)["current"] == "1.0.0"
    assert shop.seen()["spec"]["replicas"] == 2


@pytest.mark.parametrize("step", ["applying", "applied", "marked 2.0.0"])
def test_killed_anywhere_the_undo_takes_it_back(shop: KubePlace, step: str) -> None:
    def killed(now: str) -> None:
        if now == step:
            raise Killed

    with pytest.raises(Killed):
        shop.deploy("2.0.0", rollout="r-2", checkpoint=killed)
    undone = shop.back(release="2.0.0", undo=True, rollout="r-2", mark_bad="killed")
    assert (undone["current"], undone["changed"]) == ("1.0.0", step != "applying")
    assert shop.image() == "shop:1.0.0"
    assert not shop.back(release="2.0.0", undo=True, rollout="r-2", mark_bad="killed")["changed"]


def test_the_undo_of_the_first_release_that_is_known(cluster: Cluster, namespace: str) -> None:
    cluster.apply([deployment("shop", "shop:1.0.0", 1)], namespace)
    shop = KubePlace(cluster, namespace)
    before = shop.deploy("2.0.0", rollout="r-2")["before"]
    with pytest.raises(PlaceError, match="there is no known good release to go back to"):
        shop.back()
    undone = shop.back(undo=True, rollout="r-2", mark_bad="it fails")
    assert (undone["current"], shop.image()) == (before, "shop:1.0.0")
    assert not shop.back(undo=True, rollout="r-2")["changed"]


def test_killed_before_the_mark_and_deployed_again(shop: KubePlace) -> None:
    def killed(step: str) -> None:
        if step == "applied":
            raise Killed

    with pytest.raises(Killed):
        shop.deploy("2.0.0", rollout="r-2", checkpoint=killed)
    assert shop.info()["current"] == "2.0.0"
    again = shop.deploy("2.0.0", rollout="r-2")
    assert (again["before"], again["current"]) == ("1.0.0", "2.0.0")
    marks = [json.loads(each["metadata"]["annotations"]["selfheal.delivery/release"]) for each in shop.revisions()]
    assert sorted(mark["id"] for mark in marks) == ["1.0.0", "2.0.0"]


def test_fencing_and_a_blocked_release(shop: KubePlace) -> None:
    shop.deploy("2.0.0", token=7, rollout="r-2", rollback="blocked")
    before = shop.seen()["spec"]
    with pytest.raises(FencedError, match="fencing token 6 is lower than 7") as fenced:
        shop.back(token=6)
    assert fenced.value.details["changed"] is False
    with pytest.raises(PlaceError, match="release 2.0.0 does not allow to be rolled back") as blocked:
        shop.back(token=8)
    assert "revisionHistoryLimit" not in blocked.value.message
    assert shop.seen()["spec"] == before
    assert shop.back(token=8, release="2.0.0", undo=True, rollout="r-2")["current"] == "1.0.0"
    assert shop.info()["token"] == 8
    assert not shop.deploy("1.0.0", token=9, images={})["changed"]
    assert shop.info()["token"] == 9


def test_by_number_and_to_the_previous_one(shop: KubePlace) -> None:
    shop.deploy("2.0.0")
    for number, problem in ((9, "has no revision 9. It has 2 .2.0.0., 1 .1.0.0."), (2, "is the current one")):
        with pytest.raises(OptionError, match=problem):
            shop.back(to_revision=number)
    assert shop.back(to_revision=1)["current"] == "1.0.0"
    assert shop.back(to_revision=2)["current"] == "2.0.0"
    shop.deploy("3.0.0")
    assert shop.back(to_previous=True)["current"] == "2.0.0"
    again = shop.back(to_previous=True)
    assert (again["current"], again["changed"]) == ("2.0.0", False)
    assert "went back already" in again["warnings"][0]
    with pytest.raises(OptionError, match="to_previous excludes"):
        shop.back(to_previous=True, to="1.0.0")
    with pytest.raises(PlaceError, match="release 3.0.0: it has never been known good here"):
        shop.back(to="3.0.0")


def test_the_content_of_a_tag_that_changed(shop: KubePlace) -> None:
    revision = shop.revisions()[0]["metadata"]
    path = f"/apis/apps/v1/namespaces/{shop.namespace}/replicasets/{revision['name']}"
    images: Dict[str, Any] = json.loads(revision["annotations"]["selfheal.delivery/images"])
    now, then = images["app"]["ids"][0], f"shop@sha256:{'0' * 64}"
    images["app"]["ids"] = [then]
    shop.cluster.patch(path, {"metadata": {"annotations": {"selfheal.delivery/images": json.dumps(images)}}})
    shop.deploy("2.0.0")
    warned = shop.back()
    told = f"container app: shop:1.0.0 was {then} when it was promoted, and is {now} now"
    assert warned["warnings"] == [f"{told}: the content changed under the same name"]
    shop.deploy("2.0.0")
    assert shop.back(on_digest_change="refuse")["current"] == "1.0.0"
    assert shop.image() == then
    assert not shop.back(on_digest_change="refuse")["changed"]
    assert shop.info()["releases"][0]["known_good"]
    shop.deploy("2.0.0")
    images["app"]["ids"] = []
    for each in shop.revisions():
        empty = {"metadata": {"annotations": {"selfheal.delivery/images": json.dumps(images)}}}
        shop.cluster.patch(f"{path.rpartition('/')[0]}/{each['metadata']['name']}", empty)
    assert shop.back(on_digest_change="refuse")["current"] == "1.0.0"  # the newest revision of it is by digest


def test_a_tag_whose_content_is_not_known_is_refused(shop: KubePlace) -> None:
    path = f"/apis/apps/v1/namespaces/{shop.namespace}/replicasets/{shop.revisions()[0]['metadata']['name']}"
    shop.cluster.patch(path, {"metadata": {"annotations": {"selfheal.delivery/images": None}}})
    shop.deploy("2.0.0")
    with pytest.raises(PlaceError, match="no single digest of shop:1.0.0 was recorded"):
        shop.back(on_digest_change="refuse", mark_bad="it fails")
    assert shop.image() == "shop:2.0.0"
    assert shop.info()["releases"][0]["bad"] is None


def test_what_kubectl_undo_copies_is_no_mark(shop: KubePlace) -> None:
    shop.deploy("2.0.0")
    kubectl = ["kubectl", "--kubeconfig", str(shop.cluster.kubeconfig), "-n", shop.namespace]
    subprocess.run([*kubectl, "rollout", "undo", "deployment/shop"], check=True, capture_output=True)
    assert shop.info()["current"] == "1.0.0"
    subprocess.run([*kubectl, "set", "image", "deployment/shop", "app=shop:3.0.0"], check=True, capture_output=True)
    shop.cluster.wait_available(shop.namespace, "shop")
    info = shop.info()
    assert info["current"].startswith("shop-") and info["releases"][0]["known_good"] is None
    assert (shop.back()["current"], shop.image()) == ("1.0.0", "shop:1.0.0")


def test_a_canary_that_stands_beside_goes_too(shop: KubePlace) -> None:
    shop.cluster.patch(shop.path, {"spec": {"replicas": 4}})
    shop.deploy("2.0.0", strategy="canary", share=20.0, rollout="r-2")
    assert sorted(pod["release"] for pod in shop.info()["pods"]) == ["1.0.0"] * 4 + ["2.0.0"]
    gone = shop.back(mark_bad="it fails")
    assert (gone["current"], gone["actions"]) == ("1.0.0", ["removed shop-canary with 2.0.0"])
    assert {pod["release"] for pod in shop.info()["pods"]} == {"1.0.0"}


def test_by_digest_it_is_still_the_release(shop: KubePlace) -> None:
    shop.deploy("2.0.0")
    assert shop.back(on_digest_change="refuse")["current"] == "1.0.0"
    by_digest = shop.image()
    assert by_digest.startswith("shop@sha256:")
    assert not shop.deploy("1.0.0")["changed"]
    assert shop.image() == by_digest


def test_a_rehearsal_changes_nothing(shop: KubePlace) -> None:
    shop.deploy("2.0.0")
    before = picture(shop)
    would = shop.back(mark_bad="it fails", dry=True)
    assert (would["current"], would["changed"]) == ("1.0.0", True)
    assert would["actions"] == ["marked 2.0.0 as bad", "switched to 1.0.0"]
    assert would["diff"]["after"]["images"] == {"app": "shop:1.0.0"}
    assert would["diff"]["after"]["changed_keys"] == ["spec.containers[app].image"]
    assert shop.deploy("3.0.0", dry=True)["current"] == "3.0.0"
    with pytest.raises(PlaceError, match="unknown field"):
        shop.deploy("3.0.0", dry=True, patch={"spec": {"wrong": 1}})
    assert picture(shop) == before


def picture(shop: KubePlace) -> Tuple[object, ...]:
    metadata = shop.seen()["metadata"]
    return (
        metadata["generation"],
        metadata["annotations"],
        [each["metadata"]["annotations"] for each in shop.revisions()],
    )
