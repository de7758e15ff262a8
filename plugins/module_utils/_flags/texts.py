# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a document of flags, read strictly and changed in one spot: JSON, or YAML.

A change replaces the smallest value that differs, and leaves every other byte as it was: other flags, their order, how
numbers are written, indentation, comments. The result is read again before it is given away, so that it says what was
wished, and says nothing less.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from . import yaml_text
from .model import FlagError

MAX_BYTES = 4 * 1024 * 1024
KEPT = "selfheal.delivery/kept"  # our key in a flag's metadata: what has to come back when it is turned on

JSON = "JSON"
YAML = "YAML"  # as PyYAML reads it
CORE_YAML = "YAML, core"  # as Go reads it: `on` is a text

_SPACE = re.compile(r"[ \t\r\n]*")
_INDENTED = re.compile(r"^([ \t]+)\S", re.MULTILINE)


class Unreadable(FlagError):
    """The text is no document of flags: not of its format, or a key in it occurs twice."""


def same(one: object, other: object) -> bool:
    """Are these the same JSON? Unlike Python's `==`, a truth value is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def form_of(file_name: str, text: str, yaml: str = YAML) -> str:
    """How a document is written: by its name's end, or where that says nothing, by how it begins."""
    end = file_name.rpartition(".")[2].lower()
    if end in ("yaml", "yml"):
        return yaml
    return JSON if end == "json" or text.lstrip()[:1] in ("{", "") else yaml


def parsed(text: str, name: str, form: str = JSON) -> Dict[str, Any]:
    """The object that `text` holds; Unreadable, with `name` and where it breaks, when it holds none."""
    if form == JSON:
        return _parsed_json(text, name)
    try:
        return yaml_text.read(text, core=form == CORE_YAML)
    except yaml_text.Broken as error:
        raise Unreadable(f"{name} {error}") from None
    except ImportError:
        raise Unreadable(f"{name} is YAML, and this Python has no PyYAML", mend="Install PyYAML") from None


def edited(text: str, wanted: Mapping[str, Any], name: str, form: str = JSON) -> str:
    """`text` so that it holds `wanted`, changed only where it has to be; FlagError where that cannot be."""
    old = parsed(text, name, form)
    if form == JSON:
        new = _edited_json(text, old, wanted)
    else:
        new = yaml_text.change(text, old, wanted, _on_one_line)
        if yaml_text.comments(new) != yaml_text.comments(text):
            raise FlagError(f"{name} would lose comments by this change", mend="Change it by hand, or move them")
    if not _holds(new, wanted, name, form):
        raise FlagError(f"{name} cannot be changed in its one spot", mend="Change it by hand")
    return new


def _holds(text: str, wanted: Mapping[str, Any], name: str, form: str) -> bool:
    try:
        return same(parsed(text, name, form), wanted)
    except Unreadable:
        return False


def _on_one_line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parsed_json(text: str, name: str) -> Dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise Unreadable(f"{name} is not JSON: {error.msg}, line {error.lineno}") from None
    except ValueError as error:
        raise Unreadable(f"{name}: {error}", mend="Nobody can say which one counts: mend it first") from None
    except RecursionError:
        raise Unreadable(f"{name} is nested too deeply") from None
    if not isinstance(found, dict):
        raise Unreadable(f"{name} does not hold an object of flags")
    return found


def _edited_json(text: str, old: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    path, value = _difference(old, wanted)
    start, end = _span(text, path)
    line = text[text.rfind("\n", 0, start) + 1 : start]
    margin = line[: len(line) - len(line.lstrip(" \t"))]
    return text[:start] + _dumped(value, text, text[start:end], margin) + text[end:]


def _once(pairs: Sequence[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, value in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Tuple[List[str], object]:
    """The path to the smallest value that all differences are in, and what it shall be."""
    path: List[str] = []
    while isinstance(old, Mapping) and isinstance(new, Mapping) and old.keys() == new.keys():
        keys = [key for key in old if not same(old[key], new[key])]
        if len(keys) != 1:
            break
        path.append(keys[0])
        old, new = old[keys[0]], new[keys[0]]
    return path, new


def _span(text: str, path: Sequence[str]) -> Tuple[int, int]:
    """Where in `text`, which is good JSON, the value at `path` begins and ends."""
    decoder = json.JSONDecoder()
    start = _skipped(text, 0)
    for key in path:
        at = _skipped(text, start + 1)
        while True:
            name, at = decoder.raw_decode(text, at)
            start = _skipped(text, _skipped(text, at) + 1)  # behind the colon
            if name == key:
                break
            at = decoder.raw_decode(text, start)[1]
            at = _skipped(text, _skipped(text, at) + 1)  # behind the comma
    return start, decoder.raw_decode(text, start)[1]


def _skipped(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _dumped(value: object, text: str, old: str, margin: str) -> str:
    """`value` written as the text around it is: over several lines where the old value was."""
    ascii_only = text.isascii()
    if "\n" not in old:
        return json.dumps(value, ensure_ascii=ascii_only)
    unit = _INDENTED.search(text)
    lines = json.dumps(value, indent=unit.group(1) if unit else "  ", ensure_ascii=ascii_only).split("\n")
    return ("\r\n" if "\r\n" in old else "\n").join([lines[0], *(margin + line for line in lines[1:])])
