# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge's vocabulary: what it is given and what it says.

Pure data, JSON-safe both ways. No I/O, no clock, no Ansible. Times are seconds; `at` is seconds since the epoch when
it is a sample's instant, and `elapsed` is seconds since the first look of the bake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

PASS = "pass"
FAIL = "fail"
INCONCLUSIVE = "inconclusive"

ABSENT_REASONS = ("no_series", "stale", "not_a_number", "several_series", "provider_error", "query_error")
INCONCLUSIVE_REASONS = ("no_data", "low_sample", "provider_error", "query_error", "share_mismatch", "undecided")


@dataclass(frozen=True)
class Absent:
    """Why there is no measurement. `reason` is one of ABSENT_REASONS; `detail` is one line for a person."""

    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Counts:
    """Increments since the previous look: `bad` events of `total`. Interpolated counters may be fractional."""

    bad: float
    total: float


@dataclass(frozen=True)
class Arms:
    """Who is on the new release and who on the old one at this look, past their warm-up. Others are in neither."""

    canary: Tuple[str, ...]
    baseline: Tuple[str, ...]


@dataclass(frozen=True)
class GateLook:
    """What one gate's queries gave at one look.

    `counts` (ratio, latency, burn-rate gates) and `values` (value, ranks gates) are per place; a place with nothing to
    say is in `absent` with the reason. A place whose process restarted or changed its release since the previous look
    is in none of the three.
    """

    counts: Mapping[str, Counts] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, Absent] = field(default_factory=dict)


@dataclass(frozen=True)
class Liveness:
    """Does a place answer at this look, and how often has its process restarted since the bake watches it."""

    up: bool
    restarts: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Look:
    """Everything the judge is given at one look."""

    elapsed: float
    arms: Arms
    gates: Mapping[str, GateLook]
    alive: Mapping[str, Liveness] = field(default_factory=dict)
    # places that run the new release but are still warming up: they are watched by `alive`, not by the gates
    warming: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What a gate says. JSON-safe by `as_dict`: a number that is not finite becomes null beside its text.

    `value`: the canary's figure (a rate in 0..1 for ratio gates, else the metric's own unit). `limit`: what it is held
    against. `baseline`: the old release's figure. `samples`: `{"canary": n, "baseline": m, "bad": k, ...}`.
    `evidence`: `{"fail": f, "pass": p}`, each the share of the evidence needed that has been reached, 0..1, and
    whatever else explains the verdict.
    """

    verdict: str
    gate: str
    reason: str = ""
    value: Optional[float] = None
    limit: Optional[float] = None
    baseline: Optional[float] = None
    samples: Mapping[str, float] = field(default_factory=dict)
    evidence: Mapping[str, object] = field(default_factory=dict)
    took: float = 0.0

    def as_dict(self) -> Dict[str, object]:
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "gate": self.gate,
            "value": finite(self.value),
            "limit": finite(self.limit),
            "baseline": finite(self.baseline),
            "samples": {key: finite(number) for key, number in self.samples.items()},
            "evidence": {key: _safe(fact) for key, fact in self.evidence.items()},
            "took": finite(self.took),
        }


def finite(number: Optional[float]) -> Optional[float]:
    """`number`, or None where JSON could not carry it (Ansible would print a bare NaN: invalid JSON)."""
    return number if number is not None and math.isfinite(number) else None


def _safe(fact: object) -> object:
    return finite(fact) if isinstance(fact, float) else fact


@dataclass(frozen=True)
class Probed:
    """What the source said of one gate's queries before anything ran; lint holds the gate against it.

    `series` is the largest number of series that one place answered with where one is expected; `edges` are the
    histogram's bucket edges; `places` answered at all; `rate` is the requests per second seen over all places;
    `unseen` are the labels that a selector asks for and that no series of its metric has.
    """

    gate: str
    exists: bool
    series: int = 1
    edges: Tuple[float, ...] = ()
    places: Tuple[str, ...] = ()
    rate: Optional[float] = None
    detail: str = ""
    unseen: Tuple[str, ...] = ()
