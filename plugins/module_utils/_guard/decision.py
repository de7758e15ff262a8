# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of a decision: why we look, what is wanted, what is allowed, and why not. Pure data, JSON-safe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional

from .model import Lease, Rollout

# --- what may be asked for
ROLLOUT = "rollout"
PROMOTE = "promote"
ROLLBACK = "rollback"  # of a release that was promoted
FLAG_OFF = "flag_off"
FLAG_ON = "flag_on"  # again, which is a person's decision
RESTART = "restart"
SCALE = "scale"
RERUN = "rerun"
UNDO = "undo"  # of our own unfinished rollout
HEALING = (ROLLBACK, FLAG_OFF, RESTART, SCALE, RERUN)
ACTIONS = (ROLLOUT, PROMOTE, FLAG_ON, *HEALING, UNDO)

# --- why we look
ALERT = "alert"
ERROR_CODE = "error_code"
CALL = "call"  # a signed call of another system
PIPELINE = "pipeline"  # a deploy that somebody started
PERSON = "person"
KINDS = (ALERT, ERROR_CODE, CALL, PIPELINE, PERSON)

# --- what comes out
ALLOWED = "allowed"
DENIED = "denied"
RECOMMENDED = "recommended"  # recorded, and waits for a person's approval
OBSERVED = "observed"  # recorded, and nothing else
VERDICTS = (ALLOWED, DENIED, RECOMMENDED, OBSERVED)

# --- why not
NOT_ELIGIBLE = "not_eligible"
NOT_CONFIRMED = "not_confirmed"  # the source, asked again, does not say so
NOT_HELD = "not_held"  # it did not last long enough yet
NOT_REARMED = "not_rearmed"  # it was acted on, and was not clear for long enough since
COOLDOWN = "cooldown"
RATE_LIMITED = "rate_limited"
BREAKER_OPEN = "breaker_open"
PAUSED = "paused"
IN_PROGRESS = "in_progress"
BLAST_RADIUS = "blast_radius"
FROZEN = "frozen"
DUPLICATE = "duplicate"
NO_KNOWN_GOOD = "no_known_good"
ROLLBACK_BLOCKED = "rollback_blocked"  # the release says that it must not be rolled back
NOT_ATTRIBUTABLE = "not_attributable"
ALERTS_SILENT = "alerts_silent"  # the Watchdog alert is missing: the alert pipeline cannot be believed
CLOCK_JUMPED = "clock_jumped"
STORE_UNAVAILABLE = "store_unavailable"
REASONS = (
    NOT_ELIGIBLE,
    NOT_CONFIRMED,
    NOT_HELD,
    NOT_REARMED,
    COOLDOWN,
    RATE_LIMITED,
    BREAKER_OPEN,
    PAUSED,
    IN_PROGRESS,
    BLAST_RADIUS,
    FROZEN,
    DUPLICATE,
    NO_KNOWN_GOOD,
    ROLLBACK_BLOCKED,
    NOT_ATTRIBUTABLE,
    ALERTS_SILENT,
    CLOCK_JUMPED,
    STORE_UNAVAILABLE,
)


@dataclass(frozen=True)
class Trigger:
    """Why we look. It selects a service and a policy and nothing else: no text of it is ever run or rendered.

    `id` is the same for every copy of one incident's signal (fingerprint and start), so that it is acted on once. `at`
    is when the condition began, in epoch seconds, or None; `level` is what was measured as a multiple of its limit.
    """

    kind: str  # one of KINDS
    name: str  # the alert's name, the error code, the caller
    id: str
    at: Optional[float] = None
    active: bool = True  # False: it is resolved
    level: Optional[float] = None
    evidence: Mapping[str, object] = field(default_factory=dict)

    @property
    def condition(self) -> str:
        """What is remembered over its incidents."""
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True)
class Situation:
    """What the caller found out itself, from its own configuration and sources; never from the trigger.

    `confirmed` is True when the source, asked again, says it is bad, False when it says it is not, None when it does
    not say. `places` is how many would be changed, `services` how many the inventory knows (0: unknown), `alarming` how
    many of these alarm now (0: only the guard's own memory tells).
    """

    confirmed: Optional[bool] = None
    current: str = ""
    known_good: str = ""  # what a rollback would go back to
    changed_at: Optional[float] = None  # the last change of the service, where the ledger does not know it
    blocked: str = ""  # why the current release must not be rolled back, by its own declaration
    places: int = 0
    services: int = 0
    alarming: int = 0


@dataclass(frozen=True)
class Request:
    """One wish to act. `id` names the decision, and the rollout that it opens.

    `after` names the action that was just taken on the same trigger and did not help: this is the next way back.
    """

    id: str
    service: str
    action: str  # one of ACTIONS
    trigger: Trigger
    actor: str
    situation: Situation = field(default_factory=Situation)
    approved: str = ""  # the id of the recommendation that a person approved
    after: str = ""


@dataclass(frozen=True)
class Clock:
    """One machine's clock that nobody sets: `boot` names the boot, and `up` counts the seconds since then."""

    boot: str
    up: float


@dataclass(frozen=True)
class Decision:
    """`until` is when asking again may help, in epoch seconds. `page`: a person has to know, now.

    `storm`: so many services alarm together that people are paged once for all of them.
    """

    id: str
    service: str
    action: str
    verdict: str  # one of VERDICTS
    reason: str = ""  # one of REASONS unless it is allowed
    message: str = ""
    page: bool = False
    until: Optional[float] = None
    policy: str = ""  # the version of the policy that decided: the beginning of its SHA-256
    storm: bool = False

    @property
    def allowed(self) -> bool:
        return self.verdict == ALLOWED

    def as_dict(self) -> Dict[str, object]:
        return dict(vars(self))


@dataclass(frozen=True)
class Grant:
    """A decision and, where it is allowed, what was written with it in the same transaction."""

    decision: Decision
    lease: Optional[Lease] = None
    rollout: Optional[Rollout] = None
    repeated: bool = False  # the same as the last time this trigger was asked about: counted, not recorded again
