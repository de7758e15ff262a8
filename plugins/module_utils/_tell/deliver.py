# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell every channel, all at the same time and within one bound; what does not get through waits in the outbox.

Nothing here raises because a notifier, or the outbox's store, is down: what happened is in the report.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import AbstractSet, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .._errors import DeliveryError
from . import outbox
from .channel import Sent
from .message import Message
from .outbox import Dropped, Letter, Notes, Taken
from .routes import Route
from .text import clean

OVERTAKEN = "a newer message about the same got through"


@dataclass(frozen=True)
class Report:
    """What became of every message: sent, kept until later, given up. `notes` are warnings in words."""

    sent: Tuple[Tuple[Letter, Sent], ...] = ()
    kept: Tuple[Letter, ...] = ()
    dropped: Tuple[Dropped, ...] = ()
    notes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Clock:
    """`wall` is epoch seconds, `ticks` only ever rises; both in seconds."""

    wall: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic


@dataclass
class _Box:
    """Results by letter, filled by the channels' threads until it is closed."""

    results: Dict[str, Sent] = field(default_factory=dict)
    open: bool = True
    lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, ident: str, sent: Sent) -> None:
        with self.lock:
            if self.open:
                self.results[ident] = sent

    def close(self) -> Mapping[str, Sent]:
        with self.lock:
            self.open = False
            return self.results


def tell(
    routes: Sequence[Route], message: Optional[Message], notes: Notes, *, timeout: float, clock: Optional[Clock] = None
) -> Report:
    """Send `message` to the routes that want it, and what the outbox kept; without a message only that.

    `timeout` (seconds) bounds the sending as a whole; the store has a bound of its own.
    """
    clock = clock or Clock()
    now = clock.wall()
    new = [Letter(route.name, message, now) for route in routes if message is not None and route.wants(message)]
    names, trouble = [route.name for route in routes], ""
    try:
        taken = outbox.take(notes, new, channels=names, now=now, timeout=timeout)
    except DeliveryError as error:
        taken, trouble = Taken(tuple(new)), error.what
    results = _send_all(routes, taken.letters, {one.id for one in new}, timeout, clock.ticks)
    report = _settle(notes, taken, _overtaken(routes, taken.letters, results), clock.wall(), trouble)
    waiting = tuple(one if one.channel in names else _homeless(one) for one in report.kept)
    return replace(report, kept=waiting)


def _homeless(letter: Letter) -> Letter:
    return replace(letter, reason=f"there is no channel {letter.channel!r} now; {letter.reason}")


def _settle(notes: Notes, taken: Taken, results: Mapping[str, Optional[Sent]], now: float, trouble: str) -> Report:
    letters = taken.letters
    found = [(one, results.get(one.id)) for one in letters]
    sent = tuple((one, what) for one, what in found if what is not None and what.ok)
    if not letters or (trouble and len(sent) == len(letters)):
        return Report(sent, taken.later, taken.dropped, _unseen(trouble))
    try:
        kept, lost = outbox.settle(notes, letters, results, now=now)
    except DeliveryError as error:
        return _unsettled(taken, results, sent, now, trouble, error)
    return Report(sent, (*taken.later, *kept), (*taken.dropped, *lost), _unseen(trouble))


def _unseen(trouble: str) -> Tuple[str, ...]:
    return (f"what was kept earlier could not be looked for: {trouble}",) if trouble else ()


def _unsettled(
    taken: Taken,
    results: Mapping[str, Optional[Sent]],
    sent: Tuple[Tuple[Letter, Sent], ...],
    now: float,
    trouble: str,
    error: DeliveryError,
) -> Report:
    """The store is away: what it took earlier it still has, and what it never took is lost."""
    ends = [(one, outbox.settled(one, results.get(one.id), now)) for one in taken.letters]
    kept = [end for one, end in ends if isinstance(end, Letter)]
    lost = [end for one, end in ends if isinstance(end, Dropped)]
    if trouble:
        lost += [outbox.dropped(one, f"{one.reason}; and it could not be kept: {error.what}") for one in kept]
        return Report(sent, (), tuple(lost), _unseen(trouble))
    again = f"the outbox could not be written, so that what was sent now may be sent again: {error.what}"
    return Report(sent, (*taken.later, *kept), (*taken.dropped, *lost), (again,))


def _send_all(
    routes: Sequence[Route],
    letters: Sequence[Letter],
    new: AbstractSet[str],
    timeout: float,
    ticks: Callable[[], float],
) -> Dict[str, Optional[Sent]]:
    """Each channel in a thread of its own, as a name server or a server that drips bytes knows no timeout."""
    deadline = ticks() + timeout
    box = _Box()
    threads: List[threading.Thread] = []
    for route in routes:
        queue = _queue([one for one in letters if one.channel == route.name], new)
        if queue:
            work = (route, queue, new, box, lambda: deadline - ticks())
            threads.append(threading.Thread(target=_send_queue, args=work, name="selfheal notify", daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(deadline - ticks(), 0.0))
    results: Dict[str, Optional[Sent]] = {**box.close()}
    for ident in new - results.keys():
        results[ident] = Sent(False, "the time was up before its turn came", again=True)
    return results


def _queue(letters: Sequence[Letter], new: AbstractSet[str]) -> List[Letter]:
    """In which order they go: what is new first, but after older ones about the same, so that none comes too late."""
    incidents = {one.message.dedup_key for one in letters if one.id in new}
    first = [one for one in letters if one.message.dedup_key in incidents]
    return [*first, *(one for one in letters if one.message.dedup_key not in incidents)]


def _send_queue(
    route: Route, queue: Sequence[Letter], new: AbstractSet[str], box: _Box, left: Callable[[], float]
) -> None:
    stopped = False
    for index, letter in enumerate(queue):
        ahead = any(one.id in new for one in queue[index + 1 :])
        if stopped and letter.id not in new:
            continue
        # what is old must leave time for what is new
        remaining = left() / 2 if ahead else left()
        if remaining <= 0:
            return
        # what stands when it never comes back
        box.put(letter.id, Sent(False, f"it did not answer within {remaining:.1f} s", again=True, stop=True))
        sent = _send(route, letter.message, remaining)
        box.put(letter.id, sent)
        stopped = stopped or sent.stop


def _send(route: Route, message: Message, timeout: float) -> Sent:
    try:
        sent = route.channel.send(message, route.config, timeout)
    except Exception as error:
        # whatever a library raises: a notifier must not fail what it tells of, and the text may hold anything
        sent = Sent(False, f"it could not be sent ({type(error).__name__})", again=True, stop=True)
    return Sent(sent.ok, clean(sent.detail, 300, route.secrets), sent.again, sent.after, sent.stop)


def _overtaken(
    routes: Sequence[Route], letters: Sequence[Letter], results: Mapping[str, Optional[Sent]]
) -> Dict[str, Optional[Sent]]:
    """Where a late message would undo a newer one, the older that did not get through are given up."""
    ordered = {route.name for route in routes if route.channel.ORDERED}
    newest: Dict[Tuple[str, str], float] = {}
    for one in letters:
        sent = results.get(one.id)
        if one.channel in ordered and sent is not None and sent.ok:
            key = (one.channel, one.message.dedup_key)
            newest[key] = max(newest.get(key, 0.0), one.kept_at)
    found = dict(results)
    for one in letters:
        sent = results.get(one.id)
        if (sent is None or not sent.ok) and one.kept_at < newest.get((one.channel, one.message.dedup_key), 0.0):
            found[one.id] = Sent(False, OVERTAKEN)
    return found
