# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much more the places' counts scatter than independent requests would.

Retries, bursts and lasting differences between places all make bad requests come in clumps. Pearson's dispersion
φ̂ = Σ(observed − expected)² / Σ variance, of counts per place given each window's total (a multinomial, so that whatever
hits all places at once cancels), measures that; McCullagh and Nelder, *Generalized Linear Models*, 1989, 4.5.
"""

from __future__ import annotations

import math
from typing import Dict, Iterable, List, Mapping, Tuple

from .presets import Preset
from .sequential import numbers


def divisor(preset: Preset, places: int, sums: Iterable[Tuple[float, float, float]]) -> float:
    """φ̂^power of `preset` for `places` baseline places, from each window's (scatter, variance, degrees of freedom)."""
    if not preset.windows:
        return 1.0
    if places < 2:
        return preset.lone
    seen = [
        (scatter + preset.prior_events * preset.prior) / (variance + preset.prior_events)
        - preset.deadband * math.sqrt(2.0 / freedom)
        for scatter, variance, freedom in sums
        if freedom > 0.0
    ]
    largest = max(seen) if seen else preset.prior
    return float(max(1.0, largest * (1.0 + preset.few / (places - 1))) ** preset.power)


class _Window:
    """Counts per place of the window of `width` seconds that is open, and the sums over those that are closed."""

    def __init__(self, width: float) -> None:
        self.width = width
        self.index = 0
        self.places: Dict[str, List[float]] = {}
        self.scatter = 0.0
        self.variance = 0.0
        self.freedom = 0.0

    def add(self, elapsed: float, counts: Mapping[str, List[float]]) -> None:
        """Take in what the places did in a slot that began at `elapsed`."""
        index = math.floor(elapsed / self.width)
        if index != self.index:
            self._close()
            self.index = index
        for place, (bad, total) in counts.items():
            mine = self.places.setdefault(place, [0.0, 0.0])
            mine[0] += bad
            mine[1] += total

    def _close(self) -> None:
        bad = sum(count[0] for count in self.places.values())
        total = sum(count[1] for count in self.places.values())
        if len(self.places) > 1 and bad > 0.0 and total > 0.0:
            for mine, all_of in self.places.values():
                share = all_of / total
                self.scatter += (mine - bad * share) ** 2
                self.variance += bad * share * (1.0 - share)
            self.freedom += len(self.places) - 1
        self.places = {}


class Dispersion:
    """φ̂ of the baseline's places: the largest over windows of several lengths. Memory: places × windows."""

    def __init__(self, preset: Preset) -> None:
        self._preset = preset
        self._windows = [_Window(width) for width in preset.windows]
        self._most = 0

    def add(self, elapsed: float, counts: Mapping[str, List[float]]) -> None:
        """Take in one slot that began at `elapsed`: `[bad, total]` per place of the baseline."""
        for window in self._windows:
            window.add(elapsed, counts)

    def settle(self, elapsed: float, places: int) -> None:
        """Close the windows that end at or before `elapsed`; `places` baseline places are watched from here on."""
        self._most = max(self._most, places)
        for window in self._windows:
            window.add(elapsed, {})

    @property
    def for_fail(self) -> float:
        """What the evidence for a fail is divided by, at least 1."""
        return divisor(self._preset, self._most, [(w.scatter, w.variance, w.freedom) for w in self._windows])

    @property
    def for_pass(self) -> float:
        """What the evidence for a pass is divided by: no prior, for a service without errors must be able to pass."""
        return max([1.0] + [(w.scatter + 1.0) / (w.variance + 1.0) for w in self._windows if w.freedom])

    @property
    def places(self) -> int:
        """The largest number of baseline places compared so far."""
        return self._most

    def state(self) -> Dict[str, object]:
        return {
            "most": self._most,
            "windows": [
                {
                    "index": window.index,
                    "places": {place: list(count) for place, count in window.places.items()},
                    "sums": [window.scatter, window.variance, window.freedom],
                }
                for window in self._windows
            ],
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Raises ValueError when `state` is not one of ours."""
        most, windows = state.get("most"), state.get("windows")
        if not isinstance(most, int) or not isinstance(windows, list) or len(windows) != len(self._windows):
            raise ValueError("not a dispersion's state")
        self._most = most
        for window, saved in zip(self._windows, windows):
            window.index = int(saved["index"])
            window.places = {str(place): numbers(count, 2) for place, count in saved["places"].items()}
            window.scatter, window.variance, window.freedom = numbers(saved["sums"], 3)
