# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A JSON text of flags: read strictly, changed in one spot, whatever it looks like."""

from __future__ import annotations

import copy
import json
from typing import Any, Dict, List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.texts import (
    Unreadable,
    edited,
    parsed,
    same,
)

TEXT = """{
    "first": 1.50,   "second": {"enabled": true, "percentage": 1e1},
    "third": {
        "enabled": true,
        "note": "caf\\u00e9"
    },

    "last": [1,2,
      3]
}
"""


def test_only_the_value_that_differs_is_written_anew() -> None:
    wanted = parsed(TEXT, "it")
    wanted["third"]["enabled"] = False
    assert edited(TEXT, wanted, "it") == TEXT.replace('"enabled": true,\n', '"enabled": false,\n')


def test_a_flag_that_gains_a_member_is_written_in_the_style_of_the_file() -> None:
    wanted = parsed(TEXT, "it")
    wanted["third"]["percentage"] = 20
    new = edited(TEXT, wanted, "it")
    assert '        "note": "caf\\u00e9",\n        "percentage": 20\n    },\n\n    "last": [1,2,\n' in new
    assert '"first": 1.50,   "second": {"enabled": true, "percentage": 1e1},\n' in new


def test_line_ends_of_windows_stay() -> None:
    text = '{\r\n\t"a": {\r\n\t\t"enabled": true\r\n\t}\r\n}\r\n'
    assert edited(text, {"a": {"enabled": True, "p": 1}}, "it") == (
        '{\r\n\t"a": {\r\n\t\t"enabled": true,\r\n\t\t"p": 1\r\n\t}\r\n}\r\n'
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(), values, max_size=4)


@given(documents, documents, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_document_becomes_any_other(
    old: Dict[str, Any], new: Dict[str, Any], indent: Any, ascii_only: bool
) -> None:
    try:
        text = json.dumps(old, indent=indent, ensure_ascii=ascii_only)
        text.encode(), json.dumps(new, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert same(parsed(edited(text, new, "it"), "it"), new)


@given(st.dictionaries(st.text(), values, min_size=1, max_size=4), st.data())
def test_the_bytes_before_and_behind_the_changed_flag_stay(old: Dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(old)))
    wanted = copy.deepcopy(old)
    wanted[key] = "changed"
    text = json.dumps(old, indent=1)
    new = edited(text, wanted, "it")
    lines = json.dumps(wanted, indent=1)
    assert new == lines


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ('{"a": 1,}', "not JSON"),
        ('{"a": 1} x', "not JSON"),
        ("[]", "does not hold an object"),
        ("true", "does not hold an object"),
        ('{"a": 1, "a": 2}', "'a' occurs twice"),
        ('{"x": {"b": 1, "b": 1}}', "'b' occurs twice"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("\ufeff{}", "not JSON"),
    ],
)
def test_what_is_no_document_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        parsed(text, "file /f.json")


def test_a_truth_value_is_no_number() -> None:
    assert not same(True, 1)
    assert not same({"a": [False]}, {"a": [0]})
    assert same({"a": [1, {"b": 1.0}]}, {"a": [1.0, {"b": 1}]})
    pairs: List[object] = [None, "", 0, False]
    assert [[same(one, other) for other in pairs].count(True) for one in pairs] == [1, 1, 1, 1]
