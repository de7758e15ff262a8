# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of how Argo Rollouts, Flagger and Kayenta would judge the same traffic.

They are given fresh counts without scrape delay, which is better than they get in the field.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Sequence, Tuple

import numpy as np
import numpy.typing as npt
from judge_traffic import LOOK, Traffic

Floats = npt.NDArray[np.float64]
LIMIT = 0.01
TOLERANCE = 0.25
Z = NormalDist().inv_cdf(1.0 - (1.0 - 0.98) / 2.0)


def argo(traffic: Traffic) -> npt.NDArray[np.int64]:
    """Interval 30 s, failureLimit 2 (the third failure aborts), the canary's 2-min rate under 1 %:."""
    bad, total = _canary(traffic)
    every, window = round(30 / LOOK), round(120 / LOOK)
    failures, aborted = np.zeros(traffic.runs), np.full(traffic.runs, -1)
    for look in range(every, bad.shape[1] + 1, every):
        failures += _over(bad, total, look, window)
        aborted[(aborted < 0) & (failures > 2)] = look - 1
    return aborted


def flagger(traffic: Traffic) -> npt.NDArray[np.int64]:
    """Interval 1 min, threshold 5, the last minute's rate at most 1 %; failures count at the next tick."""
    bad, total = _canary(traffic)
    every = round(60 / LOOK)
    failures, aborted = np.zeros(traffic.runs), np.full(traffic.runs, -1)
    for look in range(every, bad.shape[1] + 1, every):
        aborted[(aborted < 0) & (failures >= 5)] = look - 1
        failures += _over(bad, total, look, every)
    return aborted


def kayenta(traffic: Traffic) -> npt.NDArray[np.int64]:
    """NetflixACAJudge on error rates per minute, canary against one place of the baseline, at 10, 20 and 30 min."""
    minute = round(60 / LOOK)
    aborted = np.full(traffic.runs, -1)
    canary, baseline = (_rates(traffic, place, minute) for place in (0, -1))
    for points in (10, 20, 30):
        high = classified_high(canary[:, :points], baseline[:, :points])
        aborted[(aborted < 0) & high] = points * minute - 1
    return aborted


def _canary(traffic: Traffic) -> Tuple[Floats, Floats]:
    mask = np.arange(traffic.bad.shape[2])[None, :] < traffic.canaries[traffic.past :, None]
    bad, total = ((side[:, traffic.past :] * mask).sum(axis=2, dtype=float) for side in (traffic.bad, traffic.total))
    return np.cumsum(bad, axis=1), np.cumsum(total, axis=1)


def _over(bad: Floats, total: Floats, look: int, window: int) -> Floats:
    """1 where the rate over the `window` looks before `look` is above the limit, or where there was no request."""
    since = look - window
    b, n = (side[:, look - 1] - (side[:, since - 1] if since > 0 else 0.0) for side in (bad, total))
    over: Floats = ((b > LIMIT * n) | (n == 0)).astype(float)
    return over


def _rates(traffic: Traffic, place: int, minute: int) -> Floats:
    bad, total = (
        side[:, traffic.past :, place].reshape(traffic.runs, -1, minute).sum(axis=2, dtype=float)
        for side in (traffic.bad, traffic.total)
    )
    return bad / np.maximum(total, 1.0)  # a minute without a request is 0, as with Kayenta's default nanStrategy


def classified_high(canary: Floats, baseline: Floats) -> npt.NDArray[np.bool_]:
    """`mann_whitney` says High, for many pairs of samples at once: (run, point) each.

    Its estimate is the Hodges-Lehmann shift (the median difference), and its lower confidence bound exceeds b exactly
    when the standardised rank sum of canary − b exceeds z, or the lower end of the bracket does.
    """
    differences = (canary[:, :, None] - baseline[:, None, :]).reshape(len(canary), -1)
    estimate = np.median(differences, axis=1)
    bound = TOLERANCE * np.abs(estimate)
    lowest = differences.min(axis=1)
    above = (_score(canary - bound[:, None], baseline, Z) > 0.0) | (lowest > bound)
    clamped = _score(canary - lowest[:, None], baseline, Z) <= 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = canary.mean(axis=1) / baseline.mean(axis=1)
    effect = ~(ratio < 1.0) | (baseline.mean(axis=1) == 0.0)
    constant = (np.ptp(canary, axis=1) == 0.0) & (np.ptp(baseline, axis=1) == 0.0)
    low = np.where(clamped, lowest > bound, above)
    high: npt.NDArray[np.bool_] = np.where(constant, canary[:, 0] - baseline[:, 0] > bound, low) & effect
    return high & (np.sort(canary, axis=1) != np.sort(baseline, axis=1)).any(axis=1)


def _score(x: Floats, y: Floats, quantile: float) -> Floats:
    """W of the facts below, for rows of `x` and `y`; 0 variance gives 0."""
    m, n = x.shape[1], y.shape[1]
    greater = (x[:, :, None] > y[:, None, :]).sum(axis=(1, 2)) + 0.5 * (x[:, :, None] == y[:, None, :]).sum(axis=(1, 2))
    d = greater - m * n / 2.0
    pooled = np.concatenate([x, y], axis=1)
    same = (pooled[:, :, None] == pooled[:, None, :]).sum(axis=2, dtype=float)
    ties = (same**2 - 1.0).sum(axis=1)
    variance = m * n / 12.0 * (m + n + 1.0 - ties / ((m + n) * (m + n - 1.0)))
    sigma = np.sqrt(np.maximum(variance, 0.0))
    score: Floats = np.where(sigma > 0.0, (d - 0.5 * np.sign(d)) / np.maximum(sigma, 1e-12) - quantile, 0.0)
    return score


def mann_whitney(canary: Sequence[float], baseline: Sequence[float]) -> Tuple[str, float, float, float]:
    """One metric by NetflixACAJudge-v1.0, direction increase or decrease: (class, CI low, CI high, estimate).

    The asymptotic Wilcoxon interval: W(μ, q) = (D − c) / σ − q with D the canary's rank sum, shifted by −μ, less its
    expectation, c = sign(D) / 2 and σ² corrected for ties; CI = [root(z), root(−z)], estimate = root(0).
    Class: High when CI low > 0.25·|estimate| and the ratio of means is not below 1, Low mirrored.
    """
    x, y = np.array([canary], dtype=float), np.array([baseline], dtype=float)
    if sorted(canary) == sorted(baseline) or np.unique(np.concatenate([x, y])).size == 1:
        return "Pass", 0.0, 0.0, 0.0
    lower, upper = float(x.min() - y.max()), float(x.max() - y.min())
    if lower == upper:
        low = high = estimate = lower
    else:
        low, high, estimate = (_root(x, y, q, lower, upper) for q in (Z, -Z, 0.0))
    bound = TOLERANCE * abs(estimate)
    ratio = float(x.mean() / y.mean()) if x.mean() and y.mean() else math.nan
    if low > bound and not ratio < 1.0:
        return "High", low, high, estimate
    if high < -bound and not ratio > 1.0:
        return "Low", low, high, estimate
    return "Pass", low, high, estimate


def _root(x: Floats, y: Floats, quantile: float, lower: float, upper: float) -> float:
    if _score(x - lower, y, quantile)[0] <= 0.0:
        return lower
    if _score(x - upper, y, quantile)[0] >= 0.0:
        return upper
    for _halving in range(200):
        middle = (lower + upper) / 2.0
        if _score(x - middle, y, quantile)[0] > 0.0:
            lower = middle
        else:
            upper = middle
    return (lower + upper) / 2.0
