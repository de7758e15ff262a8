# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source alertmanager in ansible-rulebook with its feedback queue: done is what the engine has confirmed."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from rulebook import Rulebook, alert, notification, running


def rulebook_of(**options: Any) -> List[Dict[str, Any]]:
    """A rulebook that says which alerts it sees, and their items; `options` are the source's."""
    given = {name: f"{{{{ selfheal_{name} }}}}" for name in ("port", "token_file", "spool")}
    source = {"name": "alertmanager", "selfheal.delivery.alertmanager": {**given, **options}}
    seen = {"debug": {"msg": "SEEN {{ event.name }}. ITEM {{ event.ack[0] }}."}}
    rule = {"name": "seen", "condition": "event.kind is defined", "action": seen}
    source["filters"] = [{"selfheal.delivery.alerts": {}}]
    return [{"name": "sees", "hosts": "localhost", "sources": [source], "rules": [rule]}]


def made(folder: Path, env: Dict[str, str], **options: Any) -> Rulebook:
    (folder / "book.yml").write_text(yaml.safe_dump(rulebook_of(**options)))
    (folder / "hosts").write_text("localhost ansible_connection=local\n")
    return Rulebook(folder / "run", env, str(folder / "book.yml"), inventory=folder / "hosts", persistence=True)


@pytest.mark.xdist_group("source_engine")
def test_what_the_engine_confirmed_is_done_and_the_rest_comes_again(
    tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    book = made(tmp_path, ansible_env, feedback=True)
    names: List[str] = []

    def post(number: int) -> None:
        group = [f"A{number}-{part}" for part in range(3)]
        assert book.post(notification([alert(name, f"s{number}", time.time()) for name in group])) == 200
        names.extend(group)

    def seen() -> List[str]:
        return re.findall(r"SEEN (\S+)\.", book.log)

    with running(book):
        for number in range(4):
            post(number)
        book.wait_idle(60)  # once each of the three events of a body was confirmed
        assert book.count("alerts", "done") == len(names)
        assert sorted(set(seen())) == sorted(names)
        for number in range(4, 8):
            post(number)
        book.kill()
        book.start()
        book.wait_idle(60)
        book.wait(lambda: set(seen()) == set(names), "every alert")


@pytest.mark.xdist_group("source_engine")
def test_the_engine_drops_what_it_had_before_a_crash_but_no_new_attempt(
    tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    book = made(tmp_path, ansible_env, wait_for="playbook", slots=1, again_after=1)
    first, second = (notification([alert(name, "shop", time.time())]) for name in ("First", "Second"))

    def seen(name: str) -> List[str]:
        return re.findall(rf"SEEN {name}\. ITEM (\S+)\.", book.log)

    def answer(name: str, word: str = "") -> None:
        (book.spool / "done" / f"{seen(name)[-1]}{word}").touch()
        book.wait_idle(10)

    with running(book):
        assert book.post(first) == 200
        book.wait(lambda: seen("First"), "the first alert", 20)
        answer("First", ".again")
        time.sleep(1.5)
        assert book.post(first) == 200
        book.wait(lambda: len(seen("First")) == 2, "the same alert, another time", 20)
        answer("First")
        assert book.post(second) == 200
        book.wait(lambda: seen("Second"), "the second alert", 20)
        time.sleep(1)
        book.kill()
        book.start()
        book.wait(lambda: book.count("alerts", "emitted") == 1, "it is emitted again", 20)
        time.sleep(2)
        assert len(seen("Second")) == 1
        answer("Second")
        assert len(set(seen("First"))) == 1
