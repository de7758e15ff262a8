# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a release to a Deployment on a real control plane: the wait, what is refused, and what is told."""

from __future__ import annotations

import json
import threading
import time
from typing import List

import pytest
from cluster import Cluster, deployment
from kube_api import Doc
from kube_place import KubePlace

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Conflict, Forbidden
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError


@pytest.fixture
def shop(cluster: Cluster, namespace: str) -> KubePlace:
    """One pod of shop:1.0.0, of which nothing is known."""
    cluster.apply([deployment("shop", "shop:1.0.0", 1)], namespace)
    cluster.wait_available(namespace, "shop")
    return KubePlace(cluster, namespace)


def slow(shop: KubePlace, after: str) -> dict[str, object]:
    """A patch that lets pods be ready only after a while."""
    return {"metadata": {"annotations": {"testbed/ready-after": after}}}


def test_deployed_adopted_promoted_and_told(shop: KubePlace) -> None:
    unknown = shop.info()
    assert unknown["current"].startswith("shop-") and unknown["known_good"] is None
    adopted = shop.deploy("1.0.0", images={}, by="ada")
    assert (adopted["actions"], adopted["before"]) == (["adopted 1.0.0"], None)
    assert not shop.deploy("1.0.0")["changed"]
    promoted = shop.promote("1.0.0", rollout="r-1")
    assert promoted["template"]["spec"]["containers"][0]["image"] == "shop:1.0.0"
    assert promoted["images"]["app"]["ids"][0].startswith("shop@sha256:")
    assert not shop.promote("1.0.0", rollout="r-1")["changed"]
    assert "template" not in shop.promote("1.0.0", record_template=False)
    deployed = shop.deploy("2.0.0", rollout="r-2", token=3, version="two", change_cause="a reason")
    assert (deployed["before"], deployed["current"], deployed["known_good"]) == ("1.0.0", "2.0.0", "1.0.0")
    assert deployed["status"] == 'deployment "shop" successfully rolled out'
    info = shop.info()
    newest = info["releases"][0]
    assert (newest["id"], newest["version"], newest["revision"], newest["images"]) == (
        "2.0.0",
        "two",
        2,
        {"app": "shop:2.0.0"},
    )
    assert (newest["change_cause"], info["releases"][1]["by"]) == ("a reason", "ada")
    assert (info["journal"]["phase"], info["journal"]["rollout"], info["token"]) == ("settled", "r-2", 3)
    (pod,) = info["pods"]
    assert (pod["release"], pod["ready"], pod["restarts"], pod["phase"]) == ("2.0.0", True, 0, "Running")
    assert abs(pod["started_at"] - time.time()) < 60


def test_what_is_refused_and_changes_nothing(shop: KubePlace) -> None:
    shop.deploy("1.0.0")
    before = shop.seen()
    cases = (
        ({"release": "../2"}, "cannot name a release"),
        ({"release": "2.0.0", "images": {"ap": "shop:2"}}, r"names container 'ap', .* \(did you mean 'app'\?\)"),
        ({"release": "2.0.0", "images": {"app": "Shop: 2"}}, "is not an image reference"),
        ({"release": "2.0.0", "images": {"app": "shop:{release}+1"}}, "is not an image reference"),
        ({"release": "1.0.0", "images": {"app": "shop:9"}}, "release 1.0.0 is taken: its pod template differs in spec"),
        ({"release": "2.0.0", "images": {}}, "release 2.0.0 would be the same pods as release 1.0.0"),
        ({"release": "2.0.0", "patch": {"replicas": 3}}, "patch has replicas, which is not of a pod template"),
        ({"release": "2.0.0", "name": "shap"}, r"has no Deployment 'shap' \(did you mean 'shop'\?\)"),
        ({"release": "2.0.0", "namespace": shop.namespace + "x"}, rf"namespace .* \(did you mean '{shop.namespace}'"),
        ({"release": "2.0.0", "kind": "Deploiment"}, r"did you mean 'Deployment'"),
        ({"release": "2.0.0", "share": 10.0}, "share and route are of strategy: canary"),
    )
    for options, problem in cases:
        with pytest.raises((OptionError, PlaceError), match=problem) as refused:
            shop.deploy(**options)
        assert not refused.value.details.get("changed")
    with pytest.raises(PlaceError, match="cannot promote release 2.0.0: 1.0.0 is current here"):
        shop.promote("2.0.0")
    with pytest.raises(OptionError, match="a StatefulSet cannot be paused or resumed"):
        shop.state("paused", kind="StatefulSet")
    now = shop.seen()
    assert (now["spec"], now["metadata"]["annotations"]) == (before["spec"], before["metadata"]["annotations"])


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        ("shop:{release}-never", "container app: ImagePullBackOff .Back-off pulling image"),
        ("shop:{release}-crash", "container app: CrashLoopBackOff, 2 restarts"),
    ],
)
def test_pods_that_cannot_start_fail_at_once(shop: KubePlace, image: str, problem: str) -> None:
    begun = time.monotonic()
    with pytest.raises(PlaceError, match=problem) as failed:
        shop.deploy("2.0.0", images={"app": image})
    assert time.monotonic() - begun < 10
    assert (failed.value.details["changed"], failed.value.details["current"]) == (True, "2.0.0")
    info = shop.info()
    assert (info["settled"], info["journal"]["phase"]) == (False, "failed")
    assert "cannot be rolled out" in info["journal"]["problem"]


def test_a_quota_and_a_deadline_fail_at_once(shop: KubePlace) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}}
    shop.cluster.apply([quota], shop.namespace)
    path = f"/api/v1/namespaces/{shop.namespace}/resourcequotas/q"
    shop.cluster.wait(lambda: shop.cluster.get(path).get("status", {}).get("used", {}).get("pods") == "1", "the quota")
    with pytest.raises(PlaceError, match="FailedCreate: .* exceeded quota"):
        shop.deploy("2.0.0")
    shop.cluster.delete(path)
    shop.cluster.patch(shop.path, {"spec": {"progressDeadlineSeconds": 1}})
    with pytest.raises(PlaceError, match="ProgressDeadlineExceeded: ReplicaSet .* has timed out progressing"):
        shop.deploy("3.0.0", patch=slow(shop, "60s"))
    shop.cluster.patch(shop.path, {"spec": {"progressDeadlineSeconds": 600}})
    with pytest.raises(PlaceError, match=r"is not rolled out after 0.5 s: 0 of 1 updated|1 old pod is still there"):
        shop.deploy("4.0.0", patch=slow(shop, "60s"), timeout=0.5)
    assert shop.deploy("5.0.0", patch=slow(shop, "0s"))["current"] == "5.0.0"


def test_the_wait_ends_when_it_is_really_rolled_out(shop: KubePlace) -> None:
    complete: List[float] = []
    before = shop.seen()["metadata"]["generation"]

    def watch() -> None:
        while not complete:
            now = shop.seen()
            if now["metadata"]["generation"] > before and rolled_out(now):
                complete.append(time.monotonic())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    shop.deploy("2.0.0", patch=slow(shop, "800ms"))
    returned = time.monotonic()
    running = shop.cluster.pods(shop.namespace)
    watcher.join()
    assert returned - complete[0] <= 0.3
    assert len(running) == 1 and running[0]["spec"]["containers"][0]["image"] == "shop:2.0.0"


def rolled_out(workload: Doc) -> bool:
    status = workload["status"]
    counts = [status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    seen = status["observedGeneration"] == workload["metadata"]["generation"]
    return bool(seen and counts == [1, 1, 1] and not status.get("terminatingReplicas"))


def test_the_api_server_restarts_in_the_middle(shop: KubePlace) -> None:
    done: List[object] = []
    deployer = threading.Thread(
        target=lambda: done.append(shop.deploy("2.0.0", patch=slow(shop, "3s"), timeout=60.0)["current"])
    )
    deployer.start()
    shop.cluster.wait(lambda: shop.image() == "shop:2.0.0", "the deploy has begun")
    # by the main thread: what a thread starts dies with it
    shop.cluster.restart_apiserver()
    deployer.join()
    assert done == ["2.0.0"]
    assert shop.info()["settled"]


def test_paused_and_resumed_and_restarted(shop: KubePlace) -> None:
    shop.good("1.0.0")
    assert shop.state("paused")["actions"] == ["paused"]
    assert not shop.state("paused")["changed"]
    with pytest.raises(PlaceError, match="is paused, so nothing would be rolled out. Resume it first"):
        shop.deploy("2.0.0")
    with pytest.raises(OptionError, match="revision 1 .* is the current one"):
        shop.back(to_revision=1)
    assert shop.info()["status"].startswith('deployment "shop" is paused')
    assert shop.state("resumed")["actions"] == ["resumed"]
    uid = shop.info()["pods"][0]["uid"]
    restarted = shop.state("restarted")
    assert (restarted["actions"], restarted["current"]) == (["restarted 1.0.0"], "1.0.0")
    info = shop.info()
    assert info["pods"][0]["uid"] != uid and info["pods"][0]["release"] == "1.0.0"
    assert info["releases"][0]["known_good"] and len(info["releases"]) == 1
    assert shop.deploy("2.0.0")["known_good"] == "1.0.0"
    assert shop.back()["current"] == "1.0.0"
    assert not shop.deploy("1.0.0")["changed"]


def test_paused_while_waiting(shop: KubePlace) -> None:
    def pause(step: str) -> None:
        if step.startswith("marked"):
            shop.state("paused")

    with pytest.raises(PlaceError, match="it was paused meanwhile"):
        shop.deploy("2.0.0", patch=slow(shop, "60s"), checkpoint=pause)


def test_a_newer_deploy_while_waiting(shop: KubePlace) -> None:
    def newer(step: str) -> None:
        if step.startswith("marked"):
            shop.set_image("shop:9.9.9")

    with pytest.raises(Conflict, match="changed by somebody at"):
        shop.deploy("2.0.0", patch=slow(shop, "60s"), checkpoint=newer)
    assert shop.image() == "shop:9.9.9"


def test_no_replicas_prove_nothing(shop: KubePlace) -> None:
    shop.cluster.patch(shop.path, {"spec": {"replicas": 0}})
    shop.cluster.wait(lambda: not shop.seen()["status"].get("replicas"), "no pods are left")
    deployed = shop.deploy("2.0.0")
    assert "wants no pods (replicas 0)" in deployed["warnings"][0]
    with pytest.raises(PlaceError, match="cannot promote release 2.0.0: replicas is 0"):
        shop.promote("2.0.0")


def test_whose_it_is(shop: KubePlace) -> None:
    labels = {"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "shop"}}}
    shop.cluster.patch(shop.path, labels)
    assert "Flux (Kustomization) keeps Deployment shop" in shop.deploy("2.0.0")["warnings"][0]
    with pytest.raises(PlaceError, match="and would undo this: change it there"):
        shop.deploy("3.0.0", on_gitops="refuse")
    owner = {"apiVersion": "example.org/v1", "kind": "Shop", "name": "main", "uid": "1-2-3", "controller": True}
    shop.cluster.patch(shop.path, {"metadata": {"ownerReferences": [owner]}})
    with pytest.raises(PlaceError, match="is owned by Shop main, which would undo the change"):
        shop.deploy("3.0.0")
    with pytest.raises(PlaceError, match="is owned by Shop main"):
        shop.back(to_revision=1)
    assert shop.image() == "shop:2.0.0"


def test_rights_that_are_missing(shop: KubePlace) -> None:
    read = {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get", "list", "watch"]}
    shop.options["kubeconfig"] = str(shop.cluster.token_for(shop.namespace, [read]))
    with pytest.raises(Forbidden, match=f"patch deployments.apps 'shop' in namespace '{shop.namespace}'") as refused:
        shop.deploy("2.0.0")
    assert refused.value.details["changed"] is False
    assert shop.image() == "shop:1.0.0"


def test_a_template_with_secrets_is_not_shown(shop: KubePlace) -> None:
    env = [{"name": "PASSWORD", "value": "hunter2"}]
    deployed = shop.deploy("2.0.0", patch={"spec": {"containers": [{"name": "app", "env": env}]}})
    assert "spec.containers[app].env" in deployed["diff"]["after"]["changed_keys"]
    assert "hunter2" not in json.dumps(deployed)
