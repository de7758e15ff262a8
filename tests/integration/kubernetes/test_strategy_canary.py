# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A canary beside a stable Deployment of a real cluster: its share, its way in, its way out, whoever is killed."""

from __future__ import annotations

import threading
from typing import Any, Dict

import pytest
from cluster import Cluster, deployment, service
from kube_strategy import StrategyPlace, http_route

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Conflict
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.canary import CanaryBackend, CanaryOptions
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.route import RouteOption
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.workload_steps import Steps
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import FencedError, OptionError, PlaceError


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


def test_a_canary_that_cannot_start_is_gone_and_the_stable_pods_are_the_same(place: StrategyPlace) -> None:
    place.begin()
    stable, generation = place.pods(), place.get("deployments", "shop")["metadata"]["generation"]
    with pytest.raises(PlaceError, match="shop-canary .* cannot be rolled out .*ImagePullBackOff") as caught:
        place.deploy("2.0.0-never", share=25)
    assert caught.value.details["changed"] is True
    assert caught.value.details["current"] == "1.0.0"
    assert "undo removes shop-canary" in str(caught.value)

    undone = place.undo("2.0.0-never")
    assert undone.actions == ("removed shop-canary with 2.0.0-never",)
    assert place.names() == ["shop"]
    assert place.pods() == stable
    assert place.get("deployments", "shop")["metadata"]["generation"] == generation
    assert not place.undo("2.0.0-never").changed


def test_an_undo_after_the_whole_share_goes_back(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("2.0.0", share=50)
    done = place.deploy("2.0.0", share=100)
    assert done.actions == ("switched to 2.0.0", "removed shop-canary with 2.0.0")
    assert place.names() == ["shop"]
    undone = place.undo("2.0.0")
    assert (undone.current, undone.changed) == ("1.0.0", True)
    assert set(place.pods().values()) == {"shop:1.0.0"}


def test_what_a_killed_run_left_over(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("2.0.0", "dead", share=25)
    adopted = place.deploy("2.0.0", "r2", share=25)
    assert adopted.actions == ("adopted shop-canary of rollout dead, which runs 2.0.0",)
    other = place.deploy("3.0.0", "r3", share=25)
    assert other.actions == (
        "removed shop-canary with 2.0.0, left over from rollout r2",
        "created shop-canary with 1 pod of 3.0.0",
    )
    assert place.served() == ["shop:1.0.0"] * 3 + ["shop:3.0.0"]
    late = place.undo("2.0.0", "r2")
    assert not late.changed
    assert late.warnings == (
        f"Deployment shop-canary in namespace {place.namespace} is of rollout r3, and was left as it is",
    )
    assert place.undo("3.0.0", "r3").changed
    assert place.names() == ["shop"]


def test_a_canary_that_is_being_removed_is_waited_for(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("2.0.0", share=25)
    path = place.path("deployments", "shop-canary")
    place.cluster.patch(path, {"metadata": {"finalizers": ["example.com/held"]}})
    place.cluster.delete(path)
    place.how = {"timeout": 0.3}
    with pytest.raises(PlaceError, match="shop-canary .* is being removed, and is still there after 0.3 s"):
        place.deploy("2.0.0", share=25)
    place.how = {}
    held = threading.Timer(0.2, place.cluster.patch, (path, {"metadata": {"finalizers": None}}))
    held.start()
    assert place.deploy("2.0.0", share=25).actions == ("created shop-canary with 1 pod of 2.0.0",)
    held.join()


def test_somebody_elses_canary_is_not_touched(place: StrategyPlace) -> None:
    place.begin()
    theirs = deployment("shop-canary", "theirs:1", 1, {"app": "theirs"})
    place.cluster.apply([theirs], place.namespace)
    before = place.get("deployments", "shop-canary")["metadata"]["uid"]
    with pytest.raises(PlaceError, match="Deployment shop-canary is not ours but made by testbed") as caught:
        place.deploy("2.0.0", share=25, token=9)
    assert caught.value.details["changed"] is False
    assert place.deploy("2.0.0", share=100).current == "2.0.0"
    assert place.undo("2.0.0").current == "1.0.0"
    assert place.get("deployments", "shop-canary")["metadata"]["uid"] == before


def test_a_newer_deploy_in_between_is_not_overwritten(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("2.0.0", share=25)
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "shop:1.5.0"}]
    place.cluster.patch(place.path("deployments", "shop"), image, "json")
    place.cluster.wait_available(place.namespace, "shop")
    for share in (50, 100):
        with pytest.raises(Conflict, match="Deployment shop .* was changed by .* after shop-canary was made of it"):
            place.deploy("2.0.0", share=share)
    with pytest.raises(Conflict):
        place.promote("2.0.0")
    assert place.undo("2.0.0").actions == ("removed shop-canary with 2.0.0",)
    assert set(place.pods().values()) == {"shop:1.5.0"}


def test_two_apps_with_the_same_labels(place: StrategyPlace) -> None:
    """Ownership decides: neither takes the other's canary, nor its revisions or pods."""
    labels = {"app": "web"}
    blog = StrategyPlace(place.cluster, place.namespace, canary, name="blog", replicas=2)
    for each in (place, blog):
        each.begin(labels=labels)
    place.deploy("2.0.0", share=25)
    blog.deploy("3.0.0", "r2", share=50)
    assert place.names() == ["blog", "blog-canary", "shop", "shop-canary"]
    assert blog.undo("3.0.0", "r2").actions == ("removed blog-canary with 3.0.0",)
    assert place.promote("2.0.0").current == "2.0.0"
    assert sorted(place.pods().values()) == ["shop:1.0.0"] * 2 + ["shop:2.0.0"] * 3
    assert (blog.backend("x").current(), place.backend("x").current()) == ("1.0.0", "2.0.0")


def test_what_is_refused_changes_nothing(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("1.0.0", token=8)
    before = place.story()
    for share, what in ((80, "takes more pods than the 3 that are stable"), (0, "not a percentage above 0")):
        with pytest.raises(OptionError, match=what):
            place.deploy("2.0.0", share=share, token=9)
    with pytest.raises(FencedError):
        place.deploy("2.0.0", share=25, token=7)
    place.how = {"images": {"ap": "shop:2.0.0"}}
    with pytest.raises(OptionError, match=r"did you mean 'app'"):
        place.deploy("2.0.0", share=25, token=9)
    place.how = {"dry": True}
    tried = place.deploy("2.0.0", share=25, token=9)
    assert tried.actions == ("created shop-canary with 1 pod of 2.0.0",)
    place.how = {}
    place.cluster.patch(place.path("deployments", "shop"), {"spec": {"replicas": 0}})
    with pytest.raises(PlaceError, match="wants no pods"):
        place.deploy("2.0.0", share=25)
    place.cluster.patch(place.path("deployments", "shop"), {"spec": {"replicas": 3}})
    place.cluster.wait_available(place.namespace, "shop")
    assert place.story() == before
    place.cluster.delete(place.path("services", "shop"))
    assert "no Service selects the pods" in place.deploy("2.0.0", share=25).warnings[0]


def test_a_controller_that_was_overtaken_stops_in_the_middle(place: StrategyPlace) -> None:
    place.begin()
    place.deploy("2.0.0", share=25, token=7)
    before = place.story()

    def overtake(step: str) -> None:
        if step == "changing":
            token = {"metadata": {"annotations": {"selfheal.delivery/token": "9"}}}
            place.cluster.patch(place.path("deployments", "shop"), token)

    place.how = {"checkpoint": overtake}
    with pytest.raises(FencedError):
        place.deploy("2.0.0", share=50, token=8)
    with pytest.raises(FencedError):
        place.undo("2.0.0", token=8)
    place.how = {}
    assert place.story() == before
    assert place.undo("2.0.0", token=9).changed


# -- exact shares


def weights(place: StrategyPlace, rule: int = 0) -> Dict[str, Any]:
    refs = place.get("httproutes", "shop")["spec"]["rules"][rule]["backendRefs"]
    return {ref["name"]: ref.get("weight") for ref in refs}


@pytest.fixture
def routed(gateway: Cluster, place: StrategyPlace, request: pytest.FixtureRequest) -> StrategyPlace:
    """With a route of two rules: to the shop and the blog, and to the blog alone."""
    place.replicas = getattr(request, "param", 3)
    place.begin()
    filters = [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"add": [{"name": "a", "value": "b"}]}}]
    route = http_route("shop", {"shop": 3, "blog": 1}, {"blog": None}, filters=filters)
    place.cluster.apply([route, service("blog")], place.namespace)
    return place


def test_a_route_splits_exactly_and_is_put_back(routed: StrategyPlace) -> None:
    before, stable = routed.get("httproutes", "shop"), routed.pods()
    first = routed.deploy("2.0.0", share=10, route={"name": "shop"})
    assert first.actions == (
        "created shop-canary with 1 pod of 2.0.0",
        "created Service shop-canary",
        "gave shop-canary 10 % of HTTPRoute shop",
    )
    assert weights(routed) == {"shop": 270, "shop-canary": 30, "blog": 100}
    assert weights(routed, 1) == {"blog": 1}
    assert routed.served("shop") == ["shop:1.0.0"] * 3
    assert routed.served("shop-canary") == ["shop:2.0.0"]
    assert not routed.deploy("2.0.0", share=10, route={"name": "shop"}).changed

    route, pods = "PATCH httproutes/shop", "PATCH deployments/shop-canary"
    routed.deploy("2.0.0", share=50, route={"name": "shop"})
    assert routed.sent == [pods, route, pods]  # pods first; and last, what was reached
    assert weights(routed) == {"shop": 150, "shop-canary": 150, "blog": 100}
    assert routed.served("shop-canary") == ["shop:2.0.0"] * 2
    routed.deploy("2.0.0", share=10, route={"name": "shop"})
    assert routed.sent == [route, pods, pods]
    assert weights(routed) == {"shop": 270, "shop-canary": 30, "blog": 100}

    # the option is not needed to find the way back: the sibling knows its route
    assert routed.undo("2.0.0").actions == (
        "put the weights of HTTPRoute shop back",
        "removed Service shop-canary",
        "removed shop-canary with 2.0.0",
    )
    after = routed.get("httproutes", "shop")
    assert (after["spec"], after["metadata"].get("annotations")) == (
        before["spec"],
        before["metadata"].get("annotations"),
    )
    assert routed.pods() == stable
    assert routed.names("services") == ["blog", "shop"]

    routed.deploy("2.0.0", "r2", share=10, route={"name": "shop"})
    assert routed.promote("2.0.0", "r2", route={"name": "shop"}).current == "2.0.0"
    assert routed.get("httproutes", "shop")["spec"] == before["spec"]
    assert routed.served("shop") == ["shop:2.0.0"] * 3


def test_a_route_that_cannot_split_changes_nothing(routed: StrategyPlace) -> None:
    before = routed.story()
    routed.cluster.apply([http_route("other", {"blog": 1})], routed.namespace)
    cases = [
        ({"name": "shopp"}, r"has no HTTPRoute 'shopp' \(did you mean 'shop'\?\)\. It has other, shop"),
        ({"name": "other"}, "no backendRef to a Service that selects the pods of Deployment shop .* It sends to blog"),
        ({"name": "shop", "rule": "7"}, "has no rule '7'"),
        ({"name": "shop", "kind": "GRPCRoute"}, "has no GRPCRoute 'shop'"),
    ]
    for route, what in cases:
        with pytest.raises(OptionError, match=what):
            routed.deploy("2.0.0", share=10, route=route, token=9)
    theirs = service("shop-canary", {"app": "theirs"})
    routed.cluster.apply([theirs], routed.namespace)
    with pytest.raises(PlaceError, match="Service shop-canary is not ours"):
        routed.deploy("2.0.0", share=10, route={"name": "shop"})
    routed.cluster.delete(routed.path("services", "shop-canary"))
    assert routed.story() == before


def test_a_grpc_route_and_one_rule_of_it(routed: StrategyPlace) -> None:
    made = http_route("calls", {"shop": 1}, {"shop": 1})
    rules = [{"backendRefs": rule["backendRefs"]} for rule in made["spec"]["rules"]]
    routed.cluster.apply([{**made, "kind": "GRPCRoute", "spec": {"rules": rules}}], routed.namespace)
    path = routed.path("httproutes", "calls").replace("httproutes", "grpcroutes")
    before = routed.cluster.get(path)["spec"]
    routed.deploy("2.0.0", share=0.5, route={"name": "calls", "kind": "GRPCRoute", "rule": "1"})
    after = routed.cluster.get(path)["spec"]["rules"]
    assert after[0] == before["rules"][0]
    assert [(ref["name"], ref["weight"]) for ref in after[1]["backendRefs"]] == [("shop", 9950), ("shop-canary", 50)]
    routed.undo("2.0.0")
    assert routed.cluster.get(path)["spec"] == before


ROUTE = {"name": "shop"}


@pytest.mark.parametrize("routed", [1], indirect=True)
def test_killed_anywhere_and_asked_again_it_stands_and_it_goes(routed: StrategyPlace) -> None:
    start, stable = routed.story(), routed.pods()
    routed.deploy("2.0.0", share=25, token=5, route=ROUTE)
    whole = routed.story()
    routed.undo("2.0.0", token=5)
    lived = False
    for nth in range(1, 20):
        lived = routed.killed(nth, routed.deploy, "2.0.0", share=25, token=5 + nth, route=ROUTE)
        routed.deploy("2.0.0", share=25, token=5 + nth, route=ROUTE)
        assert routed.story() == whole
        assert weights(routed) == {"shop": 225, "shop-canary": 75, "blog": 100}
        lived = routed.killed(nth, routed.undo, "2.0.0", token=5 + nth) and lived
        routed.undo("2.0.0", token=5 + nth)
        assert routed.story() == start and routed.pods() == stable
        assert weights(routed) == {"shop": 3, "blog": 1}
        if lived:
            break
    assert lived and nth > 5


@pytest.mark.parametrize("routed", [1], indirect=True)
def test_killed_anywhere_on_the_way_in_it_gets_there_and_it_comes_back(routed: StrategyPlace) -> None:
    lived = back = False
    for nth in range(1, 30):
        release = f"2.0.{nth}"
        if not back:
            before = routed.story()
            routed.deploy(release, f"a{nth}", share=25, route=ROUTE)
            back = routed.killed(nth, routed.deploy, release, f"a{nth}", share=100, route=ROUTE)
            routed.undo(release, f"a{nth}", route=ROUTE)
            assert routed.story() == before
            assert weights(routed) == {"shop": 3, "blog": 1}

        release += "-good"
        routed.deploy(release, f"b{nth}", share=25, route=ROUTE)
        lived = routed.killed(nth, routed.promote, release, f"b{nth}", route=ROUTE)
        done = routed.promote(release, f"b{nth}", route=ROUTE)
        assert done.current == release and done.known_good
        assert set(routed.pods().values()) == {f"shop:{release}"}
        assert weights(routed) == {"shop": 3, "blog": 1}
        assert routed.names("services") == ["blog", "shop"]
        if lived:
            break
    assert lived and nth > 5
