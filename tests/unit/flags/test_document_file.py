# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags in a file: replaced whole, as the same owner's, and never behind another writer's back."""

from __future__ import annotations

import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.document import FileDocument, Moved, altered
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.json_file import build
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    Deadline,
    FlagError,
    Options,
    Where,
    Wish,
)


def document(path: Path, seconds: float = 5) -> FileDocument:
    return FileDocument(str(path), Deadline.after(seconds))


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text('{"a": true, "b": true}\n')
    return path


def switched(key: str) -> Any:
    def edit(found: Dict[str, Any]) -> Dict[str, Any]:
        return {**found, key: False}

    return edit


def test_mode_and_owner_stay_and_a_poller_sees_another_time(flags: Path) -> None:
    flags.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(flags, 12345, 23456)
    os.utime(flags, ns=(2**62, 2**62))  # a clock that was wrong
    before = flags.stat()
    altered(document(flags), Deadline.after(5), switched("a"))
    after = flags.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_mtime_ns > before.st_mtime_ns
    assert flags.read_text() == '{"a": false, "b": true}\n'
    assert os.listdir(flags.parent) == ["flags.json"]


def test_a_link_goes_on_leading_to_its_file(flags: Path) -> None:
    link = flags.parent / "current.json"
    link.symlink_to("flags.json")
    altered(document(link), Deadline.after(5), switched("b"))
    assert link.is_symlink()
    assert json.loads(flags.read_text()) == {"a": True, "b": False}


def test_nothing_is_written_when_nothing_changes(flags: Path) -> None:
    before = flags.stat()
    altered(document(flags), Deadline.after(5), lambda found: found)
    after = flags.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_somebody_else_wrote_is_not_overwritten(flags: Path) -> None:
    ours = document(flags)
    found, revision = ours.read()
    flags.write_text('{"a": true, "b": 7}\n')
    with pytest.raises(Moved):
        ours.write({**found, "a": False}, revision)
    assert flags.read_text() == '{"a": true, "b": 7}\n'


def test_a_lock_is_waited_for_until_the_deadline(flags: Path) -> None:
    with flags.open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(FlagError, match="locked by another run"):
            altered(document(flags, 0.1), Deadline.after(0.1), switched("a"))
    altered(document(flags), Deadline.after(5), switched("a"))


def test_fifty_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    names = [f"flag-{number}" for number in range(50)]
    path.write_text(json.dumps(dict.fromkeys(names, True), indent=2))

    def off(name: str) -> None:
        deadline = Deadline.after(60)
        provider = build(Options("json", path=str(path)), deadline)
        where, wish = Where(name), Wish("off")
        provider.set(where, wish, provider.state(where))

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(off, names))
    assert path.read_text() == json.dumps(dict.fromkeys(names, False), indent=2)


def test_what_is_left_of_a_killed_run_is_in_nobodys_way(flags: Path) -> None:
    (flags.parent / ".flags.json.new").write_text("half")
    altered(document(flags), Deadline.after(5), switched("a"))
    assert os.listdir(flags.parent) == ["flags.json"]


def test_what_is_no_file_of_flags_is_refused_and_left(tmp_path: Path, flags: Path) -> None:
    folder, pipe, big, binary = (tmp_path / name for name in ("folder", "pipe", "big", "binary"))
    folder.mkdir()
    os.mkfifo(pipe)
    with big.open("wb") as stream:
        stream.truncate(5 * 2**20)
    binary.write_bytes(b"\xff{}")
    for path, why in (
        (folder, "not a regular file"),
        (pipe, "not a regular file"),
        (big, "larger than 4 MiB"),
        (binary, "not text in UTF-8"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(FlagError, match=why):
            document(path).read()
    os.link(flags, tmp_path / "second")
    with pytest.raises(FlagError, match="hard link"):
        document(flags).read()


def test_options_that_name_no_place_or_two_are_refused() -> None:
    cases: List[Tuple[Dict[str, Any], str]] = [
        ({}, "provider has no path"),
        ({"path": "flags.json"}, "not an absolute path"),
        ({"kind": "configmap"}, "did you mean 'ConfigMap'"),
        ({"kind": "FeatureFlag", "name": "n"}, "unknown for the type json"),
        ({"name": "n", "path": "/f"}, "no kind"),
        ({"kind": "ConfigMap", "name": "n", "path": "/f"}, "two places"),
        ({"kind": "ConfigMap"}, "no name"),
    ]
    for given, why in cases:
        with pytest.raises(OptionError, match=why):
            build(Options("json", **given), Deadline.after(1))
