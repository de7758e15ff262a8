# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event of the filter `selfheal.delivery.alerts`, checked once more: whatever was between may have changed it. Pure.

Somebody else wrote it. It selects a service and a policy; nothing of it is ever run, rendered, or taken for a path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Container, Dict, List, Mapping, Optional, Tuple, Type, TypeVar

from .._errors import OptionError, nearest
from .._guard.decision import ALERT, CALL, ERROR_CODE, Trigger

WATCHDOG, REFUSED = "watchdog", "refused"
KINDS = (ALERT, ERROR_CODE, CALL, WATCHDOG, REFUSED)
FIRING, RESOLVED = "firing", "resolved"
SHOWN = 60  # characters of somebody else's text that a message shows
LONGEST = 512
MOST_ACKS = 10_000
MOST_OTHERS = 100

_SERVICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}|")
_RELEASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}|")
_INCIDENT = re.compile(r"([0-9a-f]{8,64})-\d+")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """`at` is when it began, in epoch seconds; `ident` is the same for every copy of one incident's signal.

    `alarming` is how many services the sender knows to alarm, 0 when it does not say. `others` are the names of alerts
    about the same service that came with this one, which may stand for them all. `sender` is what the event source says
    of who posted it: source, verified, and the name of the key.
    """

    kind: str  # one of KINDS
    status: str = FIRING
    service: str = ""  # an inventory group
    environment: str = ""
    name: str = ""
    ident: str = ""
    at: Optional[float] = None
    release: str = ""
    alarming: int = 0
    reason: str = ""  # why it was refused, or why somebody calls
    labels: Mapping[str, str] = field(default_factory=dict)
    others: Tuple[str, ...] = ()
    sender: Mapping[str, str] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        return self.status == FIRING

    @property
    def by_alert(self) -> bool:
        """Did an alert bring it? Then the alert's own source can be asked; a call and a line of a log have none."""
        return self.kind == ALERT or (self.kind == ERROR_CODE and "alertname" in self.labels)

    @property
    def alert(self) -> str:
        return self.labels.get("alertname", "") if self.kind == ERROR_CODE else self.name

    @property
    def fingerprint(self) -> str:
        """The alert's, as its source has it; '' when the event does not know it."""
        found = _INCIDENT.fullmatch(self.ident)
        return found.group(1) if found and self.by_alert else ""

    @property
    def what(self) -> str:
        """In words, for people."""
        return f"{self.kind.replace('_', ' ')} {self.name}".strip()

    def about(self, names: Container[str]) -> "Event":
        """The same about the first of the other alerts that is among `names`, where this one is not."""
        if self.kind != ALERT or self.name in names:
            return self
        other = next((name for name in self.others if name in names), "")
        if not other:
            return self
        # an identity that is no alert's: its source is asked for the name, and tells the alert's own; when the other
        # began, and which release it is about, is not known here
        return replace(self, name=other, ident=f"{self.ident}/{other}", labels={}, at=None, release="")

    def trigger(
        self, *, at: Optional[float] = None, ident: str = "", evidence: Optional[Mapping[str, object]] = None
    ) -> Trigger:
        """As the guard takes it; `at` is when it began, and `ident` which incident it is, by who knows better."""
        began, incident = self.at if at is None else at, self.ident if self.fingerprint else ident or self.ident
        return Trigger(self.kind, self.name, incident, began, self.active, evidence=dict(evidence or {}))


def parse_event(raw: object) -> Event:
    """The event, or an OptionError that says what is wrong with it, and shows little of it."""
    if not isinstance(raw, Mapping):
        raise _wrong(f"it is {_sort_of(raw)}", "Give it as JSON: -e '{\"respond_event\": {…}}'")
    kind = _text(raw, "kind")
    if kind not in KINDS:
        raise _wrong(f"its kind is {shown(kind)}{nearest(kind, KINDS)}", f"Known are {', '.join(KINDS)}")
    if kind == REFUSED:
        return Event(kind, "", reason=_line(raw, "reason"))
    status = _text(raw, "status")
    if status not in (FIRING, RESOLVED):
        raise _wrong(f"its status is {shown(status)}", f"Known are {FIRING} and {RESOLVED}")
    event = Event(
        kind=kind,
        status=status,
        name=_line(raw, "name"),
        ident=_line(raw, "id"),
        at=_number(raw, "at"),
        alarming=_count(raw, "alarming"),
        reason=_line(raw, "reason"),
        release=_matched(raw, "release", _RELEASE),
        labels=_labels(raw),
        others=_others(raw),
        sender=_sender(raw),
    )
    return event if kind == WATCHDOG else _of_service(event, raw)


def _of_service(event: Event, raw: Mapping[object, object]) -> Event:
    for name, value in (("name", event.name), ("id", event.ident)):
        if not value.strip():
            raise _wrong(f"it has no {name}", _FILTER)
    service = _matched(raw, "service", _SERVICE)
    if service in ("all", "ungrouped", "localhost"):
        raise _wrong(f"its service is {service!r}, which is no service", "Name the service's own inventory group")
    return Event(**{**vars(event), "service": service, "environment": _matched(raw, "environment", _ENVIRONMENT)})


def acks_of(raw: object) -> Tuple[str, ...]:
    """The items in the spool that an event stands for, even when nothing else of it is right."""
    listed = dict.get(raw, "ack") if isinstance(raw, dict) else None
    given = list.__iter__(listed) if isinstance(listed, list) else iter(())
    found: List[str] = []
    for one in given:
        if isinstance(one, str) and UUID.fullmatch(str.__str__(one)) and len(found) < MOST_ACKS:
            found.append(str.__str__(one))
    return tuple(dict.fromkeys(found))


def shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…")


_FILTER = "Put the filter selfheal.delivery.alerts behind the rulebook's source"


def _wrong(what: str, mend: str = _FILTER) -> OptionError:
    return OptionError(f"respond_event cannot be taken: {what}", mend=mend)


def _sort_of(value: object) -> str:
    sorts: Dict[type, str] = {str: "a text", list: "a list", bool: "a truth value", type(None): "nothing"}
    return sorts.get(type(value), "a number" if isinstance(value, (int, float)) else "of another type")


def _typed(raw: Mapping[object, object], key: str, kind: Type[T], default: T) -> T:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise _wrong(f"its {key} is {_sort_of(value)}")
    return value


def _text(raw: Mapping[object, object], key: str) -> str:
    return _typed(raw, key, str, "")


def _line(raw: Mapping[object, object], key: str) -> str:
    text = _text(raw, key)
    if len(text) > LONGEST or not text.isprintable():
        raise _wrong(f"its {key} is not one printable line of at most {LONGEST} characters")
    return text


def _matched(raw: Mapping[object, object], key: str, pattern: "re.Pattern[str]") -> str:
    text = _text(raw, key)
    if not pattern.fullmatch(text):
        raise _wrong(f"its {key} is {shown(text)}, which is no plain name" if text else f"it has no {key}")
    return text


def _number(raw: Mapping[object, object], key: str) -> Optional[float]:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < 0:
        raise _wrong(f"its {key} is no time in epoch seconds")
    return float(value)


def _count(raw: Mapping[object, object], key: str) -> int:
    value = raw.get(key)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**9:
        raise _wrong(f"its {key} is no number of services")
    return value


def _others(raw: Mapping[object, object]) -> Tuple[str, ...]:
    others: List[object] = _typed(raw, "others", list, [])
    if len(others) > MOST_OTHERS or not all(isinstance(one, str) and one.isprintable() for one in others):
        raise _wrong(f"its others are not at most {MOST_OTHERS} names")
    return tuple(str(one)[:LONGEST] for one in others)


def _sender(raw: Mapping[object, object]) -> Dict[str, str]:
    """What is no printable line of it is passed over: it is kept, and nothing is decided by it."""
    meta = raw.get("meta")
    said = meta.get("selfheal") if isinstance(meta, Mapping) else None
    given = {key: said.get(key) for key in ("source", "verified", "key")} if isinstance(said, Mapping) else {}
    return {
        key: value[:LONGEST] for key, value in given.items() if isinstance(value, str) and value.isprintable() and value
    }


def _labels(raw: Mapping[object, object]) -> Dict[str, str]:
    labels: Mapping[object, object] = _typed(raw, "labels", dict, {})
    if len(labels) > 64 or not all(isinstance(one, str) for pair in labels.items() for one in pair):
        raise _wrong("its labels are not texts")
    return {str(key): str(value)[:LONGEST] for key, value in labels.items()}
