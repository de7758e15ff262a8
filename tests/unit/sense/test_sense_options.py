# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A source that is written wrongly is refused in words that help, and never repeats a secret."""

from __future__ import annotations

from typing import Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.source_options import source_of, targets_of
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import (
    EVERYTHING,
    Sample,
    Target,
    answer_from_dict,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import parse_source

SERVER = {"type": "prometheus", "url": "https://prometheus.example.org"}
PAGE = {"type": "exposition", "url": "http://127.0.0.1:1/metrics"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({}, "has no type. Use exposition or prometheus"),
        ({"type": "prometeus"}, "unknown type 'prometeus' (did you mean 'prometheus'?)"),
        ({**SERVER, "tokn": "hunter2"}, "no key 'tokn' (did you mean 'token'?)"),
        ({"type": "prometheus"}, "needs one url"),
        ({**SERVER, "urls": ["http://b"]}, "needs one url"),
        ({**PAGE, "urls": "http://b"}, "urls is not a list"),
        ({**SERVER, "url": "ftp://u:hunter2@host"}, "not an http or https URL"),
        ({**SERVER, "url": "http://[hunter2"}, "not an http or https URL"),
        ({**SERVER, "url": "http://host:99999"}, "not an http or https URL"),
        ({**SERVER, "url": ["http://host"]}, "source.url is not text"),
        ({**SERVER, "headers": "X: hunter2"}, "headers is not a mapping"),
        ({**SERVER, "headers": {"X-A": "hunter2\r\nX-B: 1"}}, "line break"),
        ({**SERVER, "token": "hunter2", "username": "ada"}, "both a token and a username"),
        ({**SERVER, "client_key": "/k"}, "needs client_cert"),
        ({**SERVER, "validate_certs": "maybe"}, "neither true nor false"),
        ({**SERVER, "timeout": 0}, "number of seconds above 0"),
        ({**SERVER, "timeout": True}, "number of seconds above 0"),
        ({**SERVER, "window": float("inf")}, "number of seconds above 0"),
    ],
)
def test_a_wrong_source_is_refused(source: Dict[str, object], words: str) -> None:
    with pytest.raises(OptionError) as error:
        parse_source(source)
    assert words in error.value.message
    assert "hunter2" not in error.value.message


def test_secrets_are_in_no_repr() -> None:
    source = parse_source({**SERVER, "token": "hunter2", "headers": {"X-Key": "hunter2"}, "url": "http://u:hunter2@h"})
    assert "hunter2" not in repr(source)


def test_what_is_not_set_is_not_there() -> None:
    source = parse_source({**SERVER, "token": None, "timeout": None, "validate_certs": False, "tenant": "a"})
    assert (source.timeout, source.window, source.place_label, source.up) == (5.0, 150.0, "instance", "up")
    assert source.access.headers == {"X-Scope-OrgID": "a"} and not source.access.validate_certs


def test_a_policys_source_takes_credentials_from_the_task_of_the_same_type_only() -> None:
    merged = source_of({"type": "prometheus", "token": "tk"}, SERVER, {})
    assert (merged.urls, merged.access.token) == (("https://prometheus.example.org",), "tk")
    assert source_of({"token": "tk"}, SERVER, {}).access.token == "tk"
    assert source_of({"type": "prometheus", "token": "tk"}, PAGE, {}).access.token == ""
    assert source_of(PAGE, None, {}).urls == ("http://127.0.0.1:1/metrics",)


def test_the_environment_serves_a_metrics_server_only_and_never_half_an_identity() -> None:
    environment = {
        "SELFHEAL_PROMETHEUS_URL": "https://env.example.org",
        "SELFHEAL_PROMETHEUS_TOKEN": "env",
    }
    assert source_of({"type": "prometheus"}, None, environment).urls == ("https://env.example.org",)
    assert source_of(SERVER, None, environment).access.token == "env"
    named = source_of({**SERVER, "username": "ada", "password": "p"}, None, environment)
    assert (named.access.token, named.access.username) == ("", "ada")
    assert source_of(PAGE, None, environment).access.token == ""


def test_targets_are_places_with_their_pages() -> None:
    page, server = parse_source(PAGE), parse_source(SERVER)
    assert targets_of(None, page) == (Target(EVERYTHING, ("http://127.0.0.1:1/metrics",)),)
    assert targets_of([], server) == ()
    assert targets_of(["a", {"place": "b", "url": "http://b:1", "urls": ["http://b:2"], "instance": "i"}], page) == (
        Target("a"),
        Target("b", ("http://b:1", "http://b:2"), "i"),
    )


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ("a", "not a list"),
        ([{"url": "http://a"}], "has no place"),
        ([""], "has no place"),
        ([{"place": "a", "ulr": "http://a"}], "no key 'ulr' (did you mean 'url'?)"),
        ([{"place": "a", "url": "a:8000"}], "not an http or https URL"),
        (["a", "a"], "targets name a more than once"),
    ],
)
def test_wrong_targets_are_refused(targets: object, words: str) -> None:
    with pytest.raises(OptionError) as error:
        targets_of(targets, parse_source(PAGE))
    assert words in error.value.message


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"at": True},
        {"at": 1, "answers": []},
        {"at": 1, "answers": {"g": {"p": {"at": 1, "bad": "x", "total": 1}}}},
        {"at": 1, "answers": {"g": {"p": 3}}},
    ],
)
def test_what_is_no_sample_is_refused(raw: Dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a sample has"):
        Sample.from_dict(raw)


def test_a_sample_from_elsewhere_may_be_short() -> None:
    sample = Sample.from_dict({"at": 1, "down": {"absent": "provider_error"}, "warnings": "odd"})
    assert sample.down is not None and sample.down.detail == "" and sample.warnings == ()
    assert answer_from_dict({"absent": "stale"}).__class__.__name__ == "Absent"
