# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The answer to a change is lost on its way from a real Unleash: it is looked up whether it was done."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Dict, Iterator, Type

import pytest
import requests
from unleash import ENVIRONMENT, Unleash

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import change
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import FlagError

pytestmark = pytest.mark.xdist_group("unleash")


def breaking(target: str, *, arrives: bool, gateway: bool) -> Type[BaseHTTPRequestHandler]:
    """Passes everything on but the answer to a POST, and the POST itself only where it `arrives`.

    Instead of that answer there is a `gateway`'s error page, or nothing.
    """

    class Breaking(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

        def _pass_on(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            changes = self.command == "POST"
            if arrives or not changes:
                answer = requests.request(self.command, target + self.path, data=sent, headers=headers, timeout=10)
            if not changes:
                self._say(answer.status_code, answer.headers.get("Content-Type", ""), answer.content)
            elif gateway:
                self._say(502, "text/html", b"<html>Bad Gateway</html>")
            else:
                self.close_connection = True

        def _say(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _pass_on

    return Breaking


@contextmanager
def behind(server: Unleash, **how: bool) -> Iterator[str]:
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), breaking(server.url, **how))
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_address[1]}"
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


def off(server: Unleash, flag: str, url: str) -> Dict[str, Any]:
    provider = {"type": "unleash", "url": url, "token": server.admin, "client_token": server.client}
    return {"flag": flag, "state": "off", "environment": ENVIRONMENT, "deadline": 15, "provider": provider}


@pytest.mark.parametrize("gateway", [False, True])
def test_it_was_done(unleash_server: Unleash, gateway: bool) -> None:
    flag = unleash_server.create(f"lost-{gateway}")
    unleash_server.switch(flag, "on")
    with behind(unleash_server, arrives=True, gateway=gateway) as url:
        told = change(off(unleash_server, flag, url), dry=False)
    assert (told["changed"], told["status"]) == (True, "effective")
    assert "says that it was done" in told["warnings"][0]  # type: ignore[index]


@pytest.mark.parametrize("gateway", [False, True])
def test_it_was_not_done(unleash_server: Unleash, gateway: bool) -> None:
    flag = unleash_server.create(f"never-{gateway}")
    unleash_server.switch(flag, "on")
    with behind(unleash_server, arrives=False, gateway=gateway) as url:
        with pytest.raises(FlagError, match="says that it was not done") as told:
            change(off(unleash_server, flag, url), dry=False)
    details = told.value.details
    assert (details["changed"], details["status"], details["after"]["on"]) == (False, "unverified", True)  # type: ignore[index]
