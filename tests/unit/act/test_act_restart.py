# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarting and asking for health, with real processes and real answers."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
from act_place import Place

from ansible_collections.selfheal.delivery.plugins.module_utils._act import health, service
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError


def run(folder: Path, *argv: str, timeout: float = 10.0) -> "str | None":
    return service.run(argv, folder=str(folder), log=str(folder / "log"), timeout=timeout)


def test_output_is_told_in_bounds_and_only_when_it_failed(tmp_path: Path) -> None:
    assert run(tmp_path, "/bin/echo", "fine") is None
    assert (tmp_path / "log").read_text() == "fine\n"
    assert run(tmp_path, "/bin/false") == "'/bin/false' ended with 1"
    long = run(tmp_path, "/bin/sh", "-c", "yes talkative | head -c 100000; echo the end >&2; exit 2")
    assert long is not None and long.endswith("the end") and len(long) < service.TAIL + 100
    odd = run(tmp_path, "/bin/sh", "-c", r"printf '\377\376 odd'; exit 2")
    assert odd is not None and odd.endswith("odd")


def test_commands_that_cannot_start(tmp_path: Path) -> None:
    assert run(tmp_path, "/no/such/command") == "'/no/such/command' could not be started: No such file or directory"
    assert "could not be started" in str(run(tmp_path / "nowhere", "/bin/true"))
    with pytest.raises(PlaceError, match="cannot be read"):
        service.tail(str(tmp_path))


def test_what_it_leaves_in_the_background_lives_and_holds_nothing(tmp_path: Path) -> None:
    """A server that a restart script starts, the plain way, without nohup or redirections."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, False)
    began = time.monotonic()
    assert run(tmp_path, "/bin/sh", "-c", "sleep 300 & echo $! > pid") is None
    assert time.monotonic() - began < 60
    pid = int((tmp_path / "pid").read_text())
    try:
        os.kill(pid, 0)
        assert os.getpgid(pid) != os.getpgid(0)
        # while it begins, it reads its locale
        while (held := held_by(pid)) != {"/dev/null", str(tmp_path / "log")}:
            assert time.monotonic() - began < 60, held
            time.sleep(0.05)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(reader)
        os.close(writer)


def held_by(pid: int) -> Set[str]:
    """The files that it has open."""
    found: Set[str] = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.add(os.readlink(file))
    return found


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_late_commands_are_ended_with_their_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_GRACE", 0.05)
    late = run(tmp_path, "/bin/sh", "-c", "echo $$ > pid; echo stuck; sleep 300", timeout=1.5)
    assert late == "'/bin/sh' did not end within 1.5 s, saying: stuck"
    assert gone(int((tmp_path / "pid").read_text()))
    deaf = run(tmp_path, "/bin/sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 0.01; done", timeout=1.5)
    assert deaf == "'/bin/sh' did not end within 1.5 s"
    assert gone(int((tmp_path / "pid").read_text()))


def test_words() -> None:
    assert service.argv_of("systemctl --user 'restart it'", "restart.command") == ("systemctl", "--user", "restart it")
    assert service.argv_of(("a", ""), "restart.command") == ("a", "")
    for wrong in ("", "  ", (), ("",), ("a\0",), "unclosed 'quote"):
        with pytest.raises(OptionError, match=r"restart\.command"):
            service.argv_of(wrong, "restart.command")


def test_services(monkeypatch: pytest.MonkeyPatch) -> None:
    for systemd, argv in ((True, ("systemctl", "restart", "--", "shop@1")), (False, ("service", "shop@1", "restart"))):
        monkeypatch.setattr(os.path, "isdir", lambda _path, answer=systemd: answer)
        assert service.service_argv("shop@1") == argv
    for wrong in ("", "-x", "a b", "a/b", "a\n", "a;b"):
        with pytest.raises(OptionError, match="cannot name a service"):
            service.service_argv(wrong)


def test_service_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.path.isdir("/run/systemd/system"):
        name = "systemctl"
    else:
        name = "service"
    tool = tmp_path / "bin" / name
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    place = Place(tmp_path)
    place.deploy("1.0", restart={"service": "shop", "timeout": 5.0}, health=None)
    assert "shop" in (tmp_path / "said").read_text().split()


class Answers(BaseHTTPRequestHandler):
    """Says what its server was told to, in turn; the last for ever."""

    said: List[Tuple[int, bytes]] = []
    asked: List[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)
        while body == b"endless":
            try:
                self.wfile.write(b"more and more ")
            except OSError:
                return

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    Answers.said, Answers.asked = [(200, b"ok")], []
    listening = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    listening.server_close()


class Clock:
    """Sleeping is what lets its time pass."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: List[float] = []

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds


def wait(asked: health.Health, folder: Path, clock: "Clock | None" = None) -> "str | None":
    clock = clock or Clock()
    return health.wait(asked, folder=str(folder), log=str(folder / "log"), now=clock.now, sleep=clock.sleep)


def test_healthy_at_once(server: str, tmp_path: Path) -> None:
    clock = Clock()
    assert wait(health.Health(url=server), tmp_path, clock) is None
    assert (clock.slept, Answers.asked) == ([], ["/"])


def test_healthy_after_a_while(server: str, tmp_path: Path) -> None:
    Answers.said = [(503, b""), (200, b"version 1.0"), (200, b"version 2.0")]
    clock = Clock()
    asked = health.Health(url=f"{server}/healthz?deep=1", contains="2.0", timeout=30, interval=2)
    assert wait(asked, tmp_path, clock) is None
    assert (clock.slept, Answers.asked) == ([2, 2], ["/healthz?deep=1"] * 3)


def test_never_healthy(server: str, tmp_path: Path) -> None:
    Answers.said = [(500, b"stack trace")]
    clock = Clock()
    problem = wait(health.Health(url=f"{server}/h?token=abc", timeout=10, interval=3), tmp_path, clock)
    assert problem == f"{server}/h answers 500"
    assert clock.at < 10 and len(Answers.asked) == 4
    assert wait(health.Health(url=server, status=(500, 503)), tmp_path) is None
    Answers.said = [(200, b"old")]
    assert (
        wait(health.Health(url=server, contains="new", timeout=5, interval=5), tmp_path)
        == f"{server} answers 200, but without 'new'"
    )
    Answers.said = [(302, b"")]
    assert wait(health.Health(url=server, timeout=5, interval=5), tmp_path) == f"{server} answers 302"


def test_an_answer_without_end(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Answers.said = [(200, b"endless")]
    assert wait(health.Health(url=server, contains="more and more"), tmp_path) is None
    monkeypatch.setattr(health, "_BODY", 1 << 40)
    assert wait(health.Health(url=server, contains="less is more", timeout=0.3), tmp_path) is not None


def test_proxies_of_the_environment_are_not_asked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert wait(health.Health(url=server), tmp_path) is None


def test_nobody_answers(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        for url in (f"http://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/"):
            problem = wait(health.Health(url=url, timeout=0.5), tmp_path)
            assert problem is not None and problem.startswith(f"{url} does not answer (")


def test_no_http(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def hang_up() -> None:
            connection, _peer = listening.accept()
            connection.recv(1000)
            connection.sendall(b"220 mail.example ready\r\n")
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        problem = wait(
            health.Health(url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=5, interval=5), tmp_path
        )
        thread.join()
    assert problem is not None and "does not answer" in problem


def test_health_by_command(tmp_path: Path) -> None:
    asked = health.Health(argv=("/bin/sh", "-c", "echo x >> tries; test $(wc -l < tries) -ge 3"), interval=1.0)
    assert wait(asked, tmp_path) is None
    failing = health.Health(argv=("/bin/sh", "-c", "echo no database; exit 1"), timeout=5, interval=5)
    assert wait(failing, tmp_path) == "'/bin/sh' ended with 1, saying: no database"
    says = health.Health(argv=("/bin/echo", "version 1.0"), contains="1.0")
    assert wait(says, tmp_path) is None
    other = health.Health(argv=("/bin/echo", "version 1.0"), contains="2.0", timeout=5, interval=5)
    assert wait(other, tmp_path) == "'/bin/echo' does not say '2.0', saying: version 1.0"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "shop",
        "ftp://x/",
        "file:///etc/passwd",
        "http://",
        "http://u:secret@x/",
        "http://x:99999/",
        "http://x:a/",
        "http://[x/",
        "http://x/a b",
        "http://x/\n",
    ],
)
def test_odd_addresses(wrong: str) -> None:
    with pytest.raises(OptionError, match=r"health\.url is not") as told:
        health.checked_url(wrong)
    assert "secret" not in told.value.message


def test_options(tmp_path: Path) -> None:
    place = Place(tmp_path)
    good: Dict[str, Any] = {"command": ["/bin/true"], "status": None, "timeout": 1, "interval": 0.1}
    wrong: List[Tuple[Dict[str, Any], str]] = [
        ({"restart": {"command": {}, "timeout": 1}}, "restart.command is neither text nor a list"),
        ({"restart": {"command": None, "timeout": 1}}, "restart.command is neither text nor a list"),
        ({"restart": {"command": "x", "timeout": 0}}, "restart.timeout is not a number of seconds"),
        ({"restart": {"command": "x", "timeout": float("nan")}}, "restart.timeout is not a number of seconds"),
        ({"health": {**good, "timeout": -1}}, "health.timeout is not a number of seconds"),
        ({"health": {**good, "interval": float("inf")}}, "health.interval is not a number of seconds"),
        ({"health": {**good, "command": [["x"]]}}, "health.command is neither text nor a list"),
        ({"shared": "log"}, "shared is neither"),
        ({"state": "promoted", "keep": 0}, "keep is 0"),
    ]
    for given, why in wrong:
        if "shared" in given:
            given = {"shared": {"log": 1}}
        with pytest.raises(OptionError, match=why):
            place.do(release="1.0", src=place.source("1.0"), **given)
    assert not place.path.exists()
    assert place.deploy("1.0", restart=None, health=good).changed


def test_who_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    monkeypatch.setenv("SUDO_USER", "anna")
    place.deploy("1.0")
    assert place.metadata("1.0")["by"] == "anna"
    monkeypatch.delenv("SUDO_USER")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    place.deploy("2.0")
    assert place.metadata("2.0")["by"] == "54321"


def test_looking_where_nothing_is(tmp_path: Path) -> None:
    seen = Place(tmp_path / "not/there").look()
    free = seen.pop("free_bytes")
    assert isinstance(free, int) and free > 0
    assert seen == {
        "current": None,
        "previous": None,
        "known_good": None,
        "releases": [],
        "journal": None,
        "settled": True,
        "token": None,
    }
    assert os.listdir(tmp_path) == []
