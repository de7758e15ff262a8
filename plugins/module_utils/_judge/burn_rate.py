# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The burn-rate gate: how fast the canary alone spends an error budget, in several windows at once.

The burn is error ratio ÷ (1 − SLO). A pair of windows fires when the long one and the short one both burn faster than
its factor; the short one lets go once the trouble is over. Factors are those of the Site Reliability Workbook,
chapter 5 (14.4 over 1 h and 5 min, 6 over 6 h and 30 min, of a 30-day budget). A bake is shorter than six hours, so the
windows are scaled until the slow pair's long one is the bake's deadline; the factors stay.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Tuple

from . import stored
from .model import FAIL, INCONCLUSIVE, PASS, Arms, GateLook, Verdict
from .spec import BurnRule, BurnWindow
from .value import absence

_WORKBOOK = (BurnWindow(3600.0, 300.0, 14.4), BurnWindow(21600.0, 1800.0, 6.0))
_SLOTS = 360  # how finely the longest window is remembered


def scaled_windows(deadline: float) -> Tuple[BurnWindow, ...]:
    """The workbook's pairs, scaled so that the longest is `deadline` seconds."""
    scale = deadline / _WORKBOOK[-1].long
    return tuple(BurnWindow(pair.long * scale, pair.short * scale, pair.factor) for pair in _WORKBOOK)


class BurnRateGate:
    """A `Gate` over bad and total counts of the canary; the baseline's burn is told, not judged."""

    def __init__(self, name: str, rule: BurnRule, *, deadline: float) -> None:
        self._name = name
        self._rule = rule
        self.windows = rule.windows or scaled_windows(deadline)
        self._longest = max(pair.long for pair in self.windows)
        self._slots: List[List[float]] = []  # [start, bad, total, baseline bad, baseline total]
        self._failed = ""

    @property
    def name(self) -> str:
        return self._name

    def observe(self, look: GateLook, arms: Arms, elapsed: float) -> Verdict:
        canary = [look.counts[place] for place in arms.canary if place in look.counts]
        baseline = [look.counts[place] for place in arms.baseline if place in look.counts]
        if not self._slots or elapsed >= self._slots[-1][0] + self._longest / _SLOTS:
            self._slots = [slot for slot in self._slots if slot[0] > elapsed - self._longest]
            self._slots.append([elapsed, 0.0, 0.0, 0.0, 0.0])
        slot = self._slots[-1]
        for index, counts in ((1, canary), (3, baseline)):
            slot[index] += sum(count.bad for count in counts)
            slot[index + 1] += sum(count.total for count in counts)
        return self._verdict(elapsed, "" if canary else absence(look, arms.canary))

    def _sums(self, elapsed: float, window: float) -> List[float]:
        recent = [slot for slot in self._slots if slot[0] > elapsed - window]
        return [sum(slot[index] for slot in recent) for index in range(1, 5)]

    def _burn(self, bad: float, total: float) -> float:
        return bad / total / (1 - self._rule.slo) if total > 0 else 0.0

    def _verdict(self, elapsed: float, missing: str) -> Verdict:
        burns: Dict[str, object] = {}
        heat = 0.0
        for pair in self.windows:
            bad, total = self._sums(elapsed, pair.long)[:2]
            long, short = self._burn(bad, total), self._burn(*self._sums(elapsed, pair.short)[:2])
            burns[f"{pair.long:g}s"], burns[f"{pair.short:g}s"] = round(long, 3), round(short, 3)
            heat = max(heat, min(long, short) / pair.factor, 0.0)
            if bad >= self._rule.min_bad and long > pair.factor and short > pair.factor:
                self._failed = self._failed or f"burns {long:.3g} times the budget in {pair.long:g}s"
        bad, total, bad_b, total_b = self._sums(elapsed, self._longest)
        budget = 1 - self._rule.slo
        verdict, reason, cool = self._standing(bad, total, missing)
        return Verdict(
            verdict,
            self._name,
            reason,
            value=bad / total if total > 0 else None,
            limit=self._rule.pass_burn * budget,
            baseline=bad_b / total_b if total_b > 0 else None,
            samples={"canary": total, "baseline": total_b, "bad": bad, "baseline_bad": bad_b},
            evidence={"fail": 1.0 if self._failed else min(1.0, heat), "pass": cool, "burn": burns},
        )

    def _standing(self, bad: float, total: float, missing: str) -> Tuple[str, str, float]:
        """Verdict, reason and how much of the sample for a pass is there.

        Rule of three: without one bad request, n requests show a rate under 3/n with 95 %, so a pass needs
        n · pass_burn · (1 − SLO) ≥ 3 before it means anything.
        """
        needed = max(float(self._rule.min_requests), 3 / (self._rule.pass_burn * (1 - self._rule.slo)))
        sample = min(1.0, total / needed)
        if self._failed:
            return FAIL, self._failed, sample
        if missing:
            return INCONCLUSIVE, missing, sample
        if sample < 1.0:
            return INCONCLUSIVE, "low_sample" if total > 0 else "no_data", sample
        calm = self._burn(bad, total) <= self._rule.pass_burn
        return (PASS, "", sample) if calm else (INCONCLUSIVE, "undecided", sample)

    def state(self) -> Dict[str, object]:
        return {"slots": [list(slot) for slot in self._slots], "failed": self._failed}

    def restore(self, state: Mapping[str, object]) -> None:
        self._slots = [(stored.numbers(row) + [0.0] * 5)[:5] for row in stored.rows(state.get("slots"))]
        self._failed = str(state.get("failed") or "")
