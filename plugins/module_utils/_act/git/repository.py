# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A git repository elsewhere, worked on through a bare one in a temporary folder: no working tree, no checkout.

Only commits and trees are fetched where the server can leave files out; nothing of the user's hooks or templates
runs; and what goes to the server is `branch` and tags, pushed together or not at all, never by force.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..._errors import OptionError, PlaceError
from ..process import Answer, answered
from .address import Address, plain
from .errors import gone_wrong, refused

TREE = "040000"
COMMIT_ID = re.compile(r"[0-9a-f]{7,40}")
_HIDDEN = (
    "GIT_TRACE",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX",
    "GIT_OBJECT",
    "GIT_ALTERNATE",
    "GIT_COMMON",
    "GIT_CURL",
)
_SETTINGS = """
[core]
    repositoryFormatVersion = 0
    bare = true
    hooksPath = /dev/null
    logAllRefUpdates = false
[gc]
    auto = 0
[maintenance]
    auto = false
[fetch]
    recurseSubmodules = false
    prune = false
[push]
    recurseSubmodules = no
    followTags = false
    gpgSign = false
[http]
    lowSpeedLimit = 1
    lowSpeedTime = 30
"""


@dataclass(frozen=True)
class Entry:
    """What lies at a path of a tree, as `git ls-tree` says it."""

    mode: str
    kind: str
    oid: str

    def line(self, name: str) -> str:
        """For `git mktree -z`."""
        return f"{self.mode} {self.kind} {self.oid}\t{name}\0"


@dataclass(frozen=True)
class Commit:
    """Who made a commit, and its subject; both are somebody else's text."""

    oid: str
    author: str
    subject: str

    def __str__(self) -> str:
        return f"{self.oid[:10]} by {plain(self.author, 60)}: {plain(self.subject, 80)}"


@contextmanager
def opened(where: Address, *, key_file: str, timeout: float, parent: Optional[str] = None) -> Iterator["Repository"]:
    """A `Repository` for `timeout` seconds, in a folder below `parent` that is gone afterwards."""
    if shutil.which("git") is None:
        raise PlaceError("git is not installed where this task runs", mend="Install git there")
    folder = tempfile.mkdtemp(prefix="selfheal-git-", dir=parent)
    try:
        repository = Repository(where, folder, environment(key_file), timeout)
        repository.begin()
        yield repository
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def environment(key_file: str) -> Dict[str, str]:
    """The caller's environment, in which credentials may be, without what would move or print what git does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
    for name in ("LANGUAGE", "SSH_ASKPASS", "GIT_NAMESPACE"):
        kept.pop(name, None)
    kept.update(
        LC_ALL="C",
        GIT_TERMINAL_PROMPT="0",
        GIT_ALLOW_PROTOCOL="file:git:http:https:ssh",
        GIT_LITERAL_PATHSPECS="1",
    )
    if key_file:
        if not os.path.isfile(key_file) or not os.access(key_file, os.R_OK):
            raise OptionError(f"key_file {key_file} is not a file that can be read where this task runs")
        kept["GIT_SSH_COMMAND"] = f"ssh -i {shlex.quote(key_file)} -o IdentitiesOnly=yes -o BatchMode=yes"
    return kept


class Repository:
    """Objects are named by their full ids; paths are relative, without slashes around them, empty for everything."""

    def __init__(self, where: Address, folder: str, env: Mapping[str, str], timeout: float) -> None:
        self.where = where
        self._folder = folder
        self._git_dir = os.path.join(folder, "repository.git")
        self._env = dict(env)
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    def begin(self) -> None:
        """Make the empty bare repository. The password is in a file, where no list of processes shows it."""
        for name in ("objects", "refs"):
            os.makedirs(os.path.join(self._git_dir, name))
        _write(os.path.join(self._git_dir, "HEAD"), "ref: refs/heads/none\n")
        settings = f'{_SETTINGS}[remote "origin"]\n\turl = {_quoted(self.where.url)}\n'
        if self.where.credential:
            store = os.path.join(self._folder, "credential")
            _write(store, f"{self.where.credential}\n")
            helper = f"store --file={shlex.quote(store)}"
            settings += f"[credential]\n\thelper =\n\thelper = {_quoted(helper)}\n"
        _write(os.path.join(self._git_dir, "config"), settings)

    def fetch(self, branch: str, tags: str, *, ref: str = "") -> None:
        """Bring `refs/heads/<branch>` and the tags below `tags` here, and the branch or tag `ref`.

        What may be a commit's id brings every branch and tag, because servers need not give a commit by its id.
        """
        wanted = [f"+refs/heads/{branch}:refs/heads/{branch}", f"+refs/tags/{tags}/*:refs/tags/{tags}/*"]
        if ref:
            # with a star it is no error when there is none
            some = "*" if COMMIT_ID.fullmatch(ref) else f"{re.sub('^refs/(heads|tags)/', '', ref)}*"
            wanted += [f"+refs/heads/{some}:refs/origin/heads/{some}", f"+refs/tags/{some}:refs/tags/{some}"]
        # a repository on disk may be a shallow clone; git then asks for left out files without an end
        options = ["--update-shallow"] if self.where.local else ["--filter=blob:none"]
        done = self._ask("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *options, "origin", *wanted)
        if done.returncode:
            raise gone_wrong(done.stderr, self.where.shown, branch, lambda: self.names("--heads"))

    def names(self, *kinds: str) -> List[str]:
        """The names of the `--heads` or `--tags` over there, not ours; empty when that cannot be asked."""
        done = self._ask("ls-remote", "--refs", *kinds, "origin")
        found = re.findall(r"\trefs/(?:heads|tags)/(.+)$", done.stdout, re.MULTILINE) if done.returncode == 0 else []
        return [name for name in found if not name.startswith("selfheal/")]

    def push(self, updates: Sequence[Tuple[str, str]]) -> None:
        """Let each ref be the object beside it (an empty one removes it), all or none; `Moved` when it is too late."""
        done = self._ask("push", "--porcelain", "--atomic", "origin", *(f"{oid}:{ref}" for oid, ref in updates))
        if done.returncode:
            raise refused(done.stdout, done.stderr, self.where.shown)

    def journal(self, branch: str, below: str) -> Tuple[str, List[Tuple[str, str, str]]]:
        """The commit of a fetched branch, and name, commit and message's body of the annotated tags below a name."""
        head, wanted = f"refs/heads/{branch}", f"refs/tags/{below}/"
        form = "%(refname)%00%(objectname)%00%(*objectname)%00%(contents:body)%00"
        cells = self._run("for-each-ref", f"--format={form}", head, wanted).split("\0")
        rows = [(name.strip(), *rest) for name, *rest in zip(cells[0::4], cells[1::4], cells[2::4], cells[3::4])]
        tags = [(name, commit, body.strip()) for name, _tag, commit, body in rows if name.startswith(wanted)]
        return next((commit for name, commit, *_tag in rows if name == head), ""), tags

    def merged(self, commit: str, below: str) -> List[str]:
        """The names of the tags below a name whose commit is this one or before it."""
        listed = self._run("for-each-ref", "--format=%(refname)", f"--merged={commit}", f"refs/tags/{below}/")
        return listed.split()

    def resolve(self, name: str) -> Optional[str]:
        """The id of the commit that a full ref or an id names."""
        done = self._ask("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return done.stdout.strip() or None

    def entry(self, commit: str, path: str) -> Optional[Entry]:
        """What is at `path`; the commit's own tree for the empty path."""
        if not path:
            return Entry(TREE, "tree", self._run("rev-parse", "--verify", f"{commit}^{{tree}}").strip())
        listed = self._run("ls-tree", "-z", commit, "--", path)
        found = re.match(r"(\d+) (\w+) ([0-9a-f]+)\t", listed)
        return Entry(*found.groups()) if found else None

    def folders(self, commit: str) -> List[str]:
        return [name for name in self._run("ls-tree", "-r", "-d", "-z", "--name-only", commit).split("\0") if name]

    def contains(self, commit: str, ancestor: str) -> bool:
        return self._ask("merge-base", "--is-ancestor", ancestor, commit).returncode == 0

    def touched(self, commit: str, path: str) -> str:
        """The last commit, up to this one, that changed something at `path`."""
        where = ("--", path) if path else ()
        return self._run("rev-list", "--max-count=1", commit, *where).strip()

    def log(self, old: str, new: str, path: str) -> List[Commit]:
        """The commits that `new` has and `old` has not, newest first; those that changed something at `path`."""
        where = ("--", path) if path else ()
        said = self._run("rev-list", "--max-count=50", "--format=%H%x00%an%x00%s", f"{old}..{new}", *where)
        lines = [line for line in said.split("\n") if "\0" in line]
        return [Commit(*line.split("\0", 2)) for line in lines]

    def files(self, old: str, new: str, path: str) -> List[str]:
        """`M apps/shop/values.yaml`: what differs between two commits or trees below `path`."""
        where = ("--", path) if path else ()
        cells = self._run("diff-tree", "-r", "-z", "--no-renames", "--name-status", old, new, *where).split("\0")
        return [f"{kind} {plain(name, 200)}" for kind, name in zip(cells[0::2], cells[1::2])]

    def replaced(self, commit: str, path: str, source: str) -> str:
        """The tree of `commit` with what `source` has at `path`, also where that is nothing."""
        return self._grafted(commit, "", path.split("/") if path else [], self.entry(source, path)) or self._tree("")

    def commit(self, tree: str, parent: str, message: str, who: Mapping[str, str]) -> str:
        return self._run("commit-tree", tree, "-p", parent, "-F", "-", said=message, env=who).strip()

    def tag(self, name: str, commit: str, message: str, tagger: str) -> str:
        """An annotated tag as an object; the ref is made by the push."""
        head = f"object {commit}\ntype commit\ntag {name}\ntagger {tagger}\n\n"
        return self._run("mktag", said=head + message).strip()

    def _grafted(self, commit: str, folder: str, steps: Sequence[str], fresh: Optional[Entry]) -> Optional[str]:
        """The tree at `folder` with `fresh` at `steps` below it; None when nothing is left in it."""
        if not steps:
            return fresh.oid if fresh else None
        here = self.entry(commit, folder)
        lines = {}
        if here and here.kind == "tree":
            listed = self._run("ls-tree", "-z", here.oid).split("\0")
            lines = {line.partition("\t")[2]: f"{line}\0" for line in listed if line}
        name = steps[0]
        if len(steps) > 1:
            below = self._grafted(commit, f"{folder}/{name}" if folder else name, steps[1:], fresh)
            fresh = Entry(TREE, "tree", below) if below else None
        lines.pop(name, None)
        if fresh:
            lines[name] = fresh.line(name)
        return self._tree("".join(lines.values())) if lines else None

    def _tree(self, lines: str) -> str:
        return self._run("mktree", "-z", "--missing", said=lines).strip()

    def _run(self, *words: str, said: str = "", env: Optional[Mapping[str, str]] = None) -> str:
        """What git prints; PlaceError when it fails, which here is a broken repository or disk."""
        done = self._ask(*words, said=said, env=env)
        if done.returncode:
            raise PlaceError(
                f"git {words[0]} failed on {self.where.shown}: {plain(done.stderr)}", mend="Look at what git says"
            )
        return done.stdout

    def _ask(self, *words: str, said: str = "", env: Optional[Mapping[str, str]] = None) -> Answer:
        """Run git, detached from any terminal on which it or ssh could ask for a password."""
        left = self._deadline - time.monotonic()
        try:
            return answered(
                ["git", f"--git-dir={self._git_dir}", *words],
                env={**self._env, **(env or {})},
                seconds=max(left, 0.01),
                said=said,
                folder=self._folder,
                errors="surrogateescape",
            )
        except subprocess.TimeoutExpired:
            raise PlaceError(
                f"git {words[0]} with {self.where.shown} was not done within {self._timeout:g} s",
                mend="Raise timeout, or see why the server is slow; running this again is safe",
            ) from None


def _quoted(value: str) -> str:
    """A value for git's configuration file."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _write(path: str, text: str, mode: str = "w") -> None:
    def private(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600)

    with open(path, mode, encoding="utf-8", opener=private) as stream:
        stream.write(text)
