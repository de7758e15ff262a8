# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freeze windows: when nothing new is rolled out, by the calendar of a time zone. Pure, but for the zone's rules.

A window is one span of dates, or comes back on days of the week, by the clock on the wall there: one that begins at
22:00 does so in summer and in winter. Where that clock shows a time twice, or skips it, the window is the longer one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import List, Optional, Sequence, Tuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from .._errors import OptionError, nearest
from .._judge.part import Part, shown

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
KEYS = ("name", "zone", "days", "from", "until")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::00)?")
_DAY = 24 * 60  # minutes
_CHAINED = 14  # windows that follow one another without a gap, and are told as one


@dataclass(frozen=True)
class Window:
    """`span` is (from, until) in epoch seconds; without one, it begins on `days` at `start` and lasts until `end`.

    `start` and `end` are minutes since midnight; an end that is not after the start is one of the next day.
    """

    name: str
    zone: tzinfo
    span: Optional[Tuple[float, float]] = None
    days: Tuple[int, ...] = ()  # 0 is Monday
    start: int = 0
    end: int = _DAY

    def until(self, now: float) -> Optional[float]:
        """When the window ends that `now` lies in; None outside."""
        ends = [end for start, end in self._spans(now) if start <= now < end]
        return max(ends) if ends else None

    def _spans(self, now: float) -> Sequence[Tuple[float, float]]:
        if self.span is not None:
            return (self.span,)
        today = datetime.fromtimestamp(now, self.zone).date()
        nights = self.end + (0 if self.end > self.start else _DAY)
        begins = [today - timedelta(days=1), today]
        return [
            (_instant(day, self.start, self.zone)[0], _instant(day, nights, self.zone)[1])
            for day in begins
            if day.weekday() in self.days
        ]


def frozen(windows: Sequence[Window], now: float) -> Optional[Tuple[Window, float]]:
    """The window that `now` lies in, and when the last one that follows without a gap ends; None when there is none."""
    first, end = None, now
    for _round in range(_CHAINED):
        ends = [(until, window) for window in windows for until in [window.until(end)] if until is not None]
        if not ends:
            break
        until, window = max(ends, key=lambda pair: pair[0])
        first, end = first or window, until
    return None if first is None else (first, end)


def parse_windows(raw: Sequence[object]) -> Tuple[Window, ...]:
    """The windows that people wrote under `freeze`; OptionError names the one that is wrong, and its key."""
    return tuple(_window(item, index) for index, item in enumerate(raw, 1))


def _window(raw: object, index: int) -> Window:
    part = Part(f"freeze {index}", raw, KEYS)
    zone = _zone(part)
    name = part.get("name")
    if name is not None and not isinstance(name, str):
        raise OptionError(f"{part.where}: name must be text, not {shown(name)}", mend="Correct name")
    title = str(name) if name else part.where
    if part.get("days") is None and _minutes(part.get("from")) is None:
        return Window(title, zone, span=_span(part, zone))
    start, end = _time(part, "from", 0), _time(part, "until", _DAY)
    return Window(title, zone, days=_days(part), start=start, end=end)


def _zone(part: Part) -> tzinfo:
    name = part.get("zone")
    if name is None or name == "UTC":
        return timezone.utc
    if not isinstance(name, str):
        raise OptionError(f"{part.where}: zone must be text, not {shown(name)}", mend="Write it as Europe/Berlin")
    try:
        return ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
    if not known:
        raise OptionError(
            f"{part.where}: zone {shown(name)} cannot be looked up, because this controller has no time zone database",
            mend="Install the operating system's tzdata, or the Python package tzdata, or use zone: UTC",
        )
    raise OptionError(
        f"{part.where}: {shown(name)} is no time zone{nearest(str(name), known)}", mend="Name one as Europe/Berlin"
    )


def _days(part: Part) -> Tuple[int, ...]:
    names = part.items("days") if part.get("days") is not None else DAYS
    if not names:
        raise OptionError(f"{part.where}: days is empty", mend=f"Name some of {', '.join(DAYS)}, or leave it out")
    found: List[int] = []
    for name in names:
        short = str(name).strip().lower()
        if short not in DAYS:
            raise OptionError(
                f"{part.where}: {shown(name)} is no day{nearest(short, DAYS)}", mend=f"Days are {', '.join(DAYS)}"
            )
        found.append(DAYS.index(short))
    return tuple(found)


def _time(part: Part, key: str, default: int) -> int:
    raw = part.get(key)
    minutes = default if raw is None else _minutes(raw)
    if minutes is None or not 0 <= minutes <= (_DAY if key == "until" else _DAY - 1):
        raise OptionError(f"{part.where}: {key} must be a time such as 22:00, not {shown(raw)}", mend=f"Correct {key}")
    return minutes


def _minutes(raw: object) -> Optional[int]:
    """Minutes since midnight. YAML 1.1 reads 22:00 without quotes as the number 22 * 60: the very same."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return int(raw)
    match = _TIME.fullmatch(str(raw).strip()) if isinstance(raw, str) else None
    if match is None or int(match[2]) > 59:
        return None
    return int(match[1]) * 60 + int(match[2])


def _span(part: Part, zone: tzinfo) -> Tuple[float, float]:
    start, end = _date(part, "from", zone)[0], _date(part, "until", zone)[1]
    if end <= start:
        raise OptionError(f"{part.where}: until is not after from", mend="Correct from or until")
    return start, end


def _date(part: Part, key: str, zone: tzinfo) -> Tuple[float, float]:
    """The earliest and the latest instant that is meant: a date alone is the whole day."""
    raw = part.get(key)
    text = str(raw).strip() if isinstance(raw, (str, date)) else ""
    try:
        if len(text) == len("2026-12-24"):
            day = date.fromisoformat(text)
            return _instant(day, 0, zone)[0], _instant(day, _DAY, zone)[1]
        at = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise OptionError(
            f"{part.where}: {key} must be a date such as 2026-12-24 or 2026-12-24T18:00, not {shown(raw)}",
            mend=f"Correct {key}; a window that comes back every week has days, or times of day in from and until",
        ) from None
    if at.tzinfo is not None:
        return at.timestamp(), at.timestamp()
    return _both(at.replace(tzinfo=zone))


def _instant(day: date, minutes: int, zone: tzinfo) -> Tuple[float, float]:
    moved, rest = divmod(minutes, _DAY)
    at = datetime.combine(day + timedelta(days=moved), time(rest // 60, rest % 60), zone)
    return _both(at)


def _both(at: datetime) -> Tuple[float, float]:
    """The earlier and the later instant at which the clock on the wall shows it, or would have."""
    found = sorted((at.replace(fold=0).timestamp(), at.replace(fold=1).timestamp()))
    return found[0], found[1]
