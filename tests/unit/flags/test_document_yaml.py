# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A YAML text of flags: read as its readers do, changed in one spot, no comment lost."""

from __future__ import annotations

import copy
import json
from typing import Any, Callable, Dict

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import FlagError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.texts import (
    CORE_YAML,
    JSON,
    YAML,
    edited,
    form_of,
    parsed,
    same,
)

TEXT = """\
# the flags of the shop
flags:
  new-search:   # asked for by sales
    state: ENABLED  # on since May
    variants: {"on": true, "off": false}
    # who gets it
    targeting:
      if:  # staff only
        - ends_with: [{var: email}, "@shop.test"]
        - "on"
        - null  # nobody else
    defaultVariant: "off"

  limit:
    state: 'ENABLED'
    variants:
      low: 1.50
    defaultVariant: low # keep
"""


def after(change: Callable[[Dict[str, Any]], object], text: str = TEXT, form: str = YAML) -> str:
    wanted = parsed(text, "it", form)
    change(wanted)
    return edited(text, wanted, "it", form)


def test_it_is_read_as_by_pyyaml() -> None:
    assert parsed(TEXT, "it", YAML) == yaml.safe_load(TEXT)


def test_a_scalar_is_written_in_its_place() -> None:
    new = after(lambda flags: flags["flags"]["new-search"].update(state="DISABLED", defaultVariant="on"))
    assert new == TEXT.replace("ENABLED  # on since", "DISABLED  # on since").replace(
        'defaultVariant: "off"', 'defaultVariant: "on"'
    )


def test_a_member_that_goes_leaves_its_comments_and_a_new_one_gets_a_line() -> None:
    def off(flags: Dict[str, Any]) -> None:
        flag = flags["flags"]["new-search"]
        del flag["targeting"]
        flag["metadata"] = {"selfheal.delivery/kept": "x"}

    lines = TEXT.split("\n")
    lines[6:11] = ["    # staff only", "    # nobody else"]
    lines.insert(9, '    metadata: {"selfheal.delivery/kept": "x"}')
    assert after(off) == "\n".join(lines)


def test_the_last_member_may_go_while_another_comes() -> None:
    def change(flags: Dict[str, Any]) -> None:
        flag = flags["flags"]["limit"]
        del flag["defaultVariant"]
        flag["yes"] = True

    assert after(change).endswith('      low: 1.50\n    "yes": true\n    # keep\n')


def test_flow_style_and_windows_lines_and_no_last_line_end() -> None:
    assert after(lambda flags: flags.update(a=False), "{a: on, b: {c: 1}}  # x") == "{a: false, b: {c: 1}}  # x"
    assert after(lambda flags: flags["b"].update(d=2), "{a: on, b: {c: 1}}") == '{a: on, b: {"c": 1, "d": 2}}'
    assert after(lambda flags: flags["a"].update(c=2), "a:\r\n  b: 1\r\nz: 1") == "a:\r\n  b: 1\r\n  c: 2\r\nz: 1"
    assert after(lambda flags: flags.update(c=2), "b: 1") == "b: 1\nc: 2"
    assert after(lambda flags: flags.update(c=2), "b: |\n  x\n  y\n\n# end\n") == "b: |\n  x\n  y\nc: 2\n\n# end\n"


def test_what_readers_disagree_on_is_read_as_by_the_provider() -> None:
    text = "f:\n  variations: {on: true, off: no}\n  since: 2026-01-01\n  rule: {variation: on}\n"
    found = parsed(text, "it", CORE_YAML)
    assert found == {"f": {"variations": {"on": True, "off": "no"}, "since": "2026-01-01", "rule": {"variation": "on"}}}
    with pytest.raises(FlagError, match="key on in line 2, which is read as no text: quote it"):
        parsed(text, "it", YAML)
    assert parsed("a: on\nb: 0x10\nc: ~\n", "it", YAML) == {"a": True, "b": 16, "c": None}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x {b: 1}\nc: *x\n", r"an alias \(\*x\) in line 2"),
        ("a: 1\na: 2\n", "the key 'a' twice, the second time in line 2"),
        ("a: [1\n", "is not YAML"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n", "does not hold an object"),
        ("a: !!python/object:os.system {}\n", "the tag"),
        ("a: !mine x\n", "the tag '!mine'"),
        ("a: !!int x\n", "which is not taken"),
        ("? [a]\n: 1\n", "no plain text"),
        ("a: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("a: " + "[" * 100_000, "nested too deeply"),  # libyaml's binding would not come back from that
        ("...\n" * 200 + "- " * 100_000, "nested too deeply"),
        ("a: \x07", "is not YAML"),
    ],
)
def test_what_is_no_document_is_refused(text: str, why: str) -> None:
    with pytest.raises(FlagError, match=why):
        parsed(text, "it", YAML)


def test_a_comment_that_would_be_lost_stops_the_change() -> None:
    text = "a:\n  - 1 # one\n  - 2\n"
    with pytest.raises(FlagError, match="would lose comments"):
        after(lambda flags: flags.update(a=[]), text)


def test_the_form_is_told_by_the_name_or_else_by_the_beginning() -> None:
    assert [form_of(name, "a: 1") for name in ("/x/f.json", "f.YAML", "f.yml", "flags")] == [JSON, YAML, YAML, YAML]
    assert form_of("flags", ' {"a": 1}') == JSON


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdon#: -", min_size=1), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text("abcno#: '", min_size=1), values, min_size=1, max_size=4)


@settings(max_examples=50)
@given(documents, documents, st.booleans())
def test_any_document_becomes_any_other(old: Dict[str, Any], new: Dict[str, Any], flow: bool) -> None:
    text = yaml.safe_dump(old, default_flow_style=flow, sort_keys=False)
    assert same(parsed(text, "it", YAML), old)
    assert same(parsed(edited(text, new, "it", YAML), "it", YAML), new)


@settings(max_examples=50)
@given(documents, st.data())
def test_one_flag_of_many_is_changed_and_comments_stay(old: Dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(old)))
    lines = yaml.safe_dump(old, sort_keys=False).split("\n")
    text = "# first\n" + "\n".join(lines) + "# last\n"
    wanted = copy.deepcopy(old)
    wanted[key] = data.draw(values)
    new = edited(text, wanted, "it", YAML)
    assert new.startswith("# first\n")
    assert new.endswith("# last\n")
    assert json.dumps(yaml.safe_load(new)) == json.dumps(wanted)
