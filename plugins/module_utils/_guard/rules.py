# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's rules: who may have a lease, what a rollout may become, what a person may say. Pure, for every store.

A store reads what there is and asks a rule inside the same transaction in which it writes. Times are epoch seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Optional, Tuple

from .._errors import LeaseError, OptionError, RolloutError, nearest
from .memory import NOT_RECOVERED, identity
from .model import COMMANDS, DONE, OPEN, OWN_KINDS, STATES, UNDONE, UNFINISHED, Lease, Rollout

_ESCALATION = 900.0  # seconds within which the next way back has to be asked for


def grant(current: Optional[Lease], service: str, holder: str, ttl: float, now: float) -> Lease:
    """The lease for `holder`, fenced above `current`, the last one given; LeaseError while that is in force."""
    if not service or not holder or not ttl > 0:
        raise OptionError(
            f"A lease needs a service, a holder and a time to live, not {service!r}, {holder!r} and {ttl!r}"
        )
    if current is not None and in_force(current, now):
        raise LeaseError(
            f"{current.holder} is at work on it and holds the lease for {current.expires - now:.0f} s more",
            mend="Wait for it to end, or speak to it with playbooks/control.yml (hold, promote, abort)",
            service=service,
            details={"holder": current.holder, "expires": current.expires, "token": current.token},
        )
    # the first token is the time itself: places that remember the tokens of a lost ledger refuse lower ones
    return Lease(service, holder, current.token + 1 if current is not None else max(1, int(now)), now + ttl)


def in_force(lease: Lease, now: float) -> bool:
    return lease.expires > now


def hold(current: Optional[Lease], lease: Lease, now: float) -> Lease:
    """`current`, when it is `lease` and in force; LeaseError says how it was lost otherwise."""
    if current is None or current.token != lease.token or current.holder != lease.holder:
        taker = f"{current.holder} has it now" if current is not None and in_force(current, now) else "it is gone"
        why = f"The lease of {lease.holder} (token {lease.token}) was lost: {taker}"
    elif not in_force(current, now):
        why = f"The lease of {lease.holder} (token {lease.token}) has expired or was given back"
    else:
        return current
    raise LeaseError(
        why,
        mend="Stop here: whoever holds the lease, or reconcile, goes on from the recorded state",
        service=lease.service,
        details={"token": lease.token, "newest": current.token if current is not None else 0},
    )


def prolong(current: Lease, ttl: float, now: float) -> Lease:
    return replace(current, expires=max(current.expires, now + ttl))


def begin(lease: Lease, rollout: Rollout, other: Optional[Rollout], actor: str, now: float) -> Rollout:
    """The rollout as it is written down first; RolloutError when `other` is unfinished on the same service."""
    _same_service(lease, rollout)
    if not rollout.id or not actor:
        raise OptionError("A rollout needs an id and somebody who starts it", service=rollout.service)
    if other is not None:
        raise RolloutError(
            f"Rollout {other.id} of release {other.release}, started by {other.by}, is unfinished ({other.state})",
            mend="Let playbooks/reconcile.yml settle it, or say abort or promote with playbooks/control.yml,"
            " then run again",
            service=rollout.service,
            details={"rollout": other.id, "release": other.release, "state": other.state, "by": other.by},
        )
    return replace(rollout, state=OPEN, token=lease.token, opened_at=now, updated_at=now, by=actor)


def unfinished(lease: Lease, rollout_id: str, rollout: Optional[Rollout]) -> Rollout:
    """`rollout`, when it may still be written to under `lease`."""
    if rollout is None:
        raise RolloutError(f"The ledger knows no rollout {rollout_id}", service=lease.service)
    _same_service(lease, rollout)
    if rollout.state not in UNFINISHED:
        raise RolloutError(
            f"Rollout {rollout.id} is closed already ({rollout.state})",
            mend="Nothing is left to do for it; a new change needs a new rollout",
            service=rollout.service,
            details={"rollout": rollout.id, "state": rollout.state},
        )
    return rollout


def move(lease: Lease, rollout: Rollout, state: str, outcome: Mapping[str, object], now: float) -> Rollout:
    """`rollout` in another state with its outcome, under the newest lease's token."""
    if state not in STATES:
        raise OptionError(f"A rollout cannot be {state!r}{nearest(state, STATES)}", service=rollout.service)
    return replace(rollout, state=state, token=lease.token, updated_at=now, outcome=outcome)


def _same_service(lease: Lease, rollout: Rollout) -> None:
    if lease.service != rollout.service:
        raise RolloutError(f"Rollout {rollout.id} is one of {rollout.service}", service=lease.service)


def speak(
    service: str, command: str, by: str, reason: str, rollout: Optional[Rollout], last: Optional[Rollout]
) -> Rollout:
    """The unfinished rollout that `command` is said about; `last` is the service's newest one, to say what is there."""
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        raise OptionError(f"{command!r} is no command{nearest(command, COMMANDS)}", mend=f"Say one of: {known}")
    if not by.strip():
        raise OptionError("Somebody has to say it", mend="Set by to a person or a system")
    if command == "promote" and not reason.strip():
        raise OptionError("Promoting ahead of the verdict needs a reason", mend="Set reason: it is kept in the ledger")
    if rollout is None:
        there = f"its last one, {last.id} of release {last.release}, is {last.state}" if last else "it never had one"
        raise RolloutError(
            f"There is no unfinished rollout to {command}: {there}",
            mend="Check the service's name; ledger_info lists what is under way",
            service=service,
        )
    return rollout


def pausing(by: str, reason: str, until: Optional[float], now: float) -> None:
    """OptionError for a pause that nobody says, that has no reason, or that is over already."""
    if not by.strip():
        raise OptionError("Somebody has to pause it", mend="Set by to a person")
    if not reason.strip():
        raise OptionError("A pause needs a reason", mend="Set reason: whoever is stopped by it reads it")
    if until is not None and until <= now:
        raise OptionError(
            "This pause would be over already", mend="Name a time to come, or none for a pause without end"
        )


def unpausing(service: str, by: str, paused: bool) -> None:
    if not by.strip():
        raise OptionError("Somebody has to lift the pause", mend="Set by to a person")
    if not paused:
        where = "It" if service else "Everything"
        raise RolloutError(f"{where} is not paused", mend="guard_info lists the pauses", service=service)


def approving(service: str, decision: str, by: str, problem: Optional[str]) -> None:
    """RolloutError when the recommendation cannot be approved, for the `problem` that is told."""
    if not by.strip():
        raise OptionError("Somebody has to approve it", mend="Set by to a person")
    if problem is not None:
        raise RolloutError(
            f"Recommendation {decision} cannot be approved: {problem}",
            mend="guard_info lists what waits for approval; nothing was done",
            service=service,
        )


def own_note(key: str, own: Tuple[str, ...]) -> None:
    """OptionError for a document that nobody but the ledger itself may write."""
    if not key or key.startswith(own):
        raise OptionError(f"The note {key!r} is written by the ledger itself", mend="Name another key")


def own_kind(kind: str) -> None:
    """OptionError for a kind of entry that nobody but the ledger itself may write."""
    if not kind or kind in OWN_KINDS:
        raise OptionError(f"Entries of kind {kind!r} are written by the ledger itself", mend="Name another kind")


def escalates(last: Rollout, action: str, trigger: str, now: float) -> bool:
    """Is `action` the next way back after `last`, an action that was allowed for the same trigger, ended a moment ago,
    and did not help?"""
    if last.kind != "action" or last.state not in (DONE, UNDONE):
        return False
    verified = last.outcome.get("verified")
    helped = last.state == DONE and not (isinstance(verified, Mapping) and verified.get("verdict") == NOT_RECOVERED)
    same = last.intent.get("trigger") == identity(trigger)
    return same and not helped and last.intent.get("action") != action and now - last.updated_at < _ESCALATION
