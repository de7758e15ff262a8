# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a store is: rows that are read and written in one transaction, and nothing of what they mean.

`Book` knows the ledger's rules and is the same for every store. A store promises only this: what one piece of work
read did not change before its writes are kept, all of them or none; what was kept survives a crash; pieces of work
follow one another as if they were done one at a time. Every failure of the store itself is a `StoreError`; whatever the
work raises comes out as it is, and nothing was written.
"""

from __future__ import annotations

from typing import Callable, Iterable, Mapping, Optional, Protocol, Sequence, Tuple, TypeVar

from .model import Command, Entry, Lease, Rollout

T = TypeVar("T")


class Rows(Protocol):
    """What a piece of work sees and changes. Mappings go in and come out as JSON knows them (`chain.canonical`)."""

    lag: int  # about how many entries may follow the checkpoint: who comes new has to read them

    def expect(self, service: str, trigger: str, notes: Sequence[str]) -> None:
        """Said first: the service's lease, its unfinished rollout, these notes and what was told of the trigger (''
        for none) may be asked for. Where each question costs a round trip, they are all fetched with the first."""

    # --- leases: one row for each service, for ever, because its token only rises

    def lease(self, service: str) -> Optional[Lease]:
        """The last lease that was given, in force or not."""

    def leases(self, now: float) -> Sequence[Lease]:
        """Those that end after `now`, by service."""

    def put_lease(self, lease: Lease) -> None: ...

    # --- rollouts, in the order in which they were added

    def rollout(self, rollout_id: str) -> Optional[Rollout]: ...

    def unfinished(self, service: str) -> Sequence[Rollout]:
        """Oldest first; of one service, or with '' of all."""

    def last_rollouts(self, service: str, limit: int) -> Sequence[Rollout]:
        """Newest first; of one service, or with '' of all."""

    def all_rollouts(self) -> Iterable[Rollout]:
        """Every one, oldest first; StoreError for a row that cannot be read."""

    def add_rollout(self, rollout: Rollout) -> None: ...

    def put_rollout(self, rollout: Rollout) -> None:
        """Replace its state, token, updated_at and outcome; its intent never changes, its progress has its own way."""

    def put_progress(
        self, rollout_id: str, service: str, progress: Mapping[str, object], token: int, now: float
    ) -> bool:
        """Replace the progress of an unfinished rollout of this service; False when there is none of that id."""

    # --- people's commands

    def commands(self, service: str, after: int, rollout: str) -> Sequence[Command]:
        """With a higher seq than `after`, oldest first; '' stands for any service and any rollout."""

    def add_command(self, command: Command) -> Command:
        """Keep it; what comes back has the next seq."""

    def take_commands(self, rollout: str, now: float) -> None:
        """Mark those of this rollout that were not taken yet."""

    # --- the chain

    def newest(self) -> Tuple[int, str]:
        """seq and hash of the newest entry; (0, GENESIS) before the first."""

    def add_entry(self, entry: Entry, body: str = "", trigger: str = "", told: str = "") -> None:
        """`body` is the entry's as `chain.linked` wrote it; without it, it is written again.

        `trigger` is which one it is about, where it is about one. Of a decision, `told` is what `told` gives from now
        on, for as long as the entry is kept.
        """

    def entries(self, service: str, after: int, limit: int) -> Sequence[Entry]:
        """With a higher seq than `after`, oldest first; of one service, or with '' of all."""

    def last_entries(self, service: str, limit: int) -> Sequence[Entry]:
        """Newest first; of one service, or with '' of all."""

    def all_entries(self) -> Iterable[Entry]:
        """Every one, in the order of seq; StoreError for a row that cannot be read."""

    def told(self, service: str, trigger: str) -> Optional[str]:
        """What the newest decision about this trigger of the service told."""

    def all_told(self) -> Mapping[Tuple[str, str], str]:
        """The same of every trigger, by service and trigger."""

    # --- small documents

    def note(self, key: str) -> Mapping[str, object]:
        """A small document, or {}."""

    def put_note(self, key: str, value: Mapping[str, object]) -> None:
        """Keep it as it is: it is JSON already, and nobody changes it any more."""

    def notes(self, prefix: str) -> Mapping[str, Mapping[str, object]]:
        """Every document whose key begins so, by key."""

    # --- the store itself

    def time(self) -> Optional[float]:
        """The store's own clock, in epoch seconds, where it is another machine's; to find a clock that is wrong."""

    def cut(self, seq: int, rollouts: Sequence[str]) -> None:
        """Remove entries up to `seq`, with what they told, and these rollouts with their commands."""


class Store(Protocol):
    def write(self, work: Callable[[Rows], T]) -> T:
        """Do `work` in one transaction and keep what it wrote. It may be called again from the start on a conflict."""

    def read(self, work: Callable[[Rows], T]) -> T:
        """Do `work` on one consistent state; it must not write."""

    def close(self) -> None: ...
