# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a repository tells of its releases: a journal of annotated tags, and the situation that follows from it. Pure.

Every change of a service on one branch and path adds one tag, `selfheal/<service>/<scope>/<number>`, in the same
atomic push as the commit it speaks of. Numbers begin at 1 without a gap at the end, and a tag is never moved, so that
adding the next one is a compare-and-swap that every git server offers: of two writers who saw the same journal, one
is refused. That orders deploys, promotions and rollbacks without a clock, and without a forced push.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, Mapping, Optional, Tuple

from ..model import (
    DEPLOYED,
    KNOWN_GOOD,
    PROMOTED,
    SETTLED,
    STATES,
    Bad,
    Good,
    Journal,
    Release,
    Situation,
    number,
    text,
)
from ..wishes import whole

_NAME = re.compile(r"(\d{6,12})\Z")


def prefix(service: str, branch: str, path: str) -> str:
    """The tags' common name. The scope keeps apart one service on several branches or paths of one repository."""
    slug = re.sub(r"[^A-Za-z0-9_]+", "-", service).strip("-")[:60] or "service"
    scope = hashlib.sha256(json.dumps([service, branch, path]).encode()).hexdigest()[:8]
    return f"selfheal/{slug}/{scope}"


@dataclass(frozen=True)
class Mark:
    """One entry of the journal: what was done (`state`), and to which `release`.

    `commit` is the branch's head after it, `content` the id of the tree (or file) below the path there. `before` is
    the release that was left; `adopted` is the commit at which `before` was found when nothing was known of it, and
    `adopted_content` what was there. `bad` says why `before` is bad; `unproven` takes back that it was good.
    """

    number: int
    commit: str
    state: str
    release: str
    content: str
    at: float
    by: str = ""
    version: str = ""
    before: str = ""
    adopted: str = ""
    adopted_content: str = ""
    bad: str = ""
    unproven: bool = False
    rollback: str = ""
    rollout: str = ""
    token: Optional[int] = None

    @property
    def body(self) -> str:
        """One line of JSON; the number and the commit are the tag's own."""
        told = {key: value for key, value in vars(self).items() if value not in ("", None, False) and key != "number"}
        return json.dumps(told, sort_keys=True)

    @property
    def moves(self) -> bool:
        """Did it change which release is current?"""
        return self.state in (DEPLOYED, KNOWN_GOOD)


def number_of(name: str) -> Optional[int]:
    """The number at the end of a tag's name."""
    found = _NAME.search(name.rpartition("/")[2])
    return int(found.group(1)) if found else None


def mark(at_number: int, commit: str, body: str) -> Optional[Mark]:
    """The entry in a tag's message, or None when this is not one of ours."""
    try:
        data = json.loads(body)
    except ValueError:
        return None
    if not commit or not isinstance(data, dict) or data.get("state") not in STATES or not text(data, "release"):
        return None
    return Mark(
        number=at_number,
        commit=commit,
        state=text(data, "state"),
        release=text(data, "release"),
        content=text(data, "content"),
        at=number(data, "at"),
        by=text(data, "by"),
        version=text(data, "version"),
        before=text(data, "before"),
        adopted=text(data, "adopted"),
        adopted_content=text(data, "adopted_content"),
        bad=text(data, "bad"),
        unproven=data.get("unproven") is True,
        rollback=text(data, "rollback"),
        rollout=text(data, "rollout"),
        token=whole(data.get("token")),
    )


@dataclass(frozen=True)
class View:
    """The branch as it was read.

    Its `head`; the id of the `content` below the path, empty when there is nothing; the commit that last `touched`
    it, where that is no release; the journal, oldest first; the numbers of those entries whose commit the branch
    still contains (`merged`); and the number that the next entry takes (`free`).
    """

    head: str
    content: str = ""
    touched: str = ""
    marks: Tuple[Mark, ...] = ()
    merged: FrozenSet[int] = frozenset()
    free: int = 1

    @property
    def last(self) -> Optional[Mark]:
        """The last deploy or rollback."""
        return next((entry for entry in reversed(self.marks) if entry.moves), None)

    @property
    def commits(self) -> Mapping[str, str]:
        """Where the content of each release is found in the branch's history."""
        found: Dict[str, str] = {}
        for entry in self.marks:
            if entry.number in self.merged:
                if entry.adopted:
                    found.setdefault(entry.before, entry.adopted)
                found[entry.release] = entry.commit
        return found

    @property
    def recorded(self) -> bool:
        """Is what the branch holds below the path a release that the journal knows?"""
        return self._current() is not None

    @property
    def seen(self) -> Situation:
        """What lies there without a record is current under the id of its commit."""
        releases = _releases(self)
        last = self.last
        unrecorded = self.touched[:12] if self.content or self.marks else None
        return Situation(
            current=self._current() or unrecorded,
            releases=tuple(reversed(releases.values())),
            journal=_journal(last) if last else None,
            token=max((entry.token for entry in self.marks if entry.token is not None), default=None),
        )

    def _current(self) -> Optional[str]:
        """The release of the last change if it is still there, else the newest one with the same content."""
        last = self.last
        if not last:
            return None
        if last.content == self.content:
            return last.release
        same = [known.id for known in _releases(self).values() if known.digest == self.content]
        return same[-1] if same else None

    def after(self, entry: Mark) -> "View":
        """The view that follows when `entry` has been pushed."""
        return replace(
            self,
            head=entry.commit,
            content=entry.content,
            marks=(*self.marks, entry),
            merged=self.merged | {entry.number},
            free=entry.number + 1,
        )

    def disposable(self, dropped: Tuple[str, ...]) -> Tuple[Mark, ...]:
        """Entries that tell nothing but of `dropped` releases; never the last one, nor the highest token."""
        token = self.seen.token
        newest = {entry.number for entry in (self.last, *self.marks[-1:]) if entry}
        return tuple(
            entry
            for entry in self.marks
            if entry.release in dropped
            and (entry.before in dropped or not (entry.bad or entry.unproven or entry.adopted))
            and entry.number not in newest
            and (token is None or entry.token != token)
        )


def _releases(view: View) -> Dict[str, Release]:
    """What the journal says of each release, the one that was deployed first first."""
    found: Dict[str, Release] = {}
    for entry in view.marks:
        if entry.adopted and entry.before not in found:
            found[entry.before] = Release(
                id=entry.before, version=entry.before, deployed_at=entry.at, digest=entry.adopted_content
            )
        known = found.get(entry.release) or Release(
            id=entry.release,
            version=entry.version or entry.release,
            deployed_at=entry.at,
            by=entry.by,
            digest=entry.content,
        )
        if entry.state == DEPLOYED:
            known = replace(known, rollback=entry.rollback or known.rollback)
        if entry.state == PROMOTED:
            known = replace(known, known_good=Good(entry.at, entry.rollout), bad=None)
        found[entry.release] = known
        left = found.get(entry.before)
        if entry.state == KNOWN_GOOD and left:
            good = None if entry.unproven else left.known_good
            bad = Bad(entry.at, entry.bad) if entry.bad else left.bad
            found[entry.before] = replace(left, known_good=good, bad=bad)
    reachable = view.commits
    return {name: replace(known, complete=name in reachable) for name, known in found.items()}


def _journal(last: Mark) -> Journal:
    return Journal(
        state=last.state,
        before=last.before or None,
        to=last.release,
        phase=SETTLED,  # a push is atomic: there is nothing halfway
        at=last.at,
        rollout=last.rollout,
        token=last.token,
    )
