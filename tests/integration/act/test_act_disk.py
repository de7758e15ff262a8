# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full, at every step, and one that is read-only: a clear error, nothing lost, and the way goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, Dict, Iterator, List

import act_small_disk
import pytest

FULL = ("No space left on device", "File too large")
LOCKED = ("Read-only file system", "Permission denied")


def namespace() -> List[str]:
    """How to get a mount namespace here, as root or as somebody else; empty when there is none to be had."""
    for words in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        try:
            mounted = subprocess.run(
                [*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
            )
        except FileNotFoundError:
            return []
        if mounted.returncode == 0:
            return words
    return []


# a container's root may not mount; what needs no rights is looked at everywhere
KINDS = {"limit": [], **({"mount": words} if (words := namespace()) else {})}


@pytest.fixture(scope="module", params=sorted(KINDS))
def told(request: pytest.FixtureRequest) -> Iterator[Dict[str, Any]]:
    """What came of changing a place on such a disk."""
    with tempfile.TemporaryDirectory(prefix="act-disk-") as folder:
        ran = subprocess.run(
            [*KINDS[request.param], sys.executable, act_small_disk.__file__, request.param, folder],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        yield json.loads(ran.stdout)


def test_full_disk(told: Dict[str, Any]) -> None:
    problems = [case["problem"] for case in told["full"]]
    assert problems[0] and not problems[-1]  # from nothing to plenty
    assert any("deploying 2.0 on" in problem for problem in problems)
    for case in told["full"]:
        # the restart's own `cp` may be what finds no space
        assert not case["problem"] or any(why in case["problem"] for why in FULL) or "restart of" in case["problem"]
        assert "[(" not in case["problem"]
        assert (case["whole"], case["hidden"]) == (True, [])
        assert (case["undone"], case["back"]) == ("", ["1.0", "1.0", True]), case
        assert (case["again"], case["end"]) == ("", ["2.0", "2.0", True]), case


def test_read_only(told: Dict[str, Any]) -> None:
    for case in told["locked"]:
        assert any(why in case["problem"] for why in LOCKED), case
        assert (case["looked"], case["same"]) == ("2.0", True)
