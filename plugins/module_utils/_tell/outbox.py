# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could not be told yet, kept in the ledger's store until it can: at least once, within bounds.

A message is written down before it is sent, claimed by the run that sends it, and taken out when it was. So a run that
dies loses none, and two runs at the same time do not send the same one. It holds the name of the channel and the
message, never how the channel is reached. The clock comes in as `now` (epoch seconds).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Protocol, Sequence, Tuple, Union

from .channel import Sent
from .message import Message, as_document, from_document
from .text import clean

KEY = "outbox"
MOST = 50  # messages kept
LARGEST = 200_000  # bytes of them: a store may have room for a few hundred thousand only
OLDEST = 24 * 3600.0  # seconds that one is kept
_FIRST, _LATEST = 30.0, 3600.0  # seconds between the second try and the third, and at most
_CLAIM = 60.0  # seconds beyond its own time after which a run that has not settled is taken for dead
_REASON = 300

Document = Mapping[str, object]


class Notes(Protocol):
    """Small JSON documents by name, each changed in one transaction."""

    def note(self, key: str) -> Document:
        """The document; empty when there is none."""

    def change_note(self, key: str, change: Callable[[Document], Document]) -> Document:
        """Replace it by what `change` makes of it, which may be called again when somebody else was faster."""


@dataclass(frozen=True)
class Letter:
    """One message on its way to one channel. Times are epoch seconds; `tries` counts those that failed."""

    channel: str
    message: Message
    kept_at: float
    tries: int = 0
    due_at: float = 0.0
    claimed_until: float = 0.0
    reason: str = ""

    @property
    def id(self) -> str:
        return f"{self.message.id}/{self.channel}"


@dataclass(frozen=True)
class Dropped:
    """A message that is given up, and why."""

    channel: str
    event: str
    service: str
    reason: str


@dataclass(frozen=True)
class Taken:
    """What this run has to send, oldest first; what stays until later; and what was given up."""

    letters: Tuple[Letter, ...] = ()
    later: Tuple[Letter, ...] = ()
    dropped: Tuple[Dropped, ...] = ()


def take(notes: Notes, new: Sequence[Letter], *, channels: Sequence[str], now: float, timeout: float) -> Taken:
    """Write down `new`, and claim it with all that is due for one of `channels`, for `timeout` seconds.

    What is kept about the same as something new is due with it, as they are told in their order.
    """
    found: List[Taken] = []
    if not new and not notes.note(KEY).get("letters"):
        return Taken()

    def change(document: Document) -> Document:
        letters, dropped = read(document)
        kept, too_many = _bounded([*letters, *new], now)
        about = {(letter.channel, letter.message.dedup_key) for letter in new}
        mine = [one for one in kept if one.channel in channels and not _ahead(one.claimed_until, now)]
        due = {one.id for one in mine if (one.channel, one.message.dedup_key) in about or not _ahead(one.due_at, now)}
        claimed = [replace(one, claimed_until=now + timeout + _CLAIM) if one.id in due else one for one in kept]
        found.append(
            Taken(
                tuple(one for one in claimed if one.id in due),
                tuple(one for one in claimed if one.id not in due),
                (*dropped, *too_many),
            )
        )
        return write(claimed)

    notes.change_note(KEY, change)
    return found[-1]


def settle(
    notes: Notes, letters: Sequence[Letter], results: Mapping[str, Optional[Sent]], *, now: float
) -> Tuple[Sequence[Letter], Sequence[Dropped]]:
    """Take out what was sent or can never be, and keep the rest: what is kept of `letters`, and what was given up.

    `results` are by the letter's id; None is a letter that was not tried. A letter that is not in the outbox, because
    the store was away when it was taken, is put there.
    """
    outcome = {one.id: settled(one, results.get(one.id), now) for one in letters}
    kept = {ident: one for ident, one in outcome.items() if isinstance(one, Letter)}
    gone = [one for one in outcome.values() if isinstance(one, Dropped)]
    lost: List[Sequence[Dropped]] = []

    def change(document: Document) -> Document:
        others = [one for one in read(document)[0] if one.id not in outcome]
        left, too_many = _bounded(sorted([*others, *kept.values()], key=lambda one: one.kept_at), now)
        lost.append(too_many)
        return write(left)

    notes.change_note(KEY, change)
    dropped = [*gone, *lost[-1]]
    return list(kept.values()), dropped


def settled(letter: Letter, sent: Optional[Sent], now: float) -> Union[Letter, Dropped, None]:
    """The letter as it is kept; or why it is given up; or None when it was sent."""
    if sent is None:
        return replace(letter, claimed_until=0.0, reason=letter.reason or "not tried yet")
    if sent.ok:
        return None
    reason = clean(sent.detail, _REASON)
    if not sent.again:
        return dropped(letter, reason)
    wait = max(backoff(letter.tries + 1), sent.after)
    return replace(letter, tries=letter.tries + 1, due_at=now + wait, claimed_until=0.0, reason=reason)


def backoff(tries: int) -> float:
    """Seconds until the next try: none before the second, then 30 s and twice as long each time, up to an hour."""
    return 0.0 if tries < 2 else float(min(_FIRST * 2.0 ** min(tries - 2, 16), _LATEST))


def dropped(letter: Letter, reason: str) -> Dropped:
    return Dropped(letter.channel, letter.message.event, letter.message.service, reason)


def read(document: Document) -> Tuple[List[Letter], List[Dropped]]:
    """The letters, oldest first, and what is no letter any more."""
    raw = document.get("letters")
    letters: List[Letter] = []
    bad: List[Dropped] = []
    for one in raw if isinstance(raw, list) else []:
        try:
            letters.append(_letter(one))
        except (KeyError, TypeError, ValueError):
            bad.append(Dropped("", "", "", "the outbox held something that is no message"))
    return letters, bad


def write(letters: Iterable[Letter]) -> Document:
    return {"letters": [{**asdict(one), "message": as_document(one.message)} for one in letters]}


def _letter(raw: Mapping[str, object]) -> Letter:
    message = raw["message"]
    if not isinstance(message, Mapping):
        raise ValueError("not a message")
    numbers: Dict[str, float] = {}
    for name in ("kept_at", "tries", "due_at", "claimed_until"):
        value = raw[name]
        if not isinstance(value, (int, float)):
            raise ValueError(f"{name} is not a number")
        numbers[name] = float(value)
    return Letter(
        channel=str(raw["channel"]),
        message=from_document(message),
        kept_at=numbers["kept_at"],
        tries=int(numbers["tries"]),
        due_at=numbers["due_at"],
        claimed_until=numbers["claimed_until"],
        reason=str(raw.get("reason") or ""),
    )


def _ahead(instant: float, now: float) -> bool:
    """Is it still to come? What no run of ours sets so far ahead was set before the clock was put back."""
    return now < instant <= now + _LATEST


def _bounded(letters: Sequence[Letter], now: float) -> Tuple[List[Letter], List[Dropped]]:
    """What may stay, and what is too old or, seen from the newest, too much."""
    young = [one for one in letters if now - one.kept_at <= OLDEST]
    lost = [_old(one) for one in letters if now - one.kept_at > OLDEST]
    room, size = 0, 0
    for one in reversed(young):
        size += len(json.dumps(as_document(one.message)))
        if room == MOST or size > LARGEST:
            break
        room += 1
    surplus = young[: len(young) - room]
    lost += [dropped(one, f"too many messages were waiting; last: {one.reason or 'not tried'}") for one in surplus]
    return young[len(surplus) :], lost


def _old(letter: Letter) -> Dropped:
    return dropped(letter, f"it could not be told for {OLDEST / 3600:.0f} h; last: {letter.reason or 'not tried'}")
