# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop in a namespace of the testbed, released by ansible-playbook: its inventory, its commands, its ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence

from ansible_run import Run
from cluster import Cluster
from kube_api import Doc

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

SERVICE = "test/shop"
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


class KubeShop:
    """`places` are the inventory's hosts by name, each with the variables that are its own."""

    def __init__(
        self,
        folder: Path,
        cluster: Cluster,
        env: Mapping[str, str],
        policy: Mapping[str, Any],
        places: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.folder, self.cluster, self.env = folder, cluster, dict(env)
        self.ledger = folder / "ledger.sqlite"
        folder.mkdir(parents=True, exist_ok=True)
        self.policy: Dict[str, Any] = {"bake": BAKE, "gates": GATES, "preset": "fast", **policy}
        self.options: Dict[str, Any] = dict(policy["backend_options"])
        self.write(self.policy, places)

    def write(self, policy: Mapping[str, Any], places: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        inventory = {
            "all": {
                "vars": {
                    "ansible_connection": "local",
                    "ansible_python_interpreter": sys.executable,
                    "delivery_environment": "test",
                    "delivery_ledger": {"path": str(self.ledger)},
                    "delivery_services": {"shop": policy},
                },
                "children": {"shop": {"hosts": dict(places or {"eu": {}})}},
            }
        }
        (self.folder / "hosts.json").write_text(json.dumps(inventory, indent=1))

    def play(self, playbook: str, **variables: object) -> "subprocess.CompletedProcess[str]":
        """Run one of the collection's playbooks; its output is in `stdout`."""
        return self.run(["ansible-playbook", f"selfheal.delivery.{playbook}"], delivery_service="shop", **variables)

    def begin(self, playbook: str, **variables: object) -> Run:
        """The same, read as it goes."""
        given = json.dumps({"delivery_service": "shop", **variables})
        command = ["ansible-playbook", f"selfheal.delivery.{playbook}", "-i", "hosts.json", "-e", given]
        return Run(command, self.env, cwd=self.folder)

    def run(self, command: Sequence[str], **variables: object) -> "subprocess.CompletedProcess[str]":
        given = ["-i", "hosts.json", "-e", json.dumps(variables)]
        return subprocess.run(
            [*command, *given],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )

    def last(self) -> Rollout:
        ledger = open_ledger({"path": str(self.ledger)}, create=False)
        try:
            rollout: Rollout = ledger.last_rollouts("", 1)[0]
            assert ledger.verify() is None
        finally:
            ledger.close()
        return rollout


def uids(pods: Sequence[Doc]) -> Dict[str, str]:
    """The pods' uids by name: the same pods have the same ones."""
    return {str(pod["metadata"]["name"]): str(pod["metadata"]["uid"]) for pod in pods}


def images(pods: Sequence[Doc]) -> List[str]:
    return sorted({str(pod["spec"]["containers"][0]["image"]) for pod in pods})
