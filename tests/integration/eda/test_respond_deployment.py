# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event about a Deployment on a real API server: its pods are replaced by new ones of the same release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest
from alert_server import alertmanager
from ansible_run import Run
from cluster import deployment, start
from code_catalogue import catalogue, entry
from kube_shop import KubeShop, images

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import change

STUCK = "SHOP-STUCK-001"

pytestmark = [pytest.mark.xdist_group("eda-end-to-end")]


def test_a_deployment_is_restarted_once_for_an_error_code_that_asks_for_it(
    tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    (tmp_path / "codes.yml").write_text(catalogue(SHOP_STUCK_001=entry(response=["restart", "page"])))
    with start(tmp_path / "cluster") as cluster, alertmanager(tmp_path / "am") as alerts:
        namespace = cluster.namespace()
        cluster.apply([deployment("shop", "shop:1.0.0", 2)], namespace)
        cluster.wait_available(namespace, "shop")
        where = {"kubeconfig": str(cluster.kubeconfig), "namespace": namespace, "name": "shop"}
        policy: Dict[str, Any] = {
            "backend": "deployment",
            "backend_options": {**where, "images": {"app": "shop:{release}"}},
            # nobody there: what cannot be verified is said
            "source": {"type": "prometheus", "url": "http://127.0.0.1:9"},
            "guard": {"mode": "act", "codes": [STUCK]},
        }
        asked = {"type": "alertmanager", "url": alerts.url}
        told = {"delivery_alerts": asked, "delivery_error_codes": str(tmp_path / "codes.yml")}
        shop = KubeShop(tmp_path / "shop", ansible_env, policy, {"eu": told})
        for state in ("deployed", "promoted"):
            change({**shop.options, "state": state, "release": "1.0.0", "keep": 5}, dry=False)
        before = {pod["metadata"]["uid"] for pod in cluster.pods(namespace)}

        alerts.fire("Stuck", "shop", error_code=STUCK, environment="test")
        event = alerts.event("Stuck", kind="error_code", name=STUCK)
        given = json.dumps({"respond_event": event})
        command = ["ansible-playbook", "-i", str(shop.folder / "hosts.json"), "selfheal.delivery.respond", "-e", given]
        run = Run(command, ansible_env)
        assert run.end() == 0, run.output
        assert "error code SHOP-STUCK-001: restarted. Its gates: unverified." in run.output
        pods = cluster.pods(namespace)
        assert images(pods) == ["shop:1.0.0"] and not before & {pod["metadata"]["uid"] for pod in pods}
        last = shop.last()
        assert (last.kind, last.state, last.outcome["ok"]) == ("action", "done", True)

        again = Run(command, ansible_env)
        assert again.end() == 0 and "was decided on before" in again.output
        assert shop.last().id == last.id
