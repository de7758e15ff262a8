# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""May we act now? Pure: a policy, a request, what is known, and the time come in; a decision comes out.

`TABLE` says which denial stops whom at which action; `decide` asks the checks of the cells that apply, in the order of
`checks.CHECKS`, and the first that speaks is the answer. Nothing stops the undo of our own unfinished rollout.
"""

from __future__ import annotations

from typing import Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from .._errors import OptionError, nearest
from . import decision as say
from .checks import (
    APPROVED,
    CHECKS,
    ON_PLACES,
    PERSON,
    PIPELINE,
    SYSTEM,
    Case,
    Check,
    View,
    Why,
    approving,
    breaker,
    storm,
    storm_told,
)
from .decision import FLAG_ON, HEALING, PROMOTE, ROLLBACK, ROLLOUT, UNDO, Decision, Request
from .limits import ACT, OBSERVE, GuardPolicy, parse_guard
from .memory import identity

__all__ = ["DENIES", "PERSON_DENIES", "TABLE", "GuardPolicy", "View", "breaker", "decide", "mark", "parse_guard"]

_NEW = frozenset({ROLLOUT, PROMOTE, FLAG_ON})
_HEAL = frozenset(HEALING)
_BACK = frozenset({ROLLBACK})
_REACH = frozenset({ROLLOUT}) | _HEAL
_BEGIN = frozenset({ROLLOUT, FLAG_ON}) | _HEAL  # a promotion goes on with what was begun, under its own lease
_ALL = _NEW | _HEAL
_ON_PLACES = frozenset(ON_PLACES)

DENIES: Mapping[str, FrozenSet[str]] = {
    say.NOT_ELIGIBLE: _BEGIN,
    say.NOT_CONFIRMED: _HEAL,
    say.NOT_HELD: _HEAL,
    say.NOT_REARMED: _HEAL,
    say.COOLDOWN: _HEAL,
    say.RATE_LIMITED: _HEAL,
    say.BREAKER_OPEN: _HEAL,
    say.PAUSED: _ALL,
    say.IN_PROGRESS: _BEGIN,
    say.BLAST_RADIUS: _REACH,
    say.FROZEN: _NEW,
    say.DUPLICATE: _BEGIN,
    say.NO_KNOWN_GOOD: _BACK,
    say.ROLLBACK_BLOCKED: _BACK,
    say.NOT_ATTRIBUTABLE: _BACK,
    say.ALERTS_SILENT: _HEAL,
    say.CLOCK_JUMPED: _ALL,
    say.STORE_UNAVAILABLE: _ALL,
}
_NOTHING: FrozenSet[str] = frozenset()
PIPELINE_DENIES: Mapping[str, FrozenSet[str]] = {
    **dict.fromkeys(say.REASONS, _NOTHING),
    say.COOLDOWN: _HEAL,
    say.RATE_LIMITED: _HEAL,
    say.BREAKER_OPEN: _HEAL,
    say.PAUSED: _ALL,
    say.IN_PROGRESS: _BEGIN,
    say.BLAST_RADIUS: _REACH,
    say.FROZEN: _NEW,
    say.DUPLICATE: _HEAL,
    say.NO_KNOWN_GOOD: _BACK,
    say.ROLLBACK_BLOCKED: _BACK,
    say.CLOCK_JUMPED: _HEAL,
    say.STORE_UNAVAILABLE: _ALL,
}
PERSON_DENIES: Mapping[str, FrozenSet[str]] = {
    **dict.fromkeys(say.REASONS, _NOTHING),
    say.PAUSED: _NEW,
    say.IN_PROGRESS: _BEGIN,
    say.BLAST_RADIUS: _ON_PLACES,
    say.FROZEN: _NEW,
    say.DUPLICATE: _HEAL,
    say.NO_KNOWN_GOOD: _BACK,
    say.STORE_UNAVAILABLE: _ALL,
}
APPROVED_DENIES: Mapping[str, FrozenSet[str]] = {
    **dict.fromkeys(say.REASONS, _NOTHING),
    say.NOT_ELIGIBLE: _ALL,
    say.NOT_CONFIRMED: _HEAL,
    say.PAUSED: _ALL,
    say.IN_PROGRESS: _BEGIN,
    say.BLAST_RADIUS: _ON_PLACES,
    say.FROZEN: _NEW,
    say.NO_KNOWN_GOOD: _BACK,
    say.ROLLBACK_BLOCKED: _BACK,
    say.CLOCK_JUMPED: _ALL,
    say.STORE_UNAVAILABLE: _ALL,
}
TABLE: Mapping[str, Mapping[str, FrozenSet[str]]] = {
    SYSTEM: DENIES,
    PIPELINE: PIPELINE_DENIES,
    PERSON: PERSON_DENIES,
    APPROVED: APPROVED_DENIES,
}
# TABLE by caller and action: the checks that can stop them, in their order
_ASKED: Dict[Tuple[str, str], Sequence[Tuple[str, Check]]] = {
    (caller, action): [(reason, check) for reason, check in CHECKS if action in denies[reason]]
    for caller, denies in TABLE.items()
    for action in say.ACTIONS
}


def decide(policy: GuardPolicy, request: Request, view: View, now: float) -> Decision:
    """Whether `request` may be done now, and if not, why, until when, and whether a person has to know."""
    for word, known in ((request.action, say.ACTIONS), (request.trigger.kind, say.KINDS)):
        if word not in known:
            raise OptionError(
                f"{word!r} is unknown to the guard{nearest(word, known)}",
                mend=f"Known are {', '.join(known)}",
                service=request.service,
            )
    case = Case(policy, request, view, now)
    if request.action == UNDO:
        return _decision(case, say.ALLOWED, "", Why("It takes back our own unfinished rollout", ""))
    for reason, check in _ASKED[case.caller, request.action]:
        why = check(case) if not (view.escalates and reason in ESCALATED) else None
        if why is not None:
            return _denied(case, reason, why)
    return _by_mode(case)


def mark(decision: Decision, seen: Optional[str] = None) -> str:
    """What to remember of a decision about a trigger, for `View.seen`; `seen` is what was remembered until now.

    One that was allowed is never forgotten. A denial that nobody was paged for says so: the next one may have to.
    """
    return _mark(decision.verdict, decision.reason, decision.page or seen == f"{say.DENIED}:{decision.reason}")


def _mark(verdict: str, reason: str, paged: bool) -> str:
    if verdict != say.DENIED:
        return verdict
    return f"{say.DENIED}:{reason}" if paged else f"{say.DENIED}:{reason}:untold"


def trigger_key(request: Request) -> str:
    """What its trigger is found by. One signal may lead to several actions, one after the other, but to each once."""
    return _trigger_key(request.action, request.trigger.kind, identity(request.trigger.id))


def told_by(decision: Mapping[str, object]) -> Tuple[str, str]:
    """The key of the trigger that a recorded decision is about, and its `mark`, as that was when it was recorded."""
    action, condition, trigger = (str(decision.get(name)) for name in ("action", "condition", "trigger"))
    verdict, reason = str(decision.get("verdict")), str(decision.get("reason"))
    key = _trigger_key(action, condition.partition(":")[0], trigger)
    return key, _mark(verdict, reason, decision.get("page") is True)


def _trigger_key(action: str, kind: str, ident: str) -> str:
    return f"{action}:{kind}:{ident}"


# the first way back counted for the incident: that it did not help says nothing against the next one
ESCALATED = frozenset({say.NOT_REARMED, say.COOLDOWN, say.RATE_LIMITED})


def _denied(case: Case, reason: str, why: Why) -> Decision:
    if reason != say.NOT_ATTRIBUTABLE:
        return _decision(case, say.DENIED, reason, why)
    if case.policy.mode == OBSERVE:
        return _decision(case, say.OBSERVED, reason, why)
    return _decision(case, say.RECOMMENDED, reason, _asked(case, why.what))


def _by_mode(case: Case) -> Decision:
    by_itself = case.caller == SYSTEM and case.request.action != PROMOTE
    if not by_itself or case.policy.mode == ACT:
        return _decision(case, say.ALLOWED, "", Why("Nothing stands against it", ""))
    if case.policy.mode == OBSERVE:
        return _decision(
            case,
            say.OBSERVED,
            "",
            Why("The guard only observes this service", "Set mode to recommend or act to change that"),
        )
    return _decision(case, say.RECOMMENDED, "", _asked(case, "Its guard only recommends (mode: recommend)"))


def _asked(case: Case, what: str) -> Why:
    until = case.now + case.policy.approval_ttl
    return Why(what, approving(case.request.id, until, case.request.action), until)


def _decision(case: Case, verdict: str, reason: str, why: Why) -> Decision:
    request = case.request
    mend = f" {why.mend}." if why.mend else ""
    together = storm(case) if verdict == say.DENIED else None
    page = _pages(case, verdict, reason) and not (together is not None and storm_told(case))
    if page and together is not None and together.what != why.what:
        mend += f" Besides, {together.what}."
    return Decision(
        id=request.id,
        service=request.service,
        action=request.action,
        verdict=verdict,
        reason=reason,
        message=f"{why.what}.{mend}",
        page=page,
        until=why.until,
        policy=case.policy.version,
        storm=together is not None,
    )


def _pages(case: Case, verdict: str, reason: str) -> bool:
    """Something is bad, or may be, nothing is done about it, and nobody was told yet."""
    trigger, seen = case.request.trigger, case.view.seen or ""
    if verdict == say.ALLOWED or reason == say.DUPLICATE or case.request.action not in HEALING:
        return False
    if trigger.kind in (say.PIPELINE, say.PERSON) or not trigger.active or case.request.situation.confirmed is False:
        return False
    return seen != (f"{verdict}:{reason}" if verdict == say.DENIED else verdict)
