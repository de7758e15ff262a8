# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo's service: a real HTTP server that counts what it serves and fails as often as its release says."""

from __future__ import annotations

import json
import random
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import Counter, Histogram, generate_latest

RELEASE = json.loads((Path(__file__).resolve().parent / "release.json").read_text())
VERSION = str(RELEASE["version"])
ERROR_RATE = float(sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] else RELEASE["error_rate"])

REQUESTS = Counter("http_requests", "Requests served.", ["code"])
DURATION = Histogram("http_request_duration_seconds", "Time to serve.", buckets=(0.005, 0.025, 0.1, 0.25, 1.0))
for code in ("200", "500"):
    REQUESTS.labels(code)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/metrics":
            self._answer(200, generate_latest(), "text/plain; version=0.0.4")
        elif self.path == "/healthz":
            self._answer(200, f"{VERSION}\n".encode())
        else:
            self._serve()

    def _serve(self) -> None:
        start = time.perf_counter()
        status = 500 if random.random() < ERROR_RATE else 200
        self._answer(status, f"shop {VERSION}\n".encode())
        REQUESTS.labels(str(status)).inc()
        DURATION.observe(time.perf_counter() - start)

    def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Release", VERSION)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Thousands of requests would bury what the demo has to show."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
