# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger itself: what each of its methods reads, asks the rules, and writes, in one transaction of any store.

Nothing here knows which store it is, and no store knows what its rows mean; so that all of them behave the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Container, Dict, Iterable, Mapping, Optional, Sequence, Tuple, TypeVar

from .._errors import OptionError, RolloutError, StoreError
from . import chain, retention, rules
from . import clock as clocks
from .decision import DENIED, DUPLICATE, ROLLBACK, Clock, Decision, Grant, Request, Trigger
from .known import DEPLOYS
from .ledger import Note
from .memory import LASTING, NOT_RECOVERED, Fleet, Memory, identity, news, shortened
from .model import (
    APPROVAL,
    COMMAND,
    DECISION,
    DONE,
    LEASE,
    PAUSE,
    RETENTION,
    ROLLOUT,
    STATE,
    TRIGGER,
    UNDONE,
    UNRESOLVED,
    Command,
    Entry,
    Lease,
    Rollout,
)
from .pen import CHECKPOINT, MEMORY, Known, Pen, counted, owed_in, remembered, through
from .policy import GuardPolicy, View, decide, mark, trigger_key
from .store import Rows, Store

T = TypeVar("T")

_CLOCKS = "clocks"
_RETAINED = "retained"  # where the newest retention entry is
_TOLD_OF = (*DEPLOYS, ROLLBACK)  # whose ends our roles tell; a playbook of somebody's own does so itself
_THEN = "then"  # in the intent of an action of our roles': what is to be done where it does not help
WATCHDOG = "watchdog"  # when the alert pipeline's Watchdog was seen last


class Book:
    """The `Ledger` over `store`, which it closes with itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Optional[Known] = None

    # --- leases

    def acquire(self, service: str, holder: str, ttl: float, now: float) -> Lease:
        return self._write(lambda pen: _grant(pen, service, holder, ttl, now))

    def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        return self._write(lambda pen: _renew(pen.rows, lease, ttl, now))

    def release(self, lease: Lease, now: float) -> None:
        def work(pen: Pen) -> None:
            current = pen.rows.lease(lease.service)
            if (
                current is None
                or (current.token, current.holder) != (lease.token, lease.holder)
                or current.expires <= 0
            ):
                return
            # not `now`: a clock that is set back must not bring the lease to life again
            pen.rows.put_lease(Lease(current.service, current.holder, current.token, 0.0))
            pen.write(lease.service, LEASE, lease.holder, {"event": "released", "token": lease.token}, now)

        self._write(work)

    def holder(self, service: str, now: float) -> Optional[Lease]:
        current = self._store.read(lambda rows: rows.lease(service))
        return current if current is not None and rules.in_force(current, now) else None

    def leases(self, now: float) -> Sequence[Lease]:
        return self._store.read(lambda rows: rows.leases(now))

    # --- rollouts

    def open_rollout(self, lease: Lease, rollout: Rollout, actor: str, now: float) -> Rollout:
        def work(pen: Pen) -> Rollout:
            pen.expect(lease.service)
            _hold(pen.rows, lease, now)
            return _open(pen, lease, rollout, actor, now)

        return self._write(work)

    def save_progress(self, lease: Lease, rollout_id: str, progress: Note, now: float) -> None:
        def work(pen: Pen) -> None:
            _hold(pen.rows, lease, now)
            _save(pen.rows, lease, rollout_id, progress, now)

        self._write(work)

    def look(
        self, lease: Lease, rollout_id: str, progress: Note, *, ttl: float, now: float, after: int = 0
    ) -> Tuple[Lease, Sequence[Command]]:
        def work(pen: Pen) -> Tuple[Lease, Sequence[Command]]:
            renewed = _renew(pen.rows, lease, ttl, now)
            _save(pen.rows, renewed, rollout_id, progress, now)
            said = pen.rows.commands("", after, rollout_id)
            if any(command.taken is None for command in said):
                pen.rows.take_commands(rollout_id, now)
                said = pen.rows.commands("", after, rollout_id)
            return renewed, said

        return self._write(work)

    def set_state(self, lease: Lease, rollout_id: str, state: str, outcome: Note, actor: str, now: float) -> Rollout:
        def work(pen: Pen) -> Rollout:
            pen.expect(lease.service)
            _hold(pen.rows, lease, now)
            before = rules.unfinished(lease, rollout_id, pen.rows.rollout(rollout_id))
            after = rules.move(lease, before, state, chain.decode(chain.canonical(outcome)), now)
            pen.rows.put_rollout(after)
            body = {"rollout": after.id, "from": before.state, "state": state, "token": after.token, "outcome": outcome}
            pen.write(after.service, STATE, actor, body, now)
            try:
                _count_outcome(pen, before, after, now)
                if after.state in (DONE, UNDONE, UNRESOLVED) and (after.kind in _TOLD_OF or _THEN in after.intent):
                    pen.owe(after.id, "rollout", after.service, now)
            except StoreError:
                pass  # what somebody did to other entries must not keep our own rollout from being undone
            return after

        return self._write(work)

    def rollout(self, rollout_id: str) -> Optional[Rollout]:
        return self._store.read(lambda rows: rows.rollout(rollout_id))

    def unfinished(self, service: str = "") -> Sequence[Rollout]:
        return self._store.read(lambda rows: rows.unfinished(service))

    def last_rollouts(self, service: str = "", limit: int = 20) -> Sequence[Rollout]:
        return self._store.read(lambda rows: rows.last_rollouts(service, limit))

    # --- what people say

    def say(self, service: str, command: str, by: str, reason: str, now: float) -> Command:
        def work(pen: Pen) -> Command:
            unfinished, last = pen.rows.unfinished(service), pen.rows.last_rollouts(service, 1)
            about = rules.speak(service, command, by, reason, _first(unfinished), _first(last))
            said = pen.rows.add_command(Command(0, service, command, by, reason, now, None, about.id))
            body = {"command": command, "reason": reason, "rollout": about.id, "seq": said.seq}
            pen.write(service, COMMAND, by, body, now)
            return said

        return self._write(work)

    def commands(self, service: str = "", after: int = 0, rollout: str = "") -> Sequence[Command]:
        return self._store.read(lambda rows: rows.commands(service, after, rollout))

    def pause(self, service: str, by: str, reason: str, until: Optional[float], now: float) -> Entry:
        rules.pausing(by, reason, until, now)
        body = {"event": "paused", "until": until, "reason": reason}
        return self._write(lambda pen: pen.write(service, PAUSE, by, body, now))

    def unpause(self, service: str, by: str, reason: str, now: float) -> Entry:
        def work(pen: Pen) -> Entry:
            paused = pen.memory(service).paused(now) if service else pen.fleet().paused(now)
            rules.unpausing(service, by, paused is not None)
            return pen.write(service, PAUSE, by, {"event": "resumed", "until": None, "reason": reason}, now)

        return self._write(work)

    def approve(self, service: str, decision: str, by: str, reason: str, now: float) -> Entry:
        def work(pen: Pen) -> Entry:
            rules.approving(service, decision, by, pen.memory(service).approvable(decision, now))
            return pen.write(service, APPROVAL, by, {"decision": decision, "reason": reason}, now)

        return self._write(work)

    # --- may we act?

    def decide(
        self,
        request: Request,
        policy: GuardPolicy,
        *,
        holder: str,
        ttl: float,
        now: float,
        clock: Optional[Clock] = None,
        opens: Optional[Rollout] = None,
    ) -> Grant:
        def work(pen: Pen) -> Grant:
            decision, repeated = _decided(pen, request, policy, now, clock)
            if not decision.allowed:
                return Grant(decision, repeated=repeated)
            lease = _grant(pen, request.service, holder, ttl, now)
            begun = replace(opens, id=request.id) if opens is not None else None
            opened = _open(pen, lease, begun, request.actor, now) if begun is not None else None
            return Grant(decision, lease, opened)

        return self._write(work)

    def check(
        self, request: Request, policy: GuardPolicy, *, now: float, clock: Optional[Clock] = None, record: bool = True
    ) -> Decision:
        if record:
            return self._write(lambda pen: _decided(pen, request, policy, now, clock)[0])

        def work(pen: Pen) -> Decision:
            return decide(policy, request, _view(pen, request, policy, now, clock), now)

        return self._read(work, only_shown=False)

    def deny(
        self, request: Request, policy: GuardPolicy, *, now: float, clock: Optional[Clock] = None, only: Container[str]
    ) -> Optional[Grant]:
        def work(pen: Pen) -> Optional[Grant]:
            decision = decide(policy, request, _view(pen, request, policy, now, clock), now)
            if decision.verdict != DENIED or decision.reason not in only:
                return None
            decision, repeated = _decided(pen, request, policy, now, clock)
            return Grant(decision, repeated=repeated)

        return self._write(work)

    def observe(self, service: str, trigger: Trigger, policy: GuardPolicy, actor: str, now: float) -> Optional[Entry]:
        def work(pen: Pen) -> Optional[Entry]:
            if not news(pen.memory(service), trigger, policy.rearm_below):
                return None
            return pen.write(service, TRIGGER, actor, _told(trigger), now)

        return self._write(work)

    def memory(self, service: str) -> Memory:
        return self._read(lambda pen: pen.memory(service))

    def fleet(self) -> Fleet:
        return self._read(lambda pen: pen.fleet())

    def services(self) -> Sequence[str]:
        return self._read(lambda pen: pen.services())

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        def work(pen: Pen) -> Mapping[str, Mapping[str, float]]:
            return {
                service: {name: float(n) for name, n in tally.items() if isinstance(n, (int, float))}
                for service, tally in pen.tallies().items()
                if tally
            }

        return self._read(work)

    # --- what people have to know

    def owed(self) -> Mapping[str, Mapping[str, Any]]:
        def work(pen: Pen) -> Mapping[str, Mapping[str, Any]]:
            return {
                str(ident): {"what": what, "service": service, "at": at}
                for service, tally in pen.tallies().items()
                for ident, what, at in owed_in(tally)
            }

        return self._read(work)

    def told(self, idents: Container[str]) -> None:
        self._write(lambda pen: pen.told(idents))

    # --- small documents that are not in the chain

    def note(self, key: str) -> Note:
        return self._store.read(lambda rows: rows.note(key))

    def change_note(self, key: str, change: Callable[[Note], Note]) -> Note:
        rules.own_note(key, (MEMORY, CHECKPOINT, _CLOCKS, _RETAINED))

        def work(pen: Pen) -> Note:
            changed = chain.decode(chain.canonical(change(pen.rows.note(key))))
            pen.keep(key, changed)
            return changed

        return self._write(work)

    # --- the record

    def append(
        self, service: str, kind: str, actor: str, body: Note, now: float, lease: Optional[Lease] = None
    ) -> Entry:
        rules.own_kind(kind)

        def work(pen: Pen) -> Entry:
            if lease is not None:
                _hold(pen.rows, lease, now)
            return pen.write(service, kind, actor, body, now)

        return self._write(work)

    def entries(self, service: str = "", after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        return self._store.read(lambda rows: rows.entries(service, after, limit))

    def last_entries(self, service: str = "", limit: int = 20) -> Sequence[Entry]:
        return self._store.read(lambda rows: rows.last_entries(service, limit))

    def all_entries(self) -> Iterable[Entry]:
        return self._store.read(lambda rows: list(rows.all_entries()))

    def verify(self, kept: str = "") -> Optional[str]:
        def work(rows: Rows) -> Optional[str]:
            try:
                entries, rollouts = list(rows.all_entries()), list(rows.all_rollouts())
                notes = {key[len(MEMORY) :]: remembered(note) for key, note in rows.notes(MEMORY).items()}
                seq, told = through(rows.note(CHECKPOINT)), rows.all_told()
            except StoreError as error:
                return error.message
            return (
                chain.first_break(entries, kept)
                or chain.first_lie(entries, rollouts)
                or retention.first_forgery(entries, notes, seq, told)
            )

        return self._store.read(work)

    def head(self) -> str:
        return self._store.read(lambda rows: rows.newest()[1])

    def prune(self, before: float, exported: str, actor: str, now: float) -> Optional[Entry]:
        def work(pen: Pen) -> Optional[Entry]:
            cut = retention.cut(list(pen.rows.all_entries()), list(pen.rows.all_rollouts()), before, exported)
            if cut is None:
                return None
            pen.checkpoint()
            pen.rows.cut(cut.through, cut.rollouts)
            entry = pen.write("", RETENTION, actor, cut.body, now)
            pen.keep(_RETAINED, {"seq": entry.seq})
            return entry

        return self._write(work)

    def retained(self) -> Optional[Entry]:
        def work(rows: Rows) -> Optional[Entry]:
            seq = rows.note(_RETAINED).get("seq")
            found = rows.entries("", seq - 1, 1) if isinstance(seq, int) else ()
            # the note only finds it; what it says is in the chain
            return found[0] if found and found[0].kind == RETENTION else None

        return self._store.read(work)

    def close(self) -> None:
        self._store.close()

    def _write(self, work: Callable[[Pen], T]) -> T:
        def whole(rows: Rows) -> Tuple[T, Optional[Known]]:
            pen = self._pen(rows)
            result = work(pen)
            pen.done()
            return result, pen.left

        result, self._known = self._store.write(whole)
        return result

    def _read(self, work: Callable[[Pen], T], *, only_shown: bool = True) -> T:
        def whole(rows: Rows) -> Tuple[T, Optional[Known]]:
            pen = self._pen(rows, only_shown=only_shown)
            return work(pen), pen.left

        result, self._known = self._store.read(whole)
        return result

    def _pen(self, rows: Rows, *, only_shown: bool = False) -> Pen:
        """With what is known; of a transaction that fails nothing is, so that the next one reads all anew."""
        known, self._known = self._known, None
        return Pen(rows, known, only_shown=only_shown)


def _first(rollouts: Sequence[Rollout]) -> Optional[Rollout]:
    return rollouts[0] if rollouts else None


def _hold(rows: Rows, lease: Lease, now: float) -> Lease:
    return rules.hold(rows.lease(lease.service), lease, now)


def _renew(rows: Rows, lease: Lease, ttl: float, now: float) -> Lease:
    renewed = rules.prolong(_hold(rows, lease, now), ttl, now)
    rows.put_lease(renewed)
    return renewed


def _grant(pen: Pen, service: str, holder: str, ttl: float, now: float) -> Lease:
    current = pen.rows.lease(service)
    lease = rules.grant(current, service, holder, ttl, now)
    pen.rows.put_lease(lease)
    expired = current.holder if current is not None and current.expires > 0 else None
    body = {"event": "acquired", "token": lease.token, "ttl": ttl, "expired_holder": expired}
    pen.write(service, LEASE, holder, body, now)
    return lease


def _open(pen: Pen, lease: Lease, rollout: Rollout, actor: str, now: float) -> Rollout:
    opened = rules.begin(lease, rollout, _first(pen.rows.unfinished(rollout.service)), actor, now)
    if pen.rows.rollout(rollout.id) is not None:
        raise OptionError(f"There has been a rollout {rollout.id} before", mend="Give each an id of its own")
    pen.rows.add_rollout(opened)
    entry = pen.write(opened.service, ROLLOUT, actor, chain.opening(opened), now)
    intent = entry.body["intent"]  # as it is kept: without secrets
    return replace(opened, intent=intent) if isinstance(intent, Mapping) else opened


def _save(rows: Rows, lease: Lease, rollout_id: str, progress: Note, now: float) -> None:
    if not rows.put_progress(rollout_id, lease.service, progress, lease.token, now):
        found = rules.unfinished(lease, rollout_id, rows.rollout(rollout_id))  # says why
        raise RolloutError(f"Rollout {found.id} could not be written to", service=lease.service)


def _told(trigger: Trigger) -> Dict[str, object]:
    """The trigger's entry. It comes from outside: however much it says, only so much is kept."""
    return {
        **vars(trigger),
        "name": shortened(trigger.name),
        "id": identity(trigger.id),
        "condition": shortened(trigger.condition),
    }


def _view(pen: Pen, request: Request, policy: GuardPolicy, now: float, clock: Optional[Clock], key: str = "") -> View:
    if not request.service:
        raise OptionError("A decision needs a service", mend="Name the one that is to be acted on")
    rows, key = pen.rows, key or trigger_key(request)
    pen.expect(request.service, key, (_CLOCKS,))
    lease = rows.lease(request.service)
    seen = rows.note(WATCHDOG).get("at") if policy.watchdog is not None else None
    return View(
        memory=pen.memory(request.service),
        fleet=pen.fleet(),
        lease=lease if lease is not None and rules.in_force(lease, now) else None,
        unfinished=_first(rows.unfinished(request.service)),
        seen=rows.told(request.service, key),
        watchdog_at=float(seen) if isinstance(seen, (int, float)) else None,
        drift=_drift(pen, policy, now, clock),
        escalates=bool(request.after) and _escalates(pen.rows, request, now),
    )


def _escalates(rows: Rows, request: Request, now: float) -> bool:
    """Is this the next way back after `request.after`, the service's newest action?"""
    last = _first(rows.last_rollouts(request.service, 1))
    if last is None or last.id != request.after:
        return False
    return rules.escalates(last, request.action, request.trigger.id, now)


def _drift(pen: Pen, policy: GuardPolicy, now: float, clock: Optional[Clock]) -> float:
    """By how many seconds this machine's clock cannot be trusted; what was seen of it is kept for the next time."""
    kept = pen.rows.note(_CLOCKS)
    newest, boots = kept.get("newest"), kept.get("boots")
    boot = clock.boot if clock is not None else ""
    known: Dict[str, Note] = boots if isinstance(boots, dict) else {}
    before, store_time, tolerance = known.get(boot, {}), pen.rows.time(), policy.clock_tolerance
    newest_at = float(newest) if isinstance(newest, (int, float)) else None
    recent = newest_at is not None and 0 <= now - newest_at < tolerance / _LOOKS
    if recent and clock is not None and clocks.as_kept(before, now, clock, store_time, tolerance, tolerance / _LOOKS):
        return 0.0  # it is not written again at every decision
    after, drift = clocks.watch(before, now, clock, store_time, newest_at, policy.clock_settle, tolerance)
    if recent and clock is None and not drift:
        return 0.0
    known = {other: note for other, note in known.items() if other != boot}
    if clock is not None:
        known[boot] = after
    while len(known) > _BOOTS:
        known.pop(next(iter(known)))
    # a clock that runs ahead must not make all others look late for ever
    pen.keep(_CLOCKS, {"newest": now if drift else max(now, newest_at or now), "boots": known})
    return drift


_BOOTS = 16  # machines, or boots of one, whose clocks are remembered
_LOOKS = 8  # at a clock, in the time by which it may be wrong


def _decided(
    pen: Pen, request: Request, policy: GuardPolicy, now: float, clock: Optional[Clock]
) -> Tuple[Decision, bool]:
    """The decision, recorded; True with it when it is what the same trigger was told before."""
    trigger, key = request.trigger, trigger_key(request)
    view = _view(pen, request, policy, now, clock, key)
    decision = decide(policy, request, view, now)
    told = mark(decision, view.seen)
    repeated = decision.reason == DUPLICATE or view.seen == told
    is_news = (view.seen is None and trigger.kind not in LASTING) or news(view.memory, trigger, policy.rearm_below)
    if is_news:
        pen.write(request.service, TRIGGER, request.actor, _told(trigger), now, trigger=key)
    if repeated:
        pen.count(request.service, counted(decision.action, decision.verdict, decision.reason))
    else:
        # of a trigger that is known, the evidence of this time belongs to the decision
        body = _recorded(request, decision)
        if not is_news:
            body["evidence"] = trigger.evidence
        pen.write(request.service, DECISION, request.actor, body, now, trigger=key, told=told)
    return decision, repeated


def _recorded(request: Request, decision: Decision) -> Dict[str, object]:
    """The decision's entry: with what was asked, and what was known."""
    situation, told = request.situation, decision.as_dict()
    del told["service"]  # it is the entry's own
    return {
        **told,
        "trigger": identity(request.trigger.id),
        "condition": shortened(request.trigger.condition),
        "approved": request.approved,
        "release": situation.current,
        "target": situation.known_good,
        "confirmed": situation.confirmed,
        "places": situation.places,
    }


def _count_outcome(pen: Pen, before: Rollout, after: Rollout, now: float) -> None:
    steps: Dict[str, float] = {f"outcomes:{after.kind}:{after.state}": 1}
    verified = after.outcome.get("verified")
    if isinstance(verified, Mapping) and verified.get("verdict"):
        steps[f"verified:{verified['verdict']}"] = 1
    steps[f"seconds:{after.kind}:sum"] = max(0.0, now - before.opened_at)
    steps[f"seconds:{after.kind}:count"] = 1
    pen.count(after.service, steps, {f"last_success:{after.kind}": now} if _went_well(after) else None)


def _went_well(ended: Rollout) -> bool:
    """A release that is taken back is where it should be; an action that was given up, or did not help, is not."""
    verified = ended.outcome.get("verified")
    if isinstance(verified, Mapping) and verified.get("verdict") == NOT_RECOVERED:
        return False
    if ended.outcome.get("ok") is False:
        return False
    return ended.state == DONE or (ended.state == UNDONE and ended.kind in DEPLOYS)
