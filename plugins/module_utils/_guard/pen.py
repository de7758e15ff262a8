# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered, and how it follows the entries that are written.

What the guard remembers is nothing but the chain's entries, folded one after another. It is kept in notes as of one of
them, the checkpoint; whoever comes later reads these, and folds what was written since. Beside it stands what is only
counted, and what people have to be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Container, Dict, List, Mapping, Optional, Sequence, Tuple
from uuid import uuid4

from .._errors import StoreError
from . import chain
from .decision import ALLOWED
from .ledger import Note
from .memory import Fleet, Memory, fold, fold_fleet
from .model import DECISION, REMEMBERED, TRIGGER, Entry
from .store import Rows

MEMORY = "memory:"  # + service, or nothing for the fleet's
CHECKPOINT = "checkpoint"  # the `seq` through which these notes tell, and what one writing is known by from another
EVIDENCE_KEPT = 32_768  # of a trigger's evidence: characters of its JSON; of a longer one only the beginning
_BEGINNING = 2048
_TALLY = "tally"  # in the note, beside what is remembered of a service, and not in the chain: how often what happened
_OWED = "owed"  # and what people have to know: its id, what it is, and since when, oldest first, until somebody told it
_OWED_KEPT = 8
_FAR = 1000  # entries behind: the notes are the shorter way


@dataclass
class Known:
    """What was read and written up to the entry `seq`, with its `hash`; it is changed in its place.

    Services that nobody asked about yet are not there: what follows their notes is `waiting`, oldest first.
    """

    seq: int
    hash: str
    checkpoint: Note
    memories: Dict[str, Memory] = field(default_factory=dict)
    tallies: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    waiting: Dict[str, List[Entry]] = field(default_factory=dict)
    touched: Dict[str, None] = field(default_factory=dict)  # since the checkpoint, in their order
    fleet: Optional[Fleet] = None
    fleet_waiting: List[Entry] = field(default_factory=list)
    fleet_touched: bool = False


class Pen:
    """Reads what is remembered in one transaction, and writes entries with what follows from them.

    `known` is what the last transaction left; it must not be used any more when this one fails. Of a ledger that was
    changed behind our back nothing is remembered, unless it is `only_shown`: then, as much as can be read.
    """

    def __init__(self, rows: Rows, known: Optional[Known], *, only_shown: bool = False) -> None:
        self.rows = rows
        self._only_shown, self._damaged = only_shown, False
        self._last = known
        self._now: Optional[Known] = None
        self._first: Optional[Tuple[int, str]] = None  # the newest entry before those of this transaction
        self._newest: Optional[Tuple[int, str]] = None  # and the newest of these
        self._own: List[Entry] = []  # these, until somebody asks what is remembered
        self._must = False
        self._kept: Dict[str, Note] = {}

    def expect(self, service: str, trigger: str = "", notes: Sequence[str] = ()) -> None:
        """Said first, by what goes on to read and write all that is kept of a service."""
        if self._last is None or service not in self._last.memories:
            notes = (*notes, MEMORY + service, MEMORY)
        self.rows.expect(service, trigger, (CHECKPOINT, *notes))

    @property
    def left(self) -> Optional[Known]:
        """What is known once the transaction has ended well; what was known before it, where nobody asked."""
        return None if self._damaged else self._now or self._last

    # --- what is remembered

    def memory(self, service: str) -> Memory:
        known = self.known()
        if service not in known.memories:
            self._recall(known, service)
        return known.memories[service]

    def fleet(self) -> Fleet:
        known = self.known()
        if known.fleet is None:
            known.fleet = Fleet.of(self._noted(known, ""))
            for entry in known.fleet_waiting:
                self._fold_fleet(known, known.fleet, entry)
            known.fleet_waiting = []
        return known.fleet

    def services(self) -> Sequence[str]:
        names = {key[len(MEMORY) :] for key in self.rows.notes(MEMORY)} | set(self.known().touched)
        return sorted(name for name in names if name)

    def tallies(self) -> Mapping[str, Note]:
        """What is counted, by service, in their order."""
        known = self.known()
        found = {key[len(MEMORY) :]: tally_of(note) for key, note in self.rows.notes(MEMORY).items()}
        for service in known.touched:
            self.memory(service)
        return dict(sorted({**found, **known.tallies}.items()))

    def known(self) -> Known:
        """What is known, as of the newest entry; StoreError where an entry that it hangs on was changed."""
        if self._now is None:
            checkpoint, last, self._last = self.rows.note(CHECKPOINT), self._last, None
            self._now = (self._followed(last, checkpoint) if last is not None else None) or self._afresh(checkpoint)
            for entry in self._own:
                self._take(self._now, entry)
        return self._now

    def _followed(self, known: Known, checkpoint: Note) -> Optional[Known]:
        """What was known last, brought up to the newest entry; None where that does not follow on it."""
        seq, own = self._start()
        if known.checkpoint != checkpoint or not known.seq <= seq <= known.seq + _FAR:
            return None
        try:
            self._take_all(known)
        except StoreError:
            return None  # another ledger was put in its place; if not, it will be said again
        return known if known.hash == own else None

    def _afresh(self, checkpoint: Note) -> Known:
        known = Known(0, "", checkpoint)
        try:
            known.seq = through(checkpoint)
            self._take_all(known)
        except StoreError:
            if not self._only_shown:
                raise
            self._damaged = True
        known.hash = self._start()[1]
        return known

    def _take_all(self, known: Known) -> None:
        """Take in the entries after those that it has, but for this transaction's own."""
        last = self._start()[0]
        if known.seq > last:
            raise _changed(f"the guard remembers entry {known.seq}, and there is none after {last}")
        while known.seq < last:
            entries = self.rows.entries("", known.seq, min(_FAR, last - known.seq))
            for entry in entries or (None,):
                if entry is None or entry.seq != known.seq + 1 or known.hash not in ("", entry.prev):
                    raise _changed(f"no entry {known.seq + 1} follows entry {known.seq}")
                if chain.digest(entry) != entry.hash:
                    raise _changed(f"entry {entry.seq} is not what was written")
                self._take(known, entry)

    def _start(self) -> Tuple[int, str]:
        if self._first is None:
            self._first = self.rows.newest()
        return self._first

    def _recall(self, known: Known, service: str) -> None:
        note = self._noted(known, service)
        known.memories[service], known.tallies[service] = Memory.of(remembered(note)), dict(tally_of(note))
        for entry in known.waiting.pop(service, ()):
            self._fold(known, entry)

    def _noted(self, known: Known, service: str) -> Note:
        note = self.rows.note(MEMORY + service)
        if note and not known.checkpoint:
            self._damaged = True
            if not self._only_shown:
                raise _changed("it is not said which entries the guard's memory tells of")
        return note

    def _take(self, known: Known, entry: Entry) -> None:
        known.seq, known.hash = entry.seq, entry.hash
        if entry.kind not in REMEMBERED:
            return
        if entry.service:
            known.touched[entry.service] = None
            if entry.service in known.memories:
                self._fold(known, entry)
            else:
                known.waiting.setdefault(entry.service, []).append(entry)
        if known.fleet is not None:
            self._fold_fleet(known, known.fleet, entry)
        else:
            known.fleet_waiting.append(entry)

    @staticmethod
    def _fold(known: Known, entry: Entry) -> None:
        known.memories[entry.service] = fold(known.memories[entry.service], entry)
        if entry.kind == DECISION:
            _count_decision(known.tallies[entry.service], entry)

    @staticmethod
    def _fold_fleet(known: Known, fleet: Fleet, entry: Entry) -> None:
        known.fleet = fold_fleet(fleet, entry)
        known.fleet_touched = known.fleet_touched or known.fleet is not fleet

    # --- what is written

    def write(
        self, service: str, kind: str, actor: str, body: Note, now: float, trigger: str = "", told: str = ""
    ) -> Entry:
        seq, prev = self._newest or self._start()
        entry, text = chain.linked(seq + 1, prev, now, service, kind, actor, body)
        if len(text) > EVIDENCE_KEPT and kind in (TRIGGER, DECISION):
            entry, text = chain.linked(seq + 1, prev, now, service, kind, actor, _bounded(body))
        if self._now is not None:
            self._take(self._now, entry)
        else:
            self._own.append(entry)
        self.rows.add_entry(entry, text, trigger, told)
        self._newest = entry.seq, entry.hash
        return entry

    def count(self, service: str, steps: Mapping[str, float], latest: Optional[Mapping[str, float]] = None) -> None:
        """Add `steps` to the service's counters, and set those in `latest`; no entry tells them."""
        counters = self._counters(service)
        counters.update(latest or {})
        _add(counters, steps)

    def owe(self, ident: str, what: str, service: str, now: float) -> None:
        """Somebody has to be told: written here, so that a crash before that loses no page."""
        _owe(self._counters(service), ident, what, now)

    def told(self, idents: Container[object]) -> None:
        """Nobody has to be told of these any more."""
        for service, tally in self.tallies().items():
            owed = owed_in(tally)
            left = [one for one in owed if one[0] not in idents]
            if len(left) < len(owed):
                self._counters(service)[_OWED] = left

    def keep(self, key: str, value: Note) -> None:
        self._kept[key] = value

    def checkpoint(self) -> None:
        """Have the notes tell all at the end of this transaction; said before entries are removed."""
        self.known()
        self._must = True

    def _counters(self, service: str) -> Dict[str, Any]:
        """The service's counters, to be changed by what no entry tells."""
        self.memory(service)
        known = self.known()
        known.touched[service] = None
        self._must = True
        return known.tallies[service]

    def done(self) -> None:
        """Write what is to be kept beside the entries."""
        if self._must or self._lags():
            try:
                self._kept.update(self._notes())
            except StoreError:
                if self._must:
                    raise
                # else what this transaction did hangs on none of it; who decides by it is told
        for key, value in self._kept.items():
            self.rows.put_note(key, value)

    def _lags(self) -> bool:
        """Do the notes fall too far behind? Who need not know looks seldom: that may cost a round trip."""
        if self._newest is None:
            return False
        seq, every = self._newest[0], self.rows.lag + 1
        if self._now is not None:
            return seq - through(self._now.checkpoint) > self.rows.lag
        return seq // every != self._start()[0] // every

    def _notes(self) -> Dict[str, Note]:
        """What the notes have to say as of the newest entry."""
        known, notes = self.known(), {}
        for service in known.touched:
            memory, tally = self.memory(service), known.tallies[service]
            told = memory.as_dict()
            notes[MEMORY + service] = {**told, _TALLY: dict(tally)} if tally else told
        if known.fleet_waiting:
            self.fleet()
        if known.fleet is not None and known.fleet_touched:
            notes[MEMORY] = known.fleet.as_dict()
        # whatever else is the same: by the mark, others see that these are other notes
        known.checkpoint = {"seq": known.seq, "written": uuid4().hex}
        known.touched, known.fleet_touched = {}, False
        return {**notes, CHECKPOINT: known.checkpoint}


def _changed(what: str) -> StoreError:
    return StoreError(
        f"The ledger was changed behind our back: {what}",
        mend="Verify the ledger, restore a copy of it, and find out who changed it",
    )


def through(checkpoint: Note) -> int:
    """The entry up to which the notes tell; 0 before there are any."""
    seq = checkpoint.get("seq") if checkpoint else 0
    if not isinstance(seq, int) or seq < 0:
        raise _changed("it cannot be read which entries the guard's memory tells of")
    return seq


def remembered(note: Note) -> Note:
    """What the chain says of a service, without what is counted beside it."""
    return {key: value for key, value in note.items() if key != _TALLY}


def tally_of(note: Note) -> Note:
    tally = note.get(_TALLY)
    return tally if isinstance(tally, dict) else {}


def owed_in(tally: Note) -> Sequence[Sequence[object]]:
    owed = tally.get(_OWED)
    return owed if isinstance(owed, list) else ()


def _count_decision(tally: Dict[str, Any], entry: Entry) -> None:
    told = entry.body
    _add(tally, counted(str(told.get("action")), str(told.get("verdict")), str(told.get("reason"))))
    if told.get("page") is True:
        _owe(tally, str(told.get("id")), DECISION, entry.at)


def counted(action: str, verdict: str, reason: str) -> Dict[str, float]:
    """The steps by which one decision is counted."""
    steps: Dict[str, float] = {f"decisions:{action}:{verdict}": 1}
    if verdict != ALLOWED:
        steps[f"suppressed:{action}:{reason or verdict}"] = 1
    return steps


def _add(tally: Dict[str, Any], steps: Mapping[str, float]) -> None:
    for name, step in steps.items():
        before = tally.get(name, 0)
        tally[name] = (before if isinstance(before, (int, float)) else 0) + step


def _owe(tally: Dict[str, Any], ident: str, what: str, now: float) -> None:
    others = [one for one in owed_in(tally) if one[0] != ident]
    tally[_OWED] = [*others, [ident, what, now]][-_OWED_KEPT:]


def _bounded(body: Note) -> Note:
    """`body` with no more of its evidence than is kept."""
    evidence = body.get("evidence")
    text = chain.canonical(evidence)
    if not isinstance(evidence, Mapping) or len(text) <= EVIDENCE_KEPT:
        return body
    cut = {"cut_from": len(text), "sha256": chain.fingerprint(evidence), "begins": text[:_BEGINNING]}
    return {**body, "evidence": cut}
