# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an event source is told: that somebody looked at the items in its spool, and whether asking again may help."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Mapping, Sequence

from .._errors import OptionError
from .._guard import decision as words
from .event import UUID

DONE = "done"  # the folder in the spool that the source looks into
AGAIN = ".again"  # after the name of an item that is to come again, should its alert still fire
# a denial for one of these may be another one later, also where nobody knows when
PASSING = (
    words.IN_PROGRESS,
    words.PAUSED,
    words.FROZEN,
    words.COOLDOWN,
    words.RATE_LIMITED,
    words.NOT_HELD,
    words.ALERTS_SILENT,
    words.CLOCK_JUMPED,
    words.STORE_UNAVAILABLE,
)


def is_passing(decision: Mapping[str, object], *, unknown: bool = False) -> bool:
    """May asking again give another answer? `decision` is the guard's; `unknown`: nobody could say if it is bad."""
    if decision.get("verdict") != words.DENIED:
        return False
    if decision.get("reason") == words.NOT_CONFIRMED:
        return unknown
    return decision.get("reason") in PASSING or decision.get("until") is not None


def acknowledge(spool: str, items: Sequence[str], *, again: bool = False) -> None:
    """Leave an empty file for each item; raises OptionError when the source would never find it.

    With `again`, an item may be given out once more when its alert is repeated. The folder has to be there already: it
    is the source's, and where it is missing the spool is another one.
    """
    if not items:
        return
    try:
        folder = os.open(os.path.join(spool, DONE), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unreachable(spool, error) from None
    try:
        for item in items:
            if UUID.fullmatch(item):
                _touch(f"{item}{AGAIN}" if again else item, folder)
    except OSError as error:
        raise _unreachable(spool, error) from None
    finally:
        os.close(folder)


def _touch(name: str, folder: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(FileExistsError):  # it was acknowledged before, and the source has not looked yet
        os.close(os.open(name, flags, 0o600, dir_fd=folder))


def _unreachable(spool: str, error: OSError) -> OptionError:
    return OptionError(
        f"{os.path.join(spool, DONE)} cannot be written to ({error.strerror}), so that the event source waits in vain",
        mend="Set respond_spool to the option spool of selfheal.delivery.alertmanager, and run both as the same user",
    )
