# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A GitOps repository for tests: a real bare one, a person's clone of it, and our backend over `file://`."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List

from ansible_collections.selfheal.delivery.plugins.module_utils._act.git import options as git_options

DEFAULTS: Dict[str, Any] = {
    "state": "deployed",
    "service": "shop",
    "branch": "main",
    "path": "apps/shop",
    "undo": False,
    "keep": 5,
    "timeout": 60.0,
    "author_name": "robot",
    "author_email": "robot@example.org",
}
ALONE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TEST_FSYNC": "0"}
PERSON = {
    f"GIT_{role}_{fact}": value
    for role in ("AUTHOR", "COMMITTER")
    for fact, value in (("NAME", "Ann"), ("EMAIL", "ann@example.org"))
}


def nowhere(_step: str) -> None: ...


class Site:
    def __init__(self, folder: Path) -> None:
        self.bare = folder / "site.git"
        self.work = folder / "work"
        self.url = f"file://{self.bare}"
        self.spare = folder / "spare"  # where the backend's temporary folders are made
        self.spare.mkdir()
        for where, kind in ((self.bare, ("--bare", "--initial-branch=main")), (self.work, ("--initial-branch=main",))):
            self.git("init", "--quiet", "--template=", *kind, str(where), cwd=folder)
        with (self.bare / "config").open("a") as config:
            config.write("[uploadpack]\nallowFilter = true\n[http]\nreceivepack = true\n[receive]\nautogc = false\n")
        with (self.work / ".git/config").open("a") as config:
            config.write(f'[remote "origin"]\nurl = {self.bare}\n[maintenance]\nauto = false\n[gc]\nauto = 0\n')

    def git(self, *words: str, cwd: "Path | None" = None) -> str:
        """A command of the person's."""
        done = subprocess.run(
            ["git", *words],
            cwd=cwd or self.work,
            env={**os.environ, **ALONE, **PERSON},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def commit(self, message: str, files: "Dict[str, str | bytes | None]", *, push: bool = True) -> str:
        """Write (or, with None, remove) files, commit, and push to main. Returns the commit."""
        for name, content in files.items():
            path = self.work / name
            if content is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.git("add", "--all", "--", *files)
        self.git("commit", "--quiet", "--message", message)
        if push:
            self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")

    def image(self, version: str, *, app: str = "shop", push: bool = True) -> str:
        """What a pipeline pushes for a new version."""
        return self.commit(f"{app} {version}", {f"apps/{app}/values.yaml": f"image: {app}:{version}\n"}, push=push)

    def pull(self) -> None:
        self.git("pull", "--quiet", "--ff-only", "origin", "main")

    def do(self, *, dry: bool = False, checkpoint: Callable[[str], None] = nowhere, **given: Any) -> Dict[str, Any]:
        """What module git_release does with these options; nothing may be left behind."""
        params = {"repository": self.url, **DEFAULTS, **given}
        parent = tempfile.mkdtemp(dir=self.spare)
        try:
            return git_options.change(params, dry=dry, parent=parent, checkpoint=checkpoint)
        finally:
            os.rmdir(parent)  # fails where something was left

    def deploy(self, release: str, **given: Any) -> Dict[str, Any]:
        """A pipeline has pushed the release; we record it."""
        self.image(release)
        return self.do(release=release, **given)

    def good(self, release: str, **given: Any) -> Dict[str, Any]:
        self.deploy(release, **given)
        return self.do(state="promoted", release=release, **given)

    def back(self, **given: Any) -> Dict[str, Any]:
        return self.do(state="known_good", **given)

    def look(self, **given: Any) -> Dict[str, Any]:
        return git_options.see({"repository": self.url, **DEFAULTS, **given}, parent=str(self.spare))

    def hook(self, name: str, script: str) -> None:
        """Let the server run this."""
        hook = self.bare / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\n{script}\n")
        hook.chmod(0o755)

    def head(self, branch: str = "main") -> str:
        return self.git("rev-parse", f"refs/heads/{branch}", cwd=self.bare)

    def content(self, commit: str, path: str = "apps/shop") -> str:
        """The id of the tree at `path`."""
        return self.git("rev-parse", f"{commit}:{path}", cwd=self.bare)

    def file(self, name: str = "apps/shop/values.yaml") -> str:
        return self.git("show", f"main:{name}", cwd=self.bare)

    def refs(self) -> List[str]:
        """Every ref with what it leads to, to see that nothing changed."""
        return self.git("for-each-ref", "--format=%(refname) %(objectname)", cwd=self.bare).splitlines()

    def log(self) -> List[str]:
        """The subjects of main, newest first."""
        return self.git("log", "--first-parent", "--format=%s", "main", cwd=self.bare).splitlines()
