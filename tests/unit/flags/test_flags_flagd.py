# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""flagd's flags: what a wish makes of a flag, and what the document alone can say about what is served."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.flagd import evaluated, ours, wished
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import Where, Wish
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.texts import KEPT

WHERE = Where("new-search")
RULES = {"if": [{"ends_with": [{"var": "email"}, "@shop.test"]}, "on", None]}
OFF = Wish("off")
ON = Wish("on", serve=True)


def flag(default: Optional[str] = "on", rules: object = None, **more: Any) -> Dict[str, Any]:
    found = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": default, **more}
    return found if rules is None else {**found, "targeting": rules}


def percent(number: float) -> Wish:
    return Wish("on", serve=True, percentage=number)


def kept(rules: object, default: str) -> str:
    return json.dumps({"targeting": rules, "defaultVariant": default})


def test_off_serves_the_variant_with_the_value_and_is_not_disabled() -> None:
    assert wished(flag(), WHERE, OFF) == flag("off")
    assert wished(flag(state="DISABLED"), WHERE, OFF) == flag("off")
    assert wished(flag(targeting={}), WHERE, OFF) == flag("off")
    told = evaluated(flag("off"), OFF)
    assert (told.known, told.value, told.percentage) == (True, False, 0)


def test_rules_are_kept_while_it_is_off_and_come_back() -> None:
    before = flag("off", RULES, metadata={"owner": "search"})
    off = wished(before, WHERE, OFF)
    assert off == flag("off", metadata={"owner": "search", KEPT: kept(RULES, "off")})
    assert wished(off, WHERE, OFF) == off
    assert wished(off, WHERE, ON) == before
    for without_metadata in (flag("off", RULES), {**flag(None, RULES), "defaultVariant": "on"}):
        assert wished(wished(without_metadata, WHERE, OFF), WHERE, ON) == without_metadata
    no_default = {name: value for name, value in flag(None, RULES).items() if name != "defaultVariant"}
    assert wished(wished(no_default, WHERE, OFF), WHERE, ON) == no_default


def test_steps_of_a_percentage_keep_the_rules_that_were_its_own() -> None:
    now = flag("off", RULES)
    for number in (5, 50):
        now = wished(now, WHERE, percent(number))
        assert now["targeting"] == {"fractional": [["on", number], ["off", 100 - number]]}
        assert evaluated(now, percent(number)).percentage == number
    now = wished(now, WHERE, percent(0))
    assert now == flag("off", metadata={KEPT: kept(RULES, "off")})
    assert wished(now, WHERE, ON) == flag("off", RULES)
    assert wished(wished(now, WHERE, percent(50)), WHERE, percent(100))["defaultVariant"] == "on"


def test_a_percentage_of_a_flag_without_rules_comes_back_as_it_was_last() -> None:
    off = wished(wished(wished(flag("off"), WHERE, percent(5)), WHERE, percent(20)), WHERE, OFF)
    assert ours(wished(off, WHERE, ON)["targeting"]) == {"on": 20, "off": 80}


def test_who_went_through_all_steps_is_on_for_everyone_and_stays_so() -> None:
    now = flag("off")
    for number in (5, 50, 100):
        now = wished(now, WHERE, percent(number))
    assert now == wished(now, WHERE, ON) == flag("on")
    assert wished(wished(wished(now, WHERE, percent(5)), WHERE, OFF), WHERE, percent(100)) == flag("on")


@pytest.mark.parametrize("number", [0.001, 0.1, 12.5, 33.333, 99.999])
def test_weights_are_whole_numbers(number: float) -> None:
    now = wished(flag("off"), WHERE, percent(number))
    weights = [weight for name, weight in now["targeting"]["fractional"]]
    assert all(isinstance(weight, int) and weight > 0 for weight in weights)
    assert evaluated(now, percent(number)).percentage == pytest.approx(number)


def test_on_leaves_rules_that_work() -> None:
    assert wished(flag("off", RULES), WHERE, ON) == flag("off", RULES)
    assert wished(flag("off", RULES, state="DISABLED"), WHERE, ON) == flag("off", RULES)
    assert wished(flag("off"), WHERE, ON) == flag("on")


def test_of_several_variants_the_named_one_is_served() -> None:
    colours = {"state": "ENABLED", "variants": {"red": "r", "blue": "b", "grey": "g"}, "defaultVariant": "grey"}
    assert wished(colours, WHERE, Wish("on", serve="b", variation="blue"))["defaultVariant"] == "blue"
    half = wished(colours, WHERE, Wish("on", serve="b", variation="blue", percentage=50))
    assert (half["targeting"], half["defaultVariant"]) == ({"fractional": [["blue", 50], ["grey", 50]]}, "grey")
    assert wished(half, WHERE, Wish("off", serve="r"))["defaultVariant"] == "red"


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (flag(state="DISABLED"), "DISABLED, so clients get their code's default"),
        (flag("off", RULES), "rules are evaluated by clients; set client_url"),
        (flag("off", {"fractional": [["on", 20], ["gone", 80]]}), "rules are evaluated by clients"),
        (flag(None), "no defaultVariant"),
        (flag(""), "no defaultVariant"),
        (flag("none"), "'none' is no variant"),
    ],
)
def test_what_the_document_cannot_say_is_not_known(before: Dict[str, Any], why: str) -> None:
    told = evaluated(before, OFF)
    assert (told.known, told.final) == (False, True)
    assert why in told.why


def test_for_off_the_share_is_of_those_who_still_get_something_else() -> None:
    rules = {"fractional": [["on", 30], ["off", 70]]}
    assert evaluated(flag("off", rules), OFF).percentage == 30
    assert evaluated(flag("on"), OFF).percentage == 100


@pytest.mark.parametrize(
    ("before", "wish", "why"),
    [
        ({**flag(), "variants": {"on": True}}, OFF, "no variant that serves false.* it has on .true."),
        ({**flag(), "variants": {"0": 0, "1": 1}}, OFF, "its off variation is not set"),
        (flag(), Wish("on", serve=True, variation="onn"), "did you mean 'on'"),
        (flag(), Wish("on", serve=True, variation="off"), "'off' serves false, and serve is true"),
        (flag(metadata={KEPT: "{"}), ON, "not as it was written"),
        (flag("on", RULES, variants={"on": True, "a": False, "b": False}), percent(20), "none is said to be for the"),
    ],
)
def test_a_wish_that_cannot_be_is_said(before: Dict[str, Any], wish: Wish, why: str) -> None:
    with pytest.raises(DeliveryError, match=why):
        wished(before, WHERE, wish)


def test_what_is_kept_fits_flagds_schema_of_metadata() -> None:
    metadata = wished(flag("off", RULES), WHERE, OFF)["metadata"]
    assert all(isinstance(value, (str, bool, int, float)) for value in metadata.values())


def test_a_rule_like_ours_in_part_is_not_ours() -> None:
    others: List[Dict[str, Any]] = [
        {},
        {"fractional": []},
        {"fractional": [["on", 50], ["off", 50]], "if": []},
        {"fractional": [{"var": "email"}, ["on", 50], ["off", 50]]},
        {"fractional": [["on", 50], ["off"]]},
        {"fractional": [["on", True], ["off", 1]]},
        {"fractional": [["on", 0], ["off", 0]]},
    ]
    for rules in others:
        assert ours(rules) is None
