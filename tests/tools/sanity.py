# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run all of `ansible-test sanity` on what the artifact ships, with the ansible-core of the Python that runs this.

`sanity.py [arguments of ansible-test sanity]`. Tests and tools are not shipped: ruff and the style check hold them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List

from ansible.release import __version__ as core
from ansible_test._internal import python_requirements
from find_python import find_python
from tree_copy import ROOT, build_ignore, copy_tree, listed, shipped

BOOTSTRAP = Path(__file__).with_name("get_pip.py")
OLDEST = "3.9"  # what a place may have; what runs there must compile and import on it


def provide_bootstrap() -> None:
    """Put our bootstrap of pip where ansible-test would download one to; one that is there already stays."""
    pinned = re.findall(r"pip='([\d.]+)'", Path(python_requirements.__file__).read_text(encoding="utf-8"))
    folder = Path.home() / ".ansible/test/cache"
    folder.mkdir(parents=True, exist_ok=True)
    for version in pinned:
        target = folder / f"get_pip_{version.replace('.', '_')}.py"
        if not target.exists():
            shutil.copyfile(BOOTSTRAP, target)


def run(version: str, tree: Path, *arguments: str) -> bool:
    start = time.monotonic()
    ansible_test = str(Path(sys.executable).with_name("ansible-test"))
    command = [ansible_test, "sanity", "--local", "--python", version, "--color", "no", *arguments]
    ok = subprocess.run(command, cwd=tree, stdin=subprocess.DEVNULL, check=False).returncode == 0
    took = time.monotonic() - start
    print(f"sanity of {core} on Python {version}: {'ok' if ok else 'FAILED'} in {took:.0f} s", flush=True)
    return ok


def main(arguments: List[str]) -> int:
    provide_bootstrap()
    tree = copy_tree(ROOT / "build/sanity" / core, shipped(listed(), build_ignore()))
    # A repository of its own: ansible-test would find the one around it, which ignores build/ and so has no file there.
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    ok = run("%d.%d" % sys.version_info[:2], tree, *arguments)
    if not arguments:
        # ansible-test looks for interpreters on the PATH alone.
        os.environ["PATH"] = f"{find_python(OLDEST).parent}{os.pathsep}{os.environ['PATH']}"
        ok &= run(OLDEST, tree, "--test", "compile", "--test", "import")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
