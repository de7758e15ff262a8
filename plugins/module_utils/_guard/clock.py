# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Can the wall clock be believed? Pure: the clocks come in. Times are epoch seconds, `up` is seconds since the boot.

Cooldowns and windows are measured by the wall clock, because they have to outlive a boot and hold on every controller.
A clock that was stepped shortens or stretches them, so that nothing is done automatically until the step is old.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .decision import Clock


def watch(
    note: Mapping[str, object],
    now: float,
    clock: Optional[Clock],
    store_time: Optional[float],
    newest_at: Optional[float],
    settle: float,
    tolerance: float,
) -> Tuple[Mapping[str, object], float]:
    """The note to keep for this boot, and by how many seconds the wall clock is wrong; 0.0 when it can be trusted.

    It is wrong when, by more than `tolerance`, it moved otherwise than the uptime since the last look of the same boot,
    differs from the store's own clock, or lies before the newest entry. That stays until `settle` seconds of uptime
    have passed. Without a `clock` nothing is kept, and it is wrong for as long as it is seen to be.
    """
    before = _numbers(note) if clock is not None and note.get("boot") == clock.boot else {}
    gaps = _gaps(now, store_time, clock, before.get("wall"), before.get("up"))
    if newest_at is not None and now < newest_at:
        gaps.append(now - newest_at)
    if clock is None:
        return note, _worst(gaps, tolerance)
    kept: Dict[str, object] = {"boot": clock.boot, "wall": now, "up": clock.up}
    drift, since = _worst(gaps, tolerance), clock.up
    if not drift and "drift" in before and "since" in before and clock.up - before["since"] < settle:
        drift, since = before["drift"], before["since"]
    if drift:
        kept.update(drift=drift, since=since)
    return kept, drift


def as_kept(
    note: Mapping[str, object], now: float, clock: Clock, store_time: Optional[float], tolerance: float, age: float
) -> bool:
    """Does the note of this boot, younger than `age` seconds, say that the clock can be trusted, and is it still so?"""
    wall, up = note.get("wall"), note.get("up")
    if not isinstance(wall, float) or not isinstance(up, float) or "drift" in note or note.get("boot") != clock.boot:
        return False
    return 0 <= clock.up - up < age and not _worst(_gaps(now, store_time, clock, wall, up), tolerance)


def _gaps(
    now: float, store_time: Optional[float], clock: Optional[Clock], wall: Optional[float], up: Optional[float]
) -> List[float]:
    """By how much the wall clock differs from the store's own, and from the uptime since it showed `wall` at `up`."""
    gaps = [now - store_time] if store_time is not None else []
    if clock is not None and wall is not None and up is not None:
        gaps.append((now - wall) - (clock.up - up))
    return gaps


def _worst(gaps: Sequence[float], tolerance: float) -> float:
    wrong = [gap for gap in gaps if gap > tolerance or gap < -tolerance]
    return max(wrong, key=abs) if wrong else 0.0


def _numbers(note: Mapping[str, object]) -> Dict[str, float]:
    return {
        key: float(value)
        for key, value in note.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
