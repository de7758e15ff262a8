# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change a place on a disk that becomes full or read-only, and print what came of it as JSON.

`act_small_disk.py mount FOLDER` mounts a small file system of its own over FOLDER, and so wants a mount namespace;
`act_small_disk.py limit FOLDER` does with what needs no rights: a limit on the size of files, and modes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

from act_place import Place

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError

NOBODY = 65534
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def attempt(place: Place, **wish: Any) -> str:
    try:
        place.do(**wish)
    except DeliveryError as problem:
        return problem.message
    return ""


class Mounted:
    """A tmpfs with few pages."""

    free = range(0, 40, 2)  # pages

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)

    def fill(self, left: int) -> None:
        stat = os.statvfs(self.folder)
        (self.folder / "filler").write_bytes(b"x" * ((stat.f_bavail - left) * stat.f_bsize))

    def empty(self) -> None:
        (self.folder / "filler").unlink()

    def lock(self, place: Place, locked: bool) -> None:
        mode = "ro" if locked else "rw"
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True)


class Limited:
    """The same seen by somebody who may not mount: no file may grow beyond a size, folders lose their write bit."""

    free = (*range(0, 240, 12), 12000)  # bytes

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if os.geteuid() == 0:  # who may write whatever the modes say
            os.chown(folder, NOBODY, NOBODY)
            os.setgid(NOBODY)
            os.setuid(NOBODY)

    def fill(self, left: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))

    def empty(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, UNLIMITED)

    def lock(self, place: Place, locked: bool) -> None:
        for folder in (place.path, *(below for below in place.path.rglob("*") if below.is_dir())):
            folder.chmod(0o555 if locked else 0o755)


def one(disk: "Mounted | Limited", left: int) -> Dict[str, object]:
    """Deploy with `left` space, then again with plenty."""
    place = Place(disk.folder / str(left))
    place.good("1.0")
    src = place.source("2.0", a="x" * 9000, b="y", c="z")
    disk.fill(left)
    problem = attempt(place, release="2.0", src=src, rollout="r2", token=2)
    disk.empty()
    current = place.current()
    whole = place.metadata(str(current))["complete"]
    hidden = [name for name in place.names() if name.startswith(".")]
    undone = attempt(place, state="known_good", undo=True, rollout="r2", token=3)
    back = (place.current(), place.running(), place.look()["settled"])
    again = attempt(place, release="2.0", src=src, rollout="r2", token=3)
    end = (place.current(), place.running(), place.look()["settled"])
    shutil.rmtree(place.folder)
    return {
        "left": left,
        "problem": problem,
        "whole": whole,
        "hidden": hidden,
        "undone": undone,
        "back": back,
        "again": again,
        "end": end,
    }


def read_only(disk: "Mounted | Limited") -> List[Dict[str, object]]:
    place = Place(disk.folder / "locked")
    place.good("1.0")
    place.deploy("2.0", rollout="r2")
    wishes: List[Dict[str, Any]] = [
        {"release": "3.0", "src": place.source("3.0")},
        {"release": "2.0", "token": 7},
        {"state": "promoted", "release": "2.0"},
        {"state": "known_good", "undo": True, "rollout": "r2"},
    ]
    seen = []
    for wish in wishes:
        before = place.picture()
        disk.lock(place, True)
        problem = attempt(place, **wish)
        looked = place.look()["current"]
        disk.lock(place, False)
        seen.append({"problem": problem, "looked": looked, "same": place.picture() == before})
    return seen


def main(kind: str, folder: str) -> None:
    disk = Mounted(Path(folder)) if kind == "mount" else Limited(Path(folder))
    full = [one(disk, left) for left in disk.free]
    print(json.dumps({"full": full, "locked": read_only(disk)}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
