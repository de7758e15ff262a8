# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger for others: whole in every format, and of the shapes that CloudEvents 1.0 and CDEvents 0.4.1 publish."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Any, Dict, List, Mapping
from urllib.parse import urlsplit

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain, export
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.export import Shape
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry

AT = 1795251593.85
SHOP = "production/shop"


def told(*bodies: Mapping[str, Any], service: str = SHOP) -> List[Entry]:
    """A chain of entries; each body says its kind as `_kind`."""
    entries: List[Entry] = []
    for number, body in enumerate(bodies, start=1):
        kind, rest = body["_kind"], {key: value for key, value in body.items() if key != "_kind"}
        prev = entries[-1].hash if entries else chain.GENESIS
        entries.append(chain.link(number, prev, at=AT + number, service=service, kind=kind, actor="ada", body=rest))
    return entries


def opened(kind: str, release: str = "2.0.1", **intent: Any) -> Dict[str, Any]:
    return {"_kind": "rollout", "rollout": "r1", "release": release, "kind": kind, "state": "open", "intent": intent}


def moved(state: str, **outcome: Any) -> Dict[str, Any]:
    return {"_kind": "state", "rollout": "r1", "from": "open", "state": state, "outcome": outcome}


def alert(**more: Any) -> Dict[str, Any]:
    return {"_kind": "trigger", "kind": "alert", "name": "ShopErrors", "id": "f1:17", "active": True, **more}


BACK = {"web1": {"changed": True, "current": "1.0.0"}, "web2": {"changed": True, "failed": True, "current": "2.0.1"}}
STORY = told(
    alert(),
    {"_kind": "decision", "id": "d1", "verdict": "allowed"},
    opened("canary", before={"web1": "1.0.0"}),
    moved("undone", places=BACK),
    {"_kind": "pause", "event": "paused", "until": None, "reason": "Wartung, schöne\nneue Zeile"},
)


def events(entries: List[Entry], shape: Shape, after: int = 0) -> List[Dict[str, Any]]:
    return [json.loads(line) for _entry, line in export.lines(entries, shape, after)]


@pytest.mark.parametrize("format", export.FORMATS)
def test_every_format_holds_whole_entries_whose_chain_can_be_verified(format: str) -> None:
    shape = Shape(format)
    lines = [line for _entry, line in export.lines(STORY, shape)]
    assert all("\n" not in line and line.isascii() for line in lines)
    assert [export.kept(line, shape) for line in lines] == STORY
    assert chain.first_break([export.kept(line, shape) for line in lines]) is None
    assert [entry.seq for entry, _line in export.lines(STORY, shape, 3)] == [4, 5]


def is_cloudevent(event: Mapping[str, Any]) -> None:
    """The contract of CloudEvents 1.0.2 in its JSON format: what is required, of which type, and how names are made."""
    assert event["specversion"] == "1.0"
    for name in ("id", "source", "type", "subject", "time", "datacontenttype"):
        assert isinstance(event[name], str) and event[name], name
    assert not set(event) - {"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "data"}
    assert urlsplit(event["source"]).path and " " not in event["source"]
    assert re.fullmatch(r"[a-z0-9]+(\.[a-zA-Z0-9]+)+", event["type"]), event["type"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event["time"])
    assert re.fullmatch(r"application/([\w.]+\+)?json", event["datacontenttype"])
    assert isinstance(event["data"], dict)


SUBJECTS = {
    "service": {"environment": dict, "artifactId": str},
    "incident": {"description": str, "environment": dict, "service": dict},
}
TYPE = re.compile(r"dev\.cdevents\.(service\.(deployed|upgraded|rolledback)|incident\.(detected|resolved))\.0\.2\.0")


def is_cdevent(event: Mapping[str, Any]) -> None:
    """The contract of CDEvents 0.4.1 and its CloudEvents binding, as its schemas of these events have it."""
    data = event["data"]
    assert set(data) == {"context", "subject", "customData", "customDataContentType"}
    context, subject = data["context"], data["subject"]
    assert set(context) == {"version", "id", "source", "type", "timestamp"} and context["version"] == "0.4.1"
    matched = TYPE.fullmatch(context["type"])
    assert matched, context["type"]
    assert set(subject) == {"id", "source", "type", "content"} and subject["type"] == matched[1].partition(".")[0]
    content = subject["content"]
    assert {key: type(value) for key, value in content.items()} == SUBJECTS[subject["type"]]
    assert all(
        isinstance(content[key]["id"], str) and content[key]["id"]
        for key in content
        if key in ("environment", "service")
    )
    assert re.fullmatch(r"pkg:generic/[^@]+@[^@/]+", content.get("artifactId", "pkg:generic/a@b"))
    # the binding
    assert event["datacontenttype"] == "application/cdevents+json"
    bound = {"id": context["id"], "source": context["source"], "type": context["type"], "subject": subject["id"]}
    assert {name: event[name] for name in bound} == bound and event["time"] == context["timestamp"]


def test_contract_cloudevents() -> None:
    found = events(STORY, Shape(export.CLOUDEVENTS, source="https://ci.example.org/selfheal"))
    for event, entry in zip(found, STORY, strict=True):
        is_cloudevent(event)
        assert (event["id"], event["type"]) == (entry.hash, f"delivery.selfheal.ledger.{entry.kind}")
        assert datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp() == pytest.approx(entry.at)
    assert {(event["source"], event["subject"]) for event in found} == {("https://ci.example.org/selfheal", SHOP)}
    (every,) = events(told({"_kind": "pause", "event": "resumed"}, service=""), Shape(export.CLOUDEVENTS))
    is_cloudevent(every)


@pytest.mark.parametrize(
    ("entries", "type", "artifact"),
    [
        ([alert()], "incident.detected", None),
        ([alert(active=False)], "incident.resolved", None),
        ([alert(kind="error_code", name="SHOP-PAY-001")], "incident.detected", None),
        ([opened("canary"), moved("done")], "service.deployed", "2.0.1"),
        ([opened("canary", before={"web1": "1.0.0"}), moved("done")], "service.upgraded", "2.0.1"),
        ([opened("rollback"), moved("done", places=BACK)], "service.rolledback", "1.0.0"),
        ([opened("rollback", target="1.0.0"), moved("done", ok=True)], "service.rolledback", "1.0.0"),
        ([opened("watch"), moved("undone", places=BACK)], "service.rolledback", "1.0.0"),
        ([opened("canary", "2.0/1 x@y"), moved("done")], "service.deployed", "2.0%2F1%20x%40y"),
    ],
)
def test_contract_cdevents(entries: List[Dict[str, Any]], type: str, artifact: str | None) -> None:
    event = events(told(*entries), Shape(export.CDEVENTS))[-1]
    is_cloudevent(event)
    is_cdevent(event)
    assert event["type"] == f"dev.cdevents.{type}.0.2.0"
    content = event["data"]["subject"]["content"]
    assert content["environment"] == {"id": "production"}
    assert content.get("artifactId") == (f"pkg:generic/production/shop@{artifact}" if artifact else None)


@pytest.mark.parametrize(
    ("entries", "service"),
    [
        ([{"_kind": "decision", "id": "d1"}], SHOP),
        ([alert(kind="person")], SHOP),
        ([opened("canary")], SHOP),
        ([opened("canary"), moved("held")], SHOP),
        ([opened("watch"), moved("done")], SHOP),  # somebody else has deployed it
        ([opened("action"), moved("done")], SHOP),
        ([opened("rollback"), moved("done", ok=True)], SHOP),
        ([opened("rollback", target="1.0.0"), moved("undone", ok=False)], SHOP),
        ([opened("canary"), moved("undone", places={})], SHOP),
        ([opened("canary"), moved("undone", places={**BACK, "web3": {"changed": True, "current": "0.9"}})], SHOP),
        ([moved("done")], SHOP),  # its beginning is not there any more
        ([opened("canary"), moved("done")], "shop"),  # of no environment
    ],
)
def test_what_cdevents_has_no_word_for_is_a_cloudevent(entries: List[Dict[str, Any]], service: str) -> None:
    event = events(told(*entries, service=service), Shape(export.CDEVENTS))[-1]
    is_cloudevent(event)
    assert event["type"].startswith("delivery.selfheal.ledger.")


def test_an_environment_stands_in_for_names_without_one() -> None:
    entries = told(opened("canary"), moved("done"), service="shop")
    event = events(entries, Shape(export.CDEVENTS, environment="staging"))[-1]
    is_cdevent(event)
    assert event["data"]["subject"]["content"]["environment"] == {"id": "staging"}


def test_an_outcome_knows_its_rollout_though_that_was_exported_before() -> None:
    entries = told(opened("canary"), moved("done"))
    (event,) = events(entries, Shape(export.CDEVENTS), after=1)
    assert event["type"] == "dev.cdevents.service.deployed.0.2.0"


@pytest.mark.parametrize("line", ["", "{}", "[1]", "null", '{"specversion": "1.0"}', '{"seq": 1}', "not json", '"x"'])
def test_what_is_no_export_is_said_to_be_none(line: str) -> None:
    with pytest.raises(OptionError, match="something else than an export"):
        export.kept(line, Shape())


def test_another_format_is_named() -> None:
    lines = {format: [line for _e, line in export.lines(STORY, Shape(format))][0] for format in export.FORMATS}
    for wanted in export.FORMATS:
        for held in export.FORMATS:
            if held in (wanted, export.CLOUDEVENTS) and wanted in (held, export.CDEVENTS):
                assert export.kept(lines[held], Shape(wanted)) == STORY[0]
            else:
                with pytest.raises(OptionError, match=f"an export as {held}, not as {wanted}"):
                    export.kept(lines[held], Shape(wanted))


def test_an_export_goes_on_only_with_its_own_ledger() -> None:
    for entry in STORY:
        export.follows(STORY, entry)
    with pytest.raises(OptionError, match="ends with entry 5, and the ledger with entry 3"):
        export.follows(STORY[:3], STORY[4])
    with pytest.raises(OptionError, match="entry 2 is another one"):
        export.follows(STORY, replace(STORY[1], hash="0" * 64))
    with pytest.raises(OptionError, match="and the ledger with entry 0"):
        export.follows([], STORY[0])
    body = {"through": 3, "hash": STORY[2].hash}
    kept = chain.link(6, STORY[4].hash, at=AT, service="", kind="retention", actor="ada", body=body)
    export.follows([*STORY[3:], kept], STORY[2])
    with pytest.raises(OptionError, match="entries after 2 up to 3 were removed"):
        export.follows([*STORY[3:], kept], STORY[1])
