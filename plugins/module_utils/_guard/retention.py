# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How old entries leave the ledger without breaking its chain. Pure.

A `retention` entry stands for what was removed: the seq and the hash that the kept part follows on, and everything that
later entries and rows still lean on — the guard's memory at that point, the rollouts that stayed, and what was recorded
of the releases that are known good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from .._errors import OptionError
from . import chain
from .known import RECORDED, failed, passed
from .memory import Fleet, Memory, fold, fold_fleet
from .model import DECISION, DONE, REMEMBERED, ROLLOUT, STATE, UNFINISHED, Entry, Rollout
from .policy import told_by

KEPT_ROLLOUTS = 20  # of each service, whatever their age: known good and found bad are read from them


@dataclass(frozen=True)
class Cut:
    """Entries up to `through` go, and these rollouts; `body` is that of the retention entry."""

    through: int
    rollouts: Sequence[str]
    body: Mapping[str, object]


def cut(entries: Sequence[Entry], rollouts: Sequence[Rollout], before: float, exported: str) -> Optional[Cut]:
    """What may go: older than `before`, exported, and of no unfinished rollout. None when that is nothing."""
    began, _hash, known = chain.base(entries)
    last = _last(entries, rollouts, before, exported)
    if last is None or last.seq <= began:
        return None
    gone = [entry for entry in entries if entry.seq <= last.seq]
    kept_rows = _staying(rollouts)
    told = {str(entry.body.get("rollout")) for entry in entries if entry.seq > last.seq and entry.kind == ROLLOUT}
    leaving = [rollout.id for rollout in rollouts if rollout.id not in kept_rows and rollout.id not in told]
    stayed = {
        rollout.id: {"opening": chain.fingerprint(chain.opening(rollout)), **_as_left(rollout, gone, known)}
        for rollout in rollouts
        if rollout.id in kept_rows and rollout.id not in told
    }
    body = {
        "through": last.seq,
        "hash": last.hash,
        "removed": len(gone),
        "before": before,
        "stayed": stayed,
        "recorded": _recorded(gone, known, rollouts, kept_rows),
        "memory": {service: memory.as_dict() for service, memory in _memories(gone, known).items()},
        "fleet": _fleet(gone, known).as_dict(),
    }
    return Cut(last.seq, leaving, body)


def _last(entries: Sequence[Entry], rollouts: Sequence[Rollout], before: float, exported: str) -> Optional[Entry]:
    """The last entry that may go."""
    seqs = [entry.seq for entry in entries if entry.hash == exported]
    if not seqs:
        raise OptionError(
            "No entry has the hash that is said to be exported last", mend="Export first, to the end of what may go"
        )
    unfinished = {rollout.id for rollout in rollouts if rollout.state in UNFINISHED}
    found: Optional[Entry] = None
    for entry in entries:
        needed = entry.kind == ROLLOUT and entry.body.get("rollout") in unfinished
        if entry.at >= before or entry.seq > seqs[0] or needed:
            break
        # the newest one stays, so that the chain's end is never only said
        found = entry if entry is not entries[-1] else found
    return found


def _staying(rollouts: Sequence[Rollout]) -> Set[str]:
    """The newest of each service, and what says which release is good; what comes later in `rollouts` is newer."""
    by_service: Dict[str, List[Rollout]] = {}
    for rollout in rollouts:
        by_service.setdefault(rollout.service, []).append(rollout)
    staying: Set[str] = set()
    for mine in by_service.values():
        staying.update(rollout.id for rollout in mine[-KEPT_ROLLOUTS:])
        staying.update(rollout.id for rollout in mine if rollout.state in UNFINISHED)
        staying.update(_judged(mine))
    return staying


def _judged(mine: Sequence[Rollout]) -> Iterator[str]:
    """The last rollout whose release is known good, and of each release that was found bad since, the last one."""
    bad: Set[str] = set()
    for rollout in reversed(mine):
        if rollout.release in bad:
            continue
        if passed(rollout):
            yield rollout.id
            return
        if failed(rollout):
            bad.add(rollout.release)
            yield rollout.id


def _as_left(rollout: Rollout, gone: Sequence[Entry], known: Mapping[str, object]) -> Dict[str, object]:
    """The rollout's state, and its outcome's fingerprint, as the removed entries left them."""
    earlier = _mapping(_mapping(known.get("stayed")).get(rollout.id))
    left = {"state": earlier.get("state"), "outcome": earlier.get("outcome")}
    for entry in gone:
        if entry.kind in (ROLLOUT, STATE) and entry.body.get("rollout") == rollout.id:
            left = {"state": entry.body.get("state"), "outcome": chain.outcome_print(entry)}
    return left


def _recorded(
    gone: Sequence[Entry], known: Mapping[str, object], rollouts: Sequence[Rollout], staying: Set[str]
) -> List[Mapping[str, object]]:
    """What places told at promotions of rollouts that stay, so that a release can still be restored by it."""
    good = {rollout.id for rollout in rollouts if rollout.id in staying and rollout.state == DONE}
    told = [{"service": entry.service, **entry.body} for entry in gone if entry.kind == "outcome"]
    before = known.get("recorded")
    earlier = [row for row in before if isinstance(row, Mapping)] if isinstance(before, list) else []
    return [row for row in [*earlier, *told] if row.get("rollout") in good and any(row.get(name) for name in RECORDED)]


def first_forgery(
    entries: Sequence[Entry],
    remembered: Mapping[str, Mapping[str, object]],
    through: int,
    told: Mapping[Tuple[str, str], str],
) -> Optional[str]:
    """None when the guard remembers what the entries say (by service, '' the fleet), else one sentence.

    What it remembers is as of the entry `through`; `told` is by service and trigger, as of the last one.
    """
    began, _hash, known = chain.base(entries)
    if through != began and all(entry.seq != through for entry in entries):
        return f"What the guard remembers is said to be that of entry {through}, which there is none of."
    earlier = [entry for entry in entries if entry.seq <= through]
    memories = {service: memory.as_dict() for service, memory in _memories(earlier, known).items()}
    memories[""] = _fleet(earlier, known).as_dict()
    for service in sorted({*memories, *remembered}):
        nothing = Memory().as_dict() if service else Fleet().as_dict()
        if chain.canonical(remembered.get(service) or nothing) != chain.canonical(memories.get(service, nothing)):
            whose = f"of {service}" if service else "of all services together"
            return f"What the guard remembers {whose} is not what the entries say: it was changed behind the ledger."
    decisions = [(entry.service, *told_by(entry.body)) for entry in entries if entry.kind == DECISION]
    recorded = {(service, trigger): said for service, trigger, said in decisions}
    for service, trigger in sorted({*recorded, *told}):
        if recorded.get((service, trigger)) != told.get((service, trigger)):
            return (
                f"What was decided about the trigger {trigger!r} of {service} is not found as the entries say it: "
                "it was changed behind the ledger."
            )
    return None


def _memories(entries: Sequence[Entry], known: Mapping[str, object]) -> Dict[str, Memory]:
    memories = {str(service): Memory.of(_mapping(note)) for service, note in _mapping(known.get("memory")).items()}
    for entry in entries:
        if entry.service and entry.kind in REMEMBERED:
            memories[entry.service] = fold(memories.get(entry.service, Memory.of({})), entry)
    return memories


def _fleet(entries: Sequence[Entry], known: Mapping[str, object]) -> Fleet:
    fleet = Fleet.of(_mapping(known.get("fleet")))
    for entry in entries:
        if entry.kind in REMEMBERED:
            fleet = fold_fleet(fleet, entry)
    return fleet


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
