# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a Python of a given version that runs: `find_python.py 3.12` prints its path, or says what is missing.

Looked for in this order: the variable `PYTHON_3_12`, the PATH, pyenv's versions, and for root the system's packages.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Optional

import packages

PROBE = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"


class PythonMissing(RuntimeError):
    """No Python of the wanted version runs on this machine."""


def runs(candidate: Path, version: str) -> bool:
    """Whether `candidate` starts, is of `version`, and can make virtual environments (a shim of pyenv may not)."""
    try:
        done = subprocess.run([candidate, "-c", PROBE], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return False
    return done.returncode == 0 and done.stdout.strip() == version


def candidates(version: str) -> Iterator[Path]:
    chosen = os.environ.get("PYTHON_" + version.replace(".", "_"))
    if chosen:
        yield Path(chosen)
    for folder in os.get_exec_path():
        yield Path(folder, f"python{version}")
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"), reverse=True)


def installed(version: str) -> Optional[Path]:
    return next((path for path in candidates(version) if path.is_file() and runs(path, version)), None)


def install(version: str) -> None:
    """Ask the system's package manager for the Python; it may not have it."""
    name = f"python{version}"
    packages.install(name, *([f"{name}-venv"] if shutil.which("apt-get") else []))


def find_python(*versions: str) -> Path:
    """The first of `versions` ("3.13", "3.12") that is here; the system's packages are asked only when none is."""
    found = next(filter(None, map(installed, versions)), None)
    if found is None and os.geteuid() == 0:
        for version in versions:
            install(version)
            found = installed(version)
            if found:
                break
    if found is None:
        first = versions[0]
        raise PythonMissing(
            f"Python {' or '.join(versions)} with its venv module is missing: put python{first} on the PATH, install it"
            f" with pyenv, or set PYTHON_{first.replace('.', '_')} to its path."
        )
    return found


if __name__ == "__main__":
    try:
        print(find_python(*sys.argv[1:]))
    except PythonMissing as error:
        sys.exit(str(error))
