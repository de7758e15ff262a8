# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A TCP proxy that breaks connections where a test wants it: before a request arrives, or before its answer does."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import List, Tuple
from urllib.parse import urlsplit

PASS = "pass"
NO_ANSWER = "no answer"  # the request arrives, its answer does not
NO_REQUEST = "no request"
LATE = "late"  # the request arrives when `deliver` is called, long after its connection broke
AWAY = "away"  # no new connection gets through


class CutOff:
    """Listens on `url` for the server `target`. Set `mode` while nothing is on its way; the next request meets it.

    NO_ANSWER, NO_REQUEST and LATE break one connection, and then everything passes again.
    """

    def __init__(self, target: str) -> None:
        place = urlsplit(target)
        self._target = (str(place.hostname), int(place.port or 443))
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}"
        self.mode = PASS
        self.then = PASS  # after one connection was broken
        self._late: List[Tuple[socket.socket, bytes]] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def deliver(self) -> None:
        """Let what is LATE arrive, and wait for the server's answer to it."""
        for upstream, data in self._late:
            upstream.settimeout(5)
            upstream.sendall(data)
            with suppress(OSError):  # the thread that waited for the answer may have read it and ended the connection
                upstream.recv(65536)
        self._late.clear()

    def _accept(self) -> None:
        while True:
            try:
                client = self._server.accept()[0]
            except OSError:
                return
            if self.mode == AWAY:
                client.close()
                continue
            upstream = socket.create_connection(self._target)
            broken = threading.Event()
            for source, sink, up in ((client, upstream, True), (upstream, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, up, broken), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool, broken: threading.Event) -> None:
        try:
            while data := source.recv(65536):
                if up and self.mode == NO_REQUEST:
                    self.mode = self.then
                    break
                if up and self.mode == LATE:
                    self._keep(source, sink, data)
                    return
                if up and self.mode == NO_ANSWER:
                    broken.set()
                    self.mode = self.then
                if not up and broken.is_set():
                    break
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            _end(end)

    def _keep(self, source: socket.socket, sink: socket.socket, data: bytes) -> None:
        """Take the whole request, which is on its way at once, and break the connection to who sent it."""
        source.settimeout(0.3)
        try:
            while more := source.recv(65536):
                data += more
        except TimeoutError:
            pass
        self._late.append((sink, data))
        self.mode = self.then
        _end(source)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
