# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of changing a place: releases, the journal, what is wished, what came of it, and the backends' protocol.

Pure data, JSON-safe both ways, standard library only: this runs on places with Python 3.9. Times are epoch seconds.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Dict, Mapping, Optional, Protocol, Sequence, Tuple

from .._errors import OptionError

DEPLOYED = "deployed"
KNOWN_GOOD = "known_good"
PROMOTED = "promoted"
STATES = (DEPLOYED, KNOWN_GOOD, PROMOTED)
RESTARTED = "restarted"  # the same release, which only some backends can do

# the journal's phases: what may have happened is always at least what the phase says
SWITCHING = "switching"
RESTARTING = "restarting"
CHECKING = "checking"
FAILED = "failed"
SETTLED = "settled"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}\Z")


def release_id(text: str, option: str = "release") -> str:
    """`text`, when it can name a release: a single path component that cannot leave the folder."""
    if not _ID.match(text):
        raise OptionError(
            f"{option} {text!r} cannot name a release",
            mend="Use 1 to 128 letters, digits, and . _ + ~ -, with a letter or a digit first",
        )
    return text


@dataclass(frozen=True)
class Good:
    """When a release passed its bake here, and in which rollout."""

    at: float
    rollout: str = ""


@dataclass(frozen=True)
class Bad:
    """When a release was found bad here, and why."""

    at: float
    reason: str = ""


@dataclass(frozen=True)
class Release:
    """One version on one place, as it is stored with the version itself.

    `complete` is false for a folder that nobody vouches for: it is never switched to. `digest` is empty for a folder
    that was prepared by somebody else. `blocked` releases cannot be left by a rollback, only by the undo of their own
    unfinished rollout.
    """

    id: str
    version: str = ""
    deployed_at: float = 0.0
    by: str = ""
    digest: str = ""
    complete: bool = False
    known_good: Optional[Good] = None
    bad: Optional[Bad] = None
    rollback: str = "allowed"

    @property
    def blocked(self) -> bool:
        return self.rollback != "allowed"

    @property
    def trusted(self) -> bool:
        """May somebody be sent back to this release?"""
        return self.complete and self.known_good is not None and self.bad is None

    def as_dict(self) -> Dict[str, object]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Release":
        good, bad = data.get("known_good"), data.get("bad")
        return cls(
            id=text(data, "id"),
            version=text(data, "version"),
            deployed_at=number(data, "deployed_at"),
            by=text(data, "by"),
            digest=text(data, "digest"),
            complete=data.get("complete") is True,
            known_good=Good(number(good, "at"), text(good, "rollout")) if isinstance(good, dict) else None,
            bad=Bad(number(bad, "at"), text(bad, "reason")) if isinstance(bad, dict) else None,
            rollback=text(data, "rollback") or "allowed",
        )


@dataclass(frozen=True)
class Journal:
    """The last change of this place, written before each of its phases.

    `state` is the change's direction: `deployed` brought `to`, `known_good` left `before`. `problem` says why it
    failed.
    """

    state: str
    before: Optional[str]
    to: str
    phase: str
    at: float
    rollout: str = ""
    token: Optional[int] = None
    problem: str = ""

    @property
    def settled(self) -> bool:
        """False while the processes may not run, healthily, what `current` points to."""
        return self.phase == SETTLED

    @property
    def brought(self) -> Optional[str]:
        """The release that the journal's rollout brought here."""
        return self.to if self.state == DEPLOYED else self.before

    @property
    def back(self) -> Optional[str]:
        """The release on the journal's way back."""
        return self.before if self.state == DEPLOYED else self.to

    def about(self, current: str) -> "Journal":
        """The same story for a place that is found at `current`, wherever a kill left it."""
        if current == self.brought:
            return replace(self, state=DEPLOYED, before=self.back, to=current)
        return replace(self, state=KNOWN_GOOD, before=self.brought, to=current)

    def as_dict(self) -> Dict[str, object]:
        return dict(asdict(self), settled=self.settled)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Journal":
        token = data.get("token")
        return cls(
            state=text(data, "state"),
            before=text(data, "before") or None,
            to=text(data, "to"),
            phase=text(data, "phase"),
            at=number(data, "at"),
            rollout=text(data, "rollout"),
            token=token if isinstance(token, int) else None,
            problem=text(data, "problem"),
        )


@dataclass(frozen=True)
class Situation:
    """What a place looks like at one instant. `releases` are newest first; `token` is the highest one seen."""

    current: Optional[str] = None
    releases: Tuple[Release, ...] = ()
    journal: Optional[Journal] = None
    token: Optional[int] = None

    def find(self, release: Optional[str]) -> Optional[Release]:
        return next((known for known in self.releases if known.id == release), None)

    @property
    def unsettled(self) -> bool:
        return self.journal is not None and not self.journal.settled

    @property
    def previous(self) -> Optional[str]:
        """What ran here before `current`, where the journal knows it."""
        journal = self.journal
        return journal.before if journal and journal.to == self.current else None


@dataclass(frozen=True)
class Deploy:
    """Wish: run `release` here. `src` is a folder or a tar archive on the place; without it the folder is there."""

    release: str
    src: str = ""
    version: str = ""
    by: str = ""
    shared: Tuple[str, ...] = ()
    rollback: Optional[str] = None  # allowed | blocked; None leaves what is stored
    before: str = ""  # what the rollout's intent says ran here before
    rollout: str = ""
    token: Optional[int] = None


@dataclass(frozen=True)
class Rollback:
    """Wish: run a release that is known to be good. `to` pins it; `leave` names the release that has to go."""

    to: str = ""
    leave: str = ""
    bad: str = ""  # why the release that is left is bad; empty marks nothing
    undo: bool = False  # this is the undo of `rollout`, which has not finished
    rollout: str = ""
    token: Optional[int] = None


@dataclass(frozen=True)
class Promote:
    """Wish: `release`, which runs here, is known to be good from now on; keep that many releases."""

    release: str
    keep: int = 5
    before: str = ""
    rollout: str = ""
    token: Optional[int] = None


@dataclass(frozen=True)
class Outcome:
    """What came of a wish. `known_good` is where a rollback would go to now; `took` is in seconds."""

    release: Optional[str]
    before: Optional[str]
    current: Optional[str]
    known_good: Optional[str]
    changed: bool
    actions: Tuple[str, ...] = ()
    warnings: Tuple[str, ...] = ()
    diff: Mapping[str, object] = field(default_factory=dict)
    took: float = 0.0

    def as_dict(self) -> Dict[str, object]:
        facts = asdict(self)
        facts["actions"], facts["warnings"] = list(self.actions), list(self.warnings)
        return facts


class Backend(Protocol):
    """What every kind of place promises: a folder of releases here, a Deployment or a Helm release elsewhere.

    Each change is safe to be killed anywhere and to be asked for again; it raises `FencedError` when a newer holder
    has been here, `PlaceError` when the place could not be changed (its details say what runs now), and
    `OptionError` when the wish makes no sense; the last changes nothing.
    """

    def current(self) -> Optional[str]: ...

    def releases(self) -> Sequence[Release]:
        """Newest first."""

    def known_good(self) -> Optional[str]:
        """Where a rollback would go to now: the newest known good that is neither current nor bad."""

    def deploy(self, wish: Deploy) -> Outcome: ...

    def rollback(self, wish: Rollback) -> Outcome: ...

    def promote(self, wish: Promote) -> Outcome:
        """`mark_good`, and put away what is no longer needed."""

    def mark_good(self, wish: Promote) -> Outcome: ...


def text(data: Mapping[str, object], key: str) -> str:
    value = data.get(key)
    return value if isinstance(value, str) else ""


def number(data: Mapping[str, object], key: str) -> float:
    value = data.get(key)
    return float(value) if isinstance(value, (int, float)) else 0.0
