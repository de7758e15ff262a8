# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test does not look at: the plugins of ansible-rulebook, what they say of themselves, and their image."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from dataclasses import MISSING, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Tuple

import pytest
import yaml
from antsibull_docs_parser.parser import Context, parse

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = sorted(ROOT.glob("extensions/eda/plugins/event_*/*.py"))
SOURCES = [path for path in PLUGINS if path.parent.name == "event_source"]
PACKAGE = "ansible_collections.selfheal.delivery.extensions.eda.plugins"
# ansible-rulebook reads it, and a source may document it
ENGINES_OWN = {"feedback"}
TYPES = {"str", "path", "int", "float", "bool", "list", "dict", "raw"}


def blocks(path: Path) -> Dict[str, Any]:
    """The YAML of DOCUMENTATION and EXAMPLES."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
            if name in ("DOCUMENTATION", "EXAMPLES"):
                found[name] = yaml.safe_load(ast.literal_eval(statement.value))
    return found


def full_name(path: Path) -> str:
    return f"selfheal.delivery.{path.stem}"


def texts(told: Mapping[str, Any]) -> Iterator[str]:
    """Every text with markup."""
    for value in [
        told["short_description"],
        told["description"],
        *(o["description"] for o in told["options"].values()),
    ]:
        yield from [value] if isinstance(value, str) else value


def calls(value: object, name: str) -> Iterator[Mapping[str, Any]]:
    """The options that the examples give to the plugin."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == name:
                yield inner or {}
            yield from calls(inner, name)
    elif isinstance(value, list):
        for item in value:
            yield from calls(item, name)


def real_options(path: Path) -> Dict[str, Any]:
    """The options that the code reads; a source has them with their defaults in its class `Options`."""
    module = import_module(f"{PACKAGE}.{path.parent.name}.{path.stem}")
    if path in SOURCES:
        return {option.name: option.default for option in fields(module.Options)}
    # a filter names all that there are to who gives one that there is not
    (refused,) = module.main({}, nosuch=True)
    assert "'nosuch'" in refused["reason"], refused
    return dict.fromkeys(refused["reason"].rpartition("there are ")[2].split(", "), MISSING)


@pytest.mark.parametrize("path", PLUGINS, ids=full_name)
def test_the_documentation_is_whole_and_its_markup_is_right(path: Path) -> None:
    told = blocks(path)["DOCUMENTATION"]
    assert told["short_description"] and told["description"]
    for name, option in told["options"].items():
        assert option["type"] in TYPES, name
        assert (option["type"] == "list") == ("elements" in option), name
        assert not {*option} - {"description", "type", "required", "default", "choices", "elements", "version_added"}
    for text in texts(told):
        parse(text, Context(), errors="exception", strict=True)


@pytest.mark.parametrize("path", PLUGINS, ids=full_name)
def test_every_option_that_is_read_is_documented_and_no_other(path: Path) -> None:
    documented = blocks(path)["DOCUMENTATION"]["options"]
    assert {*documented} - ENGINES_OWN == {*real_options(path)} - ENGINES_OWN


@pytest.mark.parametrize("path", SOURCES, ids=full_name)
def test_every_default_is_documented_as_it_is(path: Path) -> None:
    documented, real = blocks(path)["DOCUMENTATION"]["options"], real_options(path)
    for name, default in real.items():
        told = documented[name].get("default", "")
        usual = list(default) if isinstance(default, tuple) else "" if default is MISSING else default
        assert (told, bool(told)) == (usual, bool(usual)) or (not told and not usual), name


@pytest.mark.parametrize("path", PLUGINS, ids=full_name)
def test_the_examples_use_it_with_options_that_there_are(path: Path) -> None:
    told = blocks(path)
    used = list(calls(told["EXAMPLES"], full_name(path)))
    assert used
    needed = {name for name, option in told["DOCUMENTATION"]["options"].items() if option.get("required")}
    for options in used:
        assert {*options} <= {*told["DOCUMENTATION"]["options"]} | ENGINES_OWN
        assert needed <= {*options}


def test_the_plugins_run_on_the_oldest_python_of_ansible_rulebook(python39: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    subprocess.run([python39, "-m", "py_compile", *map(str, PLUGINS)], env=env, check=True)


def test_a_plugin_stands_alone() -> None:
    """ansible-rulebook loads it by its path, where neither a relative import nor the collection is found."""
    for path in PLUGINS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not node.level and not str(node.module).startswith("ansible"), f"{path}:{node.lineno}"


def test_galaxy_is_told_of_the_folders_that_there_are() -> None:
    told = yaml.safe_load((ROOT / "meta/extensions.yml").read_text(encoding="utf-8"))
    folders = sorted(str(path.relative_to(ROOT / "extensions")) for path in {path.parent for path in PLUGINS})
    assert [item["args"]["ext_dir"] for item in told["extensions"]] == folders


def requirements(path: str) -> List[Tuple[str, str]]:
    lines = [line for line in (ROOT / path).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return [(line.partition("=")[0].strip("><~"), line) for line in lines]


def test_the_engine_is_the_one_that_is_tested() -> None:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    wanted = dict(requirements("extensions/eda/requirements.txt"))
    assert wanted["ansible-rulebook"] in groups["events"]
    assert "aiohttp" in wanted


def test_ansible_builder_takes_the_decision_environment(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("ansible-builder"), "create", "--output-filename", "Containerfile"]
    command += ["-f", ROOT / "extensions/eda/decision-environment.yml", "-c", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    made = tmp_path / "_build"
    assert "java-17-openjdk-headless" in (made / "bindep.txt").read_text()
    assert "ansible-rulebook==" in (made / "requirements.txt").read_text()
    assert "selfheal.delivery" in (made / "requirements.yml").read_text()
    assert "ansible-core~=2.19" in (tmp_path / "Containerfile").read_text()
