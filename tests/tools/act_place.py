# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place for tests: a folder with releases, whose `restart` notes what runs now and whose health compares it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from ansible_collections.selfheal.delivery.plugins.module_utils._act import options
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Outcome

RESTART = {"command": ["/bin/sh", "-c", "cp version ../../running"], "chdir": "current", "timeout": 10.0}
HEALTH = {
    "command": ["/bin/sh", "-c", "test ! -e broken && cmp -s version ../../running"],
    "status": [200],
    # one try, however long this machine takes for it
    "timeout": 10.0,
    "interval": 10.0,
}
DEFAULTS: Dict[str, Any] = {"state": "deployed", "shared": [], "undo": False, "keep": 5, "lock_timeout": 0.2}


# where the tests do not wait for a disk; what is flushed and when is a test of its own
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def nowhere(_step: str) -> None: ...


class Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "place"
        self.sources = folder / "sources"

    def source(self, release: str, *, broken: bool = False, **files: str) -> str:
        """A folder with the content of `release`."""
        source = self.sources / release
        source.mkdir(parents=True, exist_ok=True)
        (source / "version").write_text(release)
        for name, text in files.items():
            (source / name).write_text(text)
        if broken:
            (source / "broken").touch()
        return str(source)

    def do(self, *, dry: bool = False, checkpoint: Callable[[str], None] = nowhere, **given: Any) -> Outcome:
        """What the module does with these options."""
        params = {"path": str(self.path), "restart": RESTART, "health": HEALTH, **DEFAULTS, **given}
        return options.change(params, dry=dry, checkpoint=checkpoint)

    def deploy(self, release: str, *, broken: bool = False, **given: Any) -> Outcome:
        src = given.pop("src", None) or self.source(release, broken=broken)
        return self.do(release=release, src=src, **given)

    def good(self, release: str, **given: Any) -> Outcome:
        """Deploy and promote."""
        self.deploy(release)
        return self.do(state="promoted", release=release, **given)

    def back(self, **given: Any) -> Outcome:
        return self.do(state="known_good", **given)

    def look(self) -> Dict[str, Any]:
        return options.look({"path": str(self.path)})

    def current(self) -> Optional[str]:
        link = self.path / "current"
        return os.readlink(link).split("/")[-1] if link.is_symlink() else None

    def running(self) -> Optional[str]:
        noted = self.path / "running"
        return noted.read_text() if noted.exists() else None

    def names(self) -> List[str]:
        """Everything in the folder of releases, also what is hidden."""
        folder = self.path / "releases"
        return sorted(os.listdir(folder)) if folder.is_dir() else []

    def metadata(self, release: str) -> Dict[str, object]:
        loaded: Dict[str, object] = json.loads((self.path / "releases" / release / ".release.json").read_text())
        return loaded

    def journal(self) -> Dict[str, Any]:
        journal = self.look()["journal"]
        return journal if isinstance(journal, dict) else {}

    def picture(self) -> Dict[str, str]:
        """Everything below the place with its content, to see that nothing changed; the lock's note aside."""
        seen = {}
        for folder, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = Path(folder, name)
                if path.name == "lock" or path == self.path / ".delivery":
                    continue
                if path.is_symlink():
                    seen[str(path)] = os.readlink(path)
                else:
                    seen[str(path)] = path.read_text(errors="replace") if path.is_file() else ""
        return seen
