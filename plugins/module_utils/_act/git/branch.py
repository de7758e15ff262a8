# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service's branch in a repository, as it is read, and what its history says."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import List, Sequence

from ..._errors import OptionError, PlaceError, nearest
from .address import plain
from .marks import View, mark, number_of, prefix
from .repository import COMMIT_ID, Commit, Repository


@dataclass(frozen=True)
class Branch:
    """What counts as one service's place: a branch, a path in it (empty for everything), and the service's name."""

    name: str
    path: str
    service: str

    @property
    def tags(self) -> str:
        return prefix(self.service, self.name, self.path)

    @property
    def shown(self) -> str:
        return f"{self.name}:{self.path}" if self.path else self.name


class Reader:
    """Reads one branch; changes nothing."""

    def __init__(self, repository: Repository, branch: Branch) -> None:
        self.repository = repository
        self.branch = branch

    def read(self, ref: str = "") -> View:
        """Fetch the branch and its journal; with `ref` also that branch, tag or commit."""
        repository, branch = self.repository, self.branch
        repository.fetch(branch.name, branch.tags, ref=ref)
        head, tags = repository.journal(branch.name, branch.tags)
        if not head:
            raise PlaceError(f"{branch.name} in {repository.where.shown} does not lead to a commit")
        rows = [(number_of(name), commit, body) for name, commit, body in tags]
        marks = [mark(number, commit, body) for number, commit, body in rows if number]
        merged = map(number_of, repository.merged(head, branch.tags) if tags else ())
        entry = repository.entry(head, branch.path)
        view = View(
            head=head,
            content=entry.oid if entry else "",
            marks=tuple(sorted((entry for entry in marks if entry), key=lambda entry: entry.number)),
            merged=frozenset(number for number in merged if number),
            free=max((number for number, _commit, _body in rows if number), default=0) + 1,
        )
        if view.recorded:
            return view
        return replace(view, touched=repository.touched(head, branch.path))

    def conflict(self, view: View, what: str, newer: Sequence[Commit], old: str, mend: str) -> PlaceError:
        """Who changed what since commit `old`; nothing was pushed."""
        files = self.repository.files(old, view.head, self.branch.path)
        commits = "; ".join(str(commit) for commit in newer[:5]) or "none below the path"
        shown = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        return PlaceError(
            f"conflict on {self.branch.shown}: {what}, so nothing was pushed "
            f"(commits {commits}; files {shown or 'none'})",
            mend=f"{mend}, then run this again",
            details={
                "changed": False,
                "commits": [{"id": c.oid, "author": plain(c.author), "subject": plain(c.subject)} for c in newer],
                "files": files[:100],
            },
        )

    def outside(self, old: str, new: str) -> List[str]:
        """What differs between two commits and does not belong to this service."""
        path = self.branch.path
        files = self.repository.files(old, new, "") if path else []
        return [name for name in files if name[2:] != path and not name[2:].startswith(f"{path}/")]

    def content(self, commit: str) -> str:
        path = self.branch.path
        entry = self.repository.entry(commit, path)
        if entry:
            return entry.oid
        near = nearest(path, self.repository.folders(commit))
        raise OptionError(f"commit {commit[:10]} has nothing at path {path!r}{near}", mend="Check the option path")

    def resolved(self, given: str) -> str:
        """The commit that `ref` names: a tag, a branch, or an id."""
        repository = self.repository
        kind, ref = re.findall(r"\A(?:refs/(heads|tags)/)?(.*)\Z", given)[0]
        places = {"tags": f"refs/tags/{ref}", "heads": f"refs/origin/heads/{ref}"}
        commits = [repository.resolve(place) for named, place in places.items() if kind in ("", named)]
        if not any(commits) and COMMIT_ID.fullmatch(given):
            commits = [repository.resolve(given)]
        found = {commit for commit in commits if commit}
        if len(found) > 1:
            raise OptionError(f"ref {ref!r} is a tag and a branch", mend=f"Say refs/tags/{ref} or refs/heads/{ref}")
        if not found:
            known = repository.names("--heads", "--tags")
            raise OptionError(
                f"{repository.where.shown} has no tag, branch or commit {given!r}{nearest(ref, known)}",
                mend="Push it first, and check ref",
            )
        return found.pop()
