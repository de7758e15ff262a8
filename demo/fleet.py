# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service on this machine: places with real HTTP servers, releases to put on them, a load, and an inventory.

The demo runs it as it is; the integration tests bend its policy and break its places.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SERVICE = "demo/shop"
LOAD_SECONDS = 420.0  # a load ends by itself, whatever becomes of who started it


class Fleet:
    """`places` servers below `folder`. `releases` are versions with the share of requests that each fails."""

    def __init__(self, folder: Path, *, releases: Mapping[str, float], rate: float, places: int = 4) -> None:
        self.folder, self.releases, self.rate = folder, releases, rate
        self.ports = free_ports(places)
        self.python, self.scripts = sys.executable, HERE
        self.names = [f"web{number}" for number in range(1, places + 1)]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.sqlite"

    @property
    def served_file(self) -> Path:
        return self.folder / "served.json"

    def place(self, name: str) -> Path:
        return self.folder / "places" / name

    def prepare(self, policy: Mapping[str, Any] | None = None) -> None:
        """Make the releases and the inventory; `policy` is laid over the service's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for version, errors in self.releases.items():
            content = self.folder / "artifacts" / version
            content.mkdir(parents=True, exist_ok=True)
            shutil.copy(HERE / "app" / "app.py", content)
            (content / "release.json").write_text(json.dumps({"version": version, "error_rate": errors}))
        inventory = json.loads((HERE / "inventory.json").read_text())
        variables = inventory["all"]["vars"]
        variables.update(demo=str(self.folder), demo_rate=self.rate * len(self.names))
        variables.update(demo_python=sys.executable, demo_here=str(HERE))
        variables["delivery_services"]["shop"].update(policy or {})
        ports = zip(self.names, self.ports, strict=True)
        inventory["shop"]["hosts"] = {name: {"shop_port": port} for name, port in ports}
        (self.folder / "inventory.json").write_text(json.dumps(inventory, indent=2))

    def command(self, playbook: str, variables: Mapping[str, object], *arguments: str) -> List[str]:
        return [
            *("ansible-playbook", "-i", str(self.folder / "inventory.json"), playbook, *arguments),
            *("-e", json.dumps({"delivery_service": "shop", **variables})),
        ]

    def canary(self, release: str, *arguments: str, **variables: object) -> List[str]:
        """The command that rolls `release` out, as a pipeline would."""
        given = {"canary_release": release, "canary_src": str(self.folder / "artifacts" / release), **variables}
        return self.command("selfheal.delivery.canary", given, *arguments)

    def environment(self) -> Dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "ansible" / "tmp"),
            "ANSIBLE_REMOTE_TEMP": str(self.folder / "ansible" / "remote-tmp"),
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        }

    @contextmanager
    def load(self) -> Iterator[None]:
        """Real requests to every place, until the end of the block."""
        command = [sys.executable, str(HERE / "load.py"), str(self.served_file), str(self.rate), str(LOAD_SECONDS)]
        process = subprocess.Popen([*command, *map(str, self.ports)], stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=10)

    def served(self, release: str) -> Mapping[str, Any]:
        """What the load saw of `release`: requests, bad ones, first and last."""
        served: Mapping[str, Any] = json.loads(self.served_file.read_text())["served"].get(release, {})
        return served

    def stop(self) -> None:
        """End the servers that this fleet started."""
        for name, port in zip(self.names, self.ports, strict=True):
            if self.place(name).exists():
                subprocess.run(
                    [sys.executable, str(HERE / "place.py"), "stop", str(self.place(name)), str(port)], check=False
                )

    def current(self) -> Dict[str, str]:
        """Where each place is now, read from the places themselves."""
        return {name: os.path.basename(os.readlink(self.place(name) / "current")) for name in self.names}

    def rollouts(self) -> Sequence[Any]:
        """What the ledger has of the service's rollouts, newest first."""
        sys.path.insert(0, str(ROOT / ".tree"))
        from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

        store = open_ledger({"path": str(self.ledger)}, create=False)
        try:
            return store.last_rollouts(SERVICE)
        finally:
            store.close()


def free_ports(count: int) -> List[int]:
    """Ports of 127.0.0.1 that nobody listens on, all of them different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
