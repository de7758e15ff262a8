# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written is there after a power cut: the order of fsync and rename, as the kernel is asked for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict, List, Optional

import pytest
from act_place import Place

from ansible_collections.selfheal.delivery.plugins.module_utils._act import durable


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """`fsync <path>` and `rename <path>` in the order in which they were asked for."""
    said: List[str] = []
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def heard(handle: int) -> None:
        said.append(f"fsync {os.readlink(f'/proc/self/fd/{handle}')}")
        fsync(handle)

    def moved(by: Callable[..., None]) -> Callable[..., None]:
        def move(source: str, target: str, **given: Optional[int]) -> None:
            said.append(f"rename {target}")
            by(source, target, **given)

        return move

    monkeypatch.setattr(os, "fsync", heard)
    monkeypatch.setattr(os, "replace", moved(replace))
    monkeypatch.setattr(os, "rename", moved(rename))
    return said


def test_write_json(tmp_path: Path, asked: List[str]) -> None:
    path = str(tmp_path / "book.json")
    durable.write_json(path, {"a": 1})
    assert asked == [f"fsync {path}.new", f"rename {path}", f"fsync {tmp_path}"]
    assert durable.read_json(path) == {"a": 1}
    assert durable.read_json(f"{path}.not") is None


def test_a_write_that_fails_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "book.json")
    durable.write_json(path, {"a": 1})

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.write_json(path, {"a": 2})
    assert durable.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["book.json"]


def test_everything_of_a_release_is_flushed_before_it_gets_its_name(tmp_path: Path, asked: List[str]) -> None:
    place = Place(tmp_path)
    src = Path(place.source("1.0"))
    (src / "deep").mkdir()
    (src / "deep/file").write_text("x")
    (src / "link").symlink_to("deep")
    place.deploy("1.0", src=str(src))
    releases = place.path / "releases"
    named = asked.index(f"rename {releases}/1.0")
    partial = f"fsync {releases}/.1.0.partial"
    for part in ("", "/version", "/deep", "/deep/file", "/.release.json.new"):
        assert partial + part in asked[:named]
    assert asked[named + 1] == f"fsync {releases}"
    # the journal is durable before the switch, and the switch before the next phase
    switched = asked.index(f"rename {place.path}/current")
    journal = f"rename {place.path}/.delivery/journal.json"
    assert asked[:switched].count(journal) == 1
    assert asked[switched - 1] == f"fsync {place.path}/.delivery"
    assert asked[switched + 1] == f"fsync {place.path}"


def test_make_folder_twice_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = os.mkdir

    def faster(path: str, mode: int = 0o777) -> None:
        mkdir(path, mode)
        raise FileExistsError(17, "File exists", path)

    monkeypatch.setattr(os, "mkdir", faster)
    durable.make_folder(str(tmp_path / "a/b"))
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    monkeypatch.undo()
    with pytest.raises(FileExistsError):
        durable.make_folder(str(tmp_path / "file"))


def test_prune_that_cannot_remove_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    for release in ("1.0", "2.0", "3.0", "4.0"):
        place.good(release)
    remove = durable.remove

    def refused(path: str) -> None:
        if path.endswith(".gone"):
            raise PermissionError(13, "Permission denied", path)
        remove(path)

    monkeypatch.setattr(durable, "remove", refused)
    done = place.do(state="promoted", release="4.0", keep=2)
    assert len(done.warnings) == 2 and "release 1.0 could not be removed: Permission denied" in done.warnings[0]
    assert place.names() == [".1.0.gone", ".2.0.gone", "3.0", "4.0"]
    later = place.deploy("5.0")
    assert len(later.warnings) == 2 and "left by a killed run, cannot be removed" in later.warnings[0]


def test_disk_full_while_a_failure_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure itself is what is told, and the journal stays unsettled."""
    place = Place(tmp_path)
    place.good("1.0")
    write = durable.write_json

    def full(path: str, data: Dict[str, object], checkpoint: durable.Checkpoint) -> None:
        if data.get("phase") == "failed":
            raise OSError(28, "No space left on device")
        write(path, data, checkpoint)

    monkeypatch.setattr(durable, "write_json", full)
    with pytest.raises(Exception, match=r"health check of release 2\.0 failed"):
        place.deploy("2.0", broken=True)
    assert (place.journal()["phase"], place.look()["settled"]) == ("checking", False)
