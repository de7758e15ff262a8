# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `releases`: a folder of releases and a link to the current one, the layout of Capistrano and Deployer.

Every change goes: lock, fence, look, (stage), journal, switch, journal, restart, journal, health, journal. Each
phase is durable before the next begins, so a run that was killed anywhere is finished, or taken back, by the next one.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from .._errors import DeliveryError, OptionError, PlaceError
from . import content, plan
from .model import (
    CHECKING,
    DEPLOYED,
    FAILED,
    KNOWN_GOOD,
    RESTARTING,
    SETTLED,
    SWITCHING,
    Bad,
    Deploy,
    Good,
    Journal,
    Outcome,
    Promote,
    Release,
    Rollback,
    Situation,
    release_id,
)
from .place import Changes, Layout


class ReleasesBackend:
    """See `model.Backend`. `hands` are `Hands`, or `NoHands` in check mode; `clock` gives epoch seconds."""

    def __init__(self, layout: Layout, hands: Changes, clock: Callable[[], float] = time.time) -> None:
        self._layout = layout
        self._hands = hands
        self._clock = clock

    def current(self) -> Optional[str]:
        return self._layout.see().current

    def releases(self) -> Sequence[Release]:
        return self._layout.see().releases

    def known_good(self) -> Optional[str]:
        return plan.known_good(self._layout.see())

    def deploy(self, wish: Deploy) -> Outcome:
        release_id(wish.release)
        shared = content.shared_paths(wish.shared)
        if wish.src:
            content.check_source(wish.src)
        with self._run(wish.release, f"deploying {wish.release}", wish.token, make=bool(wish.src)) as run:
            run.provide(wish, shared)
            if run.seen.current == wish.release and not run.seen.unsettled and run.healthy():
                return run.outcome()
            run.change(
                Journal(
                    state=DEPLOYED,
                    before=wish.before or run.before(wish.release),
                    to=wish.release,
                    phase=SWITCHING,
                    at=self._clock(),
                    rollout=wish.rollout,
                    token=wish.token,
                )
            )
            return run.outcome()

    def rollback(self, wish: Rollback) -> Outcome:
        for named, option in ((wish.to, "to"), (wish.leave, "release")):
            if named:
                release_id(named, option)
        with self._run(wish.leave or None, "going back", wish.token) as run:
            seen = run.seen
            if plan.leaves(seen, wish):
                to = plan.target(seen, wish)
                run.blame(wish)
                journal = Journal(KNOWN_GOOD, seen.current, to, SWITCHING, self._clock(), wish.rollout, wish.token)
                run.change(journal)
            elif seen.journal and not seen.journal.settled and seen.current:
                run.change(replace(seen.journal.about(seen.current), at=self._clock(), problem=""))
            return run.outcome()

    def restart(self, token: Optional[int] = None) -> Outcome:
        """Restart what runs, and see that it is healthy. Asked again, it is done again."""
        with self._run(None, "restarting", token) as run:
            seen = run.seen
            if seen.current is None:
                raise PlaceError(f"nothing runs in {self._layout.root}, so there is nothing to restart")
            if not self._hands.restarts:
                raise OptionError("nobody says how to restart it", mend="Set restart in the policy")
            fresh = Journal(DEPLOYED, None, seen.current, RESTARTING, self._clock(), "", token)
            story = seen.journal.about(seen.current) if seen.journal else fresh
            run.change(replace(story, at=self._clock(), problem=""))
            return run.outcome()

    def mark_good(self, wish: Promote) -> Outcome:
        return self._promote(wish, prune=False)

    def promote(self, wish: Promote) -> Outcome:
        return self._promote(wish, prune=True)

    def _promote(self, wish: Promote, *, prune: bool) -> Outcome:
        release_id(wish.release)
        with self._run(wish.release, f"promoting {wish.release}", wish.token) as run:
            run.praise(wish)
            for release in plan.prunable(run.seen, wish) if prune else ():
                run.drop(release)
            return run.outcome()

    @contextmanager
    def _run(self, release: Optional[str], doing: str, token: Optional[int], *, make: bool = False) -> Iterator["_Run"]:
        began = time.monotonic()
        run: Optional[_Run] = None
        try:
            plan.fence(self._layout.see(), token)  # before the lock is even created
            with self._hands.hold(doing, make=make):
                seen = self._layout.see()
                plan.fence(seen, token)
                if token is not None and token != seen.token:
                    self._hands.remember(token)
                run = _Run(self._layout, self._hands, self._clock, seen, release, began)
                run.tidy()
                yield run
        except DeliveryError as problem:
            problem.details = {**(run.facts() if run else {"changed": False}), **problem.details}
            raise
        except OSError as problem:
            where = f" ({problem.filename})" if problem.filename else ""
            facts = run.facts() if run else {"changed": False}
            what = f"{doing} on {self._layout.root} failed: {problem.strerror or problem}{where}"
            raise PlaceError(what, mend="Mend the disk or its rights and run this again", details=facts) from None


class _Run:
    """One change under the lock: `seen` follows, in memory, what the hands do, so that check mode can tell it too."""

    def __init__(
        self,
        layout: Layout,
        hands: Changes,
        clock: Callable[[], float],
        seen: Situation,
        release: Optional[str],
        began: float,
    ) -> None:
        self.seen = seen
        self._first = seen
        self._layout = layout
        self._hands = hands
        self._clock = clock
        self._release = release
        self._began = began
        self._actions: List[str] = []
        self._warnings: List[str] = []

    def before(self, release: str) -> Optional[str]:
        """What an interrupted deploy of `release` found here, else what is here."""
        journal = self.seen.journal
        if self.seen.current != release:
            return self.seen.current
        return journal.before if journal and journal.to == release and journal.state == DEPLOYED else None

    def tidy(self) -> None:
        self._warnings += self._hands.tidy()

    def provide(self, wish: Deploy, shared: Tuple[str, ...]) -> None:
        """Let a whole release `wish.release` be here, and take in an unknown one that runs."""
        here = self._layout.release(wish.release)
        known = self.seen.find(wish.release)
        if known is None and os.path.lexists(here):
            raise PlaceError(f"{here} is not a folder, so no release can be put there")
        if known is None:
            self._stage(wish, shared)
        elif not known.complete and not wish.src:
            self._adopt(replace(known, version=wish.version or known.id, by=wish.by), shared)
        elif wish.src and content.digest(wish.src) != known.digest:
            other = f"has other content than {wish.src}" if known.digest else "was prepared by somebody else"
            raise PlaceError(
                f"release {known.id} is taken: what is here {other}",
                mend="Give the new content an id of its own",
            )
        self._describe(wish)
        self._adopt_current(wish)

    def change(self, journal: Journal) -> None:
        """Switch if needed, restart, and see that it is healthy; each phase is journalled before it begins."""
        if self.seen.current != journal.to:
            self._note(journal)
            self._hands.switch(journal.to)
            self.seen = replace(self.seen, current=journal.to)
            self._actions.append(f"switched to {journal.to}")
        self._note(replace(journal, phase=RESTARTING))
        self._attempt(journal, "restart", self._hands.restart())
        if self._hands.restarts:
            self._actions.append(f"restarted {journal.to}")
        self._note(replace(journal, phase=CHECKING))
        self._attempt(journal, "health check", self._hands.check())
        self._note(replace(journal, phase=SETTLED))

    def healthy(self) -> bool:
        return self._hands.check() is None

    def blame(self, wish: Rollback) -> None:
        """Mark the current release before it is left: afterwards nothing would tell that it has to be."""
        current = self.seen.find(self.seen.current)
        if current is None:
            return
        good = current.known_good
        if wish.undo and good and good.rollout == wish.rollout:
            good = None  # its rollout did not finish, so it has passed nothing
        bad = Bad(self._clock(), wish.bad) if wish.bad and not current.bad else current.bad
        if (good, bad) != (current.known_good, current.bad):
            self._record(replace(current, known_good=good, bad=bad))
            self._actions.append(f"marked {current.id} as {'bad' if bad else 'not known good'}")

    def praise(self, wish: Promote) -> None:
        """Mark the current release as known good."""
        if self.seen.current != wish.release:
            raise PlaceError(
                f"cannot promote release {wish.release}: {self.seen.current or 'no release'} is current here"
            )
        if self.seen.unsettled:
            raise PlaceError(
                f"cannot promote release {wish.release}: it was not restarted and found healthy here",
                mend="Deploy it again, which settles that",
            )
        current = self.seen.find(wish.release)
        if current is None:
            raise PlaceError(f"cannot promote release {wish.release}: its folder is gone")
        good = current.known_good
        if current.trusted and good and (not wish.rollout or good.rollout == wish.rollout):
            return
        complete = current if current.complete else self._vouched(current)
        self._record(replace(complete, known_good=Good(self._clock(), wish.rollout), bad=None))
        self._actions.append(f"marked {current.id} as known good")

    def drop(self, release: str) -> None:
        """Remove a release; one that cannot be removed is told, since the promotion itself stands."""
        try:
            self._hands.remove(release)
        except OSError as problem:
            self._warnings.append(f"release {release} could not be removed: {problem.strerror}")
            return
        left = tuple(known for known in self.seen.releases if known.id != release)
        self.seen = replace(self.seen, releases=left)
        self._actions.append(f"removed {release}")

    def outcome(self) -> Outcome:
        return Outcome(
            release=self._release or self.seen.current,
            before=self.seen.previous,
            current=self.seen.current,
            known_good=plan.known_good(self.seen),
            changed=bool(self._actions),
            actions=tuple(self._actions),
            warnings=tuple(self._warnings),
            diff={"before": _shown(self._first), "after": _shown(self.seen)},
            took=round(time.monotonic() - self._began, 3),
        )

    def facts(self) -> Dict[str, object]:
        """What there is to say beside an error."""
        return self.outcome().as_dict()

    def _attempt(self, journal: Journal, what: str, problem: Optional[str]) -> None:
        if problem is None:
            return
        self._actions.append(f"{what} failed")
        with suppress(OSError):  # on a full disk the journal stays as it is, which is as unsettled
            self._note(replace(journal, phase=FAILED, problem=problem[:500]))
        raise PlaceError(
            f"{what} of release {journal.to} failed: {problem}",
            mend=f"Release {journal.to} stays current until it is deployed again or taken back",
        )

    def _stage(self, wish: Deploy, shared: Sequence[str]) -> None:
        fresh = Release(
            id=wish.release,
            version=wish.version or wish.release,
            deployed_at=self._clock(),
            by=wish.by,
            complete=True,
            rollback=wish.rollback or "allowed",
        )
        self._know(self._hands.stage(fresh, wish.src, tuple(shared)))
        self._actions.append(f"staged {wish.release}")

    def _adopt(self, release: Release, shared: Sequence[str]) -> None:
        vouched = self._vouched(release)
        self._hands.adopt(vouched, tuple(shared))
        self._know(vouched)
        self._actions.append(f"adopted {release.id}")

    def _adopt_current(self, wish: Deploy) -> None:
        """A release that runs here without our metadata has to be a release that one can go back to."""
        current = self.seen.find(self.seen.current)
        if current and not current.complete and current.id != wish.release:
            self._adopt(current, ())

    def _vouched(self, release: Release) -> Release:
        at = release.deployed_at or self._clock()
        return replace(release, complete=True, version=release.version or release.id, deployed_at=at)

    def _describe(self, wish: Deploy) -> None:
        known = self.seen.find(wish.release)
        if known and known.bad:
            self._warnings.append(f"release {known.id} was found bad here before: {known.bad.reason}")
        if known and wish.rollback and wish.rollback != known.rollback:
            self._record(replace(known, rollback=wish.rollback))
            self._actions.append(f"set rollback of {known.id} to {wish.rollback}")

    def _record(self, release: Release) -> None:
        self._hands.record(release)
        self._know(release)

    def _note(self, journal: Journal) -> None:
        self._hands.note(journal)
        self.seen = replace(self.seen, journal=journal)

    def _know(self, release: Release) -> None:
        others = [known for known in self.seen.releases if known.id != release.id]
        ordered = sorted((release, *others), key=lambda known: (known.deployed_at, known.id), reverse=True)
        self.seen = replace(self.seen, releases=tuple(ordered))


def _shown(seen: Situation) -> Dict[str, object]:
    return {
        "current": seen.current,
        "releases": [release.id for release in seen.releases],
        "known_good": [release.id for release in seen.releases if release.known_good],
        "bad": [release.id for release in seen.releases if release.bad],
    }
