# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The canary role where a place has one release at a time: a Helm release, and a GitOps branch that is applied."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator

from cluster import Cluster, deployment, service
from git_site import ALONE, Site
from go_tool import go_tool
from helm_shop import Shop
from kube_shop import KubeShop, images
from service_site import BAKE
from traffic import traffic

RATES = {"2.0.0": 0.1}


def measured(url: str, namespace: str) -> Dict[str, Any]:
    """The place is the namespace, as the metrics server's label says."""
    return {"type": "prometheus", "url": url, "window": 4, "place_label": "namespace", "up": "up"}


def test_a_helm_release_that_fails_goes_back_to_the_known_good_revision(
    cluster: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    helm = Shop(cluster, namespace, tmp_path)
    helm.good("1.0.0", values={"replicas": 3})
    cluster.apply([service("shop")], namespace)
    cluster.wait_available(namespace, "shop")
    options = {
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": namespace,
        "name": "shop",
        "binary_path": str(go_tool("helm")),
        "chart": str(helm.chart),
        "values": {"tag": "{release}", "replicas": 3},
    }
    with traffic(cluster, namespace, "shop", RATES, rps=600) as url:
        # the pods that were replaced are in the window for some time
        bake = {**BAKE, "verify_for": 8}
        policy = {"backend_options": options, "source": measured(url, namespace), "bake": bake}
        shop = KubeShop(tmp_path / "shop", ansible_env, policy, {"eu": {"ansible_host": namespace}})
        bad = shop.play("canary", canary_release="2.0.0", delivery_backend="helm")
        assert bad.returncode != 0
        outcome = shop.last().outcome
        assert outcome["bake"].get("verdict") == "fail", bad.stdout
        assert outcome["verified"]["verdict"] == "recovered", bad.stdout
    assert images(cluster.pods(namespace)) == ["shop:1.0.0"]
    told = helm.info()
    assert (told["current"], told["known_good"]) == ("1.0.0", None)
    assert [each["id"] for each in told["releases"] if each["bad"]] == ["2.0.0"]


@contextmanager
def applied(site: Site, cluster: Cluster, namespace: str) -> Iterator[None]:
    """What a GitOps controller does: the image that the branch names is the one that the Deployment gets."""
    done = threading.Event()

    def apply() -> None:
        path, seen = f"/apis/apps/v1/namespaces/{namespace}/deployments/shop", ""
        while not done.wait(0.3):
            image = site.file().partition("image: ")[2].strip()
            if image != seen:
                containers = [{"name": "app", "image": image}]
                cluster.patch(path, {"spec": {"template": {"spec": {"containers": containers}}}}, "strategic")
                seen = image

    thread = threading.Thread(target=apply)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_gitops_branch_goes_back_to_the_known_good_commit_and_on_to_a_mended_one(
    cluster: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    site = Site(tmp_path)
    site.good("1.0.0", service="test/shop")
    cluster.apply([deployment("shop", "shop:1.0.0", 3), service("shop")], namespace)
    cluster.wait_available(namespace, "shop")
    options = {"repository": site.url, "path": "apps/shop", "ref": "v{release}"}
    with traffic(cluster, namespace, "shop", RATES, rps=600) as url, applied(site, cluster, namespace):
        # a push is no rollout yet: what the branch says has to be applied before it can be judged
        bake = {**BAKE, "warm_up": 5, "verify_for": 8}
        policy = {"backend": "git", "backend_options": options, "source": measured(url, namespace), "bake": bake}
        hosts = {"eu": {"ansible_host": namespace}}
        shop = KubeShop(tmp_path / "shop", {**ansible_env, **ALONE}, policy, hosts)
        for version in ("2.0.0", "2.0.1"):
            site.pull()
            site.image(version, push=False)
            site.git("push", "--quiet", "origin", f"HEAD:refs/tags/v{version}")
            done = shop.play("canary", canary_release=version)
            outcome = shop.last().outcome
            if version == "2.0.0":
                assert done.returncode != 0
                assert outcome["bake"].get("verdict") == "fail", done.stdout
                assert site.file() == "image: shop:1.0.0", done.stdout
                site.git("reset", "--quiet", "--hard", "HEAD~1")
            else:
                assert done.returncode == 0, done.stdout
    assert site.file() == "image: shop:2.0.1"
    assert site.look(service="test/shop")["current"] == "2.0.1"
