# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real servers on this machine for the tests of `_tell`: one that takes JSON, and one that takes mail."""

from __future__ import annotations

import base64
import json
import socketserver
import ssl
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple


@dataclass
class Post:
    path: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"

    @property
    def json(self) -> Dict[str, Any]:
        told: Dict[str, Any] = json.loads(self.body)
        return told


@dataclass
class Reply:
    status: int = 200
    body: bytes = b"ok"
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False  # until the server ends
    drip: float = 0.0  # seconds between two bytes


ACCEPTED = Reply(202, b'{"status": "success", "message": "Event processed", "dedup_key": "x"}', "application/json")
DOWN = Reply(503, b"no healthy upstream")
PAGE = Reply(200, b"<!DOCTYPE html><title>Sign in</title>", "text/html")


class Hook:
    """What was posted, and what is answered: the replies in turn, the last one for ever."""

    def __init__(self, url: str, replies: Tuple[Reply, ...]) -> None:
        self.url = url
        self.posts: List[Post] = []
        self.replies = list(replies)
        self.over = threading.Event()

    def next_reply(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def hook(*replies: Reply) -> Iterator[Hook]:
    """A server for webhooks; it answers 200 `ok` unless it is told otherwise."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            told.posts.append(Post(self.path, dict(self.headers), body, self.command))
            reply = told.next_reply()
            if reply.hang:
                told.over.wait(60)
            try:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(reply.body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for byte in range(len(reply.body)):
                    self.wfile.write(reply.body[byte : byte + 1])
                    told.over.wait(reply.drip)
            except OSError:
                self.close_connection = True

        do_GET = do_PUT = do_PATCH = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told = Hook(f"http://127.0.0.1:{server.server_address[1]}", replies or (Reply(),))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield told
    finally:
        told.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class PostOffice:
    """A mail server's mind: what it wants and answers, and the letters that it got."""

    port: int = 0
    context: ssl.SSLContext | None = None
    implicit: bool = False
    login: Tuple[str, str] | None = None
    answers: Dict[str, str] = field(default_factory=dict)  # verb → what is answered instead
    hang: bool = False
    letters: List[EmailMessage] = field(default_factory=list)
    logins: List[Tuple[str, str]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class _Clerk(socketserver.StreamRequestHandler):
    """One conversation of SMTP (RFC 5321), with STARTTLS and AUTH PLAIN."""

    office: PostOffice

    def setup(self) -> None:
        if self.office.implicit and self.office.context:
            self.request = self.office.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def handle(self) -> None:
        if self.office.hang:
            self.office.over.wait(60)
            return
        try:
            self.say(self.office.answers.get("", "220 test"))
            while self.one():
                pass
        except OSError:
            pass

    def say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())

    def one(self) -> bool:
        words = self.rfile.readline().decode().split()
        if not words:
            return False
        verb = words[0].upper()
        if verb in self.office.answers:
            self.say(self.office.answers[verb])
        elif verb == "EHLO":
            offers = ["STARTTLS"] if self.office.context and not isinstance(self.request, ssl.SSLSocket) else []
            self.say("250-test", *(f"250-{offer}" for offer in offers), "250 AUTH PLAIN")
        elif verb == "STARTTLS" and self.office.context:
            self.say("220 go on")
            self.request = self.office.context.wrap_socket(self.request, server_side=True)
            super().setup()
        elif verb == "AUTH":
            empty, name, password = base64.b64decode(words[2]).decode().split("\0")
            self.office.logins.append((name, password))
            self.say("235 hello" if self.office.login == (name, password) else f"535 wrong password {password}{empty}")
        elif verb == "DATA":
            self.say("354 go on")
            self.take()
        elif verb == "QUIT":
            self.say("221 bye")
            return False
        else:
            self.say("250 ok")
        return True

    def take(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b".") else line)
        letter = message_from_bytes(b"".join(lines), policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.office.letters.append(letter)
        self.say("250 taken")


class _Quiet(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A handshake that the client breaks off is what a test wants."""


@contextmanager
def post_office(office: PostOffice) -> Iterator[PostOffice]:
    """A mail server with the mind of `office`."""
    clerk = type("Clerk", (_Clerk,), {"office": office})
    server = _Quiet(("127.0.0.1", 0), clerk)
    office.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield office
    finally:
        office.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def served_with(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS, with `server.pem` and `server.key` in `folder`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    return context
