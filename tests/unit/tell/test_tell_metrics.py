# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard's own metrics: what the ledger counted and remembers, as the real promtool wants it."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Dict, Tuple

import pytest
from go_tool import go_tool
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import TellError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import GuardPolicy
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import Fleet, Memory, Pause
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.outlook import outlook
from ansible_collections.selfheal.delivery.plugins.module_utils._tell import metrics
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.heartbeat import Beat

NOW = 1795251593.0
SHOP, BANK = "production/shop", 'production/"bank"\\\n'
COUNTERS = {
    SHOP: {
        "decisions:rollback:allowed": 2.0,
        "decisions:rollback:denied": 3.0,
        "suppressed:rollback:cooldown": 3.0,
        "outcomes:rollback:done": 1.0,
        "outcomes:canary:undone": 1.0,
        "verified:recovered": 1.0,
        "seconds:rollback:sum": 41.5,
        "seconds:rollback:count": 1.0,
        "last_success:rollback": NOW - 60,
        "something of a newer version": 7.0,
    },
    BANK: {"decisions:rollout:allowed": 1.0},
}
FAILED = Memory(failures=1, failed_at=NOW - 10, acted_at=NOW - 10, actions=(NOW - 20,))
HEALTH = metrics.Health(
    services=[
        outlook(GuardPolicy(SHOP), SHOP, FAILED, Fleet(acted={SHOP: NOW - 20}), NOW),
        outlook(GuardPolicy(BANK), BANK, Memory(), Fleet(), NOW),
    ],
    pauses=metrics.ends([{"service": "", "until": None}, {"service": SHOP, "until": NOW + 60}]),
    running={(SHOP, "rollback", "open"): 1},
    entries=42,
    drift=-61.5,
    watchdog_at=NOW - 5,
)
Samples = Dict[Tuple[str, Tuple[Tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[(f"selfheal_{name}", tuple(sorted(labels.items())))]


def test_everything_is_there_by_service() -> None:
    found = samples(metrics.exposition(metrics.figures(COUNTERS, HEALTH, [False])))
    assert of(found, "decisions_total", service=SHOP, action="rollback", verdict="denied") == 3
    assert of(found, "decisions_total", service=BANK, action="rollout", verdict="allowed") == 1
    assert of(found, "suppressed_total", service=SHOP, action="rollback", reason="cooldown") == 3
    assert of(found, "outcomes_total", service=SHOP, kind="canary", state="undone") == 1
    assert of(found, "verified_total", service=SHOP, verdict="recovered") == 1
    assert of(found, "action_duration_seconds_sum", service=SHOP, kind="rollback") == 41.5
    assert of(found, "action_duration_seconds_count", service=SHOP, kind="rollback") == 1
    assert of(found, "last_success_timestamp_seconds", service=SHOP, kind="rollback") == NOW - 60
    states = {state: of(found, "breaker_state", service=SHOP, state=state) for state in ("closed", "open", "half_open")}
    assert states == {"closed": 0, "open": 1, "half_open": 0}
    assert of(found, "breaker_state", service=BANK, state="closed") == 1
    assert of(found, "cooldown_end_timestamp_seconds", service=SHOP) == NOW - 10 + GuardPolicy(SHOP).cooldown
    assert of(found, "pause_end_timestamp_seconds", service="*") == math.inf
    assert of(found, "pause_end_timestamp_seconds", service=SHOP) == NOW + 60
    assert of(found, "unfinished_rollouts", service=SHOP, kind="rollback", state="open") == 1
    assert (of(found, "chain_ok"), of(found, "chain_entries"), of(found, "clock_drift_seconds")) == (0, 42, -61.5)
    assert of(found, "watchdog_seen_timestamp_seconds") == NOW - 5
    assert "newer version" not in str(found)


def test_an_empty_ledger_is_whole_and_has_nothing_else_to_say() -> None:
    found = samples(metrics.exposition(metrics.figures({}, metrics.Health(), [True])))
    assert {name for name, _labels in found} == {
        "selfheal_chain_ok",
        "selfheal_chain_entries",
        "selfheal_clock_drift_seconds",
    }
    assert of(found, "chain_ok") == 1
    unverified = samples(metrics.exposition(metrics.figures({}, metrics.Health())))
    assert found.keys() - unverified.keys() == {("selfheal_chain_ok", ())}


@pytest.mark.parametrize("health", [HEALTH, metrics.Health()])
def test_promtool_finds_nothing_wrong_with_the_names(health: metrics.Health) -> None:
    families = [*metrics.figures(COUNTERS, health, [True]), *metrics.beating(Beat(NOW, 60.0, "ci-7", "6d23"))]
    done = subprocess.run(
        [str(go_tool("promtool")), "check", "metrics", "--extended"],
        input=metrics.exposition(families),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_a_file_for_the_textfile_collector_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "selfheal.prom"
    metrics.write(str(path), metrics.figures({}, metrics.Health()))
    metrics.write(str(path), metrics.figures(COUNTERS, HEALTH))
    assert path.read_text() == metrics.exposition(metrics.figures(COUNTERS, HEALTH))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(TellError, match="cannot be written: No such file or directory"):
        metrics.write(str(tmp_path / "none" / "selfheal.prom"), [])


def test_what_is_remembered_says_what_stands_against_acting() -> None:
    policy = GuardPolicy(SHOP)
    found = outlook(policy, SHOP, FAILED, Fleet(), NOW)
    assert found["breaker"] == {"state": "open", "until": NOW - 10 + policy.breaker_reset, "failures": 1}
    assert found["actions"] == 1 and found["cooldown_until"] == NOW - 10 + policy.cooldown
    later = NOW + policy.breaker_reset + policy.window
    rested = outlook(policy, SHOP, FAILED, Fleet(), later)
    assert rested["breaker"] == {"state": "half_open", "until": None, "failures": 1}
    assert (rested["actions"], rested["cooldown_until"]) == (0, None)
    over = Memory(pause=Pause("ada", NOW - 9, "CHG-1", NOW - 1))
    assert outlook(policy, SHOP, over, Fleet(), NOW)["pause"] is None
    others = outlook(policy, SHOP, Memory(), Fleet(acted={"other": NOW - 1}), NOW)
    assert others["cooldown_until"] == NOW - 1 + policy.global_cooldown
