# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Alertmanager posts to the source: with a token, with a password, with a certificate, and after refusals."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
import yaml
from child import Child, free_ports
from go_tool import go_tool
from source_alone import TOKEN, Source, alert, group, secret_file

PASSWORD = "pass-word-of-sixteen"


class Alertmanager:
    """One that sends everything it is told to a webhook, at once, grouped by service."""

    def __init__(self, folder: Path, name: str, url: str, **http: Any) -> None:
        port = free_ports(1)[0]
        webhook = {"url": url, "http_config": http, "send_resolved": True}
        waits = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h", "group_by": ["service"]}
        config = {
            "route": {"receiver": "selfheal", **waits},
            "receivers": [{"name": "selfheal", "webhook_configs": [webhook]}],
        }
        (folder / f"{name}.yml").write_text(yaml.safe_dump(config))
        command = [go_tool("alertmanager"), f"--config.file={name}.yml", f"--storage.path={folder / name}"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
        self.url = f"http://127.0.0.1:{port}"
        self.child = Child(name, command, folder)
        self.child.wait_ready(lambda: self.tool("alert").returncode == 0)

    def tool(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [go_tool("amtool"), f"--alertmanager.url={self.url}", "--no-version-check", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def fire(self, name: str, service: str) -> None:
        assert self.tool("alert", "add", f"alertname={name}", f"service={service}").returncode == 0

    def resolve(self, name: str, service: str) -> None:
        ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        assert self.tool("alert", "add", f"alertname={name}", f"service={service}", f"--end={ended}").returncode == 0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ca.pem` and `other.pem`, and `server`, `client` and `stranger`, each a `.pem` and a `.key`."""
    folder = tmp_path_factory.mktemp("keys")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    strict = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    commands: List[Tuple[str, ...]] = []
    for ca in ("ca", "other"):
        commands.append(
            (
                "req",
                "-x509",
                *key,
                *strict,
                "-subj",
                f"/CN={ca}",
                "-days",
                "2",
                "-keyout",
                f"{ca}.key",
                "-out",
                f"{ca}.pem",
            )
        )
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        sign = ("-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
        commands.append(("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"))
        commands.append(("x509", "-req", "-in", f"{name}.csr", *sign, "-out", f"{name}.pem"))
    for command in commands:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def secured(tmp_path: Path, keys: Path) -> Iterator[Source]:
    """A source with TLS that takes a token, a user and certificates."""
    source = Source(
        tmp_path,
        start=False,
        token_file=str(secret_file(tmp_path / "token", TOKEN)),
        users_file=str(secret_file(tmp_path / "users", f"ada:{PASSWORD}")),
        client_ca=str(keys / "ca.pem"),
        certfile=str(keys / "server.pem"),
        keyfile=str(keys / "server.key"),
    )
    source.child.wait_ready(lambda: "Listening" in source.log())
    yield source
    source.stop()


@pytest.mark.xdist_group("source_alertmanager")
def test_each_way_to_prove_who_posts(secured: Source, keys: Path, tmp_path: Path) -> None:
    url, ca = f"https://127.0.0.1:{secured.port}/alerts", {"ca_file": str(keys / "ca.pem")}
    client = {"cert_file": str(keys / "client.pem"), "key_file": str(keys / "client.key")}
    stranger = {"cert_file": str(keys / "stranger.pem"), "key_file": str(keys / "stranger.key")}
    ways: Dict[str, Dict[str, Any]] = {
        "bearer": {"authorization": {"credentials_file": str(tmp_path / "token")}, "tls_config": ca},
        "basic": {"basic_auth": {"username": "ada", "password": PASSWORD}, "tls_config": ca},
        "mtls": {"tls_config": {**ca, **client}},
        "nothing": {"tls_config": ca},
        "wrong": {"authorization": {"credentials": "wrong-wrong-wrong-wrong"}, "tls_config": {**ca, **client}},
        "stranger": {"tls_config": {**ca, **stranger}},
    }
    posting = [Alertmanager(tmp_path, name, url, **http) for name, http in ways.items()]
    for name, one in zip(ways, posting, strict=True):
        one.fire("High", name)
    secured.until(3)
    posting[0].resolve("High", "bearer")
    secured.until(4)
    deadline = time.monotonic() + 20
    while not all("ecoverable" in one.child.last_lines() or "tls" in one.child.last_lines() for one in posting[3:]):
        assert time.monotonic() < deadline, [one.child.last_lines(3) for one in posting[3:]]
        time.sleep(0.2)
    events = secured.events()
    proofs = {(event["meta"]["selfheal"]["verified"], event["meta"]["selfheal"]["key"]) for event in events}
    assert proofs == {("bearer", "token-1"), ("basic", "ada"), ("mtls", "client")}
    assert {each["payload"]["alerts"][0]["labels"]["service"] for each in events} == {"bearer", "basic", "mtls"}
    assert [event["payload"]["status"] for event in events].count("resolved") == 1
    assert all(event["payload"]["version"] == "4" and event["payload"]["groupKey"] for event in events)
    for secret in (TOKEN, PASSWORD):
        assert secret not in secured.log() + "".join(one.child.last_lines(50) for one in posting)
    for one in posting:
        one.child.kill()


@pytest.mark.xdist_group("source_alertmanager")
def test_alertmanager_tries_again_until_it_is_taken(tmp_path: Path) -> None:
    source = Source(tmp_path, wait_for="playbook", slots=1, spool_max=1)
    about = {"authorization": {"credentials_file": str(tmp_path / "token")}}
    one = Alertmanager(tmp_path, "one", f"http://127.0.0.1:{source.port}/alerts", **about)
    assert source.post(group(alert("Before", "a")))[0] == 200
    one.fire("High", "b")
    source.child.wait_ready(lambda: source.metrics()['requests_total{outcome="unavailable"}'] > 0, 20)
    (uuid,) = source.events()[0]["meta"]["selfheal"]["ack"]
    (source.spool / "done" / uuid).touch()
    assert source.until(2, timeout=30)[1] == ("High", "firing")
    one.child.kill()
    source.stop()


def test_the_metrics_are_what_prometheus_expects(tmp_path: Path) -> None:
    source = Source(tmp_path)
    source.post(group(alert("High"), alert("Watchdog")))
    text = source.get("/metrics")[1]
    check = [go_tool("promtool"), "check", "metrics", "--lint=all"]
    checked = subprocess.run(check, input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    source.stop()
