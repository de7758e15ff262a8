# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's protocol: what every store promises, so that the code above does not know which one it is.

Every write that belongs to an action takes the lease it is made under and is refused with `LeaseError` when that lease
is not in force any more: expired, given back, or taken over by a newer holder (fencing). What a rollout's state does
not allow is a `RolloutError`, what cannot be kept as JSON an `OptionError`, and every failure of the store itself a
`StoreError`; each leaves the ledger as it was. The clock comes in as `now` (epoch seconds), so that nothing here waits
or reads one.
"""

from __future__ import annotations

from typing import Any, Callable, Container, Iterable, Mapping, Optional, Protocol, Sequence, Tuple

from .decision import Clock, Decision, Grant, Request, Trigger
from .memory import Fleet, Memory
from .model import Command, Entry, Lease, Rollout
from .policy import GuardPolicy

Note = Mapping[str, object]


class Ledger(Protocol):
    # --- leases

    def acquire(self, service: str, holder: str, ttl: float, now: float) -> Lease:
        """Take the service's lease with a higher token than any before; LeaseError names who holds it otherwise."""

    def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        """Prolong it to at least `now + ttl`; LeaseError when it has expired or somebody else has it."""

    def release(self, lease: Lease, now: float) -> None:
        """Give it back; giving back a lost lease changes nothing."""

    def holder(self, service: str, now: float) -> Optional[Lease]:
        """The lease in force, or None."""

    def leases(self, now: float) -> Sequence[Lease]:
        """All leases in force, by service."""

    # --- rollouts

    def open_rollout(self, lease: Lease, rollout: Rollout, actor: str, now: float) -> Rollout:
        """Write the intent, before anything changes. Refused while the service has another unfinished rollout.

        Its state, token, times and `by` are set here: open, the lease's, `now` and `actor`.
        """

    def save_progress(self, lease: Lease, rollout_id: str, progress: Mapping[str, object], now: float) -> None:
        """Replace the progress of an unfinished rollout and renew nothing; refused when the lease was lost."""

    def look(
        self, lease: Lease, rollout_id: str, progress: Mapping[str, object], *, ttl: float, now: float, after: int = 0
    ) -> Tuple[Lease, Sequence[Command]]:
        """`renew`, `save_progress` and `commands` of this rollout after seq `after`, in one transaction.

        The commands are marked as taken, and come again until `after` is past them: keep the highest seq that was
        obeyed in the progress, so that a controller that dies in between loses none.
        """

    def set_state(
        self, lease: Lease, rollout_id: str, state: str, outcome: Mapping[str, object], actor: str, now: float
    ) -> Rollout:
        """Move an unfinished rollout to `state` with its outcome, and record it as an entry, in one transaction.

        `done` and `undone` are for ever: a rollout is closed exactly once. The lease may be another than the one it
        was opened under, and the rollout carries that lease's token from then on.
        """

    def rollout(self, rollout_id: str) -> Optional[Rollout]: ...

    def unfinished(self, service: str = "") -> Sequence[Rollout]:
        """Rollouts that are open, held or unresolved, oldest first; of one service or of all."""

    def last_rollouts(self, service: str = "", limit: int = 20) -> Sequence[Rollout]:
        """Newest first; of one service or of all."""

    # --- what people say

    def say(self, service: str, command: str, by: str, reason: str, now: float) -> Command:
        """A person's hold, resume, promote or abort of the service's unfinished rollout; needs no lease.

        RolloutError when there is none to speak to; OptionError for another command, nobody, or promote without a
        reason.
        """

    def commands(self, service: str = "", after: int = 0, rollout: str = "") -> Sequence[Command]:
        """Commands with a higher seq than `after`, oldest first; of one service or of all, of one rollout or of all."""

    # --- may we act?

    def decide(
        self,
        request: Request,
        policy: GuardPolicy,
        *,
        holder: str,
        ttl: float,
        now: float,
        clock: Optional[Clock] = None,
        opens: Optional[Rollout] = None,
    ) -> Grant:
        """Decide by the policy and what is remembered, and record trigger and decision, in one transaction.

        Where it is allowed, the same transaction takes the service's lease and opens the rollout `opens` (its id is the
        request's), so that no crash lies between a yes and its intent. A trigger that was answered the same way before
        is counted and not recorded again.
        """

    def check(
        self, request: Request, policy: GuardPolicy, *, now: float, clock: Optional[Clock] = None, record: bool = True
    ) -> Decision:
        """The same decision without lease or rollout: for a step inside a rollout, or to rehearse (`record` off)."""

    def deny(
        self, request: Request, policy: GuardPolicy, *, now: float, clock: Optional[Clock] = None, only: Container[str]
    ) -> Optional[Grant]:
        """The denial, recorded, when the reason is one of `only`; else None, and nothing is recorded.

        For who knows enough for these reasons, before the places were asked.
        """

    def observe(self, service: str, trigger: Trigger, policy: GuardPolicy, actor: str, now: float) -> Optional[Entry]:
        """Record that a condition is there, or is over, without a wish to act; None when that was known already."""

    def approve(self, service: str, decision: str, by: str, reason: str, now: float) -> Entry:
        """A person's yes to a recommendation; RolloutError when it is unknown, used, approved, or its time is over."""

    def pause(self, service: str, by: str, reason: str, until: Optional[float], now: float) -> Entry:
        """Stop all action but undos, for one service or with '' for all; `until` None has no end. Needs a reason."""

    def unpause(self, service: str, by: str, reason: str, now: float) -> Entry:
        """Lift the pause of one service, or with '' the one of all; RolloutError when there is none."""

    def memory(self, service: str) -> Memory:
        """What the guard remembers of a service."""

    def fleet(self) -> Fleet:
        """What the guard remembers of all services together."""

    def services(self) -> Sequence[str]:
        """The services that the guard remembers something of, by name."""

    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """By service, how often: `decisions:<action>:<verdict>`, `suppressed:<action>:<reason>` with repeats,
        `outcomes:<kind>:<state>`, `verified:<verdict>`, and `seconds:<kind>:sum|count`, `last_success:<kind>`."""

    # --- what people have to know

    def owed(self) -> Mapping[str, Mapping[str, Any]]:
        """By the id of a rollout that ended, or of a decision that pages: `what` it is (`rollout` or `decision`), its
        `service`, and since when (`at`). The newest few of each service, until they are told."""

    def told(self, idents: Container[str]) -> None:
        """Nobody has to be told of these any more."""

    # --- small documents that are not in the chain

    def note(self, key: str) -> Note:
        """The document, or {}."""

    def change_note(self, key: str, change: Callable[[Note], Note]) -> Note:
        """Replace it by what `change` makes of it, in one transaction; `change` may be called again on a conflict."""

    # --- the record

    def append(
        self, service: str, kind: str, actor: str, body: Mapping[str, object], now: float, lease: Optional[Lease] = None
    ) -> Entry:
        """Add one entry to the chain; with a lease, only while that is in force."""

    def entries(self, service: str = "", after: int = 0, limit: int = 1000) -> Sequence[Entry]:
        """Entries with a higher seq than `after`, oldest first; of one service or of all."""

    def last_entries(self, service: str = "", limit: int = 20) -> Sequence[Entry]:
        """Newest first; of one service or of all."""

    def verify(self, kept: str = "") -> Optional[str]:
        """None when the chain holds, else one sentence that names the first bad entry.

        With `kept`, a head that was noted elsewhere, a chain that does not contain it is broken too: nothing else
        can show that the newest entries were cut off.
        """

    def head(self) -> str:
        """The newest entry's hash, to be kept elsewhere."""

    def all_entries(self) -> Iterable[Entry]:
        """Every entry that is kept, in the order of seq: for an export."""

    def prune(self, before: float, exported: str, actor: str, now: float) -> Optional[Entry]:
        """Remove entries older than `before`, with the closed rollouts that only they tell of, and record that.

        The chain goes on from them and `verify` still holds. What is unfinished, and the newest rollouts of each
        service, stay with all entries from there on. `exported` is the hash of the last entry that was exported: what
        is newer is never removed. None when there was nothing to remove.
        """

    def retained(self) -> Optional[Entry]:
        """The newest `retention` entry, which says what the removed ones recorded of releases that are known good."""

    def close(self) -> None: ...
