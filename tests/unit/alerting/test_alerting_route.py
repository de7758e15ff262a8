# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alertmanager's way to the controller: who proves what, what is repeated when, and what is left as it is."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import yaml

from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.route import (
    NOBODY,
    Endpoint,
    Timing,
    configuration,
    way,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError

HTTP, HTTPS = "http://127.0.0.1:5050/alerts", "https://controller.example.org:5050/alerts"
TOKEN = {"credentials_file": "/etc/alertmanager/token"}
BASIC = {"username": "alertmanager", "password_file": "/etc/alertmanager/password"}
MUTUAL = {"cert_file": "/c.pem", "key_file": "/k.pem"}


@pytest.mark.parametrize(
    ("url", "given", "proof"),
    [
        (HTTP, TOKEN, {"authorization": {"type": "Bearer", **TOKEN}}),
        (HTTP, BASIC, {"basic_auth": BASIC}),
        (HTTPS, {**MUTUAL, "ca_file": "/ca.pem"}, {"tls_config": {"ca_file": "/ca.pem", **MUTUAL}}),
        (
            HTTPS,
            {**TOKEN, "server_name": "x"},
            {"authorization": {"type": "Bearer", **TOKEN}, "tls_config": {"server_name": "x"}},
        ),
        (HTTP, {"unauthenticated": True}, {}),
    ],
)
def test_alertmanager_says_who_it_is(url: str, given: Dict[str, Any], proof: Dict[str, Any]) -> None:
    (receiver,) = way(Endpoint(url, **given), Timing()).receivers
    assert receiver == {
        "name": "selfheal",
        "webhook_configs": [
            {
                "url": url,
                "send_resolved": True,
                "max_alerts": 500,
                "http_config": {**proof, "follow_redirects": False},
            }
        ],
    }


@pytest.mark.parametrize(
    ("url", "given", "reason"),
    [
        (HTTP, {}, "without a proof of who sends them"),
        (HTTP, {**TOKEN, **BASIC}, "both a credentials_file and a username"),
        (HTTP, {"username": "x"}, "username and password_file belong together"),
        (HTTPS, {"key_file": "x"}, "cert_file and key_file belong together"),
        (HTTP, MUTUAL, "need an https url"),
        (HTTP, {**TOKEN, "ca_file": "/ca.pem"}, "need an https url"),
        ("ftp://x/alerts", TOKEN, "not a plain http or https URL"),
        ("http://user:s3cr3t@x/alerts", TOKEN, "not a plain http or https URL"),
        ("http://x/alerts?token=s3cr3t", TOKEN, "not a plain http or https URL"),
        ("http://x/a b", TOKEN, "not a plain http or https URL"),
        ("http://[x/alerts", TOKEN, "url is no URL"),
    ],
)
def test_what_would_not_be_taken_is_refused(url: str, given: Dict[str, Any], reason: str) -> None:
    with pytest.raises(OptionError, match=reason) as raised:
        way(Endpoint(url, **given), Timing())
    assert "s3cr3t" not in raised.value.message


def test_a_token_in_clear_is_warned_of_unless_it_stays_on_the_machine() -> None:
    for url in (HTTP, HTTPS, "http://localhost:5050/alerts", "http://[::1]:5050/alerts"):
        assert way(Endpoint(url, **TOKEN), Timing()).warnings == ()
    assert way(Endpoint("http://192.0.2.1/alerts", **TOKEN), Timing()).warnings == (
        "the credentials go to 192.0.2.1 in clear: use https",
    )


def test_who_acts_is_told_by_service_and_the_watchdog_is_not_told_to_people() -> None:
    acting, watchdog = way(Endpoint(HTTP, **TOKEN), Timing()).routes
    assert acting == {
        "matchers": ['service!=""', 'response=~"flag_off|restart|rollback"'],
        "receiver": "selfheal",
        "group_by": ["service", "environment"],
        "group_wait": "1s",
        "group_interval": "15s",
        "repeat_interval": "5m",
        "continue": True,
    }
    assert watchdog["matchers"] == ['alertname="Watchdog"'] and watchdog["continue"] is False
    assert (watchdog["group_interval"], watchdog["repeat_interval"]) == ("1m", "50s")
    (only,) = way(Endpoint(HTTP, **TOKEN), Timing(), watchdog="", responses=["page"], receiver="heal").routes
    assert only["receiver"] == "heal" and only["matchers"] == ['service!=""', 'response=~"page"']


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"responses": []}, "responses takes rollback, flag_off, restart, page"),
        ({"responses": ['x"']}, "responses takes"),
        ({"receiver": " "}, "receiver is empty"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused(more: Dict[str, Any], reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        way(Endpoint(HTTP, **TOKEN), Timing(), **more)
    with pytest.raises(OptionError, match="repeat_interval is shorter than group_interval"):
        way(Endpoint(HTTP, **TOKEN), Timing(repeat_interval=1.0))


def test_the_rest_of_the_configuration_stays() -> None:
    made = way(Endpoint(HTTP, **TOKEN), Timing())
    config = {
        "global": {"resolve_timeout": "5m"},
        "route": {"receiver": "on-call", "group_by": ["alertname"], "routes": [{"receiver": "db"}]},
        "receivers": [{"name": "on-call"}, {"name": "db"}],
        "templates": ["*.tmpl"],
    }
    whole = yaml.safe_load(configuration(made, config))
    assert whole["route"] == {
        **config["route"],
        "routes": [*made.routes, {"receiver": "on-call", "routes": [{"receiver": "db"}]}],
    }  # type: ignore[dict-item]
    assert whole["receivers"] == [{"name": "on-call"}, {"name": "db"}, *made.receivers]
    assert {key: whole[key] for key in ("global", "templates")} == {key: config[key] for key in ("global", "templates")}
    assert yaml.safe_load(configuration(made, NOBODY))["route"]["receiver"] == "nobody"
    assert NOBODY == {"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]}, "it is not changed"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "it has no route and receivers"),
        ({"route": {}, "receivers": "x"}, "it has no route and receivers"),
        ({"route": {"routes": "x"}, "receivers": []}, "route.routes of config is text"),
        ({"route": {}, "receivers": [{"name": "selfheal"}]}, "a receiver 'selfheal' of its own"),
    ],
)
def test_a_configuration_that_is_none_is_refused(config: Dict[str, Any], reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        configuration(way(Endpoint(HTTP, **TOKEN), Timing()), config)
