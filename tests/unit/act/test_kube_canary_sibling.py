# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands beside a stable Deployment: how many pods, which labels, which manifest, and whose it is."""

from __future__ import annotations

import copy
from typing import Any, Dict, Mapping, Optional

import pytest
from cluster import deployment, service
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube import sibling
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.marks import journal_of, token_of
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import DEPLOYED, SETTLED, Journal, Release
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError

LABELS = {"app": "shop", "tier": "web"}
stables = st.integers(min_value=1, max_value=500)
shares = st.floats(min_value=0.01, max_value=99.99) | st.integers(min_value=1, max_value=99).map(float)


def stable(**spec: Any) -> Dict[str, Any]:
    made = deployment("shop", "shop:1.0.0", 4, LABELS, **spec)
    made["metadata"].update(namespace="prod", uid="u-1", resourceVersion="7", generation=3)
    made["metadata"]["annotations"] = {"meta.helm.sh/release-name": "shop", "deployment.kubernetes.io/revision": "9"}
    return made


def plan(of: Mapping[str, Any], apart: Optional[sibling.Apart] = None) -> Dict[str, Any]:
    template = copy.deepcopy(of["spec"]["template"])
    template["spec"]["containers"][0]["image"] = "shop:2.0.0"
    release = Release("2.0.0", complete=True)
    journal = Journal(DEPLOYED, "1.0.0", "2.0.0", SETTLED, 5.0, rollout="r1", token=8)
    return sibling.manifest(sibling.Plan(of, template, 2, release, journal, token=8, apart=apart))


@given(stables, shares)
def test_pods_for_a_route_carry_their_share_and_are_never_none_or_more_than_all(pods: int, share: float) -> None:
    beside = sibling.by_weight(pods, share)
    assert 1 <= beside <= pods
    assert beside >= pods * share / 100 - 1e-6
    assert beside == 1 or (beside - 1) < pods * share / 100


@given(stables, st.floats(min_value=0.01, max_value=50))
def test_pods_behind_one_service_are_as_near_to_the_share_as_pods_can_be(pods: int, share: float) -> None:
    beside = sibling.by_replicas(pods, share)
    assert 1 <= beside <= pods
    if beside > 1:  # one pod more or less would not be nearer, by the pods that are wanted
        assert abs(beside - pods * share / (100 - share)) <= 0.5 + 1e-9
    assert 0 < sibling.real_share(pods, beside) <= 50


@given(st.integers(min_value=2, max_value=500), st.floats(min_value=60.5, max_value=99.99))
def test_more_canaries_than_stable_pods_are_refused(pods: int, share: float) -> None:
    with pytest.raises(OptionError, match="takes more pods than the .* that are stable"):
        sibling.by_replicas(pods, share)


@pytest.mark.parametrize("pods, share, beside", [(10, 10, 1), (9, 10, 1), (10, 50, 10), (20, 25, 7), (1, 10, 1)])
def test_pods_behind_one_service(pods: int, share: float, beside: int) -> None:
    assert sibling.by_replicas(pods, share) == beside


@pytest.mark.parametrize("share", [0, -1, 100.5, True, None, "10", float("nan"), float("inf")])
def test_what_is_no_share(share: object) -> None:
    with pytest.raises(OptionError, match="not a percentage above 0 and up to 100"):
        sibling.checked_share(share)


def test_a_sibling_is_the_stable_one_but_for_what_makes_it_a_canary() -> None:
    of = stable(paused=True, minReadySeconds=3, revisionHistoryLimit=10)
    before = copy.deepcopy(of)
    made = plan(of)

    assert of == before
    about, spec = made["metadata"], made["spec"]
    assert (about["name"], about["namespace"], about["labels"]) == (
        "shop-canary",
        "prod",
        {**LABELS, "selfheal.delivery/track": "canary"},
    )
    assert set(about) == {"name", "namespace", "labels", "annotations", "ownerReferences"}
    assert all(key.startswith("selfheal.delivery/") for key in about["annotations"])
    assert about["annotations"]["selfheal.delivery/rollout"] == "r1"
    assert [about["ownerReferences"][0][key] for key in ("uid", "controller", "blockOwnerDeletion")] == [
        "u-1",
        True,
        False,
    ]
    labels = {**LABELS, "selfheal.delivery/track": "canary"}
    assert spec["selector"] == {"matchLabels": labels}
    assert spec["template"]["metadata"]["labels"] == labels
    assert spec["template"]["spec"]["containers"][0]["image"] == "shop:2.0.0"
    assert {key: spec.get(key) for key in ("replicas", "minReadySeconds", "revisionHistoryLimit", "paused")} == {
        "replicas": 2,
        "minReadySeconds": 3,
        "revisionHistoryLimit": 1,
        "paused": None,
    }
    journal = journal_of(made)
    assert sibling.release_named(made) == "2.0.0"
    assert journal and (journal.rollout, journal.to) == ("r1", "2.0.0")
    assert token_of(made) == 8


def test_a_sibling_that_is_kept_apart_is_not_selected_but_by_its_own_service() -> None:
    of = stable()
    of["spec"]["selector"]["matchExpressions"] = [
        {"key": "app", "operator": "Exists"},
        {"key": "tier", "operator": "Exists"},
    ]
    old = service("shop", {"app": "shop"})
    made = plan(of, sibling.apart_of([old], "canary"))
    labels = sibling.pod_labels(made)
    assert labels["app"] == "shop-canary"
    assert made["spec"]["selector"]["matchLabels"]["app"] == "shop-canary"
    assert made["spec"]["selector"]["matchExpressions"] == [{"key": "tier", "operator": "Exists"}]
    assert not sibling.selecting([old], labels)
    assert sibling.selecting([old], sibling.pod_labels(of)) == [old]


def test_which_label_keeps_pods_apart() -> None:
    several = [service("a", {"app": "shop", "tier": "web"}), service("b", {"tier": "web"})]
    assert sibling.apart_of(several, "green") == sibling.Apart("tier", "web", "web-green")
    assert sibling.apart_of(several[:1], "green") == sibling.Apart("app", "shop", "shop-green")
    long = sibling.apart_of([service("a", {"app": "x" * 63})], "canary").value
    assert (len(long), long[-7:]) == (63, "-canary")
    with pytest.raises(OptionError, match="Services a, c have no label in common"):
        sibling.apart_of([several[0], service("c", {"zone": "x"})], "green")


def test_services_without_a_selector_select_nothing() -> None:
    external = service("external")
    external["spec"]["selector"] = None
    other = service("other", {"app": "shop", "tier": "db"})
    assert sibling.selecting([external, other, service("shop")], LABELS) == [service("shop")]


@pytest.mark.parametrize(
    "change, whose",
    [
        ({"labels": {}}, "of Deployment shop"),
        ({"annotations": {}}, "of Deployment shop"),
        ({"ownerReferences": [{"kind": "App", "name": "other", "uid": "u-2"}]}, "of App other"),
        ({"ownerReferences": [], "labels": {"app.kubernetes.io/managed-by": "Helm"}}, "managed by Helm"),
        ({"ownerReferences": [], "managedFields": [{"manager": "kubectl"}]}, "made by kubectl"),
        ({"ownerReferences": []}, "somebody else's"),
    ],
)
def test_what_is_not_ours_is_said_with_its_owner(change: Dict[str, Any], whose: str) -> None:
    made = plan(stable())
    sibling.check_ours(made, stable(), "canary")
    made["metadata"].update(change)
    with pytest.raises(PlaceError, match=f"Deployment shop-canary is not ours but {whose}"):
        sibling.check_ours(made, stable(), "canary")


def test_what_it_runs_is_told_by_release_and_content() -> None:
    assert sibling.runs(plan(stable()), plan(stable(minReadySeconds=5)))
    other = stable()
    other["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}]
    assert not sibling.runs(plan(stable()), plan(other))
    assert not sibling.runs(plan(stable()), plan(stable(), sibling.Apart("app", "shop", "shop-canary")))


def test_a_restart_of_the_stable_one_is_no_deploy_and_does_not_go_to_the_sibling() -> None:
    restarted = stable()
    restarted["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    assert sibling.base_of(restarted) == sibling.base_of(stable())
    assert sibling.runs(plan(restarted), plan(stable()))
    restarted["spec"]["template"]["metadata"]["annotations"]["team"] = "blue"
    assert sibling.base_of(restarted) != sibling.base_of(stable())


@pytest.mark.parametrize("apart", [None, sibling.Apart("app", "shop", "shop-canary")])
def test_a_siblings_template_without_what_makes_it_one(apart: Optional[sibling.Apart]) -> None:
    of = stable()
    plain = sibling.plain_template(plan(of, apart), of)
    assert plain["metadata"] == of["spec"]["template"]["metadata"]
    assert plain["spec"]["containers"][0]["image"] == "shop:2.0.0"
