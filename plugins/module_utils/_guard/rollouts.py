# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout's life in the ledger: begun with its intent, taken over when its controller died, and closed once.

The clock comes in as `now` (epoch seconds). Nothing here knows Ansible or changes a place.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from .._errors import GuardError, LeaseError, OptionError
from .decision import PIPELINE, PROMOTE, ROLLBACK, Clock, Decision, Request, Situation, Trigger
from .decision import ROLLOUT as WANTED
from .ledger import Ledger
from .model import DONE, HELD, OPEN, UNDONE, UNRESOLVED, Entry, Lease, Rollout
from .policy import GuardPolicy, parse_guard

UNDO = "undo"
CONTINUE = "continue"
WAIT = "wait"
CLOSE = "close"  # as it is: nobody may, or can, do more for it

ACTION = "action"  # a kind of rollout: something that a playbook of somebody's own does, between two tasks of ours
NOBODY_KNOWS = "its controller is gone, and nobody knows whether it was done"


@dataclass(frozen=True)
class Finding:
    """An unfinished rollout and what has to happen with it, with the reason in words."""

    rollout: Rollout
    action: str  # undo | continue | wait | close
    why: str


@dataclass(frozen=True)
class Begin:
    """What is written before the first change: it also authorises the undo."""

    service: str
    release: str
    kind: str
    intent: Mapping[str, object]


def begin(
    ledger: Ledger,
    what: Begin,
    *,
    holder: str,
    actor: str,
    ttl: float,
    now: float,
    policy: Optional[GuardPolicy] = None,
    clock: Optional[Clock] = None,
) -> Tuple[Rollout, Lease]:
    """Ask the guard, take the service's lease and write the intent, all at once; GuardError says why not."""
    grant = ledger.decide(
        wish(what, actor),
        policy or parse_guard({}, what.service),
        holder=holder,
        ttl=ttl,
        now=now,
        clock=clock,
        opens=Rollout("", what.service, what.release, what.kind, OPEN, 0, now, now, what.intent),
    )
    if grant.lease is None or grant.rollout is None:
        raise refusal(grant.decision)
    return grant.rollout, grant.lease


def refusal(decision: Decision) -> GuardError:
    """What the guard denied, as the error of whoever asked."""
    return GuardError(decision.message, service=decision.service, details={"decision": decision.as_dict()})


def new_id() -> str:
    """The id of a request, and of the rollout that it opens."""
    return uuid.uuid4().hex[:12]


def wish(what: Begin, actor: str) -> Request:
    """A deploy that somebody starts, as the guard is asked about it."""
    fleet = what.intent.get("fleet")
    request = new_id()
    return Request(
        id=request,
        service=what.service,
        action=WANTED,
        trigger=Trigger(PIPELINE, what.kind, request),
        actor=actor,
        situation=Situation(places=len(fleet) if isinstance(fleet, (list, tuple)) else 0),
    )


def widening(rollout: Rollout, step: int, actor: str) -> Request:
    """What comes after `step` of a rollout whose gates passed, as the guard is asked about it.

    Each step is asked anew; asked about the same one at every look while it is held, the guard only counts.
    """
    trigger = Trigger(PIPELINE, rollout.kind, f"{rollout.id}:{step}")
    return Request(new_id(), rollout.service, PROMOTE, trigger, actor)


def take_over(
    ledger: Ledger, rollout_id: str, *, holder: str, actor: str, ttl: float, now: float
) -> Tuple[Rollout, Lease]:
    """Take an unfinished rollout whose holder is gone, under a higher token, so that the old holder is fenced off."""
    rollout = ledger.rollout(rollout_id)
    if rollout is None:
        raise OptionError(f"there is no rollout {rollout_id!r} in the ledger", mend="List them with ledger_info")
    lease = ledger.acquire(rollout.service, holder, ttl, now)
    if rollout.state in (DONE, UNDONE):
        ledger.release(lease, now)
        raise LeaseError(f"rollout {rollout_id} is already {rollout.state}", service=rollout.service)
    try:
        taken = ledger.set_state(lease, rollout_id, OPEN, {}, actor, now)
        if rollout.kind in (ROLLBACK, ACTION):
            # a person's word is for one try: what fails again waits for another one
            said = ledger.commands(rollout=rollout_id)
            heard = {**rollout.progress, "heard": said[-1].seq if said else 0}
            ledger.save_progress(lease, rollout_id, heard, now)
        return taken, lease
    except Exception:
        ledger.release(lease, now)
        raise


def give_up(ledger: Ledger, rollout_id: str, why: str, *, holder: str, actor: str, ttl: float, now: float) -> Rollout:
    """Close an unfinished rollback or action as it is, whose controller is gone; exactly once, by the lease."""
    left = ledger.rollout(rollout_id)
    _taken, lease = take_over(ledger, rollout_id, holder=holder, actor=actor, ttl=ttl, now=now)
    outcome = {**(left.outcome if left else {}), "why": why, "given_up": True}
    return close(ledger, lease, rollout_id, state=UNDONE, outcome=outcome, actor=actor, now=now)


def close(
    ledger: Ledger, lease: Lease, rollout_id: str, *, state: str, outcome: Mapping[str, object], actor: str, now: float
) -> Rollout:
    """Record how it ended and give the lease back."""
    closed = ledger.set_state(lease, rollout_id, state, outcome, actor, now)
    ledger.release(lease, now)
    return closed


def unresolved(ledger: Ledger, rollout: Rollout, results: Mapping[str, Mapping[str, object]]) -> Sequence[str]:
    """Places that this rollout began to change and that nobody brought back.

    `results` are what the way back gave, by place. A place counts as changed from the moment its intent was recorded,
    because nobody knows how far a change that gave no answer went. A rollout that only watched changes a place by
    taking it back.
    """
    if rollout.kind == ROLLBACK:
        # a place that was not come to yet stays bad as surely as one that failed
        before = rollout.intent.get("before")
        pinned = list(before) if isinstance(before, Mapping) else []
        return [place for place in pinned if not _is_back(results.get(place) or {})]
    changes = "known_good" if rollout.kind == "watch" else "deployed"
    changed: List[str] = []
    for entry in _entries_of(ledger, rollout):
        place = str(entry.body.get("place"))
        if entry.kind == "action" and entry.body.get("state") == changes and place not in changed:
            changed.append(place)
    return [place for place in reversed(changed) if not _is_back(results.get(place) or {})]


def _entries_of(ledger: Ledger, rollout: Rollout) -> Sequence[Entry]:
    """The rollout's own entries, newest first: the ledger's end, read back until the rollout's beginning is in it."""
    limit = 256
    while True:
        entries = ledger.last_entries(rollout.service, limit)
        if len(entries) < limit or entries[-1].at < rollout.opened_at:
            return [entry for entry in entries if entry.body.get("rollout") == rollout.id]
        limit *= 4


def _is_back(result: Mapping[str, object]) -> bool:
    return bool(result) and not (result.get("failed") or result.get("unreachable") or result.get("skipped"))


def find(ledger: Ledger, *, on_interrupt: str, now: float, service: str = "") -> Sequence[Finding]:
    """Every unfinished rollout with what is due: nothing while its holder lives.

    The one that nobody touched for the longest time is first: one that cannot be settled must not keep the others back.
    """
    found: List[Finding] = []
    for rollout in sorted(ledger.unfinished(service), key=lambda one: one.updated_at):
        holder = ledger.holder(rollout.service, now)
        if holder is not None:
            found.append(Finding(rollout, WAIT, f"{holder.holder} holds it until its lease ends"))
        else:
            found.append(_due(ledger, rollout, on_interrupt, now))
    return found


def _due(ledger: Ledger, rollout: Rollout, on_interrupt: str, now: float) -> Finding:
    said = _last_word(ledger, rollout)
    if rollout.kind in (ROLLBACK, ACTION):
        return _due_action(rollout, said)
    if said == "abort":
        return Finding(rollout, UNDO, "a person aborted it")
    if rollout.state == UNRESOLVED:
        return Finding(rollout, UNDO, "some places could not be brought back yet")
    if rollout.state == HELD:
        return _due_held(rollout, said, now)
    if on_interrupt == CONTINUE:
        return Finding(rollout, CONTINUE, "its controller is gone and the policy says to go on")
    return Finding(rollout, UNDO, "its controller is gone")


def _due_action(rollout: Rollout, said: Optional[str]) -> Finding:
    """A rollback that was begun is finished once. One that has failed waits for a person: it is not tried blindly."""
    if said == "abort":
        return Finding(rollout, CLOSE, "a person aborted it")
    if rollout.kind == ACTION or not rollout.intent.get("before"):  # what nobody planned, nobody here can finish
        return Finding(rollout, CLOSE, NOBODY_KNOWS)
    if rollout.state == OPEN:
        return Finding(rollout, UNDO, "its controller is gone")
    if said == "resume":
        return Finding(rollout, UNDO, "a person said resume")
    return Finding(
        rollout, WAIT, "it could not be finished, and is not tried again unless a person says resume or abort"
    )


def _due_held(rollout: Rollout, said: Optional[str], now: float) -> Finding:
    if said in ("resume", "promote"):
        return Finding(rollout, CONTINUE, f"a person said {said}")
    if rollout.outcome.get("resumed") is True:
        return Finding(rollout, CONTINUE, "its gates stayed good for long enough")
    until = rollout.outcome.get("hold_until")
    if not isinstance(until, (int, float)):
        return Finding(rollout, UNDO, "it is held without a deadline, which cannot be trusted")
    if now >= until:
        return Finding(rollout, UNDO, "nobody decided before its hold_deadline")
    return Finding(rollout, WAIT, f"it is held; a person decides within {int(until - now)} s, else it is undone")


def _last_word(ledger: Ledger, rollout: Rollout) -> Optional[str]:
    """What a person said last about this very rollout, or None; of what was obeyed once, only what is newer."""
    once = rollout.state == HELD or rollout.kind in (ROLLBACK, ACTION)
    heard = rollout.progress.get("heard") if once else 0
    said = ledger.commands(rollout=rollout.id, after=heard if isinstance(heard, int) else 0)
    return said[-1].command if said else None
