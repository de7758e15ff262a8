# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real servers of the tests that are written in Go, built once from locked modules, or found on the PATH.

Each stands in a module of its own, `tests/testbed/NAME` with one `tool` line and a committed go.sum, because what they
depend on differs. Builds are kept outside the checkout, one for each content of the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from environment import ROOT, cache


class ToolMissing(Exception):
    """A real component that can neither be found nor be built here."""


def go_tool(name: str) -> Path:
    """The program `name`; raises ToolMissing with what has to be installed."""
    there = shutil.which(name)
    if there:
        return Path(there)
    module = ROOT / "tests" / "testbed" / name
    lock = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()
    folder = cache() / "go" / f"{name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / name).exists():
            _build(module, folder, name)
    return folder / name


def _build(module: Path, folder: Path, name: str) -> None:
    go = shutil.which("go")
    if go is None:
        version = next(line for line in (module / "go.mod").read_text().splitlines() if line.startswith("go "))
        raise ToolMissing(
            f"{name} is not on the PATH, and cannot be built: install {version} or newer, or {name} itself"
        )
    print(f"building {name}, once ...", file=sys.stderr, flush=True)
    partial = folder / "partial"
    command = [go, "build", "-mod=readonly", "-ldflags=-s -w", "-o", f"{partial}/", "tool"]
    done = subprocess.run(command, cwd=module, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolMissing(f"{name} could not be built: {done.stderr[-2000:]}")
    os.replace(partial / name, folder / name)


if __name__ == "__main__":
    try:
        print(go_tool(sys.argv[1]))
    except ToolMissing as error:
        sys.exit(str(error))
