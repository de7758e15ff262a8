# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays of this collection's controller actions, on this machine and on the ledger of one folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Union

PYTHON = f"ansible_python_interpreter={sys.executable}"


def run(play: Union[str, List[Dict[str, Any]]], env: Dict[str, str], folder: Path, *options: str) -> str:
    """What the play, or the playbook of that name, printed; it must succeed, here, with the folder's ledger."""
    book, config = folder / "play.yml", folder / "ansible.cfg"
    book.write_text(json.dumps(play))
    name = play if isinstance(play, str) else str(book)
    config.touch()
    env = {**env, "ANSIBLE_CONFIG": str(config), "SELFHEAL_LEDGER": str(folder / "ledger.sqlite")}
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", PYTHON, name, *options]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def results(tasks: List[Dict[str, Any]], env: Dict[str, str], folder: Path, *options: str) -> List[Dict[str, Any]]:
    """Of each task, whether it failed or not; a later one sees those before it as `told`."""
    steps: List[Dict[str, Any]] = [{"ansible.builtin.set_fact": {"told": []}}]
    for task in tasks:
        steps += [
            {**task, "register": "one", "ignore_errors": True},
            {"ansible.builtin.set_fact": {"told": "{{ told + [one] }}"}},
        ]
    told = folder / "told.json"
    content = {"content": "{{ told | to_json }}", "dest": str(told)}
    steps.append({"ansible.builtin.copy": content, "check_mode": False})
    run([{"hosts": "all", "gather_facts": False, "tasks": steps}], env, folder, *options)
    found: List[Dict[str, Any]] = json.loads(told.read_text())
    return found
