# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bench of the event-driven part measures on, and its own eyes.

Services on a real API server, each on a bad release after a good one, a real Prometheus, a real Alertmanager, and a
real ansible-rulebook with the collection's own rulebook. What the API server was asked is in its audit log; what
Alertmanager sends goes through a relay that notes when; and what ansible-rulebook prints is noted line by line.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import yaml
from alert_server import Alertmanager
from child import free_ports
from cluster import deployment, service
from environment import ROOT
from kube_place import KubePlace
from prometheus_client import start_http_server
from rollback_scene import Audited
from rulebook import Rulebook, ended
from service_site import GATES
from traffic import Exporter, prometheus

ALARM, PING = "ShopErrors", "ping"
OLD, BAD = "1.0.0", "2.0.0"
# what comes after the change is short, so that the next round can begin
BAKE = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 1}
# one after the other, and of more services in an hour than are usually bad
GUARD = {"mode": "act", "alerts": [ALARM], "global_cooldown": 0, "max_services": 64}
BOOK = ROOT / "extensions/eda/rulebooks/alert_rollback.yml"
# of the environment: somebody's configuration, and what keeps Python from keeping its bytecode
NOT_KEPT = ("ANSIBLE_", "K8S_AUTH_", "PYTHONDONTWRITEBYTECODE")


class Shop:
    """One service with a Deployment of its own, in a namespace of its own."""

    def __init__(self, cluster: Audited, name: str) -> None:
        self.cluster, self.name, self.namespace = cluster, name, cluster.namespace("bench")
        cluster.apply([deployment(name, f"{name}:{OLD}"), service(name)], self.namespace)
        place = KubePlace(cluster, self.namespace, name)
        place.options["images"] = {"app": f"{name}:{{release}}"}
        place.good(OLD)
        place.good(BAD)
        self.exporter = Exporter(cluster, self.namespace, name, rates={BAD: 0.3}, rps=300)
        self.options = {**place.options, "keep": None}

    @property
    def path(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.name}"

    def policy(self, prometheus_url: str) -> Dict[str, Any]:
        options = {name: self.options[name] for name in ("kubeconfig", "namespace", "name", "images")}
        source = {"type": "prometheus", "url": prometheus_url, "window": 10}
        return {
            "backend": "deployment",
            "backend_options": options,
            "source": source,
            "gates": GATES,
            "bake": BAKE,
            "preset": "fast",
        }

    @contextmanager
    def used(self) -> Iterator[None]:
        """Its users send requests until the end of the block."""
        done = threading.Event()
        thread = threading.Thread(target=self.exporter.run, args=(done,))
        self.exporter.look()
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def image(self) -> str:
        return str(self.cluster.get(self.path)["spec"]["template"]["spec"]["containers"][0]["image"])


def changes(cluster: Audited, path: str) -> List[float]:
    """When (epoch seconds) the API server had accepted a change of ours to the object, each time."""
    log = (cluster.folder / "audit.log").read_text(encoding="utf-8")
    found = []
    for event in map(json.loads, log.splitlines()):
        ours = str(event.get("userAgent", "")).startswith("selfheal.delivery")
        if ours and event["verb"] == "patch" and event["requestURI"].partition("?")[0] == path:
            if event["responseStatus"]["code"] == 200:
                found.append(datetime.fromisoformat(event["stageTimestamp"]).timestamp())
    return found


class Relay(ThreadingHTTPServer):
    """Hands on to `port` what is posted to it, and notes when each request came: `posts`, with its body."""

    def __init__(self, port: int) -> None:
        self.target, self.posts = port, list[Tuple[float, str]]()
        super().__init__(("127.0.0.1", 0), _Relayed)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/alerts"

    def came(self, text: str) -> Optional[float]:
        """When the first request with `text` in its body came."""
        return next((at for at, body in list(self.posts) if text in body), None)


class _Relayed(BaseHTTPRequestHandler):
    server: Relay

    def do_POST(self) -> None:
        at = time.time()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((at, body.decode()))
        onward = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=30)
        shown = {name: self.headers[name] for name in ("Authorization", "Content-Type")}
        onward.request("POST", self.path, body, shown)
        answer = onward.getresponse()
        told = answer.read()
        onward.close()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_about: object) -> None:
        pass


class Printed(threading.Thread):
    """The lines of a log with when each was seen, at most 5 ms after it was written."""

    def __init__(self, log: Path) -> None:
        super().__init__(name="printed", daemon=True)
        self.lines: List[Tuple[float, str]] = []
        self._log = log
        self.start()

    def run(self) -> None:
        with open(self._log, encoding="utf-8", errors="replace") as stream:
            rest = ""
            while True:
                found = stream.read()
                now = time.time()
                *whole, rest = (rest + found).split("\n")
                self.lines += [(now, line) for line in whole]
                if not found:
                    time.sleep(0.005)

    def since(self, at: float, text: str) -> Optional[float]:
        """When the first line with `text` was seen after `at`."""
        return next((when for when, line in list(self.lines) if when >= at and text in line), None)


class Scene:
    """All of it, running: `shops`, `manager`, `relay`, `book`, `printed`, and `ping_port`, where a ping is posted."""

    def __init__(self, folder: Path, names: Sequence[str], stack: ExitStack) -> None:
        self.folder = folder
        self.cluster = Audited(folder / "cluster")
        stack.callback(self.cluster.stop)
        self.cluster.run()
        self.shops = [Shop(self.cluster, name) for name in names]
        served = [start_http_server(0, "127.0.0.1", registry=shop.exporter.registry)[0] for shop in self.shops]
        targets = [f"127.0.0.1:{server.server_address[1]}" for server in served]
        self.prometheus = stack.enter_context(prometheus(folder / "prometheus", targets))
        (self.ping_port,) = free_ports(1)
        inventory, book = folder / "inventory.json", folder / "book.yml"
        self.book = Rulebook(folder / "book", environment(folder), str(book), inventory=inventory)
        self.relay = Relay(self.book.port)
        self.manager = Alertmanager(folder / "alertmanager", routed(self.relay.url, self.book.token_file))
        stack.callback(self.manager.child.kill)
        inventory.write_text(json.dumps(self._inventory()))
        book.write_text(yaml.safe_dump([*yaml.safe_load(BOOK.read_text()), self._pings()], sort_keys=False))
        stack.enter_context(ended(self.book))
        self.book.start()
        assert self.book.child is not None
        self.printed = Printed(self.book.child.log)

    def _inventory(self) -> Mapping[str, Any]:
        variables: Dict[str, Any] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "delivery_environment": "bench",
            "delivery_ledger": {"path": str(self.folder / "ledger.sqlite")},
            "delivery_alerts": {"type": "alertmanager", "url": self.manager.url},
            "delivery_guard": GUARD,
            "delivery_services": {shop.name: shop.policy(self.prometheus) for shop in self.shops},
        }
        groups = {shop.name: {"hosts": {f"{shop.name}-eu": {}}} for shop in self.shops}
        return {"all": {"vars": variables, "children": groups}}

    def _pings(self) -> Mapping[str, Any]:
        """The least that a rule can do: one task, on a host of the same inventory, in the same process."""
        play = {"hosts": self.shops[0].name, "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}
        playbook = self.folder / "ping.json"
        playbook.write_text(json.dumps([play]))
        posted = {"eda.builtin.webhook": {"host": "127.0.0.1", "port": self.ping_port}}
        runs = {"run_playbook": {"name": str(playbook), "copy_files": False}}
        rule = {"name": PING, "condition": "event.payload.ping is defined", "action": runs}
        return {"name": PING, "hosts": "all", "sources": [posted], "rules": [rule]}


def environment(folder: Path) -> Dict[str, str]:
    """An Ansible of the bench's own, with nothing of the user's configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_KEPT)}
    (folder / "ansible.cfg").write_text("", encoding="utf-8")
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "local"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        "PYTHONUNBUFFERED": "1",
    }


def routed(url: str, token_file: Path) -> Mapping[str, Any]:
    """Alertmanager's configuration: every service's alerts at once to `url`, with the token."""
    shows = {"authorization": {"type": "Bearer", "credentials_file": str(token_file)}}
    hook = {"url": url, "send_resolved": True, "http_config": shows}
    quick = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    route = {"receiver": "selfheal", "group_by": ["service"], **quick}
    return {"route": route, "receivers": [{"name": "selfheal", "webhook_configs": [hook]}]}


@contextmanager
def scene(folder: Path, names: Sequence[str]) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(folder, names, stack)
