# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may stand against acting: each check looks at one case and says why not, or None. Pure.

`policy` says whose actions each of them can stop; here is only whether it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Collection, NamedTuple, Optional, Tuple

from .._judge.part import shown
from . import decision as say
from .decision import FLAG_OFF, FLAG_ON, HEALING, RESTART, ROLLBACK, ROLLOUT, SCALE, Request
from .freeze import frozen
from .limits import GuardPolicy
from .memory import LASTING, Fleet, Memory, identity, shown_time
from .model import Lease, Rollout, environment_of

CLOSED, BROKEN, HALF_OPEN = "closed", "open", "half_open"
BREAKER_STATES = (CLOSED, BROKEN, HALF_OPEN)
MIN_ALARMING = 3  # services that alarm together before their share says anything
ON_PLACES = (ROLLOUT, ROLLBACK, RESTART, SCALE)  # what changes places, of which there must be at least one
SYSTEM, PIPELINE, PERSON, APPROVED = "system", say.PIPELINE, say.PERSON, "approved"


@dataclass(frozen=True)
class View:
    """What is known at the moment of a decision, read in one transaction."""

    memory: Memory
    fleet: Fleet
    lease: Optional[Lease] = None  # in force
    unfinished: Optional[Rollout] = None
    seen: Optional[str] = None  # `mark` of what was decided last about this trigger
    watchdog_at: Optional[float] = None
    escalates: bool = False  # `Request.after` is what it says
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


# --- the checks: each says why not, or None


def _duplicate(case: Case) -> Optional[Why]:
    if case.view.seen not in (say.ALLOWED, say.RECOMMENDED, f"{say.DENIED}:{say.DUPLICATE}"):
        return None
    what, condition = "This very trigger was decided on before", case.request.trigger.condition
    for ident, known in case.view.memory.recommendations.items():
        if known.condition == condition and case.view.memory.spent(ident, case.now) is None:
            waits = f"{known.approved_by} approved" if known.approved_by else "nobody has approved"
            return Why(f"{what}, and {waits} recommendation {ident}", approving(ident, known.until, known.action))
    return Why(what, "A new incident has a new identity; nothing has to be done")


def approving(ident: str, until: float, action: str) -> str:
    """What to do about the recommendation `ident` of `action`, which stands until `until`."""
    role = "kill_switch" if action == FLAG_OFF else "rollback"
    then = f"then run this again with {role}_approved={ident} (or approved: {ident})"
    return f"Approve {ident} with playbooks/control.yml, {then}, before {shown_time(until)}; or let it pass"


def _not_eligible(case: Case) -> Optional[Why]:
    if case.request.approved:
        return _not_approved(case)
    policy, trigger = case.policy, case.request.trigger
    if case.request.action == FLAG_ON:
        return Why("Turning a flag on is a person's decision", "Look at it, and run playbooks/enable_flag.yml")
    key, names = {
        say.ALERT: ("alerts", policy.alerts),
        say.ERROR_CODE: ("codes", policy.codes),
        say.CALL: ("calls", policy.calls),
    }[trigger.kind]
    if trigger.name in names:
        return None
    what = f"The {trigger.kind.replace('_', ' ')} {shown(trigger.name)} is not among the guard's {key}"
    return Why(what, f"Look into it yourself; name it under {key} if it may be acted on")


def _not_approved(case: Case) -> Optional[Why]:
    request, memory = case.request, case.view.memory
    problem = memory.spent(request.approved, case.now)
    known = memory.recommendations.get(request.approved)
    if problem is None and known is not None:
        then = (known.action, known.release, known.target)
        today = (request.action, request.situation.current, request.situation.known_good)
        if not known.approved_by:
            problem = "nobody approved it"
        elif then != today:
            problem = f"it was for the {_told(*then)}, and by now it would be the {_told(*today)}"
    if problem is None:
        return None
    return Why(
        f"Recommendation {request.approved} is no leave to act: {problem}",
        "Wait for a new recommendation, or act as a person",
    )


def _told(action: str, release: str, target: str) -> str:
    return f"{action} of {release or 'nothing'}{f' to {target}' if target else ''}"


def _not_confirmed(case: Case) -> Optional[Why]:
    trigger, confirmed = case.request.trigger, case.request.situation.confirmed
    if case.request.approved:
        return None if confirmed is not False else Why("Its source says that it is over", "Nothing has to be done")
    if not trigger.active:
        return Why("It is resolved", "Nothing has to be done")
    if confirmed is False:
        return Why(
            "Its source, asked again, does not say so", "Nothing has to be done; if it comes often, check its rule"
        )
    if confirmed is None:
        return Why("Its source could not be asked again", "Look into it yourself, and at the source of its metrics")
    if identity(trigger.id) in case.view.memory.condition(trigger.condition).ended:
        return Why("This incident was told to be over before", "A new incident has a new identity; check what sends it")
    return None


def _clock_jumped(case: Case) -> Optional[Why]:
    drift = case.view.drift
    if not drift:
        return None
    what = f"This controller's clock is wrong by {drift:+.0f} s, or was a moment ago"
    return Why(what, f"Check its time; it is trusted again {case.policy.clock_settle:.0f} s after it was put right")


def _alerts_silent(case: Case) -> Optional[Why]:
    watchdog, at = case.policy.watchdog, case.view.watchdog_at
    if watchdog is None or case.request.trigger.kind not in LASTING:
        return None
    # from a time to come, it was told by a clock that was wrong then, and says nothing of now
    if at is not None and -case.policy.clock_tolerance <= case.now - at <= watchdog:
        return None
    last = f"was last heard of at {shown_time(at)}" if at is not None else "was never heard of"
    return Why(f"The Watchdog alert {last}, so that the alerts cannot be believed", "Check Prometheus and Alertmanager")


def _paused(case: Case) -> Optional[Why]:
    for pause, what in ((case.view.fleet.paused(case.now), "every service"), (case.view.memory.paused(case.now), "it")):
        if pause is not None:
            until = f"until {shown_time(pause.until)}" if pause.until is not None else "without end"
            why = f"{pause.by} paused {what} at {shown_time(pause.at)} {until}: {pause.reason.rstrip('.')}"
            return Why(why, f"Resume {what} with playbooks/control.yml", pause.until)
    return None


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
    if request.situation.places <= 0 and request.action in ON_PLACES:
        return Why("It selects no place, and that never stands for all of them", "Check the inventory's group")
    if case.caller not in (SYSTEM, PIPELINE) or request.action not in HEALING:
        return None
    return _too_many_acted(case) or _too_many_alarm(case)


def _too_many_acted(case: Case) -> Optional[Why]:
    policy, acted, mine = case.policy, case.view.fleet.acted, case.request.service
    if len(acted) - (mine in acted) < policy.max_services:  # however long ago
        return None
    since = case.now - policy.services_window
    others = {service: at for service, at in acted.items() if at > since and service != mine}
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
    services, known = request.situation.services, case.view.fleet.alarming
    if not _together(case, known):  # however many of them are elsewhere, or long gone
        return None
    since, here = _began(case) - policy.services_window, environment_of(request.service)
    count = _together(
        case,
        {
            service
            for service, since_when in known.items()
            if environment_of(service) == here and any(at > since for at in since_when.values())
        },
    )
    if not count:
        return None
    of = f"of {services}" if services >= count else "of an unknown number of"
    what = f"{count} {of} services alarm together (max_alarming), so that no single release is to blame"
    return Why(what, "Look for what they have in common: a provider, the network, the alerts themselves")


def _together(case: Case, alarming: Collection[str]) -> int:
    """How many they are with this one; 0 for so few that they say nothing."""
    mine, situation = case.request.service, case.request.situation
    count = max(len(alarming) + (mine not in alarming), situation.alarming)
    few = situation.services > 0 and count <= case.policy.max_alarming * situation.services
    return 0 if few or count < MIN_ALARMING else count


def storm(case: Case) -> Optional[Why]:
    """Why no single service is looked at now, because too many alarm together; None in fair weather."""
    if case.caller != SYSTEM or case.request.action not in HEALING:
        return None
    return _too_many_alarm(case)


def storm_told(case: Case) -> bool:
    """Was somebody paged for this storm already? A page stands for all that alarms within `services_window`."""
    at = case.view.fleet.storms.get(environment_of(case.request.service))
    return at is not None and case.now - at < case.policy.services_window


def _began(case: Case) -> float:
    """When this incident began: whoever alarmed with it then alarms with it for as long as both go on."""
    trigger = case.request.trigger
    condition = case.view.memory.condition(trigger.condition)
    seen = condition.since if identity(trigger.id) in condition.firing else None
    return min(at for at in (trigger.at, seen, case.now) if at is not None)


def _in_progress(case: Case) -> Optional[Why]:
    lease, rollout = case.view.lease, case.view.unfinished
    if lease is not None:
        what = f"{lease.holder} is at work on it and holds the lease for {lease.expires - case.now:.0f} s more"
        return Why(
            what, "Wait for it to end, or speak to it with playbooks/control.yml (hold, promote, abort)", lease.expires
        )
    if rollout is None:
        return None
    return Why(
        f"Rollout {rollout.id} of release {rollout.release}, started by {rollout.by}, is unfinished ({rollout.state})",
        "Let playbooks/reconcile.yml settle it, or say abort or promote with playbooks/control.yml",
    )


def _no_known_good(case: Case) -> Optional[Why]:
    situation = case.request.situation
    if situation.known_good and situation.known_good != situation.current:
        return None
    return Why("There is no known good release to go back to", "Release a mended one, or switch the feature off")


def _rollback_blocked(case: Case) -> Optional[Why]:
    situation = case.request.situation
    if not situation.blocked:
        return None
    what = (
        f"{situation.current or 'The current release'} must not be rolled back ({situation.blocked[:200].rstrip('.')})"
    )
    return Why(what, "Switch the feature off, or let a person decide")


def _breaker_open(case: Case) -> Optional[Why]:
    policy, memory = case.policy, case.view.memory
    state, until = breaker(policy, memory, case.now)
    if state == BROKEN and not case.view.escalates:
        what = "Its breaker is open"
        if memory.failures:
            what += f" after {memory.failures} failed or unrecovered action{'s' if memory.failures > 1 else ''}"
        mend = "Look into why it failed, did not help, or came back; a rollout that passes closes the breaker"
        return Why(what, mend, until)
    if case.request.action == ROLLBACK and memory.steps_back >= policy.max_steps_back:
        times = "once" if memory.steps_back == 1 else f"{memory.steps_back} times"
        what = f"It went back {times} since its last rollout that passed (max_steps_back)"
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
    return (HALF_OPEN, None) if now >= until else (BROKEN, until)


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


def cooldowns(policy: GuardPolicy, memory: Memory, fleet: Fleet) -> Tuple[Optional[float], Optional[float]]:
    """When the service's own cooldown ends, and the one of all; None where nothing was acted on yet, or there is none.

    A cooldown of 0 is none: another may have acted in the moment between a look at the clock and the transaction.
    """
    mine, last = memory.acted_at, max(fleet.acted.values(), default=None)
    return (
        mine + policy.cooldown if mine is not None and policy.cooldown > 0 else None,
        last + policy.global_cooldown if last is not None and policy.global_cooldown > 0 else None,
    )


def _cooldown(case: Case) -> Optional[Why]:
    policy = case.policy
    mine, until = cooldowns(policy, case.view.memory, case.view.fleet)
    if mine is not None and case.now < mine:
        return Why(f"It was acted on less than {policy.cooldown:.0f} s ago (cooldown)", _LATER, mine)
    if until is not None and case.now < until:
        return Why(
            f"A service was acted on less than {policy.global_cooldown:.0f} s ago (global_cooldown)", _LATER, until
        )
    return None


_LATER = "Look into it yourself, or let it be asked again later"


def _rate_limited(case: Case) -> Optional[Why]:
    policy = case.policy
    recent = sorted(at for at in case.view.memory.actions if at > case.now - policy.window)
    if len(recent) < policy.max_actions:
        return None
    what = f"It was acted on {len(recent)} times within {policy.window:.0f} s (max_actions)"
    return Why(what, "Look into why it comes back", recent[-policy.max_actions] + policy.window)


def _not_held(case: Case) -> Optional[Why]:
    policy, trigger = case.policy, case.request.trigger
    if trigger.kind not in LASTING or not policy.hold_for:
        return None
    since = case.view.memory.condition(trigger.condition).since
    until = (case.now if since is None else since) + policy.hold_for
    if case.now >= until:
        return None
    return Why(f"It has not lasted for {policy.hold_for:.0f} s yet (hold_for)", "Let it be asked again then", until)


def _not_attributable(case: Case) -> Optional[Why]:
    memory, situation, trigger = case.view.memory, case.request.situation, case.request.trigger
    about = trigger.evidence.get("release")  # says only which release is not to blame
    if isinstance(about, str) and about and situation.current and about != situation.current:
        return Why(f"It is about release {about[:64]}, and {situation.current} is what would be left", "")
    begun, changed = memory.changed_from, memory.changed_at
    if changed is None:
        begun, changed = situation.changed_at, situation.changed_at
    at = min(case.now if trigger.at is None else trigger.at, case.now)
    if changed is None or begun is None:
        return Why("Nobody knows when the service changed last, so that its release may not be to blame", "")
    if at < begun:
        return Why(f"It began before the last change, of {shown_time(begun)}, so that this release is not to blame", "")
    if at > changed + case.policy.attribution_window:
        what = f"The last change, of {shown_time(changed)}, is more than {case.policy.attribution_window:.0f} s older"
        return Why(f"{what} (attribution_window), so that this release may not be to blame", "")
    return None


Check = Callable[[Case], Optional[Why]]
CHECKS: Tuple[Tuple[str, Check], ...] = (
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
