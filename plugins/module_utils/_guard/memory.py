# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard remembers of one service and of all of them. Pure: the chain's entries, folded one after another.

Nothing else changes a memory, so that it can be replayed from the chain and compared. It knows no policy: it keeps
times and counts, and `policy` reads them by the rules of the moment. Its size is bounded; where something has to be
forgotten, the rest says "not yet" rather than "go on". Times are epoch seconds, as their entries have them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

from .._errors import StoreError
from . import chain
from .decision import (
    ALERT,
    ALLOWED,
    BREAKER_OPEN,
    DENIED,
    ERROR_CODE,
    FLAG_ON,
    HEALING,
    RECOMMENDED,
    ROLLBACK,
    UNDO,
    Trigger,
)
from .model import (
    APPROVAL,
    DECISION,
    DONE,
    HELD,
    OPEN,
    PAUSE,
    ROLLOUT,
    STATE,
    TRIGGER,
    UNDONE,
    UNRESOLVED,
    Entry,
    environment_of,
)

LASTING = (ALERT, ERROR_CODE)  # kinds of trigger that say when they are over; the others are said once
PAUSED, RESUMED = "paused", "resumed"  # a pause entry's event
RECOVERED, NOT_RECOVERED = "recovered", "not_recovered"  # an action's outcome, verified
CALM = -1.0  # below every level: it is resolved
UNMEASURED = 1e9  # above every level: it is active, and nobody said how much

ACTIONS_KEPT = 64
RECOMMENDATIONS_KEPT = 32
CONDITIONS_KEPT = 32
SIGNALS_KEPT = 16  # of each condition: identities that fire, that ended, and changes of level
SERVICES_KEPT = 256
NAME_KEPT = 120
MORE = "…"  # incidents that fire beside those that are kept: nobody can tell when they end

T = TypeVar("T")


@dataclass(frozen=True)
class Pause:
    by: str
    at: float
    reason: str
    until: Optional[float] = None  # None: without end

    def in_force(self, now: float) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True)
class Running:
    """The unfinished rollout, of which a later entry says only how it went on."""

    rollout: str
    kind: str  # as the rollout's; an action that rolls back is a rollback
    opened_at: float
    counted: bool = False  # it could not be finished, and was counted as a failure already


@dataclass(frozen=True)
class Recommendation:
    """What was recommended to people: `release` is what ran then, `target` what a rollback would go back to."""

    action: str
    release: str
    target: str
    until: float
    condition: str
    approved_by: str = ""
    used: bool = False


@dataclass(frozen=True)
class Condition:
    """One alert or error code over its incidents.

    `levels` are (since when, how high), oldest first, for the time since it was acted on; `ended` are the incidents
    that are over, so that a late copy of one does not revive it.
    """

    since: Optional[float] = None  # first seen active, and without a gap since
    disarmed_at: Optional[float] = None
    levels: Tuple[Tuple[float, float], ...] = ()
    firing: Tuple[str, ...] = ()
    ended: Tuple[str, ...] = ()

    @property
    def height(self) -> float:
        return self.levels[-1][1] if self.levels else CALM

    def calm_for(self, below: float, now: float) -> float:
        """The longest time in seconds that it stayed at or below this level since it was acted on."""
        longest, start = 0.0, None
        ends = [at for at, _height in self.levels[1:]] + [now]
        for (at, height), end in zip(self.levels, ends):
            start = None if height > below else at if start is None else start
            if start is not None:
                longest = max(longest, end - max(start, self.disarmed_at or start))
        return longest


_NEVER_SEEN = Condition()


@dataclass(frozen=True)
class Memory:
    """What the guard remembers of one service."""

    changed_from: Optional[float] = None  # when its last finished change began
    changed_at: Optional[float] = None  # and when it was done
    acted_at: Optional[float] = None  # the last healing action, or the last undo
    actions: Tuple[float, ...] = ()  # when healing actions were allowed, oldest first
    failures: int = 0  # failed or unrecovered actions in a row
    failed_at: Optional[float] = None
    tripped_at: Optional[float] = None  # when one more step back was refused
    steps_back: int = 0  # rollbacks since the last rollout that passed
    running: Optional[Running] = None
    pause: Optional[Pause] = None
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    recommendations: Mapping[str, Recommendation] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, object]:
        return {
            **vars(self),
            "running": _written(self.running),
            "pause": _written(self.pause),
            "conditions": {name: _written(one) for name, one in self.conditions.items()},
            "recommendations": {name: _written(one) for name, one in self.recommendations.items()},
        }

    @classmethod
    def of(cls, kept: Mapping[str, object]) -> "Memory":
        """What `as_dict` made, read back; {} is the memory of nothing. StoreError for anything else."""
        return _Reader("a service", kept).read(_memory)

    def condition(self, name: str) -> Condition:
        return self.conditions.get(shortened(name), _NEVER_SEEN)

    def paused(self, now: float) -> Optional[Pause]:
        return self.pause if self.pause is not None and self.pause.in_force(now) else None

    def spent(self, recommendation: str, now: float) -> Optional[str]:
        """Why it cannot be carried out any more, or None."""
        known = self.recommendations.get(recommendation)
        if known is None:
            return "there is no such recommendation of this service, or many came after it"
        if known.used:
            return "it was carried out already"
        return f"it expired at {shown_time(known.until)}" if now >= known.until else None

    def approvable(self, recommendation: str, now: float) -> Optional[str]:
        """None when a person may approve it, else why not."""
        known = self.recommendations.get(recommendation)
        problem = self.spent(recommendation, now)
        if problem is None and known is not None and known.approved_by:
            return f"{known.approved_by} approved it already"
        return problem


@dataclass(frozen=True)
class Fleet:
    """What the guard remembers of all services together."""

    pause: Optional[Pause] = None
    acted: Mapping[str, float] = field(default_factory=dict)  # service: its last healing action
    alarming: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # service: condition: active since
    storms: Mapping[str, float] = field(default_factory=dict)  # environment: the last page for all that alarm together

    def paused(self, now: float) -> Optional[Pause]:
        return self.pause if self.pause is not None and self.pause.in_force(now) else None

    def as_dict(self) -> Dict[str, object]:
        alarming = {service: dict(conditions) for service, conditions in self.alarming.items()}
        kept = {"pause": _written(self.pause), "acted": dict(self.acted), "alarming": alarming}
        return {**kept, "storms": dict(self.storms)}

    @classmethod
    def of(cls, kept: Mapping[str, object]) -> "Fleet":
        """As `Memory.of`."""
        return _Reader("all services", kept).read(_fleet)


def altered(one: T, **changes: object) -> T:
    """As `dataclasses.replace`, at half its cost: this is done with every decision."""
    after: T = object.__new__(type(one))
    vars(after).update(vars(one), **changes)
    return after


def _written(one: object) -> Optional[Dict[str, object]]:
    # not `asdict`: it copies everything, and this is done with every decision
    return dict(vars(one)) if one is not None else None


def shortened(name: str) -> str:
    """`name`, or for a long one its beginning and a digest: names come from outside."""
    return name if len(name) <= NAME_KEPT else _begun(name, name)


def identity(ident: str) -> str:
    """A trigger's id, as it is kept: not too long, without what a URL in it names its user by, and still its own."""
    short = shortened(ident)
    kept = chain.masked(short)
    return short if kept == short else _begun(kept, ident)


def _begun(name: str, whole: str) -> str:
    """The beginning of `name`, with a digest by which it stays the one of `whole`."""
    return f"{name[: NAME_KEPT - 17]}~{sha256(whole.encode()).hexdigest()[:16]}"


def shown_time(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- one service


def fold(memory: Memory, entry: Entry) -> Memory:
    """`memory` after one more entry of its service."""
    change = _FOLDS.get(entry.kind)
    return change(memory, entry) if change is not None else memory


def _triggered(memory: Memory, entry: Entry) -> Memory:
    name = _text(entry, "condition")
    if not name or entry.body.get("kind") not in LASTING:
        return memory
    before, level = memory.condition(name), _number(entry, "level")
    after = _signal(before, shortened(_text(entry, "id")), _active(entry), level, entry.at)
    if after == before and shortened(name) in memory.conditions:
        return memory
    return altered(memory, conditions=_with_condition(memory.conditions, name, after))


def _signal(condition: Condition, incident: str, active: bool, level: Optional[float], at: float) -> Condition:
    others = tuple([one for one in condition.firing if one != incident])
    if active and incident in condition.ended:
        return condition
    if active:
        height = UNMEASURED if level is None else min(max(level, 0.0), UNMEASURED)
        firing, ended = (*others, incident), condition.ended
        firing = firing if len(firing) <= SIGNALS_KEPT else (MORE, *firing[1 - SIGNALS_KEPT :])
    else:
        height = condition.height if others else CALM
        known = tuple(one for one in condition.ended if one != incident)
        firing, ended = others, (*known, incident)[-SIGNALS_KEPT:]
    levels = condition.levels if height == condition.height and condition.levels else (*condition.levels, (at, height))
    since = (at if condition.since is None else condition.since) if firing else None
    return Condition(since, condition.disarmed_at, levels[-SIGNALS_KEPT:], firing, ended)


def _with_condition(conditions: Mapping[str, Condition], name: str, after: Condition) -> Dict[str, Condition]:
    return _newest(conditions, shortened(name), after, CONDITIONS_KEPT, _last_change)


def _last_change(condition: Condition) -> Tuple[bool, float]:
    """One that was acted on is the last to be forgotten: without it, it would be acted on again."""
    changed = condition.levels[-1][0] if condition.levels else 0.0
    return condition.disarmed_at is not None, max(changed, condition.disarmed_at or changed)


def news(memory: Memory, trigger: Trigger, rearm_below: float) -> bool:
    """Would this trigger's entry change what is remembered of its condition? Then it has to be written.

    A copy of what was told before need not be; but its end, and its crossing of the lower level, are never copies.
    """
    if trigger.kind not in LASTING:
        return False
    before, incident = memory.condition(trigger.condition), identity(trigger.id)
    if trigger.active and incident not in before.firing and incident not in before.ended:
        return True
    after = _signal(before, incident, trigger.active, trigger.level, 0.0)
    crossed = (before.height <= rearm_below) != (after.height <= rearm_below)
    return crossed or set(before.firing) != set(after.firing) or set(before.ended) != set(after.ended)


def _decided(memory: Memory, entry: Entry) -> Memory:
    verdict, action = _text(entry, "verdict"), _text(entry, "action")
    until = _number(entry, "until")
    if verdict == RECOMMENDED and until is not None:
        return _recommended(memory, entry, action, until)
    if verdict == DENIED and entry.body.get("reason") == BREAKER_OPEN and action == ROLLBACK and until is None:
        # without an end it was refused as one step back too many, not because the breaker was open already
        return memory if memory.tripped_at is not None else altered(memory, tripped_at=entry.at)
    if verdict == ALLOWED and action == UNDO:
        return altered(memory, acted_at=entry.at)
    return _allowed(memory, entry, action) if verdict == ALLOWED else memory


def _recommended(memory: Memory, entry: Entry, action: str, until: float) -> Memory:
    one = Recommendation(action, _text(entry, "release"), _text(entry, "target"), until, _text(entry, "condition"))
    known = _newest(memory.recommendations, _text(entry, "id"), one, RECOMMENDATIONS_KEPT, lambda one: one.until)
    return altered(memory, recommendations=known)


def _newest(kept: Mapping[str, T], name: str, value: T, limit: int, age: Callable[[T], Any]) -> Dict[str, T]:
    """`kept` with `value`, at most `limit`; what is the oldest by `age` is forgotten first.

    Never by the order in the mapping: that is lost where it is read back.
    """
    after = {**kept, name: value}
    while len(after) > limit:
        del after[min((other for other in after if other != name), key=lambda other: (age(after[other]), other))]
    return after


def _allowed(memory: Memory, entry: Entry, action: str) -> Memory:
    conditions = [_text(entry, "condition")]
    approved = _text(entry, "approved")
    recommendation = memory.recommendations.get(approved)
    if recommendation is not None:
        conditions.append(recommendation.condition)
        used = {**memory.recommendations, approved: altered(recommendation, used=True)}
        memory = altered(memory, recommendations=used)
    if action not in HEALING:
        return memory
    actions = (*memory.actions, entry.at)[-ACTIONS_KEPT:]
    memory = altered(memory, actions=actions, acted_at=entry.at)
    for name in conditions:
        if name.split(":", 1)[0] in LASTING:
            before = memory.condition(name)
            disarmed = altered(before, disarmed_at=entry.at, levels=before.levels[-1:])
            memory = altered(memory, conditions=_with_condition(memory.conditions, name, disarmed))
    return memory


def _approved(memory: Memory, entry: Entry) -> Memory:
    name = _text(entry, "decision")
    known = memory.recommendations.get(name)
    if known is None:
        return memory
    return altered(memory, recommendations={**memory.recommendations, name: altered(known, approved_by=entry.actor)})


def _paused(memory: Memory, entry: Entry) -> Memory:
    return altered(memory, pause=_pause(entry)) if entry.service else memory


def _pause(entry: Entry) -> Optional[Pause]:
    if entry.body.get("event") == RESUMED:
        return None
    return Pause(entry.actor, entry.at, _text(entry, "reason"), _number(entry, "until"))


def _opened(memory: Memory, entry: Entry) -> Memory:
    intent, kind = entry.body.get("intent"), _text(entry, "kind")
    action = intent.get("action") if isinstance(intent, Mapping) and kind == "action" else None
    if action in (ROLLBACK, FLAG_ON):
        kind = str(action)
    return altered(memory, running=Running(_text(entry, "rollout"), kind, entry.at))


def _went_on(memory: Memory, entry: Entry) -> Memory:
    running, state = memory.running, _text(entry, "state")
    if running is None or running.rollout != entry.body.get("rollout") or state in (OPEN, HELD):
        return memory
    if running.kind in (ROLLBACK, "action"):
        memory = _healed(memory, entry, running, state)
    elif running.kind != FLAG_ON:  # which heals nothing: however it ended, what it sets off may be acted on at once
        memory = _deployed(memory, entry, running) if state == DONE else altered(memory, acted_at=entry.at)
    return memory if state == UNRESOLVED else altered(memory, running=None)


def _deployed(memory: Memory, entry: Entry, running: Running) -> Memory:
    """A release passed: the breaker closes, and what alarms from now on begins anew, and may be acted on."""
    fresh = {name: _fresh(one, entry.at) for name, one in memory.conditions.items()}
    closed = altered(memory, failures=0, failed_at=None, tripped_at=None, steps_back=0, conditions=fresh)
    return altered(closed, changed_from=running.opened_at, changed_at=entry.at)


def _fresh(condition: Condition, at: float) -> Condition:
    firing = tuple(one for one in condition.firing if one != MORE)
    height = condition.height if firing else CALM
    return Condition(at if firing else None, None, ((at, height),), firing, condition.ended)


def _healed(memory: Memory, entry: Entry, running: Running, state: str) -> Memory:
    """An action ended: well, badly, or nobody can say, which leaves the breaker as it is."""
    outcome = entry.body.get("outcome")
    told: Mapping[str, object] = outcome if isinstance(outcome, Mapping) else {}
    verified = told.get("verified")
    verdict = verified.get("verdict") if isinstance(verified, Mapping) else None
    failed = state in (UNDONE, UNRESOLVED) or told.get("ok") is False or verdict == NOT_RECOVERED
    memory = altered(memory, acted_at=entry.at)
    if running.kind == ROLLBACK and state != UNDONE and not running.counted:
        memory = altered(memory, steps_back=memory.steps_back + 1, changed_from=running.opened_at, changed_at=entry.at)
    if failed:
        again = 0 if running.counted else 1
        counted = altered(running, counted=True)
        return altered(memory, failures=memory.failures + again, failed_at=entry.at, running=counted)
    if verdict == RECOVERED or (running.kind == "action" and told.get("ok") is True and verdict is None):
        return altered(memory, failures=0, failed_at=None, tripped_at=None)
    return memory


_FOLDS: Mapping[str, Callable[[Memory, Entry], Memory]] = {
    TRIGGER: _triggered,
    DECISION: _decided,
    APPROVAL: _approved,
    PAUSE: _paused,
    ROLLOUT: _opened,
    STATE: _went_on,
}


# --- all services


def fold_fleet(fleet: Fleet, entry: Entry) -> Fleet:
    """`fleet` after one more entry of whatever service."""
    if entry.kind == PAUSE and not entry.service:
        return altered(fleet, pause=_pause(entry))
    if entry.kind == DECISION and entry.body.get("verdict") == ALLOWED and entry.body.get("action") in HEALING:
        return altered(fleet, acted=_newest(fleet.acted, entry.service, entry.at, SERVICES_KEPT, float))
    if entry.kind == DECISION and entry.body.get("storm") is True and entry.body.get("page") is True:
        here = environment_of(entry.service)
        return altered(fleet, storms=_newest(fleet.storms, here, entry.at, SERVICES_KEPT, float))
    if entry.kind == TRIGGER and entry.body.get("kind") in LASTING:
        return _alarmed(fleet, entry)
    return fleet


def _alarmed(fleet: Fleet, entry: Entry) -> Fleet:
    name, service = shortened(_text(entry, "condition")), entry.service
    mine = fleet.alarming.get(service, {})
    if _active(entry) == (name in mine):
        return fleet
    if _active(entry):
        now = _newest(mine, name, entry.at, SIGNALS_KEPT, float)
    else:
        now = {other: at for other, at in mine.items() if other != name}
    if now:
        return altered(
            fleet, alarming=_newest(fleet.alarming, service, now, SERVICES_KEPT, lambda one: max(one.values()))
        )
    return altered(fleet, alarming={other: one for other, one in fleet.alarming.items() if other != service})


# --- entries, which a newer version may have written otherwise


def _text(entry: Entry, key: str) -> str:
    value = entry.body.get(key)
    return value if isinstance(value, str) else ""


def _number(entry: Entry, key: str) -> Optional[float]:
    value = entry.body.get(key)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _active(entry: Entry) -> bool:
    return entry.body.get("active") is not False


# --- documents read back


class _Reader:
    """One mapping of a kept document. Whatever is not as it was written raises a StoreError."""

    def __init__(self, what: str, kept: object) -> None:
        self.what = what
        if not isinstance(kept, Mapping):
            raise self.broken("it is not a mapping")
        self._left: Dict[str, object] = {str(key): value for key, value in kept.items()}

    def broken(self, why: str) -> StoreError:
        return StoreError(
            f"What the guard remembers of {self.what} cannot be read: {why}",
            mend="Check the ledger with ledger_verify; nothing is done automatically until it can be read",
        )

    def read(self, build: Callable[["_Reader"], T]) -> T:
        built = build(self)
        if self._left:
            raise self.broken(f"{sorted(self._left)[0]!r} is unknown")
        return built

    def _wrong(self, key: str) -> StoreError:
        return self.broken(f"{key!r} is not as it was written")

    def maybe(self, key: str) -> Optional[float]:
        value = self._left.pop(key, None)
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return None if value is None else float(value)
        raise self._wrong(key)

    def number(self, key: str) -> float:
        value = self.maybe(key)
        if value is None:
            raise self._wrong(key)
        return value

    def text(self, key: str) -> str:
        value = self._left.pop(key, None)
        if not isinstance(value, str):
            raise self._wrong(key)
        return value

    def flag(self, key: str) -> bool:
        value = self._left.pop(key, None)
        if not isinstance(value, bool):
            raise self._wrong(key)
        return value

    def count(self, key: str) -> int:
        value = self._left.pop(key, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key)
        return value

    def texts(self, key: str) -> Tuple[str, ...]:
        values = self._items(key)
        if not all(isinstance(one, str) for one in values):
            raise self._wrong(key)
        return tuple(str(one) for one in values)

    def numbers(self, key: str) -> Tuple[float, ...]:
        return self._numbers(key, self._items(key))

    def pairs(self, key: str) -> Tuple[Tuple[float, float], ...]:
        pairs = self._items(key)
        if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
            raise self._wrong(key)
        flat = self._numbers(key, [one for pair in pairs if isinstance(pair, (list, tuple)) for one in pair])
        return tuple(zip(flat[::2], flat[1::2]))

    def part(self, key: str, build: Callable[["_Reader"], T]) -> Optional[T]:
        value = self._left.pop(key, None)
        return None if value is None else _Reader(self.what, value).read(build)

    def table(self, key: str, build: Callable[["_Reader"], T]) -> Dict[str, T]:
        value = self._left.pop(key, {})
        if not isinstance(value, Mapping):
            raise self._wrong(key)
        return {str(name): _Reader(self.what, one).read(build) for name, one in value.items()}

    def times(self) -> Dict[str, float]:
        """All that is left, by name."""
        names, values = list(self._left), list(self._left.values())
        self._left = {}
        return dict(zip(names, self._numbers(names[0] if names else "", values)))

    def _numbers(self, key: str, values: List[object]) -> Tuple[float, ...]:
        found = tuple(float(one) for one in values if isinstance(one, (int, float)) and not isinstance(one, bool))
        if len(found) != len(values):
            raise self._wrong(key)
        return found

    def _items(self, key: str) -> List[object]:
        value = self._left.pop(key, ())
        if not isinstance(value, (list, tuple)):
            raise self._wrong(key)
        return list(value)


def _memory(kept: _Reader) -> Memory:
    return Memory(
        changed_from=kept.maybe("changed_from"),
        changed_at=kept.maybe("changed_at"),
        acted_at=kept.maybe("acted_at"),
        actions=kept.numbers("actions"),
        failures=kept.count("failures"),
        failed_at=kept.maybe("failed_at"),
        tripped_at=kept.maybe("tripped_at"),
        steps_back=kept.count("steps_back"),
        running=kept.part("running", _running),
        pause=kept.part("pause", _kept_pause),
        conditions=kept.table("conditions", _condition),
        recommendations=kept.table("recommendations", _recommendation),
    )


def _fleet(kept: _Reader) -> Fleet:
    acted, storms = kept.part("acted", _Reader.times), kept.part("storms", _Reader.times)
    pause, alarming = kept.part("pause", _kept_pause), kept.table("alarming", _Reader.times)
    return Fleet(pause, acted or {}, alarming, storms or {})


def _running(kept: _Reader) -> Running:
    return Running(kept.text("rollout"), kept.text("kind"), kept.number("opened_at"), kept.flag("counted"))


def _kept_pause(kept: _Reader) -> Pause:
    return Pause(kept.text("by"), kept.number("at"), kept.text("reason"), kept.maybe("until"))


def _condition(kept: _Reader) -> Condition:
    return Condition(
        since=kept.maybe("since"),
        disarmed_at=kept.maybe("disarmed_at"),
        levels=kept.pairs("levels"),
        firing=kept.texts("firing"),
        ended=kept.texts("ended"),
    )


def _recommendation(kept: _Reader) -> Recommendation:
    return Recommendation(
        action=kept.text("action"),
        release=kept.text("release"),
        target=kept.text("target"),
        until=kept.number("until"),
        condition=kept.text("condition"),
        approved_by=kept.text("approved_by"),
        used=kept.flag("used"),
    )
