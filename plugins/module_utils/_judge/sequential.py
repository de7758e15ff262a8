# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sequential tests of counts that may be read at every look without losing their level.

Each is a product of likelihood ratios with expectation ≤ 1 under the hypothesis it tests, whatever the traffic does:
the chance that it *ever* reaches 1/α is at most α (Ville). Canary against baseline is conditional on each look's
total of bad requests, so that a rate shared by both sides cancels (Lindon and Malek, arXiv 2011.03567); against a known
rate it is Poisson, which bounds the binomial. Raising a factor to a power of 1/φ ≤ 1, capping it, or keeping some
of the stake for later starts can only lower that expectation.
"""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, Sequence, Tuple

from .presets import HORIZON


def against_baseline(
    canary: Tuple[float, float], baseline: Tuple[float, float], ratio: float, *, multiples: Sequence[float]
) -> List[float]:
    """Log-evidence of one look against "the canary's rate is `ratio` times the baseline's", per alternative multiple.

    `canary` and `baseline` are (bad, total), both totals above 0. Given all bad requests of the look, the canary's are
    binomial with p = λ·n_c / (λ·n_c + n_b), λ = ratio × multiple.
    """
    bad, total = canary
    every = bad + baseline[0]
    null = ratio * total + baseline[1]
    return [
        bad * math.log(multiple) - every * math.log((multiple * ratio * total + baseline[1]) / null)
        for multiple in multiples
    ]


def against_rate(canary: Tuple[float, float], rate: float, *, multiples: Sequence[float]) -> List[float]:
    """Log-evidence of one look against "the canary's rate is `rate`", per alternative multiple of it (Poisson)."""
    bad, total = canary
    return [bad * math.log(multiple) - total * rate * (multiple - 1.0) for multiple in multiples]


class Evidence:
    """A test's evidence, mixed over alternatives and over start times, in constant memory.

    It is a stake of 1 divided among the alternatives by weight. Of each part, `now` is played from the start, and the
    rest is added slot by slot: by the time t, t / (t + HORIZON) of it. Within a slot the gain of an alternative
    is capped at e^cap. `ceiling` bounds what is kept, so that good days gone by cannot outweigh today.
    """

    def __init__(
        self,
        alternatives: Sequence[Tuple[float, float]],
        *,
        now: float = 1.0,
        cap: float = math.inf,
        ceiling: float = 1e60,
    ) -> None:
        self.multiples = [multiple for multiple, _weight in alternatives]
        self._weights = [weight for _multiple, weight in alternatives]
        self._cap = min(cap, 100.0)
        self._ceiling = ceiling
        self._now = now
        self._kept = [now] * len(self.multiples)
        self._slot = [0.0] * len(self.multiples)
        self._released = 0.0

    def add(self, log_evidence: Sequence[float]) -> None:
        """Take in one look's log-evidence, per alternative."""
        self._slot = [mine + more for mine, more in zip(self._slot, log_evidence)]

    def value(self, divisor: float) -> float:
        """The evidence now: fail (or pass) at 1/α. `divisor` is what log-evidence is divided by, at least 1."""
        won = sum(
            weight * kept * math.exp(min(self._cap, mine / divisor))
            for weight, kept, mine in zip(self._weights, self._kept, self._slot)
        )
        return won + (1.0 - self._now - self._released)

    def close(self, elapsed: float, divisor: float, following: float) -> None:
        """End a slot at `elapsed` seconds of the bake. `following` is the divisor from here on.

        A divisor that has grown says that what was won so far was worth less: it is divided again, never multiplied.
        """
        late = 1.0 - self._now
        released = max(self._released, late * elapsed / (elapsed + HORIZON))
        more, self._released = released - self._released, released
        staked = self._now + released
        for index, mine in enumerate(self._slot):
            kept = min(self._ceiling, self._kept[index] * math.exp(min(self._cap, mine / divisor))) + more
            if following > divisor and kept > staked:
                kept = staked * (kept / staked) ** (divisor / following)
            self._kept[index] = kept
        self._slot = [0.0] * len(self._slot)

    def state(self) -> Dict[str, object]:
        return {"kept": list(self._kept), "slot": list(self._slot), "released": self._released}

    def restore(self, state: Mapping[str, object]) -> None:
        """Raises ValueError when `state` is not one of ours."""
        size = len(self.multiples)
        self._kept, self._slot = numbers(state.get("kept"), size), numbers(state.get("slot"), size)
        (self._released,) = numbers([state.get("released")], 1)


def numbers(given: object, size: int) -> List[float]:
    """`given` as a list of `size` floats; ValueError when it is anything else."""
    if not isinstance(given, (list, tuple)) or len(given) != size:
        raise ValueError(f"not {size} numbers")
    if not all(isinstance(number, (int, float)) for number in given):
        raise ValueError("not a number")
    return [float(number) for number in given]
