# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people read: the facts of a rollout in one message, bounded, without secrets, and no way out of its field."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any, Dict, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._tell import email, pagerduty, slack, webhook
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.message import (
    EVENTS,
    Message,
    addresses,
    as_document,
    from_document,
    incident_action,
    message_of,
    rows,
    unknown_facts,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.text import address, clean, escaped

GATE = {"gate": "errors", "value": 0.044, "baseline": 0.0036, "limit": 0.02, "samples": {"bad": 8, "canary": 182}}
BAKE = {"verdict": "fail", "reason": "worse_than_baseline", "gate": "errors", "gates": [GATE], "msg": "errors failed"}
BACK = {"web1": {"changed": True, "current": "1.0.0"}}


def rollout(state: str, **outcome: object) -> Dict[str, Any]:
    """A rollout as the ledger keeps it and a task returns it."""
    intent = {"fleet": ["web1", "web2"], "before": {"web1": "1.0.0", "web2": "1.0.0"}}
    return asdict(
        Rollout("5f2c81d09ab4", "production/shop", "2.0.0", "canary", state, 7, 1000.0, 1060.0, intent, {}, outcome)
    )


def told(**facts: object) -> Message:
    return message_of(facts, ident="msg_1", now=2000.0)


def test_an_action_is_its_triggers_incident_and_calls_a_person_unless_it_is_known_to_have_helped() -> None:
    def acted(state: str, **verified: str) -> Message:
        intent = {"action": "flag_off", "trigger": "a1"}
        ended = Rollout("r1", "shop", "search", "action", state, 7, 1.0, 2.0, intent, {}, {"verified": verified})
        return told(rollout=asdict(ended))

    helped = acted("done", verdict="recovered")
    assert (helped.event, helped.dedup_key, helped.from_release, helped.to_release) == ("done", "shop/a1", "", "")
    for state, verdict in (("done", "not_recovered"), ("done", "unverified"), ("undone", "")):
        assert acted(state, verdict=verdict).event == "page"


def test_a_rollout_that_was_taken_back_tells_everything() -> None:
    closed = rollout("undone", bake=BAKE, places=BACK, verified={"verdict": "recovered"})
    links = ["https://ci.example.org/7", {"href": "https://grafana.example.org/d/1", "text": "Dashboard"}]
    more: Dict[str, object] = {"code": "SHOP-DB-001", "runbook": "https://r.example.org/1", "links": links}
    message = told(rollout=closed, entry={"seq": 17, "hash": "3fa9c1d2b4e5aaaa"}, **more)
    assert message.summary.startswith("production/shop: 2.0.0 was taken back: errors failed (errors: canary 4.40%")
    assert dict(rows(message)) == {
        "Service": "production/shop",
        "Environment": "production",
        "Event": "undone",
        "Code": "SHOP-DB-001",
        "Release": "2.0.0 → 1.0.0",
        "Verdict": "fail, worse_than_baseline",
        "Figures": "errors: canary 4.40%, against 0.36%, limit 2.00%, 8 bad of 182 requests",
        "Outcome": "undone recovered",
        "Rollout": "5f2c81d09ab4",
        "Ledger entry": "17 (3fa9c1d2b4e5)",
    }
    assert addresses(message) == [
        ("https://r.example.org/1", "Runbook"),
        ("https://ci.example.org/7", "https://ci.example.org/7"),
        ("https://grafana.example.org/d/1", "Dashboard"),
    ]
    assert (message.severity, message.at, message.settled) == ("warning", 1060.0, True)


@pytest.mark.parametrize(
    ("state", "outcome", "event", "severity", "change", "action"),
    [
        ("open", {}, "started", "info", "1.0.0 → 2.0.0", "trigger"),
        ("done", {"places": ["web1"]}, "done", "info", "1.0.0 → 2.0.0", "resolve"),
        ("held", {"bake": BAKE, "hold_until": 9e3}, "held", "warning", "1.0.0 → 2.0.0", "trigger"),
        ("undone", {"places": BACK}, "undone", "error", "2.0.0 → 1.0.0", "trigger"),
        ("undone", {"verified": {"verdict": "not_recovered"}}, "undone", "error", "2.0.0 → 1.0.0", "trigger"),
        ("undone", {"verified": {"verdict": "recovered"}}, "undone", "warning", "2.0.0 → 1.0.0", "resolve"),
        (
            "undone",
            {"verified": {"verdict": "recovered"}, "left": ["w"]},
            "undone",
            "error",
            "2.0.0 → 1.0.0",
            "trigger",
        ),
        ("unresolved", {"unresolved": ["web1"]}, "unresolved", "critical", "2.0.0 → 1.0.0", "trigger"),
    ],
)
def test_each_state_of_a_rollout_is_an_event(
    state: str, outcome: Dict[str, Any], event: str, severity: str, change: str, action: str
) -> None:
    for facts in ({"rollout": rollout(state, **outcome)}, rollout(state, **outcome)):
        message = message_of(facts, ident="msg_1", now=2000.0)
        assert (message.event, message.severity) == (event, severity)
        assert dict(rows(message))["Release"] == change
        assert incident_action(message) == action
        assert message.dedup_key == "production/shop/5f2c81d09ab4"  # whatever state it is in


RECOVERED = {"verified": {"verdict": "recovered"}}


@pytest.mark.parametrize(
    ("kind", "state", "outcome", "event", "severity", "change", "action"),
    [
        (
            "rollback",
            "done",
            {"verified": {"verdict": "recovered"}},
            "rolled_back",
            "warning",
            "2.0.0 → 1.0.0",
            "resolve",
        ),
        ("rollback", "done", {"places": BACK}, "rolled_back", "error", "2.0.0 → 1.0.0", "trigger"),
        ("rollback", "unresolved", {"unresolved": ["web1"]}, "unresolved", "critical", "2.0.0 → 1.0.0", "trigger"),
        ("rollback", "undone", {"given_up": True, "why": "x"}, "unresolved", "critical", "2.0.0 → 1.0.0", "trigger"),
        ("rollback", "open", {}, "started", "info", "2.0.0 → 1.0.0", "trigger"),
        ("action", "done", {}, "done", "info", None, "resolve"),
        ("action", "undone", {"given_up": True, "why": "x"}, "unresolved", "critical", None, "trigger"),
    ],
)
def test_a_rollback_and_another_action_have_events_too(
    kind: str, state: str, outcome: Dict[str, Any], event: str, severity: str, change: Optional[str], action: str
) -> None:
    message = message_of({**rollout(state, **outcome), "kind": kind}, ident="msg_1", now=2000.0)
    assert (message.event, message.severity, incident_action(message)) == (event, severity, action)
    assert dict(rows(message)).get("Release") == change


def test_the_callers_words_count_more_than_the_rollouts() -> None:
    message = told(rollout=rollout("undone", bake=BAKE), event="rolled_back", summary="By hand", severity="info")
    assert (message.event, message.summary, message.severity) == ("rolled_back", "By hand", "info")
    assert message.from_release == "2.0.0"


def test_without_a_rollout_the_incident_is_what_the_caller_calls_it() -> None:
    page = told(event="page", service="shop", code="SHOP-DB-001", why="three days after the last deploy")
    assert (page.severity, page.summary, page.at) == ("critical", "three days after the last deploy", 2000.0)
    assert page.dedup_key == "shop/SHOP-DB-001"
    assert told(event="resolved", service="shop", code="SHOP-DB-001").dedup_key == page.dedup_key
    assert told(event="page", service="shop", code="X", incident="INC-7").dedup_key == "shop/INC-7"
    assert told(event="page", service="shop", dedup_key="k").dedup_key == "k"
    assert len(told(event="page", service="shop", incident="x" * 400).dedup_key) == 64


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"service": "shop"}, "nobody says what event this is. Set the event, or give a rollout."),
        ({"service": "shop", "event": "pagee"}, "there is no event 'pagee' (did you mean 'page'?)."),
        ({"event": "page"}, "the facts do not say which service they are about."),
        (
            {"service": "s", "event": "page", "severity": "warn"},
            "there is no severity 'warn' (did you mean 'warning'?).",
        ),
        ({"rollout": {"id": "1", "service": "s", "release": "2", "state": "lost"}}, "there is no event 'lost'."),
    ],
)
def test_facts_that_say_nothing_are_refused(facts: Dict[str, Any], problem: str) -> None:
    with pytest.raises(OptionError) as refused:
        told(**facts)
    assert problem in refused.value.message


def test_a_fact_that_means_nothing_is_told_with_the_nearest() -> None:
    facts = {**rollout("done"), "sumary": 1, "changed": True, "msg": "x", "code": "A-B-001"}
    assert unknown_facts(facts) == ["notify knows no fact 'sumary' (did you mean 'summary'?)"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://ada:hunter2@db/x failed", "GET http://***@db/x failed"),
        ("Authorization: Bearer eyJhbGciOi.J9x", "Authorization: Bearer ***"),
        ("with password=hunter2, twice", "with password=***, twice"),
        ('{"client_secret": "abc123"}', '{"client_secret": "***"}'),
        (
            "posted to https://hooks.slack.com/services/T0/B0/xyzzyxyzzy",
            "posted to https://hooks.slack.com/services/***",
        ),
        ("signed with whsec_MfKQ9r8GKYqrTwjU", "signed with ***"),
        ("the token of the lease is too low", "the token of the lease is too low"),
        ("one\r\ntwo\x00\u202ethree\u2028", "one two three"),
        ("hun\u200bter", "hun ter"),
    ],
)
def test_text_of_others_is_one_line_without_secrets(text: str, shown: str) -> None:
    assert clean(text, 200) == shown


def test_a_known_secret_is_masked_whatever_it_looks_like() -> None:
    assert clean("the word is plain-sight!", 200, ["plain-sight"]) == "the word is ***!"
    assert clean("ab", 200, ["ab"]) == "ab"  # too short to be told from a word


@pytest.mark.parametrize("piece", ["a", "password", "token ", "://", "bearer ", "/services/", "\u202e", "&", "x://a@"])
def test_however_much_it_is_it_takes_no_time(piece: str) -> None:
    begun = time.monotonic()
    assert len(clean(piece * 1_000_000, 200)) <= 200
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://r.example.org/a?b=c#d", "https://r.example.org/a?b=c#d"),
        ("https://ada:pw@r.example.org/", "https://***@r.example.org/"),
        ("javascript:alert(1)", ""),
        ("https://r.example.org/a|b>", ""),
        ("https://r.example.org/ a", ""),
        ("https://[::1", ""),
        ("https://r.example.org/" + "a" * 2000, ""),
    ],
)
def test_only_a_link_is_a_link(url: str, shown: str) -> None:
    assert address(url, 1000) == shown


TEXT = st.text(max_size=60) | st.text(alphabet="<>&|*@!\r\n\u202e \ud800abc", max_size=3000)
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
OUTCOME = st.dictionaries(st.sampled_from(["bake", "why", "verified", "hold_until", "left", "places"]), JSON)
WORDS = ("summary", "code", "runbook", "verdict", "from_release", "to_release", "outcome", "entry", "links", "at")


@given(
    event=st.sampled_from(sorted(EVENTS)),
    words=st.dictionaries(st.sampled_from(WORDS), JSON),
    state=st.sampled_from(["open", "done", "undone", "unresolved", "held"]),
    outcome=OUTCOME,
)
def test_whatever_is_said_every_channel_can_carry_it(
    event: str, words: Dict[str, Any], state: str, outcome: Dict[str, Any]
) -> None:
    secret = "s3cr3t-w0rd"
    words = {name: f"{value} {secret}" if isinstance(value, str) else value for name, value in words.items()}
    facts = {**words, "event": event, "rollout": rollout(state, **outcome)}
    message = message_of(facts, ident="msg_1", now=2000.0, secrets=[secret])
    document = as_document(message)
    text = json.dumps(document)
    assert secret not in text
    assert len(text) < 80_000  # also when each character is written as an escape
    assert from_document(json.loads(text)) == message
    shown = slack.body(message)
    blocks = json.dumps(shown["blocks"], ensure_ascii=False)
    assert "<!" not in blocks and "<@" not in blocks and "<#" not in blocks
    assert len(str(shown["text"])) <= 3000
    event_body = pagerduty.body(message, "k")
    assert len(str(event_body["dedup_key"])) <= 255
    assert json.loads(webhook.body(message))["data"] == json.loads(text)
    mail = email.letter(message, "a@example.org", ["b@example.org"])
    assert mail.as_bytes()
    assert len(mail["Subject"]) <= 150 and "\n" not in mail["Subject"]


@given(TEXT, st.integers(1, 200))
def test_an_escape_is_never_cut_and_never_too_long(text: str, limit: int) -> None:
    shown = escaped(text, limit)
    assert len(shown) <= limit
    assert "<" not in shown and ">" not in shown
    bare = shown.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert "&" not in bare
