# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which flag is turned, for whom, and what the guard is asked before it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
from code_catalogue import catalogue, entry

from ansible_collections.selfheal.delivery.plugins.action import kill_switch_decide as under_test
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.switch import flag_of, switch_of

ALERT = {"kind": "alert", "name": "ShopErrors", "id": "a1"}
PROVIDER = {"type": "json", "path": "/srv/flags.json"}
POLICY: Dict[str, Any] = {
    "source": {"type": "exposition", "url": "http://192.0.2.1/metrics"},
    "gates": [{"name": "errors", "bad": "bad_total", "total": "all_total"}],
    "runbook": "https://runbooks.example.org/shop",
    "flags": {"new-search": {"provider": PROVIDER}, "cart": {}},
    "flag": "new-search",
    "response": ["flag_off", "rollback", "page"],
}


def options(**more: object) -> Dict[str, Any]:
    usual: Dict[str, Any] = {"service": "prod/shop", "group": "shop", "state": "off", "policy": POLICY, "flags": {}}
    usual.update(flag="", guard={"mode": "act"}, trigger=ALERT, answer={}, reason="", response=[], catalogue=None)
    return {**usual, "approved": "", "services": 20, "alarming": 2, "lease_ttl": 60.0, **more}


def error_code(folder: Path, **keys: Any) -> Dict[str, Any]:
    """The options for a trigger that is a code, whose entry has these keys."""
    (folder / "codes.yml").write_text(catalogue(SHOP_CART_001=entry(**keys)))
    trigger = {"kind": "error_code", "name": "SHOP-CART-001", "id": "c1"}
    return options(trigger=trigger, catalogue=str(folder / "codes.yml"), flags={"provider": PROVIDER})


def test_the_policys_flag_is_turned_off_for_an_alert() -> None:
    case = under_test.case_of(options())
    assert (case.flag, case.then, case.why, case.problem) == ("new-search", "rollback", "alert ShopErrors", "")
    wish = under_test.wish_of(case, {"confirmed": True, "level": 3.0})
    assert wish["situation"] == {"current": "new-search", "services": 20, "alarming": 2, "confirmed": True}
    assert (wish["action"], wish["release"], wish["trigger"]["level"]) == ("flag_off", "new-search", 3.0)
    assert wish["intent"]["then"] == "rollback" and wish["lease_ttl"] == 75.0
    assert "path" not in str(wish)


def test_an_error_code_names_its_own_flag_and_ways(tmp_path: Path) -> None:
    case = under_test.case_of(error_code(tmp_path, response=["flag_off", "page"], flag="cart"))
    assert (case.flag, case.then, case.why) == ("cart", "page", "error code SHOP-CART-001")


def test_a_code_names_no_flag_that_the_policy_does_not_list(tmp_path: Path) -> None:
    case = under_test.case_of(error_code(tmp_path, response=["flag_off", "rollback"], flag="crat"))
    assert case.switch is None and "lists no flag 'crat' (did you mean 'cart'?)" in case.problem
    assert case.then == "rollback" and under_test.wish_of(case, {})["situation"]["current"] == ""


def test_what_the_alerts_source_said_is_not_kept_twice() -> None:
    asked = under_test.case_of(options(answer={"asked": True, "firing": True}))
    assert under_test.wish_of(asked, {"confirmed": True})["trigger"]["evidence"] == {}
    gates = {"confirmed": None, "reason": "no_data"}
    wish = under_test.wish_of(under_test.case_of(options()), gates)
    assert "confirmed" not in wish["situation"] and wish["trigger"]["evidence"] == {"gates": gates}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"trigger": {}}, "a person has to say why"),
        ({"trigger": {}, "reason": " "}, "a person has to say why"),
        ({"trigger": {}, "reason": "INC-1", "flag": "new-serch"}, "no flag 'new-serch' (did you mean 'new-search'?)"),
        ({"trigger": "kind=alert"}, "kill_switch_trigger is a text"),
        ({"trigger": {"kind": "error_code", "name": "X", "id": "1"}}, "no catalogue to look X up in"),
        ({"state": "on"}, "turning a flag on is a person's decision"),
        ({"response": ["rolback"]}, "response has 'rolback' (did you mean 'rollback'?)"),
        ({"policy": {**POLICY, "gates": []}}, "the policy has no gates"),
    ],
)
def test_what_has_to_be_mended_first_is_said(given: Dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError) as refused:
        under_test.case_of(options(**given))
    assert says in refused.value.message


def test_a_persons_trigger_has_an_identity_of_its_own() -> None:
    first, second = (under_test.case_of(options(trigger={}, reason="INC-1")) for _number in range(2))
    assert first.trigger["kind"] == "person" and first.trigger["id"] not in ("", second.trigger["id"])
    on = under_test.case_of(options(trigger={}, reason="mended", state="on"))
    assert under_test.wish_of(on, {})["action"] == "flag_on" and on.then == "page"


def test_the_flags_keys_come_before_those_of_all() -> None:
    shared = {"provider": {"type": "unleash", "token": "secret"}, "environment": "prod", "deadline": "20s"}
    flags = {"flags": {"a": {"environment": "test", "serve": "old", "refresh": 0}, "b": None}}
    one, other = switch_of("a", flags, shared), switch_of("b", flags, shared)
    assert (one.environment, one.deadline, one.refresh, one.serve) == ("test", 20.0, 0.0, "old")
    assert (other.environment, other.refresh, other.serve) == ("prod", 15.0, False)
    assert "secret" not in str(one.as_dict())


@pytest.mark.parametrize(
    ("flags", "shared", "says"),
    [
        ({}, {}, "Name it under flags in the policy"),
        ([], {}, "Name it under flags in the policy"),
        ("a", {}, "the policy's flags are no mapping"),
        ({"a": {}}, {}, "flag 'a' has no provider"),
        ({"a": {"provider": "json"}}, {}, "flag 'a' has no provider"),
        ({"a": {"provder": {}}}, {}, "unknown key 'provder' (did you mean 'provider'?)"),
        ({"a": {}}, {"deadlin": 3}, "delivery_flags: unknown key 'deadlin' (did you mean 'deadline'?)"),
        ({"a": {"provider": PROVIDER, "deadline": 0}}, {}, "deadline must be at least 1"),
        ({"a": {"provider": PROVIDER, "refresh": "1h"}}, {}, "refresh is over 600 s"),
        ({"a": {"provider": PROVIDER, "context": "x"}}, {}, "context must be a mapping"),
    ],
)
def test_what_is_wrong_with_a_flag_is_said(flags: object, shared: object, says: str) -> None:
    with pytest.raises(OptionError) as refused:
        switch_of("a", {"flags": flags}, shared)
    assert says in refused.value.message


def test_nobody_else_names_a_flag() -> None:
    assert flag_of("cart", "code", POLICY) == "cart" and flag_of("", "code", POLICY) == "code"
    assert flag_of("", None, POLICY) == "new-search"
    for policy in ({}, {"flag": ["a"]}):
        with pytest.raises(OptionError):
            flag_of("", None, policy)
