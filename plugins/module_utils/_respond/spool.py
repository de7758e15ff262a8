# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an event source is told: that somebody looked at the items in its spool, so that it may forget them."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Sequence

from .._errors import OptionError
from .event import UUID

DONE = "done"  # the folder in the spool that the source looks into


def acknowledge(spool: str, items: Sequence[str]) -> None:
    """Leave an empty file for each item; raises OptionError when the source would never find it.

    The folder has to be there already: it is the source's, and where it is missing the spool is another one.
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
                _touch(item, folder)
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
