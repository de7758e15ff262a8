# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary and watch roles on a Deployment, from ansible-playbook to a real API server and a real Prometheus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from cluster import Cluster, deployment, service
from kube_shop import KubeShop, images, uids
from service_site import BAKE
from traffic import traffic

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import change

RATES = {"2.0.0": 0.05}
NAMED = {"backend_options": "{{ delivery_services.shop.backend_options }}", "ledger": "{{ delivery_ledger }}"}


def policy_of(cluster: Cluster, namespace: str, url: str) -> Dict[str, Any]:
    options = {
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": namespace,
        "name": "shop",
        "images": {"app": "shop:{release}"},
    }
    source = {"type": "prometheus", "url": url, "window": 10}
    return {"backend": "deployment", "backend_options": options, "source": source}


@pytest.fixture
def shop(cluster: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]) -> Iterator[KubeShop]:
    """Nine pods of 1.0.0."""
    cluster.apply([deployment("shop", "shop:1.0.0", 9), service("shop")], namespace)
    cluster.wait_available(namespace, "shop")
    with traffic(cluster, namespace, "shop", RATES, rps=900) as url:
        yield KubeShop(tmp_path / "shop", ansible_env, policy_of(cluster, namespace, url))


def test_a_bad_release_is_gone_with_the_stable_pods_untouched_and_a_good_one_is_promoted(
    shop: KubeShop, cluster: Cluster, namespace: str
) -> None:
    # as the guide says it: what was there before us gets a name, is watched, and is known good
    options = {"service": "test/shop", "release": "1.0.0", "backend": "deployment", **NAMED}
    named = shop.run(["ansible", "shop", "-m", "selfheal.delivery.release", "-a", json.dumps(options)])
    assert named.returncode == 0, named.stdout
    first = shop.play("watch", watch_release="1.0.0", watch_first_release=True)
    assert first.returncode == 0, first.stdout
    before = uids(cluster.pods(namespace))
    bad = shop.play("canary", canary_release="2.0.0")
    assert bad.returncode != 0, bad.stdout
    outcome = shop.last().outcome
    assert outcome["bake"].get("verdict") == "fail", bad.stdout
    assert outcome["verified"]["verdict"] == "recovered", bad.stdout
    cluster.wait(lambda: uids(cluster.pods(namespace)) == before, "only the stable pods are left, the same ones")
    assert len(cluster.list(f"/apis/apps/v1/namespaces/{namespace}/deployments")) == 1
    twice = shop.play("canary", canary_release="2.0.0")
    assert twice.returncode != 0 and "2.0.0 was found bad in its last rollout: errors failed" in twice.stdout
    good = shop.play("canary", canary_release="2.0.1")
    assert good.returncode == 0, good.stdout
    assert images(cluster.pods(namespace)) == ["shop:2.0.1"]
    again = shop.play("canary", canary_release="2.0.1")
    assert again.returncode == 0 and "nothing to do" in again.stdout


def test_a_canary_whose_controller_was_killed_is_removed_by_reconcile(
    shop: KubeShop, cluster: Cluster, namespace: str
) -> None:
    for state in ("deployed", "promoted"):
        change({**shop.options, "state": state, "release": "1.0.0", "keep": 5}, dry=False)
    before = uids(cluster.pods(namespace))
    shop.write(bake={**BAKE, "min_bake": 50})
    run = shop.begin("canary", canary_release="2.0.1", canary_lease_ttl=4)
    run.until("bake 1/2")
    assert len(cluster.pods(namespace)) > len(before)
    run.kill()
    cluster.wait(lambda: shop.play("reconcile").returncode == 0 and shop.last().state == "undone", "it is undone", 60)
    cluster.wait(lambda: uids(cluster.pods(namespace)) == before, "only the stable pods are left, the same ones")


def test_a_promoted_release_that_is_bad_goes_back_unless_it_says_that_it_must_not(
    shop: KubeShop, cluster: Cluster, namespace: str
) -> None:
    for release in ("1.0.0", "2.0.0"):
        for state in ("deployed", "promoted"):
            change({**shop.options, "state": state, "release": release, "keep": 5}, dry=False)
    shop.write(guard={"mode": "act", "alerts": ["ShopErrors"]})
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/shop"
    alert = {"kind": "alert", "name": "ShopErrors"}

    def says(word: str) -> None:
        cluster.patch(path, {"metadata": {"annotations": {"selfheal.delivery/rollback": word}}})
        cluster.wait(lambda: word in told(cluster, namespace), f"the newest ReplicaSet says {word}")

    says("blocked")
    blocked = shop.play("rollback", rollback_trigger={**alert, "id": "a1"}, rollback_confirm_window=30)
    assert blocked.returncode != 0 and "2.0.0 must not be rolled back" in blocked.stdout, blocked.stdout
    says("allowed")
    back = shop.play("rollback", rollback_trigger={**alert, "id": "a2"}, rollback_confirm_window=30)
    assert back.returncode == 0, back.stdout
    assert images(cluster.pods(namespace)) == ["shop:1.0.0"]
    last = shop.last()
    assert (last.kind, last.state, last.release) == ("rollback", "done", "2.0.0")
    assert last.outcome["verified"]["verdict"] == "recovered", back.stdout


def told(cluster: Cluster, namespace: str) -> List[str]:
    sets = cluster.list(f"/apis/apps/v1/namespaces/{namespace}/replicasets")
    return [str((one["metadata"].get("annotations") or {}).get("selfheal.delivery/rollback")) for one in sets]


def test_a_route_gives_the_canary_its_exact_share_and_is_as_it_was_afterwards(
    gateway: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    gateway.apply([deployment("shop", "shop:1.0.0", 9), service("shop")], namespace)
    rules = [{"backendRefs": [{"name": "shop", "port": 80}]}]
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "shop"}}
    gateway.apply([{**route, "spec": {"rules": rules}}], namespace)
    gateway.wait_available(namespace, "shop")
    path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/shop"
    untouched = gateway.get(path)["spec"]
    with traffic(gateway, namespace, "shop", RATES, rps=900, route="shop") as url:
        policy = policy_of(gateway, namespace, url)
        policy["backend_options"].update(strategy="canary", route={"name": "shop"})
        shop = KubeShop(tmp_path / "shop", ansible_env, policy)
        change({**shop.options, "state": "deployed", "release": "1.0.0"}, dry=False)
        change({**shop.options, "state": "promoted", "release": "1.0.0", "keep": 5}, dry=False)
        before = uids(gateway.pods(namespace))
        bad = shop.play("canary", canary_release="2.0.0", canary_traffic_steps=[20])
        outcome = shop.last().outcome
        assert bad.returncode != 0 and outcome["bake"].get("verdict") == "fail", bad.stdout
        share = next(gate for gate in outcome["bake"]["gates"] if gate["gate"] == "share")
        assert 0.1 < share["value"] < 0.3 and share["baseline"] == pytest.approx(0.2)
        gateway.wait(lambda: uids(gateway.pods(namespace)) == before, "only the stable pods are left, the same ones")
        assert gateway.get(path)["spec"] == untouched
        assert [each["metadata"]["name"] for each in gateway.list(f"/api/v1/namespaces/{namespace}/services")] == [
            "shop"
        ]
