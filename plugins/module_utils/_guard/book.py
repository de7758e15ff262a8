# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger itself: what each of its methods reads, asks the rules, and writes, in one transaction of any store.

Nothing here knows which store it is, and no store knows what its rows mean; so that all of them behave the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Container, Dict, Iterable, Mapping, Optional, Sequence, Tuple, Type, TypeVar, Union

from .._errors import OptionError, RolloutError, StoreError
from . import chain, retention, rules
from . import clock as clocks
from .decision import ALLOWED, DENIED, DUPLICATE, ROLLBACK, Clock, Decision, Grant, Request, Trigger
from .known import DEPLOYS
from .ledger import Note
from .memory import LASTING, NOT_RECOVERED, Fleet, Memory, fold, fold_fleet, news, shortened
from .model import (
    APPROVAL,
    COMMAND,
    DECISION,
    DONE,
    LEASE,
    PAUSE,
    REMEMBERED,
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
from .policy import GuardPolicy, View, decide, mark
from .store import Rows, Store

T = TypeVar("T")
R = TypeVar("R", Memory, Fleet)
Remembered = Union[Memory, Fleet]
# by key, what was made of the very note that a store gave out or took last: reading it costs more than deciding by it
Known = Dict[str, Tuple[Note, Remembered]]

_MEMORY = "memory:"  # + service, or nothing for the fleet's
_TALLY = "tally"  # there, beside what is remembered of a service, and not in the chain: how often what happened
_OWED = "owed"  # and what people have to know: its id, what it is, and since when, oldest first, until somebody told it
_OWED_KEPT = 8
_CLOCKS = "clocks"
_RETAINED = "retained"  # where the newest retention entry is
EVIDENCE_KEPT = 32_768  # of a trigger's evidence: characters of its JSON; of a longer one only the beginning
_BEGINNING = 2048
_TOLD_OF = (*DEPLOYS, ROLLBACK)  # whose ends our roles tell; a playbook of somebody's own does so itself
_THEN = "then"  # in the intent of an action of our roles': what is to be done where it does not help
WATCHDOG = "watchdog"  # when the alert pipeline's Watchdog was seen last


class Pen:
    """Writes entries in one transaction, and with them what they change in the guard's memory."""

    def __init__(self, rows: Rows, known: Known) -> None:
        self.rows = rows
        self._known = known
        self._newest: Optional[Tuple[int, str]] = None
        self._memories: Dict[str, Memory] = {}
        self._fleet: Optional[Fleet] = None
        self._tallies: Dict[str, Dict[str, Any]] = {}
        self._touched: Dict[str, None] = {}  # services of which something is to be kept, in their order
        self._changed: Dict[str, Note] = {}

    def expect(self, service: str, trigger: str = "") -> None:
        """Said first, by what goes on to read and write all that is kept of a service."""
        self.rows.expect(service, trigger, (_MEMORY + service, _MEMORY, _CLOCKS))

    def write(self, service: str, kind: str, actor: str, body: Note, now: float) -> Entry:
        seq, prev = self._newest or self.rows.newest()
        entry, text = chain.linked(seq + 1, prev, now, service, kind, actor, body)
        if len(text) > EVIDENCE_KEPT and kind in (TRIGGER, DECISION):
            entry, text = chain.linked(seq + 1, prev, now, service, kind, actor, _bounded(body))
        self.rows.add_entry(entry, text)
        self._newest = (entry.seq, entry.hash)
        if kind in REMEMBERED:
            self._remember(entry)
        return entry

    def _remember(self, entry: Entry) -> None:
        if entry.service:
            before = self.memory(entry.service)
            after = self._memories[entry.service] = fold(before, entry)
            if after is not before:
                self._touched[entry.service] = None
        before_all = self.fleet()
        after_all = self._fleet = fold_fleet(before_all, entry)
        if after_all is not before_all:
            self._learn(_MEMORY, after_all, after_all.as_dict())

    def _learn(self, key: str, what: Remembered, note: Note) -> None:
        self._changed[key] = note
        self._known[key] = note, what

    def memory(self, service: str) -> Memory:
        if service not in self._memories:
            self._memories[service] = self._recall(_MEMORY + service, Memory)
        return self._memories[service]

    def fleet(self) -> Fleet:
        if self._fleet is None:
            self._fleet = self._recall(_MEMORY, Fleet)
        return self._fleet

    def _recall(self, key: str, kind: Type[R]) -> R:
        note = self.rows.note(key)
        known, what = self._known.get(key, (None, None))
        if known is note and isinstance(what, kind):
            return what
        read = kind.of(_remembered(note))
        self._known[key] = note, read
        return read

    def count(self, service: str, steps: Mapping[str, float], latest: Optional[Mapping[str, float]] = None) -> None:
        """Add `steps` to the service's counters, and set those in `latest`; they are not in the chain."""
        counters = self._counters_of(service)
        counters.update(latest or {})
        for name, step in steps.items():
            before = counters.get(name, 0)
            counters[name] = (before if isinstance(before, (int, float)) else 0) + step

    def owe(self, ident: str, what: str, service: str, now: float) -> None:
        """Somebody has to be told: written here, so that a crash before that loses no page."""
        counters = self._counters_of(service)
        others = [one for one in _owed(counters) if one[0] != ident]
        counters[_OWED] = [*others, [ident, what, now]][-_OWED_KEPT:]

    def _counters_of(self, service: str) -> Dict[str, Any]:
        """The service's counters, to be changed: they are written at the end."""
        if service not in self._tallies:
            self._tallies[service] = dict(_tally(self.rows.note(_MEMORY + service)))
            self._touched[service] = None
        return self._tallies[service]

    def keep(self, key: str, value: Note) -> None:
        self._changed[key] = value

    def done(self) -> None:
        for service in self._touched:
            key, memory = _MEMORY + service, self.memory(service)
            tally = self._tallies.get(service) or _tally(self.rows.note(key))
            self._learn(key, memory, {**memory.as_dict(), _TALLY: tally} if tally else memory.as_dict())
        for key, value in self._changed.items():
            self.rows.put_note(key, value)


class Book:
    """The `Ledger` over `store`, which it closes with itself."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: Known = {}

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
            _count_outcome(pen, before, after, now)
            if after.state in (DONE, UNDONE, UNRESOLVED) and (after.kind in _TOLD_OF or _THEN in after.intent):
                pen.owe(after.id, "rollout", after.service, now)
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

        def work(rows: Rows) -> Decision:
            return decide(policy, request, _view(Pen(rows, self._known), request, policy, now, clock), now)

        return self._store.read(work)

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
        return self._store.read(lambda rows: Pen(rows, self._known).memory(service))

    def fleet(self) -> Fleet:
        return self._store.read(lambda rows: Pen(rows, self._known).fleet())

    def services(self) -> Sequence[str]:
        names = self._store.read(lambda rows: [key[len(_MEMORY) :] for key in rows.notes(_MEMORY)])
        return sorted(name for name in names if name)

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        def work(rows: Rows) -> Mapping[str, Mapping[str, float]]:
            found = {key[len(_MEMORY) :]: _tally(note) for key, note in rows.notes(_MEMORY).items()}
            return {
                service: {name: float(n) for name, n in counted.items() if isinstance(n, (int, float))}
                for service, counted in found.items()
                if counted
            }

        return self._store.read(work)

    # --- what people have to know

    def owed(self) -> Mapping[str, Mapping[str, Any]]:
        def work(rows: Rows) -> Mapping[str, Mapping[str, Any]]:
            return {
                str(ident): {"what": what, "service": key[len(_MEMORY) :], "at": at}
                for key, note in rows.notes(_MEMORY).items()
                for ident, what, at in _owed(_tally(note))
            }

        return self._store.read(work)

    def told(self, idents: Container[str]) -> None:
        def work(pen: Pen) -> None:
            for key, note in pen.rows.notes(_MEMORY).items():
                owed = _owed(_tally(note))
                left = [one for one in owed if one[0] not in idents]
                if len(left) < len(owed):
                    pen.keep(key, {**note, _TALLY: {**_tally(note), _OWED: left}})

        self._write(work)

    # --- small documents that are not in the chain

    def note(self, key: str) -> Note:
        return self._store.read(lambda rows: rows.note(key))

    def change_note(self, key: str, change: Callable[[Note], Note]) -> Note:
        rules.own_note(key, (_MEMORY, _CLOCKS, _RETAINED))

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
                remembered = {key[len(_MEMORY) :]: _remembered(note) for key, note in rows.notes(_MEMORY).items()}
            except StoreError as error:
                return error.message
            return (
                chain.first_break(entries, kept)
                or chain.first_lie(entries, rollouts)
                or retention.first_forgery(entries, remembered)
            )

        return self._store.read(work)

    def head(self) -> str:
        return self._store.read(lambda rows: rows.newest()[1])

    def prune(self, before: float, exported: str, actor: str, now: float) -> Optional[Entry]:
        def work(pen: Pen) -> Optional[Entry]:
            cut = retention.cut(list(pen.rows.all_entries()), list(pen.rows.all_rollouts()), before, exported)
            if cut is None:
                return None
            pen.rows.cut(cut.through, cut.rollouts, before)
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
        def whole(rows: Rows) -> T:
            pen = Pen(rows, self._known)
            result = work(pen)
            pen.done()
            return result

        return self._store.write(whole)


def _remembered(note: Note) -> Note:
    """What the chain says of a service, without what is counted beside it."""
    return {key: value for key, value in note.items() if key != _TALLY}


def _tally(note: Note) -> Note:
    tally = note.get(_TALLY)
    return tally if isinstance(tally, dict) else {}


def _owed(counters: Note) -> Sequence[Sequence[object]]:
    owed = counters.get(_OWED)
    return owed if isinstance(owed, list) else ()


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


def _seen_key(request: Request) -> str:
    """One signal may lead to several actions, one after the other, but to each only once."""
    return f"{request.action}:{request.trigger.kind}:{shortened(request.trigger.id)}"


def _told(trigger: Trigger) -> Dict[str, object]:
    """The trigger's entry. It comes from outside: however much it says, only so much is kept."""
    return {
        **vars(trigger),
        "name": shortened(trigger.name),
        "id": shortened(trigger.id),
        "condition": shortened(trigger.condition),
    }


def _bounded(body: Note) -> Note:
    """`body` with no more of its evidence than is kept."""
    evidence = body.get("evidence")
    text = chain.canonical(evidence)
    if not isinstance(evidence, Mapping) or len(text) <= EVIDENCE_KEPT:
        return body
    cut = {"cut_from": len(text), "sha256": chain.fingerprint(evidence), "begins": text[:_BEGINNING]}
    return {**body, "evidence": cut}


def _view(pen: Pen, request: Request, policy: GuardPolicy, now: float, clock: Optional[Clock]) -> View:
    if not request.service:
        raise OptionError("A decision needs a service", mend="Name the one that is to be acted on")
    rows, key = pen.rows, _seen_key(request)
    pen.expect(request.service, key)
    lease = rows.lease(request.service)
    seen = rows.note(WATCHDOG).get("at") if policy.watchdog is not None else None
    return View(
        memory=pen.memory(request.service),
        fleet=pen.fleet(),
        lease=lease if lease is not None and rules.in_force(lease, now) else None,
        unfinished=_first(rows.unfinished(request.service)),
        seen=rows.seen(request.service, key),
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
    before = known.get(boot, {})
    newest_at = float(newest) if isinstance(newest, (int, float)) else None
    after, drift = clocks.watch(
        before, now, clock, pen.rows.time(), newest_at, policy.clock_settle, policy.clock_tolerance
    )
    if not drift and newest_at is not None and 0 <= now - newest_at < policy.clock_tolerance / _LOOKS:
        if clock is None or _is_young(before, clock, policy.clock_tolerance / _LOOKS):
            return drift  # what is kept says as much: it is not written again at every decision
    known = {other: note for other, note in known.items() if other != boot}
    if clock is not None:
        known[boot] = after
    while len(known) > _BOOTS:
        known.pop(next(iter(known)))
    # a clock that runs ahead must not make all others look late for ever
    pen.keep(_CLOCKS, {"newest": now if drift else max(now, newest_at or now), "boots": known})
    return drift


def _is_young(kept: Note, clock: Clock, age: float) -> bool:
    """Whether what is kept of this boot is that it can be trusted, and not older than that."""
    up = kept.get("up")
    return "drift" not in kept and isinstance(up, (int, float)) and 0 <= clock.up - up < age


_BOOTS = 16  # machines, or boots of one, whose clocks are remembered
_LOOKS = 8  # at a clock, in the time by which it may be wrong


def _decided(
    pen: Pen, request: Request, policy: GuardPolicy, now: float, clock: Optional[Clock]
) -> Tuple[Decision, bool]:
    """The decision, recorded; True with it when it is what the same trigger was told before."""
    view, trigger = _view(pen, request, policy, now, clock), request.trigger
    decision = decide(policy, request, view, now)
    pen.count(request.service, _counted(decision))
    seen = mark(decision, view.seen)
    repeated = decision.reason == DUPLICATE or view.seen == seen
    first = view.seen is None and trigger.kind not in LASTING
    told = first or news(view.memory, trigger, policy.rearm_below)
    if told:
        pen.write(request.service, TRIGGER, request.actor, _told(trigger), now)
    if not repeated:
        # of a trigger that is known, the evidence of this time belongs to the decision
        evidence = {} if told else {"evidence": trigger.evidence}
        pen.write(request.service, DECISION, request.actor, {**_recorded(request, decision), **evidence}, now)
        pen.rows.mark_seen(request.service, _seen_key(request), seen, now)
        if decision.page:
            pen.owe(decision.id, "decision", request.service, now)
    return decision, repeated


def _counted(decision: Decision) -> Dict[str, float]:
    steps: Dict[str, float] = {f"decisions:{decision.action}:{decision.verdict}": 1}
    if decision.verdict != ALLOWED:
        steps[f"suppressed:{decision.action}:{decision.reason or decision.verdict}"] = 1
    return steps


def _recorded(request: Request, decision: Decision) -> Dict[str, object]:
    """The decision's entry: with what was asked, and what was known."""
    situation, told = request.situation, decision.as_dict()
    del told["service"]  # it is the entry's own
    return {
        **told,
        "trigger": shortened(request.trigger.id),
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
