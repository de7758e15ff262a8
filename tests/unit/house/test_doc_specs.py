# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation says of each option, fragments included, is what the argument specs do.

ansible-test compares a module with its own spec, but not what an action of the same name takes on the controller.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = "ansible_collections.selfheal.delivery.plugins"
MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/*.py"))
ACTIONS = sorted(path.stem for path in ROOT.glob("plugins/action/*.py"))
Spec = Mapping[str, Mapping[str, Any]]


class Captured(BaseException):
    """Carries the argument spec out of a module's main; no handler of the module may catch it."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec


def capture(self: AnsibleModule, argument_spec: Spec, **_constraints: object) -> None:
    raise Captured(argument_spec)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Spec]:
    """The options of every module, as ansible-doc prints them."""
    names = [f"selfheal.delivery.{name}" for name in MODULES]
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-doc"), "--json", "--type", "module", *names],
        env={
            "PATH": str(Path(sys.executable).parent),
            "HOME": str(tmp_path_factory.mktemp("home")),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    return {name: answer[f"selfheal.delivery.{name}"]["doc"].get("options", {}) for name in MODULES}


def module_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """The spec that the module gives to AnsibleModule; empty where the file is documentation for an action."""
    main = getattr(importlib.import_module(f"{PLUGINS}.modules.{name}"), "main", None)
    if main is None:
        return {}
    monkeypatch.setattr(AnsibleModule, "__init__", capture)
    with pytest.raises(Captured) as raised:
        main()
    return raised.value.spec


def differences(documented: Spec, spec: Spec, inner: Spec, where: str = "") -> Iterator[str]:
    """What the documentation and `spec` say differently.

    `inner` is the spec of the module that an action of the same name calls on the place: ansible-test holds the
    documentation to that one, so that an option which only the action requires is documented as optional.
    """
    merged = {name: {**inner.get(name, {}), **spec.get(name, {})} for name in {*spec, *inner}}
    for name in sorted(documented.keys() ^ merged.keys()):
        yield f"{where}{name}: only in the {'documentation' if name in documented else 'argument spec'}"
    for name in sorted(documented.keys() & merged.keys()):
        told, real = documented[name], merged[name]
        for key, fallback in (("type", "str"), ("elements", None), ("required", False), ("default", None)):
            allowed = (real.get(key, fallback), inner.get(name, real).get(key, fallback))
            if told.get(key, fallback) not in allowed:
                yield f"{where}{name}: {key} is documented as {told.get(key, fallback)!r}, and is {allowed[0]!r}"
        for key in ("choices", "aliases"):
            if sorted(told.get(key) or []) != sorted(real.get(key) or []):
                yield f"{where}{name}: {key} are documented as {told.get(key)}, and are {real.get(key)}"
        parts = inner.get(name, {}).get("options") or {}
        yield from differences(told.get("suboptions") or {}, real.get("options") or {}, parts, f"{where}{name}.")


@pytest.mark.parametrize("name", MODULES)
def test_the_documentation_of_a_module_is_what_it_takes(
    name: str, documented: Mapping[str, Spec], monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = module_spec(name, monkeypatch)
    outer = importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule.SPEC if name in ACTIONS else inner
    assert list(differences(documented[name], outer, inner)) == []


def test_every_action_has_its_documentation_in_a_module() -> None:
    assert set(ACTIONS) <= set(MODULES)


def test_every_module_is_in_the_action_group() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))
    assert runtime["action_groups"]["all"] == MODULES
