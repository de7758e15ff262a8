# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the source alertmanager says before it starts, and who it lets in."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import socket
import sqlite3
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_source import alertmanager
from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_source.alertmanager import (
    OPEN_DOOR,
    Door,
    Options,
    RateLimit,
    SecretFile,
    SourceError,
    Unauthorised,
    check_signature,
    digest,
    file_system,
    main,
    match,
    read_options,
    read_signing_keys,
    read_tokens,
    read_users,
)

TOKEN = "0123456789abcdef"
KEY = b"k" * 32
KEY_LINE = "ci whsec_" + base64.b64encode(KEY).decode()


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({"spool": "s"}, "Nobody could be told apart: set token_file, users_file, client_ca or signing_keys_file"),
        ({"spool": "s", "token_file": ""}, "(token_file is empty: is a variable of the rulebook not set?)"),
        ({"spool": "s", "unauthenticated": True}, "unauthenticated is of type bool: it must be text"),
        ({"spool": "s", "unauthenticated": "yes"}, "must be exactly this sentence: anybody who reaches this port"),
        ({"spool": "s", "unauthenticated": OPEN_DOOR, "users_file": "u"}, "contradicts users_file: choose one"),
        ({"token_file": "t"}, "The option spool is not set"),
        ({"spool": "s", "token_flie": "t"}, "'token_flie' of the source alertmanager: did you mean token_file?"),
        (
            {"spool": "s", "colour": "t"},
            "'colour' of the source alertmanager: There are: again_after, certfile, client_ca",
        ),
        ({"spool": "s", "token_file": "t", "port": "http"}, "port is 'http': it must be a number"),
        ({"spool": "s", "token_file": "t", "port": 70000}, "port is 70000: it must be between 1 and 65535"),
        ({"spool": "s", "token_file": "t", "slots": 1.5}, "slots is '1.5': it must be a number"),
        ({"spool": "s", "token_file": "t", "slots": True}, "slots is 'True': it must be a number"),
        ({"spool": "s", "token_file": "t", "rate": "nan"}, "rate is 'nan': it must be a number"),
        ({"spool": "s", "token_file": "t", "rate": "inf"}, "rate is inf: it must be between"),
        ({"spool": "s", "token_file": "t", "wait_for": "job"}, "wait_for is 'job': it may be engine or playbook"),
        ({"spool": "s", "client_ca": "c"}, "client_ca and keyfile want certfile"),
    ],
)
def test_a_wrong_option_is_named(args: Dict[str, Any], complaint: str) -> None:
    with pytest.raises(SourceError) as raised:
        read_options(args)
    assert complaint in str(raised.value)


def test_options_from_variables_are_text() -> None:
    given_ = {"spool": "s", "token_file": "t", "port": "6000", "rate": "2.5", "certfile": "", "keyfile": None}
    options = read_options({**given_, "feedback": True, "eda_feedback_queue": object()})
    assert (options.port, options.rate, options.certfile, options.slots) == (6000, 2.5, "", 2)


def test_the_documentation_has_every_option_and_its_default() -> None:
    documented = yaml.safe_load(alertmanager.DOCUMENTATION)["options"]
    assert {name: about.get("default") or "" for name, about in documented.items()} == vars(Options())


@pytest.mark.parametrize(
    ("reader", "text", "complaint"),
    [
        (read_tokens, "", "is empty: it must have one secret a line"),
        (read_tokens, "\n# only a comment\n", "is empty"),
        (read_tokens, f"{TOKEN}\nshort\n", "Line 2 of "),
        (read_tokens, "two words of sixteen", "Line 1 of "),
        (read_users, "ada:short", "Line 1 of "),
        (read_users, f":{TOKEN}", "Line 1 of "),
        (read_users, TOKEN, "Line 1 of "),
        (read_signing_keys, "ci whsec_c2hvcnQ=", "whsec_ and base64 of 24 to 64 bytes"),
        (read_signing_keys, "ci whsec_%%%", "Line 1 of "),
        (read_signing_keys, KEY_LINE.removeprefix("ci "), "Line 1 of "),
        (read_signing_keys, "ci " + base64.b64encode(KEY).decode(), "Line 1 of "),
    ],
)
def test_a_bad_secret_is_refused_by_its_line_and_not_shown(
    tmp_path: Path, reader: Any, text: str, complaint: str
) -> None:
    with pytest.raises(SourceError) as raised:
        SecretFile(written(tmp_path / "secret", text), reader)
    assert complaint in str(raised.value)
    assert not any(word in str(raised.value) for word in ("short", "c2hvcnQ", "%%%", TOKEN))


def test_a_file_of_secrets_that_is_missing_binary_or_open_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        SecretFile(str(tmp_path / "none"), read_tokens)
    (tmp_path / "binary").write_bytes(b"\xff" * 40)
    with pytest.raises(SourceError, match="cannot be read: it is not UTF-8"):
        SecretFile(str(tmp_path / "binary"), read_tokens)
    assert not SecretFile(written(tmp_path / "t", TOKEN), read_tokens).stale
    caplog.clear()
    SecretFile(written(tmp_path / "open", TOKEN, 0o644), read_tokens)
    assert "others may read it" in caplog.text


def test_secrets_change_while_it_runs_and_the_last_good_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "token"
    secrets = SecretFile(written(path, f"{TOKEN}\n# comment\n{TOKEN}2\n"), read_tokens)
    assert [match(secrets.secrets, each.encode()) for each in (TOKEN, f"{TOKEN}2", f"{TOKEN}3")] == [
        "token-1",
        "token-3",
        "",
    ]
    other = tmp_path / "new"
    written(other, f"{TOKEN}3\n")
    os.replace(other, path)
    secrets.refresh()
    assert [match(secrets.secrets, each.encode()) for each in (TOKEN, f"{TOKEN}3")] == ["", "token-1"]
    for broken in ("", "short"):
        written(path, broken)
        secrets.refresh()
        assert (match(secrets.secrets, f"{TOKEN}3".encode()), secrets.stale) == ("token-1", True)
    path.unlink()
    secrets.refresh()
    assert match(secrets.secrets, f"{TOKEN}3".encode()) == "token-1"
    written(path, TOKEN)
    secrets.refresh()
    assert (match(secrets.secrets, TOKEN.encode()), secrets.stale) == ("token-1", False)


def signed(key: bytes, message: str, moment: str, body: bytes, version: str = "v1") -> str:
    """The header that a sender makes, by the words of the specification."""
    code = hmac.new(key, f"{message}.{moment}.".encode() + body, hashlib.sha256).digest()
    return f"{version},{base64.b64encode(code).decode()}"


def headers(message: str = "msg_1", moment: str = "1000", signature: str = "") -> Dict[str, str]:
    return {"webhook-id": message, "webhook-timestamp": moment, "webhook-signature": signature}


def check(sent: Dict[str, str], body: bytes = b"{}", keys: bytes = KEY, now: float = 1000) -> str:
    (secret,) = read_signing_keys("f", [(1, "ci whsec_" + base64.b64encode(keys).decode())])
    return check_signature([secret], sent, body, now=now, window=300)


def test_the_vector_that_standard_webhooks_publishes() -> None:
    """From the reference libraries of the specification."""
    (secret,) = read_signing_keys("f", [(1, "svix whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")])
    sent = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    body = b'{"test": 2432232314}'
    assert check_signature([secret], sent, body, now=1614265330, window=300) == "svix"


def test_signatures() -> None:
    good = signed(KEY, "msg_1", "1000", b"{}")
    assert check(headers(signature=good)) == "ci"
    assert check(headers(signature=f"v1a,abc v1,wrong {good}")) == "ci"
    assert check(headers(signature=good), now=1300) == "ci"
    refused: List[Dict[str, Any]] = [
        {"sent": headers(signature=good), "body": b"{} "},
        {"sent": headers("msg_2", signature=good)},
        {"sent": headers(moment="1001", signature=good)},
        {"sent": headers(signature=good), "keys": b"j" * 32},
        {"sent": headers(signature=good), "now": 1301},
        {"sent": headers(signature=good), "now": 699},
        {"sent": headers(signature=good.replace("v1,", "v0,"))},
        {"sent": headers(signature=good.replace("v1,", "v1a,"))},
        {"sent": headers(signature=good.replace("v1,", "V1,"))},
        {"sent": headers(signature=good.partition(",")[2])},
        {"sent": headers(signature="v1,")},
        {"sent": headers(signature="")},
        {"sent": headers(signature="v1,\u00e4\ud800")},
        {"sent": headers("", signature=good)},
        {"sent": headers("msg.1", signature=signed(KEY, "msg.1", "1000", b"{}"))},
        {"sent": headers("m" * 129, signature=signed(KEY, "m" * 129, "1000", b"{}"))},
        {"sent": headers(moment="1000.0", signature=signed(KEY, "msg_1", "1000.0", b"{}"))},
        {"sent": headers(moment="-1000", signature=signed(KEY, "msg_1", "-1000", b"{}"))},
        {"sent": headers(moment="9" * 400, signature=good)},
        {"sent": headers(moment="\u0661000", signature=good)},
        {"sent": {}},
    ]
    for each in refused:
        with pytest.raises(Unauthorised):
            check(**each)


@given(st.text(), st.text(), st.text(), st.binary(), st.floats(0, 1e10))
def test_no_signature_that_was_made_up_fits(message: str, moment: str, signature: str, body: bytes, now: float) -> None:
    with pytest.raises(Unauthorised):
        check(headers(message, moment, signature), body, now=now)


def test_a_shown_certificate_is_named_by_its_subject(tmp_path: Path) -> None:
    class Request:
        """What the door asks of a request."""

        headers: Dict[str, str] = {}

        class transport:
            """A connection whose client showed a certificate."""

            @staticmethod
            def get_extra_info(name: str) -> Any:
                return {"subject": ((("organizationName", "x"),), (("commonName", "prom\x07"),)), "subjectAltName": ()}

    door = Door(Options(client_ca="ca", certfile="cert"))
    assert door._by_certificate(Request()) == ("mtls", "prom?")  # type: ignore[arg-type]
    assert Door(Options())._by_certificate(Request()) is None  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 3)), max_size=200))
def test_nobody_sends_more_than_the_rate_and_its_burst(sent: List[Any]) -> None:
    limit = RateLimit(5.0)
    now = 0.0
    allowed: Dict[str, int] = {}
    for sender, pause in sent:
        now += pause
        if limit.allows(sender, now):
            allowed[sender] = allowed.get(sender, 0) + 1
        assert allowed.get(sender, 0) <= 20 + 5 * now + 1e-6


def test_a_sender_does_not_use_up_what_is_anothers() -> None:
    limit = RateLimit(2.0, most=3)
    assert [limit.allows("a", 0.0) for _time in range(9)] == [True] * 8 + [False]
    assert limit.allows("b", 0.0)
    assert limit.allows("a", 0.5)
    assert not limit.allows("a", 0.5)
    assert not limit.allows("a", 0.1)  # a clock that goes back gives nothing
    for number in range(100):
        limit.allows(str(number), 1.0)
    assert len(limit.buckets) == 3


def start(tmp_path: Path, **args: Any) -> str:
    """Why it does not start."""
    import asyncio

    token = written(tmp_path / "token", TOKEN)
    with pytest.raises(SourceError) as raised:
        asyncio.run(main(None, {"token_file": token, "spool": str(tmp_path / "spool"), "port": 1, **args}))
    return str(raised.value)


def test_what_stops_it_at_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"Cannot listen on 127.0.0.1 port {port}: " in start(tmp_path, port=port)
    assert "Cannot listen on no.such.host.invalid port 1: " in start(tmp_path, host="no.such.host.invalid")
    assert start(tmp_path, spool=str(tmp_path / "a" / "b")).endswith("cannot be written: No such file or directory")
    file = written(tmp_path / "file", "")
    assert start(tmp_path, spool=file).endswith("cannot be written: File exists")
    assert "certfile none with its key cannot be used: No such file" in start(tmp_path, certfile="none")
    assert "certfile " in start(tmp_path, certfile=file)
    with open(tmp_path / "spool" / "lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is used by another process: each source wants a spool of its own" in start(tmp_path)


def test_a_spool_of_another_version_or_no_spool_at_all(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    database = spool / "spool.sqlite"
    database.write_bytes(b"no database" * 1000)
    assert "if the file is corrupt, move it away" in start(tmp_path)
    database.unlink()
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    assert "was written by a newer version" in start(tmp_path)


def test_the_file_system_of_a_path() -> None:
    assert file_system("/proc/self") == "proc"
    assert digest(b"") == hashlib.sha256().digest()
