# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers on this machine for the tests of `_sense`: processes' pages that really count, and odd answers."""

from __future__ import annotations

import gzip
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Dict, Iterator, List, Mapping, Tuple
from urllib.parse import parse_qs, urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server


class Place:
    """A service's instance, with what its client library counts, served as prometheus_client serves it."""

    def __init__(self, start: float | None = 1_000.0) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("http_requests", "Requests.", ["code"], registry=self.registry)
        self.took = Histogram("took_seconds", "How long.", buckets=(0.1, 0.3, 1.0), registry=self.registry)
        self.queue = Gauge("queue_length", "Waiting.", ["queue"], registry=self.registry)
        if start is not None:
            self.begun = Gauge("process_start_time_seconds", "Start.", registry=self.registry)
            self.begun.set(start)

    def serve(self, good: int, bad: int = 0, seconds: float = 0.2) -> None:
        self.requests.labels("200").inc(good)
        if bad:
            self.requests.labels("500").inc(bad)
        for _ in range(good + bad):
            self.took.observe(seconds)

    @contextmanager
    def listening(self) -> Iterator[str]:
        server, thread = start_http_server(0, "127.0.0.1", registry=self.registry)
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    form: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Reply:
    body: bytes | str = b""
    status: int = 200
    content_type: str = "text/plain; version=0.0.4"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0  # seconds between two bytes


Answering = Callable[[Request], Reply]


@contextmanager
def web(answering: Answering) -> Iterator[Tuple[str, List[Request]]]:
    """A server that answers as it is told to, and remembers what it was asked."""
    asked: List[Request] = []
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            form = {key: values[0] for key, values in parse_qs(self.rfile.read(length).decode()).items()}
            form.update({key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()})
            request = Request(self.command, urlsplit(self.path).path, dict(self.headers), form)
            asked.append(request)
            reply = answering(request)
            done.wait(reply.delay)
            body = reply.body.encode() if isinstance(reply.body, str) else reply.body
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in [body[i : i + 1] for i in range(len(body))] if reply.drip else [body]:
                    self.wfile.write(piece)
                    done.wait(reply.drip)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()


def always(reply: Reply) -> Answering:
    return lambda _request: reply


def zipped(text: str) -> Reply:
    return Reply(gzip.compress(text.encode()), headers={"Content-Encoding": "gzip"})


def told(kind: str, result: object, **more: object) -> Reply:
    """What the Prometheus API answers when all is well."""
    body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}, **more})
    return Reply(body, content_type="application/json")


def refused(error: str, kind: str = "bad_data", status: int = 400) -> Reply:
    return Reply(
        json.dumps({"status": "error", "errorType": kind, "error": error}), status, content_type="application/json"
    )


def raw(labels: Mapping[str, str], *points: Tuple[float, float]) -> Dict[str, object]:
    """A series with its samples, as a matrix holds it."""
    return {"metric": dict(labels), "values": [[at, f"{value:g}"] for at, value in points]}


def number(labels: Mapping[str, str], value: object, at: float | None = None) -> Dict[str, object]:
    """A series with one value, as a vector holds it."""
    return {"metric": dict(labels), "value": [time.time() if at is None else at, str(value)]}


def api(answers: Mapping[str, Reply | Callable[[Request], Reply]], otherwise: Reply | None = None) -> Answering:
    """A responder for the Prometheus API: by the query's text, what it answers; nothing for anything else."""

    def answering(request: Request) -> Reply:
        # a metadata request has no query
        query = request.form.get("query", request.path)
        found = next((answers[text] for text in answers if query.startswith(text)), None)
        if found is None:
            found = otherwise or told("matrix" if query.endswith("]") else "vector", [])
        return found(request) if callable(found) else found

    return answering
