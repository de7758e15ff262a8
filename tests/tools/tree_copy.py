# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy what belongs to the collection into a real `ansible_collections/selfheal/delivery` tree.

ansible-test refuses a symlinked tree, and building an artifact from the checkout itself would pack what git ignores.
"""

from __future__ import annotations

import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from typing import Iterable, List, Sequence

import yaml

ROOT = Path(__file__).resolve().parents[2]


def listed() -> List[Path]:
    """Files that are, or are about to be, in the repository, relative to its root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = sorted({Path(name) for name in names.split("\0") if name})
    return [path for path in paths if (ROOT / path).is_file()]


def build_ignore() -> List[str]:
    """The patterns of galaxy.yml that name what the artifact leaves out."""
    ignored: List[str] = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["build_ignore"]
    return ignored


def shipped(paths: Iterable[Path], ignored: Sequence[str]) -> List[Path]:
    """The paths that the artifact is built from: no pattern names them, or a folder of theirs."""
    return [
        path
        for path in paths
        if not any(fnmatch(name.as_posix(), pattern) for name in (path, *path.parents) for pattern in ignored)
    ]


def copy_tree(folder: Path, paths: Iterable[Path]) -> Path:
    tree = folder.resolve() / "ansible_collections/selfheal/delivery"
    shutil.rmtree(tree, ignore_errors=True)
    for path in paths:
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target, follow_symlinks=False)
    return tree
