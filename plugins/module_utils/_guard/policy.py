# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""May we act now? Pure: a policy, a request, what is known, and the time come in; a decision comes out.

`TABLE` says which denial stops whom at which action; `decide` asks the checks of the cells that apply, in the order of
`_CHECKS`, and the first that speaks is the answer. Nothing stops the undo of our own unfinished rollout.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Callable, FrozenSet, Mapping, NamedTuple, Optional, Sequence, Tuple

from .._errors import OptionError, nearest
from .._judge.part import Part, shown
from . import decision as say
from .chain import canonical
from .decision import FLAG_OFF, HEALING, PROMOTE, RERUN, ROLLBACK, ROLLOUT, UNDO, Decision, Request
from .freeze import Window, frozen, parse_windows
from .memory import ACTIONS_KEPT, LASTING, SERVICES_KEPT, Fleet, Memory, Pause, shortened
from .model import Lease, Rollout

OBSERVE, RECOMMEND, ACT = "observe", "recommend", "act"
MODES = (OBSERVE, RECOMMEND, ACT)
CLOSED, HALF_OPEN = "closed", "half_open"
BREAKER_STATES = (CLOSED, "open", HALF_OPEN)
KEYS = (
    "mode",
    "alerts",
    "codes",
    "calls",
    "cooldown",
    "global_cooldown",
    "max_actions",
    "window",
    "breaker",
    "max_steps_back",
    "hold_for",
    "clear_for",
    "rearm_below",
    "max_services",
    "services_window",
    "max_alarming",
    "freeze",
    "attribution_window",
    "approval_ttl",
    "watchdog",
    "clock",
)
MIN_ALARMING = 3  # services that alarm together before their share says anything


@dataclass(frozen=True)
class GuardPolicy:
    """When a service may be healed. Durations are seconds; `version` is the beginning of the SHA-256 of `plain`."""

    service: str
    mode: str = RECOMMEND
    alerts: FrozenSet[str] = frozenset()
    codes: FrozenSet[str] = frozenset()
    calls: FrozenSet[str] = frozenset()
    cooldown: float = 900.0
    global_cooldown: float = 60.0
    max_actions: int = 3
    window: float = 86400.0
    breaker_failures: int = 1
    breaker_reset: float = 3600.0
    max_steps_back: int = 1
    hold_for: float = 0.0
    clear_for: float = 300.0
    rearm_below: float = 0.8  # of the limit
    max_services: int = 3
    services_window: float = 3600.0
    max_alarming: float = 0.3  # share of all services
    freeze: Tuple[Window, ...] = ()
    attribution_window: float = 3600.0
    approval_ttl: float = 1800.0
    watchdog: Optional[float] = None
    clock_tolerance: float = 60.0
    clock_settle: float = 300.0
    version: str = ""
    plain: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)


def parse_guard(raw: Mapping[str, object], service: str) -> GuardPolicy:
    """The policy of `service`, or an OptionError that says which key is wrong and what would be right."""
    try:
        return _policy(Part("guard", raw, KEYS), service)
    except OptionError as error:
        raise error.on(service) from None


def _policy(part: Part, service: str) -> GuardPolicy:
    usual = GuardPolicy(service)
    breaker = _inner(part, "breaker", ("failures", "reset"))
    clock = _inner(part, "clock", ("tolerance", "settle"))
    plain = part.plain()
    return GuardPolicy(
        service=service,
        mode=part.choice("mode", MODES, usual.mode),
        alerts=_names(part, "alerts"),
        codes=_names(part, "codes"),
        calls=_names(part, "calls"),
        cooldown=part.seconds("cooldown", usual.cooldown),
        global_cooldown=part.seconds("global_cooldown", usual.global_cooldown),
        max_actions=_count(part, "max_actions", usual.max_actions, ACTIONS_KEPT),
        window=part.seconds("window", usual.window, least=1.0),
        breaker_failures=_count(breaker, "failures", usual.breaker_failures, 100),
        breaker_reset=breaker.seconds("reset", usual.breaker_reset, least=1.0),
        max_steps_back=_count(part, "max_steps_back", usual.max_steps_back, 10),
        hold_for=part.seconds("hold_for", usual.hold_for),
        clear_for=part.seconds("clear_for", usual.clear_for),
        rearm_below=part.share("rearm_below", usual.rearm_below, least=0.0, most=1.0),
        max_services=_count(part, "max_services", usual.max_services, SERVICES_KEPT),
        services_window=part.seconds("services_window", usual.services_window, least=1.0),
        max_alarming=part.share("max_alarming", usual.max_alarming, least=0.0, most=1.0),
        freeze=parse_windows(part.items("freeze")),
        attribution_window=part.seconds("attribution_window", usual.attribution_window, least=1.0),
        approval_ttl=part.seconds("approval_ttl", usual.approval_ttl, least=1.0),
        watchdog=part.maybe_seconds("watchdog", least=1.0),
        clock_tolerance=clock.seconds("tolerance", usual.clock_tolerance, least=1.0),
        clock_settle=clock.seconds("settle", usual.clock_settle),
        version=sha256(canonical(plain).encode()).hexdigest()[:12],
        plain=plain,
    )


def _inner(part: Part, key: str, known: Sequence[str]) -> Part:
    raw = part.get(key)
    return Part(f"{part.where}: {key}", {} if raw is None else raw, known)


def _count(part: Part, key: str, default: int, most: int) -> int:
    value = part.whole(key, default, least=1)
    if value > most:
        raise OptionError(f"{part.where}: {key} must be at most {most}, not {value}", mend=f"Correct {key}")
    return value


def _names(part: Part, key: str) -> FrozenSet[str]:
    names = part.items(key)
    for name in names:
        if not isinstance(name, str) or not name.strip() or "*" in name:
            raise OptionError(
                f"{part.where}: {key} must be names, not {shown(name)}",
                mend="Name each one in full: nothing here stands for all of them",
            )
    return frozenset(str(name) for name in names)


# --- who is denied what

SYSTEM, PIPELINE, PERSON, APPROVED = "system", say.PIPELINE, say.PERSON, "approved"
_NEW = frozenset({ROLLOUT, PROMOTE})
_HEAL = frozenset(HEALING)
_BACK = frozenset({ROLLBACK})
_BEGIN = frozenset({ROLLOUT}) | _HEAL  # what begins something
_ALL = _NEW | _HEAL
_ON_PLACES = _ALL - {FLAG_OFF, RERUN}  # what changes places, of which there must be at least one

DENIES: Mapping[str, FrozenSet[str]] = {
    say.NOT_ELIGIBLE: _BEGIN,
    say.NOT_CONFIRMED: _HEAL,
    say.NOT_HELD: _HEAL,
    say.NOT_REARMED: _HEAL,
    say.COOLDOWN: _HEAL,
    say.RATE_LIMITED: _HEAL,
    say.BREAKER_OPEN: _HEAL,
    say.PAUSED: _ALL,
    say.IN_PROGRESS: _ALL,
    say.BLAST_RADIUS: _ALL,
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
    say.IN_PROGRESS: _ALL,
    say.BLAST_RADIUS: _ALL,
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
    say.IN_PROGRESS: _ALL,
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
    say.IN_PROGRESS: _ALL,
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


@dataclass(frozen=True)
class View:
    """What is known at the moment of a decision, read in one transaction."""

    memory: Memory
    fleet: Fleet
    lease: Optional[Lease] = None  # in force, of somebody else
    unfinished: Optional[Rollout] = None
    seen: Optional[str] = None  # `mark` of what was decided last about this trigger
    watchdog_at: Optional[float] = None
    drift: float = 0.0  # seconds that the wall clock is wrong by; 0 when it can be trusted


class Why(NamedTuple):
    """Why not, what to do about it, and when asking again may help."""

    what: str
    mend: str
    until: Optional[float] = None


class Case(NamedTuple):
    policy: GuardPolicy
    request: Request
    view: View
    now: float

    @property
    def caller(self) -> str:
        if self.request.approved:
            return APPROVED
        kind = self.request.trigger.kind
        return kind if kind in (say.PIPELINE, say.PERSON) else SYSTEM


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
        return _decision(case, say.ALLOWED, "", Why("it takes back our own unfinished rollout", ""))
    denies = TABLE[case.caller]
    for reason, check in _CHECKS:
        why = check(case) if request.action in denies[reason] else None
        if why is not None:
            return _denied(case, reason, why)
    return _by_mode(case)


def mark(decision: Decision) -> str:
    """What to remember of a decision about a trigger, for `View.seen`. One that was allowed is never forgotten."""
    return f"{say.DENIED}:{decision.reason}" if decision.verdict == say.DENIED else decision.verdict


def _denied(case: Case, reason: str, why: Why) -> Decision:
    if reason != say.NOT_ATTRIBUTABLE:
        return _decision(case, say.DENIED, reason, why)
    if case.policy.mode == OBSERVE:
        return _decision(case, say.OBSERVED, reason, why)
    return _decision(case, say.RECOMMENDED, reason, _asked(case, why.what))


def _by_mode(case: Case) -> Decision:
    by_itself = case.caller == SYSTEM and case.request.action != PROMOTE
    if not by_itself or case.policy.mode == ACT:
        return _decision(case, say.ALLOWED, "", Why("nothing stands against it", ""))
    if case.policy.mode == OBSERVE:
        return _decision(
            case,
            say.OBSERVED,
            "",
            Why("the guard only observes this service", "Set mode to recommend or act to change that"),
        )
    return _decision(case, say.RECOMMENDED, "", _asked(case, "the guard asks before it acts on this service"))


def _asked(case: Case, what: str) -> Why:
    until = case.now + case.policy.approval_ttl
    return Why(
        what, f"Approve {case.request.id} with the guard module before {shown_time(until)}, or let it pass", until
    )


_SAID = {
    say.ALLOWED: "is allowed",
    say.DENIED: "is denied",
    say.RECOMMENDED: "is recommended",
    say.OBSERVED: "would be done",
}


def _decision(case: Case, verdict: str, reason: str, why: Why) -> Decision:
    request = case.request
    mend = f" {why.mend}." if why.mend else ""
    return Decision(
        id=request.id,
        service=request.service,
        action=request.action,
        verdict=verdict,
        reason=reason,
        message=f"{request.service}: {request.action} {_SAID[verdict]}: {why.what}.{mend}",
        page=_pages(case, verdict, reason),
        until=why.until,
        policy=case.policy.version,
    )


def _pages(case: Case, verdict: str, reason: str) -> bool:
    """Something is bad, or may be, nothing is done about it, and nobody was told yet."""
    trigger, seen = case.request.trigger, case.view.seen or ""
    if verdict == say.ALLOWED or reason == say.DUPLICATE or case.request.action not in HEALING:
        return False
    if trigger.kind in (say.PIPELINE, say.PERSON) or not trigger.active or case.request.situation.confirmed is False:
        return False
    return seen != (f"{verdict}:{reason}" if verdict == say.DENIED else verdict)


def shown_time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


# --- the checks: each says why not, or None


def _duplicate(case: Case) -> Optional[Why]:
    if case.view.seen in (say.ALLOWED, say.RECOMMENDED, f"{say.DENIED}:{say.DUPLICATE}"):
        return Why(
            "this very trigger was decided on before", "A new incident has a new identity; nothing has to be done"
        )
    return None


def _not_eligible(case: Case) -> Optional[Why]:
    if case.request.approved:
        return _not_approved(case)
    policy, trigger = case.policy, case.request.trigger
    key, names = {
        say.ALERT: ("alerts", policy.alerts),
        say.ERROR_CODE: ("codes", policy.codes),
        say.CALL: ("calls", policy.calls),
    }[trigger.kind]
    if trigger.name in names:
        return None
    what = f"the {trigger.kind.replace('_', ' ')} {shown(trigger.name)} is not among the guard's {key}"
    return Why(what, f"Look into it yourself; name it under {key} if it may be acted on")


def _not_approved(case: Case) -> Optional[Why]:
    request = case.request
    why = unusable(case.view.memory, request.approved, case.now)
    known = case.view.memory.recommendations.get(request.approved)
    if not why and known is not None:
        situation = request.situation
        wanted, there = (
            (known.action, known.release, known.target),
            (request.action, situation.current, situation.known_good),
        )
        if not known.approved_by:
            why = f"nobody approved {request.approved}"
        elif wanted != there:
            why = (
                f"things have changed since {request.approved} was recommended: it was {_told(*wanted)}, "
                f"and would be {_told(*there)} now"
            )
    return Why(why, "Wait for a new recommendation, or act as a person") if why else None


def _told(action: str, release: str, target: str) -> str:
    return f"{action} of {release or 'nothing'}{f' to {target}' if target else ''}"


def unusable(memory: Memory, recommendation: str, now: float) -> str:
    """Why a recommendation can be neither approved nor carried out any more; empty when it can."""
    known = memory.recommendations.get(recommendation)
    if known is None:
        return f"there is no recommendation {recommendation} of this service"
    if known.used:
        return f"recommendation {recommendation} was carried out already"
    if now >= known.until:
        return f"recommendation {recommendation} expired at {shown_time(known.until)}"
    return ""


def _not_confirmed(case: Case) -> Optional[Why]:
    trigger, confirmed = case.request.trigger, case.request.situation.confirmed
    if case.request.approved:
        return None if confirmed is not False else Why("its source says that it is over", "Nothing has to be done")
    if not trigger.active:
        return Why("it is resolved", "Nothing has to be done")
    if confirmed is False:
        return Why(
            "its source, asked again, does not say so", "Nothing has to be done; if it comes often, check its rule"
        )
    if confirmed is None:
        return Why("its source could not be asked again", "Look into it yourself, and at the source of its metrics")
    if shortened(trigger.id) in case.view.memory.condition(trigger.condition).ended:
        return Why("this incident was told to be over before", "A new incident has a new identity; check what sends it")
    return None


def _clock_jumped(case: Case) -> Optional[Why]:
    drift = case.view.drift
    if not drift:
        return None
    what = f"this controller's clock is wrong by {drift:+.0f} s, or was a moment ago"
    return Why(what, f"Check its time; it is trusted again {case.policy.clock_settle:.0f} s after it was put right")


def _alerts_silent(case: Case) -> Optional[Why]:
    watchdog, at = case.policy.watchdog, case.view.watchdog_at
    if watchdog is None or case.request.trigger.kind not in LASTING or (at is not None and case.now - at <= watchdog):
        return None
    last = f"was last heard of at {shown_time(at)}" if at is not None else "was never heard of"
    return Why(f"the Watchdog alert {last}, so that the alerts cannot be believed", "Check Prometheus and Alertmanager")


def _paused(case: Case) -> Optional[Why]:
    for pause, what in ((case.view.fleet.pause, "everything"), (case.view.memory.pause, "this service")):
        if in_force(pause, case.now) and pause is not None:
            return Why(told_pause(pause, what), "Resume it with the guard module", pause.until)
    return None


def in_force(pause: Optional[Pause], now: float) -> bool:
    return pause is not None and (pause.until is None or now < pause.until)


def told_pause(pause: Pause, what: str) -> str:
    """One pause in words: who, why, since when and until when."""
    until = f"until {shown_time(pause.until)}" if pause.until is not None else "WITHOUT END"
    return f"{pause.by} paused {what} at {shown_time(pause.at)} {until} ({pause.reason or 'no reason given'})"


def _frozen(case: Case) -> Optional[Why]:
    found = frozen(case.policy.freeze, case.now)
    if found is None:
        return None
    window, until = found
    return Why(
        f"{window.name} is a freeze window until {shown_time(until)}", "Wait for its end, or change the policy", until
    )


def _blast_radius(case: Case) -> Optional[Why]:
    request = case.request
    if request.situation.places <= 0 and request.action in _ON_PLACES:
        return Why("it selects no place, and that never stands for all of them", "Check the inventory's group")
    if case.caller not in (SYSTEM, PIPELINE) or request.action not in HEALING:
        return None
    return _too_many_acted(case) or _too_many_alarm(case)


def _too_many_acted(case: Case) -> Optional[Why]:
    policy = case.policy
    since = case.now - policy.services_window
    others = {
        service: at for service, at in case.view.fleet.acted.items() if at > since and service != case.request.service
    }
    if len(others) < policy.max_services:
        return None
    until = sorted(others.values())[len(others) - policy.max_services] + policy.services_window
    what = f"{len(others)} other services were acted on within {policy.services_window:.0f} s (max_services)"
    return Why(what, "Look for what they have in common before more is changed", until)


def _too_many_alarm(case: Case) -> Optional[Why]:
    """When most things look broken, it is the signal, or what they share, and not one release."""
    policy, request = case.policy, case.request
    if request.trigger.kind not in LASTING:
        return None
    since = case.now - policy.services_window
    alarming = {
        service
        for service, conditions in case.view.fleet.alarming.items()
        if any(at > since for at in conditions.values())
    }
    count, services = len(alarming | {request.service}), request.situation.services
    if count < MIN_ALARMING or (services > 0 and count <= policy.max_alarming * services):
        return None
    of = f"of {services}" if services > 0 else "of an unknown number of"
    what = f"{count} {of} services alarm together (max_alarming), so that no single release is to blame"
    return Why(what, "Look for what they have in common: a provider, the network, the alerts themselves")


def _in_progress(case: Case) -> Optional[Why]:
    lease, rollout = case.view.lease, case.view.unfinished
    if lease is not None:
        what = f"{lease.holder} is at work on it and holds the lease for {lease.expires - case.now:.0f} s more"
        return Why(
            what, "Wait for it to end, or speak to it with the guard module (hold, promote, abort)", lease.expires
        )
    if rollout is None or case.request.action == PROMOTE:  # an unfinished rollout is just what is promoted
        return None
    return Why(
        f"rollout {rollout.id} of release {rollout.release}, started by {rollout.by}, is unfinished ({rollout.state})",
        "Let playbooks/reconcile.yml settle it, or say abort or promote with the guard module",
    )


def _no_known_good(case: Case) -> Optional[Why]:
    situation = case.request.situation
    if situation.known_good and situation.known_good != situation.current:
        return None
    return Why("there is no known good release to go back to", "Release a mended one, or switch the feature off")


def _rollback_blocked(case: Case) -> Optional[Why]:
    situation = case.request.situation
    if not situation.blocked:
        return None
    what = (
        f"{situation.current or 'the current release'} must not be rolled back ({situation.blocked[:200].rstrip('.')})"
    )
    return Why(what, "Switch the feature off, or let a person decide")


def _breaker_open(case: Case) -> Optional[Why]:
    policy, memory = case.policy, case.view.memory
    state, until = breaker(policy, memory, case.now)
    if state not in (CLOSED, HALF_OPEN):
        what = "its breaker is open"
        if memory.failures:
            what += f" after {memory.failures} failed or unrecovered action{'s' if memory.failures > 1 else ''}"
        return Why(what, "Find out why it did not help; a rollout that passes closes it", until)
    if case.request.action == ROLLBACK and memory.steps_back >= policy.max_steps_back:
        what = f"it went back {memory.steps_back} time(s) since its last rollout that passed (max_steps_back)"
        return Why(what, "Release a mended one, or let a person decide")
    return None


def breaker(policy: GuardPolicy, memory: Memory, now: float) -> Tuple[str, Optional[float]]:
    """The breaker's state, one of BREAKER_STATES, and when an open one lets one try through.

    Each try keeps it open for as long again: only its success closes it sooner.
    """
    opened = [memory.tripped_at] if memory.tripped_at is not None else []
    if memory.failures >= policy.breaker_failures and memory.failed_at is not None:
        opened.append(memory.failed_at)
    if not opened:
        return CLOSED, None
    until = max([*opened, *memory.actions[-1:]]) + policy.breaker_reset
    return (HALF_OPEN, None) if now >= until else ("open", until)


def _not_rearmed(case: Case) -> Optional[Why]:
    policy, trigger = case.policy, case.request.trigger
    if trigger.kind not in LASTING:
        return None
    condition = case.view.memory.condition(trigger.condition)
    if condition.disarmed_at is None or condition.calm_for(policy.rearm_below, case.now) >= policy.clear_for:
        return None
    what = f"{trigger.name} was acted on at {shown_time(condition.disarmed_at)}"
    what += f" and was not clear for {policy.clear_for:.0f} s since (clear_for)"
    return Why(what, "If it does not clear, the action did not help: look into it yourself")


def _cooldown(case: Case) -> Optional[Why]:
    policy, memory = case.policy, case.view.memory
    mine = memory.acted_at + policy.cooldown if memory.acted_at is not None else None
    if mine is not None and case.now < mine:
        return Why(f"it was acted on less than {policy.cooldown:.0f} s ago (cooldown)", _LATER, mine)
    last = max(case.view.fleet.acted.values(), default=None)
    until = last + policy.global_cooldown if last is not None else None
    if until is not None and case.now < until:
        return Why(
            f"a service was acted on less than {policy.global_cooldown:.0f} s ago (global_cooldown)", _LATER, until
        )
    return None


_LATER = "Look into it yourself, or let it be asked again later"


def _rate_limited(case: Case) -> Optional[Why]:
    policy = case.policy
    recent = sorted(at for at in case.view.memory.actions if at > case.now - policy.window)
    if len(recent) < policy.max_actions:
        return None
    what = f"it was acted on {len(recent)} times within {policy.window:.0f} s (max_actions)"
    return Why(what, "Look into why it comes back", recent[-policy.max_actions] + policy.window)


def _not_held(case: Case) -> Optional[Why]:
    policy, trigger = case.policy, case.request.trigger
    if trigger.kind not in LASTING or not policy.hold_for:
        return None
    since = case.view.memory.condition(trigger.condition).since
    until = (case.now if since is None else since) + policy.hold_for
    if case.now >= until:
        return None
    return Why(f"it has not lasted for {policy.hold_for:.0f} s yet (hold_for)", "Let it be asked again then", until)


def _not_attributable(case: Case) -> Optional[Why]:
    memory, situation, trigger = case.view.memory, case.request.situation, case.request.trigger
    begun, changed = memory.changed_from, memory.changed_at
    if changed is None:
        begun, changed = situation.changed_at, situation.changed_at
    at = min(case.now if trigger.at is None else trigger.at, case.now)
    if changed is None or begun is None:
        return Why("nobody knows when the service changed last, so that its release may not be to blame", "")
    if at < begun:
        return Why(f"it began before the last change, of {shown_time(begun)}, so that this release is not to blame", "")
    if at > changed + case.policy.attribution_window:
        what = f"the last change, of {shown_time(changed)}, is more than {case.policy.attribution_window:.0f} s older"
        return Why(f"{what} (attribution_window), so that this release may not be to blame", "")
    return None


_CHECKS: Tuple[Tuple[str, Callable[[Case], Optional[Why]]], ...] = (
    (say.DUPLICATE, _duplicate),
    (say.NOT_ELIGIBLE, _not_eligible),
    (say.NOT_CONFIRMED, _not_confirmed),
    (say.CLOCK_JUMPED, _clock_jumped),
    (say.ALERTS_SILENT, _alerts_silent),
    (say.PAUSED, _paused),
    (say.FROZEN, _frozen),
    (say.BLAST_RADIUS, _blast_radius),
    (say.IN_PROGRESS, _in_progress),
    (say.NO_KNOWN_GOOD, _no_known_good),
    (say.ROLLBACK_BLOCKED, _rollback_blocked),
    (say.BREAKER_OPEN, _breaker_open),
    (say.NOT_REARMED, _not_rearmed),
    (say.COOLDOWN, _cooldown),
    (say.RATE_LIMITED, _rate_limited),
    (say.NOT_HELD, _not_held),
    (say.NOT_ATTRIBUTABLE, _not_attributable),
)
