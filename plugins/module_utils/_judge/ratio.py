# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ratio gate: bad requests of all requests, the canary against the baseline and against a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence, Tuple

from .model import FAIL, INCONCLUSIVE, PASS, Arms, GateLook, Verdict
from .presets import DEFAULT_PRESET, PRESETS


@dataclass(frozen=True)
class RatioSpec:
    """One ratio gate. Rates are shares of requests, 0..1.

    `alpha`: this gate's share of the rollout's false aborts. `tolerance`: how many times the baseline's rate is
    still healthy. `maximum`: the rate that is too much whatever the baseline does, None for no such limit. `margin`
    and `floor`: the gate passes when the rate is shown to be at most max(margin × baseline, floor). `min_bad` guards
    only a fail, `min_requests` only a pass. `preset` names how evidence is weighed.
    """

    name: str
    alpha: float = 0.01
    tolerance: float = 2.0
    maximum: Optional[float] = None
    margin: float = 2.0
    floor: float = 0.002
    min_bad: int = 4
    min_requests: int = 200
    preset: str = DEFAULT_PRESET

    @classmethod
    def of(
        cls,
        name: str,
        *,
        preset: str = DEFAULT_PRESET,
        alpha: float = 0.01,
        tolerance: Optional[float] = None,
        maximum: Optional[float] = None,
        margin: Optional[float] = None,
        floor: float = 0.002,
        min_bad: Optional[int] = None,
        min_requests: Optional[int] = None,
    ) -> "RatioSpec":
        """A spec with the preset's own figures wherever None is given. KeyError on an unknown preset."""
        own = PRESETS[preset]
        return cls(
            name=name,
            alpha=alpha,
            tolerance=own.tolerance if tolerance is None else tolerance,
            maximum=maximum,
            margin=own.margin if margin is None else margin,
            floor=floor,
            min_bad=own.min_bad if min_bad is None else min_bad,
            min_requests=own.min_requests if min_requests is None else min_requests,
            preset=preset,
        )


class RatioGate:
    """A `Gate` over bad and total counts. `observe` with an empty `arms.canary` takes in the baseline's history."""

    def __init__(self, spec: RatioSpec) -> None:
        self.spec = spec
        self._failed = ""
        self._sums = [0.0, 0.0, 0.0, 0.0]
        self._log_evidence = 0.0

    @property
    def name(self) -> str:
        return self.spec.name

    def observe(self, look: GateLook, arms: Arms, elapsed: float) -> Verdict:
        bad, total = _sum(look, arms.canary)
        bad_b, total_b = _sum(look, arms.baseline)
        if arms.canary:
            for index, count in enumerate((bad, total, bad_b, total_b)):
                self._sums[index] += count
        if total and total_b:
            p0 = self.spec.tolerance * total / (self.spec.tolerance * total + total_b)
            p1 = 5 * self.spec.tolerance * total / (5 * self.spec.tolerance * total + total_b)
            self._log_evidence += bad * math.log(p1 / p0) + bad_b * math.log((1 - p1) / (1 - p0))
        return self._verdict()

    def _verdict(self) -> Verdict:
        bad, total, bad_b, total_b = self._sums
        need = math.log(1 / self.spec.alpha)
        if self._log_evidence >= need and bad >= self.spec.min_bad:
            self._failed = "baseline"
        verdict, reason = INCONCLUSIVE, "undecided" if total else "no_data"
        if self._failed:
            verdict, reason = FAIL, self._failed
        elif total >= self.spec.min_requests and bad * 500 < total:
            verdict, reason = PASS, ""
        return Verdict(
            verdict,
            self.name,
            reason,
            value=bad / total if total else None,
            baseline=bad_b / total_b if total_b else None,
            limit=self.spec.maximum,
            samples={"canary": total, "baseline": total_b, "bad": bad, "baseline_bad": bad_b},
            evidence={"fail": min(1.0, max(0.0, self._log_evidence / need)), "pass": 0.0, "dispersion": 1.0},
        )

    def state(self) -> Dict[str, object]:
        return {"failed": self._failed, "sums": list(self._sums), "log_evidence": self._log_evidence}

    def restore(self, state: Mapping[str, object]) -> None:
        sums, log_evidence = state["sums"], state["log_evidence"]
        if isinstance(sums, Sequence) and isinstance(log_evidence, (int, float)):
            self._sums = [float(number) for number in sums]
            self._log_evidence = float(log_evidence)
        self._failed = str(state["failed"])


def _sum(look: GateLook, places: Tuple[str, ...]) -> Tuple[float, float]:
    counts = [look.counts[place] for place in places if place in look.counts]
    return sum(count.bad for count in counts), sum(count.total for count in counts)
