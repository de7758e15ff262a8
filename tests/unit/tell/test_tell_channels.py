# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each channel against a real server: what arrives, and what is said of every way in which it does not."""

from __future__ import annotations

import base64
import hmac
import time
from datetime import datetime, timezone
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Dict

import pytest
from tell_servers import ACCEPTED, DOWN, PAGE, PostOffice, Reply, hook, post_office, served_with

from ansible_collections.selfheal.delivery.plugins.module_utils._tell.channel import Sent
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.message import Message, message_of
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.posting import retry_after
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.routes import TYPES

PATH = "/services/T000/B000/XyZzYXyZzY"
KEY = "e93facc04764012d7bfb002500d5d1a6"
FACTS: Dict[str, object] = {
    "event": "unresolved",
    "service": "production/shop",
    "summary": "5 < 7 & <!channel> | web1 could NOT go back",
    "code": "SHOP-DB-001",
    "runbook": "https://r.example.org/1?a=b&c=d",
    "verdict": {"verdict": "fail", "reason": "worse_than_baseline", "figures": "errors: canary 4.40%"},
    "from_release": "2.0.0",
    "to_release": "1.0.0",
    "outcome": "unresolved",
    "incident": "5f2c81d09ab4",
    "entry": {"seq": 17, "hash": "3fa9c1d2b4e5"},
    "links": [{"href": "https://ci.example.org/7", "text": "Job <7>"}],
}


def message(**facts: object) -> Message:
    return message_of({**FACTS, **facts}, ident="msg_1", now=1795251593.0)


def send(kind: str, timeout: float = 3.0, about: Message | None = None, **config: Any) -> Sent:
    TYPES[kind].check(config)
    return TYPES[kind].send(about or message(), config, timeout)


def test_contract_slack_takes_text_and_blocks_within_its_limits() -> None:
    """api.slack.com: incoming webhooks answer 200 `ok`; Block Kit's limits; &, < and > are the three to escape."""
    with hook() as slack:
        assert send("slack", url=slack.url + PATH) == Sent(True, "accepted")
        long = message(summary="<" * 1000, links=[{"href": f"https://h/{n}", "text": "&" * 200} for n in range(5)])
        assert send("slack", about=long, url=slack.url + PATH).ok
    post = slack.posts[0]
    assert (post.path, post.headers["Content-Type"]) == (PATH, "application/json")
    assert post.json["text"] == "🚨 5 &lt; 7 &amp; &lt;!channel&gt; | web1 could NOT go back"
    title, summary, facts, links = post.json["blocks"]
    assert title == {"type": "header", "text": {"type": "plain_text", "text": "🚨 production/shop: unresolved"}}
    assert summary["text"]["text"] == "5 &lt; 7 &amp; &lt;!channel&gt; | web1 could NOT go back"
    assert [field["text"].splitlines() for field in facts["fields"]][3:] == [
        ["*Code*", "SHOP-DB-001"],
        ["*Release*", "2.0.0 → 1.0.0"],
        ["*Verdict*", "fail, worse_than_baseline"],
        ["*Figures*", "errors: canary 4.40%"],
        ["*Outcome*", "unresolved"],
        ["*Ledger entry*", "17 (3fa9c1d2b4e5)"],
    ]
    assert [element["text"] for element in links["elements"]] == [
        "<https://r.example.org/1?a=b&amp;c=d|Runbook>",
        "<https://ci.example.org/7|Job &lt;7&gt;>",
    ]
    for one in slack.posts:
        header, section, fields, context = one.json["blocks"]
        assert len(header["text"]["text"]) <= 150
        assert len(section["text"]["text"]) <= 3000
        assert 0 < len(fields["fields"]) <= 10
        assert all(len(field["text"]) <= 2000 for field in fields["fields"])
        assert len(context["elements"]) <= 10


def test_contract_pagerduty_takes_an_event_of_its_second_api() -> None:
    """github.com/PagerDuty/api-schema, events-v2: required keys, the enums, 202 as the answer."""
    with hook(ACCEPTED) as pagerduty:
        config = {"routing_key": KEY, "url": pagerduty.url + "/v2/enqueue"}
        assert send("pagerduty", **config) == Sent(True, "accepted (trigger)")
        assert send("pagerduty", about=message(event="approved"), **config) == Sent(True, "accepted (acknowledge)")
        assert send("pagerduty", about=message(event="resolved"), **config) == Sent(True, "accepted (resolve)")
    trigger, acknowledge, resolve = (post.json for post in pagerduty.posts)
    assert pagerduty.posts[0].path == "/v2/enqueue"
    assert trigger == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": "production/shop/5f2c81d09ab4",
        "client": "selfheal.delivery",
        "links": [
            {"href": "https://r.example.org/1?a=b&c=d", "text": "Runbook"},
            {"href": "https://ci.example.org/7", "text": "Job <7>"},
        ],
        "payload": {
            "summary": "5 < 7 & <!channel> | web1 could NOT go back",
            "source": "production/shop",
            "severity": "critical",
            "timestamp": "2026-11-21T08:59:53Z",
            "component": "shop",
            "group": "production",
            "class": "SHOP-DB-001",
            "custom_details": {
                "service": "production/shop",
                "environment": "production",
                "event": "unresolved",
                "code": "SHOP-DB-001",
                "release": "2.0.0 → 1.0.0",
                "verdict": "fail, worse_than_baseline",
                "figures": "errors: canary 4.40%",
                "outcome": "unresolved",
                "ledger_entry": "17 (3fa9c1d2b4e5)",
            },
        },
    }
    for one, action in ((acknowledge, "acknowledge"), (resolve, "resolve")):
        assert one == {"routing_key": KEY, "event_action": action, "dedup_key": trigger["dedup_key"]}


def test_contract_a_webhook_is_signed_as_standard_webhooks_says() -> None:
    """standardwebhooks.com: v1 is base64 of HMAC-SHA256 over `id.timestamp.body`, with the bytes behind whsec_."""
    key = b"a key of twenty-four by!"
    secret = "whsec_" + base64.b64encode(key).decode()
    with hook(Reply(204, b"")) as taker:
        assert send("webhook", url=taker.url + "/x?y=z", secret=secret, token="t0ken").ok
        assert send("webhook", url=taker.url).ok
    signed, bare = taker.posts
    headers = {name.lower(): value for name, value in signed.headers.items()}
    assert headers["authorization"] == "Bearer t0ken"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    what = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + signed.body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(key, what, sha256)).decode()
    assert signed.json["type"] == "selfheal.delivery.unresolved"
    assert signed.json["timestamp"] == "2026-11-21T08:59:53Z"
    assert signed.json["data"]["to_release"] == "1.0.0"
    names = {name.lower() for name in bare.headers}
    assert "webhook-id" in names and not {"webhook-signature", "authorization"} & names


@pytest.mark.parametrize(
    ("reply", "said", "again", "after"),
    [
        (DOWN, "127.0.0.1 answers HTTP 503: no healthy upstream", True, 0),
        (Reply(500, b"<html><body>oops</body></html>", "text/html"), "HTTP 500: a web page", True, 0),
        (Reply(429, b"slow down", headers={"Retry-After": "7"}), "HTTP 429: too many: slow down", True, 7),
        (Reply(404, b"no_service"), "HTTP 404: the hook or its channel is gone: no_service", True, 0),
        (Reply(400, b"invalid_payload"), "HTTP 400: invalid_payload", False, 0),
        (PAGE, "HTTP 200: a web page", True, 0),
        (
            Reply(302, headers={"Location": f"https://portal.example{PATH}"}),
            "redirects to portal.example:",
            True,
            0,
        ),
        (Reply(400, b"x\r\n\x1b[31m" * 999), "HTTP 400: x [31mx", False, 0),
    ],
)
def test_what_slack_does_not_take_is_told_in_words(reply: Reply, said: str, again: bool, after: float) -> None:
    with hook(reply) as slack:
        sent = send("slack", url=slack.url + PATH)
        assert len(slack.posts) == 1  # each once: whether it may be repeated is not known here
    assert said in sent.detail and not sent.ok
    assert (sent.again, sent.after) == (again, after)
    assert "XyZzY" not in sent.detail
    assert len(sent.detail) < 300


@pytest.mark.parametrize(
    ("reply", "again"),
    [(Reply(400), False), (Reply(429), True), (DOWN, True), (Reply(200), True), (PAGE, True)],
)
def test_what_pagerduty_does_not_take_is_told_in_words(reply: Reply, again: bool) -> None:
    with hook(reply) as pagerduty:
        sent = send("pagerduty", routing_key=KEY, url=pagerduty.url)
    assert (sent.ok, sent.again) == (False, again)
    assert f"HTTP {reply.status}" in sent.detail


def test_nobody_there_is_told_in_words() -> None:
    with hook() as gone:
        pass
    assert send("webhook", url=gone.url) == Sent(False, "127.0.0.1 refuses the connection", again=True, stop=True)
    unknown = send("webhook", url="http://selfheal.invalid/x")
    assert unknown.again and "selfheal.invalid" in unknown.detail
    with hook(Reply(hang=True)) as silent:
        begun = time.monotonic()
        assert "did not answer within 0.3 s" in send("webhook", timeout=0.3, url=silent.url).detail
        assert time.monotonic() - begun < 3


def test_how_long_to_wait_is_a_number_or_a_date_and_an_hour_at_most() -> None:
    now = 1795251593.0
    date = format_datetime(datetime.fromtimestamp(now + 90, timezone.utc), usegmt=True)
    told = {"120": 120.0, date: 90.0, "999999999": 3600.0, "-5": 0.0, "soon": 0.0, "": 0.0, "9" * 400: 3600.0}
    assert {value: retry_after({"Retry-After": value}, now) for value in told} == told
    assert retry_after({}, now) == 0.0


MAIL = {"host": "127.0.0.1", "sender": "Deliveries <d@example.org>", "to": ["ada@example.org", "bob@example.org"]}


def test_a_mail_arrives_with_everything(server_keys: Path) -> None:
    for implicit in (False, True):
        office = PostOffice(context=served_with(server_keys), implicit=implicit, login=("ada", "hunter2"))
        with post_office(office):
            config = {**MAIL, "port": office.port, "security": "tls" if implicit else "starttls"}
            login = {"username": "ada", "password": "hunter2", "ca_path": str(server_keys / "ca.pem")}
            assert send("email", **config, **login) == Sent(True, "accepted")
            wrong = send("email", **config, **{**login, "password": "hunter3"})
            assert wrong.again and "535" in wrong.detail
            stranger = send("email", **config)
            assert stranger.again and "cannot be trusted" in stranger.detail
            assert send("email", **config, validate_certs=False).ok
        mail = office.letters[0]
        assert office.logins[0] == ("ada", "hunter2")
        assert mail["Subject"] == "[critical] production/shop: unresolved"
        assert mail["To"] == "ada@example.org, bob@example.org"
        assert (mail["Message-ID"], mail["Auto-Submitted"]) == ("<msg_1@example.org>", "auto-generated")
        lines = mail.get_content().splitlines()
        assert lines[0] == "5 < 7 & <!channel> | web1 could NOT go back"
        assert "Release: 2.0.0 → 1.0.0" in lines and "Runbook: https://r.example.org/1?a=b&c=d" in lines


@pytest.mark.parametrize(
    ("answers", "said", "again"),
    [
        ({"RCPT": "550 no such user"}, "answers 550: no such user", False),
        ({"DATA": "554 spam"}, "answers 554: spam", False),
        ({"RCPT": "451 later"}, "answers 451: later", True),
        ({"": "421 too busy"}, "answers 421: too busy", True),
        ({"": "SSH-2.0-OpenSSH"}, "127.0.0.1", True),
        ({"MAIL": "452 \x1b[31m full"}, "answers 452: [31m full", True),
    ],
)
def test_what_a_mail_server_does_not_take_is_told_in_words(answers: Dict[str, str], said: str, again: bool) -> None:
    with post_office(PostOffice(answers=answers)) as office:
        sent = send("email", **MAIL, port=office.port, security="none")
    assert said in sent.detail and not sent.ok
    assert sent.again == again


def test_no_mail_goes_in_the_clear_when_it_must_not() -> None:
    with post_office(PostOffice()) as office:
        sent = send("email", **MAIL, port=office.port)
        assert (sent.again, office.letters) == (True, [])
        assert sent.detail == "127.0.0.1 offers no STARTTLS, or no login"
        begun = time.monotonic()
    with post_office(PostOffice(hang=True)) as office:
        assert "did not answer" in send("email", 0.3, **MAIL, port=office.port, security="none").detail
    assert time.monotonic() - begun < 5
    assert "refuses" in send("email", **MAIL, port=office.port, security="none").detail
