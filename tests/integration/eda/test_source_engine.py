# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source alertmanager in ansible-rulebook with its feedback queue: done is what the engine has confirmed."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Dict, List

import pytest
import yaml
from rulebook import Rulebook, alert, notification, running

BOOK = [
    {
        "name": "confirmed",
        "hosts": "localhost",
        "sources": [
            {
                "name": "confirming",
                "selfheal.delivery.alertmanager": {
                    "port": "{{ selfheal_port }}",
                    "token_file": "{{ selfheal_token_file }}",
                    "spool": "{{ selfheal_spool }}",
                    "feedback": True,
                },
                "filters": [{"selfheal.delivery.alerts": {}}],
            }
        ],
        "rules": [
            {
                "name": "seen",
                "condition": "event.kind is defined",
                "action": {"debug": {"msg": "SEEN {{ event.name }}."}},
            }
        ],
    }
]


@pytest.mark.xdist_group("source_engine")
def test_what_the_engine_confirmed_is_done_and_the_rest_comes_again(
    tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    (tmp_path / "book.yml").write_text(yaml.safe_dump(BOOK))
    (tmp_path / "hosts").write_text("localhost ansible_connection=local\n")
    book = Rulebook(
        tmp_path / "run", ansible_env, str(tmp_path / "book.yml"), inventory=tmp_path / "hosts", persistence=True
    )
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
