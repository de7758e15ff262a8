# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytecode that actions are loaded from: kept, never stale, and not needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import pytest

# what ansible-playbook does before it loads an action, and then what the action does
LOADS = """
import importlib, json, sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader([sys.argv[1]])
ours = "ansible_collections.selfheal.delivery.plugins."
importlib.import_module(ours + "plugin_utils._bytecode").keep_bytecode()
module = importlib.import_module(ours + "module_utils._told.words")
print(json.dumps({"said": module.SAID, "cached": module.__spec__.cached, "file": module.__file__,
                  "package": module.__package__}))
"""
BYTECODE = Path(__file__).resolve().parents[3] / "plugins/plugin_utils/_bytecode.py"


@pytest.fixture(name="tree")
def a_tree(tmp_path: Path) -> Path:
    plugins = tmp_path / "tree/ansible_collections/selfheal/delivery/plugins"
    (plugins / "plugin_utils").mkdir(parents=True)
    (plugins / "plugin_utils/_bytecode.py").write_text(BYTECODE.read_text())
    (plugins / "module_utils/_told").mkdir(parents=True)
    (plugins / "module_utils/_told/words.py").write_text("from .more import SAID\n")
    (plugins / "module_utils/_told/more.py").write_text("SAID = 1\n")
    return plugins


def loaded(tree: Path, **env: str) -> Dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-c", LOADS, str(tree.parents[3])]
    done = subprocess.run(command, env={**kept, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said: Dict[str, Any] = json.loads(done.stdout)
    return said


def test_it_is_kept_and_used(tree: Path) -> None:
    first = loaded(tree)
    assert (first["said"], first["file"]) == (1, str(tree / "module_utils/_told/words.py"))
    assert first["package"] == "ansible_collections.selfheal.delivery.plugins.module_utils._told"
    kept = Path(first["cached"])
    assert kept.is_file() and kept.parent == tree / "module_utils/_told/__pycache__"
    before = kept.stat().st_mtime_ns
    assert loaded(tree) == first
    assert kept.stat().st_mtime_ns == before  # it was good as it was


def test_a_change_of_the_source_is_seen(tree: Path) -> None:
    loaded(tree)
    (tree / "module_utils/_told/more.py").write_text("SAID = 1 + 1\n")
    assert loaded(tree)["said"] == 2


def test_it_works_where_nothing_can_be_kept(tree: Path) -> None:
    (tree / "module_utils/_told/__pycache__").write_text("no folder")
    assert loaded(tree)["said"] == 1
    assert loaded(tree, PYTHONDONTWRITEBYTECODE="1")["said"] == 1


@pytest.mark.parametrize("kept", [0, 10, 40], ids=["nothing", "half a header", "half of it"])
def test_bytecode_that_a_full_disk_cut_short_is_not_believed(tree: Path, kept: int) -> None:
    file = Path(loaded(tree)["cached"])
    file.write_bytes(file.read_bytes()[:kept])
    assert loaded(tree)["said"] == 1
