# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What somebody wrote into an alert is not executed, wherever in it: by real ansible-playbooks, with real exploits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Tuple

import pytest
import yaml
from ansible_run import Run

Play = Callable[..., Tuple[int, str]]
ALERT = {"kind": "alert", "name": "ShopErrors", "id": "1"}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Is there as soon as an exploit was executed."""
    return tmp_path / "canary-is-dead"


@pytest.fixture
def exploit(canary: Path) -> str:
    return "{{ lookup('pipe', 'touch %s') }}" % canary


@pytest.fixture
def play(tmp_path: Path, ansible_env: Mapping[str, str]) -> Play:
    """Run a playbook on an inventory with a service of two places."""
    place = {"ansible_connection": "local"}
    inventory = tmp_path / "inventory.json"
    inventory.write_text(json.dumps({"shop": {"hosts": {"web1": place, "web2": place}}}))

    def run(playbook: object, *arguments: str, **variables: object) -> Tuple[int, str]:
        given = tmp_path / "given.json"
        given.write_text(json.dumps({"delivery_ledger": {"path": str(tmp_path / "ledger.db")}, **variables}))
        command = ["ansible-playbook", "-i", str(inventory), "-e", f"@{given}", *arguments, str(playbook)]
        ran = Run(command, ansible_env)
        return ran.end(), ran.output

    return run


def other_delimiters(canary: Path) -> str:
    """An exploit with none of the usual delimiters in it."""
    return f"#jinja2: variable_start_string:'[%', variable_end_string:'%]'\n[% lookup('pipe', 'touch {canary}') %]"


def positions(exploit: str, canary: Path) -> Dict[str, object]:
    """Every place that a text can have in what is handed on, each in a variable of its own."""
    statement = "{% if lookup('pipe', 'touch " + str(canary) + "') %}{% endif %}"
    return {
        "whole": exploit,
        "within": f"errors of {exploit} are high",
        "statement": statement,
        "comment": "{# nothing #}",
        "header": other_delimiters(canary),
        "value": {**ALERT, "name": exploit},
        "evidence": {**ALERT, "evidence": {"labels": [{"pod": "web-1"}, {"pod": ["x", exploit]}]}},
        "key": {**ALERT, "evidence": {"labels": {exploit: "x"}}},
        "listed": ["shop", [exploit]],
    }


def test_nothing_is_executed_by_looking_wherever_it_stands(
    tmp_path: Path, play: Play, canary: Path, exploit: str
) -> None:
    bad = positions(exploit, canary)
    good = {"plain": {**ALERT, "at": 1.5, "evidence": [None, True, "100 % { of } #1"]}, "nothing": ""}
    tasks: List[Dict[str, Any]] = [
        {"name": name, "selfheal.delivery.plain_variables": {"names": [name]}, "ignore_errors": name in bad}
        for name in [*bad, *good, "never_set"]
    ]
    book = tmp_path / "look.yml"
    book.write_text(json.dumps([{"hosts": "localhost,all", "gather_facts": False, "tasks": tasks}]))
    status, said = play(book, **bad, **good)
    assert status == 0, said
    assert f"ignored={len(bad)} " in said and said.count("fatal: [localhost]") == len(bad), said
    assert "evidence['evidence']['labels'][1]['pod'][1] holds a template" in said
    assert "a key of key['evidence']['labels'] holds a template" in said
    assert not canary.exists()
    assert canary.name not in said  # what it shows of a text ends before


@pytest.mark.parametrize("arguments", [(), ("--limit", "web1", "--tags", "none")])
def test_the_playbooks_refuse_before_anything_is_rendered(
    arguments: Tuple[str, ...], play: Play, canary: Path, exploit: str
) -> None:
    status, said = play("selfheal.delivery.rollback", *arguments, delivery_service=exploit, rollback_trigger=ALERT)
    assert status != 0 and "delivery_service holds a template" in said
    trigger = {**ALERT, "name": exploit}
    status, said = play("selfheal.delivery.rollback", *arguments, delivery_service="shop", rollback_trigger=trigger)
    assert status != 0 and "rollback_trigger['name'] holds a template" in said
    status, said = play("selfheal.delivery.disable_flag", *arguments, delivery_service="shop", kill_switch_flag=exploit)
    assert status != 0 and "kill_switch_flag holds a template" in said
    if not arguments:  # it runs on localhost, and nowhere else
        said_by = {"delivery_command": "pause", "delivery_reason": exploit}
        status, said = play("selfheal.delivery.control", delivery_service="shop", **said_by)
        assert status != 0 and "delivery_reason holds a template" in said
    assert not canary.exists()


def test_without_the_look_it_is_executed(tmp_path: Path, play: Play, canary: Path, exploit: str) -> None:
    """The hole that the look is for: the role's own validation renders its arguments, and a play its hosts."""
    book = tmp_path / "role.yml"
    role = {"gather_facts": False, "roles": ["selfheal.delivery.rollback"]}
    book.write_text(json.dumps([{"hosts": "shop", **role}]))
    play(book, delivery_service="shop", rollback_trigger={**ALERT, "evidence": {"text": exploit}})
    assert canary.exists()
    canary.unlink()
    book.write_text(json.dumps([{"hosts": "{{ groups[delivery_service] }}", **role}]))
    play(book, delivery_service=other_delimiters(canary))
    assert canary.exists()


@pytest.mark.parametrize(
    ("name", "handed_on"),
    [
        (
            "rollback",
            ["rollback_trigger", "rollback_release", "rollback_reason", "rollback_approved", "rollback_after"],
        ),
        ("disable_flag", [f"kill_switch_{what}" for what in ("flag", "reason", "trigger", "response", "approved")]),
        ("enable_flag", [f"kill_switch_{what}" for what in ("flag", "reason", "serve")]),
        ("control", [f"delivery_{what}" for what in ("command", "reason", "decision", "for", "ends_at")]),
    ],
)
def test_the_look_comes_first_and_at_all_that_is_handed_on(checkout: Path, name: str, handed_on: List[str]) -> None:
    first = yaml.safe_load((checkout / f"playbooks/{name}.yml").read_text(encoding="utf-8"))[0]
    look = first["tasks"][0]
    looked_at = look["selfheal.delivery.plain_variables"]["names"]
    assert {"delivery_service", "delivery_environment", *handed_on} <= set(looked_at)
    assert look["tags"] == ["always"]
