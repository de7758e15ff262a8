# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server of alerts may answer, and what is made of it; what the inventory may say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
from sense_servers import Reply, Request, always, web

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.event import parse_event
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.firing import Answer, asked, parse_alerts

AT = 1795251593.0
BEGAN = "2026-11-21T08:59:53.850Z"
EVENT: Dict[str, Any] = {
    "kind": "alert",
    "status": "firing",
    "service": "shop",
    "environment": "production",
    "name": "High",
    "id": f"3fae0c11a2b3c4d5-{int(AT)}",
    "at": AT + 0.85,
    "labels": {"alertname": "High"},
}
KNOWN = ("shop", "crm", "web")


def alert(name: str = "High", service: str = "shop", **more: Any) -> Dict[str, Any]:
    labels = {"alertname": name, "service": service, **more.pop("labels", {})}
    return {"labels": labels, "startsAt": BEGAN, "fingerprint": "3fae0c11a2b3c4d5", **more}


def answered(
    reply: object, kind: str = "alertmanager", event: object = None, since: float = AT - 3600, **options: Any
) -> Answer:
    with web(always(reply if isinstance(reply, Reply) else Reply(json.dumps(reply)))) as (url, _asked):
        alerts = parse_alerts({"type": kind, "url": url, **options}, {})
        return asked(alerts, parse_event(event or EVENT), KNOWN, since, "production")


@pytest.mark.parametrize(
    ("alerts", "firing"),
    [
        ([alert()], True),
        ([], False),
        ([alert(fingerprint="ffffffffffffffff")], False),  # another alert of the same name
        ([alert(service="elsewhere")], True),  # the filter may have mapped the label to the service
        ([alert(startsAt="2026-11-21T09:59:53Z")], False),  # it began anew
        ([alert(startsAt="2026-11-21T08:00:00Z")], True),  # another controller told of it later
        ([alert(startsAt="2026-11-21T09:59:53Z"), alert()], True),
        ([alert(fingerprint="")], True),
        ([alert(fingerprint="", labels={"environment": "staging"})], False),
        # the very alert, by its fingerprint, but not what the event says of it
        ([alert(service="crm")], False),
        ([alert("Other")], False),
        ([alert(labels={"environment": "staging"})], False),
        ([alert(labels={"environment": "production"})], True),
    ],
)
def test_alertmanager_knows_each_incident(alerts: List[Any], firing: bool) -> None:
    answer = answered(alerts)
    assert (answer.asked, answer.firing) == (True, firing), answer.said
    assert (answer.since is not None) == firing


def test_an_event_without_an_environment_is_no_way_around_it() -> None:
    silent = {**EVENT, "environment": ""}
    staging = [alert(labels={"environment": "staging"}), alert("Other", "crm", labels={"environment": "staging"})]
    answer = answered(staging, event=silent)
    assert (answer.firing, answer.alarming) == (False, 0)
    assert answer.said == "alertmanager says that High is about something else than the event says"
    assert answered([alert(labels={"environment": "production"})], event=silent).firing is True
    assert answered([alert()], event=silent).firing is True


def test_only_what_the_inventory_knows_and_what_began_lately_alarms_together() -> None:
    others = [
        alert("Other", "crm"),
        alert("More", "crm"),
        alert("High", "web", startsAt="2026-11-20T08:59:53Z"),
        alert("High", "nobody"),
        alert("High", "web", labels={"environment": "staging"}),
    ]
    assert answered([alert(), *others]).alarming == 2
    assert answered([alert(), *others], since=0.0).alarming == 3


def test_prometheus_knows_what_fires_and_since_when() -> None:
    def series(name: str, service: str, since: float, **labels: str) -> Dict[str, Any]:
        return {"metric": {"alertname": name, "service": service, **labels}, "value": [AT + 60, str(since)]}

    result = [series("High", "shop", AT - 30), series("Low", "crm", AT), series("Old", "web", AT - 86400)]
    body = {"status": "success", "data": {"resultType": "vector", "result": result}}
    answer = answered(body, "prometheus")
    assert (answer.firing, answer.since, answer.alarming) == (True, AT - 30, 2)
    body["data"]["result"] = [series("High", "shop", AT, environment="staging")]  # type: ignore[index]
    assert answered(body, "prometheus").firing is False


@pytest.mark.parametrize(
    ("service", "labels", "options", "firing", "alarming"),
    [
        ("web-shop", {}, {}, False, 1),  # who knows what that is
        ("web-shop", {"service": "web-shop"}, {}, True, 1),  # the filter mapped it
        ("web-shop", {}, {"services": {"web-shop": "shop"}}, True, 2),
        ("crm", {"service": "crm"}, {}, False, 1),  # another service, whatever the event says
        ("web-shop", {}, {"services": {"web-shop": "crm"}}, False, 1),
    ],
)
def test_values_of_the_label_may_stand_for_services(
    service: str, labels: Dict[str, str], options: Dict[str, Any], firing: bool, alarming: int
) -> None:
    told = [{"alertname": "High", "service": service}, {"alertname": "High", "service": "crm"}]
    result = [{"metric": one, "value": [AT, str(AT)]} for one in told]
    body = {"status": "success", "data": {"resultType": "vector", "result": result}}
    event = {**EVENT, "labels": {"alertname": "High", **labels}}
    answer = answered(body, "prometheus", event, **options)
    assert (answer.firing, answer.alarming) == (firing, alarming)
    assert answer.names == (("High",) if firing else ())


def test_an_error_code_is_looked_for_by_its_alert() -> None:
    told = {**EVENT, "kind": "error_code", "name": "SHOP-CART-001", "id": "no-fingerprint"}
    assert answered([alert(labels={"error_code": "SHOP-CART-001"})], event=told).firing is True
    assert answered([alert(labels={"error_code": "SHOP-CART-002"})], event=told).firing is False


def test_where_there_is_nobody_to_ask_the_gates_confirm() -> None:
    nobody = asked(parse_alerts({}, {}), parse_event(EVENT), KNOWN, 0.0)
    assert (nobody.asked, nobody.firing) == (False, None) and "the gates alone confirm" in nobody.said
    call = answered([], event={**EVENT, "kind": "call"})
    assert not call.asked and "has no alert to ask for" in call.said


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply("no", 500), "answers HTTP 500"),
        (Reply("", 401), "answers HTTP 401: the credentials are missing or wrong"),
        (Reply("", 302, headers={"Location": "http://127.0.0.1:9/"}), "answers HTTP 302"),
        (Reply("<html>"), "answers no JSON"),
        (Reply("{}"), "does not answer as an Alertmanager does"),
        (Reply("[7]"), "answers alerts that cannot be read"),
        (Reply("[]", delay=2), "did not answer within 0.5 s"),
        (Reply("[" + " " * 40 + "]", drip=0.05), "did not answer within 0.5 s"),
    ],
)
def test_what_is_no_answer_is_unknown_and_never_a_yes(reply: Reply, says: str) -> None:
    answer = answered(reply, timeout=0.5 if "0.5 s" in says else 30.0)
    assert (answer.asked, answer.firing, answer.alarming) == (True, None, 0)
    assert says in answer.said and "\n" not in answer.said


def test_it_says_who_we_are_and_tells_nobody(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret-t0ken\n")

    def asks(environment: Dict[str, str], **options: object) -> Request:
        with web(always(Reply("[]"))) as (url, seen):
            given = {"type": "alertmanager", "url": url.replace("//", "//anna:pw@"), **options}
            answer = asked(parse_alerts(given, environment), parse_event(EVENT), KNOWN, 0.0)
            assert answer.firing is False, answer.said
            return seen[0]

    asking = asks({}, token_file=str(tmp_path / "token"), headers={"X-Org": "a"}, matchers=['severity="page"'])
    assert asking.headers["Authorization"] == "Bearer s3cret-t0ken" and asking.headers["X-Org"] == "a"
    only = {"active": "true", "silenced": "false", "inhibited": "false", "filter": 'severity="page"'}
    assert (asking.path, asking.form) == ("/api/v2/alerts", only)
    assert asks({}).headers["Authorization"] == "Basic YW5uYTpwdw=="
    told = asks({"SELFHEAL_ALERTMANAGER_TOKEN": "from-env", "SELFHEAL_PROMETHEUS_TOKEN": "not-here"})
    assert told.headers["Authorization"] == "Bearer from-env"
    gone = asked(
        parse_alerts({"type": "alertmanager", "url": "http://anna:pw@127.0.0.1:9", "token": "s3cret"}, {}),
        parse_event(EVENT),
        KNOWN,
        0.0,
    )
    assert gone.said == "http://127.0.0.1:9/api/v2/alerts refuses the connection"


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"url": "http://a"}, "delivery_alerts has no type"),
        ({"type": "alertmanger"}, "did you mean 'alertmanager'?"),
        ({"type": "alertmanager"}, "needs one url"),
        ({"type": "alertmanager", "url": "a:9093"}, "is not an http or https URL"),
        ({"type": "alertmanager", "url": "http://a", "tokn": "x"}, "did you mean 'token'?"),
        ({"type": "alertmanager", "url": "http://a", "window": 3}, "takes no window"),
        ({"type": "alertmanager", "url": "http://a", "service_label": 3}, "service_label is 3"),
        ({"type": "alertmanager", "url": "http://a", "matchers": "x"}, "no list of matchers"),
        ({"type": "alertmanager", "url": "http://a", "services": ["shop"]}, "services is no mapping"),
        ({"type": "prometheus", "url": "http://a", "matchers": ["x"]}, "is for the type alertmanager"),
    ],
)
def test_what_the_inventory_says_wrongly_is_named(raw: Dict[str, object], says: str) -> None:
    with pytest.raises(OptionError) as refused:
        parse_alerts(raw, {})
    assert says in refused.value.message and "delivery_alerts" in refused.value.message
