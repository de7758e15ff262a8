# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""helm_release and helm_release_info as people call them, in one play."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Dict

import pytest
from cluster import Cluster
from helm_shop import Shop

SECRET = "hunter2-correct-horse"
PLAY = """
- hosts: localhost
  gather_facts: false
  module_defaults:
    selfheal.delivery.helm_release_info: "{{ about }}"
    selfheal.delivery.helm_release: "{{ about | combine({'service': 'shop'}) }}"
  vars:
    about: {name: shop, namespace: "{{ shop_namespace }}", binary_path: "{{ helm }}", kubeconfig: "{{ kubeconfig }}"}
    begun: {rollout: "{{ open.rollout.id }}", lease: "{{ open.lease }}"}
  tasks:
    - selfheal.delivery.helm_release_info:
      register: nothing
    - selfheal.delivery.helm_release:
        release: 1.0.0
        chart: "{{ chart }}"
        values: {tag: 1.0.0, password: "{{ secret }}"}
        wait: false
      register: deployed
    - selfheal.delivery.helm_release: {release: 1.0.0, state: promoted}
      register: promoted
    - selfheal.delivery.rollout: {state: begun, service: shop, release: 2.0.0, intent: {fleet: [localhost]}}
      register: open
    - selfheal.delivery.helm_release:
        release: 2.0.0
        chart: "{{ chart }}"
        values: {tag: never, password: "{{ secret }}"}
        timeout: 3
        rollout: "{{ begun.rollout }}"
        lease: "{{ begun.lease }}"
      register: bad
      ignore_errors: true
    - selfheal.delivery.helm_release:
        state: known_good
        undo: true
        mark_bad: it never became ready
        wait: false
        rollout: "{{ begun.rollout }}"
        lease: "{{ begun.lease }}"
      register: back
    - selfheal.delivery.rollout:
        state: closed
        outcome: undone
        service: shop
        rollout: "{{ begun.rollout }}"
        lease: "{{ begun.lease }}"
    - selfheal.delivery.release:
        service: shop
        backend: helm
        backend_options: "{{ about | combine({'chart': chart, 'values': {'tag': '1.0.0', 'password': secret}}) }}"
        release: 1.0.0
      register: same
    - selfheal.delivery.helm_release: {state: known_good}
      register: again
      check_mode: true
    - selfheal.delivery.helm_release_info:
      register: info
    - selfheal.delivery.ledger_info: {service: shop, limit: 100}
      register: ledger
    - ansible.builtin.copy:
        content: >-
          {{ {'nothing': nothing, 'deployed': deployed, 'promoted': promoted, 'bad': bad, 'back': back, 'same': same,
              'again': again, 'info': info, 'entries': ledger.entries} | to_json }}
        dest: "{{ told }}"
      diff: false
"""


@pytest.fixture
def told(cluster: Cluster, namespace: str, tmp_path: Path, ansible_env: Dict[str, str]) -> Dict[str, Any]:
    """What each task of the play told, and under `shown` what Ansible showed, as talkative as it can be."""
    shop = Shop(cluster, namespace, tmp_path)
    file, play = tmp_path / "told.json", tmp_path / "play.yml"
    play.write_text(PLAY)
    extra = {"kubeconfig": str(cluster.kubeconfig), "shop_namespace": namespace, "helm": str(shop.binary)}
    extra |= {"chart": str(shop.chart), "told": str(file), "secret": SECRET}
    (tmp_path / "vars.json").write_text(json.dumps(extra))
    done = subprocess.run(
        ["ansible-playbook", "-vvv", "--diff", "-e", f"@{tmp_path}/vars.json", str(play)],
        env={**ansible_env, "SELFHEAL_LEDGER": str(tmp_path / "ledger.sqlite")},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {**json.loads(file.read_text()), "shown": done.stdout + done.stderr}


def test_deployed_promoted_bad_and_back(told: Dict[str, Any]) -> None:
    assert told["nothing"]["releases"] == [] and "no helm release 'shop'" in told["shown"]
    assert told["deployed"]["actions"] == ["installed 1.0.0 as revision 1"]
    assert told["promoted"]["actions"] == ["marked 1.0.0 as known good"]
    assert told["bad"]["failed"] and told["bad"]["current"] == "2.0.0" and "was not ready in time" in told["bad"]["msg"]
    assert (told["bad"]["status"], told["bad"]["changed"]) == ("failed", True)
    assert told["back"]["actions"][-1] == "went back to 1.0.0 (revision 1) as revision 3"
    assert not told["same"]["changed"] and not told["same"].get("failed")
    assert not told["again"]["changed"] and told["info"]["current"] == "1.0.0" and told["info"]["settled"]
    kinds = [entry["kind"] for entry in reversed(told["entries"]) if entry["kind"] in ("action", "outcome")]
    assert kinds == ["action", "outcome"] * 5
    outcomes = [entry["body"] for entry in reversed(told["entries"]) if entry["kind"] == "outcome"]
    assert [(each["ok"], each["current"]) for each in outcomes] == [
        (True, "1.0.0"),
        (True, "1.0.0"),
        (False, "2.0.0"),
        (True, "1.0.0"),
        (True, "1.0.0"),
    ]
    first = next(entry["body"] for entry in reversed(told["entries"]) if entry["kind"] == "action")
    assert first["release"] == "1.0.0" and first["chart"].endswith("shop-chart")
    assert '+    "current": "1.0.0"' in told["shown"]
    assert SECRET not in told["shown"] and SECRET not in json.dumps(told)
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in told["shown"]
