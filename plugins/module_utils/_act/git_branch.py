# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One service's branch in a repository, as it is read, and what its history says."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import List, Sequence

from .._errors import OptionError, PlaceError, nearest
from .git_address import plain
from .git_marks import View, mark, number_of, prefix
from .git_repository import Commit, Repository


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

    def read(self, *, everything: bool) -> View:
        """Fetch the branch and its journal; with `everything` also what a ref may name."""
        repository, branch = self.repository, self.branch
        repository.fetch(branch.name, branch.tags, everything=everything)
        head = repository.resolve(f"refs/heads/{branch.name}")
        if head is None:
            raise PlaceError(f"{branch.name} in {repository.where.shown} does not lead to a commit")
        rows = [(number_of(name), commit, body) for name, commit, body in repository.tags(branch.tags)]
        marks = [mark(number, commit, body) for number, commit, body in rows if number]
        merged = (number_of(name) for name, _commit, _body in repository.tags(branch.tags, merged=head))
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
        repository, ref = self.repository, re.sub(r"\Arefs/(?=(heads|tags)/)", "", given)
        names = [ref] if ref.startswith(("heads/", "tags/")) else [f"tags/{ref}", f"heads/{ref}"]
        places = (re.sub(r"\A(?=tags/)", "refs/", re.sub(r"\A(?=heads/)", "refs/origin/", name)) for name in names)
        found = {
            commit for commit in (repository.resolve(re.sub(r"\Atags/", "refs/tags/", p)) for p in places) if commit
        }
        if len(found) > 1:
            raise OptionError(f"ref {ref!r} is a tag and a branch", mend=f"Say refs/tags/{ref} or refs/heads/{ref}")
        if not found and re.fullmatch(r"[0-9a-f]{7,40}", ref):
            found = {commit for commit in [repository.resolve(ref)] if commit}
        if not found:
            known = (name.partition("/")[2] for name in repository.names())
            raise OptionError(
                f"{repository.where.shown} has no tag, branch or commit {given!r}{nearest(ref, known)}",
                mend="Push it first, and check ref",
            )
        return found.pop()
