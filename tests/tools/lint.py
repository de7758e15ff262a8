# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every linter, all of them even when one fails, and say which did."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Dict, List

from environment import ROOT

# Typed as strictly as the collection itself. The plugins are checked under the name that Ansible imports them by.
TYPED = (
    ".tree/ansible_collections/selfheal/delivery/plugins",
    "extensions/eda/plugins",
    "demo",
    "tests/tools",
    "tests/conftest.py",
)
DOCS = ("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all")


def linters() -> Dict[str, List[str]]:
    """The command of each."""
    typed = [path for path in TYPED if (ROOT / path).exists()]
    return {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "style": [sys.executable, "tests/tools/check_style.py"],
        "mypy": ["mypy", *typed],
        "yamllint": ["yamllint", "--strict", "."],
        "ansible-lint": ["ansible-lint", "--offline", "--strict", "--profile", "production"],
        "antsibull-changelog": ["antsibull-changelog", "lint"],
        "antsibull-docs": [*DOCS, "--check-extra-docs-refs", "--disallow-unknown-collection-refs", "."],
    }


def main() -> int:
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        # ansible-lint's syntax check gives none, and a play on an empty group is an error here.
        "ANSIBLE_INVENTORY": str(ROOT / "tests/tools/localhost.ini"),
        "NO_COLOR": "1",
    }
    failed = []
    for name, command in linters().items():
        start = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            failed.append(name)
        print(f"{name}: {'FAILED' if done.returncode else 'ok'} in {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"lint failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
