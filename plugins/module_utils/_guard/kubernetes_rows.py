# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows of a ledger in ConfigMaps: one head in memory, changed there, and then written by the store in one request.

Sections are only decoded when a piece of work asks for them. Rows that left the head are looked for in the segments
that may have them, newest first: a row that is in the head again, or in a newer segment, is the one that counts.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Sequence, Set, Tuple

from .._errors import OptionError, StoreError
from . import chain
from .kubernetes_layout import Head, Ref, Row, Segment, corrupt, line, may_have, read_segment, rows_of
from .model import UNFINISHED, Command, Entry, Lease, Rollout

# bytes of text
_BODY = 4 * 1024  # an intent, progress, outcome or note above this is a part of its own
_SEGMENT = 1024 * 1024  # what one segment is filled to
_MERGED = 16  # segments, each smaller than half of that, are merged when there are so many
# a section above the first number is moved into segments, but for the newest rows, of the second size
_ENTRIES = (40 * 1024, 10 * 1024)
_CLOSED = (24 * 1024, 6 * 1024)
_TOLD = (24 * 1024, 6 * 1024)

_BODIES = ("intent", "progress", "outcome")
_KEYS: Mapping[str, Tuple[str, ...]] = {
    "leases": ("service",),
    "rollouts": ("id",),
    "commands": ("seq",),
    "notes": ("key",),
    "told": ("service", "trigger"),
    "segments": ("number",),
    "entries": ("seq",),
}
_TEXTS: Mapping[str, str] = {
    "leases": "service holder",
    "rollouts": "id service release kind state by",
    "commands": "service command by reason rollout",
    "notes": "key",
    "told": "service trigger told",
    "segments": "rollouts services told",
}
_NUMBERS: Mapping[str, str] = {
    "leases": "token expires",
    "rollouts": "number token opened_at updated_at",
    "commands": "seq at",
    "notes": "",
    "told": "seq",
    "segments": "number bytes first last commands told_from",
}

Key = Tuple[object, ...]
Table = Dict[Key, Row]


class Parts(Protocol):
    """Where the texts are that are too large or too old for the head."""

    def load(self, ref: Ref) -> str:
        """StoreError when it is missing or was altered."""

    def keep(self, kind: str, text: str, what: str) -> Ref:
        """Remember it, to be written before the head."""


class HeadRows:
    """`Rows` over `head`; `time` is the store's clock. `finish` is what has to be written."""

    lag = 0  # the head is written as a whole

    def __init__(self, head: Head, parts: Parts, clock: Callable[[], Optional[float]], where: str) -> None:
        self._head, self._parts, self._clock, self._where = head, parts, clock, where
        self._counters = head.counters
        self._tables: Dict[str, Table] = {}
        self._written: Dict[str, Dict[Key, str]] = {}  # the lines of those rows
        self._lines: Optional[List[str]] = None  # of the entries
        self._changed: Set[str] = set()
        self.was_cut = False
        self.named_before: Set[str] = set()  # the parts that the sections which were looked at named

    def _table(self, section: str) -> Table:
        if section not in self._tables:
            where = f"{self._where}, key {section!r}"
            text = self._head.texts[section]
            rows = rows_of(text, where)
            for number, row in enumerate(rows, 1):
                if not _sound(section, row):
                    raise corrupt(where, f"line {number} is not written as the ledger writes")
            self._tables[section] = {_key(section, row): row for row in rows}
            if len(self._tables[section]) < len(rows):
                raise corrupt(where, "two lines say the same thing")
            self._written[section] = dict(zip(self._tables[section], text.split("\n") if text else ()))
            self.named_before |= {name for row in rows for name in _named(row)}
        return self._tables[section]

    def _put(self, section: str, row: Row) -> None:
        _refuse_broken(row)
        key = _key(section, row)
        self._table(section)[key] = row
        self._written[section][key] = line(row)
        self._changed.add(section)

    def _drop(self, section: str, rows: Iterable[Row]) -> None:
        for row in rows:
            key = _key(section, row)
            self._table(section).pop(key)
            self._written[section].pop(key)
            self._changed.add(section)

    def _segments(self) -> List[Row]:
        """What the head knows of each, oldest first."""
        return sorted(self._table("segments").values(), key=_by_number)

    def _segment(self, index: Row) -> Segment:
        part = index["parts"]["segment"]
        ref = Ref(str(part["name"]), str(part["sha256"]))
        return read_segment(self._parts.load(ref), f"segment {ref.name}")

    def expect(self, service: str, trigger: str, notes: Sequence[str]) -> None:
        """Nothing to do: the head has them all."""

    # --- leases

    def lease(self, service: str) -> Optional[Lease]:
        row = self._table("leases").get((service,))
        return _as_lease(row) if row else None

    def leases(self, now: float) -> Sequence[Lease]:
        found = sorted(map(_as_lease, self._table("leases").values()), key=lambda lease: lease.service)
        return [lease for lease in found if lease.expires > now]

    def put_lease(self, lease: Lease) -> None:
        self._put("leases", asdict(lease))

    # --- rollouts

    def rollout(self, rollout_id: str) -> Optional[Rollout]:
        row = self._rollout(rollout_id)
        return self._as_rollout(row) if row else None

    def unfinished(self, service: str) -> Sequence[Rollout]:
        return [self._as_rollout(row) for row in self._here(service) if row["state"] in UNFINISHED]

    def last_rollouts(self, service: str, limit: int) -> Sequence[Rollout]:
        found: Dict[str, Row] = {row["id"]: row for row in self._here(service)}
        for index in reversed(self._segments()):
            if len(found) >= limit:
                break
            if index["rollouts"] and (not service or may_have(index["services"], service)):
                for row in self._segment(index).rollouts:
                    if service in ("", row["service"]):
                        found.setdefault(row["id"], row)
        newest = sorted(found.values(), key=_by_number, reverse=True)
        return [self._as_rollout(row) for row in newest[:limit]]

    def all_rollouts(self) -> Iterable[Rollout]:
        found: Dict[str, Row] = {}
        for index in self._segments():
            if index["rollouts"]:
                found.update((row["id"], row) for row in self._segment(index).rollouts)
        found.update((row["id"], row) for row in self._here(""))
        return [self._as_rollout(row) for row in sorted(found.values(), key=_by_number)]

    def add_rollout(self, rollout: Rollout) -> None:
        if self._rollout(rollout.id) is not None:
            raise StoreError(f"The ledger has a rollout {rollout.id} already")
        self._counters = replace(self._counters, rollouts=self._counters.rollouts + 1)
        row: Row = {**asdict(replace(rollout, intent={}, progress={}, outcome={})), "number": self._counters.rollouts}
        for body in _BODIES:
            self._put_body(row, body, chain.canonical(getattr(rollout, body)), f"The {body} of rollout {rollout.id}")
        self._put("rollouts", row)

    def put_rollout(self, rollout: Rollout) -> None:
        before = self._rollout(rollout.id)
        if before is None:
            raise StoreError(f"The ledger has no rollout {rollout.id}")
        row = {**before, "state": rollout.state, "token": rollout.token, "updated_at": rollout.updated_at}
        self._put_body(row, "outcome", chain.canonical(rollout.outcome), f"The outcome of rollout {rollout.id}")
        self._put("rollouts", row)

    def put_progress(
        self, rollout_id: str, service: str, progress: Mapping[str, object], token: int, now: float
    ) -> bool:
        before = self._table("rollouts").get((rollout_id,))
        if before is None or before["service"] != service or before["state"] not in UNFINISHED:
            return False
        row = {**before, "token": token, "updated_at": now}
        self._put_body(row, "progress", chain.canonical(progress), f"The progress of rollout {rollout_id}")
        self._put("rollouts", row)
        return True

    def _here(self, service: str) -> List[Row]:
        """Those in the head, oldest first."""
        rows = [row for row in self._table("rollouts").values() if service in ("", row["service"])]
        return sorted(rows, key=_by_number)

    def _rollout(self, rollout_id: str) -> Optional[Row]:
        row = self._table("rollouts").get((rollout_id,))
        if row is not None:
            return row
        for index in reversed(self._segments()):
            if may_have(index["rollouts"], rollout_id):
                for row in self._segment(index).rollouts:
                    if row["id"] == rollout_id:
                        return dict(row)
        return None

    def _as_rollout(self, row: Row) -> Rollout:
        try:
            name, service, release, kind, state, by = (str(row[each]) for each in _TEXTS["rollouts"].split())
            intent, progress, outcome = (self._body(row, body) for body in _BODIES)
            numbers = int(row["token"]), float(row["opened_at"]), float(row["updated_at"])
            return Rollout(name, service, release, kind, state, *numbers, intent, progress, outcome, by)
        except (KeyError, TypeError, ValueError) as error:
            raise corrupt(f"rollout {row.get('id')}", f"it cannot be read ({error!r})") from error

    # --- documents that may be large

    def _put_body(self, row: Row, name: str, text: str, what: str) -> None:
        parts: Dict[str, Row] = {key: ref for key, ref in row.get("parts", {}).items() if key != name}
        row.pop(name, None)
        row.pop("parts", None)
        if len(text) > _BODY:
            parts[name] = self._parts.keep("body", text, what).row()
        else:
            row[name] = chain.decode(text)
        if parts:
            row["parts"] = parts

    def _body(self, row: Row, name: str) -> Row:
        ref = row.get("parts", {}).get(name)
        return chain.decode(self._parts.load(Ref(ref["name"], ref["sha256"]))) if ref else dict(row[name])

    def named(self) -> Set[str]:
        """The parts that the sections name which were looked at."""
        return {name for table in self._tables.values() for row in table.values() for name in _named(row)}

    def all_named(self) -> Set[str]:
        for section in _TEXTS:
            self._table(section)
        return self.named()

    # --- people's commands

    def commands(self, service: str, after: int, rollout: str) -> Sequence[Command]:
        rows: List[Row] = []
        if not rollout or (rollout,) not in self._table("rollouts"):
            for index in self._segments():
                if index["commands"] > after:
                    rows += self._segment(index).commands
        rows += self._table("commands").values()
        found = [row for row in rows if row["seq"] > after and service in ("", row["service"])]
        said = [_as_command(row) for row in found if rollout in ("", row["rollout"])]
        return sorted(said, key=lambda command: command.seq)

    def add_command(self, command: Command) -> Command:
        self._counters = replace(self._counters, commands=self._counters.commands + 1)
        kept = replace(command, seq=self._counters.commands)
        self._put("commands", asdict(kept))
        return kept

    def take_commands(self, rollout: str, now: float) -> None:
        for row in list(self._table("commands").values()):
            if row["rollout"] == rollout and row.get("taken") is None:
                self._put("commands", {**row, "taken": now})

    # --- the chain

    def newest(self) -> Tuple[int, str]:
        return self._counters.seq, self._counters.hash

    def add_entry(self, entry: Entry, body: str = "", trigger: str = "", told: str = "") -> None:
        row = {**asdict(replace(entry, body={})), "body": chain.decode(body or chain.canonical(entry.body))}
        _refuse_broken(row)
        self._entry_lines().append(line(row))
        self._counters = replace(self._counters, seq=entry.seq, hash=entry.hash)
        self._changed.add("entries")
        if told:
            self._put("told", {"service": entry.service, "trigger": trigger, "told": told, "seq": entry.seq})

    def entries(self, service: str, after: int, limit: int) -> Sequence[Entry]:
        found: List[Entry] = []
        for row in self._forward(after):
            if len(found) >= limit:
                break
            if row["seq"] > after and service in ("", row["service"]):
                found.append(self._as_entry(row))
        return found

    def last_entries(self, service: str, limit: int) -> Sequence[Entry]:
        found: List[Entry] = []
        for row in self._backward():
            if len(found) >= limit:
                break
            if service in ("", row["service"]):
                found.append(self._as_entry(row))
        return found

    def all_entries(self) -> Iterable[Entry]:
        return map(self._as_entry, self._forward(0))

    def _entry_lines(self) -> List[str]:
        if self._lines is None:
            text = self._head.texts["entries"]
            self._lines = text.split("\n") if text else []
        return self._lines

    def _forward(self, after: int) -> Iterator[Row]:
        """The entries' rows, from one at or before the first that follows `after`."""
        for index in self._segments():
            if index["last"] > after:
                yield from self._segment(index).entries
        yield from map(self._entry_row, self._entry_lines())

    def _backward(self) -> Iterator[Row]:
        yield from map(self._entry_row, reversed(self._entry_lines()))
        for index in reversed(self._segments()):
            if index["last"]:
                yield from reversed(self._segment(index).entries)

    def _entry_row(self, text: str) -> Row:
        where = f"{self._where}, key 'entries'"
        row = rows_of(text, where)[0]
        if line(row) != text or not {"seq", "service"} <= set(row):
            raise corrupt(where, f"entry {row.get('seq')} is not written as the ledger writes")
        return row

    def _as_entry(self, row: Row) -> Entry:
        try:
            texts = {name: str(row[name]) for name in ("service", "kind", "actor", "prev", "hash")}
            return Entry(seq=int(row["seq"]), at=float(row["at"]), body=dict(row["body"]), **texts)
        except (KeyError, TypeError, ValueError) as error:
            raise corrupt(f"entry {row.get('seq')}", f"it cannot be read ({error!r})") from error

    # --- triggers that were decided on, and small documents

    def told(self, service: str, trigger: str) -> Optional[str]:
        row = self._table("told").get((service, trigger))
        if row is not None:
            return str(row["told"])
        for index in reversed(self._segments()):
            if may_have(index["told"], service, trigger):
                for row in self._segment(index).told:
                    if (row["service"], row["trigger"]) == (service, trigger):
                        return str(row["told"])
        return None

    def all_told(self) -> Mapping[Tuple[str, str], str]:
        rows: List[Row] = []
        for index in self._segments():
            if index["told"]:
                rows += self._segment(index).told
        rows += self._table("told").values()
        return {(row["service"], row["trigger"]): str(row["told"]) for row in rows}

    def note(self, key: str) -> Mapping[str, object]:
        row = self._table("notes").get((key,))
        return self._body(row, "value") if row else {}

    def put_note(self, key: str, value: Mapping[str, object]) -> None:
        row: Row = {"key": key}
        self._put_body(row, "value", chain.written(value), f"The note {key!r}")
        if self._table("notes").get((key,)) != row:
            self._put("notes", row)

    def notes(self, prefix: str) -> Mapping[str, Mapping[str, object]]:
        rows = sorted((row for row in self._table("notes").values() if row["key"].startswith(prefix)), key=_by_key)
        return {row["key"]: self._body(row, "value") for row in rows}

    # --- the store itself

    def time(self) -> Optional[float]:
        return self._clock()

    def cut(self, seq: int, rollouts: Sequence[str]) -> None:
        gone = set(rollouts)
        self.was_cut = True
        kept = [text for text in self._entry_lines() if self._entry_row(text)["seq"] > seq]
        if len(kept) < len(self._entry_lines()):
            self._lines = kept
            self._changed.add("entries")
        self._drop("rollouts", [row for row in self._here("") if row["id"] in gone])
        self._drop("commands", [row for row in self._table("commands").values() if row["rollout"] in gone])
        self._drop("told", [row for row in self._table("told").values() if row["seq"] <= seq])
        for index in self._segments():
            doomed = any(may_have(index["rollouts"], name) for name in gone)
            if 0 < index["first"] <= seq or doomed or 0 < index["told_from"] <= seq:
                self._cut_segment(index, seq, gone)

    def _cut_segment(self, index: Row, seq: int, gone: Set[str]) -> None:
        before = self._segment(index)
        after = Segment(
            tuple(row for row in before.entries if row["seq"] > seq),
            tuple(row for row in before.rollouts if row["id"] not in gone),
            tuple(row for row in before.commands if row["rollout"] not in gone),
            tuple(row for row in before.told if row["seq"] > seq),
        )
        if after == before:
            return
        self._drop("segments", [index])
        if after:
            self._put_segment(after, int(index["number"]))

    # --- what has to be written

    def finish(self) -> Optional[Head]:
        """The new head, with what is too old or too much moved into segments; None when nothing was changed."""
        if not self._changed:
            return None
        self._spill()
        texts = dict(self._head.texts)
        for section in self._changed:
            texts[section] = "\n".join(self._lines_of(section))
        return Head(self._head.about, texts, self._counters, self._head.recent)

    def _lines_of(self, section: str) -> List[str]:
        return self._entry_lines() if section == "entries" else list(self._written[section].values())

    def _spill(self) -> None:
        entries, closed, told = self._old_entries(), self._old_rollouts(), self._old_told()
        rows = [("entries", row) for row in entries] + [("told", row) for row in told]
        rows += [("rollouts", self._inlined(row)) for row in closed]
        gone = {row["id"] for row in closed}
        said = [row for row in self._table("commands").values() if row["rollout"] in gone] if gone else []
        self._drop("rollouts", closed)
        self._drop("commands", said)
        self._drop("told", told)
        for filled in _filled([*rows, *(("commands", row) for row in said)]):
            self._counters = replace(self._counters, segments=self._counters.segments + 1)
            self._put_segment(filled, self._counters.segments)
        if "segments" in self._changed:
            self._merge()

    def _merge(self) -> None:
        """Make one of the newest segments when many are small: the head's list of them stays short."""
        small: List[Row] = []
        for index in reversed(self._segments()):
            if index["bytes"] >= _SEGMENT // 2:
                break
            small.insert(0, index)
        if len(small) < _MERGED:
            return
        latest: Dict[Key, Tuple[str, Row]] = {}
        for index in small:
            segment = self._segment(index)
            for kind, rows in vars(segment).items():
                latest.update(((kind, *_key(kind, row)), (kind, row)) for row in rows)
        self._drop("segments", small)
        filled = list(_filled(latest.values()))
        for index, segment in zip(small[-len(filled) :], filled):
            self._put_segment(segment, int(index["number"]))

    def _put_segment(self, segment: Segment, number: int) -> None:
        first = segment.entries[0]["seq"] if segment.entries else 0
        text = segment.text()
        ref = self._parts.keep("segment", text, f"The ledger's segment from entry {first} on")
        self._put("segments", {**segment.index(ref, number), "bytes": len(text)})

    def _inlined(self, row: Row) -> Row:
        """The row with everything in it: a closed rollout's bodies go where it goes."""
        bodies = {body: self._body(row, body) for body in _BODIES}
        return {**{key: value for key, value in row.items() if key != "parts"}, **bodies}

    def _old_entries(self) -> List[Row]:
        if "entries" not in self._changed:
            return []
        lines = self._entry_lines()
        old = _old(lines, *_ENTRIES)
        self._lines = lines[old:]
        return [self._entry_row(text) for text in lines[:old]]

    def _old_rollouts(self) -> List[Row]:
        if "rollouts" not in self._changed:
            return []
        closed = [row for row in self._here("") if row["state"] not in UNFINISHED]
        return closed[: _old(self._lines_for("rollouts", closed), *_CLOSED)]

    def _old_told(self) -> List[Row]:
        if "told" not in self._changed:
            return []
        rows = sorted(self._table("told").values(), key=lambda row: int(row["seq"]))
        return rows[: _old(self._lines_for("told", rows), *_TOLD)]

    def _lines_for(self, section: str, rows: Iterable[Row]) -> List[str]:
        written = self._written[section]
        return [written[_key(section, row)] for row in rows]


def _key(section: str, row: Row) -> Key:
    return tuple(row[name] for name in _KEYS[section])


def _sound(section: str, row: Row) -> bool:
    """Whether the row has what rows of its section have."""
    texts, numbers = _TEXTS[section].split(), _NUMBERS[section].split()
    return all(isinstance(row.get(name), str) for name in texts) and all(
        isinstance(row.get(name), (int, float)) for name in numbers
    )


def _named(row: Row) -> Iterator[str]:
    """The parts that it names."""
    for ref in row.get("parts", {}).values():
        yield str(ref["name"])


def _as_lease(row: Row) -> Lease:
    return Lease(row["service"], row["holder"], int(row["token"]), float(row["expires"]))


def _as_command(row: Row) -> Command:
    said = (row["service"], row["command"], row["by"], row["reason"])
    return Command(int(row["seq"]), *said, float(row["at"]), row.get("taken"), row["rollout"])


def _by_number(row: Row) -> int:
    return int(row["number"])


def _by_key(row: Row) -> str:
    return str(row["key"])


def _old(lines: Sequence[str], most: int, kept: int) -> int:
    """How many of `lines`, from the oldest on, have to go: none up to `most`, else all but the newest up to `kept`."""
    if sum(map(len, lines)) <= most:
        return 0
    left, size = len(lines), 0
    while left and size + len(lines[left - 1]) <= kept:
        left -= 1
        size += len(lines[left])
    return left


def _filled(rows: Iterable[Tuple[str, Row]]) -> Iterator[Segment]:
    """Segments with these rows, each filled up to `_SEGMENT`; a row that is larger has one of its own."""
    filled: Dict[str, List[Row]] = {}
    size = 0
    for kind, row in rows:
        more = len(line(row))
        if filled and size + more > _SEGMENT:
            yield Segment(**{name: tuple(each) for name, each in filled.items()})
            filled, size = {}, 0
        filled.setdefault(kind, []).append(row)
        size += more
    if filled:
        yield Segment(**{name: tuple(each) for name, each in filled.items()})


def _refuse_broken(row: Row) -> None:
    """As every store: text that UTF-8 cannot carry is refused (inside of bodies it is only escapes)."""
    try:
        "".join(value for value in row.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError as error:
        raise OptionError("The ledger cannot keep a text that is not valid Unicode") from error
