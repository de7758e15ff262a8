# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How careful a ratio gate is, as data: three presets, each measured by the judge's bench (`docs/judge.md`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Tuple


@dataclass(frozen=True)
class Preset:
    """What a preset fixes: the first four are a gate's own defaults, the others say how evidence is weighed.

    A fail. `worse`: the alternatives, as multiples of the rate ratio under test, and their weights. `cap`: no slot of
    SLOT seconds gives more than this share of ln(1/α). `now`: the weight of "bad from the start"; the rest is spread
    over later starts. `gross`: the share of α kept for the test of gross regressions.

    Dispersion. `windows`: seconds over which counts are compared between places; none means that requests are taken
    as independent. `prior`: the dispersion believed before anything was seen, worth `prior_events` bad requests.
    `deadband`: standard errors that an estimate must stand out to count. `power`: evidence is divided by φ̂^power, for
    bursts have heavier tails than their variance tells. `few`: φ̂ grows by few / (places − 1), for few places know it
    badly. `lone`: the divisor where fewer than two places can be compared, and nothing can be estimated.

    A pass. `miss`: how often a release just over the bound may pass.
    """

    tolerance: float
    margin: float
    min_bad: int
    min_requests: int
    worse: Tuple[Tuple[float, float], ...]
    cap: float
    now: float
    gross: float
    windows: Tuple[float, ...]
    prior: float
    prior_events: float
    deadband: float
    power: float
    few: float
    lone: float
    miss: float


SLOT = 10.0
HORIZON = 1800.0  # half of the weight of later starts lies in the first HORIZON seconds

# Better alternatives, as multiples of the rate under test, and their weights.
BETTER: Tuple[Tuple[float, float], ...] = ((0.6, 0.3), (0.3, 0.3), (0.02, 0.4))

GROSS_RATIO = 5.0  # times the baseline's rate
GROSS_RATE = 0.1  # of the recent requests
GROSS_BAD = 8
LIMIT_SHARE = 0.3  # of α, for the limit, where there is one

_WINDOWS = (10.0, 30.0, 100.0, 300.0, 600.0)

PRESETS: Dict[str, Preset] = {
    "careful": Preset(
        tolerance=2.0,
        margin=2.0,
        min_bad=6,
        min_requests=500,
        worse=((1.5, 0.05), (2.5, 0.15), (5.0, 0.7), (15.0, 0.1)),
        cap=0.5,
        now=0.9,
        gross=0.05,
        windows=_WINDOWS,
        prior=3.0,
        prior_events=5.0,
        deadband=0.5,
        power=2.0,
        few=1.0,
        lone=6.0,
        miss=0.02,
    ),
    "balanced": Preset(
        tolerance=1.5,
        margin=2.0,
        min_bad=4,
        min_requests=200,
        worse=((1.5, 0.05), (2.5, 0.15), (5.0, 0.7), (15.0, 0.1)),
        cap=0.9,
        now=0.9,
        gross=0.05,
        windows=_WINDOWS,
        prior=3.0,
        prior_events=5.0,
        deadband=1.5,
        power=2.0,
        few=0.0,
        lone=3.0,
        miss=0.05,
    ),
    "fast": Preset(
        tolerance=1.0,
        margin=2.0,
        min_bad=3,
        min_requests=100,
        worse=((2.0, 0.05), (4.0, 0.1), (8.0, 0.8), (30.0, 0.05)),
        cap=math.inf,
        now=0.97,
        gross=0.0,
        windows=(),
        prior=1.0,
        prior_events=1.0,
        deadband=0.0,
        power=1.0,
        few=0.0,
        lone=1.0,
        miss=0.05,
    ),
}
DEFAULT_PRESET = "balanced"
