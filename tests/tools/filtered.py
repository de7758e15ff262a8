# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event filter as ansible-rulebook loads it, and what must hold of whatever it makes."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any, Callable, Dict, Iterator, List

from environment import ROOT

MODULE: Dict[str, Any] = runpy.run_path(str(ROOT / "extensions/eda/plugins/event_filter/alerts.py"))
alerts: Callable[..., List[Dict[str, Any]]] = MODULE["main"]

KEYS: Dict[str, Any] = {
    **dict.fromkeys(("kind", "status", "service", "environment", "name", "id", "severity", "release", "reason"), str),
    **dict.fromkeys(("count", "alarming", "truncated"), int),
    **dict.fromkeys(("others", "ack"), list),
    **dict.fromkeys(("labels", "trigger", "meta"), dict),
    **dict.fromkeys(("at", "until"), (float, type(None))),
    "out_of_order": bool,
}
KINDS = ("alert", "error_code", "call", "watchdog", "refused")
STATUS = {"watchdog": ("firing", "resolved"), "refused": ("",), "call": ("firing",)}
LONGEST = 100_000  # characters of one event as JSON, whatever was sent
_GROUP = re.compile(r"(?!(?i:all|ungrouped|localhost)\Z)[A-Za-z_][A-Za-z0-9_]{0,63}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[45][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def dangerous(text: str) -> bool:
    """It begins a template, or would when joined to another text, or it is more than one printable line."""
    lowered = text.lower()
    begins = any(marker in text for marker in ("{{", "{%", "{#")) or "#jinja2:" in lowered
    joins = text.endswith("{") or (text.startswith("#") and not text.startswith("# "))
    return begins or joins or not text.isprintable()


def flaws(events: Any) -> List[str]:
    """What is wrong with what the filter made; nothing must be, whatever it was given."""
    if not isinstance(events, list) or not events:
        return ["it is no list of events"]
    found = [flaw for event in events for flaw in _flaws(event)]
    if len({event["meta"]["uuid"] for event in events}) < len(events):
        found.append("two events have the same uuid")
    return found


def _flaws(event: Any) -> Iterator[str]:
    if not isinstance(event, dict) or event.keys() != KEYS.keys():
        yield "it is no event, or has not the keys of one"
        return
    for key, kind in KEYS.items():
        if not isinstance(event[key], kind) or (kind is int and isinstance(event[key], bool)):
            yield f"{key} is a {type(event[key]).__name__}"
    if event["kind"] not in KINDS or event["status"] not in STATUS.get(event["kind"], ("firing", "resolved")):
        yield f"kind {event['kind']} with status {event['status']}"
    about = event["kind"] in ("alert", "error_code", "call")
    if about != bool(event["service"]) or (about and not _GROUP.fullmatch(event["service"])):
        yield f"kind {event['kind']} of service {event['service']!r}"
    if event["environment"] and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", event["environment"]):
        yield f"environment {event['environment']!r}"
    same = {key: event[key] for key in ("kind", "name", "id", "at")}
    if event["trigger"] != ({**same, "active": event["status"] == "firing"} if about else {}):
        yield "the trigger says something else than the event"
    if event["meta"].keys() != {"uuid", "selfheal"} or not _UUID.fullmatch(event["meta"]["uuid"]):
        yield f"meta {event['meta']}"
    if (event["kind"] == "refused") > bool(event["reason"]):
        yield "it is refused without a reason"
    if any(dangerous(text) for text in texts(event)):
        yield f"a text is not neutral: {[text for text in texts(event) if dangerous(text)][:3]}"
    if len(json.dumps({**event, "ack": []}, allow_nan=False)) > LONGEST:
        yield "it is too long"
