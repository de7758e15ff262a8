# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic for the judge's bench: many bakes at once, counts per run, look and place.

Every place gets an equal share of the requests. Bad and good requests are Poisson given the place's rate at that
instant; the scenarios differ in how that rate moves, and in whether bad requests come one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Tuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
LOOK = 2.0  # seconds between looks
LOOKS = 900  # of the bake: 30 minutes
PAST = 600  # looks of healthy history before it: 20 minutes
PLACES = {5: 20, 10: 10, 25: 4}  # per share of the canary, in percent, of which the first place is the canary
OUTAGE = 0.3


@dataclass(frozen=True)
class Scenario:
    """`kind`: how the rate moves; `base`: the background's share of bad requests; `to`: the bad canary's.

    A canary with `to` > 0 is bad from `at` to `until` (seconds of the bake). `factor`, `lasts`, `every`: bursts.
    """

    label: str
    kind: str = "steady"
    base: float = 0.005
    to: float = 0.0
    at: float = 0.0
    until: float = 1e9
    factor: float = 1.0
    lasts: float = 0.0
    every: float = 0.0
    spread: float = 0.0
    size: float = 1.0

    @property
    def regression(self) -> bool:
        return self.to > 0.0


SCENARIOS: Dict[str, Scenario] = {
    "healthy-0": Scenario("healthy, no errors", base=0.0),
    "healthy-0.1": Scenario("healthy, 0.1 %", base=0.001),
    "healthy-0.5": Scenario("healthy, 0.5 %"),
    "healthy-0.9": Scenario("healthy, 0.9 %", base=0.009),
    "outage": Scenario("shared outage, 30 % for 2 min", kind="outage"),
    "retries-3": Scenario("retry clusters, mean 3", kind="clusters", size=3.0),
    "retries-8": Scenario("retry clusters, mean 8", kind="clusters", size=8.0),
    "retries-15": Scenario("retry clusters, mean 15", kind="clusters", size=15.0),
    "bursts-10s": Scenario("bursts per place, ×20, 10 s, every 10 min", "bursts", factor=20, lasts=10, every=600),
    "bursts-40s": Scenario("bursts per place, ×10, 40 s, every 20 min", "bursts", factor=10, lasts=40, every=1200),
    "bursts-shared": Scenario("bursts shared, ×10, 40 s, every 20 min", "shared", factor=10, lasts=40, every=1200),
    "lasting": Scenario("lasting differences, sd 0.4", kind="lasting", spread=0.4),
    "wander": Scenario("AR(1) per place, sd 1, 60 s", kind="wander", spread=1.0, lasts=60.0),
    "share": Scenario("share grows at 10 and 20 min, then outage", kind="share"),
    "0.1-0.5": Scenario("0.1 → 0.5 %", base=0.001, to=0.005),
    "0.1-2": Scenario("0.1 → 2 %", base=0.001, to=0.02),
    "0.5-3": Scenario("0.5 → 3 %", to=0.03),
    "0.5-5": Scenario("0.5 → 5 %", to=0.05),
    "0.5-50": Scenario("0.5 → 50 %", to=0.5),
    "first-minute": Scenario("5 % in the first minute only", to=0.05, until=60.0),
    "late-15": Scenario("good for 15 min, then 5 %", to=0.05, at=905.0),
    "late-25": Scenario("good for 25 min, then 5 %", to=0.05, at=1505.0),
}


@dataclass(frozen=True)
class Traffic:
    """`bad` and `total` are (run, look, place), history first; `canaries` is (look) how many places are canary."""

    bad: Array
    total: Array
    canaries: npt.NDArray[np.int64]
    past: int

    @property
    def runs(self) -> int:
        return int(self.bad.shape[0])


def generate(scenario: Scenario, rps: float, share: int, runs: int, seed: int, *, past: int = PAST) -> Traffic:
    """`runs` bakes of one scenario at `rps` requests per second over all places."""
    rng = np.random.default_rng(seed)
    places = PLACES[share]
    looks = past + LOOKS
    clock = (np.arange(looks) - past) * LOOK
    each = rps / places * LOOK
    rate = np.broadcast_to(_rate(scenario, rng, clock, runs, places), (runs, looks, places)).astype(np.float32)
    if scenario.regression:
        rate = rate.copy()
        # an onset between two looks: the look it falls into is bad in part
        part = np.clip((np.minimum(clock + LOOK, scenario.until) - np.maximum(clock, scenario.at)) / LOOK, 0.0, 1.0)
        rate[:, :, 0] += (part * (scenario.to - scenario.base)).astype(np.float32)
    rate = np.minimum(rate, 0.95)
    if scenario.kind == "clusters":
        bad = _clusters(rng, each * rate, scenario.size)
    else:
        bad = rng.poisson(each * rate).astype(np.float32)
    total = bad + rng.poisson(each * (1.0 - rate)).astype(np.float32)
    return Traffic(bad, total, _canaries(scenario, clock, places), past)


def _canaries(scenario: Scenario, clock: npt.NDArray[np.float64], places: int) -> npt.NDArray[np.int64]:
    count = np.ones(len(clock), dtype=np.int64)
    if scenario.kind == "share":
        for since, some in zip((600.0, 1200.0), _STEPS[places], strict=True):
            count[clock >= since] = some
    return count


_STEPS: Dict[int, Tuple[int, int]] = {20: (5, 10), 10: (3, 5), 4: (2, 3)}


def _rate(
    scenario: Scenario, rng: np.random.Generator, clock: npt.NDArray[np.float64], runs: int, places: int
) -> Array:
    shape = (runs, len(clock), places)
    base = np.full((1, len(clock), 1), scenario.base, dtype=np.float32)
    if scenario.kind in ("outage", "share"):
        start = 600.0 if scenario.kind == "outage" else 1400.0
        base[:, (clock >= start) & (clock < start + 120.0)] = OUTAGE
    elif scenario.kind == "bursts":
        return base * _bursts(scenario, rng, shape)
    elif scenario.kind == "shared":
        return base * _bursts(scenario, rng, (runs, len(clock), 1))
    elif scenario.kind == "lasting":
        return base * np.exp(rng.normal(0.0, scenario.spread, (runs, 1, places))).astype(np.float32)
    elif scenario.kind == "wander":
        return base * _wander(scenario, rng, shape)
    return base


def _bursts(scenario: Scenario, rng: np.random.Generator, shape: Tuple[int, int, int]) -> Array:
    """On and off, both exponential: `factor` while on. A look that is on in part counts in part."""
    runs, looks, places = shape
    rows, end = runs * places, looks * LOOK
    most = int(end / scenario.every * 3) + 12
    gaps, lasts = rng.exponential(scenario.every, (rows, most)), rng.exponential(scenario.lasts, (rows, most))
    ends = np.cumsum(gaps + lasts, axis=1)
    edges = np.zeros((rows, looks + 2), dtype=np.float32)
    for instants, sign in ((ends - lasts, 1.0), (ends, -1.0)):
        row, _column = inside = np.nonzero(instants < end)
        whole, part = np.divmod(instants[inside] / LOOK, 1.0)
        index = whole.astype(np.int64)
        np.add.at(edges, (row, index), sign * (1.0 - part))
        np.add.at(edges, (row, index + 1), sign * part)
    on = np.clip(np.cumsum(edges, axis=1)[:, :looks], 0.0, 1.0)
    rate: Array = (1.0 + (scenario.factor - 1.0) * on).reshape(runs, places, looks).transpose(0, 2, 1)
    return rate


def _wander(scenario: Scenario, rng: np.random.Generator, shape: Tuple[int, int, int]) -> Array:
    """A log rate that is a stationary AR(1) per place: sd `spread`, correlation time `lasts`, mean rate kept."""
    keep = float(np.exp(-LOOK / scenario.lasts))
    now = rng.normal(0.0, scenario.spread, (shape[0], shape[2]))
    logs: List[npt.NDArray[np.float64]] = []
    for _look in range(shape[1]):
        logs.append(now)
        now = keep * now + np.sqrt(1.0 - keep * keep) * rng.normal(0.0, scenario.spread, now.shape)
    rate: Array = np.exp(np.stack(logs, axis=1) - scenario.spread**2 / 2.0).astype(np.float32)
    return rate


def _clusters(rng: np.random.Generator, expected: Array, size: float) -> Array:
    """Bad requests that come in clusters of geometric size, each within one look and place."""
    clusters = rng.poisson(expected / size)
    bad: Array = np.zeros(expected.shape, dtype=np.float32)
    some = clusters > 0
    bad[some] = clusters[some] + rng.negative_binomial(clusters[some], 1.0 / size)
    return bad
