# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many services on this machine, each with one place that is a folder, and all of them behind one ansible-rulebook.

A place serves nothing. What its users would see is answered for it by one server: the metrics of a service count
requests, of which more than half fail while its bad release is the current one.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

from act_place import HEALTH, RESTART, Place

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

OLD, BAD = "1.0.0", "2.0.0"
ALARM = "ServiceErrors"
RATE = 200.0  # requests a second of each service
BAKE = {"look_every": 0.3, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 1}
GATES = [{"name": "errors", "bad": "failed_total", "total": "requests_total", "max": 0.1, "floor": 0.05}]
# nothing but what a storm is about limits how many services are healed
GUARD = {"mode": "act", "alerts": [ALARM], "global_cooldown": 0, "max_services": 256, "clear_for": 0}


class Services:
    """`known` services in the inventory of which those in `live` have a place, on a bad release after a good one."""

    def __init__(self, folder: Path, known: int, live: Sequence[str], **variables: object) -> None:
        self.folder, self.live = folder, list(live)
        self.names = [name(number) for number in range(known)]
        self.ledger, self.inventory = folder / "ledger.sqlite", folder / "inventory.json"
        self._begun: Dict[str, Counts] = {}
        self._guard = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for one in self.live:
            place = self.place(one)
            place.good(OLD)
            place.good(BAD)
        self.variables = variables

    def place(self, service: str) -> Place:
        return Place(self.folder / "places" / service)

    def current(self, service: str) -> str:
        return os.path.basename(os.readlink(self.place(service).path / "current"))

    def write(self, url: str) -> None:
        """The inventory; `url` is where the metrics are."""
        shared = {"restart": RESTART, "health": HEALTH, "gates": GATES, "bake": BAKE, "preset": "fast"}
        policies = {
            service: {**shared, "path": str(self.place(service).path), "source": self._source(url, service)}
            for service in self.names
        }
        variables: Dict[str, Any] = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        variables.update(delivery_ledger={"path": str(self.ledger)}, delivery_guard=GUARD, rollback_lease_ttl=5)
        variables.update(delivery_services=policies, **self.variables)
        groups: Dict[str, Any] = {service: {"hosts": {f"{service}-1": {}}} for service in self.names}
        self.inventory.write_text(json.dumps({"all": {"vars": variables, "children": groups}}))

    @staticmethod
    def _source(url: str, service: str) -> Mapping[str, str]:
        return {"type": "exposition", "url": f"{url}/{service}"}

    def metrics(self, service: str) -> str:
        bad = self.current(service) == BAD
        with self._guard:
            counts = self._begun.setdefault(service, Counts())
            counts.go_on(0.6 if bad else 0.0)
            return (
                f"# TYPE requests_total counter\nrequests_total {counts.requests}\n"
                f"# TYPE failed_total counter\nfailed_total {counts.failed}\n"
            )

    # --- what came of it

    def entries(self, service: str = "") -> List[Entry]:
        """Of one service, or of all, oldest first; the ledger is whole."""
        with closing(open_ledger({"path": str(self.ledger)}, create=False)) as ledger:
            assert ledger.verify() is None
            found: List[Entry] = list(ledger.entries(service)) if service else list(ledger.entries())
        return found

    def rollouts(self, service: str) -> List[Rollout]:
        with closing(open_ledger({"path": str(self.ledger)}, create=False)) as ledger:
            found: List[Rollout] = list(ledger.last_rollouts(service))
        return found

    def healed(self) -> List[str]:
        """The services whose rollback is done."""
        if not self.ledger.exists():
            return []
        return [one for one in self.live if any(rollout.state == "done" for rollout in self.rollouts(one))]


class Counts:
    """Requests and failures of a service since it was first looked at."""

    def __init__(self) -> None:
        self.requests, self.failed, self._last = 0, 0, time.monotonic()

    def go_on(self, errors: float) -> None:
        now = time.monotonic()
        came = int(RATE * (now - self._last))
        self._last += came / RATE
        self.requests += came
        self.failed += int(came * errors)


def name(number: int) -> str:
    return f"svc{number:03d}"


@contextmanager
def services(folder: Path, known: int, live: Sequence[str], **variables: object) -> Iterator[Services]:
    """Services with their metrics served, until the end of the block; `variables` go into the inventory."""
    all_of_them = Services(folder, known, live, **variables)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = all_of_them.metrics(self.path.strip("/")).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        all_of_them.write(f"http://127.0.0.1:{server.server_address[1]}")
        yield all_of_them
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


class Playbooks(threading.Thread):
    """Which playbooks an ansible-rulebook ran, for whom and when, seen by their folders below its `TMPDIR`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder, self._over = folder, threading.Event()
        self.runs: Dict[Path, List[Any]] = {}  # service, begun, last seen (time.time())
        self.most_at_once = 0
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.1):
            there = list(self._folder.glob("eda*/env/extravars"))
            self.most_at_once = max(self.most_at_once, len(there))
            for path in there:
                if path not in self.runs:
                    service = _service_of(path)
                    if service is not None:
                        self.runs[path] = [service, time.time(), time.time()]
                else:
                    self.runs[path][2] = time.time()

    def stop(self) -> None:
        self._over.set()
        self.join()

    def of(self, service: str) -> List[List[Any]]:
        return [run for run in self.runs.values() if run[0] == service]

    def durations(self) -> List[float]:
        return sorted(ended - begun for _service, begun, ended in self.runs.values())


def _service_of(path: Path) -> str | None:
    """The service that a playbook was told about; None while its variables are not whole."""
    try:
        found = re.findall(r"^ +service: (\S*)$", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return found[0].strip("'\"") if found else None
