# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's protocol: what every store promises, so that the code above does not know which one it is.

Every write that belongs to an action takes the lease it is made under and is refused with `LeaseError` when a newer
holder has taken over (fencing); every failure of the store itself is a `StoreError`. The clock comes in as `now`
(epoch seconds), so that nothing here waits or reads one.
"""

from __future__ import annotations

from typing import Mapping, Optional, Protocol, Sequence

from .model import Command, Entry, Lease, Rollout


class Ledger(Protocol):
    def acquire(self, service: str, holder: str, ttl: float, now: float) -> Lease:
        """Take the service's lease with a higher token than any before; LeaseError names who holds it otherwise."""

    def renew(self, lease: Lease, ttl: float, now: float) -> Lease:
        """Prolong it; LeaseError when it has expired or somebody else has it."""

    def release(self, lease: Lease, now: float) -> None:
        """Give it back; giving back a lost lease changes nothing."""

    def holder(self, service: str, now: float) -> Optional[Lease]:
        """The lease in force, or None."""

    def open_rollout(self, lease: Lease, rollout: Rollout, actor: str, now: float) -> Rollout:
        """Write the intent, before anything changes. Refused while the service has another unfinished rollout."""

    def save_progress(self, lease: Lease, rollout_id: str, progress: Mapping[str, object], now: float) -> None:
        """Replace the progress and renew nothing; refused when the lease was lost."""

    def set_state(
        self, lease: Lease, rollout_id: str, state: str, outcome: Mapping[str, object], actor: str, now: float
    ) -> Rollout:
        """Move the rollout to `state` with its outcome, and record it as an entry, in one transaction."""

    def rollout(self, rollout_id: str) -> Optional[Rollout]: ...

    def unfinished(self, service: str = "") -> Sequence[Rollout]:
        """Rollouts that are open, held or unresolved, oldest first; of one service or of all."""

    def last_rollouts(self, service: str, limit: int = 20) -> Sequence[Rollout]:
        """Newest first."""

    def say(self, service: str, command: str, by: str, reason: str, now: float) -> Command:
        """A person's hold, resume, promote or abort of the rollout that is under way."""

    def commands(self, service: str, after: int = 0) -> Sequence[Command]:
        """Commands with a higher seq than `after`, oldest first."""

    def append(
        self, service: str, kind: str, actor: str, body: Mapping[str, object], now: float, lease: Optional[Lease] = None
    ) -> Entry: ...

    def entries(self, service: str = "", after: int = 0, limit: int = 1000) -> Sequence[Entry]: ...

    def verify(self) -> Optional[str]:
        """None when the chain holds, else one sentence that names the first bad entry."""

    def head(self) -> str:
        """The newest entry's hash, to be kept elsewhere."""

    def close(self) -> None: ...
