# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop of real places, under load, breakable on purpose, for the tests of whole playbooks."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional

from ansible_run import Run
from fleet import SERVICE, Fleet

from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import ARGUMENTS, change
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

# nothing here waits longer than it must: half of the bad release's requests fail, and none of the good one's
RELEASES = {"1.0.0": 0.0, "2.0.0": 0.5, "2.0.1": 0.0}
BAKE = {
    "look_every": 0.5,
    "min_bake": 1,
    "deadline": 20,
    "extend": 5,
    "warm_up": 0,
    "verify_for": 1,
    "hold_deadline": 30,
}
GATES = [
    {
        "name": "errors",
        "bad": 'http_requests_total{code=~"5.."}',
        "total": "http_requests_total",
        "max": 0.1,
        "floor": 0.05,
        "min_requests": 50,
    }
]


class Shop(Fleet):
    """The fleet with handles to break it."""

    env: Dict[str, str]

    def run(self, command: List[str], **popen: Any) -> Run:
        return Run(command, self.env, **popen)

    def play(self, release: str, *arguments: str, **variables: object) -> Run:
        run = self.run(self.canary(release, *arguments, **variables))
        run.end()
        return run

    def reconcile(self, **variables: object) -> Run:
        run = self.run(self.command("selfheal.delivery.reconcile", variables))
        run.end()
        return run

    def say(self, word: str, reason: str = "") -> Run:
        run = self.run(self.command("selfheal.delivery.control", {"delivery_command": word, "delivery_reason": reason}))
        run.end()
        return run

    def break_release(self, name: str, release: str, **fault: object) -> None:
        file = self.place(name) / "faults.json"
        faults = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**faults, release: fault}))

    def mend(self, name: str) -> None:
        (self.place(name) / "faults.json").unlink()

    def take_down(self, name: str) -> None:
        """The place cannot be reached any more; what it serves goes on."""
        (self.folder / "down").mkdir(exist_ok=True)
        (self.folder / "down" / name).touch()

    def bring_up(self, name: str) -> None:
        (self.folder / "down" / name).unlink()

    def last(self) -> Rollout:
        rollout: Rollout = self.rollouts()[0]
        return rollout

    def holder(self) -> Optional[object]:
        ledger = open_ledger({"path": str(self.ledger)}, create=False)
        try:
            return ledger.holder(SERVICE, time.time())
        finally:
            ledger.close()

    def good_first_release(self) -> None:
        """1.0.0, known good on every place."""
        self.known_good("1.0.0")

    def known_good(self, release: str) -> None:
        for given in self.deployed(release, self.names):
            change({**given, "state": "promoted"}, dry=False)

    def turn_bad(self, release: str) -> None:
        """It fails from now on wherever it runs, as a leak or a full table makes it after a while."""
        for name, port in zip(self.names, self.ports, strict=True):
            self.break_release(name, release, errors=0.6)
            restart = [self.python, str(self.scripts / "place.py"), "restart", str(self.place(name)), str(port)]
            subprocess.run(restart, check=True)

    def deployed(self, release: str, places: Iterable[str]) -> List[Dict[str, Any]]:
        """Release by the module's own code, without the seconds of a playbook; the options that it took by place."""
        took = []
        for name in places:
            root, port = self.place(name), self.ports[self.names.index(name)]
            root.mkdir(parents=True, exist_ok=True)
            given = {option: spec.get("default") for option, spec in ARGUMENTS.items() if isinstance(spec, dict)}
            restart = [self.python, str(self.scripts / "place.py"), "restart", str(root), str(port)]
            given.update(path=str(root), release=release, src=str(self.folder / "artifacts" / release))
            given.update(restart={"command": restart, "timeout": 10.0, "chdir": "current"})
            health = {"url": f"http://127.0.0.1:{port}/healthz", "status": [200], "timeout": 10.0, "interval": 0.05}
            change({**given, "state": "deployed", "health": health}, dry=False)
            took.append({**given, "health": health})
        return took


@contextmanager
def shops(folder: Path, ansible_env: Mapping[str, str]) -> Iterator[Callable[..., Shop]]:
    """Makes a shop with each call, and ends them all. It is already on 1.0.0, known good, unless `first` is off."""
    made: List[Shop] = []

    def make(*, places: int = 4, rate: float = 100.0, first: bool = True, **policy: object) -> Shop:
        shop = Shop(folder / f"shop{len(made)}", releases=RELEASES, rate=rate, places=places)
        shop.prepare({"bake": BAKE, "gates": GATES, **policy})
        inventory = shop.folder / "inventory.json"
        contents = json.loads(inventory.read_text())
        contents["all"]["vars"].update(
            ansible_connection="{{ 'ssh' if (demo ~ '/down/' ~ inventory_hostname) is file else 'local' }}",
            ansible_host="127.0.0.1",
            ansible_port=1,
            ansible_ssh_timeout=2,
            ansible_ssh_retries=0,
        )
        inventory.write_text(json.dumps(contents))
        shop.env = {**ansible_env, "ANSIBLE_CONFIG": str(shop.scripts / "ansible.cfg")}
        shop.env["ANSIBLE_PYTHON_INTERPRETER"] = shop.python
        made.append(shop)
        if first:
            shop.good_first_release()
        return shop

    try:
        yield make
    finally:
        for shop in made:
            shop.stop()
