# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where no old place is left: the limits that a gate gets from the service's own history."""

from __future__ import annotations

from typing import Any, Dict, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.history import FLOOR, with_history
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.presets import PRESETS
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, RatioRule, parse_policy

TOLERANCE = PRESETS["balanced"].tolerance


def policy(**rule: object) -> Policy:
    errors: Dict[str, Any] = {"name": "errors", "bad": "bad", "total": "total", **rule}
    queue = {"name": "queue", "type": "value", "value": "queue", "max": 10}
    raw = {"source": {"type": "exposition", "url": "http://127.0.0.1/metrics"}, "gates": [errors, queue]}
    return parse_policy(raw, "shop")


def limit(judged: Policy) -> Optional[float]:
    rule = judged.gates[0].rule
    assert isinstance(rule, RatioRule)
    return rule.max


def test_a_gate_without_a_limit_gets_one_from_its_last_passed_bake() -> None:
    judged, note = with_history(policy(tolerance=2, floor=0.001), {"errors": 0.01, "queue": 3.0})
    assert limit(judged) == pytest.approx(0.02)
    assert note == "judged by errors ≤ 2.000% (2× its last passed bake)"
    assert judged.gates[1] == policy().gates[1]


def test_the_lower_of_both_limits_holds() -> None:
    strict, note = with_history(policy(max=0.015, tolerance=2), {"errors": 0.01})
    assert limit(strict) == 0.015 and "errors ≤ 1.500% (limit)" in note
    history, note = with_history(policy(max=0.5, tolerance=2), {"errors": 0.01})
    assert limit(history) == pytest.approx(0.02) and "2× its last passed bake" in note


def test_without_history_the_limits_of_the_policy_judge_and_it_says_so() -> None:
    judged, note = with_history(policy(max=0.05), {})
    assert judged == policy(max=0.05) and note == "judged by errors ≤ 5.000% (limit)"
    assert with_history(policy(tolerance=3), {})[1] == "judged by errors: no limit"
    only_values = parse_policy(
        {
            "source": {"type": "exposition", "url": "http://127.0.0.1/metrics"},
            "gates": [{"name": "queue", "type": "value", "value": "queue", "max": 10}],
        },
        "shop",
    )
    assert with_history(only_values, {"queue": 3.0})[1] == "judged by the limits of the policy"


def test_a_service_that_had_no_errors_may_have_as_many_as_the_floor() -> None:
    assert limit(with_history(policy(tolerance=2), {"errors": 0.0})[0]) == FLOOR
    assert limit(with_history(policy(floor=0.03), {"errors": 0.0})[0]) == 0.03


@given(st.floats(0, 1), st.none() | st.floats(1e-4, 1))
def test_a_limit_is_never_above_the_policys_nor_above_everything(level: float, maximum: Optional[float]) -> None:
    given_rule = {} if maximum is None else {"max": maximum}
    found = limit(with_history(policy(tolerance=2, **given_rule), {"errors": level})[0])
    assert found is not None and 0 < found <= (1.0 if maximum is None else maximum)
    assert found >= min(level, 1.0 if maximum is None else maximum)


def test_the_presets_tolerance_is_used_where_the_gate_has_none() -> None:
    assert limit(with_history(policy(max=1), {"errors": 0.1})[0]) == pytest.approx(min(1.0, TOLERANCE * 0.1))
