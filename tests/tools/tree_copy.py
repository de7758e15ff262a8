# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy what belongs to the collection into a real `ansible_collections/selfheal/delivery` tree.

`tree_copy.py FOLDER` makes FOLDER/ansible_collections/selfheal/delivery and prints its path. ansible-test refuses a
symlinked tree, and building an artifact from the checkout itself would pack what git ignores.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

ROOT = Path(__file__).resolve().parents[2]


def listed() -> List[Path]:
    """Files that are, or are about to be, in the repository, relative to its root."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = sorted({Path(name) for name in names.split("\0") if name})
    return [path for path in paths if (ROOT / path).is_file()]


def copy_tree(folder: Path) -> Path:
    tree = folder.resolve() / "ansible_collections/selfheal/delivery"
    shutil.rmtree(tree, ignore_errors=True)
    for path in listed():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target, follow_symlinks=False)
    return tree


if __name__ == "__main__":
    print(copy_tree(Path(sys.argv[1])))
