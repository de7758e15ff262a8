# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source alertmanager under attack: nothing unproven is taken, nothing ends it, nothing of it is in the log."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import socket
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import pytest
from attack_corpus import ALERTMANAGER, CALL, REFUSED, UNPROVEN, UNREADABLE, attacks
from source_alone import TOKEN, Source, alert, group, secret_file

KEY, OLD_KEY = b"K" * 32, b"O" * 32
PASSWORD = "pass-word-of-sixteen"
FUZZED = int(os.environ.get("SELFHEAL_FUZZED_REQUESTS", "4000"))
PIPELINED = 8


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Source]:
    """A source that takes a token, a user and signatures."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = "\n".join(f"ci whsec_{base64.b64encode(key).decode()}" for key in (KEY, OLD_KEY))
    source = Source(
        folder,
        token_file=str(secret_file(folder / "token", TOKEN)),
        users_file=str(secret_file(folder / "users", f"ada:{PASSWORD}")),
        signing_keys_file=str(secret_file(folder / "keys", keys)),
    )
    yield source
    source.stop()
    log = source.log()
    for secret in (
        TOKEN,
        PASSWORD,
        base64.b64encode(KEY).decode(),
        "Traceback",
        "webhook-",
        "Bearer",
        "alertname",
        "t-agent",
    ):
        assert secret not in log


def signature(body: bytes, message: str, key: bytes = KEY, off: int = 0, version: str = "v1") -> Dict[str, str]:
    moment = str(int(time.time()) + off)
    code = hmac.new(key, f"{message}.{moment}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message,
        "webhook-timestamp": moment,
        "webhook-signature": f"{version},{base64.b64encode(code).decode()}",
    }


def still_takes(source: Source, name: str) -> None:
    """It lives, and takes what is good."""
    assert source.child.process.poll() is None, source.child.last_lines()
    assert source.post(group(alert(name)))[1]["taken"] == 1
    deadline = time.monotonic() + 20
    while (name, "firing") not in source.alerts():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_of_the_corpus_is_taken_unproven_or_ends_it(guarded: Source, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=30)
    wrong: List[Tuple[str, int]] = []
    before = guarded.metrics()
    sent = 0
    for attack in attacks(proof):
        headers = dict(attack.headers)
        if attack.must != UNPROVEN:
            headers["Authorization"] = f"Bearer {TOKEN}"
        try:
            connection.request("POST", attack.path, attack.body, headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):  # it may hang up on what is too large
            connection.close()
            status = 413 if len(attack.body) > 1048576 else 0
        sent += 1
        allowed = {
            UNPROVEN: status in (400, 401, 403, 429),
            UNREADABLE: 400 <= status < 500,
            REFUSED: status == 200 or 400 <= status < 500,
        }
        if not allowed.get(attack.must, status == 200 or 400 <= status < 500):
            wrong.append((attack.name, status))
    connection.close()
    assert wrong == []
    assert sent >= 300
    assert not proof.exists()
    assert (
        guarded.metrics()['requests_total{outcome="unauthorised"}'] > before['requests_total{outcome="unauthorised"}']
    )
    assert guarded.metrics()['requests_total{outcome="error"}'] == 0
    still_takes(guarded, "AfterCorpus")
    assert {event["meta"]["selfheal"]["verified"] for event in guarded.events()} == {"bearer"}
    assert all(set(event["meta"]) == {"headers", "selfheal"} for event in guarded.events())


def test_signatures_that_are_right_old_forged_downgraded_and_replayed(guarded: Source) -> None:
    body = json.dumps({**CALL, "id": "signed-1"}).encode()

    def send(headers: Mapping[str, str], sent: bytes = body, path: str = "/calls", token: str | None = None) -> Any:
        status, answer = guarded.post(sent, path, token, headers)
        return (status, answer["taken"], answer["duplicates"]) if status == 200 else status

    good = signature(body, "msg_1")
    assert send(good) == (200, 1, 0)
    assert send(good) == (200, 0, 1)  # a sender that did not hear the answer asks again
    guarded.restart()
    assert send(good) == (200, 0, 1)
    other = json.dumps({**CALL, "id": "signed-2"}).encode()
    assert send(good, other) == 401
    assert send({**good, "webhook-id": "msg_2"}) == 401
    assert send(signature(other, "msg_1"), other) == (200, 0, 1)  # an id counts once, whatever is in it
    assert send(signature(other, "msg_3", OLD_KEY), other) == (200, 1, 0)
    assert send(signature(body, "msg_4", b"X" * 32)) == 401
    assert send(signature(body, "msg_5", off=-400)) == 401
    assert send(signature(body, "msg_6", off=400)) == 401
    for version in ("v0", "v1a", "v2", ""):
        assert send(signature(body, "msg_7", version=version)) == 401
    assert send(signature(body, "msg_8", b"X" * 32), token=TOKEN) == 401  # right and wrong at once
    assert send({**signature(body, "msg_9"), "Authorization": "Bearer " + "x" * 20}) == 401
    alerts = json.dumps(group(alert("Signed"))).encode()
    assert send(signature(alerts, "msg_10"), alerts, "/alerts") == (200, 1, 0)
    events = [event for event in guarded.events() if event["meta"]["selfheal"]["verified"] == "standard-webhooks"]
    assert {event["meta"]["selfheal"]["key"] for event in events} == {"ci"}


def test_users_and_what_they_may_not(guarded: Source) -> None:
    def basic(text: str) -> Dict[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    assert guarded.post(group(alert("ByAda")), token=None, headers=basic(f"ada:{PASSWORD}"))[1]["taken"] == 1
    for wrong in (f"ada:{PASSWORD}x", f"eve:{PASSWORD}", "ada:", ":", "", f"ada:{PASSWORD}\n", f"ada{PASSWORD}"):
        assert guarded.post(group(alert("ByEve")), token=None, headers=basic(wrong))[0] == 401
    assert guarded.post(CALL, "/calls", token=None, headers=basic(f"ada:{PASSWORD}"))[0] == 403
    guarded.until(1)
    assert ("ByEve", "firing") not in guarded.alerts()


def test_a_token_is_changed_without_a_restart(tmp_path: Path) -> None:
    token = secret_file(tmp_path / "token", TOKEN)
    source = Source(tmp_path, token_file=str(token))
    new = "another-token-of-the-tests"
    assert source.post(group(), token=new)[0] == 401
    secret_file(token, f"{TOKEN}\n{new}")
    source.child.wait_ready(lambda: source.post(group(), token=new)[0] == 200, 10)
    assert source.post(group())[0] == 200
    secret_file(token, new)
    source.child.wait_ready(lambda: source.post(group())[0] == 401, 10)
    secret_file(token, "")
    source.child.wait_ready(lambda: source.metrics()["secrets_stale"] == 1, 10)
    assert source.post(group(), token=new)[0] == 200
    source.stop()


def raw(source: Source, *parts: bytes, wait: float = 3.0) -> bytes:
    """What it answers to these bytes, until it hangs up or is silent."""
    with socket.create_connection(("127.0.0.1", source.port), timeout=wait) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionError):
            pass
        return answer


def request(body: bytes, *headers: str, path: str = "/alerts", close: bool = True) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    lines += ["Connection: close"] if close else []
    return "\r\n".join([*lines, "", ""]).encode() + body


def test_tricks_with_headers_and_bodies(guarded: Source) -> None:
    good = json.dumps(group(alert("Tricked"))).encode()
    size, auth = f"Content-Length: {len(good)}", f"Authorization: Bearer {TOKEN}"
    wrong = "Authorization: Bearer wrong-wrong-wrong-wrong"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good)
    tricks = {
        "a token twice": request(good, size, auth, wrong, "User-Agent: t-agent"),
        "a token twice, the other way": request(good, size, wrong, auth),
        "two lengths": request(good, size, "Content-Length: 5", auth),
        "a length and chunks": request(chunked, size, "Transfer-Encoding: chunked", auth),
        "chunks that are none": request(b"zz\r\nxx", "Transfer-Encoding: chunked", auth),
        "a negative length": request(good, "Content-Length: -1", auth),
        "a huge length": request(good, "Content-Length: 99999999999999999999", auth),
        "a length that is too large": request(good, "Content-Length: 2000000", auth),
        "a folded header": request(good, size, "X: a\r\n b", "Authorization: Bearer\r\n " + TOKEN),
        "a header without a colon": request(good, size, auth, "nonsense"),
        "a null in a header": request(good, size, "Authorization: Bearer \x00" + TOKEN),
        "a header of 20 kB": request(good, size, auth, "X: " + "x" * 20000),
        "300 headers": request(good, size, auth, *(f"X{n}: x" for n in range(300))),
        "no version": b"POST /alerts\r\n\r\n" + good,
        "another version": request(good, size, auth).replace(b"HTTP/1.1", b"HTTP/3.7"),
        "the start of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": bytes.fromhex("16030100a5010000a10303") + os.urandom(100),
        "another path": request(good, size, auth, path="/alerts/../alerts%00"),
        "an absolute path": request(good, size, wrong, path="http://127.0.0.1/healthz"),
        "another method": request(good, size, auth).replace(b"POST", b"PUT"),
        "a method that is none": request(good, size, auth).replace(b"POST", b"P\x00ST"),
        "a form": request(good, size, auth).replace(b"application/json", b"text/plain"),
        "packed": request(good, size, auth, "Content-Encoding: gzip"),
        "an upgrade": request(good, size, wrong, "Connection: Upgrade", "Upgrade: websocket"),
        "chunks without an end, too many": request(
            b"".join(b"10000\r\n%s\r\n" % (b"x" * 65536) for _chunk in range(20)), "Transfer-Encoding: chunked", auth
        ),
    }
    for name, sent in tricks.items():
        answer = raw(guarded, sent)
        status = answer.split(b" ", 2)[1] if answer.startswith(b"HTTP/1") else b""
        assert status == b"" or status.startswith(b"4"), (name, answer[:200])
        assert TOKEN.encode() not in answer, name
    assert b" 413 " in raw(guarded, tricks["chunks without an end, too many"])
    assert b" 401 " in raw(guarded, tricks["a token twice"])
    assert b" 200 " in raw(guarded, request(chunked, "Transfer-Encoding: chunked", auth))
    hidden = request(good, "Content-Length: 0", wrong, close=False) + request(b"", "Content-Length: 0", wrong)
    assert b" 200 " not in raw(guarded, hidden)
    guarded.until(1)
    assert guarded.alerts().count(("Tricked", "firing")) == 1
    still_takes(guarded, "AfterTricks")


def test_limits(tmp_path: Path) -> None:
    source = Source(tmp_path, rate=1, max_alerts=3, max_body=4096)
    source.child.wait_ready(lambda: source.get("/healthz")[0] == 200)
    assert source.post(group(*(alert(f"N{n}") for n in range(4))))[0] == 413
    assert source.post(group(alert("Large", note="x" * 5000)))[0] == 413
    statuses = [source.post(group(), token="wrong-wrong-wrong-wrong")[0] for _time in range(20)]
    assert (statuses[0], statuses[-1]) == (401, 429)
    statuses = [source.post(group(alert(f"A{n}")))[0] for n in range(20)]  # strangers used up nothing of theirs
    assert statuses[0] == 200
    assert statuses[-1] == 503  # Alertmanager gives up on a 429
    assert source.get("/healthz")[0] == source.get("/metrics")[0] == 200
    source.child.wait_ready(lambda: source.post(group(alert("Later")))[0] == 200, 10)
    source.stop()


def test_connections_are_limited_and_closed_when_they_ask_nothing(tmp_path: Path) -> None:
    source = Source(tmp_path)
    with ExitStack() as opened:
        half = [opened.enter_context(socket.create_connection(("127.0.0.1", source.port), 30)) for _one in range(500)]
        for one in half:
            one.sendall(b"POST /alerts HTTP/1.1\r\nHost: here\r\n")
        with socket.create_connection(("127.0.0.1", source.port), 30) as more:
            assert more.recv(1) == b""
        begun = time.monotonic()
        assert {one.recv(1) for one in half} == {b""}
        assert time.monotonic() - begun < 15
        assert source.post(group(alert("After")))[0] == 200
    numbers = source.metrics()
    assert numbers['requests_total{outcome="limited"}'] == 1
    assert numbers['requests_total{outcome="malformed"}'] == 500
    source.stop()


def test_anybody_only_when_it_was_asked_for(tmp_path: Path) -> None:
    source = Source(tmp_path, unauthenticated="anybody who reaches this port may take releases back")
    assert source.post(group(alert("Anybody")), token=None)[0] == 200
    assert source.post(CALL, "/calls", token=None)[0] == 403
    source.until(1)
    assert source.events()[0]["meta"]["selfheal"]["verified"] == ""
    source.stop()


def mutated(rng: random.Random, good: bytes, headers: List[str]) -> bytes:
    """A request with something wrong in it, most of the time; it may have a good token, or none."""
    body = bytearray(good)
    for _change in range(rng.choice((0, 1, 1, 2, 8))):
        place = rng.randrange(len(body) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            body[place : place + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del body[place : place + rng.randrange(40)]
        elif kind == 2:
            body[place:place] = rng.choice((b"{{", b"[[[[", b'\\ud800"', b"NaN", b"\x00", b"null,", b"9" * 50))
        else:
            body[place:place] = body[place : place + rng.randrange(60)]
    lines = list(headers)
    if rng.random() < 0.05:
        place = rng.randrange(len(lines))
        lines[place] = rng.choice(
            ("Authorization: Basic Og==", "X-\u00e9: 1", "webhook-id: a", lines[place][:-3], "X: y")
        )
    length = len(body)
    if rng.random() < 0.03:  # mostly too short: what is too long costs a wait
        length += 5 if rng.random() < 0.1 else -rng.randrange(length + 1)
    path = rng.choice((*["/alerts"] * 7, *["/calls"] * 4, "/metrics", "/%00"))
    return request(bytes(body), f"Content-Length: {length}", *lines, path=path, close=False)


@pytest.mark.timeout(3600)
def test_fuzzed_requests_end_nothing(tmp_path: Path) -> None:
    """Pipelined over raw sockets; `SELFHEAL_FUZZED_REQUESTS` says how many."""
    source = Source(tmp_path)
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    goods = [json.dumps(body).encode() for body in (ALERTMANAGER, CALL, group(*(alert(f"A{n}") for n in range(9))))]
    answered: Counter[bytes] = Counter()
    unproven = 0
    while answered.total() < FUZZED:
        proven = rng.random() < 0.7
        proof = ["Authorization: Bearer " + (TOKEN if proven else "wrong-wrong-wrong-wrong"), "X: y"]
        requests = [mutated(rng, rng.choice(goods), proof) for _one in range(PIPELINED)]
        last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answer = raw(source, b"".join(requests) + last, wait=0.5)
        statuses = re.findall(rb"HTTP/1\.[01] (\d\d\d) ", answer)
        assert not any(status.startswith(b"5") for status in statuses), (seed, answer)
        answered.update(statuses)
        unproven += 0 if proven else answer.count(b'{"taken"')
    assert (unproven, seed) == (0, seed)
    print(f"{answered.total()} answers: {answered}")
    assert min(answered[status] for status in (b"200", b"400", b"401")) > FUZZED / 100
    still_takes(source, "AfterFuzz")
    numbers = source.metrics()
    assert numbers['requests_total{outcome="error"}'] == 0
    assert numbers['requests_total{outcome="ok"}'] > 0
    assert TOKEN not in source.log()
    source.stop()
