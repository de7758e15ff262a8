# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a source is reached: who we say we are, whom we trust, how often we ask, and what we never say."""

from __future__ import annotations

import base64
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest
from sense_servers import Reply, always, web

from ansible_collections.selfheal.delivery.plugins.module_utils._sense import client as client_module
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.client import Client, NoAnswer, redacted
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.crew import Crew
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import Access, parse_source


def access(**source: object) -> Access:
    return parse_source({"type": "prometheus", "url": "http://server.example.org", **source}).access


def told(error: pytest.ExceptionInfo[NoAnswer]) -> str:
    return error.value.absent.detail


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ({"token": "tk"}, "Authorization", "Bearer tk"),
        (
            {"username": "ada", "password": "pä"},
            "Authorization",
            f"Basic {base64.b64encode('ada:pä'.encode()).decode()}",
        ),
        ({"tenant": "shop"}, "X-Scope-OrgID", "shop"),
        ({"headers": {"X-Team": 7}}, "X-Team", "7"),
    ],
)
def test_we_say_who_we_are(source: dict[str, object], name: str, value: str) -> None:
    with web(always(Reply("ok"))) as (url, asked):
        Client(access(**source)).get(url, timeout=2)
    assert asked[0].headers[name] == value


def test_a_token_file_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    client = Client(access(token_file=str(file)))
    with web(always(Reply("ok"))) as (url, asked):
        client.get(url, timeout=2)
        file.write_text("second\n")
        client.get(url, timeout=2)
        file.unlink()
        with pytest.raises(NoAnswer, match="cannot be read"):
            client.get(url, timeout=2)
    assert [request.headers["Authorization"] for request in asked] == ["Bearer first", "Bearer second"]


def test_a_netrc_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with web(always(Reply("ok"))) as (url, asked):
        Client(access()).get(url, timeout=2)
    assert "Authorization" not in asked[0].headers


def test_a_proxy_of_the_environment_is_used_and_its_exceptions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with web(always(Reply("by proxy"))) as (proxy, _seen), web(always(Reply("direct"))) as (url, _asked):
        monkeypatch.setenv("http_proxy", proxy)
        assert Client(access()).get("http://far.example.org/metrics", timeout=2).body == b"by proxy"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert Client(access()).get(url, timeout=2).body == b"direct"


class FlakyServer:
    """Closes the first connections without a word."""

    def __init__(self, failures: int) -> None:
        self.failures, self.connections = failures, 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/metrics"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            with connection:
                self.connections += 1
                connection.recv(65536)
                if self.connections > self.failures:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def pauses() -> List[float]:
    return []


@pytest.mark.parametrize(("failures", "answers"), [(0, True), (2, True), (3, False)])
def test_a_broken_connection_is_tried_again_a_little(failures: int, answers: bool, pauses: List[float]) -> None:
    server = FlakyServer(failures)
    client = Client(access(), sleep=pauses.append, jitter=lambda: 0.5)
    try:
        if answers:
            assert client.get(server.url, timeout=2).body == b"ok"
        else:
            with pytest.raises(NoAnswer, match="broke the connection"):
                client.get(server.url, timeout=2)
    finally:
        server.close()
    assert server.connections == min(failures, 2) + 1
    assert pauses == pytest.approx([0.075, 0.15][: min(failures, 2)])


def test_nothing_is_tried_again_past_its_time(pauses: List[float]) -> None:
    server = FlakyServer(9)
    with pytest.raises(NoAnswer):
        Client(access(), sleep=pauses.append, jitter=lambda: 1.0).get(server.url, timeout=0.09)
    server.close()
    assert pauses == []


def test_an_http_error_is_not_tried_again() -> None:
    with web(always(Reply("", 503))) as (url, asked):
        assert Client(access()).get(url, timeout=2).status == 503
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://nowhere.invalid/metrics", "has a host name that is not known"),
        ("http://user:hunter2@127.0.0.1:1/metrics?token=hunter2", "http://127.0.0.1:1/metrics refuses the connection"),
        ("ftp://127.0.0.1/metrics", "is not an http or https URL"),
        ("http:///metrics", "is not a URL"),
    ],
)
def test_what_goes_wrong_is_one_line_without_a_secret(url: str, why: str) -> None:
    with pytest.raises(NoAnswer) as error:
        Client(access(), sleep=lambda _seconds: None).get(url, timeout=1)
    assert why in told(error)
    assert "hunter2" not in str(error.value) and "\n" not in told(error)
    assert not error.value.answered


def test_a_page_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_BYTES", 1024 * 1024)
    with web(always(Reply(b"x" * 3_000_000))) as (url, _asked), pytest.raises(NoAnswer) as error:
        Client(access()).get(url, timeout=5)
    assert "answers more than 1 MiB" in told(error)


def test_what_is_not_http_is_said_to_be_so() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def babble() -> None:
        for _ in range(3):
            connection, _address = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail.example.org ESMTP\r\n")

    threading.Thread(target=babble, daemon=True).start()
    with pytest.raises(NoAnswer) as error:
        Client(access(), sleep=lambda _seconds: None).get(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=2)
    listener.close()
    assert "broke the connection" in told(error)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:8443/a/b?x=1#y", "https://host:8443/a/b"),
        ("http://[::1]:9090/x", "http://[::1]:9090/x"),
        ("/login?next=1", "/login"),
        ("http://[broken", "(a URL that is not one)"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert redacted(url) == shown


def openssl(*arguments: str, cwd: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tuple[str, Path]]:
    """A server that wants a client's certificate, and the folder with an authority and a pair for each side."""
    folder = tmp_path_factory.mktemp("tls")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    strict = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 trusts no authority without it
    authority = ("-x509", *key, *strict, "-subj", "/CN=ca", "-days", "2")
    openssl("req", *authority, "-keyout", "ca.key", "-out", "ca.pem", cwd=folder)
    (folder / "san").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("server", "client"):
        openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=folder)
        sign = ("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        openssl(*sign, "-out", f"{name}.pem", "-days", "2", "-extfile", "san", cwd=folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            connection = self.connection
            named = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
            self.wfile.write(b"known" if named else b"unknown")

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    class Quiet(HTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A handshake that is refused is what some tests want."""

        def get_request(self) -> Tuple[socket.socket, Tuple[str, int]]:
            connection, address = super().get_request()
            try:
                return context.wrap_socket(connection, server_side=True), address
            except ssl.SSLError as error:
                raise OSError(str(error)) from error

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    server = Quiet(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}/metrics", folder
    server.shutdown()
    server.server_close()


def test_a_server_is_trusted_by_its_authority_and_knows_us_by_ours(tls: Tuple[str, Path]) -> None:
    url, folder = tls
    ca = str(folder / "ca.pem")
    assert Client(access(ca_path=ca)).get(url, timeout=3).body == b"unknown"
    pair = {"client_cert": str(folder / "client.pem"), "client_key": str(folder / "client.key")}
    assert Client(access(ca_path=ca, **pair)).get(url, timeout=3).body == b"known"


def test_a_server_of_an_unknown_authority_is_not_trusted(tls: Tuple[str, Path]) -> None:
    with pytest.raises(NoAnswer) as error:
        Client(access()).get(tls[0], timeout=3)
    assert "cannot be trusted: certificate verify failed" in told(error)


def test_the_environments_authorities_count_unless_the_source_says_otherwise(
    tls: Tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = tls
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.pem"))
    assert Client(access()).get(url, timeout=3).status == 200
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(folder / "server.key"))
    with pytest.warns(Warning, match="Unverified HTTPS"):
        assert Client(access(validate_certs=False)).get(url, timeout=3).status == 200


def test_a_crew_asks_all_at_once_and_waits_for_nobody_too_long() -> None:
    together = threading.Barrier(5)
    released = threading.Event()
    crew = Crew(6)

    def meet() -> int:
        return together.wait(5)

    def hang() -> int:
        released.wait(30)
        return 0

    def fail() -> int:
        raise NoAnswer("provider_error", "no")

    jobs = [(meet, 10.0)] * 5
    assert sorted(str(one) for one in crew.all(jobs)) == ["0", "1", "2", "3", "4"]
    late, failed = crew.all([(hang, 0.1), (fail, 5.0)])
    released.set()
    assert isinstance(late, NoAnswer) and late.absent.detail == "no whole answer within 0.1 s"
    assert isinstance(failed, NoAnswer)
    assert crew.all([(lambda: 7, 1.0), (lambda: 8, 1.0)]) == [7, 8]
    crew.close()
    crew.close()
