# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ratio gate: bad requests of all requests, the canary against the baseline and against a limit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .dispersion import Dispersion
from .model import FAIL, INCONCLUSIVE, PASS, Arms, Counts, GateLook, Verdict
from .presets import (
    BETTER,
    DEFAULT_PRESET,
    GROSS_BAD,
    GROSS_RATE,
    GROSS_RATIO,
    LIMIT_SHARE,
    PRESETS,
    SLOT,
    Preset,
)
from .sequential import Evidence, against_baseline, against_rate, numbers

FEW_PLACES = 6  # with fewer baseline places their dispersion is badly known: `evidence["weak"]`
_FADE = 0.8  # of the recent counts, kept at the end of each slot: about a minute's memory
_WORSE_THAN_BASELINE = "worse_than_baseline"
_OVER_LIMIT = "over_limit"
_SOURCE_REASONS = ("provider_error", "query_error")


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
    tolerance: float = 1.5
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

    @property
    def own(self) -> Preset:
        return PRESETS[self.preset]

    def needed(self) -> Dict[str, float]:
        """The evidence at which each test fails, 1 / (its share of α): `baseline`, and `gross` and `limit` if used."""
        gross = self.own.gross
        limit = 0.0 if self.maximum is None else LIMIT_SHARE
        shares = {"baseline": 1.0 - gross - limit, "gross": gross, "limit": limit}
        return {test: 1.0 / (self.alpha * share) for test, share in shares.items() if share > 0.0}


class RatioGate:
    """A `Gate` over bad and total counts.

    `observe` takes each look's increments per place; the arms are read anew each time. With an empty `arms.canary` it
    takes in the baseline's history (before the bake, `elapsed` < 0), which teaches it the dispersion. A fail stays; a
    pass is said anew at each look. In `evidence`: `fail` and `pass`, shares of the evidence needed; `dispersion`, what
    log-evidence for a fail is divided by; `test`, which test is nearest to a fail; `recent`, the canary's rate over
    about the last minute; `weak`, True with fewer than FEW_PLACES baseline places: then a fail that says
    `worse_than_baseline`, and not `over_limit`, is a reason to hold and ask.
    """

    def __init__(self, spec: RatioSpec) -> None:
        preset = spec.own
        self.spec = spec
        self._needed = spec.needed()
        self._tests = {
            test: Evidence(
                preset.worse,
                now=preset.now,
                cap=math.inf if test == "gross" else preset.cap * math.log(1.0 / spec.alpha),
            )
            for test in self._needed
        }
        ceiling = 20.0 / preset.miss
        self._margin = Evidence(BETTER, ceiling=ceiling)
        self._floor = Evidence(BETTER, ceiling=ceiling)
        self._dispersion = Dispersion(preset)
        self._divisors = (1.0, 1.0)  # for a fail, for a pass
        self._slot: Optional[int] = None
        self._places: Dict[str, List[float]] = {}
        self._sums = [0.0] * 4  # the canary's bad and total, the baseline's bad and total, over the bake
        self._recent = [0.0, 0.0]
        self._paired = False
        self._failed = ""

    @property
    def name(self) -> str:
        return self.spec.name

    def observe(self, look: GateLook, arms: Arms, elapsed: float) -> Verdict:
        """Take in one look (never twice the same) and say where the gate stands now."""
        slot = math.floor(elapsed / SLOT)
        if slot != self._slot:
            self._turn(slot, len(arms.baseline))
        canary = _add(look.counts, arms.canary, {})
        baseline = _add(look.counts, arms.baseline, self._places)
        if canary[1] > 0.0:
            self._weigh(canary, baseline, bool(arms.baseline))
        if arms.canary:
            self._sums = [mine + more for mine, more in zip(self._sums, canary + baseline)]
        values = {test: evidence.value(self._divisors[0]) for test, evidence in self._tests.items()}
        failed = self._fails(values)
        if failed == _OVER_LIMIT or not self._failed:  # a broken limit is the weightier reason, also later
            self._failed = failed
        return self._verdict(look, arms, values)

    def _turn(self, slot: int, places: int) -> None:
        """Begin another slot: settle the last one's evidence, and learn its dispersion."""
        start = slot * SLOT
        if self._slot is not None:
            self._dispersion.add(self._slot * SLOT, self._places)
        self._dispersion.settle(start, places)
        following = (self._dispersion.for_fail, self._dispersion.for_pass)
        if self._slot is not None:
            for evidence in self._tests.values():
                evidence.close(max(0.0, start), self._divisors[0], following[0])
            for evidence in (self._margin, self._floor):
                evidence.close(max(0.0, start), self._divisors[1], following[1])
        self._divisors = following
        self._recent = [_FADE * count for count in self._recent]
        self._places = {}
        self._slot = slot

    def _weigh(self, canary: Tuple[float, float], baseline: Tuple[float, float], paired: bool) -> None:
        spec, tests = self.spec, self._tests
        self._recent[0] += canary[0]
        self._recent[1] += canary[1]
        self._paired = paired
        if baseline[1] > 0.0 and (canary[0] > 0.0 or baseline[0] > 0.0):
            worse = tests["baseline"].multiples
            tests["baseline"].add(against_baseline(canary, baseline, spec.tolerance, multiples=worse))
            if "gross" in tests:
                gross = max(GROSS_RATIO, spec.tolerance)
                tests["gross"].add(against_baseline(canary, baseline, gross, multiples=worse))
            better = self._margin.multiples
            self._margin.add(against_baseline(canary, baseline, spec.margin, multiples=better))
        if spec.maximum is not None:
            tests["limit"].add(against_rate(canary, spec.maximum, multiples=tests["limit"].multiples))
        bound = spec.floor if paired else max(spec.floor, spec.maximum or 0.0)
        self._floor.add(against_rate(canary, bound, multiples=self._floor.multiples))

    def _fails(self, values: Mapping[str, float]) -> str:
        """Why the gate fails now, or an empty string."""
        bad = self._sums[0]
        if bad < self.spec.min_bad:
            return ""
        reached = [test for test, value in values.items() if value >= self._needed[test]]
        if "limit" in reached:
            return _OVER_LIMIT
        gross = "gross" in reached and bad >= GROSS_BAD and self._recent[0] > GROSS_RATE * self._recent[1]
        return _WORSE_THAN_BASELINE if gross or "baseline" in reached else ""

    def _passing(self) -> float:
        """The evidence for a pass, as a share of what is needed."""
        floor = self._floor.value(self._divisors[1])
        value = (floor + self._margin.value(self._divisors[1])) / 2.0 if self._paired else floor
        return _share(value, 1.0 / self.spec.own.miss)

    def _verdict(self, look: GateLook, arms: Arms, values: Mapping[str, float]) -> Verdict:
        bad, total, bad_b, total_b = self._sums
        shares = {test: _share(value, self._needed[test]) for test, value in values.items()}
        test = max(shares, key=lambda name: shares[name])
        passing = self._passing()
        verdict, reason = FAIL, self._failed
        if not reason:
            reason = self._missing(look, arms)
            if not reason and total >= self.spec.min_requests and passing >= 1.0 and shares[test] < 0.5:
                verdict = PASS
            else:
                verdict = INCONCLUSIVE
                reason = reason or ("low_sample" if total < self.spec.min_requests else "undecided")
        rate_b = bad_b / total_b if total_b > 0.0 else None
        return Verdict(
            verdict,
            self.spec.name,
            reason,
            bad / total if total > 0.0 else None,
            self._bound(rate_b),
            rate_b,
            {"canary": total, "baseline": total_b, "bad": bad, "baseline_bad": bad_b},
            {
                "fail": 1.0 if self._failed else shares[test],
                "pass": passing,
                "dispersion": self._divisors[0],
                "test": test,
                "recent": self._recent[0] / self._recent[1] if self._recent[1] > 0.0 else None,
                "weak": self._paired and self._dispersion.places < FEW_PLACES,
            },
        )

    def _bound(self, baseline: Optional[float]) -> float:
        if self.spec.maximum is not None:
            return self.spec.maximum
        return max(self.spec.floor, self.spec.margin * (baseline or 0.0))

    def _missing(self, look: GateLook, arms: Arms) -> str:
        """Why this look cannot carry a pass, or an empty string."""
        for places in (arms.canary, arms.baseline):
            if not places or any(place in look.counts for place in places):
                continue
            absent = [look.absent[place].reason for place in places if place in look.absent]
            return next((reason for reason in _SOURCE_REASONS if reason in absent), "no_data")
        return "" if arms.canary and self._sums[1] > 0.0 else "no_data"

    def state(self) -> Dict[str, object]:
        return {
            "slot": self._slot,
            "places": {place: list(count) for place, count in self._places.items()},
            "sums": list(self._sums),
            "recent": list(self._recent),
            "divisors": list(self._divisors),
            "paired": self._paired,
            "failed": self._failed,
            "dispersion": self._dispersion.state(),
            "evidence": {name: evidence.state() for name, evidence in self._all()},
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Take up where `state` left off. Raises ValueError when it is not the state of a gate with this spec."""
        slot, places, evidence = state.get("slot"), state.get("places"), state.get("evidence")
        dispersion = state.get("dispersion")
        if not (isinstance(places, Mapping) and isinstance(evidence, Mapping) and isinstance(dispersion, Mapping)):
            raise ValueError(f"not the state of a ratio gate: {self.name}")
        if {name for name, _evidence in self._all()} != set(evidence):
            raise ValueError(f"the state of another kind of gate: {self.name}")
        for name, mine in self._all():
            mine.restore(evidence[name])
        self._dispersion.restore(dispersion)
        self._slot = slot if isinstance(slot, int) else None
        self._places = {str(place): numbers(count, 2) for place, count in places.items()}
        self._sums, self._recent = numbers(state.get("sums"), 4), numbers(state.get("recent"), 2)
        fail, passing = numbers(state.get("divisors"), 2)
        self._divisors = (fail, passing)
        self._paired, self._failed = bool(state.get("paired")), str(state.get("failed") or "")

    def _all(self) -> Sequence[Tuple[str, Evidence]]:
        return (*self._tests.items(), ("margin", self._margin), ("floor", self._floor))


def _add(counts: Mapping[str, Counts], places: Tuple[str, ...], into: Dict[str, List[float]]) -> Tuple[float, float]:
    """The sum of bad and total over `places`, each also added to `into`. A count that is no number is left out."""
    bad, total = 0.0, 0.0
    for place in places:
        count = counts.get(place)
        if count is None or not (0.0 <= count.bad < math.inf and 0.0 <= count.total < math.inf):
            continue
        bad += count.bad
        total += count.total
        mine = into.get(place)
        if mine is None:
            into[place] = [count.bad, count.total]
        else:
            mine[0] += count.bad
            mine[1] += count.total
    return bad, total


def _share(value: float, needed: float) -> float:
    """How much of the log-evidence needed there is, 0..1."""
    return 0.0 if value <= 1.0 else min(1.0, math.log(value) / math.log(needed))
