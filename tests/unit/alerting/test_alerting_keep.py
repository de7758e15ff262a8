# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is checked, written whole and read, or it is what it was. The checker here is a program of the test's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.keep import MARK, Wanted, keep
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError

OURS = f"{MARK}alert_rules. Do not edit.\n---\ngroups: []\n"
NEW = f"{OURS}# new\n"


@pytest.fixture
def env(tmp_path: Path) -> Dict[str, str]:
    """A PATH whose promtool and amtool find every text wrong that has BAD in it, and say what they were given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("promtool", "amtool"):
        program = folder / name
        program.write_text('#!/bin/sh\nfor last; do :; done\nif grep BAD "$last"; then echo "in $last"; exit 1; fi\n')
        program.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def put(path: Path, env: Dict[str, str], text: str = NEW, *, checking: bool = False, **more: Any) -> Dict[str, object]:
    reload = more.pop("reload", None)
    return keep(Wanted(str(path), text, more.pop("kind", "rules"), **more), checking=checking, env=env, reload=reload)


def test_it_is_written_once(tmp_path: Path, env: Dict[str, str]) -> None:
    path = tmp_path / "etc/rules/selfheal.yml"
    looked = put(path, env, checking=True)
    assert looked["changed"] and not path.exists()
    first, second = put(path, env), put(path, env)
    assert (first["changed"], second["changed"]) == (True, False)
    assert path.read_text() == NEW and path.stat().st_mode & 0o777 == 0o644
    assert first["diff"] == looked["diff"]
    assert str(first["checked_by"]).endswith("bin/promtool") and "warnings" not in first
    assert first["diff"] == {"before": "", "after": NEW, "before_header": str(path), "after_header": str(path)}
    assert "diff" not in second


def test_what_the_checker_finds_wrong_changes_nothing(tmp_path: Path, env: Dict[str, str]) -> None:
    path = tmp_path / "selfheal.yml"
    path.write_text(OURS)
    with pytest.raises(OptionError, match=rf"promtool finds {path} wrong: BAD in {path}\. Nothing was changed"):
        put(path, env, f"{OURS}BAD\n")
    with pytest.raises(OptionError, match="not shown, because it may hold a secret") as raised:
        put(path, env, f"{OURS}BAD s3cr3t\n", kind="alertmanager", secret=True)
    assert "s3cr3t" not in raised.value.message
    assert path.read_text() == OURS
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "bin"] == ["selfheal.yml"]


def test_without_a_checker_it_is_said_that_nothing_was_checked(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path)}
    path = tmp_path / "selfheal.yml"
    with pytest.raises(OptionError, match="promtool is not there"):
        put(path, nothing, must_check=True)
    with pytest.raises(OptionError, match="/nowhere/promtool is not there"):
        put(path, nothing, checker="/nowhere/promtool")
    assert not path.exists()
    told = put(path, nothing)
    assert told["checked_by"] == "" and told["warnings"] == [f"{path} was not checked: promtool is not on the PATH"]


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, env: Dict[str, str]) -> None:
    path = tmp_path / "rules.yml"
    path.write_text("groups: []\n")
    with pytest.raises(OptionError, match="was written by somebody else"):
        put(path, env)
    assert path.read_text() == "groups: []\n"
    told = put(path, env, force=True)
    assert told["changed"] and path.read_text() == NEW and "groups: []\n" not in str(told["diff"]).split("after")[0]
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(OptionError, match="holds no text"):
        put(path, env, force=True)
    path.write_text("")
    assert put(path, env)["changed"], "an empty file is nobody's"
    with pytest.raises(OptionError, match="cannot be read"):
        put(tmp_path, env)


def test_a_text_without_our_mark_gets_one(tmp_path: Path, env: Dict[str, str]) -> None:
    path = tmp_path / "rules.yml"
    assert put(path, env, "groups: []\n")["changed"] and not put(path, env, "groups: []\n")["changed"]
    assert path.read_text() == f"{MARK}alert_file. Do not edit.\ngroups: []\n"


def test_a_link_is_followed_and_permissions_stay(tmp_path: Path, env: Dict[str, str]) -> None:
    real, link = tmp_path / "real.yml", tmp_path / "link.yml"
    real.write_text(OURS)
    real.chmod(0o600)
    link.symlink_to(real)
    assert put(link, env)["changed"] and link.is_symlink()
    assert real.read_text() == NEW and real.stat().st_mode & 0o777 == 0o600


def test_secrets_are_shown_to_nobody(tmp_path: Path, env: Dict[str, str]) -> None:
    path = tmp_path / "alertmanager.yml"
    told = put(path, env, f"{OURS}s3cr3t\n", kind="alertmanager", secret=True)
    told = {**told, "second": put(path, env, f"{OURS}s3cr3t2\n", kind="alertmanager", secret=True)}
    told = {**told, "third": put(path, env, OURS, kind="alertmanager")}
    assert "s3cr3t" not in str(told) and "not shown" in str(told["diff"])
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("before", [None, OURS])
def test_what_is_not_read_is_not_kept(before: str | None, tmp_path: Path, env: Dict[str, str]) -> None:
    path, asked = tmp_path / "rules.yml", []
    if before is not None:
        path.write_text(before)

    def refuse() -> None:
        asked.append(path.read_text() if path.exists() else None)
        raise PlaceError("it answers HTTP 500")

    with pytest.raises(PlaceError, match="HTTP 500"):
        put(path, env, reload=refuse)
    assert asked == [NEW, before], "once more, with what it had"
    assert (path.read_text() if path.exists() else None) == before
    assert put(path, env, reload=lambda: asked.append("read"))["reloaded"] and asked[-1] == "read"
    assert not put(path, env, reload=refuse)["reloaded"], "nothing new, nothing to read"
    assert not put(path, env, OURS, checking=True, reload=refuse)["reloaded"]


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path, env: Dict[str, str]) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((OptionError, PlaceError), match="Not a directory|File exists|cannot be read"):
        put(tmp_path / "file/rules.yml", env)
    assert os.path.isfile(tmp_path / "file")
