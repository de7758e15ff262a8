# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one message at the end: what happened, why, and where the service is now."""

from __future__ import annotations

from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.story import named, story

ERRORS: Dict[str, Any] = {
    "gate": "errors",
    "value": 0.048,
    "baseline": 0.005,
    "limit": 0.02,
    "samples": {"bad": 12.0, "canary": 250.0},
}
QUEUE: Dict[str, Any] = {"gate": "queue", "value": 7.25, "baseline": None, "limit": 10, "samples": {"values": 3.0}}
ALIVE: Dict[str, Any] = {"gate": "alive", "value": 1.0, "samples": {"bad": 0.0}}
BAKE: Dict[str, Any] = {"msg": "errors failed: worse_than_baseline", "gate": "errors", "gates": [ALIVE, ERRORS, QUEUE]}


def told(state: str, **outcome: object) -> str:
    return story(Rollout("r1", "demo/shop", "2.0.0", "canary", state, 1, 0.0, 0.0, outcome=outcome))


def test_a_bad_release_names_gate_figures_and_places() -> None:
    places = {"web1": {"changed": True, "current": "1.0.0"}, "web2": {"changed": False}, "web3": {}}
    verified = {"verdict": "recovered"}
    assert told("undone", bake=BAKE, places=places, verified=verified) == (
        "demo/shop: 2.0.0 was taken back: errors failed: worse_than_baseline (errors: canary 4.80%, against 0.50%, "
        "limit 2.00%, 12 bad of 250 requests). web1 is back on 1.0.0. Its gates there: recovered."
    )


def test_several_places_may_be_back_on_several_releases() -> None:
    places = {"web1": {"changed": True, "current": "1.0.0"}, "web2": {"changed": True, "current": "0.9.0"}}
    verified = {"verdict": "not_recovered", "reason": "errors"}
    message = told("undone", why="its controller is gone.", places=places, verified=verified)
    assert "taken back: its controller is gone. web1, web2 are back on 0.9.0, 1.0.0." in message
    assert "Its gates there: not recovered (errors)." in message


def test_a_place_that_could_not_go_back_is_named_with_its_reason() -> None:
    places = {
        "web1": {"changed": True, "current": "1.0.0"},
        "web2": {"failed": True, "changed": True, "msg": "it does not start."},
        "web3": {"failed": True, "msg": "it does not start."},
    }
    message = told("unresolved", places=places, unresolved=["web3", "web2", "web4"])
    assert "web1 is back on 1.0.0." in message
    assert "web3, web2, web4 could NOT go back and may still run 2.0.0: " in message
    assert "2.0.0: it does not start; it was lost during the rollout. Bring it back" in message


def test_a_first_release_that_failed_stays_and_says_so() -> None:
    assert told("undone", left=["web1", "web2"], why="errors failed") == (
        "demo/shop: 2.0.0 failed: errors failed. web1, web2 stayed as they are: no known good release is there to go "
        "back to. Release a mended one, with canary_first_release."
    )


def test_nothing_changed_back_is_said_too() -> None:
    assert told("undone") == (
        "demo/shop: 2.0.0 was taken back: the rollout did not finish. No place had to be changed back."
    )
    assert "No place had" not in told("unresolved", unresolved=["web1"])


@pytest.mark.parametrize(
    "broken, why",
    [({"failed": True, "msg": "no space left."}, "no space left"), ({"unreachable": True}, "unreachable")],
)
def test_a_place_that_did_not_take_the_release_is_the_reason(broken: Dict[str, Any], why: str) -> None:
    message = told("undone", deployed={"web1": {"changed": True}, "web2": broken}, bake=BAKE)
    assert "it could not be released to web2: " in message and why in message


def test_a_good_release_says_by_what_it_passed_and_where_it_is() -> None:
    bake = {"msg": "all gates pass", "gate": "", "gates": [ALIVE, ERRORS, QUEUE]}
    message = told("done", bake=bake, places=["web1", "web2"])
    assert message == (
        "demo/shop: 2.0.0 passed its bake (errors: canary 4.80%, against 0.50%, limit 2.00%, 12 bad of 250 requests; "
        "queue: canary 7.25, limit 10). It is known good on web1, web2."
    )
    assert told("done") == "demo/shop: 2.0.0 passed its bake. It is known good on every place."


def test_a_release_that_a_person_promoted_did_not_pass_its_bake() -> None:
    bake = {**BAKE, "msg": "promoted by ada: INC-1", "reason": "promoted"}
    assert told("done", bake=bake) == (
        "demo/shop: 2.0.0 was promoted by ada: INC-1, without the verdict of its gates. "
        "It is known good on every place."
    )


def test_a_held_release_says_until_when() -> None:
    bake = {"msg": "undecided after 3s: errors is no data", "gate": "errors", "gates": [{"gate": "errors"}]}
    message = told("held", bake=bake, hold_until=3600.0)
    assert "2.0.0 is held where it is: undecided after 3s: errors is no data. It is undone at 01:00:00 UTC" in message
    assert "undone at its deadline" in told("held")


@pytest.mark.parametrize("value", [None, "n/a"])
def test_a_gate_without_a_figure_is_left_out(value: object) -> None:
    gates = [{**ERRORS, "value": value}]
    assert told("done", bake={**BAKE, "gates": gates}).startswith("demo/shop: 2.0.0 passed its bake. ")


def test_many_places_are_counted() -> None:
    assert named([f"web{number}" for number in range(1, 9)]) == "web1, web2, web3, web4, web5 and 3 more"


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from(["done", "undone", "unresolved", "held"]),
    st.dictionaries(st.sampled_from(["bake", "why", "verified", "hold_until", "unresolved", "left"]), JSON),
)
def test_whatever_the_ledger_holds_there_is_a_message(state: str, outcome: Dict[str, object]) -> None:
    until = outcome.get("hold_until")
    if isinstance(until, float) and abs(until) > 1e11:  # past the years that a calendar has
        outcome["hold_until"] = None
    assert told(state, **outcome).startswith("demo/shop: 2.0.0 ")


def rolled_back(state: str, **outcome: object) -> str:
    intent = {"before": {"web1": "1.0.0", "web2": "1.0.0", "web3": "1.0.0"}, "left": ["web4"]}
    return story(Rollout("r1", "demo/shop", "2.0.0", "rollback", state, 1, 0.0, 0.0, intent=intent, outcome=outcome))


def test_a_rollback_says_why_what_went_back_and_what_was_left_alone() -> None:
    places = {
        "web1": {"changed": True, "current": "1.0.0"},
        "web2": {"changed": False, "current": "1.0.0"},
        "web3": {"changed": False, "current": "3.0.0"},
    }
    verified = {"verdict": "unverified", "reason": "errors: no_data"}
    assert rolled_back("done", why="alert ShopErrors", places=places, verified=verified) == (
        "demo/shop: 2.0.0 was rolled back: alert ShopErrors. web1, web2 are back on 1.0.0. "
        "web3 had 3.0.0 by then, and was left alone. Its gates there: unverified (errors: no_data)."
    )


def test_a_rollback_that_could_not_be_finished_is_not_tried_again_by_itself() -> None:
    places = {"web1": {"failed": True, "changed": True, "msg": "it does not start."}, "web2": {"skipped": True}}
    message = rolled_back("unresolved", places=places, unresolved=["web1", "web2", "web3"])
    assert "it does not start; it was not tried, because a batch before it failed; it was lost" in message
    assert "resume tries once more and abort leaves it" in message and "reconcile.yml" not in message


def test_a_rollback_names_who_has_nowhere_to_go() -> None:
    message = rolled_back("done", places={"web1": {"changed": True, "current": "1.0.0"}}, left=["web4"])
    assert "web4 stayed as they are: no known good release is there to go back to. Release a mended one." in message


def test_of_an_action_that_nobody_told_of_it_says_what_came_of_it() -> None:
    def acted(state: str, **outcome: object) -> str:
        return story(Rollout("a1", "shop", "search", "action", state, 1, 0.0, 0.0, {"action": "flag_off"}, {}, outcome))

    gone = " Its controller was gone before it could tell, or go on: see for yourself what clients get."
    flag = {"msg": "flag 'search' waits for its review."}
    why = "alert High"
    assert acted("undone", why=why, flag=flag) == f"shop: flag off a1, {why}: flag 'search' waits for its review.{gone}"
    verified = {"verdict": "not_recovered"}
    bad = acted("done", why=why, verified=verified)
    assert bad == f"shop: flag off a1, {why}: it was done. Its gates: not recovered.{gone}"
