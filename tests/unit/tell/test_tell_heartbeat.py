# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A heartbeat arrives whole or says why not; the Watchdog's silence is noticed, and a wrong clock does not hide it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError, TellError
from ansible_collections.selfheal.delivery.plugins.module_utils._tell import heartbeat, metrics
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.heartbeat import Beat, heard, silent

NOW = 1795251593.85
BEAT = Beat(NOW, 60.0, "ci-7", "6d231c")
Asked = List[Tuple[str, str, bytes]]


@contextmanager
def listening(status: int = 200, location: str = "") -> Iterator[Tuple[str, Asked]]:
    """A server that takes anything and answers with `status`; method, path and body of what it was asked."""
    asked: Asked = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked.append((self.command, self.path, body))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_PUT = answer

        def log_message(self, format: str, *args: object) -> None:
            """Not into the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "below" / "heartbeat.json"
    heartbeat.write(str(path), BEAT)
    heartbeat.write(str(path), Beat(NOW + 60, 60.0, "ci-7", "7e342d"))
    assert json.loads(path.read_text()) == {"at": NOW + 60, "every": 60.0, "host": "ci-7", "head": "7e342d"}
    assert [one.name for one in path.parent.iterdir()] == ["heartbeat.json"]
    with pytest.raises(TellError, match="heartbeat.json/below cannot be written: "):
        heartbeat.write(str(path / "below"), BEAT)


def test_a_url_is_asked_and_a_post_carries_the_heartbeat() -> None:
    with listening() as (host, asked):
        heartbeat.ping(f"http://{host}/ping/s3cr3t", "GET", BEAT, 5)
        heartbeat.ping(f"http://{host}/ping/s3cr3t?rid=1", "POST", BEAT, 5)
    assert asked[0] == ("GET", "/ping/s3cr3t", b"")
    assert asked[1][:2] == ("POST", "/ping/s3cr3t?rid=1") and json.loads(asked[1][2]) == BEAT.as_dict()


def test_what_does_not_arrive_says_why_and_never_the_secret() -> None:
    refused = []
    with listening(404) as (host, _asked), pytest.raises(TellError) as gone:
        heartbeat.ping(f"http://{host}/ping/s3cr3t", "GET", BEAT, 5)
    refused.append((gone.value, "127.0.0.1 answers HTTP 404"))
    with listening(302, "https://elsewhere.example.org/s3cr3t") as (host, _asked), pytest.raises(TellError) as moved:
        heartbeat.ping(f"http://user:s3cr3t@{host}/", "GET", BEAT, 5)
    refused.append((moved.value, "127.0.0.1 answers HTTP 302"))
    with pytest.raises(TellError) as nobody:
        heartbeat.ping(f"http://{host}/ping/s3cr3t", "GET", BEAT, 5)
    refused.append((nobody.value, "127.0.0.1 refuses the connection"))
    errors: List[Tuple[DeliveryError, str]] = [*refused]
    for wrong in ("ftp://example.org/s3cr3t", "s3cr3t", "http://", "http://example.org/s3cr3t\nx"):
        with pytest.raises(OptionError) as option:
            heartbeat.ping(wrong, "GET", BEAT, 5)
        errors.append((option.value, "is not an http or https URL"))
    for error, told in errors:
        assert told in error.message and "s3cr3t" not in error.message and error.mend


def test_a_gateway_gets_metrics_of_this_job_and_instance() -> None:
    with listening() as (host, asked):
        metrics.Gateway(f"http://user:s3cr3t@{host}/", "selfheal", "ci 7/1", 5).push(metrics.beating(BEAT))
    ((method, path, body),) = asked
    assert (method, path) == ("PUT", "/metrics/job/selfheal/instance@base64/Y2kgNy8x")
    pushed = {one.name: one.samples[0].value for one in text_string_to_metric_families(body.decode())}
    assert pushed == {"selfheal_heartbeat_timestamp_seconds": NOW, "selfheal_heartbeat_interval_seconds": 60}
    with listening(500) as (host, _asked), pytest.raises(TellError, match="127.0.0.1 answers HTTP 500"):
        metrics.Gateway(f"http://user:s3cr3t@{host}", "selfheal", "ci-7", 5).push(metrics.beating(BEAT))
    with pytest.raises(OptionError, match="needs a job and an instance"):
        metrics.Gateway("http://example.org", "", "ci-7", 5)


def test_the_watchdog_is_seen_in_order_and_not_in_the_future() -> None:
    note = heard({}, NOW - 60, "am-1", NOW)
    assert note == {"at": NOW - 60, "from": "am-1"}
    assert heard(note, NOW + 20, "am-2", NOW) == {"at": NOW, "from": "am-2"}  # a clock that is a little ahead
    with pytest.raises(OptionError, match="cannot have been seen 31 s from now"):
        heard(note, NOW + 31, "am-1", NOW)
    with pytest.raises(OptionError, match="was seen 10 s later than that already"):
        heard(note, NOW - 70, "am-1", NOW)
    # a clock ran an hour ahead when it was seen: what comes now is news all the same
    assert heard({"at": NOW + 3600}, NOW, "am-1", NOW) == {"at": NOW, "from": "am-1"}


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ({}, "never seen"),
        ({"at": "yesterday"}, "never seen"),
        ({"at": True}, "never seen"),
        ({"at": NOW - 301}, "was not seen for 301 s, at most 300 s are allowed"),
        ({"at": NOW + 3600}, "from now: a clock was wrong"),
        ({"at": NOW - 300}, None),
        ({"at": NOW + 1}, None),
    ],
)
def test_silence_is_noticed(note: dict[str, object], why: str | None) -> None:
    found = silent(note, 300, NOW)
    assert found is None if why is None else why in (found or "")
