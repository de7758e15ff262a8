# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Role in docs/backends/kubernetes.md is enough for every strategy, and each of its rules is needed."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
import yaml
from cluster import Cluster
from environment import ROOT
from kube_strategy import StrategyPlace, http_route

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Forbidden
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import change, look, roll_back

Rules = List[Dict[str, Any]]
ROUTE = {"name": "shop"}


def documented() -> Rules:
    page = (ROOT / "docs/backends/kubernetes.md").read_text()
    blocks = [part.partition("```")[0] for part in page.split("```yaml\n")[1:]]
    roles = [yaml.safe_load(block) for block in blocks if block.startswith("apiVersion: rbac")]
    rules: Rules = roles[0]["rules"]
    return rules


class Person:
    """Somebody with few rights, who uses the modules' functions."""

    def __init__(self, place: StrategyPlace, rules: Rules) -> None:
        kubeconfig = str(place.cluster.token_for(place.namespace, rules))
        self.where = {"kubeconfig": kubeconfig, "namespace": place.namespace, "name": "shop", "timeout": 20.0}
        self.where.update(images={"app": "shop:{release}"}, keep=5, rollout="r1")

    def does(self, release: str, state: str = "deployed", **options: Any) -> Dict[str, Any]:
        return dict(change({**self.where, "release": release, "state": state, **options}, dry=False))


@pytest.fixture
def place(gateway: Cluster, namespace: str) -> StrategyPlace:
    return StrategyPlace(gateway, namespace, replicas=2)


def test_the_documented_role_is_enough(place: StrategyPlace) -> None:
    place.start()
    place.cluster.apply([http_route("shop", {"shop": 1})], place.namespace)
    person = Person(place, documented())
    assert person.does("1.0.0", "promoted")["template"]
    person.does("2.0.0", token=5, strategy="canary", share=25.0, route=ROUTE)
    person.does("2.0.0", token=5, strategy="canary", share=100.0, route=ROUTE)
    person.does("2.0.0", "known_good", token=5, undo=True, strategy="canary", route=ROUTE)
    person.does("3.0.0", token=6, strategy="blue_green", keep_for=0.0)
    assert look(person.where)["live"] == "shop-green"
    assert person.does("3.0.0", "promoted", token=6, strategy="blue_green", keep_for=0.0)["live"] == "shop"
    back = roll_back({**person.where, "release": "3.0.0", "mark_bad": "slow", "token": 7}, dry=False)
    assert (back["current"], place.served()) == ("1.0.0", ["shop:1.0.0"] * 2)


@pytest.mark.parametrize(
    "resource, options, what",
    [
        ("deployments", {}, "create deployments.apps in namespace"),
        ("services", {}, "list services in namespace"),
        ("httproutes", {"route": ROUTE}, "get httproutes.gateway.networking.k8s.io 'shop' in namespace"),
    ],
)
def test_a_missing_right_is_named(place: StrategyPlace, resource: str, options: Dict[str, Any], what: str) -> None:
    place.start()
    place.cluster.apply([http_route("shop", {"shop": 1})], place.namespace)
    verbs = {"create"} if resource == "deployments" else {"get", "list", "create", "patch", "delete"}
    rules = [
        {**rule, "verbs": [verb for verb in rule["verbs"] if rule["resources"] != [resource] or verb not in verbs]}
        for rule in documented()
    ]
    before = place.pods()
    person = Person(place, [rule for rule in rules if rule["verbs"]])
    with pytest.raises(Forbidden, match=f"RBAC forbids to {what} '{place.namespace}'"):
        person.does("2.0.0", strategy="canary", share=25.0, **options)
    assert place.pods() == before and place.names() == ["shop"]
