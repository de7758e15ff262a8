# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about an event, and what next: as the rulebook, the catalogue and the service's policy say. Pure."""

from __future__ import annotations

from typing import Sequence, Tuple

from .._codes.model import ACTIONS
from .._errors import OptionError, nearest
from .._guard.decision import FLAG_OFF
from .._judge.part import kind_of
from .event import shown

ROLLBACK, RESTART, ABORT, PAGE, RECORD = "rollback", "restart", "abort", "page", "record"
WAYS = (ROLLBACK, FLAG_OFF, ABORT, RESTART, PAGE, RECORD)
AFTER_A_FLAG = (ROLLBACK, PAGE)


def chosen(wish: object, response: Sequence[str]) -> str:
    """One of WAYS: `wish` (respond_with, None when nobody says), else the first of `response`, else a rollback."""
    if wish in (None, ""):
        return response[0] if response else ROLLBACK
    if wish not in WAYS:
        word = wish if isinstance(wish, str) else str(type(wish).__name__)
        raise OptionError(
            f"respond_with is {shown(word)}{nearest(word[:60], WAYS)}", mend=f"Known are {', '.join(WAYS)}"
        )
    return str(wish)


def after_flag(response: Sequence[str]) -> str:
    """What is done where a flag cannot be turned off, or that did not help: one of AFTER_A_FLAG.

    It is the first of them behind `flag_off` in `response`; a person is called where nothing else is said.
    """
    rest = response[response.index(FLAG_OFF) + 1 :] if FLAG_OFF in response else ()
    return next((one for one in rest if one in AFTER_A_FLAG), PAGE)


def parse_response(raw: object) -> Tuple[str, ...]:
    """The ways back that a policy names, in the order to try; none where it says nothing."""
    if raw is None:
        return ()
    if isinstance(raw, str) or not isinstance(raw, Sequence):
        raise OptionError(f"response must be a list, not {kind_of(raw)}", mend=f"Write it as [{FLAG_OFF}, {ROLLBACK}]")
    for number, one in enumerate(raw):
        if one not in ACTIONS:
            word = one if isinstance(one, str) else kind_of(one)
            raise OptionError(
                f"response has {shown(str(word))}{nearest(str(word), ACTIONS)}", mend=f"Known are {', '.join(ACTIONS)}"
            )
        if one in raw[:number]:
            raise OptionError(f"response has {one!r} twice", mend="Each way is tried once")
    return tuple(str(one) for one in raw)
