# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard keeps: leases, rollouts, entries and people's commands. Pure data, JSON-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping, Optional

# a rollout's life: open → (held → open)* → done | undone | unresolved (some place could not be brought back)
OPEN = "open"
HELD = "held"
DONE = "done"
UNDONE = "undone"
UNRESOLVED = "unresolved"
UNFINISHED = (OPEN, HELD, UNRESOLVED)
STATES = (OPEN, HELD, DONE, UNDONE, UNRESOLVED)

COMMANDS = ("hold", "resume", "promote", "abort")

# kinds of entries that only the ledger itself writes, in one transaction with what they record
ROLLOUT = "rollout"  # opened, with its intent
STATE = "state"  # a rollout went on to another state, with its outcome
COMMAND = "command"
LEASE = "lease"
TRIGGER = "trigger"  # why we looked
DECISION = "decision"  # what came of it
APPROVAL = "approval"  # a person's yes to a recommendation
PAUSE = "pause"  # a person stopped all action, or let it go on
RETENTION = "retention"  # older entries were removed; this one stands for them
OWN_KINDS = (ROLLOUT, STATE, COMMAND, LEASE, TRIGGER, DECISION, APPROVAL, PAUSE, RETENTION)
# those that the guard remembers something of
REMEMBERED = (ROLLOUT, STATE, TRIGGER, DECISION, APPROVAL, PAUSE)


@dataclass(frozen=True)
class Lease:
    """The right to act on `service` until `expires` (epoch seconds), fenced by `token`, which only ever rises."""

    service: str
    holder: str
    token: int
    expires: float


@dataclass(frozen=True)
class Rollout:
    """One release on its way through a service's places, as the ledger remembers it.

    `intent` is written once, before the first change, and authorises the undo: the places, the steps, what each place
    ran before, the policy. `progress` is rewritten before each look: step reached, places changed, the bake's state.
    """

    id: str
    service: str
    release: str
    kind: str  # canary | watch | rollback | action
    state: str
    token: int
    opened_at: float
    updated_at: float
    intent: Mapping[str, object] = field(default_factory=dict)
    progress: Mapping[str, object] = field(default_factory=dict)
    outcome: Mapping[str, object] = field(default_factory=dict)
    by: str = ""  # who started it


@dataclass(frozen=True)
class Command:
    """What a person said about one unfinished rollout. `seq` orders them; `taken` is when its bake first saw it."""

    seq: int
    service: str
    command: str
    by: str
    reason: str
    at: float
    taken: Optional[float] = None
    rollout: str = ""  # its id: a command never outlives the rollout that it was said about


@dataclass(frozen=True)
class Entry:
    """One line of the ledger. `hash` covers `prev` and the canonical JSON of everything else."""

    seq: int
    at: float
    service: str
    kind: str  # one of OWN_KINDS, or the caller's: trigger | decision | intent | action | outcome | …
    actor: str
    body: Mapping[str, object]
    prev: str
    hash: str


def identity_of(environment: str, service: str) -> str:
    """What the ledger knows a service by."""
    return f"{environment}/{service}" if environment else service


def environment_of(identity: str) -> str:
    """The environment in it, or nothing."""
    return identity.rpartition("/")[0]
