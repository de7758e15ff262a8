# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After an undo: recovered, not recovered, or nobody can tell."""

from __future__ import annotations

import json
from typing import Dict, Mapping, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    Absent,
    Arms,
    Counts,
    GateLook,
    Liveness,
    Look,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.recovery import (
    NOT_RECOVERED,
    RECOVERED,
    UNVERIFIED,
    VERIFYING,
    Recovery,
    RecoveryReport,
    Tally,
    poisson_tail,
    ratio_spec,
    standing,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy

ERRORS = {"name": "errors", "bad": "b", "total": "t"}
MEMORY = {"name": "memory", "type": "value", "value": "rss", "max": 100, "min": 10}
RANKS = {"name": "p99", "type": "ranks", "value": "p99"}
BUDGET = {"name": "budget", "type": "burn_rate", "bad": "b", "total": "t", "slo": 0.999}


def policy(*gates: Mapping[str, object]) -> Policy:
    return parse_policy({"source": {"type": "exposition"}, "gates": list(gates)}, "shop")


def after(
    read: Policy,
    gate: str,
    measured: Optional[GateLook],
    *,
    level: Optional[float] = None,
    up: bool = True,
    source_down: Optional[Absent] = None,
) -> RecoveryReport:
    """Thirty seconds of looks at one place, `b`, that went back."""
    recovery = Recovery(read, ["b"], levels={} if level is None else {gate: level}, started=0)
    for elapsed in range(2, 32, 2):
        look = Look(elapsed, Arms((), ("b",)), {gate: measured} if measured else {}, {"b": Liveness(up)})
        report = recovery.look(look, source_down)
        assert (report.verdict == VERIFYING) == (elapsed < 30)
    return report


@pytest.mark.parametrize(
    ("bad", "total", "level", "verdict"),
    [
        (0, 50, 0.005, RECOVERED),
        (0.25, 50, 0.005, RECOVERED),
        (2.5, 50, 0.005, NOT_RECOVERED),
        (0, 50, None, RECOVERED),
        (2.5, 50, None, NOT_RECOVERED),
        (0, 5, 0.005, UNVERIFIED),
        (0, 0, 0.005, UNVERIFIED),
    ],
)
def test_rates(bad: float, total: float, level: Optional[float], verdict: str) -> None:
    report = after(policy(ERRORS), "errors", GateLook(counts={"b": Counts(bad, total)}), level=level)
    assert report.verdict == verdict
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["gates"][0]["gate"] == "errors"


def test_a_limit_counts_even_when_the_baseline_was_worse() -> None:
    limited = {**ERRORS, "max": 0.01}
    report = after(policy(limited), "errors", GateLook(counts={"b": Counts(2, 50)}), level=0.05)
    assert (report.verdict, report.reason, report.gates[0].limit) == (NOT_RECOVERED, "errors", 0.01)


def test_a_limit_stands_in_where_there_was_no_baseline() -> None:
    report = after(policy({**ERRORS, "max": 0.05}), "errors", GateLook(counts={"b": Counts(2, 50)}))
    assert (report.verdict, report.gates[0].limit) == (RECOVERED, 0.05)


@pytest.mark.parametrize(("value", "verdict"), [(50, RECOVERED), (101, NOT_RECOVERED), (9, NOT_RECOVERED)])
def test_values(value: float, verdict: str) -> None:
    assert after(policy(MEMORY), "memory", GateLook(values={"b": value})).verdict == verdict


def test_the_latest_value_counts() -> None:
    recovery = Recovery(policy(MEMORY), ["b"], levels={}, started=0)
    for elapsed, value in ((2, 500.0), (30, 50.0)):
        report = recovery.look(Look(elapsed, Arms((), ("b",)), {"memory": GateLook(values={"b": value})}))
    assert report.verdict == RECOVERED


@pytest.mark.parametrize(
    ("direction", "value", "level", "verdict"),
    [
        ("increase", 1.05, 1.0, RECOVERED),
        ("increase", 1.2, 1.0, NOT_RECOVERED),
        ("increase", 0.5, 1.0, RECOVERED),
        ("decrease", 0.5, 1.0, NOT_RECOVERED),
        ("either", 0.5, 1.0, NOT_RECOVERED),
        ("either", 1.0, None, UNVERIFIED),
    ],
)
def test_ranks(direction: str, value: float, level: Optional[float], verdict: str) -> None:
    read = policy({**RANKS, "direction": direction})
    assert after(read, "p99", GateLook(values={"b": value}), level=level).verdict == verdict


@pytest.mark.parametrize(("bad", "verdict"), [(0, RECOVERED), (1, NOT_RECOVERED)])
def test_burn(bad: float, verdict: str) -> None:
    assert after(policy(BUDGET), "budget", GateLook(counts={"b": Counts(bad, 50)})).verdict == verdict


def test_no_data_is_unverified() -> None:
    report = after(policy(ERRORS), "errors", None)
    assert (report.verdict, report.reason) == (UNVERIFIED, "errors: no_data")


def test_a_place_that_is_down_has_not_recovered() -> None:
    report = after(policy(ERRORS), "errors", GateLook(counts={"b": Counts(0, 50)}), level=0.0, up=False)
    assert (report.verdict, report.reason, report.down) == (NOT_RECOVERED, "down: b", ("b",))


def test_a_source_that_is_down_verifies_nothing() -> None:
    counts = GateLook(counts={"b": Counts(0, 50)})
    report = after(policy(ERRORS), "errors", counts, level=0.0, source_down=Absent("provider_error"))
    assert (report.verdict, report.reason) == (UNVERIFIED, "provider_error")


def test_over_no_place_it_is_an_error() -> None:
    with pytest.raises(DeliveryError, match="no place"):
        Recovery(policy(ERRORS), [], levels={}, started=0)


def test_it_resumes() -> None:
    one, two = (Recovery(policy(ERRORS), ["b"], levels={"errors": 0.01}, started=0) for _ in range(2))
    look = Look(20, Arms((), ("b",)), {"errors": GateLook(counts={"b": Counts(3, 150)})}, {"b": Liveness(False)})
    one.look(look)
    two.restore(json.loads(json.dumps(one.state())))
    late = Look(30, look.arms, look.gates, look.alive)
    assert one.look(late) == two.look(late)


@given(st.integers(0, 60), st.floats(0.01, 50))
def test_the_tail_is_that_of_scipy(count: int, expected: float) -> None:
    assert poisson_tail(count, expected) == pytest.approx(float(poisson.sf(count - 1, expected)), abs=1e-9)


def test_the_tail_without_any_expectation() -> None:
    assert (poisson_tail(3, 0), poisson_tail(0.4, 0)) == (0.0, 1.0)


def test_only_ratio_gates_have_a_ratio_specification() -> None:
    read = policy(MEMORY)
    with pytest.raises(DeliveryError, match="not a ratio gate"):
        ratio_spec(read, read.gates[0])


@pytest.mark.parametrize(
    ("limits", "value", "good"),
    [
        ({"max": 100}, 70, True),
        ({"max": 100}, 90, False),
        ({"max": 100, "pass_max": 95}, 90, True),
        ({"min": 10}, 11, False),
        ({"min": 10}, 13, True),
        ({"min": 10, "pass_min": 11}, 11, True),
        ({"max": -10}, -9.0, False),
    ],
)
def test_the_lower_threshold_of_a_held_rollout(limits: Dict[str, float], value: float, good: bool) -> None:
    read = policy({"name": "m", "type": "value", "value": "v", **limits})
    tally = Tally(0)
    tally.add("m", GateLook(values={"a": value}), ("a",), (), latest=False)
    assert standing(read, read.gates[0], tally, factor=0.8).good is good
