# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules and routes, held against the real promtool and amtool: taken as they are, and firing only when they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
import yaml
from alerting_shop import BURN, ERRORS, SLOW, policy, said, shop
from code_catalogue import EXAMPLE, NASTY
from go_tool import go_tool

from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.model import Watched, Watching, watched
from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.route import (
    NOBODY,
    Endpoint,
    Timing,
    configuration,
    way,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.rules import rules
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load

NASTY_SERVICES = [
    watched(f"nasty_{number}", policy(owner=text, runbook=text), series={"job": text})
    for number, text in enumerate(NASTY)
]
REQUESTS = 'http_requests_total{service="shop",environment="production",version="%s",code="%s",instance="%s"}'
TOOK = 'took_seconds_%s{service="shop",environment="production",version="%s"%s}'
PLACE = {"service": "shop", "environment": "production", "owner": "team-shop"}


@pytest.mark.parametrize(
    "services", [[shop(ERRORS, SLOW, BURN), shop(environment="test"), shop(environment="")], NASTY_SERVICES]
)
def test_prometheus_takes_the_rules(services: List[Watched], tmp_path: Path) -> None:
    codes = load(str(EXAMPLE / "error_codes.yml"))
    (tmp_path / "rules.yml").write_text(rules(services, Watching(), codes).text, encoding="utf-8")
    checked = said(go_tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", "rules.yml", folder=tmp_path)
    assert "SUCCESS" in checked


def expected(name: str, minute: str, *alerts: Dict[str, Any]) -> Dict[str, Any]:
    return {"alertname": name, "eval_time": minute, "exp_alerts": list(alerts)}


def alert(gate: str, severity: str, response: str, summary: str, told: str, release: str = "") -> Dict[str, Any]:
    version = {"version": release, "release": release} if release else {}
    return {
        "exp_labels": {**PLACE, **version, "gate": gate, "severity": severity, "response": response},
        "exp_annotations": {
            "summary": f"production/shop{summary} burns the error budget of {gate}",
            "description": told,
            "runbook_url": "https://runbooks.example.org/shop",
        },
    }


def prove(
    folder: Path, given: Dict[str, str], expect: List[Dict[str, Any]], gate: Optional[Dict[str, Any]] = None
) -> None:
    (folder / "rules.yml").write_text(rules([shop(gate or ERRORS)], Watching()).text, encoding="utf-8")
    series = [{"series": name, "values": values} for name, values in given.items()]
    whole = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "alert_rule_test": expect}],
    }
    (folder / "tests.yml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    assert "SUCCESS" in said(go_tool("promtool"), "test", "rules", "tests.yml", folder=folder)


FAST = "of the requests are bad, and 0.1% may be. Windows: 1h and 5m, 6h and 30m."


def test_a_canary_that_burns_is_named_soon_and_lets_go_when_it_is_gone(tmp_path: Path) -> None:
    """100 requests a minute on 1; 10 on the canary 2, of which 3 are bad from its second minute on, and it ends."""
    series = {
        REQUESTS % ("1", "200", "a"): "0+100x180",
        REQUESTS % ("1", "500", "a"): "0x180",
        REQUESTS % ("2", "200", "b"): "_x60 0+7x20",
        REQUESTS % ("2", "500", "b"): "_x60 0+3x20",
    }
    release = alert("errors", "critical", "rollback", ", release 2,", f"30% {FAST}", release="2")
    told = "0.229% of the requests are bad, and 0.1% may be. Windows: 24h and 2h, 72h and 6h."
    warning = alert("errors", "warning", "page", "", told)
    name = "ReleaseBurnsBudget"
    prove(
        tmp_path,
        series,
        [
            expected(name, "61m"),
            # 3 bad in its second minute are too few; then `for` has to hold
            expected(name, "62m"),
            expected(name, "65m", release),
            expected(name, "80m", release),
            # the pair of half an hour still sees it, and then keep_firing_for
            expected(name, "95m", release),
            expected(name, "117m"),
            expected(name, "180m"),
            # of the service's requests too few are bad for the fast pairs
            expected("ServiceBurnsBudget", "65m", warning),
        ],
    )


def test_no_alert_for_what_the_budget_allows_nor_for_a_few(tmp_path: Path) -> None:
    series = {
        REQUESTS % ("1", "200", "a"): "0+2000x600",
        REQUESTS % ("1", "500", "a"): "0+1x600",  # 0.05 %, half of what may be
        REQUESTS % ("2", "200", "b"): "0x300 0+1x299",
        REQUESTS % ("2", "500", "b"): "0x300 0 3x298",  # a quarter of the first dozen, but 3
    }
    moments = ("30m", "301m", "303m", "306m", "330m", "599m")
    prove(
        tmp_path,
        series,
        [
            expected(name, at)
            for name in ("ReleaseBurnsBudget", "ServiceBurnsBudget", "ServiceUnseen")
            for at in moments
        ],
    )


def test_a_slow_leak_is_a_warning_for_the_service(tmp_path: Path) -> None:
    """0.4 % bad: four times too fast, which neither fast pair sees, and the pair of a day does."""
    series = {
        REQUESTS % ("1", "200", "a"): "0+996x1600",
        REQUESTS % ("1", "500", "a"): "0+4x1600",
    }
    told = "0.4% of the requests are bad, and 0.1% may be. Windows: 24h and 2h, 72h and 6h."
    warning = alert("errors", "warning", "page", "", told)
    prove(
        tmp_path,
        series,
        [
            expected("ReleaseBurnsBudget", "1600m"),
            expected("ServiceBurnsBudget", "1600m", warning),
        ],
    )


def test_slow_requests_burn_and_a_missing_bucket_is_told(tmp_path: Path) -> None:
    series = {
        TOOK % ("count", "2", ""): "0+100x120",
        TOOK % ("bucket", "2", ',le="0.5"'): "0+60x120",
        TOOK % ("bucket", "2", ',le="+Inf"'): "0+100x120",
    }
    release = alert("slow", "critical", "rollback", ", release 2,", f"40% {FAST}", release="2")
    service = alert("slow", "critical", "page", "", f"40% {FAST}")
    warning = alert(
        "slow", "warning", "page", "", "40% of the requests are bad, and 0.1% may be. Windows: 24h and 2h, 72h and 6h."
    )
    prove(
        tmp_path,
        series,
        [
            expected("ReleaseBurnsBudget", "60m", release),
            expected("ServiceBurnsBudget", "60m", service, warning),
            expected("ServiceUnseen", "60m"),
        ],
        SLOW,
    )
    del series[TOOK % ("bucket", "2", ',le="0.5"')]
    unseen = 'took_seconds_bucket{service="shop", environment="production", le=~"0\\\\.5"}'
    told = {
        "exp_labels": {**PLACE, "gate": "slow", "severity": "warning", "response": "page"},
        "exp_annotations": {
            "summary": "production/shop: nothing counts for slow, and no alert can fire",
            "description": f"Prometheus has no series {unseen}",
            "runbook_url": "https://runbooks.example.org/shop",
        },
    }
    prove(tmp_path, series, [expected("ServiceUnseen", "9m"), expected("ServiceUnseen", "12m", told)], SLOW)


def test_the_watchdog_always_fires_and_flapping_is_one_alert(tmp_path: Path) -> None:
    """All is well for three minutes in the midst: keep_firing_for bridges them."""
    series = {
        REQUESTS % ("2", "200", "a"): "0+50x120",
        REQUESTS % ("2", "500", "a"): "0+50x60 3000x7 3000+50x53",
    }
    name = "ReleaseBurnsBudget"
    wide = {"exp_labels": {"severity": "none"}}
    summary = {
        "summary": "Alerts are alive",
        "description": "Fires always, and is missed by who acts on alerts when a part of the way to them is down.",
    }
    prove(
        tmp_path,
        series,
        [
            *(expected("Watchdog", at, {**wide, "exp_annotations": summary}) for at in ("0m", "60m")),
            expected(name, "60m", alert("errors", "critical", "rollback", ", release 2,", f"50% {FAST}", release="2")),
        ],
    )


def config(folder: Path, **given: Any) -> Path:
    own = {
        "route": {"receiver": "on-call", "routes": [{"matchers": ['team="db"'], "receiver": "db"}]},
        "receivers": [{"name": "on-call"}, {"name": "db"}],
    }
    path = folder / "alertmanager.yml"
    path.write_text(configuration(way(Endpoint(**given), Timing()), own), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "given",
    [
        {"url": "http://127.0.0.1:5050/alerts", "credentials_file": "/token"},
        {"url": "https://x.example.org/alerts", "username": "am", "password_file": "/password", "ca_file": "/ca.pem"},
        {"url": "https://x.example.org/alerts", "cert_file": "/c.pem", "key_file": "/k.pem", "server_name": "x"},
        {"url": "http://127.0.0.1:5050/alerts", "unauthenticated": True},
    ],
)
def test_alertmanager_takes_the_configuration(given: Dict[str, Any], tmp_path: Path) -> None:
    assert "SUCCESS" in said(go_tool("amtool"), "check-config", config(tmp_path, **given), folder=tmp_path)
    (tmp_path / "alone.yml").write_text(configuration(way(Endpoint(**given), Timing()), NOBODY), encoding="utf-8")
    assert "SUCCESS" in said(go_tool("amtool"), "check-config", "alone.yml", folder=tmp_path)


def told(path: Path, **labels: str) -> str:
    """The receivers of an alert with these labels."""
    words = [f"{key}={value}" for key, value in labels.items()]
    test = ("config", "routes", "test", f"--config.file={path}")
    return said(go_tool("amtool"), *test, *words, folder=path.parent).strip()


def test_the_guides_receiver_for_canaries_has_what_names_a_release(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "alerting.md").read_text(encoding="utf-8")
    own = yaml.safe_load(guide.partition("## A canary's alerts")[2].split("```")[1].partition("\n")[2])
    path = tmp_path / "alertmanager.yml"
    ours = way(Endpoint("http://127.0.0.1:5050/alerts", credentials_file="/token"), Timing())
    path.write_text(configuration(ours, own), encoding="utf-8")
    assert "SUCCESS" in said(go_tool("amtool"), "check-config", path, folder=tmp_path)
    assert told(path, service="shop", response="rollback", release="2.0.2") == "selfheal,canary,on-call"
    assert told(path, service="shop", response="rollback") == "selfheal,on-call"
    assert told(path, service="shop", response="page", release="2.0.2") == "on-call"
    assert told(path, alertname="Watchdog") == "selfheal"


def test_alerts_find_their_way(tmp_path: Path) -> None:
    path = config(tmp_path, url="http://127.0.0.1:5050/alerts", credentials_file="/token")

    def receivers(**labels: str) -> str:
        return told(path, **labels)

    assert receivers(service="shop", response="rollback") == "selfheal,on-call"
    assert receivers(service="shop", response="restart", team="db") == "selfheal,db"
    assert receivers(service="shop", response="page") == "on-call"
    assert receivers(response="rollback") == "on-call", "without a service there is nothing to act on"
    assert receivers(alertname="Watchdog") == "selfheal"
