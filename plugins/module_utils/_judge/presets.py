# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How careful a ratio gate is, as data: three presets, each measured in `docs/judge.md`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict


@dataclass(frozen=True)
class Preset:
    """What a preset fixes. The first four are a gate's own defaults; the rest is how evidence is weighed."""

    tolerance: float
    margin: float
    min_bad: int
    min_requests: int


PRESETS: Dict[str, Preset] = {
    "careful": Preset(tolerance=2.0, margin=2.0, min_bad=6, min_requests=500),
    "balanced": Preset(tolerance=2.0, margin=2.0, min_bad=4, min_requests=200),
    "fast": Preset(tolerance=1.0, margin=2.0, min_bad=3, min_requests=100),
}
DEFAULT_PRESET = "balanced"
