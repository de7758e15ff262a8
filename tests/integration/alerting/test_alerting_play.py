# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role, with a real Prometheus and Alertmanager: they read what it makes, and post what burns to a receiver."""

from __future__ import annotations

import json
import re
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests
from alerting_shop import policy
from child import Child, free_ports
from code_catalogue import EXAMPLE
from go_tool import go_tool
from sense_servers import Place
from tell_servers import Hook, hook
from traffic import IMPATIENT

PATIENCE = 60.0
SECRET = "T000s3cr3tB000"
TOKEN = "a-token-that-only-the-file-has"
ERRORS = {"name": "errors", "bad": 'http_requests_total{code="500"}', "total": "http_requests_total", "max": "2%"}


class Monitoring:
    """A Prometheus that scrapes two releases of a shop, and an Alertmanager, both configured by nothing yet."""

    def __init__(self, folder: Path, pages: Dict[str, str]) -> None:
        self.folder = folder
        self.rules, self.config = folder / "rules/selfheal.yml", folder / "alertmanager.yml"
        self.token = folder / "token"
        self.token.write_text(f"{TOKEN}\n")
        self.rules.parent.mkdir()
        self.config.write_text("# Made by selfheal.delivery.\nroute: {receiver: x}\nreceivers: [{name: x}]\n")
        ports = free_ports(2)
        self.prometheus, self.alertmanager = (f"http://127.0.0.1:{port}" for port in ports)
        scraped = [
            {
                "targets": [url.split("/")[2]],
                "labels": {"service": "shop", "environment": "test", "version": version},
            }
            for version, url in pages.items()
        ]
        whole = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules/*.yml"],
            "scrape_configs": [{"job_name": "shop", "static_configs": scraped}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{ports[1]}"]}]}]},
        }
        (folder / "prometheus.yml").write_text(json.dumps(whole))
        self.servers = [
            Child("prometheus", self._prometheus(ports[0]), folder),
            Child("alertmanager", self._alertmanager(ports[1]), folder),
        ]
        for server, url in zip(self.servers, (self.prometheus, self.alertmanager), strict=True):
            server.wait_ready(lambda url=url: answers(f"{url}/-/ready"))

    def _prometheus(self, port: int) -> List[str | Path]:
        where = [f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/tsdb"]
        flags = [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-lifecycle", "--log.level=warn"]
        return [go_tool("prometheus"), *where, *flags, *IMPATIENT]

    def _alertmanager(self, port: int) -> List[str | Path]:
        where = [f"--config.file={self.config}", f"--storage.path={self.folder}/am"]
        flags = [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=warn"]
        return [go_tool("alertmanager"), *where, *flags]

    def variables(self, url: str) -> Dict[str, Any]:
        """What the role is told; windows of seconds, that a test need not last an hour."""
        slack = {"channel": "#x", "api_url": f"http://127.0.0.1:9/{SECRET}"}
        return {
            "alerting_rules_path": str(self.rules),
            "alerting_promtool": str(go_tool("promtool")),
            "alerting_prometheus_url": self.prometheus,
            "alerting_catalogue": str(EXAMPLE / "error_codes.yml"),
            "alerting_windows": [{"long": "20s", "short": "4s", "factor": 14.4}],
            "alerting_for": "1s",
            "alerting_keep_firing_for": "2s",
            "alerting_config_path": str(self.config),
            "alerting_config": {
                "route": {"receiver": "on-call"},
                "receivers": [{"name": "on-call", "slack_configs": [slack]}],
            },
            "alerting_amtool": str(go_tool("amtool")),
            "alerting_alertmanager_url": self.alertmanager,
            "alerting_url": f"{url}/alerts",
            "alerting_credentials_file": str(self.token),
            "alerting_group_interval": "1s",
            "alerting_watchdog_every": "2s",
        }


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2, proxies={"http": ""}).status_code == 200
    except requests.RequestException:
        return False


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
    return found()


@contextmanager
def traffic(good: Place, bad: Place) -> Iterator[Event]:
    """Requests to both releases; some of the second one fail until the event is set."""
    over, mended = Event(), Event()

    def serve() -> None:
        while not over.wait(0.1):
            good.serve(20)
            bad.serve(4, 0 if mended.is_set() else 2)

    thread = Thread(target=serve)
    thread.start()
    try:
        yield mended
    finally:
        over.set()
        thread.join()


def run(folder: Path, env: Dict[str, str], tasks: List[Dict[str, Any]], *flags: str, **told: Any) -> List[Any]:
    """The role's two results, those of the tasks after it, and what was printed."""
    inventory = {
        "all": {
            "vars": {
                "ansible_connection": "local",
                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                "delivery_environment": "test",
                # a policy may use the variables of its own hosts, which the monitoring's host has not
                "delivery_services": {
                    "shop": policy(ERRORS, runbook="https://runbooks.example.org/{{ team }}"),
                    "elsewhere": policy(runbook="{{ nobody_has_this }}"),
                },
            },
            "hosts": {"monitoring": {}},
            "children": {"shop": {"hosts": {"web1": {"team": "shop"}}}, "empty": {}, "other": {"hosts": {"web2": {}}}},
        }
    }
    (folder / "hosts.json").write_text(json.dumps(inventory))
    steps: List[Dict[str, Any]] = [
        {"ansible.builtin.include_role": {"name": "selfheal.delivery.alerting"}, "vars": told},
        *({**task, "register": f"told{index}", "ignore_errors": True} for index, task in enumerate(tasks)),
    ]
    names = ["alerting_rules", "alerting_route", *(f"told{index}" for index in range(len(tasks)))]
    keep = {"content": "{{ [" + ", ".join(names) + "] | to_json }}", "dest": str(folder / "told.json")}
    steps.append({"ansible.builtin.copy": keep, "check_mode": False, "diff": False, "no_log": True})
    (folder / "play.yml").write_text(json.dumps([{"hosts": "monitoring", "gather_facts": False, "tasks": steps}]))
    command = ["ansible-playbook", "-i", "hosts.json", *flags, "play.yml"]
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [*json.loads((folder / "told.json").read_text()), done.stdout + done.stderr]


def posted(receiver: Hook, name: str, status: str) -> List[Dict[str, Any]]:
    """The bodies that have an alert of this name and status."""
    bodies = [json.loads(post.body) for post in list(receiver.posts)]
    wanted = (name, status)
    return [
        body for body in bodies if wanted in [(one["labels"]["alertname"], one["status"]) for one in body["alerts"]]
    ]


@pytest.fixture
def pages() -> Iterator[Dict[str, Any]]:
    """Two releases, and where each is scraped."""
    with ExitStack() as stack:
        places = {version: Place() for version in ("1.0.0", "2.0.0")}
        yield {version: (place, stack.enter_context(place.listening())) for version, place in places.items()}


def test_what_burns_is_posted_with_its_token_and_taken_back_when_it_ends(
    pages: Dict[str, Any], ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    with hook() as receiver, traffic(pages["1.0.0"][0], pages["2.0.0"][0]) as mended, ExitStack() as stack:
        monitoring = Monitoring(tmp_path, {version: url for version, (_place, url) in pages.items()})
        for server in monitoring.servers:
            stack.callback(server.kill)
        told = monitoring.variables(receiver.url)

        before = monitoring.config.read_text()
        rules, route, _said = run(tmp_path, ansible_env, [], "--check", **told)
        assert rules["changed"] and route["changed"] and not rules["reloaded"]
        assert not monitoring.rules.exists() and monitoring.config.read_text() == before

        rules, route, said = run(tmp_path, ansible_env, [], "--diff", "-vvv", **told)
        for result in (rules, route):
            assert result["changed"] and result["reloaded"] and result["checked_by"]
        assert rules["alerts"] == {"test/shop": ["ReleaseBurnsBudget", "ServiceBurnsBudget", "ServiceUnseen"]}
        assert rules["unwatched"] == [] and '+  - alert: "ReleaseBurnsBudget"' in said
        assert SECRET in monitoring.config.read_text() and SECRET not in said
        assert TOKEN not in monitoring.config.read_text()

        (body, *_more) = until(lambda: posted(receiver, "ReleaseBurnsBudget", "firing"))
        assert body["groupLabels"] == {"service": "shop", "environment": "test"} and body["receiver"] == "selfheal"
        (alert,) = body["alerts"]
        assert alert["labels"] == {
            "alertname": "ReleaseBurnsBudget",
            "service": "shop",
            "environment": "test",
            "gate": "errors",
            "severity": "critical",
            "response": "rollback",
            "owner": "team-shop",
            "release": "2.0.0",
            "version": "2.0.0",
        }
        assert alert["annotations"]["runbook_url"] == "https://runbooks.example.org/shop"
        until(lambda: posted(receiver, "Watchdog", "firing")[1:])
        mended.set()
        until(lambda: posted(receiver, "ReleaseBurnsBudget", "resolved"))
        assert {post.headers.get("Authorization") for post in receiver.posts} == {f"Bearer {TOKEN}"}
        names = {one["labels"]["alertname"] for post in receiver.posts for one in json.loads(post.body)["alerts"]}
        assert names == {"ReleaseBurnsBudget", "Watchdog"}, "who acts is not paged"

        _mistakes(monitoring, tmp_path, ansible_env, told)


def _mistakes(monitoring: Monitoring, folder: Path, env: Dict[str, str], told: Dict[str, Any]) -> None:
    """The role changes nothing when it runs again, and neither does anything that is wrong, which is told."""
    rules, config = monitoring.rules.read_text(), monitoring.config.read_text()
    foreign = folder / "foreign.yml"
    foreign.write_text("groups: []\n")
    tool = str(go_tool("promtool"))
    file = {"path": str(monitoring.rules), "kind": "rules", "checker": tool, "content": "groups: []\n"}
    broken = "groups: [{name: x, rules: [{alert: x, expr: 'sum('}]}]\n"
    ours = {"path": str(monitoring.rules), "checker": tool}
    way = {"path": str(monitoring.config), "url": "http://127.0.0.1:1/alerts", "credentials_file": "x"}
    tasks = {
        "finds .* wrong: .*parse error": ("alert_file", {**file, "content": broken}),
        "answers HTTP 500: failed to reload config": (
            "alert_file",
            {**file, "content": broken, "checker": "/bin/true", "reload_url": monitoring.prometheus},
        ),
        "127.0.0.1:1/-/reload cannot be asked": ("alert_file", {**file, "reload_url": "http://127.0.0.1:1"}),
        "reload_url is not a plain": ("alert_file", {**file, "reload_url": "http://a:b@127.0.0.1:1"}),
        "was written by somebody else": ("alert_rules", {**ours, "path": str(foreign)}),
        "has no group 'shp'": ("alert_rules", {**ours, "services": ["shp"]}),
        "no policy of 'other'": ("alert_rules", {**ours, "services": ["other"]}),
        "objectives names 'shp', which is no service .did you mean 'shop'": (
            "alert_rules",
            {**ours, "objectives": {"shp": {}}},
        ),
        "for must be a duration": ("alert_rules", {**ours, "for": "soon"}),
        "no route and receivers": ("alert_route", {**way, "config": {"global": {}}}),
        "finds .* wrong: what it says is not shown": (
            "alert_route",
            {
                **way,
                "checker": str(go_tool("amtool")),
                "config": {
                    "route": {"receiver": "x"},
                    "receivers": [{"name": "y", "slack_configs": [{"api_url": SECRET}]}],
                },
            },
        ),
    }
    steps: List[Dict[str, Any]] = [{f"selfheal.delivery.{module}": options} for module, options in tasks.values()]
    steps.append({"selfheal.delivery.alert_rules": {"services": ["shop"]}})
    *again, said = run(folder, env, steps, "-vvv", **told)
    assert not again[0]["changed"] and not again[1]["changed"]
    results = again[2:]
    for reason, result in zip(tasks, results, strict=False):
        assert result["failed"], reason
        assert re.search(reason, result["msg"]), (reason, result["msg"])
    assert results[-1]["content"].startswith("# Made by selfheal.delivery") and not results[-1]["changed"]
    assert SECRET not in said
    assert (monitoring.rules.read_text(), monitoring.config.read_text()) == (rules, config)
    assert foreign.read_text() == "groups: []\n"
