# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rulebooks behind ansible-rulebook's own webhook: one responds here, one by a job of a controller (contract)."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List
from urllib.parse import parse_qs, urlsplit

import pytest
from many_services import ALARM, OLD, services
from rulebook import alert, notification, rulebook

pytestmark = [pytest.mark.xdist_group("eda-end-to-end")]

TEMPLATE = {"id": 7, "type": "job_template", "name": "selfheal respond", "url": "/api/v2/job_templates/7/"}
ASKS = ("ask_limit_on_launch", "ask_labels_on_launch", "ask_inventory_on_launch", "ask_variables_on_launch")


class Controller:
    """What ansible-rulebook asks of AWX's API, version 2: one job template, whose jobs end well at once."""

    def __init__(self) -> None:
        self.launched: List[Dict[str, Any]] = []
        self.labels: List[str] = []

    def get(self, path: str, query: Dict[str, str]) -> Dict[str, Any]:
        if path == "/api/v2/config/":
            return {"version": "24.6.1"}
        if path == "/api/v2/unified_job_templates/":
            about = {"organization": {"name": "Default"}}
            related = {"launch": "/api/v2/job_templates/7/launch/"}
            one = {**TEMPLATE, **dict.fromkeys(ASKS, True), "summary_fields": about, "related": related}
            return {"count": 1, "next": None, "results": [one]}
        if path == "/api/v2/organizations/":
            return {"count": 1, "results": [{"id": 1, "name": "Default"}]}
        if path == "/api/v2/labels/":
            found = [{"id": self.labels.index(query["name"]) + 1}] if query["name"] in self.labels else []
            return {"count": len(found), "results": found}
        if path == "/api/v2/jobs/":
            ids = [int(one) for one in query["id__in"].split(",")]
            return {"count": len(ids), "next": None, "results": [self.job(one) for one in ids]}
        return self.job(int(path.strip("/").rpartition("/")[2]))

    def post(self, path: str, body: Dict[str, Any]) -> Dict[str, Any]:
        if path == "/api/v2/labels/":
            self.labels.append(body["name"])
            return {"id": len(self.labels), "name": body["name"]}
        assert path == "/api/v2/job_templates/7/launch/", path
        self.launched.append(body)
        return self.job(len(self.launched))

    @staticmethod
    def job(number: int) -> Dict[str, Any]:
        told = {"id": number, "url": f"/api/v2/jobs/{number}/", "status": "successful", "artifacts": {}}
        return {**told, "created": "2026-01-01T00:00:00Z"}


@contextmanager
def controller() -> Iterator["tuple[Controller, str]"]:
    one = Controller()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            self.answer(200, one.get(asked.path, {key: each[0] for key, each in parse_qs(asked.query).items()}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.answer(201, one.post(urlsplit(self.path).path, body))

        def answer(self, status: int, body: Dict[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield one, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def test_a_webhook_of_ansible_rulebook_does_for_a_source(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    with services(tmp_path / "services", 5, ["svc000"]) as there:
        folder, name = tmp_path / "book", "selfheal.delivery.webhook"
        with rulebook(folder, ansible_env, name, inventory=there.inventory, persistence=True) as book:
            body = notification([alert(ALARM, "svc000", time.time()), alert(ALARM, "all", time.time())])
            call = {"type": "selfheal.call", "name": "ci", "service": "svc000", "id": "1", "reason": "{{ 7 * 7 }}"}
            assert book.post(body, token="a-token-of-somebody-else") == 401
            assert [book.post(each) for each in (body, body, call)] == [200, 200, 200]
            book.wait(lambda: there.healed() == ["svc000"], "the service is healed")
            book.wait(lambda: "of an unproven sender" in book.log, "the call is refused", 30)
            assert "'all' is no plain name of an inventory group" in book.log
        assert there.current("svc000") == OLD
        # the engine has dropped the second copy of what it knew
        assert [entry.kind for entry in there.entries("svc000")].count("decision") == 1


def test_a_job_is_launched_once_for_each_service_with_the_event_and_nothing_else(
    tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {web1: {}}}\n")
    env = {**ansible_env, "EDA_JOB_TEMPLATE_REFRESH_DELAY": "0.2"}
    now = time.time()
    with controller() as (awx, url):
        given = ("--controller-url", url, "--controller-token", "t0ken")
        with rulebook(tmp_path / "book", env, "selfheal.delivery.awx", inventory=inventory, arguments=given) as book:
            two = [alert(ALARM, "shop", now), alert(ALARM, "shop", now + 1, instance="b"), alert(ALARM, "bank", now)]
            refused = alert("{{ lookup('pipe', 'id') }}", "web shop", now)
            assert book.post(notification([*two, refused])) == 200
            book.wait(lambda: len(awx.launched) == 3, "a job for each service, and one for what is refused", 30)
    events = [job["extra_vars"]["respond_event"] for job in awx.launched]
    assert sorted((event["kind"], event["service"]) for event in events) == [
        ("alert", "bank"),
        ("alert", "shop"),
        ("refused", ""),
    ]
    for job in awx.launched:
        assert set(job["extra_vars"]) == {"respond_event"}
        uuid = job["extra_vars"]["respond_event"]["meta"]["uuid"]
        assert f"eda-event-uuid-{uuid}" in [awx.labels[number - 1] for number in job["labels"]]
