# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a regression would take to be seen at a given traffic: said before a bake starts.

The tests are played the expected counts of every look. Log-evidence is linear in the counts, so this is its expected
growth, caps, guards and dispersion included; half of all bakes will be a little faster, half slower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from .dispersion import divisor
from .presets import BETTER, GROSS_BAD, GROSS_RATE, GROSS_RATIO, SLOT
from .ratio import RatioSpec
from .sequential import Evidence, against_baseline, against_rate

LOOK = 2.0  # seconds


@dataclass(frozen=True)
class _Traffic:
    """Requests per second of the canary and of the whole baseline, their rates of bad ones, and how much is known."""

    canary: float
    baseline: float
    rate: float
    usual: float
    places: int
    history: float

    def counts(self, seconds: float) -> Tuple[Tuple[float, float], Tuple[float, float]]:
        canary, baseline = self.canary * seconds, self.baseline * seconds
        return (canary * self.rate, canary), (baseline * self.usual, baseline)


def expected_detection(
    spec: RatioSpec,
    rps: float,
    share: float,
    *,
    baseline_rate: float,
    places: int = 0,
    history: float = 0.0,
    horizon: float = 7200.0,
) -> Dict[str, Optional[float]]:
    """Seconds until a 2×, 5× and 50 %-errors regression fails, and a healthy release passes; None: not in `horizon`.

    Keys `2x`, `5x`, `50%`, `pass`. `rps` are requests per second over all places, `share` the canary's, 0..1.
    `places` is the number of baseline places, 0 when there is none; `history` is how many seconds of theirs are known.
    """
    canary = rps * share
    baseline = rps - canary if places else 0.0

    def traffic(rate: float) -> _Traffic:
        return _Traffic(canary, baseline, min(1.0, rate), baseline_rate, places, history)

    return {
        "2x": _fails(spec, traffic(2.0 * baseline_rate), horizon),
        "5x": _fails(spec, traffic(5.0 * baseline_rate), horizon),
        "50%": _fails(spec, traffic(0.5), horizon),
        "pass": _passes(spec, traffic(baseline_rate), horizon),
    }


def _fails(spec: RatioSpec, traffic: _Traffic, horizon: float) -> Optional[float]:
    own, needed = spec.own, spec.needed()
    cap = own.cap * math.log(1.0 / spec.alpha)
    tests = {
        test: Evidence(own.worse, now=own.now, cap=math.inf if test == "gross" else cap)
        for test in needed
        if (test == "limit" or traffic.places) and (test != "gross" or traffic.rate > GROSS_RATE)
    }
    ratios = {"baseline": spec.tolerance, "gross": max(GROSS_RATIO, spec.tolerance)}
    elapsed, by = 0.0, _divisor(spec, traffic, 0.0)
    while elapsed < horizon and tests:
        step = _step(elapsed)
        canary, baseline = traffic.counts(step)
        elapsed += step
        bad = traffic.canary * traffic.rate * elapsed
        for test, evidence in tests.items():
            if test in ratios and baseline[1] > 0.0 and canary[1] > 0.0:
                evidence.add(against_baseline(canary, baseline, ratios[test], multiples=evidence.multiples))
            elif spec.maximum is not None:
                evidence.add(against_rate(canary, spec.maximum, multiples=evidence.multiples))
            enough = max(spec.min_bad, GROSS_BAD if test == "gross" else 0)
            if bad >= enough and evidence.value(by) >= needed[test]:
                return elapsed
        if elapsed % SLOT == 0.0:
            following = _divisor(spec, traffic, elapsed)
            for evidence in tests.values():
                evidence.close(elapsed, by, following)
            by = following
    return None


def _passes(spec: RatioSpec, traffic: _Traffic, horizon: float) -> Optional[float]:
    miss = spec.own.miss
    margin, floor = Evidence(BETTER, ceiling=20.0 / miss), Evidence(BETTER, ceiling=20.0 / miss)
    bound = spec.floor if traffic.places else max(spec.floor, spec.maximum or 0.0)
    elapsed = 0.0
    while elapsed < horizon:
        step = _step(elapsed)
        canary, baseline = traffic.counts(step)
        elapsed += step
        floor.add(against_rate(canary, bound, multiples=floor.multiples))
        value = floor.value(1.0)
        if baseline[1] > 0.0 and canary[1] > 0.0:
            margin.add(against_baseline(canary, baseline, spec.margin, multiples=margin.multiples))
            value = (value + margin.value(1.0)) / 2.0
        if traffic.canary * elapsed >= spec.min_requests and value >= 1.0 / miss:
            return elapsed
        if elapsed % SLOT == 0.0:
            for evidence in (margin, floor):
                evidence.close(elapsed, 1.0, 1.0)
    return None


def _step(elapsed: float) -> float:
    """Looks of 2 s in the first two minutes, then one a slot: nobody reads seconds in hours."""
    return LOOK if elapsed < 12.0 * SLOT else SLOT


def _divisor(spec: RatioSpec, traffic: _Traffic, elapsed: float) -> float:
    """The divisor that independent requests lead to, once the places were watched for `history` + `elapsed` seconds."""
    watched = traffic.history + elapsed
    sums: List[Tuple[float, float, float]] = []
    for width in spec.own.windows:
        windows = math.floor(watched / width)
        variance = traffic.baseline * traffic.usual * windows * width
        if windows and variance > 0.0:
            sums.append((variance, variance, windows * (traffic.places - 1.0)))
    return divisor(spec.own, traffic.places, sums)
