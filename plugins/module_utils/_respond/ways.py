# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about an event: as the rulebook says, else as the catalogue says of the code, else a rollback. Pure."""

from __future__ import annotations

from typing import NamedTuple, Sequence

from .._errors import OptionError, nearest
from .._guard.decision import FLAG_OFF
from .event import shown

ROLLBACK, RESTART, ABORT, PAGE, RECORD = "rollback", "restart", "abort", "page", "record"
WAYS = (ROLLBACK, ABORT, RESTART, PAGE, RECORD)
# of a catalogue's responses, those that nothing here can do; the next one is tried
NOT_YET = (FLAG_OFF,)


class Way(NamedTuple):
    """`do` is one of WAYS; `note` says what of a code's response was passed over, or nothing."""

    do: str
    note: str = ""


def chosen(wish: object, response: Sequence[str], code: str = "") -> Way:
    """`wish` is respond_with, None when nobody says; `response` is the catalogue's to `code`, in the order to try."""
    if wish not in (None, ""):
        if wish not in WAYS:
            word = wish if isinstance(wish, str) else str(type(wish).__name__)
            raise OptionError(
                f"respond_with is {shown(word)}{nearest(word[:60], WAYS)}", mend=f"Known are {', '.join(WAYS)}"
            )
        return Way(str(wish))
    if not response:
        return Way(ROLLBACK)
    first = next((one for one in response if one not in NOT_YET), PAGE)
    passed = response[: response.index(first)] if first in response else response
    note = f"{code} asks for {' or '.join(passed)} first, which is not automated, so that a person has to do it"
    return Way(first, note if passed else "")
