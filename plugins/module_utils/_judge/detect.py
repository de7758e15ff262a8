# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a regression would take to be seen at a given traffic: said before a bake starts."""

from __future__ import annotations

import math
from typing import Dict, Optional

from .ratio import RatioSpec


def expected_detection(
    spec: RatioSpec, rps: float, share: float, *, baseline_rate: float, places: int = 0
) -> Dict[str, Optional[float]]:
    """Seconds until a 2×, 5× and 50 %-errors regression fails, and a healthy release passes; None: not seen.

    Keys `2x`, `5x`, `50%`, `pass`. `rps` are requests per second over all places, `share` the canary's, 0..1.
    `places` is the number of baseline places, 0 when there is none.
    """
    need = math.log(1 / spec.alpha)
    seen: Dict[str, Optional[float]] = {}
    for key, rate in (("2x", 2 * baseline_rate), ("5x", 5 * baseline_rate), ("50%", 0.5)):
        speed = rps * share * rate
        seen[key] = (
            max(need, float(spec.min_bad)) / speed if speed > 0 and rate > spec.tolerance * baseline_rate else None
        )
    seen["pass"] = 4.0 / (spec.floor * rps * share) if rps * share * spec.floor > 0 else None
    return seen
