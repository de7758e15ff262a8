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

COMMANDS = ("hold", "resume", "promote", "abort")


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
    kind: str  # canary | watch
    state: str
    token: int
    opened_at: float
    updated_at: float
    intent: Mapping[str, object] = field(default_factory=dict)
    progress: Mapping[str, object] = field(default_factory=dict)
    outcome: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """What a person said about a running rollout. `seq` orders them; `taken` is when the bake saw it."""

    seq: int
    service: str
    command: str
    by: str
    reason: str
    at: float
    taken: Optional[float] = None


@dataclass(frozen=True)
class Entry:
    """One line of the ledger. `hash` covers `prev` and the canonical JSON of everything else."""

    seq: int
    at: float
    service: str
    kind: str  # trigger | decision | intent | action | outcome | command | lease | …
    actor: str
    body: Mapping[str, object]
    prev: str
    hash: str
