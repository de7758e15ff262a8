# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selectors mean here what they mean in Prometheus."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._sense.selector import (
    NotASelector,
    is_selector,
    parse_selector,
    quoted,
)


@pytest.mark.parametrize(
    ("expression", "labels", "accepted"),
    [
        ("up", {}, True),
        ('up{job="shop"}', {"job": "shop"}, True),
        ('up{job="shop"}', {"job": "shop2"}, False),
        ('up{job=""}', {}, True),
        ('up{job!="shop"}', {}, True),
        ('up{job!="shop",}', {"job": "shop"}, False),
        ('up{code=~"5.."}', {"code": "503"}, True),
        ('up{code=~"5.."}', {"code": "5031"}, False),
        ('up{code=~"5|50"}', {"code": "50"}, True),
        ('up{code!~"5.."}', {"code": "200"}, True),
        ('up{code!~"5.."}', {"code": "500"}, False),
        ('up{code=~".*"}', {}, True),
        ('up{code=~".+"}', {}, False),
        ('up { a = "1" , b =~ "x|y" }', {"a": "1", "b": "y"}, True),
        ("up{path='/a\"b'}", {"path": '/a"b'}, True),
        (r'up{path="a\"b\\c\n"}', {"path": 'a"b\\c\n'}, True),
        (r"up{path=`\d+`}", {"path": r"\d+"}, True),
        (r"up{path=~`\d+`}", {"path": "42"}, True),
        ('up{brace="}"}', {"brace": "}"}, True),
        ('{__name__="up", job="a"}', {"job": "a"}, True),
        ('{"up", "my.label"="a"}', {"my.label": "a"}, True),
        ("job:errors:rate5m", {}, True),
    ],
)
def test_a_selector_accepts_what_prometheus_would(expression: str, labels: dict[str, str], accepted: bool) -> None:
    selector = parse_selector(expression)
    assert selector.accepts(labels) is accepted
    assert selector.name in ("up", "job:errors:rate5m")
    assert parse_selector(str(selector)).accepts(labels) is accepted


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "rate(up[5m])",
        "up[5m]",
        "up offset 5m",
        "up + up",
        "sum(up)",
        '{job="a"}',
        'up{job="a"',
        "up{job=a}",
        'up{job=="a"}',
        'up{job="a" code="b"}',
        'up{code=~"("}',
        'up{__name__=~"a.*"}',
        'up{job="a"} or vector(0)',
    ],
)
def test_anything_else_is_not_a_selector_and_says_why(expression: str) -> None:
    assert not is_selector(expression)
    with pytest.raises(NotASelector) as raised:
        parse_selector(expression)
    assert "Write it like" in raised.value.message


@given(st.text(), st.text())
def test_any_text_survives_quoting(wanted: str, other: str) -> None:
    selector = parse_selector(f"up{{label={quoted(wanted)}}}")
    assert selector.accepts({"label": wanted})
    assert selector.accepts({"label": other}) is (wanted == other)


def test_a_selector_can_be_renamed_and_narrowed() -> None:
    selector = parse_selector('took{job="shop"}').renamed("took_bucket").narrowed("le", "=~", r"0\.3|0\.30")
    assert str(selector) == r'took_bucket{job="shop", le=~"0\\.3|0\\.30"}'
    assert selector.accepts({"job": "shop", "le": "0.3"})
