# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the whole of `ansible-test sanity` on one ansible-core: `sanity.py 2.19 [arguments]`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from environment import ROOT, ready
from find_python import find_python
from tree_copy import copy_tree

OLDEST = "3.9"  # what a place may have; what runs there must compile and import on it

BOOTSTRAP = Path(__file__).with_name("get_pip.py")


def provide_bootstrap(python: Path) -> None:
    """Put our bootstrap of pip where ansible-test would download one to; one that is there already stays."""
    find = "import ansible_test._internal.python_requirements as module; print(module.__file__)"
    source = subprocess.run([python, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    pinned = re.findall(r"pip='([\d.]+)'", Path(source).read_text(encoding="utf-8"))
    folder = Path.home() / ".ansible/test/cache"
    folder.mkdir(parents=True, exist_ok=True)
    for version in pinned:
        target = folder / f"get_pip_{version.replace('.', '_')}.py"
        if not target.exists():
            shutil.copyfile(BOOTSTRAP, target)


def run(python: Path, version: str, tree: Path, *arguments: str) -> int:
    start = time.monotonic()
    command = [str(python.with_name("ansible-test")), "sanity", "--local", "--python", version, "--color", "no"]
    code = subprocess.run([*command, *arguments], cwd=tree, stdin=subprocess.DEVNULL, check=False).returncode
    print(f"sanity on Python {version}: {'FAILED' if code else 'ok'} in {time.monotonic() - start:.0f} s", flush=True)
    return code


def sanity(core: str, *arguments: str) -> int:
    python = ready(core)
    provide_bootstrap(python)
    probe = "import sys; print('%d.%d' % sys.version_info[:2])"
    version = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=True).stdout.strip()
    tree = copy_tree(ROOT / "build/sanity" / core)
    # A repository of its own: ansible-test would find the one around it, which ignores build/ and so has no file there.
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    failed = run(python, version, tree, *arguments)
    if core == "2.19" and not arguments:
        # ansible-test looks for interpreters on the PATH alone.
        os.environ["PATH"] = f"{find_python(OLDEST).parent}{os.pathsep}{os.environ['PATH']}"
        failed |= run(python, OLDEST, tree, "--test", "compile", "--test", "import")
    return failed


if __name__ == "__main__":
    sys.exit(sanity(*sys.argv[1:]))
