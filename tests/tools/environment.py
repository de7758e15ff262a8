# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the virtual environment of a name ready, and print the path of its Python.

They live outside the checkout, under `${XDG_CACHE_HOME:-~/.cache}/selfheal-delivery`, one for each content of the
lock file and each Python, so that checkouts share them. A lock on a file beside it makes parallel calls wait for each
other; one that was interrupted has no `.ready` mark and is built anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Tuple, Union

from find_python import PythonMissing, find_python

StrPath = Union[str, Path]

ROOT = Path(__file__).resolve().parents[2]

# name: lock file, Pythons in order of preference
ENVIRONMENTS: Dict[str, Tuple[str, Tuple[str, ...]]] = {
    "demo": ("requirements.txt", ("3.11", "3.12", "3.13")),
    "2.19": ("requirements-2.19.txt", ("3.11",)),
    "2.20": ("requirements-2.20.txt", ("3.12",)),
    "2.21": ("requirements-2.21.txt", ("3.13", "3.12")),
    # with the Ansible community package, whose collections the benches compare with: large, and only built for them
    "bench": ("requirements-bench.txt", ("3.11",)),
}


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfheal-delivery"


def build(folder: Path, python: Path, requirements: Path) -> None:
    print(f"setting up {folder.name} with {python} ...", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    pip: List[StrPath] = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    commands: Tuple[List[StrPath], ...] = (
        [python, "-m", "venv", folder],
        # The lock is complete: resolving it again would only cost time.
        [*pip, "install", "--quiet", "--no-deps", "--requirement", requirements],
        [*pip, "check"],
    )
    for command in commands:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=True)
    (folder / ".ready").touch()


def ready(name: str) -> Path:
    """The Python of the environment `name`, built first when it is not there yet."""
    lock, versions = ENVIRONMENTS[name]
    python = find_python(*versions)
    requirements = ROOT / lock
    identity = "import sys; print(sys.version, sys.base_prefix)"
    about = subprocess.run([python, "-c", identity], capture_output=True, check=True).stdout
    key = hashlib.sha256(requirements.read_bytes() + about).hexdigest()[:12]
    folder = cache() / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (folder / ".ready").exists():
            build(folder, python, requirements)
    return folder / "bin/python"


if __name__ == "__main__":
    try:
        print(ready(sys.argv[1]))
    except KeyError:
        sys.exit(f"no environment {sys.argv[1]!r}: there are {', '.join(ENVIRONMENTS)}.")
    except PythonMissing as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"setting up {sys.argv[1]!r} failed: {' '.join(map(str, error.cmd))}")
