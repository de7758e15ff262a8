# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an Alertmanager sends, and what a receiver of it makes of that for the guard.

The receiver of the product belongs to its event source; this one is as small as one can be.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, Iterator, List

import requests
from child import Child, free_ports
from go_tool import go_tool

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import ALERT, Trigger

# the body of one notification as an Alertmanager 0.31 sent it
CAPTURED: Dict[str, Any] = {
    "receiver": "selfheal",
    "status": "firing",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "ShopErrors", "service": "shop", "severity": "critical"},
            "annotations": {"summary": "7 % of the shop's requests fail"},
            "startsAt": "2026-09-21T14:23:00Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://127.0.0.1:9090/graph?g0.expr=up",
            "fingerprint": "5f4f3d9dc0ef2a51",
        }
    ],
    "groupLabels": {"alertname": "ShopErrors"},
    "commonLabels": {"alertname": "ShopErrors", "service": "shop", "severity": "critical"},
    "commonAnnotations": {"summary": "7 % of the shop's requests fail"},
    "externalURL": "http://127.0.0.1:9093",
    "version": "4",
    "groupKey": '{}:{alertname="ShopErrors"}',
    "truncatedAlerts": 0,
}
CONFIG = """
route:
  receiver: selfheal
  group_by: [alertname]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1s
receivers:
  - name: selfheal
    webhook_configs:
      - url: {url}
        send_resolved: true
"""


def triggers(body: Dict[str, Any]) -> List[Trigger]:
    """One for each alert: fingerprint and start are the same in every copy of it."""
    return [
        Trigger(
            ALERT,
            alert["labels"]["alertname"],
            f"{alert['fingerprint']}:{alert['startsAt']}",
            at=datetime.fromisoformat(alert["startsAt"].replace("Z", "+00:00")).timestamp(),
            active=alert["status"] == "firing",
            evidence={"labels": alert["labels"], "annotations": alert["annotations"]},
        )
        for alert in body["alerts"]
    ]


@contextmanager
def alertmanagers(folder: Path, receiver: str, count: int = 2) -> Iterator[List[str]]:
    """Their addresses. They do not know of each other, as a pair whose network is cut does not."""
    (folder / "alertmanager.yml").write_text(CONFIG.format(url=json.dumps(receiver)))
    children, urls = [], []
    try:
        for number, port in enumerate(free_ports(count)):
            urls.append(f"http://127.0.0.1:{port}")
            command = [
                str(go_tool("alertmanager")),
                f"--config.file={folder}/alertmanager.yml",
                "--cluster.listen-address=",
                f"--storage.path={folder}/{number}",
                f"--web.listen-address=127.0.0.1:{port}",
            ]
            children.append(Child(f"alertmanager-{number}", command, folder))
        for child, url in zip(children, urls, strict=True):
            child.wait_ready(lambda url=url: _answers(url))  # type: ignore[misc]
        yield urls
    finally:
        for child in children:
            child.kill()


def _answers(url: str) -> bool:
    try:
        return bool(requests.get(f"{url}/-/ready", timeout=2).ok)
    except requests.RequestException:
        return False


def fire(urls: List[str], started: datetime) -> None:
    """As a Prometheus does it: to every Alertmanager that it knows."""
    alert = CAPTURED["alerts"][0]
    sent = {name: alert[name] for name in ("labels", "annotations", "generatorURL")}
    for url in urls:
        answer = requests.post(f"{url}/api/v2/alerts", json=[{**sent, "startsAt": started.isoformat()}], timeout=10)
        answer.raise_for_status()
