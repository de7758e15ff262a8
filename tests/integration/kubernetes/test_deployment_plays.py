# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubernetes_rollout, kubernetes_rollback and kubernetes_rollout_info as people call them: in a play, with a ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from cluster import Cluster, deployment
from kube_place import KubePlace

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

ROLLOUT, ROLLBACK, INFO = (f"selfheal.delivery.kubernetes_{name}" for name in ("rollout", "rollback", "rollout_info"))
GROUP = "group/selfheal.delivery.all"
Task = Dict[str, Any]


class Play:
    """Plays over localhost; connection and place come from `module_defaults`, as people have them."""

    def __init__(self, folder: Path, env: Dict[str, str], place: KubePlace) -> None:
        self.folder, self.env, self.place = folder, env, place
        self.ledger = folder / "ledger.sqlite"
        self.env["SELFHEAL_LEDGER"] = str(self.ledger)

    def run(self, *tasks: Task, options: "tuple[str, ...]" = ()) -> List[Dict[str, Any]]:
        steps: List[Task] = [
            {**task, "register": f"result{nth}", "ignore_errors": True} for nth, task in enumerate(tasks)
        ]
        told = self.folder / "told.json"
        results = ", ".join(str(step["register"]) for step in steps)
        copy = {"content": "{{ [%s] | to_json }}" % results, "dest": str(told)}
        steps.append({"ansible.builtin.copy": copy, "check_mode": False, "diff": False})
        where = {"kubeconfig": str(self.place.cluster.kubeconfig), "namespace": self.place.namespace, "name": "shop"}
        play = {"hosts": "localhost", "gather_facts": False, "module_defaults": {GROUP: where}, "tasks": steps}
        book = self.folder / "play.yml"
        book.write_text(json.dumps([play]))
        done = subprocess.run(
            ["ansible-playbook", "-e", f"ansible_python_interpreter={sys.executable}", str(book), *options],
            env=self.env,
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.shown = done.stdout + done.stderr
        answers: List[Dict[str, Any]] = json.loads(told.read_text())
        return answers


@pytest.fixture
def play(cluster: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]) -> Play:
    cluster.apply([deployment("shop", "shop:1.0.0", 1)], namespace)
    cluster.wait_available(namespace, "shop")
    return Play(tmp_path, ansible_env, KubePlace(cluster, namespace))


@pytest.mark.demo_sized
def test_deployed_promoted_taken_back_and_kept_in_the_ledger(play: Play) -> None:
    service, images = {"service": "shop"}, {"images": {"app": "shop:{release}"}}
    adopted, promoted, deployed, would, back, again, info = play.run(
        {ROLLOUT: {**service, "release": "1.0.0"}},
        {ROLLOUT: {**service, "release": "1.0.0", "state": "promoted"}},
        {ROLLOUT: {**service, **images, "release": "2.0.0"}},
        {ROLLBACK: {**service, "mark_bad": "it fails"}, "check_mode": True},
        {ROLLBACK: {**service, "mark_bad": "it fails"}},
        {ROLLBACK: {**service, "mark_bad": "it fails"}},
        {INFO: {}},
        options=("--diff",),
    )
    assert [adopted["actions"], deployed["actions"]] == [["adopted 1.0.0"], ["switched to 2.0.0"]]
    assert would["actions"] == back["actions"] == ["marked 2.0.0 as bad", "switched to 1.0.0"]
    assert (would["changed"], back["changed"], again["changed"]) == (True, True, False)
    assert (info["current"], info["settled"]) == ("1.0.0", True)
    assert info["releases"][1]["bad"]["reason"] == "it fails"
    assert all(result["recorded"] for result in (adopted, promoted, deployed, back, again))
    assert '+        "app": "shop:2.0.0"' in play.shown
    ledger = open_ledger({"path": str(play.ledger)}, create=False)
    try:
        bodies: List[Any] = [entry.body for entry in ledger.entries("shop") if entry.kind == "outcome"]
        assert ledger.verify() is None
    finally:
        ledger.close()
    assert bodies[1]["template"]["spec"]["containers"] and "template" not in promoted
    assert bodies[1]["images"]["app"]["ids"] == promoted["images"]["app"]["ids"]
    assert info["token"] is not None


def test_what_goes_wrong_is_told(play: Play) -> None:
    cluster, release = play.place.cluster, {"service": "shop", "release": "2.0.0"}
    dead = str(cluster.kubeconfig_with(server="https://127.0.0.1:9"))
    expired = str(cluster.kubeconfig_with(token="expired"))
    before = play.place.seen()["metadata"]["resourceVersion"]
    results = play.run(
        {ROLLOUT: {**release, "context": "tested"}},
        {ROLLOUT: {**release, "kubeconfig": "/nowhere/config"}},
        {ROLLOUT: {**release, "kubeconfig": dead, "request_timeout": 0.5}},
        {ROLLOUT: {**release, "kubeconfig": expired}},
        {ROLLOUT: {**release, "name": "shap"}},
        {ROLLBACK: {"service": "shop", "to": "1.0.0", "to_revision": 1}},
        {ROLLBACK: {"service": "shop", "to_revision": 7}},
        {ROLLOUT: {"service": "shop"}},
    )
    reasons = (
        "has no context 'tested' (did you mean 'testbed'?)",
        "kubeconfig /nowhere/config is not there",
        "could not be asked in 0.5 s",
        "does not accept who we are",
        "has no Deployment 'shap' (did you mean 'shop'?)",
        "parameters are mutually exclusive: to|to_revision",
        "has no revision 7",
        "state is deployed but all of the following are missing: release",
    )
    for result, reason in zip(results, reasons, strict=True):
        assert reason in result["msg"], result
        assert (result["failed"], result["changed"]) == (True, False)
    assert play.place.seen()["metadata"]["resourceVersion"] == before


def test_what_kubernetes_has_pruned_is_restored_by_the_ledger(play: Play) -> None:
    cluster, namespace = play.place.cluster, play.place.namespace
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/shop"
    cluster.patch(path, {"spec": {"revisionHistoryLimit": 0}})
    about = {"service": "shop", "images": {"app": "shop:{release}"}}
    rollout, rollback = "selfheal.delivery.kubernetes_rollout", "selfheal.delivery.kubernetes_rollback"
    play.run(
        {rollout: {**about, "release": "1.0.0"}},
        {rollout: {"service": "shop", "release": "1.0.0", "state": "promoted"}},
        {rollout: {**about, "release": "2.0.0"}},
    )
    cluster.wait(lambda: len(play.place.revisions()) == 1, "the old revision is pruned")
    back, other = play.run(
        {rollback: {"service": "shop", "mark_bad": "it fails"}},
        {rollback: {"service": "shop", "to": "0.9.0"}},
    )
    assert (back["changed"], back["current"], play.place.image()) == (True, "1.0.0", "shop:1.0.0")
    assert "release 1.0.0 is pruned on localhost: it is restored by what the ledger kept of it" in play.shown
    assert other["failed"] and "0.9.0: it is not on this place" in other["msg"]
