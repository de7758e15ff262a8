# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a provider: bounded, obeys Retry-After, repeats only what asks, and shows no secret."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, List

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.client import (
    Http,
    refused,
    segment,
    token_of,
    unknown,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import Deadline, FlagError, Options
from tests.tools.tell_servers import PAGE, Reply, hook

SECRET = "tok-5up3r53cr3t"
HEADERS = {"Authorization": f"Bearer {SECRET}"}
YES = Reply(200, b'{"on": true}', "application/json")


def client(url: str, *, timeout: float = 2.0, deadline: float = 5.0, **more: Any) -> Http:
    return Http(url, Options("unleash", timeout=timeout), HEADERS, Deadline.after(deadline), **more)


def test_an_answer_is_read_with_what_was_sent() -> None:
    with hook(YES) as server:
        answer = client(server.url).ask("PATCH", "/flags/a", {"on": False}, query={"env": "p&q"})
    assert (answer.status, answer.fields) == (200, {"on": True})
    sent = server.posts[0]
    assert (sent.method, sent.path, sent.json) == ("PATCH", "/flags/a?env=p%26q", {"on": False})
    assert (sent.headers["Authorization"], sent.headers["Content-Type"]) == (f"Bearer {SECRET}", "application/json")


def test_a_status_that_is_no_success_is_the_callers_to_judge() -> None:
    body = json.dumps({"details": [{"message": "no such\nflag"}], "message": "other"}).encode()
    with hook(Reply(404, body, "application/json")) as server:
        answer = client(server.url).get("/flags/a")
    assert (answer.status, answer.ok, answer.said) == (404, False, "no such flag")
    error = refused(answer, "reading flag 'a'")
    assert "HTTP 404: there is no such thing there" in error.message and "no such flag" in error.message


@pytest.mark.parametrize(
    "reply", [PAGE, Reply(200, b"all is well", "text/plain"), Reply(200, b"{", "application/json")]
)
def test_what_is_not_the_api_is_never_a_yes(reply: Reply) -> None:
    with hook(reply) as server, pytest.raises(FlagError, match="not as the provider's API does"):
        client(server.url).get("/flags/a")


def test_an_empty_success_is_one() -> None:
    with hook(Reply(204, b"", "")) as server:
        assert client(server.url).ask("POST", "/off").ok


def test_a_redirect_is_not_followed() -> None:
    moved = Reply(302, b"", headers={"Location": "http://127.0.0.1:9/login?token=abc"})
    with hook(moved) as server, pytest.raises(FlagError) as caught:
        client(server.url).get("/flags/a")
    assert "redirects to http://127.0.0.1:9/login" in caught.value.message and "abc" not in caught.value.message


def test_retry_after_is_honoured_within_the_deadline() -> None:
    slept: List[float] = []
    busy = Reply(429, b"", headers={"Retry-After": "2"})
    with hook(busy, busy, YES) as server:
        answer = client(server.url, sleep=slept.append).ask("PATCH", "/flags/a", {})
    assert answer.ok and slept == [2.0, 2.0] and len(server.posts) == 3


def test_retry_after_past_the_deadline_is_an_error_at_once() -> None:
    with hook(Reply(429, b"", headers={"Retry-After": "60"})) as server, pytest.raises(FlagError) as caught:
        client(server.url).ask("PATCH", "/flags/a", {})
    assert "asks to wait 60 s" in caught.value.message and "Nothing was changed" in caught.value.message


def test_who_hangs_is_not_waited_for_nor_asked_twice() -> None:
    began = time.monotonic()
    with hook(Reply(hang=True)) as server, pytest.raises(FlagError) as caught:
        client(server.url, timeout=0.3).ask("POST", "/off", {})
    assert time.monotonic() - began < 2 and len(server.posts) == 1
    assert "did not answer within 0.3 s" in caught.value.message and "not known" in caught.value.message


def test_headers_that_drip_are_over_with_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            sent, who = server.accept()
            with sent, suppress(OSError):
                sent.sendall(b"HTTP/1.1 200 OK\r\nX-Endless: ")
                for letter in b"a" * 20:
                    sent.sendall(bytes([letter]))
                    time.sleep(0.2)

        threading.Thread(target=drip, daemon=True).start()
        begun = time.monotonic()
        with pytest.raises(FlagError, match="did not answer within 0.5 s"):
            client(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=0.5).get("/flags/a")
        assert time.monotonic() - begun < 2


def test_a_slow_drip_is_over_with_the_timeout() -> None:
    began = time.monotonic()
    slow = Reply(200, b'{"on": true, "more": "of it"}', "application/json", drip=0.2)
    with hook(slow) as server, pytest.raises(FlagError, match="did not answer"):
        client(server.url, timeout=0.5).get("/flags/a")
    assert time.monotonic() - began < 3


def test_after_the_deadline_nobody_is_asked() -> None:
    with hook(YES) as server:
        with pytest.raises(FlagError, match="deadline has passed"):
            client(server.url, deadline=0.0).get("/flags/a")
        assert server.posts == []


def test_who_is_not_there_is_named_without_a_secret() -> None:
    with pytest.raises(FlagError) as caught:
        client("http://user:pw-secret@127.0.0.1:9/api?token=abc").get("/flags/a")
    message = caught.value.message
    assert "127.0.0.1:9/api" in message and not any(word in message for word in ("pw-secret", "abc", SECRET))
    assert "Nothing was changed" in message


def test_unknown_names_come_with_the_nearest_one() -> None:
    assert "(did you mean 'new-search'?)" in unknown("flag", "new-serch", ["new-search", "cart"], "shop").message


@pytest.mark.parametrize("name", [".", ".."])
def test_a_segment_leads_nowhere_else(name: str) -> None:
    assert segment("a/../b?c") == "a%2F..%2Fb%3Fc"
    with pytest.raises(OptionError):
        segment(name)


def test_tokens_from_files_and_what_is_wrong_with_them(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{SECRET}\n")
    assert token_of(Options("unleash", token_file=str(file))) == SECRET
    assert token_of(Options("unleash"), client=True, needed=False) == ""
    wrong: List[Options] = [
        Options("unleash"),
        Options("unleash", token_file=str(tmp_path / "none")),
        Options("unleash", token=f"{SECRET}\nX: y"),
    ]
    for options in wrong:
        with pytest.raises(DeliveryError) as caught:
            token_of(options)
        assert SECRET not in caught.value.message and SECRET not in repr(options)
