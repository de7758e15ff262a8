# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every linter, all of them even when one fails, and say which did."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import List, Tuple

from environment import ROOT

COLLECTION = "ansible_collections/selfheal/delivery"
# Paths under the tree that are typed as strictly as the collection itself.
TYPED = ("plugins", "extensions", "demo", "tests/tools", "tests/conftest.py")


def linters() -> List[Tuple[str, Path, List[str]]]:
    """Name, folder and command of each."""
    tree = ROOT / ".tree"
    typed = [f"{COLLECTION}/{path}" for path in TYPED if any((ROOT / path).rglob("*.py")) or (ROOT / path).is_file()]
    return [
        ("ruff check", ROOT, ["ruff", "check", "."]),
        ("ruff format", ROOT, ["ruff", "format", "--check", "."]),
        ("style", ROOT, [sys.executable, "tests/tools/check_style.py"]),
        ("mypy", tree, ["mypy", "--config-file", f"{COLLECTION}/pyproject.toml", *typed]),
        ("yamllint", ROOT, ["yamllint", "--strict", "."]),
        ("ansible-lint", ROOT, ["ansible-lint", "--offline", "--strict", "--profile", "production"]),
        ("antsibull-changelog", ROOT, ["antsibull-changelog", "lint"]),
        (
            "antsibull-docs",
            tree / COLLECTION,
            [
                *("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all"),
                *("--check-extra-docs-refs", "--disallow-unknown-collection-refs", "."),
            ],
        ),
    ]


def main() -> int:
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"), "NO_COLOR": "1"}
    failed = []
    for name, folder, command in linters():
        start = time.monotonic()
        done = subprocess.run(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            failed.append(name)
        print(f"{name}: {'FAILED' if done.returncode else 'ok'} in {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"lint failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
