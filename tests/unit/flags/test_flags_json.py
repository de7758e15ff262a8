# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Home-made flags in a file: what a wish makes of them, and what a service then reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.json_file import build
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    Deadline,
    Options,
    Served,
    Where,
    Wish,
)

BY = "document read back"
FLAG = Where("f")


def changed(path: Path, wish: Wish, where: Where = FLAG) -> Served:
    provider = build(Options("json", path=str(path)), Deadline.after(5))
    state = provider.state(where)
    if provider.wanted(where, wish, state):
        provider.set(where, wish, state)
    assert not provider.wanted(where, wish, provider.state(where))
    return provider.effective(where, wish)


@pytest.mark.parametrize(
    ("before", "wish", "after", "served"),
    [
        (True, Wish("off"), False, Served(True, False, 0, by=BY)),
        (False, Wish("on", serve=True), True, Served(True, True, 100, by=BY)),
        (True, Wish("on", serve=True, percentage=0), False, Served(True, False, 0, by=BY)),
        ("new", Wish("off", serve="classic"), "classic", Served(True, "classic", by=BY)),
        (3, Wish("off", serve=0.5), 0.5, Served(True, 0.5, by=BY)),
        (False, Wish("off", serve=True), True, Served(True, True, 100, by=BY)),
        ({"enabled": True}, Wish("off"), {"enabled": False}, Served(True, False, 0, by=BY)),
        (
            {"enabled": True, "percentage": 20},
            Wish("off"),
            {"enabled": False, "percentage": 20},
            Served(True, False, 0, by=BY),
        ),
        (
            {"enabled": False, "percentage": 20},
            Wish("on", serve=True),
            {"enabled": True, "percentage": 20},
            Served(True, None, 20, by=BY),
        ),
        (
            {"enabled": False, "owner": "shop"},
            Wish("on", serve=True, percentage=12.5),
            {"enabled": True, "owner": "shop", "percentage": 12.5},
            Served(True, None, 12.5, by=BY),
        ),
        (
            {"enabled": True, "percentage": 20},
            Wish("on", serve=True, percentage=100),
            {"enabled": True, "percentage": 100},
            Served(True, True, 100, by=BY),
        ),
        (
            {"enabled": True, "percentage": 20},
            Wish("on", serve=True, percentage=0),
            {"enabled": False, "percentage": 20},
            Served(True, False, 0, by=BY),
        ),
    ],
)
def test_a_wish(tmp_path: Path, before: object, wish: Wish, after: object, served: Served) -> None:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"other": 1, "f": before}))
    assert changed(path, wish) == served
    assert json.loads(path.read_text()) == {"other": 1, "f": after}


def test_an_environment_is_an_upper_key(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text('{"production": {"f": true}, "staging": {"f": true}}')
    changed(path, Wish("off"), Where("f", "production"))
    assert path.read_text() == '{"production": {"f": false}, "staging": {"f": true}}'


@pytest.mark.parametrize(
    ("document", "where", "wish", "why"),
    [
        ({"new-search": True}, Where("new-serach"), Wish("off"), "did you mean 'new-search'"),
        ({"production": {"f": 1}}, Where("f", "prodution"), Wish("off"), "did you mean 'production'"),
        ({"production": {"f": 1}, "staging": {"f": 1}}, Where("f"), Wish("off"), "no environment was chosen"),
        ({"production": 1}, Where("f", "production"), Wish("off"), "no object of flags"),
        ({"f": True}, Where("f"), Wish("on", serve=True, percentage=20), "no percentage"),
        ({"f": "new"}, Where("f"), Wish("off"), "holds a text, and shall serve true or false"),
        ({"f": {"enabled": True}}, Where("f"), Wish("off", serve="x"), "serves true or false"),
        ({"f": {"enabled": "yes"}}, Where("f"), Wish("off"), "not of the form"),
        ({"f": {"enabled": True, "percentage": 101}}, Where("f"), Wish("off"), "not of the form"),
        ({"f": True}, Where("f"), Wish("on", serve=True, variation="blue"), "no variations"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    tmp_path: Path, document: Dict[str, Any], where: Where, wish: Wish, why: str
) -> None:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps(document))
    with pytest.raises(DeliveryError, match=why):
        changed(path, wish, where)
    assert json.loads(path.read_text()) == document


def test_turning_on_is_pinned_to_what_was_looked_at_and_off_is_not(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text('{"f": {"enabled": false, "percentage": 5}}')
    provider, where = build(Options("json", path=str(path)), Deadline.after(5)), Where("f")
    seen = provider.state(where)
    path.write_text('{"f": {"enabled": true, "percentage": 10}}')
    with pytest.raises(DeliveryError, match="somebody changed flag 'f'"):
        provider.set(where, Wish("on", serve=True, percentage=20), seen)
    provider.set(where, Wish("off"), seen)
    assert path.read_text() == '{"f": {"enabled": false, "percentage": 10}}'
