# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbed's control plane: what the other tests take for granted."""

from __future__ import annotations

from cluster import Cluster, daemon_set, deployment, stateful_set


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


def test_tags_that_are_never_ready_or_crash(cluster: Cluster, namespace: str) -> None:
    cluster.apply([deployment("stuck", "shop:2.0.0-never", 1), deployment("loop", "shop:2.0.0-crash", 1)], namespace)

    def waiting(app: str, least: int) -> str | None:
        for pod in cluster.pods(namespace, app=app):
            for status in pod["status"].get("containerStatuses", []):
                if status["restartCount"] >= least and not status["ready"]:
                    return str(status["state"]["waiting"]["reason"])
        return None

    assert cluster.wait(lambda: waiting("stuck", 0), "a pod waits for its image") == "ImagePullBackOff"
    assert cluster.wait(lambda: waiting("loop", 2), "a pod crashes twice") == "CrashLoopBackOff"
