# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on events says what there is: its examples are taken, and its tables have every word."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml

from ansible_collections.selfheal.delivery.extensions.eda.plugins.event_source import alertmanager, alertmanager_poll
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.firing import parse_alerts

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/events.md").read_text(encoding="utf-8")
INVENTORY, PLAYBOOK, VARIABLES, POLLING = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
RULEBOOKS = ROOT / "extensions/eda/rulebooks"


def source_text(name: str) -> str:
    return (ROOT / f"extensions/eda/plugins/event_source/{name}.py").read_text(encoding="utf-8")


def missing(words: List[str]) -> List[str]:
    """Of `words` those that the page never has as code."""
    return [word for word in words if f"`{word}`" not in PAGE]


def test_the_inventory_is_taken() -> None:
    given = INVENTORY["all"]["vars"]
    guard = parse_guard(given["delivery_guard"], "production/shop")
    assert (guard.mode, guard.watchdog) == ("recommend", 600)
    assert guard.alerts == {"ReleaseBurnsBudget", "ServiceBurnsBudget"}
    alerts = parse_alerts(given["delivery_alerts"], {})
    assert alerts is not None and alerts.type == "alertmanager"


def test_the_role_and_the_source_take_what_they_are_given() -> None:
    spec = yaml.safe_load((ROOT / "roles/alerting/meta/argument_specs.yml").read_text(encoding="utf-8"))
    (role,) = PLAYBOOK[0]["roles"]
    assert role["role"] == "selfheal.delivery.alerting"
    assert {*role["vars"]} <= {*spec["argument_specs"]["main"]["options"]}
    (source,) = POLLING
    assert alertmanager_poll.parse_options(source["selfheal.delivery.alertmanager_poll"]).every == 15


def test_the_rulebook_takes_the_variables() -> None:
    rulebook = (RULEBOOKS / "alert_rollback.yml").read_text(encoding="utf-8")
    assert all(f"{{{{ {name}" in rulebook for name in VARIABLES)


def test_every_rulebook_is_named() -> None:
    assert not missing([f"selfheal.delivery.{path.stem}" for path in RULEBOOKS.glob("*.yml")])


def test_every_outcome_and_metric_is_named() -> None:
    text = source_text("alertmanager")
    outcomes = [*alertmanager.REQUESTS, *alertmanager.ALERTS]
    names = set(re.findall(r'^        "([a-z_]+)": \("', text, flags=re.MULTILINE))
    assert {"requests_total", "queue_oldest_seconds", "secrets_stale"} <= names
    polled = set(re.findall(r"^selfheal_events_poll_[a-z_]+", polling_metrics(), flags=re.MULTILINE))
    assert not missing([*outcomes, *(f"selfheal_events_{name}" for name in sorted(names)), *sorted(polled)])
    told = set(re.findall(r"selfheal_events_[a-z_]+", PAGE))
    assert told == {f"selfheal_events_{name}" for name in names} | polled


def polling_metrics() -> str:
    counts = alertmanager_poll.Counts(answers={"answered": 1}, emitted={"firing": 1}, alerts={"active": 1})
    return alertmanager_poll.metrics(counts)


def test_every_failure_of_the_polling_source_is_named() -> None:
    text = source_text("alertmanager_poll")
    words = set(re.findall(r'(?:Unanswered|_failed)\(\s*"([a-z_]+)"', text))
    assert {"unreachable", "timeout", "secret", "not_json", "unexpected"} <= words
    assert not missing(sorted({*words, "answered"}))


def test_every_status_that_a_sender_gets_is_named() -> None:
    statuses = set(re.findall(r"Refused\((\d{3})", source_text("alertmanager")))
    listed = {
        number for row in re.findall(r"^\| ([\d, ]+) \| `", PAGE, flags=re.MULTILINE) for number in row.split(", ")
    }
    assert statuses <= listed


@pytest.mark.parametrize(
    "words",
    [
        "no label service says which service it is about",
        "is no plain name of an inventory group",
        "is none of the services that are listed",
        "this is no notification of Alertmanager or Grafana",
        "of an unproven sender",
    ],
)
def test_what_the_filter_says_is_what_the_page_says(words: str) -> None:
    assert words in PAGE
    assert words in " ".join(refusals())


def refusals() -> List[str]:
    """The reasons of payloads with something wrong each."""
    alerts = import_module("ansible_collections.selfheal.delivery.extensions.eda.plugins.event_filter.alerts").main

    def body(**labels: str) -> Dict[str, Any]:
        alert = {"status": "firing", "labels": {"alertname": "High", **labels}, "startsAt": "2026-11-21T18:00:00Z"}
        return {"version": "4", "alerts": [alert]}

    wrong = [
        body(),
        body(service="a,b"),
        {"x": 1},
        {"type": "selfheal.call", "name": "ci", "service": "shop", "id": "1"},
    ]
    events = [event for one in wrong for event in alerts({"payload": one})]
    events += alerts({"payload": body(service="bank")}, services=["shop"])
    return [event["reason"] for event in events if event["kind"] == "refused"]
