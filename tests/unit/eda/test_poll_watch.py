# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The polling source's pure parts: its options, and what a row of answers means."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_filter.alerts import main as alerts
from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_source.alertmanager_poll import (
    Counts,
    Options,
    Poll,
    Watch,
    access,
    main,
    parse_options,
    read_alert,
    secret_of,
)

URL = "https://alertmanager.example.org"
WALL = 1795251593.0


def told(
    name: str, service: str = "shop", *, begun: str = "2026-11-21T18:00:00.000Z", state: str = "active"
) -> Dict[str, Any]:
    """An alert as the API lists it."""
    labels = {"alertname": name, **({"service": service} if service else {})}
    status: Dict[str, Any] = {"state": state, "silencedBy": [], "inhibitedBy": [], "mutedBy": []}
    return {
        "fingerprint": f"{name}-{service}",
        "startsAt": begun,
        "endsAt": "2026-11-21T18:04:00.000Z",
        "labels": labels,
        "annotations": {"summary": "many"},
        "status": status,
        "generatorURL": "http://prometheus.example.org/graph",
    }


def watch(**options: Any) -> Watch:
    return Watch(Options(URL, **options), Counts())


def statuses(events: Sequence[Dict[str, Any]]) -> List[str]:
    return [f"{alert['status']} {alert['fingerprint']}" for event in events for alert in event["payload"]["alerts"]]


def test_an_event_is_what_the_webhook_sends_for_one_service() -> None:
    answer = [
        told("High"),
        told("Slow"),
        told("High", "cart"),
        told("Odd", ""),
        told("Quiet", "bank", state="suppressed"),
    ]
    shop, cart, nobody = watch().answered(answer, 10.0, WALL)
    assert shop["meta"] == {
        "headers": {},
        "selfheal": {"source": "poll", "verified": "", "key": "", "ack": [], "alarming": 2},
    }
    body = shop["payload"]
    assert (body["version"], body["status"], body["truncatedAlerts"]) == ("4", "firing", 0)
    assert body["groupLabels"] == {"service": "shop"} == body["commonLabels"]
    assert body["commonAnnotations"] == {"summary": "many"}
    assert body["alerts"][0] == {
        "status": "firing",
        "labels": {"alertname": "High", "service": "shop"},
        "annotations": {"summary": "many"},
        "startsAt": "2026-11-21T18:00:00.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example.org/graph",
        "fingerprint": "High-shop",
    }
    assert statuses([cart]) == ["firing High-cart"]
    assert (statuses([nobody]), nobody["payload"]["groupLabels"]) == (["firing Odd-"], {})


def test_an_alert_is_told_once_until_it_is_time_again() -> None:
    it = watch(again_after=3600)
    assert statuses(it.answered([told("High")], 10.0, WALL)) == ["firing High-shop"]
    assert it.answered([told("High")], 25.0, WALL) == []
    assert it.answered([told("High")], 3609.0, WALL) == []
    assert statuses(it.answered([told("High")], 3610.0, WALL)) == ["firing High-shop"]


def test_who_is_gone_long_enough_is_resolved_once() -> None:
    it = watch(gone_after=120)
    it.answered([told("High"), told("Slow")], 10.0, WALL)
    assert it.answered([told("Slow")], 25.0, WALL) == []
    (event,) = it.answered([told("Slow")], 145.0, WALL)
    assert event["payload"]["status"] == "resolved"
    assert event["payload"]["alerts"][0]["endsAt"] == "2026-11-21T08:59:53Z"
    assert it.answered([told("Slow")], 300.0, WALL) == []


def test_a_restarted_alertmanager_that_knows_nothing_yet_resolves_nothing() -> None:
    it = watch()
    it.answered([told("High")], 10.0, WALL)
    assert [it.answered([], now, WALL) for now in (25.0, 40.0, 70.0)] == [[], [], []]
    assert it.answered([told("High")], 85.0, WALL) == []  # and it is not told again
    assert it.answered([], 190.0, WALL) == []


def test_time_without_an_answer_makes_nobody_gone() -> None:
    it = watch(gone_after=120)
    it.answered([told("High")], 10.0, WALL)
    it.answered([], 20.0, WALL)
    it.unanswered()
    assert it.answered([], 200.0, WALL) == []
    assert statuses(it.answered([], 320.0, WALL)) == ["resolved High-shop"]


def test_an_answer_that_is_not_whole_makes_nobody_gone() -> None:
    it = watch(gone_after=0, max_alerts=2)
    it.answered([told("High"), told("Slow")], 10.0, WALL)
    assert it.answered([told("High"), {"labels": {}}], 25.0, WALL) == []
    assert statuses(it.answered([told("A"), told("B"), told("C")], 40.0, WALL)) == ["firing A-shop", "firing B-shop"]
    assert statuses(it.answered([told("A")], 55.0, WALL))[-3:] == [
        "resolved High-shop",
        "resolved Slow-shop",
        "resolved B-shop",
    ]


def test_a_silence_is_neither_new_nor_the_end() -> None:
    it = watch(gone_after=0)
    assert it.answered([told("High", state="suppressed")], 10.0, WALL) == []
    assert statuses(it.answered([told("High")], 25.0, WALL)) == ["firing High-shop"]
    assert it.answered([told("High", state="suppressed")], 40.0, WALL) == []
    assert it.answered([told("High")], 55.0, WALL) == []
    assert statuses(it.answered([], 70.0, WALL)) == ["resolved High-shop"]
    it.answered([told("Slow", state="unprocessed")], 85.0, WALL)
    assert it.answered([], 100.0, WALL) == []  # nobody was told that it fires


def test_an_alert_that_begins_anew_is_another_incident() -> None:
    it = watch()
    it.answered([told("High")], 10.0, WALL)
    (event,) = it.answered([told("High", begun="2026-11-21T18:10:00.000Z")], 25.0, WALL)
    first, second = event["payload"]["alerts"]
    assert (first["status"], first["startsAt"]) == ("resolved", "2026-11-21T18:00:00.000Z")
    assert (second["status"], second["startsAt"]) == ("firing", "2026-11-21T18:10:00.000Z")
    assert event["payload"]["status"] == "firing"


def test_the_watchdog_comes_often_by_itself_and_alarms_nobody() -> None:
    it = watch(watchdog_every=30, gone_after=0)
    watchdog = told("Watchdog")
    (event,) = it.answered([watchdog], 10.0, WALL)
    assert event["meta"]["selfheal"]["alarming"] == 0
    assert it.answered([watchdog], 25.0, WALL) == []
    events = it.answered([watchdog, told("High")], 40.0, WALL)
    assert sorted(map(len, (event["payload"]["alerts"] for event in events))) == [1, 1]
    assert statuses(it.answered([], 55.0, WALL)) == ["resolved High-shop"]


def test_behind_the_filter_each_watchdog_is_news_and_each_alert_is_not() -> None:
    answer = [told("Watchdog", ""), told("High")]
    rounds = []
    for _question in range(2):
        events = [out for event in watch().answered(answer, 10.0, WALL) for out in alerts(event)]
        rounds.append({event["kind"]: event["meta"]["uuid"] for event in events})
        assert [event["meta"]["selfheal"]["source"] for event in events] == ["poll", "poll"]
    assert rounds[0].keys() == {"watchdog", "alert"}
    assert rounds[0]["alert"] == rounds[1]["alert"]
    assert rounds[0]["watchdog"] != rounds[1]["watchdog"]


def test_a_service_comes_in_one_event_unless_it_has_more_alerts_than_the_filter_reads() -> None:
    many = [told(f"a{number}") for number in range(2001)]
    assert [len(event["payload"]["alerts"]) for event in watch().answered(many[:2000], 10.0, WALL)] == [2000]
    assert [len(event["payload"]["alerts"]) for event in watch().answered(many, 10.0, WALL)] == [2000, 1]


def test_memory_is_bounded_when_alerts_keep_changing() -> None:
    it = watch(max_alerts=50)
    for round_number in range(40):
        it.answered([told(f"{round_number}-{number}") for number in range(60)], 10.0 + round_number, WALL)
    assert len(it._known) <= 100


@pytest.mark.parametrize(
    "changed",
    [
        {"fingerprint": 7},
        {"fingerprint": ""},
        {"startsAt": None},
        {"labels": {}},
        {"labels": {"alertname": ["x"]}},
        {"labels": "alertname"},
        {"annotations": {"a": {}}},
        {"annotations": "x"},
        {"status": "active"},
        {"status": None},
    ],
)
def test_what_is_no_alert_is_left_out(changed: Dict[str, Any]) -> None:
    assert read_alert({**told("High"), **changed}) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ALMOST = st.fixed_dictionaries({}, optional=dict.fromkeys(told("High"), JSON))


@given(st.lists(JSON | ALMOST, max_size=8))
def test_no_answer_breaks_it(answer: List[object]) -> None:
    it = watch(gone_after=0)
    it.answered([told("High")], 10.0, WALL)
    for event in it.answered([*answer, told("Slow")], 25.0, WALL):
        assert set(event) == {"payload", "meta"}


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({}, "url is missing"),
        ({"url": "alertmanager:9093"}, "url is not http://HOST"),
        ({"url": "https://"}, "url is not http://HOST"),
        ({"url": "https://ada:pw@alert.example.org"}, "url has a user or a password in it"),
        ({"url": URL, "tokenfile": "x"}, "tokenfile is no option of it"),
        ({"url": URL, "feedback": True}, "feedback is no option of it"),
        ({"url": URL, "every": "often"}, "every is no number"),
        ({"url": URL, "every": 0}, "every is 0"),
        ({"url": URL, "every": "nan"}, "every is no number"),
        ({"url": URL, "again_after": -1}, "again_after is less than nothing"),
        ({"url": URL, "max_alerts": "1.5"}, "max_alerts is no whole number"),
        ({"url": URL, "matchers": 'severity="page"'}, "matchers is no list"),
        ({"url": URL, "service_label": "a b"}, "service_label is not the name of a label"),
        ({"url": URL, "token_file": "t", "username": "u", "password_file": "p"}, "exclude each other"),
        ({"url": URL, "username": "ada"}, "username and password_file go together"),
        ({"url": URL, "keyfile": "k"}, "keyfile without certfile"),
        ({"url": "http://alert.example.org", "token_file": "t"}, "is not sent over http"),
        ({"url": "http://alert.example.org", "ca": "t"}, "ca and certfile need https"),
    ],
)
def test_a_wrong_option_is_named_at_the_start(args: Dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match="selfheal.delivery.alertmanager_poll: ") as raised:
        asyncio.run(main(asyncio.Queue(), args))
    assert complaint in str(raised.value)
    assert "pw" not in str(raised.value)


def test_numbers_may_come_as_text_from_a_variable() -> None:
    options = parse_options({"url": "http://127.0.0.1:9093/am/", "every": "5", "max_alerts": "7", "token_file": "t"})
    assert (options.every, options.max_alerts) == (5.0, 7)
    assert options == parse_options(
        {"url": "http://127.0.0.1:9093/am/", "every": 5, "max_alerts": 7, "token_file": "t"}
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot be read: No such file"),
        (b" \n", "is empty"),
        (b"one\ntwo-s3cret", "more than one line"),
        (b"s3cret\xff", "it is no text"),
    ],
)
def test_a_secret_that_is_none_is_named_at_the_start_without_it(
    tmp_path: Path, text: bytes | None, complaint: str
) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(ValueError, match=complaint) as raised:
        asyncio.run(main(asyncio.Queue(), {"url": URL, "token_file": str(path)}))
    assert "s3cret" not in str(raised.value)


def test_a_secret_is_read_anew_for_each_question(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("first\n")
    bearer = parse_options({"url": URL, "token_file": str(path)})
    assert (secret_of(str(path)), access(bearer)[0]["Authorization"]) == ("first", "Bearer first")
    path.write_text("second")
    assert access(bearer)[0]["Authorization"] == "Bearer second"
    basic = parse_options({"url": URL, "username": "ada", "password_file": str(path)})
    assert access(basic)[0]["Authorization"] == "Basic YWRhOnNlY29uZA=="


def test_it_asks_more_slowly_while_there_is_no_answer() -> None:
    poll = Poll(Options(URL, every=15.0))
    pauses = []
    for failures in (0, 1, 2, 3, 50):
        poll._counts.failing = failures
        pauses.append(poll.pause())
    assert all(
        0.9 * wanted <= pause <= 1.1 * wanted for pause, wanted in zip(pauses, (15, 15, 30, 60, 60), strict=True)
    )
