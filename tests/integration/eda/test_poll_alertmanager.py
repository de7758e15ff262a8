# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The polling source against a real Alertmanager: alerts, silences, secrets, and what is no answer at all."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import resource
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

import pytest
import yaml
from child import Child, free_ports
from go_tool import go_tool
from sense_servers import Reply, Request, web

from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_source.alertmanager_poll import (
    Poll,
    main,
    parse_options,
)

PASSWORD = "r3ader pw"
HASHED = "$2b$05$abcdefghijklmnopqrstuu053MewxUxOnVvgdm6uHnzRAqF4n1ZqS"  # of PASSWORD, as Alertmanager wants it
CONFIG = {
    "route": {"receiver": "nobody", "routes": [{"receiver": "healing", "matchers": ['severity="page"']}]},
    "receivers": [{"name": "nobody"}, {"name": "healing"}],
    "inhibit_rules": [
        {"source_matchers": ["alertname=Outage"], "target_matchers": ["alertname=High"], "equal": ["service"]}
    ],
}


class Alertmanager:
    """One that runs in a folder of its own; its alerts are gone when it is killed, its silences are not asked for."""

    def __init__(self, folder: Path, *, tls: Mapping[str, object] | None = None) -> None:
        self.port = free_ports(1)[0]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        (folder / "am.yml").write_text(yaml.safe_dump(CONFIG))
        command = [go_tool("alertmanager"), "--config.file=am.yml", f"--storage.path={folder / 'data'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--cluster.listen-address="]
        if tls:
            (folder / "web.yml").write_text(yaml.safe_dump(tls))
            command.append("--web.config.file=web.yml")
        self.child = Child("alertmanager", command, folder)

    def tool(self, *words: str) -> str:
        command = [go_tool("amtool"), f"--alertmanager.url={self.url}", "--no-version-check", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.strip()

    def fire(self, name: str, service: str = "shop", *more: str, severity: str = "page") -> None:
        self.tool(
            "alert", "add", name, f"service={service}", f"severity={severity}", "--annotation=summary=many", *more
        )

    def resolve(self, name: str, service: str = "shop") -> None:
        self.fire(name, service, f"--end={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}")

    def wait_ready(self) -> None:
        def ready() -> bool:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        self.child.wait_ready(ready)


class Taken:
    """The queue that a rulebook would read."""

    def __init__(self) -> None:
        self.events: List[Dict[str, Any]] = []

    async def put(self, data: Any) -> None:
        self.events.append(data)

    def alerts(self) -> List[str]:
        """What came since this was called last: status, name and service of each alert."""
        found = [alert for event in self.events for alert in event["payload"]["alerts"]]
        self.events.clear()
        return sorted(f"{a['status']} {a['labels']['alertname']} {a['labels'].get('service')}" for a in found)


class Asking:
    """The source, asked one question at a time."""

    def __init__(self, url: str, **options: Any) -> None:
        self.options = parse_options({"url": url, "gone_after": 0, **options})
        self.poll = Poll(self.options)
        self.taken = Taken()

    def ask(self) -> List[str]:
        asyncio.run(self.poll.once(self.taken))
        return self.taken.alerts()

    def until(self, wanted: List[str]) -> None:
        """Ask until this has come; an Alertmanager takes a moment for what it was told."""
        came: List[str] = []
        deadline = time.monotonic() + 20
        while sorted(came) != sorted(wanted):
            assert time.monotonic() < deadline, f"{came}, not {wanted}"
            came += self.ask()

    @property
    def answers(self) -> Dict[str, int]:
        return self.poll._counts.answers

    def quiet(self) -> int:
        return self.poll._counts.alerts["quiet"]


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    server = Alertmanager(tmp_path_factory.mktemp("alertmanager"))
    server.wait_ready()
    yield server
    server.child.kill()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem`, and `server` and `client`, each a `.pem` and a `.key`, for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("keys")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    strict = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    commands = [("req", "-x509", *key, *strict, "-subj", "/CN=ca", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")]
    sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
    for name in ("server", "client"):
        request = f"{name}.csr"
        commands.append(("req", *key, "-keyout", f"{name}.key", "-out", request, "-subj", f"/CN={name}"))
        commands.append(("x509", "-req", "-in", request, *sign, "-out", f"{name}.pem"))
    commands.append(("ec", "-aes128", "-passout", "pass:x", "-in", "client.key", "-out", "locked.key"))
    for command in commands:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


def warnings(caplog: pytest.LogCaptureFixture) -> List[str]:
    """What was logged since this was called last."""
    found = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return found


def test_alerts_silences_and_the_end(alertmanager: Alertmanager) -> None:
    asking = Asking(alertmanager.url, matchers=["service=~shop|cart"])
    assert asking.ask() == []
    alertmanager.fire("High")
    alertmanager.fire("Slow", "cart")
    asking.until(["firing High shop", "firing Slow cart"])
    alertmanager.fire("High")
    assert [asking.ask(), asking.ask()] == [[], []]

    silence = alertmanager.tool("silence", "add", "--author=ada", "--comment=maintenance", "service=cart")
    outage = "--annotation=why=everything"
    alertmanager.fire("Outage", "shop", outage)  # inhibits High
    asking.until(["firing Outage shop"])
    deadline = time.monotonic() + 20
    while asking.quiet() != 2:
        assert (asking.ask(), time.monotonic() < deadline) == ([], True)
    alertmanager.fire("Late", "cart")  # silenced from its beginning
    while asking.quiet() != 3:
        assert (asking.ask(), time.monotonic() < deadline) == ([], True)

    alertmanager.tool("silence", "expire", silence)
    asking.until(["firing Late cart"])
    alertmanager.resolve("Outage")
    alertmanager.resolve("Slow", "cart")
    asking.until(["resolved Outage shop", "resolved Slow cart"])
    assert asking.answers.keys() == {"answered"}


def test_matchers_and_receivers_choose(alertmanager: Alertmanager) -> None:
    alertmanager.fire("Chosen", "bank")
    alertmanager.fire("Minor", "bank", severity="info")
    routed = Asking(alertmanager.url, receiver="heal.*", matchers=['service="bank"'])
    routed.until(["firing Chosen bank"])
    assert routed.ask() == []
    Asking(alertmanager.url, matchers=["service=bank", "severity=info"]).until(["firing Minor bank"])


def test_a_wrong_matcher_is_told_once(alertmanager: Alertmanager, caplog: pytest.LogCaptureFixture) -> None:
    asking = Asking(alertmanager.url, matchers=["no matcher {{"])
    assert [asking.ask(), asking.ask()] == [[], []]
    (line,) = warnings(caplog)
    assert "it answers 400: look at matchers and receiver" in line
    assert asking.answers == {"status": 2}


def test_an_alertmanager_that_is_killed_and_comes_back_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Alertmanager(tmp_path)
    server.wait_ready()
    metrics = tmp_path / "poll.prom"
    asking = Asking(server.url, gone_after=120, metrics_file=str(metrics))
    server.fire("High")
    asking.until(["firing High shop"])
    server.child.kill()
    assert [asking.ask() for _question in range(5)] == [[]] * 5
    (line,) = warnings(caplog)
    assert f"what fires at {server.url} is not known: " in line
    assert asking.answers["unreachable"] == 5
    assert "selfheal_events_poll_up 0" in metrics.read_text()
    assert asking.poll.pause() > asking.options.every

    server.child.start()
    server.wait_ready()
    assert [asking.ask(), asking.ask()] == [[], []]  # it knows no alerts any more, and nobody is told of an end
    assert warnings(caplog) == [f"{server.url} answers again, after 5 failures."]
    server.fire("High")  # as Prometheus sends it again; begun later, so it is another incident
    asking.until(["firing High shop", "resolved High shop"])
    text = metrics.read_text()
    assert "selfheal_events_poll_up 1" in text
    assert 'selfheal_events_poll_questions_total{result="unreachable"} 5' in text
    assert 'selfheal_events_poll_emitted_total{status="resolved"} 1' in text
    server.child.kill()


def test_secrets_right_wrong_and_rotated(tmp_path: Path, keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = {"cert_file": str(keys / "server.pem"), "key_file": str(keys / "server.key")}
    server = Alertmanager(tmp_path, tls={"tls_server_config": tls, "basic_auth_users": {"reader": HASHED}})
    secret = tmp_path / "password"
    secret.write_text("wr0ng pw\n")
    given = {"username": "reader", "password_file": str(secret)}
    asking = Asking(server.url, ca=str(keys / "ca.pem"), **given)
    server.child.wait_ready(lambda: not asking.ask() and "refused" in asking.answers)
    (line,) = [line for line in warnings(caplog) if "401" in line]
    assert "look at token_file, or username and password_file" in line
    assert "wr0ng" not in caplog.text
    secret.write_text(PASSWORD)
    assert asking.ask() == []
    assert asking.answers["answered"] == 1
    secret.unlink()
    assert asking.ask() == []
    assert "cannot be read: No such file" in warnings(caplog)[-1]
    secret.write_text(PASSWORD)
    asking.ask()
    assert asking.answers == {**asking.answers, "secret": 1, "answered": 2}

    stranger = Asking(server.url, **given)  # which does not know the authority
    stranger.ask()
    assert stranger.answers == {"tls": 1}
    assert "look at ca, certfile and keyfile" in warnings(caplog)[-1]
    server.child.kill()


def test_a_client_shows_its_certificate(tmp_path: Path, keys: Path) -> None:
    tls = {"cert_file": str(keys / "server.pem"), "key_file": str(keys / "server.key")}
    strict = {**tls, "client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": str(keys / "ca.pem")}
    server = Alertmanager(tmp_path, tls={"tls_server_config": strict})
    shown = {"certfile": str(keys / "client.pem"), "keyfile": str(keys / "client.key")}
    known, unknown = (Asking(server.url, ca=str(keys / "ca.pem"), **given) for given in (shown, {}))
    server.child.wait_ready(lambda: not known.ask() and "answered" in known.answers)
    unknown.ask()
    assert "answered" not in unknown.answers
    with pytest.raises(ValueError, match="no TLS with .*locked.key"):  # and nobody is asked for a passphrase
        asyncio.run(main(Taken(), {"url": server.url, **shown, "keyfile": str(keys / "locked.key")}))
    server.child.kill()


def test_a_bearer_token_reaches_the_gateway_before_it(alertmanager: Alertmanager, tmp_path: Path) -> None:
    alertmanager.fire("Behind", "till")

    def gateway(request: Request) -> Reply:
        if request.headers.get("Authorization") != "Bearer t0ken":
            return Reply("<h1>no</h1>", 401)
        query = urllib.parse.urlencode({"filter": request.form["filter"]})
        with urllib.request.urlopen(f"{alertmanager.url}/api/v2/alerts?{query}", timeout=5) as answer:
            return Reply(answer.read(), content_type="application/json")

    token = tmp_path / "token"
    token.write_text("old")
    with web(gateway) as (url, asked):
        asking = Asking(url, token_file=str(token), matchers=['service="till"'])
        assert asking.ask() == []
        token.write_text("t0ken\n")
        asking.until(["firing Behind till"])
    assert asking.answers["refused"] == 1
    assert {request.path for request in asked} == {"/api/v2/alerts"}


HIGH = {"alertname": "High", "service": "shop"}
ONE = {"fingerprint": "f1", "startsAt": "2026-11-21T18:00:00Z", "labels": HIGH, "status": {"state": "active"}}
GOOD = Reply(json.dumps([ONE]), content_type="application/json")


@pytest.mark.parametrize(
    ("reply", "word"),
    [
        (Reply("<html>Sign in</html>", content_type="text/html"), "not_json"),
        (Reply("<html>Sign in</html>", content_type="application/json"), "not_json"),
        (Reply(b"\xff\xfe[]"), "not_json"),
        (Reply("[" * 200_000), "not_json"),
        (Reply(""), "not_json"),
        (Reply(gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"}), "not_json"),
        (Reply('{"status": "error"}'), "not_alerts"),
        (Reply("null"), "not_alerts"),
        (Reply("", 302, headers={"Location": "https://login.example.org/"}), "redirected"),
        (Reply("[]", 503), "status"),
        (Reply("", 204), "status"),
        (Reply("no", 403), "refused"),
        (Reply("[]", delay=30), "timeout"),
        (Reply("[" + " " * 50, drip=0.1), "timeout"),
        (Reply(b"[" + b" " * 10_500_000 + b"]"), "too_large"),
        (Reply("[]", headers={"X-Long": "y" * 100_000}), "unreachable"),
    ],
)
def test_what_is_no_answer_never_means_that_nothing_fires(
    reply: Reply, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    replies = [GOOD, reply, reply, GOOD]
    with web(lambda _request: replies.pop(0)) as (url, _asked):
        asking = Asking(url, timeout=1, max_answer=10_000_000)
        assert [asking.ask() for _question in range(4)] == [["firing High shop"], [], [], []]
    assert asking.answers == {"answered": 2, word: 2}
    assert len(warnings(caplog)) == 2  # the failure once, and its end
    assert "login.example.org" not in caplog.text


def test_ten_megabytes_of_real_alerts(alertmanager: Alertmanager) -> None:
    """They are read whole, while the loop of the engine goes on, and told once."""
    many = [
        {
            "labels": {"alertname": f"a{number}", "service": f"s{number % 500}", "set": "large"},
            "annotations": {"text": "x" * 800},
        }
        for number in range(10_000)
    ]
    for start in range(0, len(many), 2500):
        body = json.dumps(many[start : start + 2500]).encode()
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{alertmanager.url}/api/v2/alerts", body, head)
        urllib.request.urlopen(request, timeout=30).read()
    asking = Asking(alertmanager.url, matchers=["set=large"], timeout=30)
    longest = 0.0

    async def asked() -> None:
        nonlocal longest
        working = asyncio.create_task(asking.poll.once(asking.taken))
        while not working.done():
            begun = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - begun)

    seen = 0
    deadline = time.monotonic() + 60
    while seen < len(many):
        assert time.monotonic() < deadline
        asyncio.run(asked())
        seen += len(asking.taken.alerts())
    assert longest < 1.0, longest
    assert [asking.ask() for _question in range(3)] == [[]] * 3
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert [asking.ask() for _question in range(7)] == [[]] * 7
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 30_000, f"{grown} KiB more"


RULEBOOK = """
- name: watched
  hosts: all
  sources:
    - selfheal.delivery.alertmanager_poll:
        url: "{{ alertmanager }}"
        every: 0.2
      filters:
        - selfheal.delivery.alerts:
  rules:
    - name: told
      condition: event.kind is defined
      action:
        print_event:
"""


def test_in_ansible_rulebook_it_outlives_its_alertmanager(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    server = Alertmanager(tmp_path)
    server.child.kill()
    (tmp_path / "rulebook.yml").write_text(RULEBOOK)
    (tmp_path / "vars.yml").write_text(f"alertmanager: {server.url}\n")
    command = [Path(sys.executable).with_name("ansible-rulebook"), "-r", "rulebook.yml", "--vars", "vars.yml"]
    engine = Child("rulebook", command, tmp_path, env=ansible_env)
    engine.wait_ready(lambda: "is not known" in engine.log.read_text())
    server.child.start()
    server.wait_ready()
    server.fire("High")
    engine.wait_ready(lambda: "'name': 'High'" in engine.log.read_text())
    server.child.kill()
    engine.wait_ready(lambda: engine.log.read_text().count("is not known") == 2)
    assert engine.log.read_text().count("'out_of_order'") == 1  # one event
    engine.kill()

    (tmp_path / "vars.yml").write_text("other: 1\n")
    done = subprocess.run(command, cwd=tmp_path, env=ansible_env, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "'alertmanager' is undefined" in done.stdout + done.stderr
