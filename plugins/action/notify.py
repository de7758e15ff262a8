# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell people what happened, and never stop it. See plugins/modules/notify.py for the documentation."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import DECISION, STATE
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.deliver import Report, tell
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.message import (
    EVENTS,
    Message,
    message_of,
    unknown_facts,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.outbox import Document, Letter
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.routes import Route, parse_channels
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts, now, plain

LONGEST = 300.0  # seconds
OVERDUE = 120.0  # seconds after which whoever had to tell of something is taken for dead
AT_ONCE = 3  # of what was missed, in one run
LOOKED_BACK = 500  # entries of the service in which a decision is looked for
SHOWN = 5  # services that one warning names


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        "channels": {"type": "dict", "default": {}, "no_log": True},
        "event": {"type": "str", "choices": list(EVENTS)},
        "message": {"type": "str"},
        "facts": {"type": "dict", "default": {}},
        "timeout": {"type": "float", "default": 10.0},
        "retry_only": {"type": "bool", "default": False},
        "about": {"type": "list", "elements": "str", "default": []},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        routes = parse_channels(plain(options["channels"]), os.environ)
        if not 0 < options["timeout"] <= LONGEST:
            raise OptionError(f"the timeout is not between 0 and {LONGEST:g} seconds", mend="10 is usual")
        facts = _facts(options)
        message = None if options["retry_only"] else _message(facts, routes)
        if self.checking:
            told = [route.name for route in routes if message is not None and route.wants(message)]
            return {**_nothing(), "msg": f"nothing was sent: this is check mode; {_listed(told)} would be told"}
        if not routes:
            return {**_nothing(), "msg": "there is no channel to tell"}
        with _Store(options) as store:
            if message is not None and not message.entry:
                message = _message({**facts, "entry": store.entry_about(message)}, routes, message)
            about = [*options["about"], *([message.rollout] if message is not None and message.rollout else [])]
            missed = store.missed(about)
            share = options["timeout"] / (1 + len(missed))
            reports = [tell(routes, _message(owed, routes), store, timeout=share) for owed in missed.values()]
            reports.append(tell(routes, message, store, timeout=share))
            store.told([*about, *missed])
        report = _together(reports)
        warnings = [*unknown_facts(facts), *report.notes, *_warnings(report)]
        return {**_told(report), **({"warnings": warnings} if warnings else {})}


class _Store:
    """The ledger as the place of the outbox, opened when it is needed. While it is down, every use says so."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._open: Callable[[], Ledger] = lambda: ledger_from(options)
        self._ledger: Optional[Ledger] = None
        self._trouble: Optional[DeliveryError] = None

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._ledger is not None:
            with suppress(DeliveryError):  # of a store that went away, after all was said
                self._ledger.close()

    def note(self, key: str) -> Document:
        return self._opened().note(key)

    def change_note(self, key: str, change: Callable[[Document], Document]) -> Document:
        if self._trouble is not None:
            # it was waited for a moment ago: not again before the message is out
            trouble, self._trouble = self._trouble, None
            raise trouble
        return self._opened().change_note(key, change)

    def entry_about(self, message: Message) -> Optional[Mapping[str, object]]:
        """The entry that records how the message's rollout stands, when it is among the newest."""
        if not message.rollout:
            return None
        try:
            newest = self._opened().last_entries(message.service, 20)
        except DeliveryError as error:
            self._trouble = error
            return None
        about = [one for one in newest if one.kind == STATE and one.body.get("rollout") == message.rollout]
        return {"seq": about[0].seq, "hash": about[0].hash} if about else None

    def missed(self, about: Sequence[str]) -> Dict[str, Facts]:
        """By id, facts of what nobody told because the run that had to was killed; oldest first, a few at once."""
        if self._trouble is not None:
            return {}
        try:
            ledger = self._opened()
            owed = ledger.owed()
            late = [ident for ident, one in owed.items() if ident not in about and _overdue(one)]
            late.sort(key=lambda ident: float(owed[ident]["at"]))
            return {ident: _facts_of(ledger, ident, owed[ident]) for ident in late[:AT_ONCE]}
        except DeliveryError as error:
            self._trouble = error
            return {}

    def told(self, idents: Sequence[str]) -> None:
        """Nobody has to be told of these any more: what did not get through is in the outbox."""
        with suppress(DeliveryError):  # then they are told once more
            ledger = self._opened()
            if any(ident in ledger.owed() for ident in idents):
                ledger.told(idents)

    def _opened(self) -> Ledger:
        if self._ledger is None:
            self._ledger = self._open()
        return self._ledger


def _overdue(owed: Mapping[str, Any]) -> bool:
    at = owed.get("at")
    return isinstance(at, (int, float)) and now() - at > OVERDUE


def _facts_of(ledger: Ledger, ident: str, owed: Mapping[str, Any]) -> Facts:
    """What the ledger knows of a rollout's end, or of a decision that somebody has to know of."""
    service = str(owed.get("service"))
    rollout = ledger.rollout(ident) if owed.get("what") == "rollout" else None
    if rollout is not None:
        return {"rollout": asdict(rollout)}
    for entry in ledger.last_entries(service, LOOKED_BACK):
        if entry.kind == DECISION and entry.body.get("id") == ident:
            body = entry.body
            return {
                "service": service,
                "event": "recommended" if body.get("verdict") == "recommended" else "page",
                "summary": f"{service}: {body.get('message')}",
                "from_release": body.get("release"),
                "to_release": body.get("target"),
                "incident": body.get("trigger"),
            }
    return {"service": service, "event": "page", "summary": f"{service}: nobody was told of {ident}: see the ledger"}


def _together(reports: Sequence[Report]) -> Report:
    """The last one looked at the whole outbox: what is kept is what it kept."""
    sent = tuple(one for report in reports for one in report.sent)
    dropped = tuple(one for report in reports for one in report.dropped)
    notes = dict.fromkeys(note for report in reports for note in report.notes)
    return Report(sent, reports[-1].kept, dropped, tuple(notes))


def _facts(options: Mapping[str, Any]) -> Facts:
    """The task's own words count more than those among the facts."""
    said = {"event": options["event"], "summary": options["message"]}
    return {**plain(options["facts"]), **{name: value for name, value in said.items() if value}}


def _message(facts: Mapping[str, Any], routes: Sequence[Route], same: Optional[Message] = None) -> Message:
    secrets = [secret for route in routes for secret in route.secrets]
    ident, at = (same.id, same.at) if same else (f"msg_{uuid.uuid4().hex}", now())
    return message_of(facts, ident=ident, now=at, secrets=secrets)


def _nothing() -> Facts:
    return {"changed": False, "sent": [], "kept": [], "dropped": []}


def _told(report: Report) -> Facts:
    sent = [{**_about(one.channel, one.message), "reason": what.detail} for one, what in report.sent]
    kept = [
        {**_about(one.channel, one.message), "reason": one.reason, "tries": one.tries, "due": _when(one.due_at)}
        for one in report.kept
    ]
    dropped = [
        {"channel": one.channel, "event": one.event, "service": one.service, "reason": one.reason}
        for one in report.dropped
    ]
    parts = [
        f"sent to {_listed([one['channel'] for one in sent])}" if sent else "",
        f"kept for {_listed([one['channel'] for one in kept])}" if kept else "",
        f"dropped for {_listed([one['channel'] for one in dropped])}" if dropped else "",
    ]
    told = "; ".join(part for part in parts if part) or "there was nothing to tell"
    return {"changed": bool(sent), "sent": sent, "kept": kept, "dropped": dropped, "msg": told}


def _about(channel: str, message: Message) -> Facts:
    return {"channel": channel, "event": message.event, "service": message.service, "id": message.id}


def _warnings(report: Report) -> List[str]:
    """What a person at the terminal should know although nothing fails."""
    kept: Dict[str, List[Letter]] = {}
    for one in report.kept:
        kept.setdefault(one.channel, []).append(one)
    lost = [f"{one.channel} will not be told of {one.service}: {one.reason}" for one in report.dropped]
    return [*(_waiting(name, letters) for name, letters in kept.items()), *lost]


def _waiting(channel: str, letters: Sequence[Letter]) -> str:
    about = ", ".join(sorted({one.message.service for one in letters})[:SHOWN])
    many = f" ({len(letters)} messages)" if len(letters) > 1 else ""
    return f"{channel} was not told of {about}{many}, and will be: {letters[-1].reason}"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if at > now() else "at the next run"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(set(names))) or "nobody"
