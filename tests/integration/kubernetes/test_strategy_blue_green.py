# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two whole Deployments of a real cluster, and the Service that is switched between them; whoever is killed."""

from __future__ import annotations

from typing import Any, Dict

import pytest
from cluster import Cluster, deployment, service
from kube_strategy import StrategyPlace

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube import options
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Conflict
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.blue_green import (
    BlueGreenBackend,
    BlueGreenOptions,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.canary import CanaryBackend, CanaryOptions
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.workload import cleaned
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.workload_steps import Steps
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Promote, Rollback
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import FencedError, OptionError, PlaceError

NOW = 1_000_000.0


def blue_green(steps: Steps, keep_for: float = 600.0, only: str = "", at: float = NOW) -> BlueGreenBackend:
    return BlueGreenBackend(steps, BlueGreenOptions(keep_for, only), lambda: at)


def canary(steps: Steps) -> CanaryBackend:
    return CanaryBackend(steps, CanaryOptions(25))


@pytest.fixture
def place(cluster: Cluster, namespace: str) -> StrategyPlace:
    return StrategyPlace(cluster, namespace, blue_green)


def test_switched_at_once_kept_and_then_let_go(place: StrategyPlace) -> None:
    place.begin()
    blue = place.pods()
    done = place.deploy("2.0.0", token=7)
    assert done.actions == (
        "created shop-green with 3 pods of 2.0.0",
        "switched Service shop to shop-green",
    )
    assert (done.before, done.current, done.known_good) == ("1.0.0", "2.0.0", "1.0.0")
    assert place.served() == ["shop:2.0.0"] * 3
    assert blue.items() < place.pods().items()
    assert not place.deploy("2.0.0", token=7).changed

    backend = blue_green(place.steps("2.0.0"), at=NOW + 599)
    kept = backend.promote(Promote("2.0.0", rollout="r1", token=7))
    facts: Dict[str, Any] = backend.facts
    assert facts["template"] == cleaned(place.get("deployments", "shop-green")["spec"]["template"]) | {
        "metadata": {"labels": {"app": "shop"}}
    }
    assert facts["images"]["app"]["ids"][0].startswith("shop@sha256:")
    assert kept.actions == ("marked 2.0.0 as known good",)
    assert blue.items() < place.pods().items()
    assert not place.promote("2.0.0", token=7, at=NOW + 599).changed
    backend = blue_green(place.steps("2.0.0"))
    assert (backend.current(), backend.known_good()) == ("2.0.0", "1.0.0")

    ended = place.promote("2.0.0", token=7, at=NOW + 601)
    assert ended.actions == (
        "switched to 2.0.0",
        "marked 2.0.0 as known good",
        "switched Service shop back to shop",
        "removed shop-green with 2.0.0",
    )
    assert (ended.before, ended.current, ended.known_good) == ("1.0.0", "2.0.0", "1.0.0")
    assert place.names() == ["shop"]
    assert place.served() == ["shop:2.0.0"] * 3 and len(place.pods()) == 3
    assert not place.promote("2.0.0", token=7, at=NOW + 601).changed


def test_back_at_once_while_the_old_side_is_kept(place: StrategyPlace) -> None:
    place.begin()
    blue = place.pods()
    place.deploy("2.0.0")
    place.promote("2.0.0")
    back = place.backend("2.0.0").rollback(Rollback(leave="2.0.0", bad="slow", rollout="r2", token=9))
    assert back.actions == ("switched Service shop back to shop", "removed shop-green with 2.0.0")
    assert (back.current, back.changed) == ("1.0.0", True)
    assert place.served() == ["shop:1.0.0"] * 3 and place.pods() == blue
    assert not place.backend("2.0.0").rollback(Rollback(leave="2.0.0", rollout="r2", token=9)).changed
    with pytest.raises(FencedError):
        place.deploy("3.0.0", token=8)


def test_a_green_side_that_cannot_start_gets_no_request(place: StrategyPlace) -> None:
    place.begin()
    blue = place.pods()
    with pytest.raises(PlaceError, match="shop-green .* cannot be rolled out .*ImagePullBackOff"):
        place.deploy("2.0.0-never")
    assert place.served() == ["shop:1.0.0"] * 3
    with pytest.raises(PlaceError, match="not all Services were switched to shop-green"):
        place.promote("2.0.0-never")
    assert place.undo("2.0.0-never").actions == ("removed shop-green with 2.0.0-never",)
    assert place.pods() == blue
    assert not place.undo("2.0.0-never").changed


def test_the_next_rollout_ends_the_one_before(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("2.0.0", "r1")
    place.promote("2.0.0", "r1")
    done = place.deploy("3.0.0", "r2")
    assert done.actions == (
        "switched to 2.0.0",
        "marked 2.0.0 as known good",
        "switched Service shop back to shop",
        "removed shop-green with 2.0.0",
        "created shop-green with 3 pods of 3.0.0",
        "switched Service shop to shop-green",
    )
    assert place.undo("3.0.0", "r2").current == "2.0.0"
    assert place.served() == ["shop:2.0.0"] * 3
    # and one that was never promoted is taken away
    place.deploy("4.0.0", "dead")
    after = place.deploy("5.0.0", "r3")
    assert "removed shop-green with 4.0.0, left over from rollout dead" in after.actions
    assert (after.before, after.current) == ("2.0.0", "5.0.0")
    assert place.served() == ["shop:5.0.0"] * 3


def test_several_services_and_one_of_them(place: StrategyPlace) -> None:
    place.begin(labels={"app": "shop", "tier": "web"})
    place.cluster.apply([service("inner", {"tier": "web"})], place.namespace)
    place.deploy("2.0.0")
    assert place.served("inner") == place.served("shop") == ["shop:2.0.0"] * 3
    place.undo("2.0.0")
    assert place.served("inner") == place.served("shop") == ["shop:1.0.0"] * 3
    assert place.get("services", "inner")["spec"]["selector"] == {"tier": "web"}
    assert "annotations" not in place.get("services", "inner")["metadata"]

    done = place.deploy("2.0.0", "r2", only="shop")
    assert done.warnings == ("Service inner selects the pods of both sides, and is not switched",)
    assert place.served("inner") == ["shop:1.0.0"] * 3 + ["shop:2.0.0"] * 3


def test_what_is_refused_changes_nothing(place: StrategyPlace) -> None:
    place.begin()
    before = place.story()
    with pytest.raises(OptionError, match=r"Service 'shopp' does not select the pods .*did you mean 'shop'"):
        place.deploy("2.0.0", only="shopp")
    place.how = {"dry": True}
    assert place.deploy("2.0.0", token=9).actions == (
        "created shop-green with 3 pods of 2.0.0",
        "switched Service shop to shop-green",
    )
    place.how = {"wait": False}
    with pytest.raises(OptionError, match="wait: false makes no sense"):
        place.deploy("2.0.0")
    place.how = {}
    place.cluster.apply([deployment("shop-green", "theirs:1", 1, {"app": "theirs"})], place.namespace)
    with pytest.raises(PlaceError, match="Deployment shop-green is not ours but made by testbed"):
        place.deploy("2.0.0")
    assert not place.undo("2.0.0").changed
    place.cluster.delete(place.path("deployments", "shop-green"))
    other = StrategyPlace(place.cluster, place.namespace, canary)
    other.deploy("2.0.0")
    with pytest.raises(PlaceError, match="Deployment shop-canary of rollout r1 stands beside"):
        place.deploy("2.0.0")
    other.undo("2.0.0")
    assert place.story() == before
    place.cluster.delete(place.path("services", "shop"))
    with pytest.raises(OptionError, match="no Service selects the pods"):
        place.deploy("2.0.0")


def test_a_newer_deploy_to_the_kept_side_is_not_overwritten(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("2.0.0")
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "shop:1.5.0"}]
    place.cluster.patch(place.path("deployments", "shop"), image, "json")
    place.cluster.wait_available(place.namespace, "shop")
    with pytest.raises(Conflict, match="was changed by .* after shop-green was made of it"):
        place.promote("2.0.0", at=NOW + 601)
    assert place.served() == ["shop:2.0.0"] * 3
    place.undo("2.0.0")
    assert place.served() == ["shop:1.5.0"] * 3


def test_killed_anywhere_and_asked_again(place: StrategyPlace) -> None:
    place.replicas = 1
    place.begin()
    start, blue = place.story(), place.pods()
    lived, nth = False, 0
    while not lived:
        nth += 1
        lived = place.killed(nth, place.deploy, "2.0.0", token=nth)
        place.deploy("2.0.0", token=nth)
        assert place.served() == ["shop:2.0.0"]
        lived = place.killed(nth, place.undo, "2.0.0", token=nth) and lived
        place.undo("2.0.0", token=nth)
        assert place.story() == start and place.pods() == blue
    assert nth > 4

    lived, nth = False, 0
    while not lived:
        nth += 1
        release = f"3.0.{nth}"
        place.deploy(release, release)
        lived = place.killed(nth, place.promote, release, release, at=NOW + 601)
        done = place.promote(release, release, at=NOW + 601)
        assert (done.current, place.served(), place.names()) == (release, [f"shop:{release}"], ["shop"])
        assert len(place.pods()) == 1
    assert nth > 4


def test_as_the_modules_say_it(place: StrategyPlace) -> None:
    place.begin()
    where: Dict[str, Any] = {
        "kubeconfig": str(place.cluster.kubeconfig),
        "namespace": place.namespace,
        "name": "shop",
        "images": {"app": "shop:{release}"},
        "rollout": "r1",
        "release": "2.0.0",
        "strategy": "blue_green",
        "timeout": 20.0,
    }
    for wrong, what in (({"keep_for": -1}, "keep_for is -1"), ({"share": 0}, "share and route are of")):
        with pytest.raises(OptionError, match=what):
            options.change({**where, **wrong}, dry=False)
    done = options.change({**where, "state": "deployed"}, dry=False)
    assert (done["current"], done["live"], done["changed"]) == ("2.0.0", "shop-green", True)
    seen: Dict[str, Any] = options.look(where)
    assert (seen["current"], seen["previous"], seen["known_good"], seen["live"]) == (
        "2.0.0",
        "1.0.0",
        "1.0.0",
        "shop-green",
    )
    assert seen["settled"] and [release["id"] for release in seen["releases"]] == ["2.0.0", "1.0.0"]
    assert sorted(pod["release"] for pod in seen["pods"]) == ["1.0.0"] * 3 + ["2.0.0"] * 3
    green = seen["green"]
    assert [green[key] for key in ("name", "release", "replicas", "share")] == ["shop-green", "2.0.0", 3, 100.0]
    kept = options.change({**where, "state": "promoted", "keep": 5}, dry=False)
    assert kept["template"] and kept["live"] == "shop-green"
    back = options.change({**where, "state": "known_good", "rollout": "r2"}, dry=False)
    assert (back["current"], back["live"]) == ("1.0.0", "shop")
    options.change({**where, "state": "deployed"}, dry=False)
    plain = {key: where[key] for key in ("kubeconfig", "namespace", "name", "timeout", "release")}
    with pytest.raises(OptionError, match="has a green side"):
        options.roll_back({**plain, "to_previous": True}, dry=False)
    assert options.roll_back({**plain, "mark_bad": "slow"}, dry=False)["actions"] == [
        "switched Service shop back to shop",
        "removed shop-green with 2.0.0",
    ]
    canary = {**where, "strategy": "canary", "share": 25.0}
    options.change({**canary, "state": "deployed"}, dry=False)
    seen = dict(options.look(where))
    assert (seen["current"], seen["canary"]["share"]) == ("1.0.0", 25.0)
    assert sorted(pod["release"] for pod in seen["pods"]) == ["1.0.0"] * 3 + ["2.0.0"]
    assert options.roll_back(plain, dry=False)["actions"] == ["removed shop-canary with 2.0.0"]
    assert place.served() == ["shop:1.0.0"] * 3
