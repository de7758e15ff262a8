# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hash chain of the ledger, and the one JSON in which everything is kept. Pure: the same for every store.

Each entry's hash is SHA-256 over the hash of the entry before it and the canonical JSON of the entry itself, so that
an entry that was changed, removed, moved or slipped in breaks the chain where it happened. The chain shows tampering
and does not prevent it: whoever can write the whole store can rewrite the whole chain, unless its head is kept
elsewhere.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from hashlib import sha256
from typing import Any, Dict, Iterable, Mapping, Optional, Sequence, Tuple

from .._errors import OptionError
from .model import OPEN, RETENTION, ROLLOUT, STATE, Entry, Rollout

GENESIS = "0" * 64  # what the first entry names as the hash before it
MASK = "***"
# the last word decides: `bearer_token` and `clientSecret` are secrets, `password_file` is a path
_SECRET = re.compile(
    r"(password|passwd|passphrase|secret|token|authorization|bearer|api[-_]?key|private[-_]?key|cookie)$", re.I
)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_Where = Tuple[Any, ...]  # (where its parent is, its key or index); () is the whole: only an error needs it in words


def canonical(value: object) -> str:
    """`value` as JSON: ASCII, sorted keys, no spaces; what is not finite is null; what looks like a secret is masked.

    OptionError names the first part that JSON cannot carry.
    """
    return written(_plain(value, ()))


# one encoder for all: making one costs as much as a text; it need not look for circles where `_plain` found none
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False).encode


def written(value: object) -> str:
    """As `canonical`, of what that wrote before and `decode` read: nothing in it has to be masked again."""
    return _encode(value)


def masked(text: str) -> str:
    """As `canonical` keeps it: without what a URL names its user by."""
    return _USERINFO.sub(MASK, text) if "://" in text else text


def _plain(value: object, where: _Where) -> object:
    if isinstance(value, str):
        return masked(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (dict, Mapping)):  # the check of a dict is the quick one
        return _members(value, where)
    if isinstance(value, (list, tuple)):
        return [_plain(member, (where, index)) for index, member in enumerate(value)]
    what = _named(where)
    raise OptionError(f"The ledger cannot keep {what}: it is of type {type(value).__name__}, which JSON does not know")


def _members(value: Mapping[Any, object], where: _Where) -> Dict[str, object]:
    plain: Dict[str, object] = dict(value)  # most of it is plain already
    for key, member in plain.items():
        kind = type(member)
        if kind is str:
            if "://" in member:  # type: ignore[operator]
                plain[key] = _plain(member, where)
        elif kind not in _SIMPLE:
            plain[key] = _plain(member, (where, key))
    for special in _special(tuple(plain)):
        if not isinstance(special, str):
            raise OptionError(f"The ledger cannot keep {_named(where)}: its key {special!r} is not a string")
        if isinstance(plain[special], str) and plain[special]:
            plain[special] = MASK
    return plain


_SIMPLE = frozenset({int, bool, type(None)})


@lru_cache(maxsize=1024)
def _special(keys: Tuple[object, ...]) -> Tuple[object, ...]:
    """Those that are no strings, or look like a secret's. The same keys come together again and again."""
    return tuple(key for key in keys if not isinstance(key, str) or _SECRET.search(key))


def _named(where: _Where) -> str:
    """`where` as people write it: steps[0].places."""
    names = ""
    while where:
        where, last = where
        names = (f"[{last}]" if isinstance(last, int) else f".{last}") + names
    return names.lstrip(".") or "this"


def decode(text: str) -> Dict[str, object]:
    """What `canonical` made of a mapping; ValueError when it is no mapping any more."""
    value: object = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value


def digest(entry: Entry) -> str:
    """The hash that `entry` must have: hexadecimal SHA-256 over `prev` and the canonical JSON of the rest."""
    about = entry.seq, entry.at, entry.service, entry.kind, entry.actor
    return _digest(entry.prev, *about, canonical(entry.body))


def _digest(prev: str, seq: int, at: float, service: str, kind: str, actor: str, body: str) -> str:
    """As `digest`, with the body written already: each part put in its place is half the work of a whole document."""
    when = repr(at) if math.isfinite(at) else "null"
    text = '%s{"actor":%s,"at":%s,"body":%s,"kind":%s,"seq":%d,"service":%s}'
    whole = text % (prev, _name(actor), when, body, _name(kind), seq, _name(service))
    return sha256(whole.encode("ascii", "backslashreplace")).hexdigest()


@lru_cache(maxsize=1024)
def _name(name: str) -> str:
    """As `canonical`: there are few of them, and they come again and again."""
    return canonical(name)


def link(seq: int, prev: str, *, at: float, service: str, kind: str, actor: str, body: Mapping[str, object]) -> Entry:
    """The entry number `seq`, which follows the one with the hash `prev` (GENESIS for the first)."""
    return linked(seq, prev, at, service, kind, actor, body)[0]


def linked(
    seq: int, prev: str, at: float, service: str, kind: str, actor: str, body: Mapping[str, object]
) -> Tuple[Entry, str]:
    """As `link`, and the entry's body as it was written, so that a store need not write it again."""
    plain = _members(body, ())
    at, text = float(at), written(plain)
    own = _digest(prev, seq, at, service, kind, actor, text)
    return Entry(seq, at, service, kind, actor, plain, prev, own), text


def base(entries: Sequence[Entry]) -> Tuple[int, str, Mapping[str, object]]:
    """Where the kept part of the chain begins: seq and hash of the last removed entry, and what is known of it.

    (0, GENESIS, {}) when nothing was removed; else the body of the newest `retention` entry, which alone says so.
    """
    for entry in reversed(entries):
        if entry.kind == RETENTION:
            through = entry.body.get("through")
            return (through if isinstance(through, int) else 0), str(entry.body.get("hash")), entry.body
    return 0, GENESIS, {}


def first_break(entries: Sequence[Entry], kept: str = "") -> Optional[str]:
    """None when `entries`, all that are kept, form a chain that contains the head `kept`; else why not."""
    seq, prev, _known = base(entries)
    found = kept in ("", GENESIS, prev)
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            return f"Entry {seq} is missing: entry {entry.seq} follows entry {seq - 1}."
        if entry.prev != prev:
            return f"Entry {seq} does not follow entry {seq - 1}: it names another hash before it."
        if digest(entry) != entry.hash:
            return f"Entry {seq} was changed after it had been written."
        prev = entry.hash
        found = found or prev == kept
    if not found:
        return (
            f"The chain ends at entry {seq} without the head {kept[:12]}… kept elsewhere: it was cut or rewritten, or "
            "the head is older than what retention removed."
        )
    return None


def first_lie(entries: Sequence[Entry], rollouts: Iterable[Rollout]) -> Optional[str]:
    """None when the rollouts are what the chain says of them, else one sentence that names the first that is not.

    A rollout's row authorises its undo, and its outcome says whether it goes on; only the chain is protected: the row
    must not say anything else.
    """
    intents, states, outcomes = _recorded(base(entries)[2])
    for entry in entries:
        name = str(entry.body.get("rollout"))
        if entry.kind == ROLLOUT:
            intents[name] = fingerprint(entry.body)
        if entry.kind in (ROLLOUT, STATE):
            states[name] = entry.body.get("state")
            outcomes[name] = outcome_print(entry)
    for rollout in rollouts:
        if intents.pop(rollout.id, "") != fingerprint(opening(rollout)):
            return f"The intent of rollout {rollout.id} is not the one that was recorded when it was opened."
        if states[rollout.id] != rollout.state:
            return f"Rollout {rollout.id} is {rollout.state}, but the last entry about it says {states[rollout.id]}."
        if outcomes[rollout.id] not in (None, fingerprint(rollout.outcome)):
            return f"The outcome of rollout {rollout.id} is not the one that the last entry about it says."
    for name in intents:
        return f"Rollout {name} was recorded and is gone."
    return None


def _recorded(known: Mapping[str, object]) -> Tuple[Dict[str, str], Dict[str, object], Dict[str, object]]:
    """What a retention entry says of the rollouts that stayed while their entries were removed.

    An older one says nothing of their outcomes, which is None here.
    """
    stayed = known.get("stayed")
    rows = [(str(name), row) for name, row in stayed.items()] if isinstance(stayed, Mapping) else []
    intents = {name: str(row.get("opening")) for name, row in rows}
    return intents, {name: row.get("state") for name, row in rows}, {name: row.get("outcome") for name, row in rows}


def outcome_print(entry: Entry) -> str:
    """The fingerprint of the outcome that an entry of kind `rollout` or `state` gives its rollout."""
    outcome = entry.body.get("outcome")
    return fingerprint(outcome if isinstance(outcome, Mapping) else {})


def fingerprint(body: Mapping[str, object]) -> str:
    """SHA-256 of a body as the ledger writes it."""
    return sha256(canonical(body).encode("ascii", "backslashreplace")).hexdigest()


def opening(rollout: Rollout) -> Dict[str, object]:
    """The body of the entry that records a rollout's intent."""
    return {
        "rollout": rollout.id,
        "service": rollout.service,
        "release": rollout.release,
        "kind": rollout.kind,
        "state": OPEN,
        "intent": rollout.intent,
    }
