# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a ledger lies in ConfigMaps: one *head*, and parts that are written once and never changed. Pure.

The head holds what is alive, one JSON document a line, so that `kubectl get configmap -o yaml` shows it: leases,
unfinished rollouts, notes, the newest entries. A section that grew large lies compressed in `binaryData` under the same
name. What is old or large lies in parts, which the head names with their SHA-256; a part that no head names is nothing.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from .._errors import StoreError
from .chain import GENESIS

Row = Dict[str, Any]
Object = Dict[str, Any]

VERSION = "3"
SECTIONS = ("leases", "rollouts", "commands", "notes", "told", "entries", "segments")
LEDGER = "selfheal.delivery/ledger"  # label on everything of one ledger: the head's name
PART = "selfheal.delivery/part"  # label: head | begun | segment | body
HEAD, BEGUN, SEGMENT, BODY = "head", "begun", "segment", "body"

# bytes of text; a ConfigMap takes 1 MiB of values
SHOWN = 128 * 1024  # a section above this is compressed
LIMIT = 1_000_000  # of what one object holds
REMEMBERED = 256  # transactions whose ids the head keeps
_COUNTS = ("commands", "rollouts", "segments", "transactions")


@dataclass(frozen=True)
class Counters:
    """The newest entry, and how many commands, rollouts, segments and transactions there ever were."""

    seq: int = 0
    hash: str = GENESIS
    commands: int = 0
    rollouts: int = 0
    segments: int = 0
    transactions: int = 0


@dataclass(frozen=True)
class Head:
    """The head as it was read. `texts` are its sections, `about` its metadata, `recent` the last transactions' ids."""

    about: Mapping[str, Any]
    texts: Mapping[str, str]
    counters: Counters
    recent: Tuple[str, ...]

    @property
    def version(self) -> str:
        return str(self.about.get("resourceVersion") or "")

    @property
    def uid(self) -> str:
        return str(self.about.get("uid") or "")

    def wrote(self, number: int, transaction: str) -> Optional[bool]:
        """Whether transaction `number` was this one; None when the head has forgotten it."""
        back = self.counters.transactions - number
        if back < 0:
            return False
        return self.recent[-1 - back] == transaction if back < len(self.recent) else None


def line(row: object) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False)


def rows_of(text: str, where: str) -> List[Row]:
    """The documents of a section; StoreError says where a broken one is."""
    if not text:
        return []
    lines = text.split("\n")
    try:
        found = json.loads(f"[{','.join(lines)}]")
        if len(found) == len(lines) and all(isinstance(row, dict) for row in found):
            return list(found)
    except ValueError:
        pass
    number = next((at for at, each in enumerate(lines, 1) if not _is_document(each)), len(lines))
    raise corrupt(where, f"line {number} is no JSON document")


def _is_document(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def corrupt(where: str, why: str) -> StoreError:
    return StoreError(
        f"The ledger's {where} is corrupt: {why}",
        mend="Restore a copy of the ledger's ConfigMaps, and find out who changed it",
        details={"where": where},
    )


# --- the head


def empty(about: Mapping[str, Any]) -> Head:
    return Head(about, dict.fromkeys(SECTIONS, ""), Counters(), ())


def labels(name: str, part: str) -> Dict[str, str]:
    return {"app.kubernetes.io/managed-by": "selfheal.delivery", LEDGER: name, PART: part}


def head_object(head: Head, transaction: str = "") -> Object:
    """The ConfigMap of `head`, as one more transaction; StoreError when it cannot be that large."""
    counters = {**vars(head.counters), "transactions": head.counters.transactions + bool(transaction)}
    recent = (*head.recent, transaction)[-REMEMBERED:] if transaction else head.recent
    data = {"layout": VERSION, "ledger": line(counters), "transactions": " ".join(recent)}
    binary: Dict[str, str] = {}
    sizes: Dict[str, int] = {}
    for section, text in head.texts.items():
        if len(text) > SHOWN:
            packed = zlib.compress(text.encode(), 1)
            binary[section], sizes[section] = b64encode(packed).decode(), len(packed)
        elif text:
            data[section], sizes[section] = text, len(text)
    if sum(sizes.values()) > LIMIT:
        raise _too_large(str(head.about.get("name")), sizes)
    about = {key: value for key, value in head.about.items() if key != "managedFields"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data, "binaryData": binary}


_SMALLER = {
    "leases": "Give it fewer services; each keeps its last lease for ever",
    "rollouts": "Let reconcile settle the rollouts that are unfinished",
    "commands": "Let reconcile settle the rollouts that are unfinished",
    "notes": "Give it fewer services",
    "segments": "Shorten the ledger's retention",
}


def _too_large(name: str, sizes: Mapping[str, int]) -> StoreError:
    largest = max(sizes, key=lambda section: sizes[section])
    shares = ", ".join(f"{section} {size // 1024} KiB" for section, size in sorted(sizes.items()))
    mend = _SMALLER.get(largest, "Shorten the ledger's retention")
    return StoreError(
        f"The ledger's head {name} would not fit into a ConfigMap (1 MiB): its {largest} are the largest of {shares};"
        " nothing was written",
        mend=f"{mend}; or keep the ledger in PostgreSQL",
        details={"largest": largest, "bytes": dict(sizes)},
    )


def read_head(found: Object, where: str) -> Head:
    """What `head_object` made; StoreError for another layout or a text that cannot be read, with its key."""
    about, data = found["metadata"], found.get("data") or {}
    version = data.get("layout")
    if version != VERSION:
        raise StoreError(
            f"The ledger's {where} has layout version {version or 'none'}, and this release knows version {VERSION}",
            mend="Use the release of this collection that wrote it, or name another ConfigMap",
            details={"where": where},
        )
    texts = {section: _section(found, section, where) for section in SECTIONS}
    return Head(about, texts, _counters(data.get("ledger"), where), tuple((data.get("transactions") or "").split()))


def _section(found: Object, section: str, where: str) -> str:
    packed = (found.get("binaryData") or {}).get(section)
    if packed is None:
        return str((found.get("data") or {}).get(section) or "")
    try:
        return zlib.decompress(b64decode(packed)).decode("ascii")
    except (ValueError, zlib.error) as error:
        raise corrupt(f"{where}, key {section!r}", "it cannot be decompressed") from error


def _counters(text: Optional[str], where: str) -> Counters:
    try:
        told = json.loads(text or "")
        counts = [told[name] for name in ("seq", *_COUNTS)]
        if all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
            return Counters(counts[0], str(told["hash"]), *counts[1:])
    except (ValueError, KeyError, TypeError):
        pass
    raise corrupt(f"{where}, key 'ledger'", "it does not say how far the ledger is")


# --- parts


@dataclass(frozen=True)
class Ref:
    """A part's name, and the SHA-256 of its text."""

    name: str
    sha256: str

    def row(self) -> Row:
        return {"name": self.name, "sha256": self.sha256}


def digest_of(text: str) -> str:
    return sha256(text.encode("ascii")).hexdigest()


def part_object(ledger: str, kind: str, name: str, text: str, what: str) -> Object:
    """The ConfigMap of a part; StoreError names `what` when it is too large for one."""
    packed = zlib.compress(text.encode("ascii"), 6)
    if len(packed) > LIMIT:
        raise StoreError(
            f"{what} takes {len(packed) // 1024} KiB even compressed, and a ConfigMap holds 1 MiB; nothing was written",
            mend="Divide the service's places, or keep the ledger in PostgreSQL",
            details={"bytes": len(packed)},
        )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels(ledger, kind)},
        "immutable": True,
        "binaryData": {"zlib": b64encode(packed).decode()},
    }


def part_text(found: Object, ref: Ref, where: str) -> str:
    """The text of a part; StoreError when it is not the one that the head names."""
    try:
        text = zlib.decompress(b64decode(found["binaryData"]["zlib"])).decode("ascii")
        if digest_of(text) == ref.sha256:
            return text
    except (KeyError, TypeError, ValueError, zlib.error):
        pass
    raise corrupt(where, "it is not what was written: its SHA-256 is another")


# --- segments: rows that left the head, and what the head still knows of them


@dataclass(frozen=True)
class Segment:
    """Old rows. The head's line about it says which entries it has, and by fingerprints which rows it may have."""

    entries: Tuple[Row, ...] = ()
    rollouts: Tuple[Row, ...] = ()
    commands: Tuple[Row, ...] = ()
    told: Tuple[Row, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries or self.rollouts or self.commands or self.told)

    def text(self) -> str:
        return line(vars(self))

    def index(self, ref: Ref, number: int) -> Row:
        """The head's line about it."""
        return {
            "parts": {"segment": ref.row()},
            "number": number,
            "first": self.entries[0]["seq"] if self.entries else 0,
            "last": self.entries[-1]["seq"] if self.entries else 0,
            "rollouts": fingerprints((row["id"],) for row in self.rollouts),
            "services": fingerprints((row["service"],) for row in self.rollouts),
            "commands": max((row["seq"] for row in self.commands), default=0),
            "told": fingerprints((row["service"], row["trigger"]) for row in self.told),
            "told_from": min((row["seq"] for row in self.told), default=0),
        }


def read_segment(text: str, where: str) -> Segment:
    try:
        found = json.loads(text)
        return Segment(*(tuple(found[name]) for name in ("entries", "rollouts", "commands", "told")))
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(where, "it cannot be read") from error


def fingerprints(keys: Iterable[Tuple[str, ...]]) -> str:
    """4 bytes for each different key, in base64."""
    return b64encode(b"".join(sorted({_fingerprint(key) for key in keys}))).decode()


def may_have(index: str, *key: str) -> bool:
    """Whether `key` can be among the fingerprints; once in millions it is not although it can be."""
    packed, wanted = b64decode(index), _fingerprint(key)
    at = packed.find(wanted)
    while at % 4 and at > 0:  # a hit across two of them is none
        at = packed.find(wanted, at + 1)
    return at >= 0


def _fingerprint(key: Tuple[str, ...]) -> bytes:
    return sha256(json.dumps(key).encode()).digest()[:4]
