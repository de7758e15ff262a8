# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles say they take is what they take, and the roles call each other with just that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
INTERNAL = ("settle", "undo")
# nothing but a place may stop the way back, and nothing that tells of it either
UNCHECKED = (*INTERNAL, "notify")
PREFIX = "selfheal.delivery."

# rollback_decide and kill_switch_decide take all of their role's options, and have their types; respond takes what the
# play before it found out
CHECKED_BY_ITS_TASKS = [
    ("playbooks/respond.yml", "respond"),
    ("roles/respond/tasks/back.yml", "rollback"),
    ("roles/respond/tasks/main.yml", "kill_switch"),
    ("roles/kill_switch/tasks/next.yml", "rollback"),
]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(role: str) -> Dict[str, Mapping[str, Any]]:
    spec: Dict[str, Mapping[str, Any]] = load(ROOT / "roles" / role / "meta/argument_specs.yml")["argument_specs"][
        "main"
    ]["options"]
    return spec


def defaults(role: str) -> Mapping[str, object]:
    told: Mapping[str, object] = load(ROOT / "roles" / role / "defaults/main.yml")
    return told


def is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def tasks(things: object) -> Iterator[Mapping[str, Any]]:
    """Every task in a tasks file or a playbook, blocks and plays included."""
    for thing in things if isinstance(things, list) else []:
        yield thing
        for inner in ("tasks", "block", "rescue", "always"):
            yield from tasks(thing.get(inner))


def call_of(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the task says of the role that it calls, if it calls one."""
    return task.get("ansible.builtin.include_role") or task.get("ansible.builtin.import_role") or {}


def includes() -> List[Tuple[str, str, Mapping[str, Any]]]:
    """(file, role, task) of each call of one of our own roles."""
    files = [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]
    found = []
    for path in sorted(files):
        for task in tasks(load(path)):
            name = call_of(task).get("name", "")
            if name.startswith(PREFIX):
                found.append((path.relative_to(ROOT).as_posix(), name[len(PREFIX) :], task))
    return found


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_documented_as_it_is(role: str) -> None:
    spec, real = options(role), defaults(role)
    assert set(real) <= set(spec)
    fixed = {name: value for name, value in real.items() if not is_template(value)}
    assert {name: spec[name].get("default") for name in fixed} == fixed
    computed = set(real) - set(fixed)
    assert not [name for name in computed if "default" in spec[name]]


@pytest.mark.parametrize("role", ROLES)
def test_what_has_no_default_is_required_or_comes_from_the_inventory(role: str) -> None:
    spec, real = options(role), defaults(role)
    others = [name for name in spec if name not in real]
    assert all(spec[name].get("required") or name.startswith("delivery_") for name in others)
    assert all(name.startswith((f"{role}_", "delivery_")) for name in spec)


@pytest.mark.parametrize("role", ROLES)
def test_the_defaults_pass_the_roles_own_validation(role: str) -> None:
    spec = options(role)
    given = {name: "x" for name, option in spec.items() if option.get("required")}
    result = ArgumentSpecValidator(spec).validate(given, validate_role_argument_spec=True)
    assert result.error_messages == []


@pytest.mark.parametrize("role", ROLES)
def test_every_option_that_is_not_required_has_a_documented_type(role: str) -> None:
    for name, option in options(role).items():
        assert option["type"] in ("str", "bool", "int", "float", "list", "dict", "path", "raw"), name
        assert option["description"], name
        assert (option["type"] == "list") == ("elements" in option), name


@pytest.mark.parametrize(("where", "role", "task"), includes(), ids=lambda value: str(value)[:40])
def test_a_role_is_called_with_what_it_takes(where: str, role: str, task: Mapping[str, Any]) -> None:
    spec, given = options(role), task.get("vars") or {}
    assert set(given) <= set(spec), where
    # the service is a variable of the whole play
    needed = {name for name, option in spec.items() if option.get("required")} - {"delivery_service"}
    assert needed <= set(given), where


@pytest.mark.parametrize(("where", "role", "task"), includes(), ids=lambda value: str(value)[:40])
def test_nothing_but_a_place_may_stop_its_way_back(where: str, role: str, task: Mapping[str, Any]) -> None:
    unchecked = role in UNCHECKED or (where, role) in CHECKED_BY_ITS_TASKS
    assert (call_of(task).get("rolespec_validate") is False) == unchecked, where


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_of_a_role_names_every_option(role: str) -> None:
    readme = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    missing = [name for name in options(role) if f"`{name}`" not in readme]
    assert not missing
