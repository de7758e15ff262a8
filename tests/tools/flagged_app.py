# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop whose newest feature is behind a feature flag, and is broken: `app.py PORT [SHARE]`, run by demo/place.py.

`release.json` beside it says where the flag is: `{"flag": {"type": "json", "path": …, "name": …}}`, a file that is read
again and again, or `{"type": "unleash", "url": …, "token": …, "name": …, "environment": …}`, read by Unleash's own SDK.
While the flag is on, more than half of the requests fail, each counted by its code as docs/error-codes.md asks for.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from typing import Any, Callable, Mapping

from prometheus_client import Counter, generate_latest

RELEASE: Mapping[str, Any] = json.loads((Path(__file__).resolve().parent / "release.json").read_text())
VERSION = str(RELEASE["version"])
BROKEN = 0.6  # the share of requests that fail while the flag is on
READ_EVERY = 0.2  # seconds
CODE = {
    "error_code": "SHOP-SEARCH-001",
    "severity": "critical",
    "service": "shop",
    "version": VERSION,
    "environment": "demo",
}

REQUESTS = Counter("http_requests", "Requests served.", ["code"])
ERRORS = Counter("app_errors", "Errors by code.", list(CODE)).labels(**CODE)
for status in ("200", "500"):
    REQUESTS.labels(status)


def flag_of(where: Mapping[str, str]) -> Callable[[], bool]:
    """Asks whether the flag is on, at no cost."""
    return unleash(where) if where["type"] == "unleash" else json_file(where)


def unleash(where: Mapping[str, str]) -> Callable[[], bool]:
    client = import_module("UnleashClient").UnleashClient(
        url=f"{where['url']}/api",
        app_name="shop",
        environment=where["environment"],
        custom_headers={"Authorization": where["token"]},
        refresh_interval=1,
        disable_metrics=True,
        disable_registration=True,
        cache_directory=str(Path(__file__).resolve().parent),
    )
    client.initialize_client()
    return lambda: bool(client.is_enabled(where["name"]))


def json_file(where: Mapping[str, str]) -> Callable[[], bool]:
    seen = threading.Event()

    def read() -> None:
        while True:
            on = json.loads(Path(where["path"]).read_text())[where["name"]]
            (seen.set if on else seen.clear)()
            time.sleep(READ_EVERY)

    threading.Thread(target=read, daemon=True).start()
    return seen.is_set


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    is_on: Callable[[], bool] = staticmethod(lambda: False)

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, generate_latest(), "text/plain; version=0.0.4")
        elif self.path == "/healthz":
            self._answer(200, f"{VERSION}\n".encode())
        else:
            failed = self.is_on() and random.random() < BROKEN
            self._answer(500 if failed else 200, f"shop {VERSION}\n".encode())
            REQUESTS.labels("500" if failed else "200").inc()
            if failed:
                ERRORS.inc()

    def _answer(self, code: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Release", VERSION)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not into the server's log, which errors of the flag's client go to."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Handler.is_on = staticmethod(flag_of(RELEASE["flag"]))
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
