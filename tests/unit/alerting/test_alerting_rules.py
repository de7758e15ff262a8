# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Alert rules of a service's gates: what is counted, what may be burnt, and what is refused."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import pytest
import yaml
from alerting_shop import BURN, ERRORS, MEMORY, SLOW, policy, shop
from code_catalogue import CART, EXAMPLE, NASTY

from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.burn import groups
from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.model import (
    WORKBOOK,
    Labels,
    Watched,
    Watching,
    Window,
    alert_name,
    label_name,
    watched,
    windows,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.rules import rules
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError

Rule = Dict[str, Any]


def made(*services: Watched, watching: Optional[Watching] = None) -> List[Rule]:
    """Every rule of the file, as a reader of YAML sees it."""
    text = rules(services, watching or Watching()).text
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def alerts(found: List[Rule], name: str, **labels: str) -> List[Rule]:
    return [rule for rule in found if rule.get("alert") == name and labels.items() <= rule["labels"].items()]


def recorded(found: List[Rule], record: str, gate: str) -> str:
    (only,) = [rule["expr"] for rule in found if rule.get("record") == record and rule["labels"]["gate"] == gate]
    return str(only)


def test_errors_are_counted_of_this_service_alone_and_by_version() -> None:
    found = made(shop())
    of = 'service="shop", environment="production"'
    assert recorded(found, "selfheal:total:increase5m", "errors") == (
        f"sum by (version) (increase(http_requests_total{{{of}}}[5m]))"
    )
    assert recorded(found, "selfheal:bad:increase1h", "errors") == (
        f'sum by (version) (increase(http_requests_total{{code=~"5..", {of}}}[1h]))'
    )


def test_slow_requests_are_the_count_less_the_bucket_at_the_limit() -> None:
    found = made(shop(SLOW), shop({**SLOW, "histogram": "took_seconds_bucket"}, environment="test"))
    for of in ("production", "test"):
        told = [rule["expr"] for rule in found if rule.get("record") == "selfheal:bad:increase6h"]
        series = f'service="shop", environment="{of}"'
        assert (
            f"sum by (version) (increase(took_seconds_count{{{series}}}[6h])) - "
            f'sum by (version) (increase(took_seconds_bucket{{{series}, le=~"0\\\\.5"}}[6h]))'
        ) in told


def test_the_windows_are_those_of_the_workbook() -> None:
    """Budget share × 30 days ÷ long window, for 2 %, 5 %, 10 % and 10 %; and the short one is a twelfth."""
    reckoned = [part * 30 * 86400 / pair.long for part, pair in zip((0.02, 0.05, 0.1, 0.1), WORKBOOK, strict=True)]
    assert [pair.factor for pair in WORKBOOK] == pytest.approx(reckoned)
    assert [pair.severity for pair in WORKBOOK] == ["critical", "critical", "warning", "warning"]
    assert all(pair.short == pair.long / 12 for pair in WORKBOOK)


def test_a_release_asks_for_a_rollback_and_the_service_pages() -> None:
    found = made(shop())
    labels = {"service": "shop", "environment": "production", "gate": "errors", "owner": "team-shop"}
    (release,) = alerts(found, "ReleaseBurnsBudget", gate="errors")
    assert release["labels"] == {
        **labels,
        "severity": "critical",
        "response": "rollback",
        "release": "{{ $labels.version }}",
    }
    pages = alerts(found, "ServiceBurnsBudget", gate="errors")
    assert [page["labels"] for page in pages] == [
        {**labels, "severity": severity, "response": "page"} for severity in ("critical", "warning")
    ]
    for rule in (release, *pages):
        assert (rule["for"], rule["keep_firing_for"]) == ("1m", "5m")
        assert rule["annotations"]["runbook_url"] == "https://runbooks.example.org/shop"
    assert "> 14.4 * 0.001\n" in release["expr"] and "> 6 * 0.001\n" in release["expr"]
    assert "increase1h" in release["expr"] and ">= 4\n" in release["expr"]
    assert "> 3 * 0.001\n" in pages[1]["expr"] and "increase72h" in pages[1]["expr"]


def test_without_a_version_the_service_asks_for_the_rollback() -> None:
    watching = Watching(labels=Labels(version=""))
    found = made(shop(), watching=watching)
    assert not alerts(found, "ReleaseBurnsBudget")
    assert alerts(found, "ServiceBurnsBudget", severity="critical", response="rollback")
    assert "by" not in recorded(found, "selfheal:total:increase5m", "errors").split("(")[0]
    assert rules([shop()], watching).unheeded == ("shop",)


def test_another_label_may_hold_the_version() -> None:
    (release, *_rest) = alerts(
        made(shop(ERRORS), watching=Watching(labels=Labels(version="app"))), "ReleaseBurnsBudget"
    )
    assert release["labels"]["release"] == "{{ $labels.app }}"
    assert "$labels.app" in release["annotations"]["summary"]


@pytest.mark.parametrize(
    ("labels", "series", "environment", "inner"),
    [
        (Labels(), {}, "", 'service="shop"'),
        (Labels(service="job", environment=""), {}, "production", 'job="shop"'),
        (Labels(service="", environment=""), {}, "production", ""),
        (Labels(), {"job": 'sh"o\\p', "namespace": "prod"}, "production", 'job="sh\\"o\\\\p", namespace="prod"'),
    ],
)
def test_which_series_are_a_services_is_said_by_labels(
    labels: Labels, series: Dict[str, str], environment: str, inner: str
) -> None:
    found = made(shop(ERRORS, environment=environment, series=series), watching=Watching(labels=labels))
    wanted = f"http_requests_total{{{inner}}}" if inner else "http_requests_total"
    assert recorded(found, "selfheal:total:increase5m", "errors") == f"sum by (version) (increase({wanted}[5m]))"
    (unseen,) = alerts(found, "ServiceUnseen")
    assert unseen["expr"] == f"absent({wanted})"


def test_what_a_gate_says_of_a_label_stays() -> None:
    gate = {**ERRORS, "total": 'http_requests_total{service=~"shop|shop-api"}'}
    total = recorded(made(shop(gate)), "selfheal:total:increase5m", "errors")
    assert 'service=~"shop|shop-api", environment="production"' in total


def test_an_objective_is_the_gates_else_the_services_else_everybodys() -> None:
    found = made(shop(ERRORS, BURN, SLOW, objectives={"slow": "99.5%"}))
    limits = {gate: alerts(found, "ReleaseBurnsBudget", gate=gate)[0]["expr"] for gate in ("errors", "burn", "slow")}
    for gate, share in (("errors", "0.001"), ("burn", "0.01"), ("slow", "0.005")):
        assert f"> 14.4 * {share}\n" in limits[gate]


def test_a_gate_that_counts_no_requests_is_named() -> None:
    odd = {**ERRORS, "name": "odd", "bad": "sum(rate(x[5m]))"}
    told = rules([shop(ERRORS, MEMORY, odd)], Watching())
    assert [(one.gate, one.why.split(":")[0]) for one in told.unwatched] == [
        ("memory", "a value gate counts no bad requests"),
        ("odd", "'sum(rate(x[5m]))' is not a selector"),
    ]
    assert told.alerts == {"production/shop": ["ReleaseBurnsBudget", "ServiceBurnsBudget", "ServiceUnseen"]}
    assert groups(shop(MEMORY), Watching())[0] == []


def test_whose_guard_does_not_act_is_named() -> None:
    assert rules([shop()], Watching()).unheeded == ()
    assert rules([watched("shop", policy(guard={"alerts": ["Other"]}))], Watching()).unheeded == ("shop",)


def test_the_same_services_give_the_same_text_and_no_series_is_recorded_twice() -> None:
    both = [watched("a", policy()), watched("b", policy())]
    assert rules(both, Watching()).text == rules(both[::-1], Watching()).text
    found = made(*both)
    keys = [(rule["record"], *sorted(rule["labels"].items())) for rule in found if "record" in rule]
    assert len(keys) == len(set(keys)) == 2 * 2 * 2 * 7
    with pytest.raises(OptionError, match="production/shop is there twice"):
        rules([shop(), shop()], Watching())


def test_error_codes_and_the_watchdog_are_in_the_same_file() -> None:
    text = rules([shop()], Watching(watchdog="Alive"), load(str(EXAMPLE / "error_codes.yml"))).text
    assert f'error_code: "{CART}"' in text and 'alert: "Alive"' in text
    assert text.startswith("# Made by selfheal.delivery.")
    assert "Watchdog" not in rules([shop()], Watching(watchdog="")).text


@pytest.mark.parametrize("text", NASTY)
def test_what_stands_in_a_policy_is_data(text: str) -> None:
    service = watched("shop", policy(owner=text, runbook=text), series={"job": text})
    found = made(service)
    (release, *_rest) = alerts(found, "ReleaseBurnsBudget")
    assert release["labels"]["owner"] == text.replace("{{", '{{"{{"}}')


@pytest.mark.parametrize(
    ("name", "environment", "reason"),
    [
        ("", "", "is no service"),
        ("a,b", "", "is no service"),
        ("@/etc/passwd", "", "is no service"),
        ("shop\n", "", "is no service"),
        ("x" * 65, "", "is no service"),
        ("shop", "a b", "is no environment"),
        ("shop", '"}', "is no environment"),
    ],
)
def test_names_are_of_a_small_alphabet(name: str, environment: str, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        watched(name, policy(), environment=environment)


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"objectives": {"eror": "99%"}}, r"unknown key 'eror' \(did you mean 'errors'\?\)"),
        ({"objectives": {"errors": "100%"}}, "from 50% to below 100%"),
        ({"objectives": []}, "must be a mapping"),
        ({"series": []}, "series must be a mapping"),
        ({"series": {"a-b": "x"}}, "'a-b' is no label"),
    ],
)
def test_a_mistake_is_named_with_its_service(more: Dict[str, Any], reason: str) -> None:
    with pytest.raises(OptionError, match=f"^shop: .*{reason}"):
        watched("shop", policy(), **more)


def test_an_objective_that_no_burn_can_reach_is_refused() -> None:
    with pytest.raises(OptionError, match="never burns 14.4 times too fast: that would be 144% bad requests"):
        rules([shop(ERRORS, objectives={"errors": "90%"})], Watching())


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        ({"factor": 2}, "windows has no long"),
        ({"long": "1h"}, "windows has no factor"),
        ({"long": "1m", "short": "1h", "factor": 1}, "is longer than long"),
        ({"long": "1h", "factor": 2, "severity": "page"}, "must be one of critical, warning"),
        ({"long": "1h", "factor": 0}, "above 0"),
        ("1h", "must be a mapping"),
    ],
)
def test_a_window_that_means_nothing_is_refused(window: object, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        windows([window])


def test_windows_have_defaults() -> None:
    assert windows([]) == WORKBOOK
    assert windows([{"long": "1h", "factor": 14.4}]) == (Window(3600.0, 300.0, 14.4),)
    assert alert_name("") == ""
    for wrong, check in (("a b", alert_name), ("1x", label_name), ("", label_name)):
        with pytest.raises(OptionError):
            check(wrong)
