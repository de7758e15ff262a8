# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""argo_rollout as people call it: in a play with a ledger, with the connection from module_defaults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

from cluster import Cluster, rollout

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

ARGO = "selfheal.delivery.argo_rollout"
GROUP = "group/selfheal.delivery.all"
STEPS = [{"setWeight": 25}, {"pause": {}}, {"setWeight": 50}, {"pause": {}}]
Result = Dict[str, Any]


def run(folder: Path, env: Dict[str, str], defaults: Dict[str, str], tasks: List[Dict[str, Any]]) -> List[Result]:
    told = folder / "told.json"
    steps = [{**task, "register": f"result{nth}", "ignore_errors": True} for nth, task in enumerate(tasks)]
    results = ", ".join(str(step["register"]) for step in steps)
    copy = {"content": "{{ [%s] | to_json }}" % results, "dest": str(told)}
    last = {"ansible.builtin.copy": copy, "check_mode": False, "diff": False}
    play = {"hosts": "localhost", "gather_facts": False, "module_defaults": {GROUP: defaults}, "tasks": [*steps, last]}
    book = folder / "play.yml"
    book.write_text(json.dumps([play]))
    argv = ["ansible-playbook", "--diff", "-e", f"ansible_python_interpreter={sys.executable}", str(book)]
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    answers: List[Result] = json.loads(told.read_text())
    return answers


def test_a_canary_in_a_play_and_what_the_ledger_keeps(
    argo: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    made = argo.apply([rollout("shop", "shop:1.0.0", 4, strategy={"canary": {"steps": STEPS}})], namespace)[0]
    argo.wait(lambda: argo.get(argo.path_of(made)).get("status", {}).get("phase") == "Healthy", "shop is healthy")
    path = tmp_path / "ledger.sqlite"
    defaults = {"service": "shop", "kubeconfig": str(argo.kubeconfig), "namespace": namespace, "name": "shop"}
    new: Dict[str, Any] = {"release": "2.0.0", "images": {"app": "shop:{release}"}}
    would, promoted, canary, bad_share, back, again = run(
        tmp_path,
        {**ansible_env, "SELFHEAL_LEDGER": str(path)},
        defaults,
        [
            {ARGO: {**new, "share": 25}, "check_mode": True},
            {ARGO: {"release": "shop-stable", "state": "promoted"}},
            {ARGO: {**new, "share": 25}},
            {ARGO: {**new, "share": 75}},
            {ARGO: {"state": "known_good", "release": "2.0.0", "mark_bad": "5 % failed"}},
            {ARGO: {"state": "known_good", "release": "2.0.0", "mark_bad": "5 % failed"}},
        ],
    )
    assert (would["changed"], would["diff"]["after"]["images"]) == (True, {"app": "shop:2.0.0"})
    assert promoted["failed"] and "cannot promote release shop-stable: shop-" in promoted["msg"]
    assert (canary["share"], canary["phase"], canary["stable"]) == (25, "Paused", canary["before"])
    assert bad_share["failed"] and "no step waits at 75 % or more" in bad_share["msg"]
    assert (back["changed"], back["phase"], back["recorded"]) == (True, "Healthy", True)
    assert back["current"] == back["stable"] and not again["changed"]
    ledger = open_ledger({"path": str(path)}, create=False)
    try:
        entries = list(ledger.entries("shop"))
    finally:
        ledger.close()
    outcomes = [entry.body["ok"] for entry in entries if entry.kind == "outcome"]
    assert outcomes == [False, True, False, True, True]
    wishes = [entry.body["state"] for entry in entries if entry.kind == "action"]
    assert wishes == ["promoted", "deployed", "deployed", "known_good", "known_good"]
