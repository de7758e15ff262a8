# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where to go and what may go: pure decisions over a situation. No I/O, no clock."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

from .._errors import FencedError, PlaceError
from .model import Promote, Release, Rollback, Situation


def fence(seen: Situation, token: Optional[int]) -> None:
    """Refuse a caller whose token is lower than the highest that was seen here."""
    if token is not None and seen.token is not None and token < seen.token:
        raise FencedError(
            f"fencing token {token} is lower than {seen.token}, the highest seen on this place",
            mend="A newer run has taken over; look at what it did before running this one again",
            details={"token": token, "highest_token": seen.token, "current": seen.current, "changed": False},
        )


def known_goods(seen: Situation) -> Tuple[Release, ...]:
    """Releases that one may be sent back to, the one found good last first."""
    trusted = [release for release in seen.releases if release.trusted]
    return tuple(sorted(trusted, key=_found_good, reverse=True))


def known_good(seen: Situation, besides: Optional[str] = None) -> Optional[str]:
    """The newest known good that is neither current, nor bad, nor `besides`."""
    return next((release.id for release in known_goods(seen) if release.id not in (seen.current, besides)), None)


def owned(seen: Situation, rollout: str) -> Optional[str]:
    """The release that `rollout` brought here, by the place's own journal."""
    journal = seen.journal
    return journal.brought if journal and rollout and journal.rollout == rollout else None


def leaves(seen: Situation, wish: Rollback) -> bool:
    """Does this wish leave the current release? Asked again after it was fulfilled, the answer is no."""
    if seen.current is None:
        return not wish.undo
    if wish.to == seen.current:
        return False
    if seen.current in (wish.leave, owned(seen, wish.rollout)):
        return True
    if wish.undo or (wish.leave and wish.to):
        # the rollout has not come this far, is already undone, or somebody has released another one since
        return False
    current = seen.find(seen.current)
    by_hand = bool(wish.to) and not wish.rollout and not wish.leave
    return by_hand or current is None or not current.trusted


def target(seen: Situation, wish: Rollback) -> str:
    """The release to go back to; PlaceError when there is none, or when the current one must not be left."""
    leavable(seen, wish)
    return _pinned(seen, wish) if wish.to else _newest(seen, _undoes(seen, wish))


def leavable(seen: Situation, wish: Rollback) -> None:
    """Refuse to leave a blocked release, but for the undo of the rollout that brought it."""
    current = seen.find(seen.current)
    if current and current.blocked and not _undoes(seen, wish):
        raise PlaceError(
            f"release {current.id} does not allow to be rolled back",
            mend="Switch its feature off by a flag, or deploy a release that mends it",
            details=_unchanged(seen),
        )


def _undoes(seen: Situation, wish: Rollback) -> bool:
    return wish.undo and seen.current is not None and owned(seen, wish.rollout) == seen.current


def _pinned(seen: Situation, wish: Rollback) -> str:
    pinned = seen.find(wish.to)
    if pinned is None or not pinned.complete:
        what = "is not on this place" if pinned is None else "is not complete"
    elif pinned.trusted or wish.undo:  # an undo may return to what ran before, whatever is known of it
        return pinned.id
    else:
        what = f"was found bad: {pinned.bad.reason}" if pinned.bad else "has never been known good here"
    raise PlaceError(f"cannot go back to release {wish.to}: it {what}", mend=_mend(seen), details=_unchanged(seen))


def _newest(seen: Situation, undo: bool) -> str:
    back = seen.find(seen.journal.back) if undo and seen.journal else None
    if back and back.trusted and back.id != seen.current:
        return back.id
    newest = known_good(seen)
    if newest:
        return newest
    if back and back.complete and not back.bad and back.id != seen.current:
        return back.id
    raise PlaceError(
        "there is no known good release to go back to",
        mend="Deploy a release that mends it; a release becomes known good when it is promoted",
        details=_unchanged(seen),
    )


def prunable(seen: Situation, wish: Promote) -> Tuple[str, ...]:
    """What may be removed so that `keep` releases stay, oldest first.

    Never the current one, the last known good, the one a rollback would go to, or what the rollout pinned; and never
    a folder that is not ours.
    """
    last = known_goods(seen)[:1]
    journal = (seen.journal.before, seen.journal.to) if seen.journal else ()
    held = {seen.current, known_good(seen), wish.before, *journal, *(release.id for release in last)}
    surplus = [release for release in seen.releases if release.complete][wish.keep :]
    return tuple(release.id for release in reversed(surplus) if release.id not in held)


def _found_good(release: Release) -> Tuple[float, float, str]:
    return (release.known_good.at if release.known_good else 0.0, release.deployed_at, release.id)


def _mend(seen: Situation) -> str:
    candidates = ", ".join(release.id for release in known_goods(seen) if release.id != seen.current)
    return f"Known good here: {candidates}" if candidates else "No other release is known good here"


def _unchanged(seen: Situation) -> Dict[str, object]:
    return {"current": seen.current, "changed": False}


def facts(seen: Situation) -> Dict[str, object]:
    """What every info module tells of a place, JSON-safe."""
    return {
        "current": seen.current,
        "previous": seen.previous,
        "known_good": known_good(seen),
        "releases": [release.as_dict() for release in seen.releases],
        "journal": seen.journal.as_dict() if seen.journal else None,
        "settled": not seen.unsettled,
        "token": seen.token,
    }
