# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service behind a flag, its users, and the ansible-playbook that turns the flag on for more and more of them.

The service asks the flag's real client for each user, or reads a home-made one itself; what it counts says which side
served. A real Prometheus scrapes it.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

from ansible_run import Run
from kube_shop import BAKE
from prometheus_client import CollectorRegistry, Counter, start_http_server
from traffic import prometheus

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

FLAG, LABEL = "new-search", "flag_variant"
USERS = 1000
EVERY = 0.1  # seconds
GATE = {
    "name": "errors",
    "bad": 'http_requests_total{code=~"5.."}',
    "total": "http_requests_total",
    "max": 0.02,
    "floor": 0.01,
    "min_requests": 100,
}


def home_made(flags: Path) -> Callable[[int], bool]:
    """What a user is served by the file `flags` as it is now."""

    def served(user: int) -> bool:
        flag = json.loads(flags.read_text())[FLAG]
        return bool(flag["enabled"]) and zlib.crc32(f"{FLAG} {user}".encode()) % 100 < flag.get("percentage", 100)

    return served


class FlaggedShop:
    """Serves `rps` requests a second, to each user what `served` says; of the on side's the part `rate` answers 500."""

    def __init__(self, served: Callable[[int], bool], *, rps: float = 900, rate: float = 0.0, seed: int = 0) -> None:
        self.served, self.rps, self.rate = served, rps, rate
        self._chance = random.Random(seed)
        self.registry = CollectorRegistry()
        self._requests = Counter("http_requests", "Requests.", [LABEL, "code"], registry=self.registry)
        self._requests.labels("off", "200")  # a side that has served nobody yet has no series

    def share(self) -> float:
        """Of 100 users, how many are served the on side."""
        return sum(map(self.served, range(USERS))) * 100 / USERS

    def run(self, done: threading.Event) -> None:
        before, owed = time.monotonic(), 0.0
        while not done.wait(EVERY):
            now = time.monotonic()
            owed += self.rps * (now - before)
            before = now
            self._serve([self._chance.randrange(USERS) for _request in range(int(owed))])
            owed %= 1

    def _serve(self, users: Sequence[int]) -> None:
        served = {user: self.served(user) for user in set(users)}
        for user in users:
            failed = served[user] and self._chance.random() < self.rate
            self._requests.labels("on" if served[user] else "off", "500" if failed else "200").inc()


class FlagSite:
    """The inventory of one place that is a flag, its ledger, and the playbooks run on it."""

    def __init__(self, folder: Path, env: Mapping[str, str], url: str, options: Mapping[str, Any]) -> None:
        self.folder, self.env, self.ledger = folder, dict(env), folder / "ledger.sqlite"
        self.options: Dict[str, Any] = {"flag": FLAG, "deadline": 10, **options}
        self.policy: Dict[str, Any] = {
            "backend": "flag",
            "backend_options": self.options,
            "source": {"type": "prometheus", "url": url, "window": 10},
            "preset": "fast",
            "bake": BAKE,
            "gates": [GATE],
        }
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
                    "delivery_services": {"search": {**self.policy, **policy}},
                },
                "children": {"search": {"hosts": {"new-search": {}}}},
            }
        }
        (self.folder / "hosts.json").write_text(json.dumps(inventory, indent=1))

    def play(self, playbook: str, **variables: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self._command(playbook, variables),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )

    def begin(self, playbook: str, **variables: object) -> Run:
        """The same, read as it goes."""
        return Run(self._command(playbook, variables), self.env, cwd=self.folder)

    def _command(self, playbook: str, variables: Mapping[str, object]) -> List[str]:
        given = json.dumps({"delivery_service": "search", **variables})
        return ["ansible-playbook", f"selfheal.delivery.{playbook}", "-i", "hosts.json", "-e", given]

    def rollouts(self) -> Sequence[Rollout]:
        """The newest first."""
        ledger = open_ledger({"path": str(self.ledger)}, create=False)
        try:
            assert ledger.verify() is None
            found: Sequence[Rollout] = ledger.last_rollouts("", 10)
        finally:
            ledger.close()
        return found

    def last(self) -> Rollout:
        return self.rollouts()[0]


@contextmanager
def flagged(folder: Path, served: Callable[[int], bool], **shop: Any) -> Iterator[Tuple[FlaggedShop, str]]:
    """A shop with users, and the URL of the Prometheus that scrapes it. Arguments are the shop's."""
    running = FlaggedShop(served, **shop)
    server, serving = start_http_server(0, "127.0.0.1", registry=running.registry)
    done = threading.Event()
    users = threading.Thread(target=running.run, args=(done,))
    users.start()
    try:
        with prometheus(folder / "prometheus", [f"127.0.0.1:{server.server_address[1]}"]) as url:
            yield running, url
    finally:
        done.set()
        users.join()
        server.shutdown()
        server.server_close()
        serving.join()
