# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup known_good, as a playbook reads it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Dict

from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ lookup('selfheal.delivery.known_good', 'test/shop').release }} {{ none_there }}"
      vars:
        none_there: "{{ lookup('selfheal.delivery.known_good', 'test/other', default='nothing') }}"
    - ansible.builtin.debug:
        msg: "{{ lookup('selfheal.delivery.known_good', 'test/shpo') }}"
"""


def test_it_says_which_release_or_fails_with_the_nearest_name(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    path, now = tmp_path / "ledger.sqlite", time.time()
    ledger = SqliteLedger(str(path))
    what = rollouts.Begin("test/shop", "1.0.0", "canary", {"fleet": ["eu"]})
    rollout, lease = rollouts.begin(ledger, what, holder="run", actor="ada", ttl=30, now=now)
    rollouts.close(ledger, lease, rollout.id, state="done", outcome={}, actor="ada", now=now)
    ledger.close()
    (tmp_path / "play.yml").write_text(PLAY)
    given = json.dumps({"delivery_ledger": {"path": str(path)}})
    command = ["ansible-playbook", "-i", "localhost,", "-e", given, str(tmp_path / "play.yml")]
    done = subprocess.run(command, env=ansible_env, capture_output=True, text=True, timeout=120, check=False)
    assert '"msg": "1.0.0 nothing"' in done.stdout, done.stdout + done.stderr
    assert done.returncode != 0
    assert "no known good release of 'test/shpo' (did you mean 'test/shop'?)" in done.stdout + done.stderr
