# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Alertmanager, the alerts that a test gives it, and the events that the filter makes of these."""

from __future__ import annotations

import json
import time
import urllib.request
import uuid
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

import yaml
from child import Child, free_ports
from go_tool import go_tool

CONFIG = {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}


class Alertmanager:
    """One that tells nobody anything: it is there to be asked."""

    def __init__(self, folder: Path, config: Mapping[str, Any] = CONFIG) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "am.yml").write_text(yaml.safe_dump(dict(config)))
        command: List[str | Path] = [go_tool("alertmanager"), "--config.file=am.yml"]
        command.append(f"--storage.path={folder / 'data'}")
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="]
        self.child = Child("alertmanager", command, folder)
        self.child.wait_ready(self._ready)

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def fire(self, name: str, *services: str, ago: float = 0.0, ends: float = 3600.0, **labels: str) -> None:
        """One alert for each service, that began `ago` seconds before and ends in `ends` seconds."""
        at = time.time() - ago
        told = [
            {
                "labels": {"alertname": name, "service": service, **labels},
                "startsAt": _written(at),
                "endsAt": _written(time.time() + ends),
            }
            for service in services
        ]
        self._ask("alerts", told)

    def silence(self, name: str) -> None:
        now = time.time()
        matcher = {"name": "alertname", "value": name, "isRegex": False, "isEqual": True}
        times = {"startsAt": _written(now), "endsAt": _written(now + 600)}
        self._ask("silences", {"matchers": [matcher], **times, "createdBy": "test", "comment": "test"})

    def alerts(self) -> List[Dict[str, Any]]:
        found: List[Dict[str, Any]] = self._ask("alerts")
        return found

    def event(self, name: str, service: str = "shop", /, **more: object) -> Dict[str, Any]:
        """What the filter makes of the alert that fires here."""
        deadline = time.monotonic() + 10
        while True:
            for alert in self.alerts():
                if (alert["labels"]["alertname"], alert["labels"]["service"]) == (name, service):
                    return event_of(alert, **more)
            assert time.monotonic() < deadline, f"{name} of {service} never fired"
            time.sleep(0.05)

    def _ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None


def event_of(alert: Mapping[str, Any], **more: object) -> Dict[str, Any]:
    at = datetime.fromisoformat(alert["startsAt"].replace("Z", "+00:00")).timestamp()
    labels = alert["labels"]
    told = {"kind": "alert", "status": "firing", "service": labels["service"], "name": labels["alertname"]}
    more = {"environment": labels.get("environment", ""), "labels": dict(labels), **more}
    return {**told, "id": f"{alert['fingerprint']}-{int(at)}", "at": at, "ack": [str(uuid.uuid4())], **more}


@contextmanager
def alertmanager(folder: Path) -> Iterator[Alertmanager]:
    server = Alertmanager(folder)
    try:
        yield server
    finally:
        server.child.kill()


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).isoformat().replace("+00:00", "Z")
