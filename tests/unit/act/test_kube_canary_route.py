# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The weights of a route: split exactly, and put back exactly, whatever stands beside them."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional

import pytest
from cluster import service
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube import route
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.sibling import Apart
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError

OPTION = route.RouteOption("shop")
STABLE = {"apiVersion": "apps/v1", "metadata": {"name": "shop", "uid": "u-1"}}
shares = st.integers(min_value=1, max_value=99).map(float) | st.floats(min_value=0.01, max_value=99.99)


def ref(name: str, weight: Optional[int] = 1, **more: Any) -> Dict[str, Any]:
    told: Dict[str, Any] = {"group": "", "kind": "Service", "name": name, "port": 80, **more}
    return told if weight is None else {**told, "weight": weight}


def made(*rules: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {
        "metadata": {"name": "shop", "namespace": "prod", "resourceVersion": "5", "annotations": {"other": "kept"}},
        "spec": {"rules": [{"matches": [{"path": {"value": f"/{i}"}}], "backendRefs": r} for i, r in enumerate(rules)]},
    }


def split(of: Dict[str, Any], share: float, option: route.RouteOption = OPTION) -> Dict[str, Any]:
    return route.split(of, option, workload="shop", service="shop", canary="shop-canary", share=share)


def weights(of: Dict[str, Any], rule: int = 0) -> Dict[str, Any]:
    return {each["name"]: each.get("weight") for each in of["spec"]["rules"][rule]["backendRefs"]}


@given(st.integers(min_value=1, max_value=100), shares)
def test_the_total_stays_and_no_side_is_ever_nothing(weight: int, share: float) -> None:
    stable, canary, factor = route.weights_of(weight, share)
    assert stable + canary == weight * factor
    assert stable > 0 and canary > 0
    assert abs(canary / (stable + canary) - share / 100) <= 0.5 / factor + 1e-9


backends = st.lists(
    st.tuples(st.sampled_from(["shop", "blog", "docs"]), st.none() | st.integers(min_value=1, max_value=100)),
    min_size=1,
    max_size=3,
    unique_by=lambda pair: pair[0],
)


@given(st.lists(backends, min_size=1, max_size=3), st.lists(shares, min_size=1, max_size=3))
def test_whatever_is_split_is_put_back_exactly(rules: List[Any], steps: List[float]) -> None:
    before = made(*([ref(name, weight) for name, weight in rule] for rule in rules))
    now = before
    for share in steps:
        now = split(now, share)
        for old, new in zip(before["spec"]["rules"], now["spec"]["rules"], strict=True):
            _same_shares_among_the_others(old["backendRefs"], new["backendRefs"])
    assert now == split(before, steps[-1])
    back = route.restored(now, "shop")
    assert back == before
    assert route.change(before, back) is None


def _same_shares_among_the_others(old: List[Dict[str, Any]], new: List[Dict[str, Any]]) -> None:
    """Together, the stable and the canary get what the stable got before."""

    def parts(refs: List[Dict[str, Any]]) -> Dict[str, float]:
        told: Dict[str, float] = {}
        for each in refs:
            name = each["name"].replace("-canary", "")
            told[name] = told.get(name, 0) + (1 if each.get("weight") is None else each["weight"])
        total = sum(told.values())
        return {name: round(part / total, 9) for name, part in told.items()}

    assert parts(new) == parts(old)


def test_a_share_of_the_only_backend() -> None:
    now = split(made([ref("shop", 7, filters=[{"type": "URLRewrite"}])]), 10)
    assert weights(now) == {"shop": 90, "shop-canary": 10}
    assert now["spec"]["rules"][0]["backendRefs"][1]["filters"] == [{"type": "URLRewrite"}]
    assert now["metadata"]["annotations"]["other"] == "kept"
    assert weights(split(now, 0.5)) == {"shop": 9950, "shop-canary": 50}


def test_others_keep_their_part() -> None:
    now = split(made([ref("shop", 3), ref("blog", 1), ref("docs", 0)]), 50)
    assert weights(now) == {"shop": 150, "shop-canary": 150, "blog": 100, "docs": 0}


def test_rules_without_the_service_and_other_namespaces_stay() -> None:
    before = made([ref("blog")], [ref("shop", namespace="other")], [ref("shop", group="x", kind="Bucket")], [])
    before["spec"]["rules"].append({"backendRefs": [ref("shop")]})
    now = split(before, 20)
    assert now["spec"]["rules"][:4] == before["spec"]["rules"][:4]
    assert weights(now, 4) == {"shop": 80, "shop-canary": 20}


def test_one_rule_by_index_or_by_name() -> None:
    before = made([ref("shop")], [ref("shop")])
    before["spec"]["rules"][1]["name"] = "api"
    for rule in ("1", "api"):
        now = split(before, 20, route.RouteOption("shop", rule=rule))
        assert (weights(now, 0), weights(now, 1)) == ({"shop": 1}, {"shop": 80, "shop-canary": 20})
    with pytest.raises(OptionError, match=r"no rule 'apl' \(did you mean 'api'\?\)\. It has 0, api"):
        split(before, 20, route.RouteOption("shop", rule="apl"))


def test_what_others_changed_meanwhile_stays() -> None:
    now = split(made([ref("shop"), ref("blog", 2)]), 10)
    now["spec"]["rules"].insert(0, {"backendRefs": [ref("new")]})
    now["spec"]["rules"][1]["backendRefs"].append(ref("docs", 4))
    back = route.restored(now, "shop")
    assert weights(back, 0) == {"new": 1}
    assert {**weights(back, 1), "docs": 4} == weights(back, 1)
    assert "shop-canary" not in weights(back, 1)
    assert "selfheal.delivery/weights" not in back["metadata"]["annotations"]

    applied = copy.deepcopy(now)
    applied["spec"] = made([ref("shop", 6)])["spec"]  # somebody put the whole route anew
    assert weights(route.restored(applied, "shop")) == {"shop": 6}


def test_two_workloads_share_one_route() -> None:
    before = made([ref("shop"), ref("blog")])
    now = route.split(split(before, 10), OPTION, workload="blog", service="blog", canary="blog-canary", share=50)
    assert route.is_split(now, "shop") and route.is_split(now, "blog")
    only = route.restored(now, "blog")
    assert weights(only) == {"shop": 90, "shop-canary": 10, "blog": 100}
    assert route.restored(only, "shop") == before


def test_a_change_is_pinned_and_takes_the_note_away() -> None:
    before = made([ref("shop")])
    there = route.change(before, split(before, 10))
    assert there and there["metadata"]["resourceVersion"] == "5"
    back = route.change(split(before, 10), before)
    assert back == {
        "metadata": {"resourceVersion": "5", "annotations": {"selfheal.delivery/weights": None}},
        "spec": {"rules": before["spec"]["rules"]},
    }


@pytest.mark.parametrize(
    "refs, what",
    [
        ([ref("shop", 0)], "the weight 0: it gets no request to share"),
        ([ref("shop"), ref("shop")], "names one backend twice"),
        ([ref("shop", 20_000), ref("blog")], "times 100 they exceed 1000000"),
    ],
)
def test_weights_that_cannot_be_split(refs: List[Dict[str, Any]], what: str) -> None:
    with pytest.raises(OptionError, match=what):
        split(made(refs), 10)


def test_the_backend_of_a_workload() -> None:
    before = made([ref("shop"), ref("blog")], [ref("front")])
    services = {name: service(name, {"app": "shop"}) for name in ("shop", "inner")}
    assert route.backend_of(before, OPTION, services, "shop") == "shop"
    with pytest.raises(OptionError, match="no backendRef to a Service that selects the pods of shop. It sends to blog"):
        route.backend_of(before, OPTION, {"inner": services["inner"]}, "shop")
    with pytest.raises(OptionError, match="by several Services: front, shop"):
        route.backend_of(before, OPTION, {**services, "front": services["inner"]}, "shop")


def test_the_option() -> None:
    assert route.route_option(None) is None
    assert route.route_option({"name": "shop", "kind": "GRPCRoute", "rule": 0}) == route.RouteOption(
        "shop", "GRPCRoute", "0"
    )
    with pytest.raises(OptionError, match="route.kind 'HTTProute' is not a route .did you mean 'HTTPRoute'"):
        route.route_option({"name": "shop", "kind": "HTTProute"})
    with pytest.raises(OptionError, match="route.name '../x' cannot be a name"):
        route.route_option({"name": "../x"})


def test_the_service_of_a_canary() -> None:
    old = service("shop", {"app": "shop"})
    old["metadata"]["namespace"] = "prod"
    old["spec"].update(clusterIP="10.96.0.7", type="NodePort", sessionAffinity="ClientIP", externalIPs=["1.2.3.4"])
    old["spec"]["ports"][0]["nodePort"] = 30001
    about = {"labels": {"a": "b"}, "annotations": {}}
    new = route.canary_service(old, "shop-canary", Apart("app", "shop", "shop-canary"), STABLE, about)
    assert new["spec"] == {
        "sessionAffinity": "ClientIP",
        "selector": {"app": "shop-canary"},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }
    assert new["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    old["spec"]["clusterIP"] = "None"
    assert route.canary_service(old, "x", Apart("app", "shop", "y"), STABLE, about)["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    "edited", ['{"shop": 7}', '{"shop": {"canary": "other", "rules": {"a": 1}}}', '{"shop": {"rules": [1]}}']
)
def test_a_record_that_somebody_edited_loses_weights_and_touches_nobody_elses_backend(edited: str) -> None:
    before = made([ref("shop", 10), ref("other", 5)])
    new = split(before, 50)
    new["metadata"]["annotations"][route.WEIGHTS] = edited
    back = route.restored(new, "shop")
    assert [each["name"] for each in back["spec"]["rules"][0]["backendRefs"]] == ["shop", "other"]
