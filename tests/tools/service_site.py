# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service as people have it: an inventory with its policy, the playbooks that are run on it, and its ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from ansible_run import Run

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

# nothing waits longer than it must
BAKE = {
    "look_every": 0.5,
    "min_bake": 2,
    "deadline": 60,
    "extend": 10,
    "warm_up": 0,
    "verify_for": 4,
    "hold_deadline": 60,
}
GATES = [
    {
        "name": "errors",
        "bad": 'http_requests_total{code=~"5.."}',
        "total": "http_requests_total",
        "max": 0.02,
        "floor": 0.01,
        "min_requests": 100,
    }
]


class ServiceSite:
    """The service `name` in `folder`: what is not in its `policy` is as it is here, and quick.

    `places` are the hosts of its group by name, each with the variables that are its own.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        name: str,
        policy: Mapping[str, Any],
        places: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.folder, self.env, self.ledger = folder, dict(env), folder / "ledger.sqlite"
        self.name, self.places = name, dict(places)
        self.policy: Dict[str, Any] = {"bake": BAKE, "gates": GATES, "preset": "fast", **policy}
        self.options: Dict[str, Any] = dict(policy["backend_options"])
        folder.mkdir(parents=True, exist_ok=True)
        self.write()

    def write(self, **policy: Any) -> None:
        """The inventory, with these keys of the policy changed."""
        inventory = {
            "all": {
                "vars": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                    "delivery_environment": "test",
                    "delivery_ledger": {"path": str(self.ledger)},
                    "delivery_services": {self.name: {**self.policy, **policy}},
                },
                "children": {self.name: {"hosts": self.places}},
            }
        }
        (self.folder / "hosts.json").write_text(json.dumps(inventory, indent=1))

    def play(self, playbook: str, **variables: object) -> "subprocess.CompletedProcess[str]":
        """Run one of the collection's playbooks for the service; its output is in `stdout`."""
        return self.run(["ansible-playbook", f"selfheal.delivery.{playbook}"], delivery_service=self.name, **variables)

    def begin(self, playbook: str, **variables: object) -> Run:
        """The same, read as it goes."""
        given = {"delivery_service": self.name, **variables}
        command = self._command(["ansible-playbook", f"selfheal.delivery.{playbook}"], given)
        return Run(command, self.env, cwd=self.folder)

    def run(self, command: Sequence[str], **variables: object) -> "subprocess.CompletedProcess[str]":
        """Any command of Ansible's on the inventory."""
        return subprocess.run(
            self._command(command, variables),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )

    @staticmethod
    def _command(command: Sequence[str], variables: Mapping[str, object]) -> List[str]:
        return [*command, "-i", "hosts.json", "-e", json.dumps(variables)]

    def rollouts(self) -> Sequence[Rollout]:
        """The newest first, ten at most; the ledger is whole."""
        with closing(open_ledger({"path": str(self.ledger)}, create=False)) as ledger:
            assert ledger.verify() is None
            found: Sequence[Rollout] = ledger.last_rollouts("", 10)
        return found

    def last(self) -> Rollout:
        return self.rollouts()[0]
