# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be done to a Helm release, beside what `plan` says of every place: pure decisions over its history."""

from __future__ import annotations

import time
from typing import Dict, Optional, Tuple

from ..._errors import PlaceError
from .. import plan
from ..model import KNOWN_GOOD, Rollback, Situation
from .history import History, Revision
from .labels import GOOD_WAS, GOOD_WAS_REVISION, encode, journal_facts


def overtaken(history: History, wish: Rollback) -> Optional[PlaceError]:
    """The conflict that somebody else deployed after what `wish` wants to leave: theirs is not overwritten.

    A person who names neither a release nor a rollout wants whatever runs to be left.
    """
    seen, last = history.situation(), history.last
    brought = history.brought_by(wish.rollout)
    named = wish.leave or brought
    if last is None or not named or seen.current in (None, named, brought):
        return None
    current, journal = seen.find(seen.current), seen.journal
    left = journal is not None and journal.state == KNOWN_GOOD and journal.before == named
    if left or (current is not None and current.trusted) or wish.to == seen.current:
        return None
    if wish.undo and seen.find(named) is None:
        return None  # the rollout has not come this far
    return PlaceError(
        f"{_named(last, str(seen.current))} was deployed by somebody else, and not {named}: it is not overwritten",
        mend="Look at helm history. To leave it all the same, name it in release, without undo",
        details={"current": seen.current, "revision": last.number, "conflict": True, "changed": False},
    )


def underway(history: History, rollout: str, now: float, patience: float) -> Optional[Revision]:
    """The operation that a killed helm left unfinished; PlaceError while it may be alive and is not our rollout's.

    Helm marks no owner and no heartbeat, so all that tells is how long ago it began.
    """
    last = history.last
    if last is None or not last.underway:
        return None
    told = journal_facts(last.labels) if last.own else {}
    age = now - last.since
    if age >= patience or (rollout and told.get("rollout") == rollout):
        return last
    who = f"rollout {told['rollout']}" if told.get("rollout") else "somebody who left no name"
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(last.since))
    raise PlaceError(
        f"helm is at it: revision {last.number} is {last.status} since {since} ({age:.0f} s), begun by {who}",
        mend=f"Wait until it ends; after {patience:.0f} s (pending_timeout) it is taken for killed, and mended",
        details={"revision": last.number, "status": last.status, "conflict": True, "changed": False},
    )


def footing(history: History) -> Optional[Revision]:
    """Where to put a Helm release that a killed helm left, so that it can be upgraded again."""
    sound = [revision for revision in history.revisions if revision.sound]
    return sound[-1] if sound else history.last


def room(history: History, keep: int, held: Tuple[Optional[Revision], ...]) -> int:
    """How many revisions Helm has to keep, `keep` or more, so that the next one does not prune the `held` ones.

    Helm prunes the oldest first, until there is place for one more. 0 keeps all of them.
    """
    oldest = min((each.number for each in held if each is not None), default=None)
    if keep == 0 or oldest is None:
        return keep
    return max(keep, sum(each.number >= oldest for each in history.revisions) + 1)


def held(history: History, seen: Situation) -> Tuple[Optional[Revision], ...]:
    """The revisions that a rollback may need."""
    goods = plan.known_goods(seen)[:1]
    ids = {seen.current, plan.known_good(seen), *(release.id for release in goods)}
    return tuple(history.sound(release) for release in ids if release)


def memory(history: History, seen: Situation) -> Dict[str, str]:
    """Labels that tell of the newest known good, also when Helm has pruned it."""
    for release in plan.known_goods(seen):
        revision = history.sound(release.id)
        if revision:
            return {GOOD_WAS: encode(release.id), GOOD_WAS_REVISION: str(revision.number)}
    told = history.last.labels if history.last else {}
    return {key: told[key] for key in (GOOD_WAS, GOOD_WAS_REVISION) if key in told}


def target(history: History, wish: Rollback) -> Revision:
    """The revision to go back to; PlaceError when there is none, or when the current one must not be left."""
    seen = history.situation()
    gone = history.pruned_good()
    try:
        release = plan.target(seen, wish)
    except PlaceError as error:
        if not gone or plan.known_goods(seen):
            raise
        raise PlaceError(
            f"{error.what}: {gone} was, but helm has pruned it from its history",
            mend="Deploy it again, the ledger has its record; history_max says how many revisions helm keeps",
            details=error.details,
        ) from None
    found = history.sound(release)
    if found is None:
        raise PlaceError(f"release {release} has no revision that was rolled out whole", details={"changed": False})
    return found


def slipped_in(history: History, before: int, mine: Optional[Revision]) -> Optional[PlaceError]:
    """The conflict that somebody's helm ran between our look and the end of ours: Helm itself does not prevent it."""
    details = {"conflict": True, "revision": history.newest}
    if mine is None:
        return PlaceError("the new revision is not in helm's history", mend="Look at helm history", details=details)
    if mine.number > before + 1:
        others = ", ".join(str(number) for number in range(before + 1, mine.number))
        what = f"revision {others} of somebody else slipped in, and was overwritten by our revision {mine.number}"
        return PlaceError(
            what, mend="Look at helm history, and deploy theirs again where it is wanted", details=details
        )
    if history.newest > mine.number:
        what = f"somebody else deployed revision {history.newest} on top of our revision {mine.number}"
        return PlaceError(what, mend="Look at helm history before you run this again", details=details)
    return None


def _named(revision: Revision, release: str) -> str:
    return f"revision {revision.number} ({release}, chart {revision.chart}, {revision.status})"
