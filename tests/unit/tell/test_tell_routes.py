# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channels as people write them: what is wrong is named, with the nearest word, and no secret is repeated."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.message import message_of
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.routes import Route, parse_channels

HOOK = "https://hooks.slack.com/services/T000/B000/XyZzYXyZzY"
MAIL = {"type": "email", "host": "mail.example.org", "sender": "a@example.org", "to": "b@example.org, c@example.org"}


def one(given: Dict[str, Any], **environment: str) -> Route:
    return parse_channels({"team": given}, environment)[0]


def test_each_type_with_the_least_that_it_needs() -> None:
    assert one({"type": "slack", "url": HOOK}).least == "info"
    assert one({"type": "pagerduty", "routing_key": "k" * 32}).least == "warning"
    assert one({"type": "webhook", "url": "http://hooks.internal/x"}).only == ()
    assert one({**MAIL, "port": "2525", "validate_certs": "False"}).config == {
        "host": "mail.example.org",
        "port": 2525,
        "sender": "a@example.org",
        "to": ["b@example.org", "c@example.org"],
        "validate_certs": False,
    }


def test_a_secret_comes_from_the_environment_when_it_is_not_given() -> None:
    environment = {
        "SELFHEAL_NOTIFY_TEAM_URL": HOOK,
        "SELFHEAL_NOTIFY_TEAM_TOKEN": "abc",
        "SELFHEAL_NOTIFY_TEAM_HOST": "x",
    }
    assert one({"type": "slack"}, **environment).config == {"url": HOOK}
    assert one({"type": "webhook", "url": "https://h/x"}, **environment).config == {
        "url": "https://h/x",
        "token": "abc",
    }
    odd = parse_channels({"on-call 1": {"type": "pagerduty"}}, {"SELFHEAL_NOTIFY_ON_CALL_1_ROUTING_KEY": "k"})
    assert odd[0].config == {"routing_key": "k"}


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("slack", "the channel 'team' is not a dictionary"),
        ({"type": "slak"}, "has the type 'slak', which there is not (did you mean 'slack'?)"),
        ({}, "has the type '', which there is not"),
        ({"type": "slack"}, "has no url. Set it, or SELFHEAL_NOTIFY_TEAM_URL in the environment."),
        ({"type": "slack", "uri": HOOK}, "has no option 'uri' (did you mean 'url'?)"),
        ({"type": "slack", "url": "hooks.slack.com"}, "its url is not an http or https URL"),
        ({"type": "slack", "url": HOOK + "\n"}, "its url is not an http or https URL"),
        ({"type": "slack", "url": HOOK.replace("https", "http")}, "would carry a secret unencrypted"),
        ({"type": "slack", "url": 7}, "an option url that is not text"),
        ({"type": "slack", "url": HOOK, "only": ["held", "don"]}, "for the event 'don' (did you mean 'done'?)"),
        ({"type": "slack", "url": HOOK, "only": 3}, "an only that is no list"),
        ({"type": "slack", "url": HOOK, "min_severity": "warn"}, "'warn' (did you mean 'warning'?)"),
        ({"type": "pagerduty", "routing_key": "hunter2", "url": "http://pd.example.org"}, "unencrypted"),
        ({"type": "webhook", "url": "http://h.example.org", "token": "hunter2"}, "unencrypted"),
        ({"type": "webhook", "url": "https://h", "token": "hunter2\n"}, "characters that no header can carry"),
        ({"type": "webhook", "url": "https://h", "secret": "hunter2"}, "its secret is not a signing secret"),
        ({"type": "webhook", "url": "https://h", "secret": "whsec_hunter2"}, "its secret is not a signing secret"),
        ({**MAIL, "security": "ssl"}, "its security is 'ssl'"),
        ({**MAIL, "security": "none", "username": "u", "password": "hunter2"}, "unencrypted"),
        ({**MAIL, "username": "u"}, "a login needs both"),
        ({**MAIL, "to": ["b@example.org\nBcc: x@example.org"]}, "is not an e-mail address"),
        ({**MAIL, "port": 70000}, "an option port that is not a number"),
        ({**MAIL, "to": []}, "has no to"),
        ({**MAIL, "ca_path": "/nowhere"}, "has the ca_path '/nowhere', where nothing is"),
        ({**MAIL, "validate_certs": "maybe"}, "that is not true or false"),
    ],
)
def test_a_wrong_channel_is_named_without_its_secrets(given: Any, problem: str) -> None:
    with pytest.raises(OptionError) as refused:
        one(given)
    assert problem in refused.value.message
    assert "'team'" in refused.value.message
    assert "hunter2" not in refused.value.message and "XyZzY" not in refused.value.message


def test_a_route_is_told_what_it_asked_for() -> None:
    def wants(event: str, **given: Any) -> bool:
        facts = {"service": "shop", "event": event}
        return one({"url": HOOK, "type": "slack", **given}).wants(message_of(facts, ident="1", now=1.0))

    assert wants("started") and wants("page")
    assert not wants("started", min_severity="warning") and wants("held", min_severity="warning")
    assert not wants("held", only=["page"]) and wants("page", only="page")
    oncall = {"type": "pagerduty", "routing_key": "k", "url": "https://pd.example.org"}
    assert [event for event in ("started", "done", "held", "page", "approved") if wants(event, **oncall)] == [
        "done",  # it resolves
        "held",
        "page",
    ]


def test_a_route_shows_nothing_of_how_it_is_reached() -> None:
    route = one({"type": "slack", "url": HOOK})
    assert "XyZzY" not in repr(route)
    assert set(route.secrets) == {HOOK, "services/T000/B000/XyZzYXyZzY"}
