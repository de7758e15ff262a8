# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""May we act? A task's options as the guard's question, and its answer as the task's result."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Any, Dict, Mapping, Optional

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ACTIONS,
    ALERT,
    CALL,
    DENIED,
    ERROR_CODE,
    KINDS,
    PERSON,
    STORE_UNAVAILABLE,
    UNDO,
    Decision,
    Grant,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import GuardPolicy, parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import identity
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import OPEN, Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.rollouts import new_id
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pauses import pauses_of, warned
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    LEASE_TTL,
    Facts,
    Spec,
    clock,
    holder,
    lease_fact,
    now,
    plain,
)

ASKED = tuple(action for action in ACTIONS if action != UNDO)  # an undo needs nobody's leave
_TOLD = (ALERT, ERROR_CODE, CALL)  # triggers of others, which say the same thing more than once
PRETENDED = "check"  # the id of an action in check mode, which is never in the ledger

TRIGGER: Spec = {
    "kind": {"type": "str", "choices": list(KINDS), "default": PERSON},
    "name": {"type": "str", "default": ""},
    "id": {"type": "str", "default": ""},
    "at": {"type": "float"},
    "active": {"type": "bool", "default": True},
    "level": {"type": "float"},
    "evidence": {"type": "dict", "default": {}},
}
SITUATION: Spec = {
    "confirmed": {"type": "bool"},
    "current": {"type": "str", "default": ""},
    "known_good": {"type": "str", "default": ""},
    "changed_at": {"type": "float"},
    "blocked": {"type": "str", "default": ""},
    "places": {"type": "int", "default": 0},
    "services": {"type": "int", "default": 0},
    "alarming": {"type": "int", "default": 0},
}
OPTIONS: Spec = {
    "action": {"type": "str", "choices": list(ASKED)},
    "trigger": {"type": "dict", "default": {}, "options": TRIGGER},
    "situation": {"type": "dict", "default": {}, "options": SITUATION},
    "guard": {"type": "dict", "default": {}},
    "release": {"type": "str", "default": ""},
    "kind": {"type": "str", "choices": ["rollback", "action"], "default": "action"},
    "intent": {"type": "dict", "default": {}},
    "approved": {"type": "str", "default": ""},
    "after": {"type": "str", "default": ""},
    "lease_ttl": {"type": "float", "default": LEASE_TTL},
    "on_denied": {"type": "str", "choices": ["fail", "continue"], "default": "fail"},
}
# of each task that finds out all that an action depends on, and asks the guard; documented by the fragment deciding
DECIDING: Spec = {
    "guard": {"type": "dict", "default": {}},
    "trigger": {"type": "raw", "default": {}},
    "reason": {"type": "str", "default": ""},
    "confirm_window": {"type": "float", "default": 120.0},
    "approved": {"type": "str", "default": ""},
    "services": {"type": "int", "default": 0},
    "alarming": {"type": "int", "default": 0},
    "lease_ttl": {"type": "float", "default": LEASE_TTL},
}
GATES_KEPT = ("confirmed", "verdict", "reason", "level", "gates", "down")  # of what gates said, in the ledger


def acquired(options: Facts, who: str, *, checking: bool) -> Facts:
    """The task's result; a store that is down is a denial, and never a yes."""
    policy = parse_guard(plain(options["guard"]), options["service"])
    request = request_of(options, who)
    warnings: Facts = {}
    try:
        ledger = ledger_from(options)
        try:
            warnings = warned(pauses_of(ledger, request.service, now()))  # before: nothing may be lost after a yes
            grant = _rehearsed(ledger, request, policy) if checking else _decided(ledger, request, policy, options)
        finally:
            with suppress(StoreError):
                ledger.close()
    except StoreError as error:
        grant = Grant(_unavailable(request, error))
    return {**warnings, **_result(grant, denied_fails=options["on_denied"] == "fail")}


def request_of(options: Facts, who: str) -> Request:
    asked = plain(options["trigger"] or {})
    trigger = Trigger(
        kind=asked.get("kind") or PERSON,
        name=asked.get("name") or "",
        id=asked.get("id") or "",
        at=asked.get("at"),
        active=asked.get("active") is not False,
        level=asked.get("level"),
        evidence=asked.get("evidence") or {},
    )
    if trigger.kind in _TOLD and not (trigger.name and trigger.id):
        raise OptionError(
            f"A trigger of kind {trigger.kind} needs a name and an id",
            mend="Set trigger.id to what is the same for every copy of one signal: by it, it is acted on once",
        )
    ident = new_id()
    if trigger.kind not in _TOLD:
        trigger = Trigger(**{**vars(trigger), "name": trigger.name or who, "id": trigger.id or ident})
    return Request(
        id=ident,
        service=options["service"],
        action=options["action"],
        trigger=trigger,
        actor=who,
        situation=_situation(plain(options["situation"] or {})),
        approved=options["approved"],
        after=options["after"],
    )


def _situation(told: Mapping[str, Any]) -> Situation:
    return Situation(**{name: value for name, value in told.items() if value is not None})


def _opens(request: Request, options: Facts) -> Rollout:
    """What is written together with a yes."""
    situation = request.situation
    release = options["release"] or situation.current
    target = {"target": situation.known_good} if situation.known_good else {}
    intent: Dict[str, object] = {"action": request.action, **target, **plain(options["intent"] or {})}
    intent["trigger"] = identity(request.trigger.id)  # by which the next way back is known to be about the same
    return Rollout(request.id, request.service, release, options["kind"], OPEN, 0, 0.0, 0.0, intent)


def _decided(ledger: Ledger, request: Request, policy: GuardPolicy, options: Facts) -> Grant:
    return ledger.decide(
        request,
        policy,
        holder=holder(),
        ttl=options["lease_ttl"],
        now=now(),
        clock=clock(),
        opens=_opens(request, options),
    )


def _rehearsed(ledger: Ledger, request: Request, policy: GuardPolicy) -> Grant:
    """The same answer, and nothing written; what a yes hands on is never in the ledger."""
    decision = ledger.check(request, policy, now=now(), clock=clock(), record=False)
    if not decision.allowed:
        return Grant(decision)
    pretended = Rollout(PRETENDED, request.service, request.situation.current, "action", OPEN, 0, 0.0, 0.0)
    return Grant(decision, Lease(request.service, holder(), 0, 0.0), pretended)


def _unavailable(request: Request, error: StoreError) -> Decision:
    return Decision(
        id=request.id,
        service=request.service,
        action=request.action,
        verdict=DENIED,
        reason=STORE_UNAVAILABLE,
        message=error.message,
        page=True,
    )


def _result(grant: Grant, *, denied_fails: bool) -> Facts:
    decision = grant.decision
    result: Facts = {
        "changed": not grant.repeated and decision.reason != STORE_UNAVAILABLE,
        "allowed": decision.allowed,
        "decision": decision.as_dict(),
        "repeated": grant.repeated,
        "lease": lease_fact(grant.lease) if grant.lease is not None else None,
        "rollout": _rollout(grant.rollout),
        "msg": f"{decision.service}: {decision.message}",
    }
    return {**result, "failed": True} if denied_fails and not decision.allowed else result


def _rollout(rollout: Optional[Rollout]) -> Optional[Facts]:
    return asdict(rollout) if rollout is not None else None
