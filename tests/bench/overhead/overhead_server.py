# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the overhead bench asks, in a process of its own: a place's /metrics, and a metrics server that takes 50 ms.

Prints the port that it listens on. `overhead_server.py place` or `overhead_server.py server`.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from urllib.parse import unquote_plus

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, start_http_server

DELAY = 0.05


def place() -> None:
    """A process that has counted 20,000 requests, with the usual families beside them."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    requests = Counter("http_requests", "Requests.", ["method", "path", "code"], registry=registry)
    took = Histogram("http_request_duration_seconds", "How long they took.", ["path"], registry=registry)
    for path in ("/", "/cart", "/pay", "/item"):
        for code, number in (("200", 4975), ("404", 20), ("500", 5)):
            requests.labels("GET", path, code).inc(number)
        for _ in range(100):
            took.labels(path).observe(0.02)
    server, _thread = start_http_server(0, "127.0.0.1", registry=registry)
    print(server.server_address[1], flush=True)
    signal.pause()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One instant vector for each query, DELAY after it was asked, on a connection that stays."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
            form = unquote_plus((await reader.readexactly(length)).decode())
            await asyncio.sleep(DELAY)
            at = next(float(part[5:]) for part in form.split("&") if part.startswith("time="))
            result = [] if "[" in form else [{"metric": {"instance": "web1:8000"}, "value": [at, "0.25"]}]
            kind = "matrix" if "[" in form else "vector"
            body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
            writer.write(body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def server() -> None:
    listening = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=256)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "place":
        place()
    else:
        asyncio.run(server())
