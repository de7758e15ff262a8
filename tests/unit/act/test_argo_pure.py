# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Rollout of Argo Rollouts says, its steps and its pod template: pure functions on objects."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo import status, steps
from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo.template import (
    alike,
    covers,
    original,
    same_but_false,
    wished,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.argo.view import view_of
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.marks import (
    journal_of,
    release_mark,
    workload_marks,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Good, Journal, Release
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError

Doc = Dict[str, Any]
STEPS: List[Doc] = [
    {"setWeight": 5},
    {"pause": {"duration": "10m"}},
    {"setWeight": 20},
    {"analysis": {}},
    {"pause": {}},
    {"setWeight": 60},
    {"pause": {}},
]


def rollout(canary: object = None, generation: int = 2, **told: object) -> Doc:
    strategy = {"canary": {"steps": STEPS} if canary is None else canary}
    template = {"spec": {"containers": [{"name": "app", "image": "shop:1"}]}}
    return {
        "metadata": {"name": "shop", "uid": "u", "generation": generation},
        "spec": {"strategy": strategy, "template": template},
        "status": {"observedGeneration": str(generation), **told},
    }


def replicaset(number: int, **notes: str) -> Doc:
    owner = {"uid": "u", "controller": True, "kind": "Rollout", "name": "shop"}
    return {
        "metadata": {
            "name": f"shop-{number}",
            "uid": f"rs{number}",
            "ownerReferences": [owner],
            "labels": {status.HASH: f"h{number}"},
            "creationTimestamp": f"2026-01-01T00:00:0{number}Z",
            "annotations": {"rollout.argoproj.io/revision": str(number), **notes},
        },
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": f"shop:{number}"}]}}},
    }


@pytest.mark.parametrize(("share", "index"), [(1, 4), (20, 4), (20.5, 6), (60, 6)])
def test_the_pause_for_a_share_is_the_first_that_waits_for_somebody(share: float, index: int) -> None:
    assert steps.hold_at(rollout(), share).index == index


def test_no_pause_has_the_share() -> None:
    listed = r"Its pauses are: 5 % \(10m\), 20 % \(until promoted\), 60 % \(until promoted\)"
    with pytest.raises(OptionError, match=listed):
        steps.hold_at(rollout(), 61)
    with pytest.raises(OptionError, match="Its pauses are: none"):
        steps.hold_at(rollout(canary={}), 10)
    for share in (0, 101):
        with pytest.raises(OptionError, match="above 0 and up to 100"):
            steps.hold_at(rollout(), share)


@pytest.mark.parametrize(
    ("told", "share"),
    [
        ({"currentStepIndex": 0}, 5),
        ({"currentStepIndex": 4}, 20),
        ({"currentStepIndex": 7}, 100),
        ({"currentStepIndex": 4, "abort": True}, 0),
        ({"currentPodHash": "h", "stableRS": "h"}, 100),
    ],
)
def test_the_share_at_a_step(told: Doc, share: float) -> None:
    assert steps.share_of(rollout(**told)) == share


def test_weights_are_parts_of_the_routers_largest() -> None:
    canary = {"steps": [{"setWeight": 50}, {"pause": {}}], "trafficRouting": {"maxTrafficWeight": 1000}}
    assert steps.share_of(rollout(canary=canary, currentStepIndex=1)) == 5


@pytest.mark.parametrize(
    ("told", "phase"),
    [
        ({"phase": "Healthy"}, "Healthy"),
        ({"phase": "Healthy", "observedGeneration": "1"}, "Progressing"),
        ({"phase": "Paused", "controllerPause": True}, "Progressing"),
        ({"phase": "Paused", "controllerPause": True, "pauseConditions": [{"reason": "CanaryPauseStep"}]}, "Paused"),
        ({"phase": "Degraded", "conditions": [{"type": "Progressing", "reason": "RolloutAborted"}]}, "Progressing"),
        (
            {"phase": "Degraded", "abort": True, "conditions": [{"type": "Progressing", "reason": "RolloutAborted"}]},
            "Degraded",
        ),
        ({}, "Progressing"),
    ],
)
def test_a_phase_that_is_older_than_what_was_asked_says_nothing(told: Doc, phase: str) -> None:
    assert status.phase(rollout(**told)) == phase


def test_why_it_stops() -> None:
    invalid = rollout(phase="Degraded", conditions=[{"type": "InvalidSpec", "message": "no selector"}])
    assert status.stops(invalid) == "InvalidSpec: no selector"
    late = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
    assert status.stops(rollout(phase="Degraded", conditions=[late])) == "ProgressDeadlineExceeded: timed out"
    assert status.stops(rollout(phase="Degraded", observedGeneration="1", conditions=[late])) is None
    assert status.stops(rollout(phase="Degraded", message="RolloutAborted: x", abort=True)) == "RolloutAborted: x"
    assert status.stops(rollout(phase="Paused")) is None


def test_images_and_a_patch_are_laid_over_the_template_by_name() -> None:
    template: Doc = {
        "metadata": {"annotations": {"a": "1", "b": "2"}},
        "spec": {
            "initContainers": [{"name": "migrate", "image": "shop:1"}],
            "containers": [
                {"name": "app", "image": "shop:1", "env": [{"name": "A", "value": "1"}], "args": ["x", "y"]},
                {"name": "proxy", "image": "proxy:1"},
                {"name": "old", "image": "old:1"},
            ],
        },
    }
    patch = {
        "metadata": {"annotations": {"a": None}},
        "spec": {
            "containers": [
                {"name": "app", "env": [{"name": "B", "value": "2"}], "args": ["z"]},
                {"name": "old", "$patch": "delete"},
            ]
        },
    }
    made = wished(template, {"app": "shop:{release}", "migrate": "shop:{release}"}, patch, "2.0.0")
    app, proxy = made["spec"]["containers"]
    assert (app["image"], proxy["image"]) == ("shop:2.0.0", "proxy:1")
    assert made["spec"]["initContainers"][0]["image"] == "shop:2.0.0"
    assert [each["name"] for each in app["env"]] == ["A", "B"] and app["args"] == ["z"]
    assert made["metadata"]["annotations"] == {"b": "2"}
    assert template["spec"]["containers"][0]["image"] == "shop:1"
    with pytest.raises(OptionError, match="an item of a list has no name"):
        wished(template, {}, {"spec": {"containers": [{"image": "shop:2"}]}}, "2.0.0")


def test_what_the_controller_added_to_a_template_is_not_brought_back() -> None:
    ours = {"weight": 1, "podAffinityTerm": {"labelSelector": {"matchExpressions": [{"key": status.HASH}]}}}
    theirs = {"weight": 2, "podAffinityTerm": {"topologyKey": "zone"}}
    when = "preferredDuringSchedulingIgnoredDuringExecution"
    added = '{"labels": {"role": "canary"}}'
    thing = replicaset(1, **{"rollout.argoproj.io/ephemeral-metadata": added})
    template = thing["spec"]["template"]
    template["metadata"] = {"labels": {"app": "shop", "role": "canary", status.HASH: "h1"}}
    template["spec"]["affinity"] = {"podAntiAffinity": {when: [ours, theirs]}}
    made = original(thing)
    assert made["metadata"]["labels"] == {"app": "shop"}
    assert made["spec"]["affinity"] == {"podAntiAffinity": {when: [theirs]}}
    template["spec"]["affinity"] = {"podAntiAffinity": {when: [ours]}}
    assert "affinity" not in original(thing)["spec"]


def test_a_template_with_defaults_covers_the_one_without() -> None:
    bare = {"spec": {"containers": [{"name": "app", "image": "shop:1", "resources": {}}]}}
    live = {"spec": {"restartPolicy": "Always", "containers": [{"name": "app", "image": "shop:1"}]}}
    assert covers(live, bare) and not covers(bare, live)
    assert not covers(live, {"spec": {"containers": [*bare["spec"]["containers"], {"name": "two"}]}})


@pytest.mark.parametrize(("one", "other"), [("0.5", "500m"), ("1", "1000m"), ("1024Mi", "1Gi"), ("1.0", "1"), (2, "2")])
def test_a_template_in_another_spelling_is_the_same(one: object, other: object) -> None:
    def template(amount: object, **more: object) -> Doc:
        return {"spec": {"containers": [{"name": "app", "resources": {"limits": {"cpu": amount}}, **more}]}}

    assert alike(template(one, stdin=False, env=[]), template(other))
    assert not alike(template(one), template("2.5"))
    private = template(one, securityContext={"allowPrivilegeEscalation": False})
    assert not alike(private, template(one)) and same_but_false(private, template(one))


def test_the_stable_release_is_gone_back_to_first_unless_it_is_bad() -> None:
    good = Release("one", complete=True, known_good=Good(100.0))
    sets = [replicaset(1, **release_mark(good)), replicaset(2), replicaset(3)]
    trying = view_of(rollout(currentPodHash="h3", stableRS="h2", phase="Paused"), sets)
    assert (trying.situation.current, trying.stable and trying.stable.id) == ("shop-3", "shop-2")
    stable = trying.deciding.find("shop-2")
    assert stable is not None and stable.known_good is not None and stable.known_good.at > 100
    done = view_of(rollout(currentPodHash="h3", stableRS="h3", phase="Healthy"), sets)
    assert [release.id for release in done.deciding.releases if release.trusted] == ["one"]


def test_others_replicasets_with_the_same_labels_are_not_ours() -> None:
    other = replicaset(2)
    other["metadata"]["ownerReferences"][0]["uid"] = "v"
    assert [each.name for each in view_of(rollout(), [replicaset(1), other]).revisions] == ["shop-1"]


def test_a_revision_is_known_by_its_earlier_numbers() -> None:
    again = replicaset(4, **{"rollout.argoproj.io/revision-history": "1,2"})
    view = view_of(rollout(), [again, replicaset(3)])
    assert [revision and revision.name for revision in map(view.numbered, (4, 1, 3, 7))] == [
        "shop-4",
        "shop-4",
        "shop-3",
        None,
    ]


def test_a_journal_is_written_without_what_go_escapes() -> None:
    journal = Journal("deployed", "1", "2", "failed", 1.0, problem="failed (1) > limit & <that> is “it”")
    (text,) = workload_marks(journal, None).values()
    assert not set("<>&“") & set(text)
    assert journal_of({"metadata": {"annotations": {"selfheal.delivery/journal": text}}}) == journal
