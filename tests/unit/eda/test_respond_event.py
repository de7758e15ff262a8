# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event is taken only as the filter makes it; what to do about it; and how it is acknowledged."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_filter import alerts as events
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.event import Event, acks_of, parse_event
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.spool import acknowledge, is_passing
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.ways import after_flag, chosen, parse_response

ONE, TWO = "9d1a9b5c-2f0e-5f5b-8c7d-0a1b2c3d4e5f", "00000000-0000-5000-8000-000000000000"
FIRING: Dict[str, Any] = {
    "kind": "alert",
    "status": "firing",
    "service": "shop",
    "environment": "production",
    "name": "ShopErrors",
    "id": "3fae0c11a2b3c4d5-1795251593",
    "at": 1795251593.85,
    "release": "2.0.1",
    "alarming": 3,
    "labels": {"alertname": "ShopErrors"},
    "ack": [ONE],
}


def test_an_alert_becomes_the_guards_trigger() -> None:
    event = parse_event(FIRING)
    assert (event.service, event.alarming, event.fingerprint) == ("shop", 3, "3fae0c11a2b3c4d5")
    trigger = event.trigger(at=1795251000.0, evidence={"source": {}})
    assert (trigger.kind, trigger.name, trigger.id) == ("alert", "ShopErrors", FIRING["id"])
    assert (trigger.at, trigger.active, trigger.evidence) == (1795251000.0, True, {"source": {}})
    assert not parse_event({**FIRING, "status": "resolved"}).trigger().active


@pytest.mark.parametrize(
    ("more", "by_alert", "fingerprint", "what"),
    [
        ({}, True, "3fae0c11a2b3c4d5", "alert ShopErrors"),
        ({"kind": "error_code", "name": "SHOP-CART-001"}, True, "3fae0c11a2b3c4d5", "error code SHOP-CART-001"),
        ({"kind": "error_code", "name": "SHOP-CART-001", "labels": {}}, False, "", "error code SHOP-CART-001"),
        ({"kind": "call", "name": "ci", "id": "build-7"}, False, "", "call ci"),
        ({"id": "something-else"}, True, "", "alert ShopErrors"),
    ],
)
def test_only_an_alert_has_a_source_to_ask(more: Dict[str, Any], by_alert: bool, fingerprint: str, what: str) -> None:
    event = parse_event({**FIRING, **more})
    assert (event.by_alert, event.fingerprint, event.what) == (by_alert, fingerprint, what)


def test_one_event_stands_for_the_alert_among_others_that_may_be_acted_on() -> None:
    event = parse_event({**FIRING, "others": ["ShopDown", "ShopSlow"]})
    assert event.about(["ShopErrors", "ShopSlow"]) is event and event.about([]) is event
    slow = event.about(["ShopSlow"])
    assert (slow.name, slow.fingerprint, slow.alert) == ("ShopSlow", "", "ShopSlow")
    assert slow.trigger().id == f"{FIRING['id']}/ShopSlow" and slow.trigger(ident="beef-7").id == "beef-7"
    assert event.trigger(ident="beef-7").id == FIRING["id"]
    # the other's release and beginning are not known
    assert (slow.release, slow.at) == ("", None)


def test_who_sent_it_is_kept_as_far_as_it_is_plain() -> None:
    said = {"source": "alertmanager", "verified": "bearer", "key": "am-1", "ack": [ONE], "alarming": 3}
    kept = {"source": "alertmanager", "verified": "bearer", "key": "am-1"}
    assert parse_event({**FIRING, "meta": {"selfheal": said}}).sender == kept
    for meta in (None, "x", [], {}, {"selfheal": 7}, {"selfheal": {"key": 7, "verified": "a\nb", "source": ""}}):
        assert parse_event({**FIRING, "meta": meta}).sender == {}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"kind": "alarm"}, "its kind is 'alarm'"),
        ({"kind": ["alert"]}, "its kind is a list"),
        ({"status": "pending"}, "its status is 'pending'"),
        ({"service": "shop,crm"}, "its service is 'shop,crm', which is no plain name"),
        ({"service": "@/etc/passwd"}, "which is no plain name"),
        ({"service": ""}, "it has no service"),
        ({"service": "ungrouped"}, "which is no service"),
        ({"service": {"a": "b"}}, "its service is of another type"),
        ({"environment": "../prod"}, "its environment is '../prod'"),
        ({"name": " "}, "it has no name"),
        ({"name": "Shop\nErrors"}, "its name is not one printable line"),
        ({"name": "x" * 513}, "its name is not one printable line"),
        ({"id": ""}, "it has no id"),
        ({"id": 7}, "its id is a number"),
        ({"at": "now"}, "its at is no time"),
        ({"at": float("nan")}, "its at is no time"),
        ({"at": True}, "its at is no time"),
        ({"alarming": -1}, "its alarming is no number of services"),
        ({"alarming": 2.5}, "its alarming is no number of services"),
        ({"release": "2.0 1"}, "its release is '2.0 1'"),
        ({"labels": {"a": 1}}, "its labels are not texts"),
        ({"labels": []}, "its labels is a list"),
        ({"others": [1]}, "its others are not at most 100 names"),
    ],
)
def test_anything_else_is_refused(more: Dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match="respond_event cannot be taken") as refused:
        parse_event({**FIRING, **more})
    assert says in refused.value.message


@pytest.mark.parametrize("raw", ["kind=alert", None, 7, ["a"], True])
def test_a_text_is_no_event(raw: object) -> None:
    with pytest.raises(OptionError, match="Give it as JSON"):
        parse_event(raw)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.integers(), lambda inner: st.lists(inner)))
def test_no_value_of_a_field_breaks_it(value: object) -> None:
    for field in FIRING:
        try:
            event = parse_event({**FIRING, field: value})
        except OptionError:
            continue
        assert isinstance(event, Event) and event.service.isidentifier()


def test_whatever_the_filter_makes_is_taken_or_told() -> None:
    body = {
        "version": "4",
        "status": "firing",
        "alerts": [
            {
                "status": "firing",
                "startsAt": "2026-11-21T15:50:28.25Z",
                "fingerprint": "3fae0c11a2b3c4d5",
                "labels": {"alertname": "Shop{{ x }}", "service": "shop", "version": "2.0.1"},
            },
            {"status": "firing", "labels": {"alertname": "Watchdog"}, "startsAt": "2026-11-21T15:50:28Z"},
            {"status": "firing", "labels": {"alertname": "NoService"}, "startsAt": "2026-11-21T15:50:28Z"},
        ],
    }
    made: List[Any] = events.main({"payload": body, "meta": {}})
    assert sorted(parse_event(one).kind for one in made) == ["alert", "refused", "watchdog"]
    (alert,) = [parse_event(one) for one in made if one["kind"] == "alert"]
    assert (alert.release, alert.fingerprint) == ("2.0.1", "3fae0c11a2b3c4d5")


# --- what to do


@pytest.mark.parametrize(
    ("wish", "response", "expected"),
    [
        (None, (), "rollback"),
        ("", ("page",), "page"),
        ("record", ("rollback",), "record"),
        (None, ("restart", "page"), "restart"),
        (None, ("flag_off", "rollback"), "flag_off"),
        ("flag_off", ("rollback",), "flag_off"),
    ],
)
def test_the_rulebook_comes_first_then_the_response(wish: object, response: "tuple[str, ...]", expected: str) -> None:
    assert chosen(wish, response) == expected


def test_an_unknown_wish_is_refused() -> None:
    for wish in ("rolback", ["rollback"]):
        with pytest.raises(OptionError, match="respond_with is"):
            chosen(wish, ())


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (("flag_off", "rollback", "page"), "rollback"),
        (("flag_off", "page", "rollback"), "page"),
        (("rollback", "flag_off"), "page"),
        (("flag_off", "restart", "rollback"), "rollback"),
        (("rollback", "page"), "page"),
        ((), "page"),
    ],
)
def test_what_follows_a_flag_is_what_stands_behind_it(response: "tuple[str, ...]", expected: str) -> None:
    assert after_flag(response) == expected


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("flag_off", "response must be a list, not text"),
        ({"flag_off": 1}, "response must be a list, not a mapping"),
        (["flag_of"], r"response has 'flag_of' \(did you mean 'flag_off'\?\)"),
        ([7], "response has 'a number'"),
        (["page", "page"], "response has 'page' twice"),
    ],
)
def test_a_response_is_a_list_of_what_there_is(raw: object, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse_response(raw)
    assert parse_response(None) == () and parse_response(["flag_off", "page"]) == ("flag_off", "page")


# --- the acknowledgement


def test_only_what_is_a_uuid_is_acknowledged() -> None:
    given_acks = [ONE, "../../etc/x", ONE.upper(), 7, None, ONE, TWO, f"{ONE}\n"]
    assert acks_of({"ack": given_acks, "kind": 7}) == (ONE, TWO)
    for raw in (None, "x", [], {"ack": "x"}, {"ack": {"a": 1}}):
        assert acks_of(raw) == ()


def test_an_acknowledgement_is_an_empty_file_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / TWO).symlink_to(tmp_path / "elsewhere")
    for _again in range(2):
        acknowledge(str(tmp_path), [ONE, TWO, "../x"])
    made = tmp_path / "done" / ONE
    assert made.read_bytes() == b"" and stat.S_IMODE(os.stat(made).st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done"]

    acknowledge("/nonexistent", [])
    with pytest.raises(OptionError, match="the event source waits in vain"):
        acknowledge("/nonexistent", [ONE])
    (tmp_path / "away").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "done").symlink_to(tmp_path / "away")
    with pytest.raises(OptionError, match="cannot be written to"):
        acknowledge(str(tmp_path / "other"), [ONE])
    assert not list((tmp_path / "away").iterdir())


def test_what_may_be_answered_otherwise_later_comes_again(tmp_path: Path) -> None:
    (tmp_path / "done").mkdir()
    acknowledge(str(tmp_path), [ONE, "../x"], again=True)
    acknowledge(str(tmp_path), [TWO])
    assert sorted(os.listdir(tmp_path / "done")) == sorted([f"{ONE}.again", TWO])


@pytest.mark.parametrize(
    ("decision", "unknown", "passing"),
    [
        ({}, True, False),
        ({"verdict": "denied", "reason": "in_progress", "until": None}, False, True),
        ({"verdict": "denied", "reason": "paused", "until": None}, False, True),
        ({"verdict": "denied", "reason": "breaker_open", "until": 7.0}, False, True),
        ({"verdict": "denied", "reason": "breaker_open", "until": None}, False, False),
        ({"verdict": "denied", "reason": "not_confirmed", "until": None}, True, True),
        ({"verdict": "denied", "reason": "not_confirmed", "until": None}, False, False),
        ({"verdict": "denied", "reason": "not_eligible", "until": None}, True, False),
        ({"verdict": "denied", "reason": "duplicate", "until": None}, True, False),
        ({"verdict": "recommended", "reason": "not_attributable", "until": 7.0}, False, False),
        ({"verdict": "allowed"}, True, False),
    ],
)
def test_a_denial_passes_or_is_final(decision: Dict[str, Any], unknown: bool, passing: bool) -> None:
    assert is_passing(decision, unknown=unknown) == passing
