# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a document of flags, read strictly and changed in one spot: JSON.

A change replaces the smallest value that differs, and leaves every other byte as it was: other flags, their order, how
numbers are written, indentation. The result is read again before it is given away, so that it says what was wished.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .model import FlagError

MAX_BYTES = 4 * 1024 * 1024
KEPT = "selfheal.delivery/kept"  # our key in a flag's metadata: what has to come back when it is turned on

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


def parsed(text: str, name: str) -> Dict[str, Any]:
    """The object that `text` holds; Unreadable, with `name` and where it breaks, when it holds none."""
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


def edited(text: str, wanted: Mapping[str, Any], name: str) -> str:
    """`text` so that it holds `wanted`, changed only where it has to be."""
    path, value = _difference(parsed(text, name), wanted)
    start, end = _span(text, path)
    line = text[text.rfind("\n", 0, start) + 1 : start]
    margin = line[: len(line) - len(line.lstrip(" \t"))]
    new = text[:start] + _dumped(value, text, text[start:end], margin) + text[end:]
    if not same(parsed(new, name), wanted):
        raise FlagError(f"{name} cannot be changed in its one spot", mend="Change it by hand")
    return new


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
