# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a change of a flag ended: its status, the sentence for a person, the diff, and nothing that is secret. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Sequence
from urllib.parse import quote

from .._guard.chain import MASK
from .model import EFFECTIVE, NOT_EFFECTIVE, ON, PENDING, UNVERIFIED, Served, State, Where, Wish
from .verify import Seen, said, said_share

_CONTROLS = dict.fromkeys((*range(32), *range(127, 160), 0x2028, 0x2029), " ")
_SHORTEST_SECRET = 4  # characters: anything shorter is found in every other word


@dataclass
class Record:
    """What is known of one change so far.

    `call_took` is seconds that calls to management took, `called_at` when the last one that set or asked it ended.
    """

    where: Where
    wish: Wish
    dry: bool = False
    verify: bool = True
    before: Optional[State] = None
    after: Optional[State] = None
    served_before: Optional[Served] = None
    seen: Optional[Seen] = None
    pending: str = ""
    differs: bool = False
    changed: bool = False
    call_took: float = 0.0
    called_at: float = 0.0
    waited: float = 0.0
    warnings: List[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.pending:
            return PENDING
        if self.seen is None:
            return UNVERIFIED
        if self.seen.verdict.met:
            return EFFECTIVE
        if self.after is not None and self.after.pending and not self.dry:
            return PENDING
        return UNVERIFIED if self.seen.verdict.met is None else NOT_EFFECTIVE

    @property
    def failed(self) -> bool:
        if self.dry or self.status == EFFECTIVE:
            return False
        return self.status != UNVERIFIED or self.verify

    def as_dict(self) -> Dict[str, Any]:
        """The result, as the module returns it."""
        served = self.seen.served if self.seen else Served(known=False, why="nobody was asked")
        effective = self.seen is not None and self.status == EFFECTIVE and not (self.dry and self.differs)
        told: Dict[str, Any] = {
            "changed": self.differs if self.dry else self.changed,
            "status": self.status,
            "call_took": round(self.call_took, 3),
            "effective_after": round(self.seen.at - self.called_at, 3) if self.seen and effective else None,
            "before": self.before.as_dict() if self.before else {},
            "after": self.after.as_dict() if self.after else {},
            "served": served.as_dict(),
            "msg": one_line(message(self)),
            "diff": diff(self),
            "warnings": [one_line(warning) for warning in self.warnings],
        }
        return {**told, "failed": True} if self.failed else told


def wished(state: State, wish: Wish) -> State:
    """What management would say after the change."""
    percentage = state.percentage if wish.percentage is None else wish.percentage
    variation = wish.variation or state.variation
    return replace(state, on=wish.state == ON, percentage=percentage, variation=variation, pending="", revision="")


def message(record: Record) -> str:
    """How it ended, in one or two sentences."""
    where, target = record.where, _target(record.wish)
    if record.dry and record.differs:
        return f"{where} would be turned {target}."
    if record.status == PENDING:
        waits = record.pending or (record.after.pending if record.after else "")
        return f"{where} is not {target} yet: {waits}. Clients are served what they were until then."
    if record.seen is None:
        return f"{where} is {target}, as management says; nobody was asked what clients are served."
    if record.status == EFFECTIVE:
        return f"{where} is {target}: {_shown(record)}."
    said_so = "was set" if record.changed else "is"
    if record.status == NOT_EFFECTIVE:
        late = "" if record.dry else f" {record.waited:.1f} s later"
        return f"{where} {said_so} {target}, as management says, but{late} {record.seen.verdict.why}."
    why = record.seen.verdict.why.rstrip(".")
    return f"{where} {said_so} {target}, as management says, but what clients are served is not known: {why}."


def diff(record: Record) -> Dict[str, Any]:
    """What management says and clients are served, before and after."""
    served = record.seen.served if record.seen else None
    if record.dry and record.differs:
        after = record.wish.serve
    else:
        after = served.value if served and served.known else None
    known = record.served_before
    return {
        "before": _side(record.before, known.value if known and known.known else None),
        "after": _side(record.after, after),
    }


def one_line(text: str) -> str:
    """`text` without control characters: what others call their flags may have them, and a terminal obeys."""
    return text.translate(_CONTROLS)


def hidden(thing: Any, secrets: Sequence[str]) -> Any:
    """`thing` without the secrets, in whatever text of it one may be."""
    if isinstance(thing, str):
        # a client's key may be part of an address, and is quoted there
        shown = {written for secret in secrets for written in (secret, quote(secret, safe=""), quote(secret))}
        for secret in sorted(shown, key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                thing = thing.replace(secret, MASK)
        return thing
    if isinstance(thing, dict):
        return {key: hidden(value, secrets) for key, value in thing.items()}
    return [hidden(value, secrets) for value in thing] if isinstance(thing, list) else thing


def _target(wish: Wish) -> str:
    share = "" if wish.percentage is None else f" for {wish.percentage:g} %"
    variation = f" with variation {wish.variation!r}" if wish.variation else ""
    return f"{wish.state}{share}{variation}"


def _shown(record: Record) -> str:
    served = record.seen.served if record.seen else Served(known=False)
    if record.wish.state == ON and served.percentage is not None and served.percentage < 100:
        shown = f"{said_share(served.percentage)} are served it"
    else:
        shown = f"clients are served {said(served.value)}"
    after = f" {record.seen.at - record.called_at:.2f} s after the call" if record.seen and record.changed else ""
    return f"{shown}{after}{f' ({served.by})' if served.by else ''}"


def _side(state: Optional[State], served: object) -> Dict[str, Any]:
    if state is None:
        return {}
    side = {"on": state.on, "percentage": state.percentage, "variation": state.variation, "served": served}
    return {**side, "note": state.note} if state.note else side
