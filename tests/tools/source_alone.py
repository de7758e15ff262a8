# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event source `alertmanager` in a process of its own, without the engine, and a client that posts to it.

`source_alone.py FILE OPTIONS` loads the source as ansible-rulebook does, and appends each event to FILE, a JSON line
each. OPTIONS is JSON; besides the source's own, `feedback` answers each event as the engine does (but for the first
`silent` ones), and `take` is how many seconds a playbook takes before it reports; without it none does.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from child import Child, free_ports

SOURCE = Path(__file__).resolve().parents[2] / "extensions/eda/plugins/event_source/alertmanager.py"
TOKEN = "t0ken-of-the-tests-0001"


class Source:
    """The source as a child, in a folder with its secrets, its spool and what it emitted."""

    def __init__(self, folder: Path, start: bool = True, prefix: Sequence[str] = (), **options: Any) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.events_file = folder / "events"
        self.spool = folder / "spool"
        given: Dict[str, Any] = {"port": self.port, "spool": str(self.spool), "rate": 100000, **options}
        if not {"token_file", "users_file", "client_ca", "signing_keys_file", "unauthenticated"} & given.keys():
            given["token_file"] = str(secret_file(folder / "token", TOKEN))
        self.options = {name: value for name, value in given.items() if value is not None}
        command = [*prefix, sys.executable, __file__, str(self.events_file), json.dumps(self.options)]
        self.child = Child("source", command, folder)
        if start:
            self.child.wait_ready(self.ready)

    def ready(self) -> bool:
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def restart(self) -> None:
        self.child.kill()
        self.child.start()
        self.child.wait_ready(self.ready)

    def stop(self) -> None:
        """End it as ansible-rulebook does, by cancelling; or at once when that does not end it."""
        self.child.process.send_signal(signal.SIGINT)
        try:
            self.child.process.wait(10)
        finally:
            self.child.kill()

    def get(self, path: str) -> Tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(
        self, body: Any, path: str = "/alerts", token: str | None = TOKEN, headers: Mapping[str, str] | None = None
    ) -> Tuple[int, Dict[str, Any]]:
        """The status and the JSON of the answer; `body` may be bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST", path, raw, {**sent, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def metrics(self) -> Dict[str, float]:
        """The value of each series, by its name with labels, without the prefix."""
        lines = [line for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return {line.rpartition(" ")[0][len("selfheal_events_") :]: float(line.rpartition(" ")[2]) for line in lines}

    def events(self) -> List[Dict[str, Any]]:
        if not self.events_file.exists():
            return []
        lines = self.events_file.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def alerts(self) -> List[Tuple[str, str]]:
        """Name and status of each alert that was emitted, in order."""
        found = [alert for event in self.events() for alert in event["payload"].get("alerts", ())]
        return [(each["labels"].get("alertname", ""), each["status"]) for each in found]

    def until(self, count: int, timeout: float = 20) -> List[Tuple[str, str]]:
        """The alerts, once there are so many."""
        deadline = time.monotonic() + timeout
        while len(self.alerts()) < count:
            assert time.monotonic() < deadline, (self.alerts(), self.child.last_lines())
            time.sleep(0.02)
        return self.alerts()

    def log(self) -> str:
        return self.child.log.read_text(errors="replace")


def secret_file(path: Path, text: str) -> Path:
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def alert(name: str, service: str = "shop", status: str = "firing", begun: int = 0, **labels: str) -> Dict[str, Any]:
    """An alert as Alertmanager sends it; `begun` are seconds after noon."""
    return {
        "status": status,
        "labels": {"alertname": name, "service": service, **labels},
        "annotations": {"summary": f"{name} of {service}"},
        "startsAt": f"2026-11-20T{12 + begun // 3600:02}:{begun // 60 % 60:02}:{begun % 60:02}.123Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://127.0.0.1:9090/graph",
        "fingerprint": f"{name}-{service}".encode("utf-8", "surrogatepass").hex()[:64],
    }


def group(*alerts: Mapping[str, Any], **fields: Any) -> Dict[str, Any]:
    """The body of Alertmanager's webhook."""
    return {
        "version": "4",
        "groupKey": "{}:{}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "selfheal",
        "groupLabels": {},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://127.0.0.1:9093",
        **fields,
        "alerts": list(alerts),
    }


class Engine:
    """Takes events as ansible-rulebook does: one at a time, and answers each when it has it."""

    def __init__(self, events_file: str, options: Dict[str, Any]) -> None:
        self.file = os.open(events_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.take = options.pop("take", None)
        self.silent = options.pop("silent", 0)
        self.done = Path(options["spool"], "done")
        self.queue: asyncio.Queue[Any] = asyncio.Queue(1)
        self.feedback: asyncio.Queue[Any] | None = asyncio.Queue(1) if options.pop("feedback", False) else None
        self.playbooks: List[asyncio.Task[None]] = []

    async def run(self) -> None:
        while True:
            event = await self.queue.get()
            os.write(self.file, json.dumps(event).encode() + b"\n")
            if self.silent > 0:
                self.silent -= 1
            elif self.feedback is not None:
                await self.feedback.put(event)
            if self.take is not None:
                self.playbooks.append(asyncio.create_task(self.playbook(event["meta"]["selfheal"]["ack"])))

    async def playbook(self, uuids: Sequence[str]) -> None:
        await asyncio.sleep(self.take)
        for each in uuids:
            os.close(os.open(self.done / each, os.O_CREAT | os.O_NOFOLLOW, 0o600))


async def run(events_file: str, options: Dict[str, Any]) -> None:
    engine = Engine(events_file, options)
    taking = asyncio.create_task(engine.run())
    main = runpy.run_path(str(SOURCE))["main"]
    args = {**options, "eda_feedback_queue": engine.feedback} if engine.feedback else options
    source = asyncio.create_task(main(engine.queue, args))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, source.cancel)
    try:
        await source
    except asyncio.CancelledError:
        print("cancelled", flush=True)
    finally:
        taking.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG)
    try:
        asyncio.run(run(sys.argv[1], json.loads(sys.argv[2])))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
