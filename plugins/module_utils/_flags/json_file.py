# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Home-made flags: an object of them in a file or in a ConfigMap's key, which the service reads itself.

A flag is its value, `{"new-search": true}`, or an object, `{"new-search": {"enabled": true, "percentage": 20}}`, that
serves true to its percentage while it is enabled, and false otherwise. With an environment, flags lie one level deeper:
`{"production": {"new-search": true}}`. Other members of a flag, and all of the other flags, stay as they are.

For the table of providers:
off means: the value itself becomes `serve`; an object's `enabled` becomes false, and its percentage waits for "on".
serves: the value; of an object true or false.
verified by: the document read back. When the service reads it again is the service's: a mounted ConfigMap takes the
kubelet up to a minute and a half, and one mounted by subPath never changes.
tried against: real files; ConfigMaps of a real API server.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from .._errors import OptionError
from .document import Document, altered, document_of
from .model import OFF, ON, Change, Deadline, FlagError, Options, Served, State, Where, Wish
from .names import unknown
from .texts import same
from .variants import BY, check_unmoved

_ENABLED, _PERCENTAGE = "enabled", "percentage"


def build(options: Options, deadline: Deadline) -> "JsonFile":
    return JsonFile(document_of(options, deadline), deadline)


class JsonFile:
    """The flags of one document."""

    def __init__(self, document: Document, deadline: Deadline) -> None:
        self._document, self._deadline = document, deadline

    def state(self, where: Where) -> State:
        document, revision = self._document.read()
        entry = _entry(document, where, self._document.name)
        share = share_of(entry)
        on = bool(entry.get(_ENABLED)) if isinstance(entry, Mapping) else bool(entry)
        return State(on=on, percentage=share, revision=revision, note=self._document.note, raw={"entry": entry})

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        entry = state.raw["entry"]
        return not same(entry, wished(entry, where, wish))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        def edit(document: Dict[str, Any]) -> Dict[str, Any]:
            entry = _entry(document, where, self._document.name)
            check_unmoved(entry, state.raw["entry"], where, wish)
            holder = document[where.environment] if where.environment else document
            holder[where.flag] = wished(entry, where, wish)
            return document

        altered(self._document, self._deadline, edit)
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        document, revision = self._document.read()
        return served(_entry(document, where, self._document.name))

    def close(self) -> None:
        self._document.close()


def wished(entry: object, where: Where, wish: Wish) -> object:
    """The flag as it shall be. OptionError for a wish that such a flag cannot have."""
    if wish.variation:
        raise OptionError(f"{where} is home-made and has no variations", mend="Say serve instead of variation")
    if isinstance(entry, Mapping):
        return _wished_object(entry, where, wish)
    value = wish.serve
    if wish.state == ON and wish.percentage is not None and wish.percentage < 100:
        if wish.percentage > 0 or not isinstance(wish.serve, bool):
            raise OptionError(
                f"{where} is one value for all, so it has no percentage",
                mend='Write it as {"enabled": true, "percentage": 100}, if the service understands that',
            )
        value = not wish.serve
    if entry is not None and _kind(entry) != _kind(value):
        raise OptionError(
            f"{where} holds {_kind(entry)}, and shall serve {_kind(value)}", mend="Set serve to a value of its kind"
        )
    return value


def _wished_object(entry: Mapping[str, Any], where: Where, wish: Wish) -> Dict[str, Any]:
    if not isinstance(wish.serve, bool):
        raise OptionError(f"{where} serves true or false", mend="Set serve to one of them")
    share: Optional[float] = wish.percentage if wish.state == ON else None
    if not wish.serve:  # false for `share` of them is true for the rest
        share = 0 if share is None else 100 - share
    elif wish.state == OFF:
        share = 100
    if share == 0:
        return {**entry, _ENABLED: False}
    if share is None or (share == 100 and _PERCENTAGE not in entry):
        return {**entry, _ENABLED: True}
    return {**entry, _ENABLED: True, _PERCENTAGE: int(share) if share == int(share) else share}


def share_of(entry: object) -> Optional[float]:
    """How many of 100 are served true while the flag is on; None for a flag that is no truth value."""
    if isinstance(entry, Mapping):
        return float(entry.get(_PERCENTAGE, 100))
    return 100.0 if isinstance(entry, bool) else None


def served(entry: object) -> Served:
    """What a service makes of the flag. Whom a percentage hits is known to the service alone."""
    if not isinstance(entry, Mapping):
        share = None if not isinstance(entry, bool) else 100.0 if entry else 0.0
        return Served(True, entry, share, by=BY)
    share = share_of(entry) if entry[_ENABLED] else 0.0
    value = None if share not in (0, 100) else bool(share)
    return Served(True, value, share, by=BY)


def _entry(document: Mapping[str, Any], where: Where, name: str) -> object:
    """The flag in the document; FlagError with the nearest names when there is none."""
    flags: object = document
    if where.environment:
        if where.environment not in document:
            raise unknown("environment", where.environment, document, name)
        flags = document[where.environment]
        if not isinstance(flags, Mapping):
            raise FlagError(f"environment {where.environment!r} in {name} is no object of flags")
    elif where.flag not in document:
        rooms = [room for room, inside in document.items() if isinstance(inside, Mapping) and where.flag in inside]
        if rooms:
            raise FlagError(
                f"flag {where.flag!r} is in {name} for {', '.join(sorted(rooms))}, and no environment was chosen",
                mend="Set environment",
            )
    if not isinstance(flags, Mapping) or where.flag not in flags:
        raise unknown("flag", where.flag, flags if isinstance(flags, Mapping) else (), name)
    return _checked(flags[where.flag], where)


def _checked(entry: object, where: Where) -> object:
    if isinstance(entry, Mapping):
        share = entry.get(_PERCENTAGE, 100)
        good = isinstance(share, (int, float)) and not isinstance(share, bool) and 0 <= share <= 100
        if not isinstance(entry.get(_ENABLED), bool) or not good:
            raise FlagError(
                f'{where} is not of the form {{"enabled": true, "percentage": 20}}',
                mend="enabled is true or false; percentage, if it is there, from 0 to 100",
            )
    return entry


_KINDS: Tuple[Tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "a text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
)


def _kind(value: object) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "an object or nothing")
