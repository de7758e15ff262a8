# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of ansible-playbook with many tasks, and how long each of them took: what a person waits, for the benches.

The start of Ansible is in none of them, and all of them meet the machine in the same mood.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# nothing of the user's says where a task connects to, or how Ansible runs
OURS = ("ANSIBLE_", "K8S_AUTH_", "SELFHEAL_")


def timed_tasks(
    folder: Path, tasks: Sequence[Mapping[str, Any]], *keys: str, action_plugins: Path | None = None
) -> List[Dict[str, Any]]:
    """Run the tasks on this machine, with `folder` for all that is written.

    Of each, in order: its `name`, when it `began` and `ended` (epoch seconds), how many seconds it `took`, and of its
    result the values of `keys`, None where it has none. Ends the bench when a task fails.
    """
    log, book, config = folder / "tasks.json", folder / "book.json", folder / "ansible.cfg"
    config.write_text("", encoding="utf-8")
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}]), encoding="utf-8")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(OURS)},
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
        "ANSIBLE_CALLBACKS_ENABLED": "task_log",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "TASK_LOG": str(log),
        "TASK_LOG_KEYS": ",".join(keys),
    }
    if action_plugins is not None:
        environment["ANSIBLE_ACTION_PLUGINS"] = str(action_plugins)
    playbook = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [playbook, "-i", "localhost,", "-c", "local", str(book)]
    done = subprocess.run(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    noted: List[Dict[str, Any]] = json.loads(log.read_text(encoding="utf-8"))
    return noted
