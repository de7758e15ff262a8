# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What real notifications become, in every shape that sources hand them over, and with every option."""

from __future__ import annotations

import copy
from typing import Any, Dict, List

import pytest
import yaml
from captured_alerts import FIRING, GRAFANA, RESOLVED, TRUNCATED
from filtered import MODULE, alerts, flaws, texts

UUIDS = ["0b7e0f5e-7c1b-4a55-9a57-0d8a4a1f8e11", "0b7e0f5e-7c1b-4a55-9a57-0d8a4a1f8e12"]
VERIFIED = {"selfheal": {"verified": "standard-webhooks", "source": "alertmanager", "key": "ci", "ack": UUIDS}}
CALL = {"type": "selfheal.call", "name": "ci", "service": "shop", "id": "run-17", "reason": "the smoke test fails"}
CODE = {
    "type": "selfheal.error_code",
    "timestamp": "2026-09-21T14:23:00.5+02:00",
    "error_code": "SHOP-CART-001",
    "severity": "critical",
    "service": "shop",
    "version": "1.4.2",
    "environment": "production",
}


def one(event: Any, **options: Any) -> Dict[str, Any]:
    events = made(event, **options)
    assert len(events) == 1
    return events[0]


def made(event: Any, **options: Any) -> List[Dict[str, Any]]:
    before = copy.deepcopy(event)
    events = alerts(event, **options)
    assert not flaws(events)
    assert event == before
    return events


def with_labels(*several: Dict[str, Any], **change: Any) -> Dict[str, Any]:
    """The captured body with alerts of these labels (beside the name), one fingerprint each."""
    alert = FIRING["alerts"][0]
    made_of = [
        {**alert, **change, "labels": {"alertname": "Errors", **labels}, "fingerprint": f"{number:016x}"}
        for number, labels in enumerate(several)
    ]
    return {**FIRING, "alerts": made_of}


def test_a_firing_alert() -> None:
    event = one({"payload": FIRING, "meta": {"headers": {"Host": "x"}, "hosts": "@/etc/passwd", "endpoint": "alerts"}})
    assert event == {
        "kind": "alert",
        "status": "firing",
        "service": "bank",
        "environment": "",
        "name": "BankErrors",
        "id": "fd3f5423015ea6a4-1795287342",
        "at": pytest.approx(1795287342.193869, abs=1e-6),
        "until": None,
        "severity": "critical",
        "release": "",
        "labels": {"alertname": "BankErrors", "service": "bank", "severity": "critical"},
        "count": 1,
        "others": [],
        "trigger": {
            "kind": "alert",
            "name": "BankErrors",
            "id": "fd3f5423015ea6a4-1795287342",
            "at": event["at"],
            "active": True,
        },
        "alarming": 1,
        "ack": [],
        "reason": "",
        "truncated": 0,
        "out_of_order": False,
        "meta": {"uuid": event["meta"]["uuid"], "selfheal": {"verified": "", "source": "", "key": ""}},
    }


def test_resolved_has_the_same_id_and_another_uuid() -> None:
    firing, resolved = one({"payload": FIRING}), one({"payload": RESOLVED})
    assert resolved["id"] == firing["id"] and resolved["at"] == firing["at"]
    assert resolved["status"] == "resolved" and resolved["trigger"]["active"] is False
    assert resolved["until"] == pytest.approx(1795287345.201276, abs=1e-6)
    assert resolved["meta"]["uuid"] != firing["meta"]["uuid"]
    assert resolved["alarming"] == 0


def test_what_ended_before_it_began_says_so() -> None:
    alert = {**RESOLVED["alerts"][0], "endsAt": "2026-11-21T18:55:41Z"}
    event = one({"payload": {**RESOLVED, "alerts": [alert]}})
    assert event["out_of_order"] is True and event["status"] == "resolved"


def test_a_truncated_group_says_how_many_are_missing() -> None:
    first, second = made({"payload": TRUNCATED})
    assert (first["name"], second["name"]) == ("ShopErrors", "ShopQueue")
    assert first["truncated"] == second["truncated"] == 1
    assert first["release"] == "1.4.2" and "instance" not in first["labels"]
    assert first["others"] == ["ShopQueue"] and second["others"] == ["ShopErrors"]


def test_grafana() -> None:
    event = one({"payload": GRAFANA})
    assert (event["kind"], event["service"], event["name"]) == ("alert", "shop", "Shop errors are high")
    assert event["id"] == f"c6eadffa33fcdf37-{1791791463}"
    assert "grafana_folder" not in event["labels"]


@pytest.mark.parametrize("name", ["DatasourceNoData", "DatasourceError"])
def test_grafanas_own_trouble_is_not_the_services(name: str) -> None:
    alert = {**GRAFANA["alerts"][0], "labels": {"alertname": name, "rulename": "Shop errors", "service": "shop"}}
    event = one({"payload": {**GRAFANA, "alerts": [alert]}})
    assert event["kind"] == "refused" and name in event["reason"]


@pytest.mark.parametrize("event", [FIRING, {"payload": FIRING, "meta": {}}, {"payload": FIRING}, {"body": FIRING}])
def test_every_shape_of_sources_is_the_same_event(event: Any) -> None:
    assert one(event) == one({"payload": FIRING})


def test_uuids_are_the_same_in_every_copy_and_process() -> None:
    copied = {**FIRING, "receiver": "other", "groupKey": "x", "externalURL": "http://other"}
    alert = {**FIRING["alerts"][0], "startsAt": "2026-11-21T19:55:42.193869123+01:00"}
    assert one({"payload": FIRING})["meta"]["uuid"] == "0434e4d0-93c9-582d-a10e-290d200f3a16"
    assert one({**copied, "alerts": [alert]})["meta"]["uuid"] == "0434e4d0-93c9-582d-a10e-290d200f3a16"


def test_a_copy_within_the_payload_is_one_event() -> None:
    assert len(made({"payload": {**FIRING, "alerts": FIRING["alerts"] * 3}})) == 1


def test_without_a_fingerprint_the_labels_are_it_in_any_order() -> None:
    labels = FIRING["alerts"][0]["labels"]
    left = {**FIRING["alerts"][0], "labels": labels, "fingerprint": ""}
    right = {**left, "labels": dict(reversed(labels.items()))}
    other = {**left, "labels": {**labels, "instance": "b"}}
    ids = [one({**FIRING, "alerts": [alert]})["id"] for alert in (left, right, other)]
    assert ids[0] == ids[1] != ids[2]


# --- options


def test_labels_are_tried_in_order() -> None:
    body = with_labels({"app": "shop"}, {"team": "x", "app": "bank", "service": "crm"}, {"team": "y"})
    first, second, refused = made(body, service_label=["service", "app"])
    assert (first["service"], second["service"], refused["kind"]) == ("shop", "crm", "refused")
    assert "service or app" in refused["reason"]


def test_services_that_are_listed() -> None:
    good, refused = made(with_labels({"service": "shop"}, {"service": "bank"}), services=["shop", "crm"])
    assert good["service"] == "shop"
    assert refused["reason"] == "label service: 'bank' is none of the services that are listed"


def test_values_of_the_label_are_mapped_to_groups() -> None:
    body = with_labels({"service": "web-shop/eu"}, {"service": "bank"})
    good, refused = made(body, services={"web-shop/eu": "shop"})
    assert good["service"] == "shop" and good["labels"]["service"] == "web-shop/eu"
    assert refused["kind"] == "refused"


def test_the_environment_and_the_labels() -> None:
    body = with_labels({"service": "shop", "env": "prod-eu", "zone": "a", "owner": "team-shop"})
    event = one(body, environment_label="env", labels=["zone"])
    assert event["environment"] == "prod-eu" and event["labels"] == {"zone": "a"}


def test_an_error_code_in_a_label() -> None:
    body = with_labels({"service": "shop", "error_code": "SHOP-CART-001"}, {"service": "shop", "error_code": "500"})
    code, alert = made(body)
    assert (code["kind"], code["name"], code["trigger"]["kind"]) == ("error_code", "SHOP-CART-001", "error_code")
    assert (alert["kind"], alert["name"]) == ("alert", "Errors")
    assert made(body, code_label="code")[0]["kind"] == "alert"


def test_the_watchdog_needs_no_service() -> None:
    alert = {**FIRING["alerts"][0], "labels": {"alertname": "Watchdog"}}
    event = one({**FIRING, "alerts": [alert]})
    assert (event["kind"], event["service"], event["trigger"], event["alarming"]) == ("watchdog", "", {}, 0)
    assert one({**FIRING, "alerts": [alert, alert]})["meta"]["uuid"] != event["meta"]["uuid"]
    assert one({**FIRING, "alerts": [alert]}, watchdog="DeadMansSwitch")["kind"] == "refused"


def test_what_says_the_same_of_a_service_is_one_event() -> None:
    errors = {"service": "shop", "alertname": "Errors", "version": "1.4.2"}
    body = with_labels(
        {**errors, "instance": "a"},
        {**errors, "instance": "b"},
        {"service": "bank"},
        {**errors, "alertname": "Slow"},
        {**errors, "version": "1.4.1"},
        {**errors, "environment": "test"},
        {"service": "shop", "error_code": "SHOP-CART-001"},
        {},
    )
    body["alerts"][0]["startsAt"] = "2026-11-21T18:59:00Z"
    body["alerts"].insert(0, {**RESOLVED["alerts"][0], "labels": errors})
    events = made(body, one_event_per="service")
    assert [(event["service"], event["name"], event["release"], event["count"]) for event in events] == [
        ("shop", "Errors", "1.4.2", 2),
        ("bank", "Errors", "", 1),
        ("shop", "Slow", "1.4.2", 1),
        ("shop", "Errors", "1.4.1", 1),
        ("shop", "Errors", "1.4.2", 1),
        ("shop", "SHOP-CART-001", "", 1),
        ("shop", "Errors", "1.4.2", 1),
        ("", "", "", 1),
    ]
    first, resolved, refused = events[0], events[6], events[7]
    assert first["id"].startswith("0000000000000001-")  # it began before the other
    assert first["others"] == ["SHOP-CART-001", "Slow"] and first["alarming"] == 2
    assert (events[4]["environment"], resolved["status"], refused["kind"]) == ("test", "resolved", "refused")


def test_an_event_is_news_when_another_instance_joins() -> None:
    alone = with_labels({"service": "shop"})
    both = with_labels({"service": "shop"}, {"service": "shop", "instance": "b"})
    turned = {**both, "alerts": both["alerts"][::-1]}
    first, second, third = (one(body, one_event_per="service") for body in (alone, both, turned))
    assert first["id"] == second["id"] and (second["id"], second["meta"]) == (third["id"], third["meta"])
    assert first["meta"]["uuid"] != second["meta"]["uuid"]
    assert first["meta"]["uuid"] == one(alone)["meta"]["uuid"]


def test_more_alerts_than_are_read_are_told() -> None:
    body = with_labels(*({"service": "shop"} for _number in range(5)))
    *read, refused = made(body, max_alerts=3)
    assert len(read) == 3
    assert (refused["count"], refused["reason"]) == (2, "5 alerts in one payload, of which 3 were read")


def test_refusals_of_one_sort_are_one_event() -> None:
    body = with_labels(*({"service": f"shop-{number}"} for number in range(500)), {"service": "shop"})
    good, refused = made(body)
    assert good["service"] == "shop" and refused["count"] == 500
    assert refused["reason"] == "label service: 'shop-0' is no plain name of an inventory group"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"servics": ["shop"]}, "option options"),
        ({"services": "{{ services }}"}, "ansible-rulebook renders none here"),
        ({"services": []}, "option services"),
        ({"services": {}}, "option services"),
        ({"services": {"shop": "all"}}, "'all' is no plain name"),
        ({"services": {"shop": "@/etc/passwd"}}, "'@/etc/passwd' is no plain name"),
        ({"services": {7: "shop"}}, "put quotes around it"),
        ({"services": ["shop", 7]}, "option services"),
        ({"service_label": {"a": 1}}, "option service_label"),
        ({"service_label": ""}, "option service_label"),
        ({"labels": [None]}, "option labels"),
        ({"labels": "{%"}, "is no name"),
        ({"calls": "yes"}, "refuse"),
        ({"watchdog": ["Watchdog", "Other"]}, "it must be a text"),
        ({"one_event_per": []}, "alert, service"),
        ({"max_alerts": 0}, "a whole number"),
        ({"max_alerts": True}, "a whole number"),
    ],
)
def test_a_wrong_option_is_named_and_nothing_is_done(options: Dict[Any, Any], said: str) -> None:
    event = one({"payload": FIRING, "meta": VERIFIED}, **options)
    assert event["kind"] == "refused" and said in event["reason"]
    assert event["ack"] == UUIDS


# --- what the source says


def test_what_our_sources_say_comes_through() -> None:
    said = {**VERIFIED["selfheal"], "alarming": 311, "ack": [*UUIDS, "../../x", 7, UUIDS[0].upper()]}
    event = one({"payload": FIRING, "meta": {"selfheal": said}})
    assert event["alarming"] == 311 and event["ack"] == UUIDS
    assert event["meta"]["selfheal"] == {"verified": "standard-webhooks", "source": "alertmanager", "key": "ci"}


def test_what_a_body_says_of_itself_proves_nothing() -> None:
    for event in (
        {**CALL, "meta": VERIFIED},
        {"body": CALL, "meta": VERIFIED},
        {"payload": {**CALL, "meta": VERIFIED}},
    ):
        assert one(event)["kind"] == "refused"
    assert one({**FIRING, "meta": VERIFIED})["meta"]["selfheal"]["verified"] == ""


# --- calls and error codes


def test_a_verified_call() -> None:
    event = one({"payload": CALL, "meta": VERIFIED})
    assert (event["kind"], event["service"], event["name"], event["reason"]) == (
        "call",
        "shop",
        "ci",
        "the smoke test fails",
    )
    assert event["trigger"] == {"kind": "call", "name": "ci", "id": "run-17", "at": None, "active": True}
    assert event["ack"] == UUIDS


@pytest.mark.parametrize("body", [CALL, CODE])
@pytest.mark.parametrize("verified", ["", None, True, "none", ["bearer"], "bearer "])
def test_an_unproven_call_is_refused(body: Any, verified: Any) -> None:
    event = {"payload": body, "meta": {"selfheal": {"verified": verified}}}
    assert one(event)["kind"] == one({"payload": body})["kind"] == "refused"
    assert one(event, calls="accept")["kind"] in ("call", "error_code")
    assert one({"payload": body, "meta": VERIFIED}, calls="refuse")["kind"] == "refused"


def test_an_error_code_of_a_log() -> None:
    event = one({"payload": CODE, "meta": VERIFIED})
    assert (event["kind"], event["name"], event["service"], event["environment"], event["release"], event["at"]) == (
        "error_code",
        "SHOP-CART-001",
        "shop",
        "production",
        "1.4.2",
        1789993380.5,
    )
    untyped = {key: value for key, value in CODE.items() if key != "type"}
    assert one({"payload": {**untyped, "level": "error", "message": "{{ x }}"}, "meta": VERIFIED}) == event


def test_lines_of_one_burst_are_one_incident() -> None:
    def ident(**change: str) -> Any:
        event = one({"payload": {**CODE, **change}, "meta": VERIFIED})
        return event["id"], event["meta"]["uuid"]

    assert ident() == ident(timestamp="2026-09-21T14:24:59+02:00") == ident(timestamp="2026-09-21T12:20:00Z")
    different = [ident(), ident(timestamp="2026-09-21T12:25:00Z"), ident(version="1.4.3"), ident(service="bank")]
    assert len(set(different)) == 4


# --- the documentation


def test_the_documented_options_are_those_that_it_has() -> None:
    documented = yaml.safe_load(MODULE["DOCUMENTATION"])["options"]
    named = one({"payload": FIRING}, nothing_like_it=1)["reason"]
    assert all(name in named for name in documented)
    defaults = {name: option["default"] for name, option in documented.items() if "default" in option}
    assert one({"payload": FIRING}, **defaults) == one({"payload": FIRING})
    assert tuple(defaults["labels"]) == MODULE["DEFAULT_LABELS"]
    assert yaml.safe_load(MODULE["EXAMPLES"])


def test_no_text_of_the_sender_is_in_an_event_but_what_was_asked_for() -> None:
    body = with_labels(
        {"service": "shop", "secret": "hunter2"}, annotations={"note": "hunter2"}, generatorURL="hunter2"
    )
    assert not [text for text in texts(one({**body, "hunter2": "hunter2"})) if "hunter2" in text]


def test_an_event_acknowledges_what_its_own_alerts_carry_and_the_last_one_the_rest() -> None:
    items = [*UUIDS, "0b7e0f5e-7c1b-4a55-9a57-0d8a4a1f8e13", "0b7e0f5e-7c1b-4a55-9a57-0d8a4a1f8e14"]
    forged = "0b7e0f5e-7c1b-4a55-9a57-0d8a4a1f8e99"
    body = with_labels({"service": "shop"}, {"service": "shop"}, {"service": "bank"}, {"service": "no group!"})
    for alert, item in zip(body["alerts"], [*items[:3], forged], strict=True):
        alert["ack"] = item
    events = made({"payload": body, "meta": {"selfheal": {"ack": items}}}, one_event_per="service")
    assert {event["service"]: event["ack"] for event in events} == {
        "shop": items[:2],
        "bank": items[2:3],
        "": items[3:],
    }


def test_an_emission_makes_it_news_for_the_engine_and_only_then() -> None:
    def uuid_of(**said: Any) -> Any:
        return one({"payload": FIRING, "meta": {"selfheal": said}})["meta"]["uuid"]

    assert uuid_of(emission="7-0") == uuid_of(emission="7-0") != uuid_of(emission="7-1")
    assert uuid_of() == uuid_of(emission="{{ x }}") != uuid_of(emission="7-0")


@pytest.mark.parametrize("said", [{"key": "bank-ci"}, {"verified": "bearer"}, {"verified": "basic"}, {"key": ""}])
def test_a_call_is_its_keys_own(said: Dict[str, Any]) -> None:
    meta = {"selfheal": {**VERIFIED["selfheal"], **said}}
    event = one({"payload": CALL, "meta": meta})
    assert event["kind"] == "refused" and "sign it with a key of that name" in event["reason"]
    assert one({"payload": CALL, "meta": meta}, calls="accept")["kind"] == "call"


def test_one_id_for_calls_about_two_services_is_two_calls() -> None:
    both = [one({"payload": {**CALL, "service": name}, "meta": VERIFIED})["meta"]["uuid"] for name in ("shop", "bank")]
    assert len(set(both)) == 2
