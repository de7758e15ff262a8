# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A canary beside a stable Deployment of a real cluster: its share, its way in, its way out, whoever is killed."""

from __future__ import annotations

from typing import Any, Dict

import pytest
from cluster import Cluster
from kube_strategy import StrategyPlace

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.canary import CanaryBackend, CanaryOptions
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.route import RouteOption
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.workload_steps import Steps


def canary(steps: Steps, share: float = 100.0, route: Dict[str, Any] | None = None) -> CanaryBackend:
    return CanaryBackend(steps, CanaryOptions(share, RouteOption(**route) if route else None))


@pytest.fixture
def place(cluster: Cluster, namespace: str) -> StrategyPlace:
    return StrategyPlace(cluster, namespace, canary)


def test_a_tenth_then_half_then_all_of_it(place: StrategyPlace) -> None:
    place.replicas = 9
    place.begin()
    stable = set(place.pods())

    first = place.deploy("2.0.0", share=10, token=7)
    assert first.changed and first.actions == ("created shop-canary with 1 pod of 2.0.0",)
    assert (first.release, first.current, first.known_good) == ("2.0.0", "1.0.0", None)
    assert first.warnings == ()
    assert stable < set(place.pods())
    assert place.served() == ["shop:1.0.0"] * 9 + ["shop:2.0.0"]

    again = place.deploy("2.0.0", share=10, token=7)
    assert not again.changed and again.actions == ()

    half = place.deploy("2.0.0", share=50, token=7)
    assert half.actions == ("scaled shop-canary from 1 to 9 pods of 2.0.0",)
    assert place.served() == ["shop:1.0.0"] * 9 + ["shop:2.0.0"] * 9
    assert stable < set(place.pods())

    done = place.promote("2.0.0", token=7)
    assert done.actions == ("switched to 2.0.0", "marked 2.0.0 as known good", "removed shop-canary with 2.0.0")
    assert (done.before, done.current, done.known_good) == ("1.0.0", "2.0.0", "1.0.0")
    assert place.names() == ["shop"]
    assert place.served() == ["shop:2.0.0"] * 9
    assert not place.promote("2.0.0", token=7).changed
