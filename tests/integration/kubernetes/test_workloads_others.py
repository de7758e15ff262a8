# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""StatefulSets and DaemonSets on a real control plane: their revisions, their own ways to roll, and the way back."""

from __future__ import annotations

import json
from typing import Dict

import pytest
from cluster import Cluster, daemon_set, stateful_set
from kube_place import KubePlace

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import PlaceError


def releases(place: KubePlace) -> Dict[str, str]:
    """Pod -> release."""
    return {pod["name"]: pod["release"] for pod in place.info()["pods"]}


def test_a_stateful_set_stuck_on_a_bad_image(cluster: Cluster, namespace: str) -> None:
    cluster.apply([stateful_set("db", "shop:1.0.0", 2)], namespace)
    db = KubePlace(cluster, namespace, "db", "StatefulSet")
    promoted = db.good("1.0.0", images={})
    assert promoted["images"]["app"]["ids"]
    with pytest.raises(PlaceError, match="pod db-1, container app: ImagePullBackOff"):
        db.deploy("2.0.0-never")
    before = {pod["name"]: pod["uid"] for pod in db.info()["pods"]}
    assert releases(db) == {"db-0": "1.0.0", "db-1": "2.0.0-never"}
    back = db.back(mark_bad="never ready")
    assert (back["current"], back["changed"]) == ("1.0.0", True)
    after = {pod["name"]: pod["uid"] for pod in db.info()["pods"]}
    assert releases(db) == {"db-0": "1.0.0", "db-1": "1.0.0"}
    assert (after["db-0"] == before["db-0"], after["db-1"] == before["db-1"]) == (True, False)
    assert not db.back()["changed"]
    info = db.info()
    assert (info["settled"], info["releases"][0]["id"], len(db.revisions())) == (True, "1.0.0", 2)
    assert db.deploy("3.0.0")["known_good"] == "1.0.0"
    assert db.back(to_previous=True)["current"] == "1.0.0"


def test_a_partition_and_on_delete(cluster: Cluster, namespace: str) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    by_hand = {"type": "OnDelete"}
    cluster.apply(
        [
            stateful_set("part", "shop:1.0.0", 2, updateStrategy=strategy),
            stateful_set("hand", "shop:1.0.0", 1, updateStrategy=by_hand),
        ],
        namespace,
    )
    part, hand = (KubePlace(cluster, namespace, name, "StatefulSet") for name in ("part", "hand"))
    part.good("1.0.0", images={})
    deployed = part.deploy("2.0.0")
    assert "has partition 1: pods below it stay as they are" in deployed["warnings"][0]
    assert releases(part) == {"part-0": "1.0.0", "part-1": "2.0.0"}
    with pytest.raises(PlaceError, match="cannot promote release 2.0.0: 1 of 2 pods run another one"):
        part.promote("2.0.0")
    hand.good("1.0.0", images={})
    assert "has updateStrategy OnDelete" in hand.deploy("2.0.0")["warnings"][0]
    assert releases(hand) == {"hand-0": "1.0.0"}
    with pytest.raises(PlaceError, match="1 of 1 pods run another one"):
        hand.promote("2.0.0")


def test_a_daemon_set(cluster: Cluster, namespace: str) -> None:
    cluster.apply([daemon_set("log", "shop:1.0.0")], namespace)
    log = KubePlace(cluster, namespace, "log", "DaemonSet")
    log.good("1.0.0", images={})
    with pytest.raises(PlaceError, match=r"\(. of 2 (updated|available)\): pod log-.*CrashLoopBackOff, 2 restarts"):
        log.deploy("2.0.0-crash")
    with pytest.raises(PlaceError, match="ImagePullBackOff"):
        log.deploy("2.0.1-never")
    back = log.back(mark_bad="it crashes")
    assert (back["current"], back["status"]) == ("1.0.0", 'daemonset "log" successfully rolled out')
    assert set(releases(log).values()) == {"1.0.0"}
    assert not log.back()["changed"]
    assert log.state("restarted")["current"] == "1.0.0"
    assert set(releases(log).values()) == {"1.0.0"}
    marks = [each["metadata"]["annotations"].get("selfheal.delivery/release") for each in log.revisions()]
    assert sorted(json.loads(mark)["id"] for mark in marks if mark) == ["1.0.0", "1.0.0", "2.0.0-crash", "2.0.1-never"]


def test_why_no_pod_is_made(cluster: Cluster, namespace: str) -> None:
    cluster.apply([stateful_set("db", "shop:1.0.0", 1)], namespace)
    db = KubePlace(cluster, namespace, "db", "StatefulSet")
    db.good("1.0.0", images={})
    nowhere = {"spec": {"nodeSelector": {"disk": "none"}}}
    with pytest.raises(PlaceError, match=r"after 2 s: 0 of 1 available; pod db-0: Unschedulable"):
        db.deploy("2.0.0", patch=nowhere, timeout=2.0)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}}
    cluster.apply([quota], namespace)
    path = f"/api/v1/namespaces/{namespace}/resourcequotas/q"
    cluster.wait(lambda: "used" in cluster.get(path).get("status", {}), "the quota counts")
    with pytest.raises(PlaceError, match=r"after 1 s: . of 1 (updated|available); FailedCreate: .* exceeded quota"):
        db.back(timeout=1.0)
