# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is, what is alarming, and what becomes of the bodies that are sent."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any, Dict, List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from source_alone import alert, group

from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_source.alertmanager import (
    Alarms,
    Caller,
    FairOrder,
    Options,
    Refused,
    Waiting,
    confirmed,
    epoch,
    merged,
    read_alerts,
    read_call,
)

CALLER = Caller("bearer", "token-1")


def waiting(number: int, service: str, *, at: float = 0.0, alone: bool = False, size: int = 10) -> Waiting:
    return Waiting(at, number, f"uuid-{number}", service, alone=alone, size=size, at=at)


def arrive(order: FairOrder, number: int, service: str, now: float = 0.0, **about: Any) -> None:
    order.weigh(service, 1.0, now)
    order.add(waiting(number, service, at=now, **about))


def turn(order: FairOrder, now: float = 0.0, most: int = 100, size: int = 10**6) -> Tuple[str, List[int]]:
    found = order.next(now, most, size)
    return (found[0].service if found else "", [item.seq for item in found])


def test_one_alert_is_not_held_up_by_a_storm() -> None:
    order = FairOrder()
    number = 0
    for service in range(50):
        for _alert in range(200):
            number += 1
            arrive(order, number, f"s{service}", number / 200)
    for _turn in range(10):
        turn(order, 51.0)
    arrive(order, 99999, "quiet", 51.0)
    assert turn(order, 51.0) == ("quiet", [99999])
    served = [turn(order, 52.0)[0] for _turn in range(50 * 2 - 10)]
    assert Counter(Counter(served).values()) == {2: 40, 1: 10}  # each of the fifty had its two batches of a hundred


def test_who_was_served_waits_behind_who_was_not() -> None:
    order = FairOrder()
    arrive(order, 1, "a")
    assert turn(order) == ("a", [1])
    arrive(order, 2, "a")
    for number in range(3, 20):
        arrive(order, number, "b")
    assert turn(order)[0] == "b"
    assert turn(order) == ("a", [2])
    assert turn(order) == ("", [])


def test_nobody_waits_for_ever_behind_newcomers() -> None:
    """A service with a thousand alerts, and a newcomer every second, of which one a second can be served."""
    order = FairOrder()
    for number in range(1000):
        arrive(order, number, "noisy")
    for now in range(1, 1000):
        arrive(order, 1000 + now, f"new{now}", float(now))
        if turn(order, float(now))[0] == "noisy":
            break
    assert 30 < now < 600


def test_what_was_emitted_together_before_a_crash_comes_together() -> None:
    order = FairOrder()
    for number, emission in enumerate(("", "one", "one", "two", "")):
        order.add(replace(waiting(number, "a", at=0.0 if emission else float(number + 1)), emission=emission))
    assert [turn(order)[1] for _turn in range(3)] == [[1, 2], [3], [0, 4]]


def test_a_held_service_is_passed_over() -> None:
    order = FairOrder()
    for number, service in enumerate("aab"):
        arrive(order, number, service)
    order.hold("a")
    assert turn(order) == ("b", [2])
    assert turn(order) == ("", [])
    order.free("a")
    assert turn(order) == ("a", [0, 1])
    assert order.oldest() is None


def test_a_call_goes_alone_and_large_alerts_in_several_events() -> None:
    order = FairOrder()
    for number, alone in enumerate((False, False, True, True, False)):
        arrive(order, number, "a", float(number), alone=alone)
    assert [turn(order, 9.0)[1] for _turn in range(5)] == [[0, 1], [2], [3], [4], []]
    for number in range(5):
        arrive(order, number, "a", size=400)
    assert [turn(order, 9.0, size=1000)[1] for _turn in range(3)] == [[0, 1], [2, 3], [4]]
    arrive(order, 9, "a", size=5000)
    assert turn(order, 9.0, size=1000)[1] == [9]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from("abcd"), st.booleans()),
        st.tuples(st.just("turn"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("free"), st.sampled_from("abcd"), st.booleans()),
    ),
    max_size=80,
)


@given(steps)
def test_everything_has_its_turn_once_and_in_the_order_of_its_service(moves: List[Tuple[str, Any, bool]]) -> None:
    order = FairOrder()
    brought: Dict[str, List[int]] = {name: [] for name in "abcd"}
    taken: Dict[str, List[int]] = {name: [] for name in "abcd"}
    for number, (move, what, flag) in enumerate(moves):
        if move == "arrive":
            arrive(order, number, what, float(number), alone=flag)
            brought[what].append(number)
        elif move == "free":
            order.free(what)
        else:
            idle = [name for name in "abcd" if len(brought[name]) > len(taken[name]) and name not in order.busy]
            found = order.next(float(number), what, 10**6)
            assert bool(found) == bool(idle)
            if found:
                name = found[0].service
                assert name in idle
                assert all(item.service == name for item in found)
                assert len(found) == 1 or (len(found) <= what and not any(item.alone for item in found))
                taken[name] += [item.seq for item in found]
                if flag:
                    order.hold(name)
        assert order.length == sum(map(len, brought.values())) - sum(map(len, taken.values()))
    for name in "abcd":
        order.free(name)
    while found := order.next(1000.0, 3, 10**6):
        taken[found[0].service] += [item.seq for item in found]
    assert taken == brought
    order.forget(10**6)
    assert (order.load, order.length, order.oldest()) == ({}, 0, None)


def test_services_that_are_alarming() -> None:
    alarms = Alarms(keep=100.0, most=4)
    for number, (incident, service) in enumerate((("1", "a"), ("2", "a"), ("3", "b"), ("1", "a"))):
        alarms.told(incident, service, firing=True, at=float(number))
    assert alarms.count() == 2
    alarms.told("3", "b", firing=False, at=5.0)
    alarms.told("9", "z", firing=False, at=5.0)
    assert alarms.count() == 1
    alarms.told("4", "c", firing=True, at=104.0)  # by now nobody has heard of 2 for too long, of 1 just not
    assert (alarms.count(), list(alarms.firing)) == (1, ["4"])
    for number in range(10):
        alarms.told(f"n{number}", f"s{number}", firing=True, at=105.0)
    assert alarms.count() == 4


def read(*alerts: Dict[str, Any], **fields: Any) -> Any:
    return read_alerts(json.dumps(group(*alerts, **fields)).encode(), Options(), CALLER)


def test_what_an_alert_is_known_by() -> None:
    firing, resolved = read(alert("High"), alert("High", status="resolved")).items
    (again,) = read(alert("High", severity="page"), groupKey="other").items
    (zone,) = read({**alert("High"), "startsAt": "2026-11-20T14:00:00.123+02:00"}).items
    (later,) = read(alert("High", begun=1)).items
    assert firing.uuid == again.uuid == zone.uuid
    assert len({firing.uuid, resolved.uuid, later.uuid}) == 3
    assert firing.incident == resolved.incident != later.incident
    plain = {key: value for key, value in alert("High").items() if key != "fingerprint"}
    one, other = read(plain, {**plain, "labels": {**plain["labels"], "pod": "1"}}).items
    assert one.uuid != other.uuid
    (nameless,) = read({"status": "firing", "labels": {}}).items
    assert (nameless.service, nameless.starts) == ("", None)


def test_what_a_sender_calls_its_acknowledgement_is_not_kept() -> None:
    post = read({**alert("High"), "ack": "0" * 36}, {**alert("Watchdog"), "ack": "0" * 36})
    assert "ack" not in json.loads(post.items[0].text)
    assert "ack" not in post.watchdog["alerts"][0]


def said(**fields: str) -> str:
    """By what a call, or an error code, is known."""
    call = {"type": "selfheal.call", "name": "ci", "id": "1", "service": "shop", "environment": "live"}
    code = {"type": "selfheal.error_code", "error_code": "SHOP-CART-001", "service": "shop", "version": "1"}
    body = {**(code if "timestamp" in fields else call), **fields}
    uid: str = read_call(json.dumps(body).encode(), Options(), CALLER).items[0].uuid
    return uid


def test_what_a_call_is_known_by() -> None:
    others = [said(name="cd"), said(id="2"), said(service="bank"), said(environment="test")]
    assert said() == said(reason="another") and len({said(), *others}) == 5


def test_the_same_error_code_within_five_minutes_is_one() -> None:
    first = said(timestamp="2026-11-20T12:00:00Z")
    for same in ("2026-11-20T12:04:59.999Z", "2026-11-20 13:02:00,5+0100"):
        assert said(timestamp=same) == first
    assert said(timestamp="yesterday") == said(timestamp="today")  # refused behind it, and that but once
    others = [said(timestamp="2026-11-20T12:05:00Z"), said(timestamp="2026-11-20T12:00:00Z", version="2")]
    assert len({first, *others, said(timestamp="today")}) == 4


def test_the_watchdog_is_kept_apart() -> None:
    post = read(alert("Watchdog"), alert("High"), alert("Watchdog"))
    assert [item.status for item in post.items] == ["firing"]
    assert [each["labels"]["alertname"] for each in post.watchdog["alerts"]] == ["Watchdog"]
    assert read(alert("Watchdog", status="resolved")).watchdog is None


def test_what_is_not_utf8_does_not_get_through() -> None:
    body = json.dumps(group(alert("High", "sh\ud800op", note="\udfff"), receiver="\ud800")).encode()
    post = read_alerts(body, Options(), CALLER)
    assert post.items[0].service == "sh?op"
    for text in (post.group, post.items[0].text, post.items[0].service):
        text.encode()


KEYS = st.sampled_from(["alerts", "labels", "status", "version", "type", "service", "id"]) | st.text()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner)))
def test_any_json_is_read_or_refused(value: Any) -> None:
    call = {"type": "selfheal.call", "name": value, "service": "a", "id": "1"}
    for body in (value, group(value), group({**alert("x"), "labels": value}), group(receiver=value), call):
        for reader in (read_alerts, read_call):
            try:
                reader(json.dumps(body).encode(), Options(), CALLER)
            except Refused as refused:
                assert 400 <= refused.status < 500


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(Refused):
        read_alerts(body, Options(), CALLER)


def test_groups_are_merged_to_what_holds_for_all() -> None:
    first = {"groupKey": "1", "receiver": "r", "groupLabels": {"a": "1", "b": "2"}, "commonLabels": {"x": "1"}}
    second = {"groupKey": "2", "receiver": "r", "groupLabels": {"a": "1", "b": "3"}, "commonLabels": "odd"}
    body = merged([first, second], [alert("High", status="resolved"), alert("Slow")])
    assert (body["groupKey"], body["groupLabels"], body["commonLabels"], body["status"]) == (
        "2",
        {"a": "1"},
        {},
        "firing",
    )
    assert merged([first], [alert("High", status="resolved")])["status"] == "resolved"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-20T12:00:00Z", 1795176000.0),
        ("2026-11-20T12:00:00.5Z", 1795176000.5),
        ("2026-11-20T14:00:00+02:00", 1795176000.0),
        ("2026-11-20T09:30:00-02:30", 1795176000.0),
        ("0001-01-01T00:00:00Z", None),
        ("2026-13-20T12:00:00Z", None),
        ("2026-11-20", None),
        ("", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert epoch(text) == seconds


@pytest.mark.parametrize(
    ("event", "uuids"),
    [
        ({"meta": {"selfheal": {"ack": ["a", 1, "b"]}}}, ["a", "b"]),
        ({"ack": ["a"], "meta": {"selfheal": {}}}, ["a"]),
        *(({"meta": odd}, []) for odd in (None, "x", {}, {"selfheal": None}, {"selfheal": {"ack": "x"}})),
        (None, []),
    ],
)
def test_what_the_engine_confirms(event: Any, uuids: List[str]) -> None:
    assert confirmed(event) == uuids
