# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real servers of the tests that are written for Node.js, installed once from a locked package.

`tests/testbed/NAME` has a package.json and a committed package-lock.json, which brings the Node.js that they run on.
Installs are kept outside the checkout, one for each content of the lock; no package's install script is run.
"""

from __future__ import annotations

import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import packages
from environment import ROOT, cache

INSTALLED = ("unleash",)
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}  # as Node.js calls them
OLDEST = (8,)  # of npm: older ones do not know the lock's format


class NoPackage(Exception):
    """A server that cannot be installed here; says what to do."""


def npm_tool(name: str) -> Path:
    """The folder with the `node_modules` of `tests/testbed/NAME`; raises NoPackage."""
    module = ROOT / "tests" / "testbed" / name
    described = [(module / file).read_bytes() for file in ("package.json", "package-lock.json")]
    key = hashlib.sha256(b"".join([*described, platform.machine().encode()])).hexdigest()[:12]
    folder = cache() / "npm" / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not folder.exists():
            _install(module, folder)
    return folder


def node(folder: Path) -> Path:
    """The Node.js that the lock brings."""
    machine = platform.machine()
    # not the link in .bin: npm 9 makes none for what is only there for some machines
    return folder / f"node_modules/node-linux-{_MACHINES.get(machine, machine)}/bin/node"


def _install(module: Path, folder: Path) -> None:
    """All or nothing: an install that is interrupted is begun anew."""
    npm = find_npm(module.name)
    print(f"installing {module.name}, once ...", file=sys.stderr, flush=True)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for file in ("package.json", "package-lock.json"):
        shutil.copyfile(module / file, partial / file)
    done = _ran([npm, "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"], partial)
    if done.returncode:
        raise NoPackage(f"{module.name} could not be installed by {npm}: {done.stderr[-2000:]}")
    if not node(partial).exists():
        raise NoPackage(f"{module.name} brings no Node.js for {platform.system()} on {platform.machine()}.")
    partial.rename(folder)


def find_npm(wanted_by: str) -> str:
    """npm, installed when it is missing and the machine's package manager may."""
    why = _unfit()
    if why:
        packages.install("npm")
        why = _unfit()
    if why:
        raise NoPackage(f"{wanted_by} cannot be installed: {why}: install npm {OLDEST[0]} or newer (of Node.js).")
    return shutil.which("npm") or "npm"


def _unfit() -> str:
    """Why the npm that is here does not do; nothing when it does."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is missing"
    done = _ran([npm, "--version"], Path("/"))
    version = done.stdout.strip()
    if done.returncode or not version[:1].isdigit():
        return f"{npm} does not run: {done.stderr.strip()[-200:]}"
    return f"{npm} is {version}" if tuple(int(part) for part in version.split(".")[:1]) < OLDEST else ""


def _ran(command: List[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900
    )


def main() -> int:
    """Where each is, installed now if need be."""
    missing: List[str] = []
    for name in INSTALLED:
        begun = time.monotonic()
        try:
            npm_tool(name)
        except NoPackage as error:
            missing.append(str(error))
        else:
            print(f"{name:<24} {time.monotonic() - begun:>6.1f} s", flush=True)
    print(*missing, sep="\n", end="\n" if missing else "", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
