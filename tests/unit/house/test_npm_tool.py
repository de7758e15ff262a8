# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps a server for Node.js from being installed is named; its lock is whole, and names no registry."""

from __future__ import annotations

import json
from pathlib import Path

import npm_tool
import packages
import pytest
from environment import ROOT


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (None, "unleash cannot be installed: npm is missing: install npm 8 or newer"),
        ("echo 6.14.4", "is 6.14.4: install npm 8 or newer"),
        ("echo broken >&2; exit 3", "does not run: broken: install npm 8 or newer"),
        ("[ $1 = --version ] && echo 10.9.0 || { echo E404 >&2; exit 1; }", "could not be installed by"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, complaint: str
) -> None:
    if script is not None:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packages, "install", lambda *names: None)
    with pytest.raises(npm_tool.NoPackage, match=complaint):
        npm_tool.npm_tool("unleash")
    assert not [path for path in (tmp_path / "cache").rglob("unleash-*") if path.is_dir() and path.suffix != ".partial"]


@pytest.mark.parametrize("name", npm_tool.INSTALLED)
def test_every_package_is_pinned_by_its_content_alone(name: str) -> None:
    lock = json.loads((ROOT / "tests/testbed" / name / "package-lock.json").read_text())
    entries = {path: one for path, one in lock["packages"].items() if path}
    assert entries and all("integrity" in one and "resolved" not in one for one in entries.values())
