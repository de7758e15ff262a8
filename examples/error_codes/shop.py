# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny shop that keeps the emission contract of docs/error-codes.md: a counter and a JSON log line for each error.

    pip install prometheus_client PyYAML
    python shop.py --port 8000 --version 1.0.0

GET /cart answers 200, GET /cart?fail=SHOP-CART-001 fails with that code, GET /metrics is for Prometheus.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest

LABELS = ("error_code", "severity", "service", "version", "environment")


class Errors:
    """The one way in which this application reports an error: nothing else touches the counter or writes such lines."""

    def __init__(self, catalogue: Path, service: str, version: str, environment: str) -> None:
        self.registry = CollectorRegistry()
        self._who = {"service": service, "version": version, "environment": environment}
        self._codes = yaml.safe_load(catalogue.read_text(encoding="utf-8"))["codes"]
        self._counter = Counter("app_errors", "Errors by code.", LABELS, registry=self.registry)
        for code in self._codes:
            self._child(code)  # at 0 from the start: the first error is then a step that can be seen

    def _child(self, code: str) -> Counter:
        return self._counter.labels(error_code=code, severity=self._codes[code]["severity"], **self._who)

    def report(self, code: str, detail: str, trace: str) -> str:
        """Count and log it; what may be told to the user comes back. KeyError for a code that is not in the catalogue.

        `detail` is for us alone. It goes to the log and never to the user.
        """
        entry = self._codes[code]
        self._child(code).inc()
        line = {
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "level": "error",
            "message": detail,
            "error_code": code,
            "severity": entry["severity"],
            **self._who,
            "trace_id": trace,
        }
        print(json.dumps(line), flush=True)
        return str(entry["public_message"])


class Handler(BaseHTTPRequestHandler):
    errors: Errors

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/metrics":
            self._answer(200, CONTENT_TYPE_LATEST, generate_latest(self.errors.registry))
            return
        trace = uuid.uuid4().hex
        code = parse_qs(asked.query).get("fail", [""])[0]
        try:
            told = self.errors.report(code, f"asked to fail on {asked.path}", trace) if code else ""
        except KeyError:
            self._answer(400, "text/plain; charset=utf-8", b"no such code in the catalogue\n")
            return
        # the user reads the public message, and a number by which support finds the line: no code, no detail
        said = {"message": told, "reference": trace} if told else {"message": "all is well"}
        self._answer(500 if told else 200, "application/json", json.dumps(said).encode() + b"\n")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No access log: standard output has the errors alone."""


def main() -> int:
    options = argparse.ArgumentParser(description="A tiny shop that counts and logs its errors by code.")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--version", default="1.0.0")
    options.add_argument("--service", default="shop")
    options.add_argument("--environment", default="production")
    options.add_argument("--catalogue", type=Path, default=Path(__file__).with_name("error_codes.yml"))
    told = options.parse_args()
    Handler.errors = Errors(told.catalogue, told.service, told.version, told.environment)
    with ThreadingHTTPServer(("127.0.0.1", told.port), Handler) as server:
        print(f"listening on port {server.server_address[1]}", file=sys.stderr, flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
