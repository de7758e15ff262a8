# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard is asked before a rollback, of all that was found out; and what a person is told instead."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.action import rollback_decide as under_test
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError

ALERT = {"kind": "alert", "name": "ShopErrors", "id": "a1", "at": 5.0}
PLAN: Dict[str, Any] = {
    "release": "2.0.0",
    "known_good": "1.0.0",
    "blocked": "",
    "changed_at": 7.0,
    "intent": {"before": {"web1": "1.0.0"}, "left": ["web2"]},
}
BAD = {"confirmed": True, "verdict": "fail", "reason": "errors", "level": 3.0, "gates": [], "down": [], "msg": "bad"}


def options(**more: object) -> Dict[str, Any]:
    usual = {"service": "prod/shop", "guard": {"mode": "act"}, "approved": "", "lease_ttl": 60.0, "code": {}}
    return {**usual, "services": 20, "alarming": 2, "reason": "", "after": "", **more}


@pytest.mark.parametrize(
    ("gates", "blamed", "told"),
    [
        (True, "yes", "yes"),
        (True, "unknown", "unknown"),
        (True, None, "unknown"),
        (None, "yes", "unknown"),
        (False, "yes", "no"),
        (True, "no", "no"),
        (None, "no", "no"),
    ],
)
def test_it_is_bad_when_the_gates_say_so_and_the_code_where_one_was_the_reason(
    gates: object, blamed: object, told: str
) -> None:
    assert under_test.bad(gates, blamed) == told


def test_the_guard_hears_all_that_was_found_out() -> None:
    wish = under_test._wish(options(), ALERT, PLAN, BAD)
    assert wish["situation"] == {
        "current": "2.0.0",
        "known_good": "1.0.0",
        "blocked": "",
        "places": 2,
        "services": 20,
        "alarming": 2,
        "confirmed": True,
        "changed_at": 7.0,
    }
    kept = {name: value for name, value in BAD.items() if name != "msg"}
    assert wish["trigger"] == {**ALERT, "evidence": {"gates": kept}, "level": 3.0}
    assert (wish["release"], wish["intent"], wish["on_denied"]) == ("2.0.0", PLAN["intent"], "continue")


def test_what_nobody_could_tell_is_not_told() -> None:
    unknown = {"confirmed": None, "reason": "no_data", "level": None}
    wish = under_test._wish(options(), {"evidence": {"seen": 1}, "level": 2.0}, {**PLAN, "changed_at": None}, unknown)
    assert not {"confirmed", "changed_at"} & set(wish["situation"])
    assert wish["trigger"]["level"] == 2.0 and wish["trigger"]["evidence"]["seen"] == 1


def test_an_error_code_needs_the_gates_and_its_own_figures() -> None:
    code = {"blamed": "unknown", "evidence": {"counts": "unknown"}}
    wish = under_test._wish(options(code=code), {**ALERT, "kind": "error_code"}, PLAN, BAD)
    assert "confirmed" not in wish["situation"]
    assert wish["trigger"]["evidence"]["code"] == {"counts": "unknown"}


@pytest.mark.parametrize(
    ("given", "trigger", "told"),
    [
        ({"reason": "support"}, ALERT, "support"),
        ({"approved": "d1"}, {}, "recommendation d1, approved"),
        ({}, {}, ""),
        ({}, {"kind": "person"}, ""),
        ({}, ALERT, "alert ShopErrors"),
        ({}, {"kind": "error_code", "name": "SHOP-1"}, "error code SHOP-1"),
    ],
)
def test_why_it_goes_back(given: Dict[str, object], trigger: Dict[str, Any], told: str) -> None:
    assert under_test._why(options(**given), trigger) == told


def test_a_person_is_told_where_going_back_makes_no_sense() -> None:
    blocked = {**PLAN, "blocked": "2.0.0 says so itself"}
    assert "it must not be" in under_test._senseless(options(), blocked, BAD)
    assert "its gates are good" in under_test._senseless(options(), PLAN, {"confirmed": False})
    assert not under_test._senseless(options(approved="d1"), blocked, {"confirmed": False})
    assert not under_test._senseless(options(), PLAN, {"confirmed": None})


def test_a_text_never_passes_for_a_person() -> None:
    with pytest.raises(OptionError, match="is a text"):
        under_test._mapping("kind=person")
    assert under_test._mapping({}) == {}
