# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real requests at a steady rate to every place, and an honest count of what each release served.

`load.py OUT RATE SECONDS PORT…` sends RATE requests per second to each port of 127.0.0.1, at random instants, over
kept connections, for at most SECONDS. OUT is rewritten once a second: per release the requests, the bad ones, and the
epoch seconds of its first request, first bad and last bad response.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Optional, Tuple

WORKERS = 4  # per place; a request takes about a millisecond, so they never queue
REQUEST = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
Streams = Tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Served:
    requests: int = 0
    bad: int = 0
    first: Optional[float] = None
    first_bad: Optional[float] = None
    last_bad: Optional[float] = None


class Load:
    def __init__(self, out: Path, rate: float) -> None:
        self.out, self.rate = out, rate
        self.served: Dict[str, Served] = {}
        self.refused = 0

    async def run(self, ports: Tuple[int, ...], seconds: float) -> None:
        workers = [self._work(port) for port in ports for _ in range(WORKERS)]
        tasks = [asyncio.create_task(work) for work in (*workers, self._report())]
        _done, pending = await asyncio.wait(tasks, timeout=seconds)
        for task in pending:
            task.cancel()
        self.write()

    async def _work(self, port: int) -> None:
        streams: Optional[Streams] = None
        due = time.monotonic()
        while True:
            due += random.expovariate(self.rate / WORKERS)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            try:
                streams = streams or await asyncio.open_connection("127.0.0.1", port)
                self._count(*await self._ask(streams))
            except (OSError, asyncio.IncompleteReadError):
                # a place that restarts serves nobody for a moment: not a bad response of any release
                self.refused += 1
                if streams:
                    streams[1].close()
                streams = None

    async def _ask(self, streams: Streams) -> Tuple[int, str]:
        reader, writer = streams
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        await reader.readexactly(int(headers["content-length"]))
        return int(head[0].split()[1]), headers["x-release"]

    def _count(self, status: int, release: str) -> None:
        now = time.time()
        served = self.served.setdefault(release, Served(first=now))
        served.requests += 1
        if status >= 500:
            served.bad += 1
            served.first_bad = served.first_bad or now
            served.last_bad = now

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.write()

    def write(self) -> None:
        facts = {"refused": self.refused, "served": {release: asdict(one) for release, one in self.served.items()}}
        partial = self.out.with_suffix(".partial")
        partial.write_text(json.dumps(facts))
        os.replace(partial, self.out)


async def main() -> None:
    out, rate, seconds, *ports = sys.argv[1:]
    load = Load(Path(out), float(rate))
    running = asyncio.create_task(load.run(tuple(int(port) for port in ports), float(seconds)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        load.write()


if __name__ == "__main__":
    asyncio.run(main())
