# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tasks call, with flags in a real file and with a provider that nobody answers for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import change, look_at, served_to
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import FlagError

SECRET = "0f5ecrettoken0000"


@pytest.fixture
def flag(tmp_path: Path) -> Dict[str, Any]:
    path = tmp_path / "flags.json"
    path.write_text('{"search": true, "colour": "blue"}')
    return {"flag": "search", "provider": {"type": "json", "path": str(path)}}


def test_off_and_what_is_said_of_it(flag: Dict[str, Any]) -> None:
    assert change({**flag, "state": False}, dry=True)["changed"] and served_to(flag).value is True
    told = change({**flag, "state": False}, dry=False)
    assert (told["changed"], told["status"]) == (True, "effective")
    looked = look_at(flag)
    assert (looked["changed"], looked["provider"]) == (False, "json")
    assert looked["served"] == told["served"] and served_to(flag).value is False
    assert json.loads(Path(flag["provider"]["path"]).read_text()) == {"search": False, "colour": "blue"}


def test_an_error_tells_as_much_as_a_result(flag: Dict[str, Any]) -> None:
    with pytest.raises(FlagError, match="did you mean 'search'") as raised:
        change({**flag, "flag": "serch", "state": "off"}, dry=False)
    assert raised.value.details["status"] == "unverified" and raised.value.details["changed"] is False
    assert raised.value.details.keys() >= {"before", "after", "served", "call_took", "effective_after"}
    for ask in (look_at, served_to):
        with pytest.raises(FlagError, match="did you mean"):
            ask({**flag, "flag": "serch"})
    with pytest.raises(OptionError):
        look_at({"flag": "search", "provider": {"type": "file"}})


def test_who_does_not_answer_is_named_and_the_token_is_not(flag: Dict[str, Any]) -> None:
    provider = {"type": "unleash", "url": "http://127.0.0.1:1", "token": SECRET, "client_token": f"a:b.{SECRET}"}
    task = {**flag, "provider": provider, "environment": "b", "deadline": 2.0}
    for ask in (lambda: change({**task, "state": "off"}, dry=False), lambda: look_at(task), lambda: served_to(task)):
        with pytest.raises(FlagError) as raised:
            ask()
        assert "refuses the connection" in raised.value.message
        assert SECRET not in raised.value.message + str(raised.value.details)


def test_names_that_others_chose_cannot_write_lines_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"a\nfatal: [host]\x1b[31m": True, "z" * 5000: True}))
    for ask in (look_at, served_to, lambda task: change({**task, "state": "off"}, dry=False)):
        with pytest.raises(FlagError, match="no flag 'b'") as raised:
            ask({"flag": "b", "provider": {"type": "json", "path": str(path)}})
        assert raised.value.message.isprintable() and len(raised.value.message) < 500
