# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that fills up, and one that is read-only, really mounted, in a namespace of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest


def test_a_full_and_a_read_only_disk_are_told_and_lose_nothing(tmp_path: Path, script_env: Dict[str, str]) -> None:
    apart = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespace")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = Path(__file__).with_name("guard_small_disk.py")
    done = subprocess.run(
        [*apart, sys.executable, str(script), str(disk)],
        check=False,
        capture_output=True,
        text=True,
        env=script_env,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    story = json.loads(done.stdout)
    path = disk / "ledger.sqlite"
    assert story == {
        "full": f"The ledger {path} cannot grow: the disk is full. Free some space; nothing was written, so try again.",
        "same": True,
        "verify_full": None,
        "after": [[], None],
        "readonly": f"The ledger {path} cannot be opened for writing. Check that this user may write to the file"
        " and its folder.",
        "create": f"The ledger {disk}/new/ledger.sqlite cannot be created on a read-only file system. Name a path that"
        " can be written to.",
        "too_small": f"The ledger {path} could not be read or written (disk I/O error). Check the disk, its free space"
        " and its quota.",
        "left": [],
    }
