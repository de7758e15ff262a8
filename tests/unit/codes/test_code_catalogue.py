# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A catalogue of error codes is read whole, or every mistake in it is named with its line and its key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from code_catalogue import CART, EXAMPLE, NASTY, catalogue, entry, nasty
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import KEYS, load, parse, read
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.generate import Paging, route, rules, runbooks
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.model import Alerting
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError


def test_an_entry_is_read_with_all_it_says() -> None:
    alert = {"for": "2m", "keep_firing_for": 0, "window": "10m", "min_count": 3, "ratio": 1.5}
    text = catalogue(
        SHOP_CART_001=entry(response=["flag_off", "page"], flag="cart-2", alert=alert, deprecated=2.10),
        SHOP_CART_002=entry(),
    )
    codes = parse(text.replace("2.1\n", "2.10\n"))
    code = codes.code(CART)
    assert code.response == ("flag_off", "page") and code.attributable and code.retryable
    assert (code.flag, code.deprecated, code.domain) == ("cart-2", "2.10", "SHOP")
    assert code.alerting == Alerting(120.0, 0.0, 600.0, 3, 1.5)
    assert (code.line_of(""), code.line_of("title"), code.line_of("replaced_by")) == (2, 3, 2)
    assert codes.code("SHOP-CART-002").alerting == Alerting() and codes.code("SHOP-CART-002").deprecated == ""
    assert json.loads(json.dumps(code.as_dict()))["alert"]["for"] == 120.0
    assert set(code.as_dict()) == {*KEYS, "code"}


def test_an_unknown_code_names_the_nearest_one() -> None:
    with pytest.raises(OptionError, match=r"has no error code 'SHOP-CRAT-001' \(did you mean 'SHOP-CART-001'\?\)"):
        parse(catalogue()).code("SHOP-CRAT-001")


def test_the_example_is_in_order() -> None:
    assert len(load(str(EXAMPLE / "error_codes.yml")).codes) == 4


# what is changed of the entry; then the line, the key and the rule of the only problem, and words of its text
CASES: List[Tuple[Dict[str, Any], int, str, str, str]] = [
    ({"owner": None}, 2, f"{CART}.owner", "missing", "owner is missing"),
    ({"runbook": None}, 2, f"{CART}.runbook", "missing", "runbook is missing"),
    ({"response": None}, 2, f"{CART}.response", "missing", "response is missing"),
    ({"owner": None, "ownr": "x"}, 12, f"{CART}.ownr", "unknown_key", "did you mean 'owner'?"),
    ({"colour": "red"}, 13, f"{CART}.colour", "unknown_key", "unknown key colour"),
    ({"title": 5}, 3, f"{CART}.title", "type", "must be text, not a number"),
    ({"title": True}, 3, f"{CART}.title", "type", "must be text, not a boolean"),
    ({"title": ["x"]}, 3, f"{CART}.title", "type", "must be text, not a list"),
    ({"title": " "}, 3, f"{CART}.title", "empty", "it is empty"),
    ({"title": "a\nb"}, 3, f"{CART}.title", "unprintable", "line break"),
    ({"title": "\u202eevil"}, 3, f"{CART}.title", "unprintable", "control character"),
    ({"title": "x" * 301}, 3, f"{CART}.title", "long", "301 characters"),
    ({"class": "sever"}, 4, f"{CART}.class", "choice", "did you mean 'server'?"),
    ({"severity": "critcal"}, 6, f"{CART}.severity", "choice", "did you mean 'critical'?"),
    ({"severity": 1}, 6, f"{CART}.severity", "choice", "must be one of critical, error, warning, info"),
    ({"retryable": "maybe"}, 7, f"{CART}.retryable", "type", "true or false, not 'maybe'"),
    ({"attributable": False}, 9, f"{CART}.response", "not_attributable", "no deploy can have caused"),
    ({"response": "page"}, 9, f"{CART}.response", "type", "must be a list of rollback"),
    ({"response": []}, 9, f"{CART}.response", "type", "not an empty list"),
    ({"response": ["page", "rolback"]}, 9, f"{CART}.response", "choice", "did you mean 'rollback'?"),
    ({"response": ["page", "page"]}, 9, f"{CART}.response", "twice", "names an action twice"),
    ({"response": ["flag_off"]}, 9, f"{CART}.response", "no_flag", "which flag"),
    ({"runbook": "runbooks/x"}, 10, f"{CART}.runbook", "url", "not a plain http or https URL"),
    ({"runbook": "https://me:pass@x.example.org/"}, 10, f"{CART}.runbook", "url", "not a plain http"),
    ({"runbook": "https://x.example.org/{{x}}"}, 10, f"{CART}.runbook", "url", "not a plain http"),
    ({"runbook": "javascript:alert(1)"}, 10, f"{CART}.runbook", "url", "not a plain http"),
    ({"replaced_by": "SHOP-CART-002"}, 13, f"{CART}.replaced_by", "not_deprecated", "no replacement"),
    ({"deprecated": "2", "replaced_by": "x"}, 14, f"{CART}.replaced_by", "format", "not a code"),
    ({"alert": 5}, 13, f"{CART}.alert", "type", "must be a mapping"),
    ({"alert": {"four": 5}}, 13, f"{CART}.alert.four", "unknown_key", "unknown key four"),
    ({"alert": {"for": "5 minutes"}}, 13, f"{CART}.alert.for", "value", "must be a duration"),
    ({"alert": {"for": 1e300}}, 13, f"{CART}.alert.for", "value", "longer than 30 days"),
    ({"alert": {"window": 0}}, 13, f"{CART}.alert.window", "value", "at least 1"),
    ({"alert": {"min_count": 0}}, 13, f"{CART}.alert.min_count", "value", "at least 1"),
    ({"alert": {"ratio": 1}}, 13, f"{CART}.alert.ratio", "value", "must be above 1"),
    ({"alert": {"ratio": [1]}}, 13, f"{CART}.alert.ratio", "type", "not a list"),
    ({"alert": {"ratio": None}}, 13, f"{CART}.alert.ratio", "type", "not nothing"),
]


@pytest.mark.parametrize(("changed", "line", "key", "rule", "words"), CASES)
def test_a_mistake_is_named_with_its_line_and_key(
    changed: Dict[str, Any], line: int, key: str, rule: str, words: str
) -> None:
    text = catalogue(SHOP_CART_001=entry(**changed))
    codes, problems = read(text, "codes.yml")
    assert [(problem.line, problem.key, problem.rule) for problem in problems] == [(line, key, rule)]
    assert words in problems[0].text
    assert not codes.codes, "an entry with a mistake is none"
    with pytest.raises(OptionError, match=f"codes.yml, line {line}, {key}: "):
        parse(text, "codes.yml")


TEXTS: List[Tuple[str, int, str, str]] = [
    ("", 1, "the catalogue", "must be a mapping, not nothing"),
    ("- 1", 1, "the catalogue", "must be a mapping, not a list"),
    ("\ncode: {}", 2, "code", "unknown key code (did you mean 'codes'?)"),
    ("codes: [x]", 1, "codes", "must be a mapping, not a list"),
    ("codes:\n  shop-cart-001: {}", 2, "shop-cart-001", "not a code of the form DOMAIN-CATEGORY-NNN"),
    ("codes:\n  SHOP-CART-1: {}", 2, "SHOP-CART-1", "not a code of the form"),
    ("codes:\n  [1]: {}", 2, "a list", "not a code of the form"),
    (f"codes:\n  {CART}: x", 2, CART, "must be a mapping, not text"),
    (catalogue() + catalogue()[7:], 13, CART, "twice, first in line 2"),
    (catalogue() + "    title: again", 13, f"{CART}.title", "title is there twice"),
    ("codes: {", 1, "YAML", "expected the node content"),
    ("codes: {}\n---\ncodes: {}", 2, "YAML", "another document"),
    ("a: &a {}\nb: *a", 2, "YAML", "aliases"),
    ("codes: !!python/object:os.system x", 1, "YAML", "the tag"),
    ("codes: !x y", 1, "YAML", "the tag"),
    ("codes: {}\n\x07", 2, "YAML", "the character U+0007"),
    ("[" * 5000, 1, "YAML", "nested too deeply"),
    ("#" * (4 * 1024 * 1024 + 1), 1, "YAML", "at most 4194304"),
    ("codes: {}\ninternal_words: x", 2, "internal_words", "must be a list"),
]


@pytest.mark.parametrize(("text", "line", "key", "words"), TEXTS, ids=range(len(TEXTS)))
def test_what_is_no_catalogue_says_where_it_begins_not_to_be_one(text: str, line: int, key: str, words: str) -> None:
    problem = read(text, "codes.yml")[1][0]
    assert (problem.line, problem.key) == (line, key) and words in problem.text
    with pytest.raises(OptionError, match="codes.yml, line "):
        parse(text, "codes.yml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yml"
    latin.write_bytes(b"codes: \xfc")
    for path, words in ((latin, "not UTF-8 text"), (tmp_path, "directory"), (tmp_path / "none.yml", "No such file")):
        with pytest.raises(OptionError, match=words):
            load(str(path))


# keys and values as people might get them wrong, and worse
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(NASTY)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
WRONG = st.dictionaries(st.sampled_from([*KEYS, "x", ""]) | st.text(max_size=5), VALUES, max_size=4)
NAMES = st.sampled_from([CART, "SHOP-CART-002", "A-B-1"]) | st.text(max_size=8)
WRITTEN = st.dictionaries(NAMES, WRONG.map(lambda keys: {**entry(), **keys}), max_size=3)
TEXT = st.text() | st.builds(lambda codes: yaml.safe_dump({"codes": codes}), WRITTEN)


@given(TEXT)
def test_any_text_is_a_catalogue_or_an_error_with_a_line(text: str) -> None:
    try:
        codes = parse(text)
    except OptionError as error:
        assert error.what.startswith("the catalogue, line ")
        assert error.what.isprintable()
        return
    assert rules(codes) == rules(codes)
    for made in (rules(codes), route(codes, Paging("pager", {}, "http://x.example.org"))):
        assert isinstance(yaml.safe_load(made), dict)
    assert runbooks(codes).startswith("# Error codes")


LINE = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), min_size=1, max_size=40) | st.sampled_from(
    NASTY
)


@given(title=LINE, owner=LINE)
def test_what_stands_in_the_catalogue_stands_in_the_rules_and_nowhere_else(title: str, owner: str) -> None:
    codes = parse(catalogue(SHOP_CART_001=entry(title=title, owner=owner)))
    (rule,) = yaml.safe_load(rules(codes))["groups"][0]["rules"]
    plain = yaml.safe_load(rules(parse(catalogue())))["groups"][0]["rules"][0]
    assert untemplated(rule["annotations"]["summary"]) == f"{title} ({CART})"
    assert untemplated(rule["labels"]["owner"]) == owner
    del (
        rule["annotations"]["summary"],
        plain["annotations"]["summary"],
        rule["labels"]["owner"],
        plain["labels"]["owner"],
    )
    assert rule == plain, "nothing else has changed by it"


def untemplated(text: str) -> str:
    """What Go makes of a template whose only actions print "{{"; any other action fails the test."""
    kept = "".join(part for part in text.split('{{"{{"}}'))
    assert "{{" not in kept, text
    return text.replace('{{"{{"}}', "{{")


def test_every_nasty_text_is_taken_as_it_is() -> None:
    codes = parse(nasty())
    assert [code.title for code in codes.codes.values()] == list(NASTY)
    page = runbooks(codes)
    assert "<script>" not in page and "[link](" not in page and len(page.splitlines()) > 10 * len(NASTY)
