# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `helm`: a Helm release, whose revisions are releases in our sense, through the `helm` program.

A rollback is Helm's own: it makes a new revision with the chart, the values and the objects of an old one. What Helm
cannot promise is a lock against somebody else's helm in the same instant; that is looked for before and after, and
told.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from ..._errors import DeliveryError, OptionError, PlaceError
from .. import content, plan
from ..model import (
    DEPLOYED,
    KNOWN_GOOD,
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
)
from . import plan as helm_plan
from .cli import Chart
from .history import REMOVED, RUNS, History, Revision
from .labels import (
    CONTENT,
    REVISION,
    SALT,
    TOKEN,
    Labels,
    encode,
    fits,
    fresh,
    how_it_came,
    journal_labels,
    release_labels,
    unnamed,
)
from .place import Changes, Eyes

_DIGITS = 40  # hexadecimal digits of a content's digest that are kept


class HelmBackend:
    """See `model.Backend`. `chart` is only needed to deploy; `keep` is how many revisions Helm keeps (0: all)."""

    def __init__(
        self,
        eyes: Eyes,
        hands: Changes,
        *,
        chart: Optional[Chart] = None,
        keep: int = 10,
        patience: float = 600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.eyes = eyes
        self._hands, self._chart, self._keep, self._patience, self._clock = hands, chart, keep, patience, clock
        self.history = History()  # as it was seen last

    def current(self) -> Optional[str]:
        return self._look().situation().current

    def releases(self) -> Sequence[Release]:
        return self._look().situation().releases

    def known_good(self) -> Optional[str]:
        return plan.known_good(self._look().situation())

    def deploy(self, wish: Deploy) -> Outcome:
        fresh(wish.release)
        _check_ids(wish.before, wish.rollout)
        if self._chart is None:
            raise OptionError("chart is missing, and is needed to deploy")
        chart = self._chart
        with self._run(wish.release, wish.token) as run:
            if run.history.last is None:
                self.eyes.check_namespace()
            stamp = run.content(wish.release, chart)
            if run.seen.current == wish.release and not run.seen.unsettled:
                run.describe(wish)
            else:
                run.clear(wish.rollout)
                run.bring(wish, chart, stamp)
            return run.outcome()

    def rollback(self, wish: Rollback) -> Outcome:
        _check_ids(wish.to, wish.leave, wish.rollout)
        # a rollout that has not come this far is undone already
        with self._run(wish.leave or None, wish.token, there=not wish.undo) as run:
            if run.recognise(wish):
                return run.outcome()
            conflict = helm_plan.overtaken(run.history, wish)
            if conflict:
                raise conflict
            if plan.leaves(run.seen, wish):
                to = helm_plan.target(run.history, wish)
                run.unlock(wish.rollout)
                run.blame(wish)
                run.go_back(
                    to, Journal(KNOWN_GOOD, run.seen.current, run.history.id_of(to), SWITCHING, 0, wish.rollout)
                )
            elif run.seen.unsettled and run.mine(wish):
                run.unlock(wish.rollout)
                run.settle()
            return run.outcome()

    def mark_good(self, wish: Promote) -> Outcome:
        fits(wish.release, "release")
        _check_ids(wish.before, wish.rollout)
        with self._run(wish.release, wish.token, there=True) as run:
            run.praise(wish)
            return run.outcome()

    def promote(self, wish: Promote) -> Outcome:
        """`mark_good`: which revisions are kept is Helm's to say, when it makes the next one."""
        return self.mark_good(wish)

    def _look(self) -> History:
        self.history = self.eyes.look()
        return self.history

    @contextmanager
    def _run(self, release: Optional[str], token: Optional[int], *, there: bool = False) -> Iterator["_Run"]:
        began = time.monotonic()
        history = self._look()
        if there and history.last is None:
            raise self.eyes.missing()
        run = _Run(self, history, release, token, began)
        try:
            plan.fence(run.seen, token)
            yield run
        except DeliveryError as problem:
            problem.details = {**run.outcome().as_dict(), **run.history.tip(), **problem.details}
            raise
        finally:
            self.history = run.history


class _Run:
    """One change: `history` follows what the hands do, so that check mode can tell it too."""

    def __init__(
        self, backend: HelmBackend, history: History, release: Optional[str], token: Optional[int], began: float
    ) -> None:
        self.history = history
        self._first = history
        self._eyes, self._hands = backend.eyes, backend._hands
        self._keep, self._patience, self._clock = backend._keep, backend._patience, backend._clock
        self._release, self._token, self._began = release, token, began
        self._actions: List[str] = []
        self._warnings: List[str] = []

    @property
    def seen(self) -> Situation:
        return self.history.situation()

    def content(self, release: str, chart: Chart) -> Tuple[str, str]:
        """The digest of what is to be deployed, and its salt; PlaceError when `release` is something else here.

        What was never rolled out whole, nor found bad, may be given another chart and other values.
        """
        known, there = self._labels(release), self.seen.find(release)
        salt = known.get(SALT) or secrets.token_hex(8)
        found = _digest(chart, salt)
        if known.get(CONTENT, found) != found and there and (there.complete or there.bad):
            raise PlaceError(
                f"release {release} is taken: what is here has another chart or other values",
                mend="Give the new content an id of its own",
            )
        return found, salt

    def describe(self, wish: Deploy) -> None:
        """Store what is new about the release that runs here already."""
        current = self.seen.find(wish.release)
        self._warn_bad(current)
        if current and wish.rollback and wish.rollback != current.rollback:
            self._claim(replace(current, rollback=wish.rollback))
            self._actions.append(f"set rollback of {current.id} to {wish.rollback}")

    def unlock(self, rollout: str) -> Optional[Revision]:
        """The operation that a killed helm left; refused while it may be alive."""
        left = helm_plan.underway(self.history, rollout, self._clock(), self._patience)
        if left:
            self._warnings.append(f"revision {left.number} was left {left.status} by a helm that was killed")
        return left

    def clear(self, rollout: str) -> None:
        """Mend what a killed helm left, since Helm refuses to upgrade from there."""
        left, footing = self.unlock(rollout), helm_plan.footing(self.history)
        if left and footing:
            self.history = self._hands.rollback(self.history, footing, self._room(footing), wait=False)
            self._actions.append(f"mended {left.status} revision {left.number} by going back to {footing.number}")

    def bring(self, wish: Deploy, chart: Chart, stamp: Tuple[str, str]) -> None:
        """Upgrade to the release, or install it."""
        seen, number = self.seen, self.history.newest + 1
        known = seen.find(wish.release)
        self._warn_bad(known)
        before = wish.before or (seen.current if seen.current != wish.release else seen.previous) or ""
        journal = Journal(DEPLOYED, before, wish.release, SWITCHING, self._clock(), wish.rollout, wish.token)
        release = replace(known or Release(wish.release), version=wish.version or wish.release, by=wish.by)
        release = replace(release, rollback=wish.rollback or release.rollback)
        labels = {
            **release_labels(release, content=stamp[0], salt=stamp[1]),
            **journal_labels(journal, number),
            **self._fence(),
            **helm_plan.memory(self.history, seen),
        }
        self._remember()
        before_it, keep = self.history.newest, self._room()
        failed = self._attempt(lambda: self._hands.upgrade(self.history, chart, labels, keep))
        mine = self._made(before_it, lambda made: _alike(made.labels, labels))
        if mine and not mine.own:
            self._mark(mine, {**labels, REVISION: str(mine.number)})
        if mine:
            doing = "upgraded to" if before_it else "installed"
            self._actions.append(f"{doing} {wish.release} as revision {mine.number}{_but(mine)}")
        self._conclude(before_it, mine, failed)

    def recognise(self, wish: Rollback) -> bool:
        """Is what nobody named the known good release all the same? Then it is named, and nothing is done to it."""
        last, seen = self.history.last, self.seen
        if last is None or not last.sound or seen.current != unnamed(last.number) or wish.leave == seen.current:
            return False
        with suppress(PlaceError):
            to = helm_plan.target(self.history, wish)
            if to.chart == last.chart and self._eyes.same(to.number, last.number):
                release = seen.find(self.history.id_of(to))
                if release and release.trusted:
                    self._claim(release)
                    self._actions.append(f"recognised revision {last.number} as {release.id}: it has the same objects")
                    return True
        return False

    def mine(self, wish: Rollback) -> bool:
        """Is what is unsettled here ours to settle?"""
        journal, current = self.seen.journal, self.seen.find(self.seen.current)
        ours = journal is not None and bool(wish.rollout) and journal.rollout == wish.rollout
        return ours or (current is not None and current.trusted)

    def blame(self, wish: Rollback) -> None:
        """Mark the current release before it is left: afterwards nothing would tell that it has to be."""
        current, good = self.seen.find(self.seen.current), None
        if current is None:
            return self._remember()
        good = current.known_good
        if wish.undo and good and good.rollout == wish.rollout:
            good = None  # its rollout did not finish, so it has passed nothing
        bad = Bad(self._clock(), wish.bad) if wish.bad and not current.bad else current.bad
        if (good, bad) == (current.known_good, current.bad):
            return self._remember()
        self._claim(replace(current, known_good=good, bad=bad))
        self._actions.append(f"marked {current.id} as {'bad' if bad else 'not known good'}")

    def settle(self) -> None:
        """Bring what should run here, and does not do so whole, once more."""
        current = str(self.seen.current)
        to = self.history.sound(current) or self.history.last
        if to is not None and self.seen.journal is not None:
            self._remember()
            self.go_back(to, self.seen.journal)

    def go_back(self, to: Revision, journal: Journal) -> None:
        """Let Helm go back to the revision `to`, and see that this, and nothing else, is what came of it."""
        release, before = self.history.id_of(to), self.history.newest
        labels = self._labels(release)
        keep = self._room(to)
        failed = self._attempt(lambda: self._hands.rollback(self.history, to, keep))
        mine = self._made(before, lambda made: _from(made, to))
        if mine:
            # as ours it is known whatever becomes of the revision that it came from
            told = replace(journal, at=self._clock(), problem="", token=self._token)
            own = {**labels, "release": encode(release), **journal_labels(told, mine.number)}
            self._mark(mine, own)
            self._actions.append(f"went back to {release} (revision {to.number}) as revision {mine.number}{_but(mine)}")
        self._conclude(before, mine, failed)

    def praise(self, wish: Promote) -> None:
        """Mark the current release as known good."""
        seen, last = self.seen, self.history.last
        if seen.current != wish.release:
            what = seen.current or "no release"
            raise PlaceError(f"cannot promote release {wish.release}: {what} is current here")
        if seen.unsettled:
            raise PlaceError(
                f"cannot promote release {wish.release}: revision {last.number if last else 0} is not deployed whole",
                mend="Deploy it again, which settles that",
            )
        current = seen.find(wish.release)
        if current is None or last is None:
            raise PlaceError(f"cannot promote release {wish.release}: it is gone")
        good = current.known_good
        if current.trusted and good and (not wish.rollout or good.rollout == wish.rollout):
            return self._remember()
        self._claim(replace(current, known_good=Good(self._clock(), wish.rollout), bad=None))
        self._actions.append(f"marked {current.id} as known good")

    def outcome(self) -> Outcome:
        seen = self.seen
        return Outcome(
            release=self._release or seen.current,
            before=seen.previous,
            current=seen.current,
            known_good=plan.known_good(seen),
            changed=bool(self._actions),
            actions=tuple(self._actions),
            warnings=tuple(self._warnings),
            diff={"before": _shown(self._first), "after": _shown(self.history)},
            took=round(time.monotonic() - self._began, 3),
        )

    def _attempt(self, work: Callable[[], History]) -> Optional[DeliveryError]:
        """Let the hands work, and see what came of it also where they fail; returns why they did."""
        try:
            self.history = work()
        except DeliveryError as error:
            with suppress(DeliveryError):
                self.history = self._eyes.look()
            return error
        return None

    def _made(self, before: int, ours: Callable[[Revision], bool]) -> Optional[Revision]:
        """The revision after `before` that is ours."""
        return next((each for each in self.history.revisions if each.number > before and ours(each)), None)

    def _conclude(self, before: int, mine: Optional[Revision], failed: Optional[DeliveryError]) -> None:
        if failed:
            raise failed
        conflict = helm_plan.slipped_in(self.history, before, mine)
        if conflict:
            raise conflict

    def _claim(self, release: Release) -> None:
        """Store what is known of the release on the newest revision, as that revision's own."""
        last = self.history.last
        if last is None:
            return
        known = self._labels(release.id)
        told = release_labels(release, content=known.get(CONTENT, ""), salt=known.get(SALT, ""))
        how = how_it_came(last.labels) if last.own else {REVISION: str(last.number)}
        self._mark(last, {**how, **told})

    def _mark(self, revision: Revision, labels: Labels) -> None:
        """Store the labels on the revision, with our token and with what the newest known good is then."""
        marked = self.history.marked(revision.number, labels)
        told = {**labels, **self._fence(), **helm_plan.memory(marked, marked.situation())}
        self.history = self._hands.mark(self.history, revision, told)

    def _remember(self) -> None:
        """Let the place know our token before anything is done."""
        last = self.history.last
        if last is not None and last.status != REMOVED and self._token is not None and self._token != self.seen.token:
            self.history = self._hands.mark(self.history, last, {**last.labels, **self._fence()})

    def _fence(self) -> Dict[str, str]:
        highest = max((token for token in (self._token, self.seen.token) if token is not None), default=None)
        return {} if highest is None else {TOKEN: str(highest)}

    def _room(self, *besides: Revision) -> int:
        held = (*helm_plan.held(self.history, self.seen), *besides)
        keep = helm_plan.room(self.history, self._keep, held)
        if keep != self._keep:
            self._warnings.append(
                f"helm keeps {keep} revisions instead of {self._keep} (history_max), or the known good would be pruned"
            )
        return keep

    def _labels(self, release: str) -> Labels:
        """What is known of `release`, as labels."""
        history = self.history
        of_it = [each for each in history.revisions if history.id_of(each) == release]
        return history.facts[of_it[-1].number] if of_it else {}

    def _warn_bad(self, known: Optional[Release]) -> None:
        if known and known.bad:
            self._warnings.append(f"release {known.id} was found bad here before: {known.bad.reason}")


def _check_ids(*ids: str) -> None:
    for each in ids:
        if each:
            fits(each, "the id")


def _digest(chart: Chart, salt: str) -> str:
    """Of chart and values. The salt, which is never told, keeps a short secret among the values from being guessed."""
    files = []
    for path in chart.files:
        try:
            with open(path, "rb") as stream:
                files.append(hashlib.sha256(stream.read()).hexdigest())
        except OSError as problem:
            raise OptionError(f"values file {path} cannot be read: {problem.strerror}") from None
    there = content.digest(chart.ref) if os.path.exists(chart.ref) else chart.ref
    told = [salt, there, chart.version, json.loads(chart.values or "{}"), files, chart.reuse]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _but(revision: Revision) -> str:
    return "" if revision.status == RUNS else f", which is {revision.status}"


def _alike(labels: Labels, ours: Labels) -> bool:
    """Is it the revision that we made? The instant is as good as a name."""
    return all(labels.get(key) == ours.get(key) for key in ("release", "at", "rollout", TOKEN))


def _from(revision: Revision, to: Revision) -> bool:
    """Did this revision come of going back to `to`?"""
    if revision.went_back_to is not None:
        return revision.went_back_to == to.number
    return not revision.sound and revision.labels.get(REVISION) == to.labels.get(REVISION)


def _shown(history: History) -> Dict[str, object]:
    """For people; never a value of the chart."""
    seen, last = history.situation(), history.last
    return {
        "current": seen.current,
        **history.tip(),
        "app_version": last.app_version if last else None,
        "known_good": [release.id for release in seen.releases if release.known_good],
        "bad": [release.id for release in seen.releases if release.bad],
    }
