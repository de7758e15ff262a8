# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real ansible-rulebook, a real Alertmanager, and a Prometheus that has rules, as children of a test."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence

import requests
import yaml
from ansible_run import family, script
from child import Child, ChildFailed, free_ports
from go_tool import go_tool

STOPS_WITHIN = 30.0  # seconds
# of one machine, never through a proxy
HERE = {"http": "", "https": ""}


class Rulebook:
    """One ansible-rulebook in `folder`. Its source shows a bearer token, has a spool, and can be killed and restarted.

    `rulebook` is a file or the name of one in a collection; `variables` come before those that are given here, and
    one that is None is left unset. With `persistence`, what the engine knows outlives it, in a database of H2.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        rulebook: str = "selfheal.delivery.alert_rollback",
        *,
        inventory: Path,
        variables: Mapping[str, object] | None = None,
        persistence: bool = False,
        arguments: Sequence[str] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.token, self.port = folder, secrets.token_hex(16), free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.token_file, self.spool = folder / "token", folder / "spool"
        self.token_file.touch(0o600)
        self.token_file.write_text(self.token)
        self.env = {**env, "SELFHEAL_TOKEN": self.token, "HOME": str(folder), "TMPDIR": str(folder / "tmp")}
        (folder / "tmp").mkdir(exist_ok=True)
        given: Dict[str, object] = {"selfheal_port": self.port, "selfheal_token_file": str(self.token_file)}
        given.update({"selfheal_spool": str(self.spool), "SELFHEAL_TOKEN": self.token, **(variables or {})})
        words = ["--rulebook", rulebook, "--inventory", str(inventory), "--vars", "vars.yml", *arguments]
        if persistence:
            given["drools_db_file_path"] = str(folder / "engine")
            words += ["--persistence-id", "1", "--id", "1"]
        (folder / "vars.yml").write_text(json.dumps({key: value for key, value in given.items() if value is not None}))
        self.command = ["ansible-rulebook", *words]
        self.child: Child | None = None

    def begin(self) -> None:
        """Start it, or start it again, and wait for nothing."""
        if self.child is None:
            self.child = Child("rulebook", self.command, self.folder, self.env)
        else:
            self.child.start()

    def start(self, timeout: float = 60) -> None:
        """The same, and wait until it takes alerts; raises ChildFailed with its last lines."""
        self.begin()
        assert self.child is not None
        self.child.wait_ready(self._ready, timeout)

    def failed_start(self, timeout: float = 60) -> str:
        """What it says when it ends by itself, with an error, as it has to."""
        self.begin()
        assert self.child is not None
        assert self.child.process.wait(timeout) not in (0, None), self.log
        return self.log

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.url}/readyz", timeout=2, proxies=HERE).status_code != 503
        except requests.RequestException:
            return False

    def kill(self) -> None:
        """`kill -9`; the playbooks that it runs are left to themselves, see `end_left`."""
        if self.child is not None:
            self.child.kill()

    def stop(self) -> None:
        """As a service manager does, and at once where that takes too long."""
        if self.child is None or self.child.process.poll() is not None:
            return
        self.child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOPS_WITHIN
        while self.child.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.child.kill()

    def end_left(self) -> int:
        """End the playbooks that it left when it was killed or stopped, and what they run; how many processes it were.

        Without a terminal they may never end. A service that one of them has started is none of its children any more,
        and goes on.
        """
        ended = 0
        while playbooks := [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if self._plays(folder)]:
            # they come first, that none of them goes on, or ends by itself, because what it runs has ended
            below = family(playbooks) - set(playbooks)
            ended += sum(_killed(pid, self._home) for pid in (*playbooks, *below))
        return ended

    def _plays(self, folder: Path) -> bool:
        """Is the process that /proc has in `folder` a playbook of this rulebook's?"""
        return script(int(folder.name)) == "ansible-playbook" and self._home in _variables(folder)

    @property
    def _home(self) -> bytes:
        """The variable that all have which this rulebook has started, and nobody else."""
        return f"HOME={self.folder}".encode()

    @property
    def log(self) -> str:
        return self.child.log.read_text(errors="replace") if self.child is not None else ""

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.process.pid

    def rss(self) -> int:
        """Memory of the process itself that is in use, in bytes; without that of the playbooks."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    def post(self, body: Mapping[str, Any], *, token: str | None = None, path: str = "/alerts") -> int:
        """The status that a body is answered with."""
        shown = {"Authorization": f"Bearer {self.token if token is None else token}"}
        return requests.post(f"{self.url}{path}", json=body, headers=shown, timeout=30, proxies=HERE).status_code

    def metrics(self) -> Dict[str, float]:
        """What the source says about itself: `alerts_total{outcome="done"}` -> 3.0."""
        text = requests.get(f"{self.url}/metrics", timeout=10, proxies=HERE).text
        lines = [line.removeprefix("selfheal_events_") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def count(self, what: str, outcome: str) -> int:
        """How many `alerts` or `requests` had this outcome since it was started."""
        return int(self.metrics()[f'{what}_total{{outcome="{outcome}"}}'])

    def answered(self) -> int:
        """How many alerts a playbook has looked at, whether it may answer otherwise next time or not."""
        return self.count("alerts", "done") + self.count("alerts", "again")

    def idle(self) -> bool:
        """Is everything that was taken done, and written down as that?"""
        now = self.metrics()
        ended = sum(now[f'alerts_total{{outcome="{one}"}}'] for one in ("done", "again", "timed_out", "given_up"))
        waiting = now["queue_length"] or now["in_flight"] or now["slots_in_use"]
        return not waiting and ended >= now['alerts_total{outcome="emitted"}']

    def wait_idle(self, timeout: float = 120) -> None:
        self.wait(self.idle, "everything is done", timeout)

    def wait(self, holds: Callable[[], object], what: str, timeout: float = 120) -> None:
        """Until `holds()`; fails with the last lines of the log."""
        deadline = time.monotonic() + timeout
        while not holds():
            assert self.child is not None
            if self.child.process.poll() is not None:
                raise ChildFailed(f"ansible-rulebook ended, and {what} never came:\n{self.child.last_lines(40)}")
            assert time.monotonic() < deadline, f"{what} never came in {timeout:g} s:\n{self.child.last_lines(60)}"
            time.sleep(0.1)


@contextmanager
def ended(book: Rulebook) -> Iterator[Rulebook]:
    """The test begins it, and may kill it; nothing of it runs after the block."""
    try:
        yield book
    finally:
        book.stop()
        book.end_left()


@contextmanager
def running(book: Rulebook) -> Iterator[Rulebook]:
    """Until the end of the block."""
    with ended(book):
        book.start()
        yield book


@contextmanager
def rulebook(*given: Any, **more: Any) -> Iterator[Rulebook]:
    """One that runs until the end of the block; the arguments are those of `Rulebook`."""
    with running(Rulebook(*given, **more)) as book:
        yield book


def _killed(pid: int, variable: bytes) -> bool:
    """End the process if it was started with this `NAME=value`, and wait for it; was it so?"""
    try:
        handle = os.pidfd_open(pid)  # of this process, also when its id is given to another one
    except ProcessLookupError:
        return False
    try:
        if variable not in _variables(Path(f"/proc/{pid}")):
            return False
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], STOPS_WITHIN)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)


def _variables(folder: Path) -> List[bytes]:
    """`NAME=value`, as the process began with; of one that has ended, or is another user's, none."""
    try:
        return (folder / "environ").read_bytes().split(b"\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return []


def alert(name: str, service: str, began: float, *, status: str = "firing", **labels: str) -> Dict[str, Any]:
    """One alert as Alertmanager posts it; the same name, service and labels have the same fingerprint."""
    named = {"alertname": name, "service": service, **labels}
    ident = fingerprint(json.dumps(named, sort_keys=True))
    ends = "0001-01-01T00:00:00Z" if status == "firing" else rfc3339(time.time())
    times = {"startsAt": rfc3339(began), "endsAt": ends}
    return {"status": status, "labels": named, "annotations": {}, "generatorURL": "", "fingerprint": ident, **times}


def notification(alerts: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """The body of one POST of Alertmanager."""
    firing = any(one["status"] == "firing" for one in alerts)
    fixed = {"version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "receiver": "selfheal", "externalURL": ""}
    common: Dict[str, Any] = {"groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}}
    return {**fixed, **common, "status": "firing" if firing else "resolved", "alerts": list(alerts)}


def fingerprint(text: str) -> str:
    """Sixteen hexadecimal digits (FNV-1a, as Alertmanager has it)."""
    found = 0xCBF29CE484222325
    for byte in text.encode():
        found = ((found ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{found:016x}"


def rfc3339(epoch: float) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))
    return f"{whole}.{int(epoch % 1 * 1000):03d}Z"


@contextmanager
def alertmanager(folder: Path, target: str, token_file: Path, port: int | None = None) -> Iterator[str]:
    """A real Alertmanager that posts to `target` with the bearer token, one group for each service; yields its URL."""
    port = free_ports(1)[0] if port is None else port
    folder.mkdir(parents=True, exist_ok=True)
    shows = {"authorization": {"type": "Bearer", "credentials_file": str(token_file)}}
    hook = {"url": target, "send_resolved": True, "http_config": shows}
    # nothing here waits longer than it must
    quick = {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "5s"}
    route = {"receiver": "selfheal", "group_by": ["service"], **quick}
    config = {"route": route, "receivers": [{"name": "selfheal", "webhook_configs": [hook]}]}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    with configured_alertmanager(folder, folder / "alertmanager.yml", port) as url:
        yield url


@contextmanager
def configured_alertmanager(folder: Path, config: Path, port: int) -> Iterator[str]:
    """A real Alertmanager that reads `config` and keeps its data in `folder`; yields its URL once it takes alerts."""
    command: List[str | Path] = [go_tool("alertmanager"), f"--config.file={config}", "--storage.path=data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    server = Child("alertmanager", command, folder)
    url = f"http://127.0.0.1:{port}"
    try:
        server.wait_ready(lambda: _answers(f"{url}/-/ready"))
        yield url
    finally:
        server.kill()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1, proxies=HERE).ok
    except requests.RequestException:
        return False


def alerting(folder: Path, rules: Sequence[Mapping[str, Any]], alertmanager_url: str) -> str:
    """The lines of prometheus.yml by which it evaluates alerting rules, and tells this Alertmanager."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = [{"name": "test", "interval": "500ms", "rules": list(rules)}]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    target = alertmanager_url.removeprefix("http://")
    managers = {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]}
    return yaml.safe_dump({"rule_files": [str(folder / "rules.yml")], "alerting": managers})
