# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""guard and ledger_info as people call them: in a play, on the controller, on a real ledger."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout

pytestmark = pytest.mark.demo_sized
NOW = 4e9  # the lease must be in force whenever this test runs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def lease(path: Path) -> Lease:
    """Of a rollout that is under way."""
    ledger = SqliteLedger(str(path))
    lease = ledger.acquire("prod/shop", "ci-7 pid 4711", 60, NOW)
    intent = {"fleet": ["web1"], "source": {"bearer_token": "hunter2"}}
    ledger.open_rollout(lease, Rollout("r1", "prod/shop", "2.0.0", "canary", "", 0, 0, 0, intent), "ada", NOW)
    ledger.close()
    return lease


def play(tasks: List[Dict[str, Any]], env: Dict[str, str], folder: Path, *options: str) -> List[Dict[str, Any]]:
    """The results of `tasks`, each run in a play over three hosts, none of which is there."""
    steps: List[Dict[str, Any]] = [{"ansible.builtin.set_fact": {"told": []}}]
    for task in tasks:
        steps += [
            {**task, "register": "one", "ignore_errors": True},
            {"ansible.builtin.set_fact": {"told": "{{ told + [one] }}"}, "run_once": True},
        ]
    result = folder / "told.json"
    steps.append(
        {
            "ansible.builtin.copy": {"content": "{{ told | to_json }}", "dest": str(result)},
            "delegate_to": "localhost",
            "run_once": True,
            "check_mode": False,
        }
    )
    book = folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": steps}]))
    config = folder / "ansible.cfg"
    config.touch()
    command = ["ansible-playbook", "-i", "web1,web2,web3,", str(book), *options]
    env = {**env, "ANSIBLE_CONFIG": str(config)}
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    told: List[Dict[str, Any]] = json.loads(result.read_text())
    return told


def test_a_word_is_recorded_once_and_shown(
    path: Path, lease: Lease, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    env = {**ansible_env, "SELFHEAL_LEDGER": str(path)}
    said, info, other = play(
        [
            {
                "selfheal.delivery.guard": {
                    "service": "prod/shop",
                    "command": "promote",
                    "reason": "INC-4711",
                    "by": "bob",
                }
            },
            {"selfheal.delivery.ledger_info": {}},
            {"selfheal.delivery.ledger_info": {"service": "prod/bank"}},
        ],
        env,
        tmp_path,
    )
    assert said["changed"]
    assert said["holder"] == "ci-7 pid 4711"
    assert said["msg"] == "prod/shop: promote of rollout r1 by bob; ci-7 pid 4711 obeys it at its next look"
    assert (said["said"]["command"], said["said"]["reason"], said["said"]["seq"]) == ("promote", "INC-4711", 1)
    assert info["commands"] == [said["said"]]
    assert info["chain"] == {
        "ok": True,
        "problem": None,
        "head": SqliteLedger(str(path)).head(),
        "entries": 3,
    }
    assert info["leases"] == [
        {"service": "prod/shop", "holder": "ci-7 pid 4711", "token": int(NOW), "expires": NOW + 60}
    ]
    assert [entry["kind"] for entry in info["entries"]] == ["command", "rollout", "lease"]
    assert [(one["id"], one["by"], "progress" in one) for one in info["unfinished"]] == [("r1", "ada", False)]
    assert info["rollouts"] == info["unfinished"]
    assert "hunter2" not in json.dumps(info)
    assert not info["changed"]
    nothing = {name: other[name] for name in ("commands", "leases", "entries", "unfinished", "rollouts")}
    assert nothing == dict.fromkeys(nothing, [])


def test_what_cannot_be_said_is_refused_and_what_there_is_is_named(
    path: Path, lease: Lease, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    ledger = SqliteLedger(str(path))
    ledger.set_state(lease, "r1", "undone", {}, "run", NOW)
    ledger.release(lease, NOW)
    head, where = ledger.head(), {"ledger": {"path": str(path)}}
    missing = tmp_path / "no" / "ledger.sqlite"
    told = play(
        [
            {"selfheal.delivery.guard": {"service": "prod/shop", "command": "abort", **where}},
            {"selfheal.delivery.guard": {"service": "prod/shop", "command": "promote", **where}},
            {"selfheal.delivery.guard": {"service": "prod/shop", "command": "abbort", **where}},
            {"selfheal.delivery.guard": {"service": "prod/shop", "command": "hold", "ledger": {"paht": "/x"}}},
            {"selfheal.delivery.guard": {"service": "x", "command": "hold", "ledger": {"path": str(missing)}}},
            {"selfheal.delivery.ledger_info": {"ledger": {"path": str(missing)}}},
        ],
        ansible_env,
        tmp_path,
    )
    assert all(one["failed"] and not one["changed"] for one in told)
    assert told[0]["msg"] == (
        "prod/shop: There is no unfinished rollout to abort: its last one, r1 of release 2.0.0, is undone."
        " Check the service's name; ledger_info lists what is under way."
    )
    assert "needs a reason" in told[1]["msg"]
    assert "resume, promote, abort, got: abbort" in told[2]["msg"]
    assert "paht" in told[3]["msg"]
    assert told[4]["msg"].startswith(f"x: There is no ledger at {missing}.")
    assert told[5]["msg"].startswith(f"There is no ledger at {missing}.")
    assert ledger.head() == head
    assert not missing.parent.exists()


def test_check_mode_refuses_the_same_and_records_nothing(
    path: Path, lease: Lease, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    ledger = SqliteLedger(str(path))
    head, env = ledger.head(), {**ansible_env, "SELFHEAL_LEDGER": str(path)}
    said, refused, info = play(
        [
            {"selfheal.delivery.guard": {"service": "prod/shop", "command": "hold"}},
            {"selfheal.delivery.guard": {"service": "prod/bank", "command": "hold"}},
            {"selfheal.delivery.ledger_info": {"limit": 1}},
        ],
        env,
        tmp_path,
        "--check",
    )
    assert said["changed"] and said["said"]["rollout"] == "r1" and said["said"]["seq"] == 0
    assert refused["failed"] and "it never had one" in refused["msg"]
    assert len(info["entries"]) == 1
    assert (ledger.head(), ledger.commands()) == (head, [])


def test_a_broken_chain_is_shown_with_its_first_bad_entry(
    path: Path, lease: Lease, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    ledger = SqliteLedger(str(path))
    ledger._store._db.execute("UPDATE entry SET actor = 'eve' WHERE seq = 2")
    ledger.close()
    (info,) = play([{"selfheal.delivery.ledger_info": {"ledger": {"path": str(path)}}}], ansible_env, tmp_path)
    assert not info["chain"]["ok"]
    assert info["chain"]["problem"] == "Entry 2 was changed after it had been written."
