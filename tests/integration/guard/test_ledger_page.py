# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The alarms that docs/ledger.md shows, held against the real promtool: they fire when they should, and only then."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from go_tool import go_tool

STAMP, EVERY = "selfheal_heartbeat_timestamp_seconds", "selfheal_heartbeat_interval_seconds"
FILE = 'node_textfile_mtime_seconds{file="/var/lib/node_exporter/textfile/selfheal.prom"}'
WELL = {
    STAMP: "0+60x60",  # sent each minute
    EVERY: "60x60",
    FILE: "0+60x60",
    "selfheal_chain_ok": "1x60",
    'selfheal_breaker_state{service="production/shop",state="open"}': "0x60",
    'selfheal_pause_end_timestamp_seconds{service="*"}': "7200x60",
}


@pytest.fixture(scope="module")
def rules(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (checkout / "docs/ledger.md").read_text(encoding="utf-8"), re.S | re.M)
    (groups,) = [block for block in blocks if block.startswith("groups:")]
    path = tmp_path_factory.mktemp("rules") / "rules.yml"
    path.write_text(groups)
    return path


def promtool(*arguments: str) -> str:
    done = subprocess.run([str(go_tool("promtool")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_the_rules_of_the_page(rules: Path) -> None:
    assert "5 rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))


def test_they_fire_when_they_should(rules: Path, tmp_path: Path) -> None:
    """After an hour, each with one thing amiss; the labels of the metric come along."""
    amiss: Dict[str, Dict[str, str]] = {
        "": {},
        "SelfhealHeartbeatMissing": {STAMP: "0+60x40 2400x20"},
        "SelfhealMetricsStale": {FILE: "0+60x40 2400x20"},
        "SelfhealLedgerBroken": {"selfheal_chain_ok": "1x40 0x20"},
        "SelfhealBreakerOpen": {'selfheal_breaker_state{service="production/shop",state="open"}': "0x40 1x20"},
    }
    names = [rule["alert"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]]
    cases: List[Dict[str, Any]] = []
    for alarm, series in amiss.items():
        given = [{"series": name, "values": values} for name, values in {**WELL, **series}.items()]
        fired = f'ALERTS{{alertstate="firing",alertname=~"{"|".join(names)}"}}'
        count = [{"labels": "{}", "value": 1}] if alarm else []
        checks = [{"expr": f"count({fired})", "eval_time": "60m", "exp_samples": count}]
        if alarm:
            only = f'count(ALERTS{{alertname="{alarm}"}})'
            checks.append({"expr": only, "eval_time": "60m", "exp_samples": count})
        cases.append({"interval": "1m", "input_series": given, "promql_expr_test": checks})
    gone = {name: values for name, values in WELL.items() if name != STAMP}
    given = [{"series": name, "values": values} for name, values in gone.items()]
    missing = [{"expr": 'count(ALERTS{alertname="SelfhealHeartbeatMissing"})', "eval_time": "60m"}]
    cases.append(
        {
            "interval": "1m",
            "input_series": given,
            "promql_expr_test": [{**missing[0], "exp_samples": [{"labels": "{}", "value": 1}]}],
        }
    )
    tests = tmp_path / "tests.yml"
    tests.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": cases}))
    assert "SUCCESS" in promtool("test", "rules", str(tests))
