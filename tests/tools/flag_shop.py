# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service behind a flag, its users, and the ansible-playbook that turns the flag on for more and more of them.

The service asks the flag's real client for each user, or reads a home-made one itself; what it counts says which side
served. A real Prometheus scrapes it.
"""

from __future__ import annotations

import json
import random
import threading
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence, Tuple

from prometheus_client import CollectorRegistry, Counter, start_http_server
from service_site import ServiceSite
from traffic import prometheus

FLAG, LABEL = "new-search", "flag_variant"
USERS = 1000
EVERY = 0.1  # seconds


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


class FlagSite(ServiceSite):
    """A service whose one place is a flag; what users are served is measured by the Prometheus at `url`."""

    def __init__(self, folder: Path, env: Mapping[str, str], url: str, options: Mapping[str, Any]) -> None:
        policy = {
            "backend": "flag",
            "backend_options": {"flag": FLAG, "deadline": 10, **options},
            "source": {"type": "prometheus", "url": url, "window": 10},
        }
        super().__init__(folder, env, "search", policy, {"new-search": {}})


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
