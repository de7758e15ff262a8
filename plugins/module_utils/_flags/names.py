# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of flags and of what they are in: of what is not there, and as parts of a path. Needs no HTTP library."""

from __future__ import annotations

from typing import Iterable
from urllib.parse import quote

from .._errors import OptionError, nearest
from .._tell.text import shortened
from .model import FlagError

_LONGEST = 80  # characters that are shown of a name that somebody else chose


def unknown(kind: str, name: str, known: Iterable[str], where: str = "", mend: str = "") -> FlagError:
    """There is no `kind` ("flag", "environment", "project") of that name; the nearest ones are named."""
    names = sorted(set(known))
    some = ", ".join(shortened(one, _LONGEST) for one in names[:10])
    listed = f"There are {some}{' and more' if len(names) > 10 else ''}" if names else mend
    return FlagError(
        f"there is no {kind} {name!r}{f' in {where}' if where else ''}{nearest(name, names)}", mend=mend or listed
    )


def segment(text: str) -> str:
    """`text` as one segment of a path, whatever is in it."""
    if text in (".", ".."):
        raise OptionError(f"{text!r} cannot name anything there")
    return quote(text, safe="")
