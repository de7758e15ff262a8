# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary role on an Argo Rollout, whose own pauses are its steps, and our judge the one who decides at each."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from cluster import Cluster, rollout, service
from kube_shop import KubeShop, images, uids
from traffic import traffic

from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo import options as argo_options

# with a route of its own kind, Argo lets the stable pods be while a canary runs beside them
CANARY = {
    "steps": [{"setWeight": 20}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}],
    "stableService": "shop-stable",
    "canaryService": "shop-canary",
    "trafficRouting": {"nginx": {"stableIngress": "shop"}},
    "abortScaleDownDelaySeconds": 1,
    "scaleDownDelaySeconds": 1,
}
BACKEND = {"service": {"name": "shop-stable", "port": {"number": 80}}}
INGRESS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "Ingress",
    "metadata": {"name": "shop"},
    "spec": {"rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}]},
}


def test_a_bad_release_is_aborted_with_the_stable_pods_untouched_and_a_good_one_is_promoted(
    argo: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    services = [service(name, {"app": "shop"}) for name in ("shop", "shop-stable", "shop-canary")]
    argo.apply([*services, INGRESS], namespace)
    argo.apply([rollout("shop", "shop:1.0.0", 8, strategy={"canary": CANARY})], namespace)
    path = f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/rollouts/shop"
    argo.wait(lambda: argo.get(path).get("status", {}).get("phase") == "Healthy", "the Rollout is healthy")
    options = {
        "kubeconfig": str(argo.kubeconfig),
        "namespace": namespace,
        "name": "shop",
        "images": {"app": "shop:{release}"},
    }
    with traffic(argo, namespace, "shop", {"2.0.0": 0.05}, rps=900) as url:
        source = {"type": "prometheus", "url": url, "window": 10}
        policy = {"backend": "argo_rollout", "backend_options": options, "source": source}
        shop = KubeShop(tmp_path / "shop", ansible_env, policy)
        for state in ("deployed", "promoted"):
            argo_options.change({**options, "state": state, "release": "1.0.0", "keep": 5, "timeout": 60.0}, dry=False)
        before = uids(argo.pods(namespace))
        bad = shop.play("canary", canary_release="2.0.0")
        outcome = shop.last().outcome
        assert bad.returncode != 0 and outcome["bake"].get("verdict") == "fail", bad.stdout
        assert "steps 1/2: eu 20 %; 2/2: eu 50 %" in bad.stdout
        left = argo.wait(lambda: uids(argo.pods(namespace)) == before, "only the stable pods are left, the same ones")
        assert left and argo.get(path)["status"]["phase"] == "Healthy"
        good = shop.play("canary", canary_release="2.0.1")
        assert good.returncode == 0, good.stdout
        argo.wait(lambda: images(argo.pods(namespace)) == ["shop:2.0.1"], "the old pods are gone")
