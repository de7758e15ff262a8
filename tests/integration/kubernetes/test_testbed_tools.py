# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The testbed's tools: what is taken from where, and what is said when they cannot be had."""

from __future__ import annotations

from pathlib import Path
from typing import List

import go_tool
import pytest
from child import Child, ChildFailed
from environment import ROOT

MODULE = ROOT / "tests/testbed/etcd"


def program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_all_that_the_tests_run_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert go_tool.main([]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert [line.split()[0] for line in said.out.splitlines()] == [*go_tool.PROGRAMS, *go_tool.CRDS]


def test_what_people_have_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(tmp_path, "etcd", "")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert go_tool.go_tool("etcd") == mine


@pytest.mark.parametrize(
    ("version", "toolchain", "says"),
    [
        ("go1.19.8", "", "too old to fetch a newer one by itself: install Go 1.26.0 or newer"),
        ("go1.24.4", "local", "GOTOOLCHAIN=local forbids to fetch 1.26.0: set GOTOOLCHAIN=auto"),
        (None, "", "Go is missing: install Go 1.26.0 or newer"),
    ],
)
def test_a_go_that_cannot_build_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, toolchain: str, says: str
) -> None:
    asked: List[str] = []
    monkeypatch.setattr(go_tool, "install", asked.append)  # this machine is not the test's to install on
    monkeypatch.setattr(go_tool, "OWN_PLACE", str(tmp_path / "none"))
    if version:
        program(tmp_path, "go", f"echo {version}; echo {toolchain}")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(go_tool.ToolMissing, match=says):
        go_tool.find_go(MODULE)
    assert asked


@pytest.mark.parametrize(("version", "toolchain"), [("go1.26.8 X:nodwarf5", "local"), ("go1.24.4", "auto")])
def test_a_go_that_can_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, toolchain: str) -> None:
    go = program(tmp_path, "go", f"echo {version}; echo {toolchain}")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert go_tool.find_go(MODULE) == str(go)


def test_a_server_that_does_not_come_up_says_its_last_lines(tmp_path: Path) -> None:
    child = Child("etcd", ["sh", "-c", "echo the port is taken; exit 3"], tmp_path)
    with pytest.raises(ChildFailed, match="etcd ended with code 3:\nthe port is taken"):
        child.wait_ready(lambda: False)
