# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve the groups of pyproject.toml anew into the lock files: `lock.py [NAME ...]`, all by default."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from environment import ENVIRONMENTS, ROOT
from find_python import find_python

HEADER = """\
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Locked by `make lock` from the group {group} in pyproject.toml. Do not edit.
"""


def lock(name: str) -> None:
    target, versions = ENVIRONMENTS[name]
    group = "lock" if name == "demo" else f"lock-{name}"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([find_python(*versions), "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
        subprocess.run([*pip, "install", "--quiet", "--group", f"{ROOT / 'pyproject.toml'}:{group}"], check=True)
        frozen = subprocess.run([*pip, "freeze"], capture_output=True, text=True, check=True).stdout
    Path(ROOT, target).write_text(HEADER.format(group=group) + frozen, encoding="utf-8")


if __name__ == "__main__":
    for wanted in sys.argv[1:] or ENVIRONMENTS:
        lock(wanted)
