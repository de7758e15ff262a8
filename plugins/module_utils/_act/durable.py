# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes that are there, whole, after a kill or a power cut: write aside, fsync, rename, fsync the folder.

Each takes `checkpoint`, which is called with a name around every step that can be seen on disk; tests kill the
process there.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import Callable, Dict, Mapping, Optional

Checkpoint = Callable[[str], None]


def nowhere(step: str) -> None:
    """The checkpoint of ordinary runs."""


def sync(path: str) -> None:
    """Flush one file, or one folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(root: str) -> None:
    """Flush everything below `root`; links are entries of their folder."""
    for folder, _folders, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                sync(path)
        sync(folder)


def write_json(path: str, data: Mapping[str, object], checkpoint: Checkpoint = nowhere) -> None:
    """Replace the file by `data`, or leave it as it was."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True) + "\n", checkpoint)


def write_text(path: str, text: str, checkpoint: Checkpoint = nowhere) -> None:
    """Replace the file by `text` in UTF-8, or leave it as it was."""
    aside = f"{path}.new"
    try:
        with open(aside, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        if os.path.exists(path):
            shutil.copymode(path, aside)
        checkpoint(f"{os.path.basename(path)}: written aside")
        os.replace(aside, path)
    except OSError:
        _forget(aside)
        raise
    sync(os.path.dirname(path))
    checkpoint(f"{os.path.basename(path)}: written")


def read_json(path: str) -> Optional[Dict[str, object]]:
    """The object in the file; None when there is no file; ValueError when it holds something else."""
    try:
        with open(path, encoding="utf-8") as stream:
            data: object = json.load(stream)
    except FileNotFoundError:
        return None
    if not isinstance(data, dict):
        raise ValueError(f"{path} does not hold a JSON object")
    return {str(key): value for key, value in data.items()}


def point(link: str, to: str, checkpoint: Checkpoint = nowhere) -> None:
    """Let the symbolic link lead to `to` from one instant to the next."""
    folder, name = os.path.split(link)
    aside = os.path.join(folder, f".{name}.new")
    _forget(aside)
    os.symlink(to, aside)
    checkpoint(f"{name}: link made aside")
    os.replace(aside, link)
    checkpoint(f"{name}: link replaced")
    sync(folder)
    checkpoint(f"{name}: link durable")


def make_folder(path: str) -> None:
    """Make the folder and its parents, and flush what was new."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folder(parent)
    try:
        os.mkdir(path)
    except FileExistsError:  # somebody was faster
        if not os.path.isdir(path):
            raise
    sync(parent)


def remove(path: str) -> None:
    """Remove a file, a link or a folder with all below it, if it is there."""
    try:
        folder = stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if folder:
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
