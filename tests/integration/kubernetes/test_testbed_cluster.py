# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbed's control plane: what the other tests take for granted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Iterable, List

import pytest
import requests
from cluster import ApiError, Cluster, NotThere, daemon_set, deployment, rollout, start, stateful_set
from environment import ROOT
from go_tool import go_tool


def test_workloads_get_ready(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        [deployment("web", "shop:1.0.0"), stateful_set("db", "db:1.0.0"), daemon_set("log", "log:1.0.0")], namespace
    )
    cluster.wait_available(namespace, "web")
    cluster.wait_available(namespace, "db", "statefulsets")
    cluster.wait_available(namespace, "log", "daemonsets")
    statuses = [pod["status"]["containerStatuses"][0] for pod in cluster.pods(namespace, app="web")]
    assert len(statuses) == 3
    assert {status["imageID"].partition("@sha256:")[0] for status in statuses} == {"shop"}
    assert all(status["ready"] and status["state"]["running"]["startedAt"] for status in statuses)


def test_tags_that_are_never_ready_or_crash_and_a_slow_start(cluster: Cluster, namespace: str) -> None:
    slow = deployment("slow", "shop:1.0.0", 1)
    slow["spec"]["template"]["metadata"]["annotations"] = {"testbed/ready-after": "600ms"}
    stuck, loop = deployment("stuck", "shop:2.0.0-never", 1), deployment("loop", "shop:2.0.0-crash", 1)
    begun = time.monotonic()
    cluster.apply([slow, stuck, loop], namespace)

    def waiting(app: str, least: int) -> str | None:
        for pod in cluster.pods(namespace, app=app):
            for status in pod["status"].get("containerStatuses", []):
                if status["restartCount"] >= least and not status["ready"]:
                    return str(status["state"]["waiting"]["reason"])
        return None

    cluster.wait_available(namespace, "slow")
    assert time.monotonic() - begun >= 0.6
    assert cluster.wait(lambda: waiting("stuck", 0), "a pod waits for its image") == "ImagePullBackOff"
    assert cluster.wait(lambda: waiting("loop", 2), "a pod crashes twice") == "CrashLoopBackOff"


def test_a_user_with_less_rights(cluster: Cluster, namespace: str) -> None:
    rules = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]}]
    kubeconfig = cluster.token_for(namespace, rules)
    kubectl = [str(go_tool("kubectl")), f"--kubeconfig={kubeconfig}"]
    assert subprocess.run([*kubectl, "get", "deployments"], capture_output=True, check=False).returncode == 0
    refused = subprocess.run([*kubectl, "get", "pods"], capture_output=True, text=True, check=False)
    assert "forbidden" in refused.stderr


def test_a_cluster_of_ones_own(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFHEAL_TEST_KUBECONFIG", str(cluster.kubeconfig))
    with start(tmp_path) as own:
        assert own.url == cluster.url
        assert own.list("/api/v1/namespaces")
        with pytest.raises(NotThere, match="not ours to kill"):
            own.restart_apiserver()
    assert cluster.answers()


def test_the_api_server_comes_back_with_the_same_data(cluster: Cluster, namespace: str) -> None:
    before = cluster.apply([deployment("web", "shop:1.0.0", 1)], namespace)[0]["metadata"]["uid"]
    cluster.kill_apiserver()
    try:
        with pytest.raises(requests.ConnectionError):
            cluster.list("/api/v1/namespaces")
    finally:
        cluster.revive_apiserver()
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    assert cluster.get(path)["metadata"]["uid"] == before
    cluster.patch(path, {"spec": {"replicas": 2}})
    cluster.wait_available(namespace, "web")


def test_argo_reacts(argo: Cluster, namespace: str) -> None:
    argo.apply([rollout("shop", "shop:1.0.0", 5)], namespace)
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/rollouts/shop"
    argo.wait(lambda: argo.get(path).get("status", {}).get("phase") == "Healthy", "the rollout is healthy")
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "shop:2.0.0"}]
    argo.patch(path, image, "json")
    argo.wait(lambda: argo.get(path)["status"]["phase"] == "Paused", "the rollout waits at its first step")
    images = [pod["spec"]["containers"][0]["image"] for pod in argo.pods(namespace, app="shop")]
    assert sorted(images) == ["shop:1.0.0"] * 4 + ["shop:2.0.0"]


def test_a_route_is_checked_by_the_gateway_apis_own_schema(gateway: Cluster, namespace: str) -> None:
    backends = [{"name": "shop", "port": 80, "weight": 95}, {"name": "shop-canary", "port": 80, "weight": 5}]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    made = gateway.apply([route], namespace)[0]
    assert [backend["weight"] for backend in made["spec"]["rules"][0]["backendRefs"]] == [95, 5]
    backends[0]["weight"] = -1
    with pytest.raises(ApiError, match="422"):
        gateway.apply([route], namespace)


def test_a_person_plays_and_nothing_outlives_a_kill(tmp_path: Path) -> None:
    command = [sys.executable, f"{ROOT}/tests/tools/testbed.py"]
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as testbed:
        assert testbed.stdout is not None
        told = next(line for line in testbed.stdout if "export KUBECONFIG=" in line)
        kubectl = [str(go_tool("kubectl")), f"--kubeconfig={told.strip().partition('=')[2]}"]
        done = subprocess.run([*kubectl, "get", "deployment", "shop"], capture_output=True, text=True, check=False)
        assert "4/4" in done.stdout, done.stderr
        servers = children(testbed.pid)
        assert len(servers) == 7  # with Argo Rollouts and Prometheus
        testbed.kill()
    deadline = time.monotonic() + 5
    while running(servers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert running(servers) == []


def fields(pid: int) -> List[str]:
    """What the kernel says of a process after its name (state, parent, …); nothing when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def children(parent: int) -> List[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if fields(pid)[1:2] == [str(parent)]]


def running(pids: Iterable[int]) -> List[int]:
    """Those that are there, and no zombies, which only wait for whoever adopted them."""
    return [pid for pid in pids if fields(pid)[:1] not in ([], ["Z"])]
