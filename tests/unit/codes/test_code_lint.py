# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A code keeps its meaning for ever, and its public message keeps our secrets."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest
from code_catalogue import CART, catalogue, entry

from ansible_collections.selfheal.delivery.plugins.module_utils._codes.lint import errors, lint

OTHER = entry(title="Another thing")
# what was committed, what stands there now, and the problems: line, key, rule
Told = List[Tuple[int, str, str]]
COMPARED: List[Tuple[Dict[str, Any], Dict[str, Any], Told]] = [
    ({"owner": "a"}, {"owner": "b", "severity": "info", "response": ["page"], "runbook": "https://x.example.org"}, []),
    ({}, {"title": "Something else"}, [(3, f"{CART}.title", "redefined")]),
    ({}, {"class": "data"}, [(4, f"{CART}.class", "redefined")]),
    ({}, {"since": "9"}, [(12, f"{CART}.since", "redefined")]),
    ({}, {"deprecated": "2"}, []),
    ({"deprecated": "2"}, {}, [(2, f"{CART}.deprecated", "revived")]),
    ({"deprecated": "2"}, {"deprecated": "2.1"}, []),
]


@pytest.mark.parametrize(("old", "new", "told"), COMPARED)
def test_a_code_keeps_its_meaning(old: Dict[str, Any], new: Dict[str, Any], told: Told) -> None:
    problems = lint(catalogue(SHOP_CART_001=entry(**new)), "codes.yml", catalogue(SHOP_CART_001=entry(**old)))
    assert [(problem.line, problem.key, problem.rule) for problem in problems] == told


def test_no_code_is_removed_whether_deprecated_or_not() -> None:
    before = catalogue(SHOP_CART_001=entry(), SHOP_CART_002=entry(deprecated="2"), SHOP_CART_003=OTHER)
    problems = lint(catalogue(SHOP_CART_003=OTHER), "codes.yml", before)
    assert [(problem.key, problem.rule) for problem in problems] == [(CART, "removed"), ("SHOP-CART-002", "removed")]


def test_a_code_with_a_mistake_is_not_called_removed() -> None:
    problems = lint(catalogue(SHOP_CART_001=entry(severity="hot")), "codes.yml", catalogue())
    assert [problem.rule for problem in problems] == ["choice"]
    assert [problem.rule for problem in lint("codes: {", "codes.yml", catalogue())] == ["syntax"]


def test_a_title_may_be_reworded_by_whoever_says_so() -> None:
    text = catalogue(SHOP_CART_001=entry(title="The basket cannot be saved"))
    assert lint(text, "codes.yml", catalogue(), reworded=[CART]) == []
    (problem,) = lint(text, "codes.yml", text, reworded=["SHOP-CRAT-001"])
    assert problem.rule == "unknown_code" and "did you mean 'SHOP-CART-001'?" in problem.text


def test_an_earlier_version_with_mistakes_is_said_and_compared_as_far_as_it_goes() -> None:
    before = catalogue(SHOP_CART_001=entry(), SHOP_CART_002=entry(severity="hot"))
    problems = lint(catalogue(SHOP_CART_001=entry(title="x")), "codes.yml", before)
    assert [problem.rule for problem in problems] == ["previous", "redefined"]
    assert [problem.rule for problem in errors(problems)] == ["redefined"]


MESSAGES = [
    (f"Error {CART}: try again", "code_in_message"),
    ("Error shop-cart-007 happened", "code_in_message"),
    ("An exception happened", "internal_word"),
    ("The DATABASE is away", "internal_word"),
    ("ledger-db is away", "internal_word"),
    ("Call team-shop", "internal_word"),
    ("10.1.2.3 is away", "internal_word"),
    ("See http://shop.prod.svc/x", "internal_word"),
    ("An exceptional day: podcasts, ledger-dbs, SQLite", ""),
]


@pytest.mark.parametrize(("message", "rule"), MESSAGES)
def test_a_public_message_says_nothing_of_us(message: str, rule: str) -> None:
    text = "internal_words: [ledger-db]\n" + catalogue(SHOP_CART_001=entry(public_message=message))
    problems = lint(text, "codes.yml")
    assert [problem.rule for problem in problems] == ([rule] if rule else [])
    assert all((problem.line, problem.key) == (12, f"{CART}.public_message") for problem in problems)


def test_a_replacement_is_a_code_in_use() -> None:
    def told(**changed: Any) -> List[str]:
        text = catalogue(SHOP_CART_001=entry(deprecated="2", **changed), SHOP_CART_002=OTHER, SHOP_CART_003=dead)
        return [f"{problem.line} {problem.rule}" for problem in lint(text, "codes.yml")]

    dead = {**OTHER, "deprecated": "3"}
    assert told(replaced_by="SHOP-CART-002") == []
    assert told(replaced_by="SHOP-CART-003") == ["14 dead_replacement"]
    assert told(replaced_by=CART) == ["14 dead_replacement"]
    assert told(replaced_by="SHOP-CRAT-002") == ["14 unknown_code"]
