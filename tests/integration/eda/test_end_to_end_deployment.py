# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bad release to the good one on a Deployment, through Prometheus, Alertmanager and ansible-rulebook."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Dict

import pytest
from child import free_ports
from cluster import deployment, service, start
from kube_shop import SERVICE, KubeShop, images
from rulebook import alerting, alertmanager, rulebook
from tell_servers import hook
from traffic import traffic

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import change
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

RUNBOOK = "https://runbooks.example.org/shop"
RULE = {
    "alert": "ShopErrors",
    "expr": 'sum(rate(http_requests_total{code=~"5.."}[5s])) / sum(rate(http_requests_total[5s])) > 0.1',
    "labels": {"service": "shop", "environment": "test"},
}

pytestmark = [pytest.mark.xdist_group("eda-end-to-end")]


def test_a_deployment_goes_back_to_known_good_when_its_alert_fires(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(start(tmp_path / "cluster"))
        namespace = cluster.namespace()
        cluster.apply([deployment("shop", "shop:1.0.0", 3), service("shop")], namespace)
        cluster.wait_available(namespace, "shop")
        told, port = stack.enter_context(hook()), free_ports(1)[0]
        manager = f"http://127.0.0.1:{port}"
        lines, rates = alerting(tmp_path / "rules", [RULE], manager), {"2.0.0": 0.0}
        url = stack.enter_context(traffic(cluster, namespace, "shop", rates, rps=300, more=lines))
        where = {"kubeconfig": str(cluster.kubeconfig), "namespace": namespace, "name": "shop"}
        policy: Dict[str, Any] = {"backend": "deployment", "runbook": RUNBOOK}
        policy["backend_options"] = {**where, "images": {"app": "shop:{release}"}}
        policy["source"] = {"type": "prometheus", "url": url, "window": 10}
        policy["guard"] = {"mode": "act", "alerts": ["ShopErrors"], "clear_for": 0}
        people = {"people": {"type": "webhook", "url": told.url}}
        asked = {"type": "prometheus", "url": url}
        shop = KubeShop(
            tmp_path / "shop",
            ansible_env,
            policy,
            {"eu": {"delivery_notify": people, "delivery_alerts": asked}},
        )
        for release in ("1.0.0", "2.0.0"):
            for state in ("deployed", "promoted"):
                change({**shop.options, "state": state, "release": release, "keep": 5}, dry=False)
        inventory = shop.folder / "hosts.json"
        book = stack.enter_context(rulebook(tmp_path / "book", ansible_env, inventory=inventory))
        stack.enter_context(alertmanager(tmp_path / "alertmanager", f"{book.url}/alerts", book.token_file, port))
        assert images(cluster.pods(namespace)) == ["shop:2.0.0"]

        rates["2.0.0"] = 0.5
        book.wait(lambda: images(cluster.pods(namespace)) == ["shop:1.0.0"], "the pods are of 1.0.0", 120)
        book.wait(lambda: shop.last().state == "done", "the rollback is closed", 120)
        last = shop.last()
        assert (last.kind, last.release) == ("rollback", "2.0.0")
        assert last.outcome["verified"]["verdict"] == "recovered", book.log
        book.wait(lambda: told.posts, "people are told", 30)
        assert any(RUNBOOK in post.body.decode() and "2.0.0" in post.body.decode() for post in told.posts)
        book.wait(lambda: book.answered() >= 2 and book.idle(), "it is over, and the guard knows", 90)

    with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
        assert ledger.verify() is None
        kinds = [entry.kind for entry in ledger.entries(SERVICE)]
    assert [kind for kind in kinds if kind in ("trigger", "action")].count("action") == 1
    assert {"trigger", "decision", "action", "outcome", "state"} <= set(kinds), kinds
