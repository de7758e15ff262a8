# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Freeze windows follow the calendar of their zone, through both changes of the clocks."""

from __future__ import annotations

import sys
import zoneinfo
from datetime import date, datetime
from typing import List, Optional
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import freeze
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.freeze import frozen, parse_windows

NIGHTS = {"name": "the night", "zone": "Europe/Berlin", "from": "22:00", "until": "06:00"}


def utc(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def until(raw: object, at: str) -> Optional[float]:
    found = frozen(parse_windows([raw]), utc(at))
    return None if found is None else found[1]


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        ("2026-01-14T20:59:59", None),
        ("2026-01-14T21:00", "2026-01-15T05:00"),  # winter: one hour ahead of UTC
        ("2026-01-15T04:59:59", "2026-01-15T05:00"),
        ("2026-01-15T05:00", None),
        ("2026-07-14T19:59", None),
        ("2026-07-14T20:00", "2026-07-15T04:00"),  # summer: two hours
        ("2026-03-28T21:00", "2026-03-29T04:00"),  # the night that lost an hour
        ("2026-10-24T20:00", "2026-10-25T05:00"),  # the night that had one more
        ("2026-10-25T04:30", "2026-10-25T05:00"),
    ],
)
def test_a_nightly_window_over_midnight(at: str, ends: Optional[str]) -> None:
    assert until(NIGHTS, at) == (utc(ends) if ends else None)


@pytest.mark.parametrize(
    ("start", "end", "at", "ends"),
    [
        # 02:30 was skipped: the window begins where the older offset would have had it, the earlier one
        ("02:30", "04:00", "2026-03-29T00:29", None),
        ("02:30", "04:00", "2026-03-29T00:30", "2026-03-29T02:00"),
        ("01:00", "02:30", "2026-03-29T01:29", "2026-03-29T01:30"),
        # 02:30 came twice: from the first one, until the second one
        ("02:30", "04:00", "2026-10-25T00:30", "2026-10-25T03:00"),
        ("01:00", "02:30", "2026-10-25T01:29", "2026-10-25T01:30"),
    ],
)
def test_a_time_that_was_skipped_or_came_twice_makes_it_longer(
    start: str, end: str, at: str, ends: Optional[str]
) -> None:
    window = {"zone": "Europe/Berlin", "days": ["sun"], "from": start, "until": end}
    assert until(window, at) == (utc(ends) if ends else None)


def test_days_are_those_on_which_it_begins() -> None:
    friday = {"zone": "UTC", "days": ["fri"], "from": "22:00", "until": "06:00"}
    assert until(friday, "2026-11-20T23:00") == utc("2026-11-21T06:00")  # a Friday
    assert until(friday, "2026-11-21T05:00") == utc("2026-11-21T06:00")
    assert until(friday, "2026-11-20T05:00") is None
    assert until(friday, "2026-11-21T23:00") is None


def test_whole_days_without_times_follow_one_another_and_are_told_as_one() -> None:
    weekend = {"days": ["sat", "Sun"]}
    assert until(weekend, "2026-11-21T12:00") == utc("2026-11-23T00:00")
    assert until(weekend, "2026-11-23T00:00") is None
    assert until({"from": "00:00"}, "2026-11-23T00:00") is not None  # every day: it never ends, and says so far


def test_the_longest_of_several_windows_is_named() -> None:
    windows = parse_windows(
        [
            {"name": "short", "from": "10:00", "until": "11:00"},
            {"name": "long", "from": "09:00", "until": "17:00"},
            {"name": "evening", "from": "17:00", "until": "18:00"},
        ]
    )
    found = frozen(windows, utc("2026-11-20T10:30"))
    assert found is not None
    assert (found[0].name, found[1]) == ("long", utc("2026-11-20T18:00"))
    assert frozen((), utc("2026-11-20T10:30")) is None


@pytest.mark.parametrize(
    ("start", "end", "at", "ends"),
    [
        ("2026-12-20", "2027-01-02", "2027-01-02T22:59", "2027-01-02T23:00"),  # a date alone is the whole day
        ("2026-12-20", "2027-01-02", "2026-12-19T22:59", None),
        ("2026-12-20T18:00", "2026-12-21 06:00:00", "2026-12-20T17:00", "2026-12-21T05:00"),
        ("2026-12-20T18:00+05:00", "2026-12-21T00:00Z", "2026-12-20T13:00", "2026-12-21T00:00"),
        (date(2026, 12, 20), datetime(2026, 12, 21, 6), "2026-12-19T23:00", "2026-12-21T05:00"),  # as YAML gives them
    ],
)
def test_dates(start: object, end: object, at: str, ends: Optional[str]) -> None:
    window = {"zone": "Europe/Berlin", "from": start, "until": end}
    assert until(window, at) == (utc(ends) if ends else None)


def test_times_as_yaml_reads_them_without_quotes() -> None:
    assert parse_windows([{**NIGHTS, "from": 22 * 60}]) == parse_windows([NIGHTS])
    assert parse_windows([{**NIGHTS, "until": "06:00:00"}]) == parse_windows([NIGHTS])
    assert parse_windows([{"days": ["mon"], "until": 24 * 60}]) == parse_windows([{"days": ["mon"]}])


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (["mon"], "freeze 1 must be a mapping, not a list"),
        ({"form": "22:00"}, "freeze 1: unknown key 'form' (did you mean 'from'?)"),
        ({"name": 3, "days": ["mon"]}, "freeze 1: name must be text"),
        ({"zone": 3, "days": ["mon"]}, "freeze 1: zone must be text"),
        ({"zone": "Europe/Berln", "days": ["mon"]}, "'Europe/Berln' is no time zone (did you mean 'Europe/Berlin'?)"),
        ({"zone": "../../etc/passwd", "days": ["mon"]}, "is no time zone"),
        ({"zone": "Europe", "days": ["mon"]}, "is no time zone"),
        ({"days": []}, "freeze 1: days is empty"),
        ({"days": "mon"}, "freeze 1: days must be a list"),
        ({"days": ["monday"]}, "'monday' is no day (did you mean 'mon'?)"),
        ({"days": ["mon"], "from": "25:00"}, "freeze 1: from must be a time such as 22:00"),
        ({"days": ["mon"], "from": "24:00"}, "freeze 1: from must be a time such as 22:00"),
        ({"days": ["mon"], "until": "12:60"}, "freeze 1: until must be a time such as 22:00"),
        ({"days": ["mon"], "until": True}, "freeze 1: until must be a time such as 22:00"),
        ({"from": "10:00", "until": "2026-12-01"}, "freeze 1: until must be a time such as 22:00"),
        ({"from": "2026-12-01"}, "freeze 1: until must be a date such as 2026-12-24"),
        ({"from": "2026-12-41", "until": "2026-12-24"}, "freeze 1: from must be a date"),
        ({"from": "2026-12-02", "until": "2026-12-01"}, "freeze 1: until is not after from"),
        ({}, "freeze 1: from must be a date"),
    ],
)
def test_bad_windows_say_what_is_wrong(raw: object, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_windows([raw])
    assert message in caught.value.message


def test_a_controller_without_time_zones_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real look-up, on a path where there is no database, and without the package."""
    before = zoneinfo.TZPATH
    ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=[])
    for name in ("tzdata", "tzdata.zoneinfo", "tzdata.zoneinfo.Asia"):
        monkeypatch.setitem(sys.modules, name, None)
    try:
        with pytest.raises(OptionError, match="no time zone database.*Install"):
            freeze.parse_windows([{"zone": "Asia/Tokyo", "days": ["mon"]}])
        assert freeze.parse_windows([{"zone": "UTC", "days": ["mon"]}])
    finally:
        zoneinfo.reset_tzpath(to=before)


def naive(at: float, zone: str, days: List[int], start: int, end: int) -> bool:
    """By the clock on the wall, minute by minute; right where no clock was changed that night."""
    here = datetime.fromtimestamp(at, ZoneInfo(zone))
    minute, day = here.hour * 60 + here.minute, here.weekday()
    if start < end:
        return day in days and start <= minute < end
    return (day in days and minute >= start) or ((day - 1) % 7 in days and minute < end)


@given(
    at=st.integers(int(utc("2026-05-01T00:00")), int(utc("2026-09-30T00:00"))),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    days=st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True),
    start=st.integers(0, 1439),
    end=st.integers(1, 1440),
)
def test_it_is_what_the_clock_on_the_wall_says(at: int, zone: str, days: List[int], start: int, end: int) -> None:
    raw = {"zone": zone, "days": [freeze.DAYS[day] for day in days], "from": start, "until": end}
    (window,) = parse_windows([raw])
    assert (window.until(float(at)) is not None) == naive(float(at), zone, days, start, end)
