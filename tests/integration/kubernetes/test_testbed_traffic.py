# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbed's traffic: what a real Prometheus knows of each version, shared as the Service and the route say."""

from __future__ import annotations

from typing import Dict

import requests
from cluster import Cluster, deployment, service
from traffic import Exporter, traffic

CANARY = {"app": "shop", "track": "canary"}


def asked(url: str, query: str, label: str) -> Dict[str, float]:
    """The values of an instant query, by one label of their series."""
    answer = requests.get(f"{url}/api/v1/query", {"query": query}, timeout=5).json()
    return {each["metric"][label]: float(each["value"][1]) for each in answer["data"]["result"]}


def test_each_version_has_its_own_errors_and_latency(cluster: Cluster, namespace: str) -> None:
    stable = deployment("shop", "shop:1.0.0", 4, {"app": "shop", "track": "stable"})
    cluster.apply([stable, deployment("shop-canary", "shop:2.0.0", 1, CANARY), service("shop")], namespace)
    cluster.wait_available(namespace, "shop")
    cluster.wait_available(namespace, "shop-canary")
    with traffic(cluster, namespace, "shop", {"2.0.0": 0.4}, latencies={"2.0.0": 0.5}, rps=1500) as url:
        enough = "sum by (version) (http_requests_total) > 300"
        cluster.wait(lambda: len(asked(url, enough, "version")) == 2, "both versions have served")
        failed = asked(url, 'sum by (version) (http_requests_total{code="500"})', "version")
        served = asked(url, "sum by (version) (http_requests_total)", "version")
        assert set(failed) == {"2.0.0"}
        assert 0.3 < failed["2.0.0"] / served["2.0.0"] < 0.5
        assert 0.15 < served["2.0.0"] / sum(served.values()) < 0.25  # one of five pods
        slow = asked(url, 'sum by (version) (request_seconds_bucket{le="0.3"})', "version")
        assert slow["1.0.0"] / served["1.0.0"] > 0.9 > 0.5 > slow["2.0.0"] / served["2.0.0"]
        cluster.delete(f"/apis/apps/v1/namespaces/{namespace}/deployments/shop-canary")
        cluster.wait(lambda: set(asked(url, "http_requests_total", "version")) == {"1.0.0"}, "its series are gone")


def test_a_routes_weights_share_exactly(gateway: Cluster, namespace: str) -> None:
    backends = [{"name": "shop", "port": 80, "weight": 95}, {"name": "shop-canary", "port": 80, "weight": 5}]
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "shop"},
        "spec": {"rules": [{"backendRefs": backends}]},
    }
    stable = {"app": "shop", "track": "stable"}
    gateway.apply([deployment("shop", "shop:1.0.0", 2, stable), service("shop", stable)], namespace)
    gateway.apply([deployment("shop-canary", "shop:2.0.0", 2, CANARY), service("shop-canary", CANARY)], namespace)
    gateway.apply([route], namespace)
    gateway.wait_available(namespace, "shop")
    gateway.wait_available(namespace, "shop-canary")
    exporter = Exporter(gateway, namespace, "shop", rates={}, rps=1000, route="shop")
    exporter.look()
    exporter.draw(10)
    counted: Dict[str, float] = {}
    for family in exporter.registry.collect():
        for sample in family.samples:
            if sample.name == "http_requests_total":
                counted[sample.labels["version"]] = counted.get(sample.labels["version"], 0) + sample.value
    assert counted == {"1.0.0": 9500, "2.0.0": 500}
