# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's entries as lines of JSON for others: as they are, as CloudEvents 1.0, or as CDEvents 0.4.1. Pure.

Every line holds its whole entry, whatever its format, so that the chain of an export can be verified without the
ledger. https://github.com/cloudevents/spec, https://github.com/cdevents/spec (with its CloudEvents binding).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._errors import OptionError
from .chain import base
from .decision import ROLLBACK
from .model import DONE, ROLLOUT, STATE, TRIGGER, UNDONE, Entry, environment_of
from .story import back_on

JSONL = "jsonl"
CLOUDEVENTS = "cloudevents"
CDEVENTS = "cdevents"
FORMATS = (JSONL, CLOUDEVENTS, CDEVENTS)
SOURCE = "/selfheal/ledger"
PREFIX = "delivery.selfheal.ledger"  # a CloudEvents type begins with a name that its owner has, reversed
CDEVENTS_VERSION = "0.4.1"
_WENT_BACK = (("canary", UNDONE), ("watch", UNDONE), (ROLLBACK, DONE))
_CONTENT_TYPE = {CLOUDEVENTS: "application/json", CDEVENTS: "application/cdevents+json"}

Event = Dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How entries are written. `source` is a URI reference that names this ledger among others.

    `environment` stands in for the one of a service whose name has none: a CDEvent cannot be without.
    """

    format: str = JSONL
    source: str = SOURCE
    environment: str = ""


def lines(entries: Iterable[Entry], shape: Shape, after: int = 0) -> Iterator[Tuple[Entry, str]]:
    """Each entry with a higher seq than `after`, and its line without the line's end.

    `entries` are all that the ledger keeps, in the order of seq: an outcome says what it is about only by the id of a
    rollout whose entry came earlier.
    """
    openings: Dict[object, Mapping[str, object]] = {}
    for entry in entries:
        if entry.kind == ROLLOUT:
            openings[entry.body.get("rollout")] = entry.body
        if entry.seq > after:
            event = _event(entry, shape, openings.get(entry.body.get("rollout"), {}))
            yield entry, json.dumps(event, sort_keys=True, separators=(",", ":"))


def kept(line: str, shape: Shape) -> Entry:
    """The entry that a line of an export holds; OptionError when it is none, or is of another format."""
    try:
        event = json.loads(line)
        found, held = _unwrapped(event)
        entry = Entry(**held)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise OptionError(
            "It holds something else than an export of a ledger", mend="Name another file, or move this one away"
        ) from None
    # what CDEvents has no word for is a CloudEvent in either of the two
    if found not in (shape.format, CLOUDEVENTS if shape.format == CDEVENTS else shape.format):
        raise OptionError(
            f"It holds an export as {found}, not as {shape.format}", mend="Name another file for this format"
        )
    return entry


def _unwrapped(event: Mapping[str, Any]) -> Tuple[str, Mapping[str, Any]]:
    """The format of a line, and the entry in it."""
    if "specversion" not in event:
        return JSONL, event
    if str(event["type"]).startswith("dev.cdevents."):
        return CDEVENTS, event["data"]["customData"]
    return CLOUDEVENTS, event["data"]


def _event(entry: Entry, shape: Shape, opening: Mapping[str, object]) -> Event:
    if shape.format == JSONL:
        return asdict(entry)
    told = _cdevent(entry, shape, opening) if shape.format == CDEVENTS else None
    return _cloudevent(entry, shape, told)


def _cloudevent(entry: Entry, shape: Shape, told: Optional[Event]) -> Event:
    """In the structured mode; `told` is the CDEvent that it carries, if there is one for such an entry."""
    return {
        "specversion": "1.0",
        "id": entry.hash,
        "source": shape.source,
        "type": told["context"]["type"] if told else f"{PREFIX}.{entry.kind}",
        "subject": told["subject"]["id"] if told else entry.service or "all",
        "time": when(entry.at),
        "datacontenttype": _CONTENT_TYPE[CDEVENTS if told else CLOUDEVENTS],
        "data": told or asdict(entry),
    }


def _cdevent(entry: Entry, shape: Shape, opening: Mapping[str, object]) -> Optional[Event]:
    """What CDEvents has a word for: a service that was deployed, upgraded or rolled back, an incident; else None."""
    environment = environment_of(entry.service) or shape.environment
    if not environment:
        return None
    if entry.kind == TRIGGER:
        return _incident(entry, shape, environment)
    found = _change(entry, opening) if entry.kind == STATE else None
    if found is None:
        return None
    predicate, release = found
    content = {"environment": {"id": environment}, "artifactId": artifact(entry.service, release)}
    return _wrapped(entry, shape, f"service.{predicate}", entry.service, content)


def _change(entry: Entry, opening: Mapping[str, object]) -> Optional[Tuple[str, str]]:
    """What became of the service, and the release that it runs now; None when nothing changed, or not to one."""
    kind, release, state = opening.get("kind"), str(opening.get("release") or ""), entry.body.get("state")
    intent, outcome = opening.get("intent"), entry.body.get("outcome")
    if state == DONE and kind == "canary" and release:
        before = intent.get("before") if isinstance(intent, Mapping) else None
        return ("upgraded" if before else "deployed"), release
    if (kind, state) in _WENT_BACK and isinstance(outcome, Mapping):
        targets = back_on(outcome)
        if kind == ROLLBACK and not outcome.get("places") and isinstance(intent, Mapping) and intent.get("target"):
            targets = [str(intent["target"])]  # of somebody's own play, which has not told place by place
        return ("rolledback", targets[0]) if len(targets) == 1 else None
    return None


def _incident(entry: Entry, shape: Shape, environment: str) -> Optional[Event]:
    """An alert, or errors of a code, that we were told of: detected, or resolved."""
    told = entry.body.get("trigger")
    trigger: Mapping[str, object] = told if isinstance(told, Mapping) else entry.body
    if trigger.get("kind") not in ("alert", "error_code") or not trigger.get("id"):
        return None
    content = {
        "description": f"{trigger['kind']} {trigger.get('name')}",
        "environment": {"id": environment},
        "service": {"id": entry.service},
    }
    predicate = "detected" if trigger.get("active", True) else "resolved"
    return _wrapped(entry, shape, f"incident.{predicate}", str(trigger["id"]), content)


def _wrapped(entry: Entry, shape: Shape, what: str, subject: str, content: Mapping[str, object]) -> Event:
    return {
        "context": {
            "version": CDEVENTS_VERSION,
            "id": entry.hash,
            "source": shape.source,
            "type": f"dev.cdevents.{what}.0.2.0",
            "timestamp": when(entry.at),
        },
        "subject": {"id": subject, "source": shape.source, "type": what.partition(".")[0], "content": content},
        "customData": asdict(entry),
        "customDataContentType": "application/json",
    }


def artifact(service: str, release: str) -> str:
    """A release as a package URL, the one way in which CDEvents names artifacts."""
    return f"pkg:generic/{quote(service)}@{quote(release, safe='')}"


def when(at: float) -> str:
    """Epoch seconds as RFC 3339 has them."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def follows(entries: Sequence[Entry], last: Entry) -> None:
    """OptionError unless the ledger goes on where an export whose last entry is `last` ends.

    `entries` are all that the ledger keeps.
    """
    seq, digest, _known = base(entries)
    newest = entries[-1].seq if entries else seq
    known = {seq: digest, **{entry.seq: entry.hash for entry in entries}}
    if known.get(last.seq) == last.hash:
        return
    if last.seq > newest:
        why = f"the export ends with entry {last.seq}, and the ledger with entry {newest}"
    elif last.seq < seq:
        why = f"the entries after {last.seq} up to {seq} were removed from the ledger, and are not in the export"
    else:
        why = f"entry {last.seq} is another one there"
    raise OptionError(
        f"The ledger does not go on from this export: {why}",
        mend="Verify the ledger; or name a new file, if the export is one of another ledger",
    )
