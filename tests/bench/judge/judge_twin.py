# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`RatioGate` for many bakes at once: the same arithmetic over arrays, with looks every 2 s from 0.

It only exists because 30 minutes of looks take the real gate 40 ms, and the bench judges more than a million bakes.
The bench replays a sample of every cell through the real gate: same verdicts at the same looks, or a bar is missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
import numpy.typing as npt
from judge_traffic import LOOK, Traffic

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Arms, Counts, GateLook
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.presets import (
    BETTER,
    GROSS_BAD,
    GROSS_RATE,
    GROSS_RATIO,
    HORIZON,
    SLOT,
    Preset,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.ratio import RatioGate, RatioSpec

Floats = npt.NDArray[np.float64]
PER_SLOT = int(SLOT / LOOK)


@dataclass(frozen=True)
class Judged:
    """Per run, the look at which the gate failed and the look at which it first passed; −1 for never."""

    failed: npt.NDArray[np.int64]
    passed: npt.NDArray[np.int64]


class _Evidence:
    """`Evidence`, for all runs."""

    def __init__(
        self, alternatives: Sequence[Tuple[float, float]], runs: int, *, now: float, cap: float, ceiling: float
    ) -> None:
        self.multiples = np.array([multiple for multiple, _weight in alternatives])[:, None]
        self.weights = np.array([weight for _multiple, weight in alternatives])[:, None]
        self.cap, self.ceiling, self.now, self.released = min(cap, 100.0), ceiling, now, 0.0
        self.kept = np.full((len(alternatives), runs), now)
        self.slot = np.zeros((len(alternatives), runs))

    def value(self, divisor: Floats) -> Floats:
        won: Floats = (self.weights * self.kept * np.exp(np.minimum(self.cap, self.slot / divisor))).sum(axis=0)
        return won + (1.0 - self.now - self.released)

    def close(self, elapsed: float, divisor: Floats, following: Floats) -> None:
        released = max(self.released, (1.0 - self.now) * elapsed / (elapsed + HORIZON))
        more, self.released = released - self.released, released
        staked = self.now + released
        kept = np.minimum(self.ceiling, self.kept * np.exp(np.minimum(self.cap, self.slot / divisor))) + more
        shrink = (following > divisor) & (kept > staked)
        power = np.broadcast_to(divisor / following, kept.shape)
        kept[shrink] = staked * (kept[shrink] / staked) ** power[shrink]
        self.kept = kept
        self.slot = np.zeros_like(kept)

    def conditional(self, canary: Tuple[Floats, Floats], baseline: Tuple[Floats, Floats], ratio: float) -> None:
        bad, total = canary
        both = (total > 0.0) & (baseline[1] > 0.0)
        null = np.where(both, ratio * total + baseline[1], 1.0)
        worse = np.where(both, self.multiples * ratio * total + baseline[1], 1.0)
        self.slot += np.where(both, bad * np.log(self.multiples) - (bad + baseline[0]) * np.log(worse / null), 0.0)

    def poisson(self, canary: Tuple[Floats, Floats], rate: float) -> None:
        self.slot += canary[0] * np.log(self.multiples) - canary[1] * rate * (self.multiples - 1.0)


def judge(spec: RatioSpec, traffic: Traffic, *, history: bool = True) -> Judged:
    """What `RatioGate(spec)` says of every run; `spec` without a `maximum`."""
    preset, runs, past = spec.own, traffic.runs, traffic.past
    looks = traffic.bad.shape[1] - past
    canary, baseline = _arms(traffic)
    fail_by, pass_by = _divisors(preset, traffic, history)
    needed = spec.needed()
    cap = preset.cap * np.log(1.0 / spec.alpha)
    test = _Evidence(preset.worse, runs, now=preset.now, cap=cap, ceiling=1e60)
    gross = _Evidence(preset.worse, runs, now=preset.now, cap=np.inf, ceiling=1e60)
    margin, floor = (_Evidence(BETTER, runs, now=1.0, cap=np.inf, ceiling=20.0 / preset.miss) for _ in range(2))
    recent: List[Floats] = [np.zeros(runs), np.zeros(runs)]
    bad, total = np.zeros(runs), np.zeros(runs)
    failed, passed = np.full(runs, -1), np.full(runs, -1)
    for look in range(looks):
        slot = look // PER_SLOT
        if look % PER_SLOT == 0:
            before = max(0, slot - 1)
            if slot:
                for evidence in (test, gross):
                    evidence.close(slot * SLOT, fail_by[before], fail_by[slot])
                for evidence in (margin, floor):
                    evidence.close(slot * SLOT, pass_by[before], pass_by[slot])
            recent = [0.8 * recent[0], 0.8 * recent[1]]
        mine = (canary[0][:, look], canary[1][:, look])
        theirs = (baseline[0][:, look], baseline[1][:, look])
        bad, total = bad + mine[0], total + mine[1]
        recent = [recent[0] + mine[0], recent[1] + mine[1]]
        test.conditional(mine, theirs, spec.tolerance)
        margin.conditional(mine, theirs, spec.margin)
        floor.poisson(mine, spec.floor)
        value = test.value(fail_by[slot])
        share = np.log(np.maximum(value, 1.0)) / np.log(needed["baseline"])
        fails = (value >= needed["baseline"]) & (bad >= spec.min_bad)
        if "gross" in needed:
            gross.conditional(mine, theirs, max(GROSS_RATIO, spec.tolerance))
            value = gross.value(fail_by[slot])
            share = np.maximum(share, np.log(np.maximum(value, 1.0)) / np.log(needed["gross"]))
            enough = (bad >= max(GROSS_BAD, spec.min_bad)) & (recent[0] > GROSS_RATE * recent[1])
            fails |= (value >= needed["gross"]) & enough
        failed[(failed < 0) & fails] = look
        passes = (margin.value(pass_by[slot]) + floor.value(pass_by[slot])) / 2.0 >= 1.0 / preset.miss
        passes &= (total >= spec.min_requests) & (share < 0.5) & (failed < 0)
        passed[(passed < 0) & passes] = look
    return Judged(failed, passed)


def _arms(traffic: Traffic) -> Tuple[Tuple[Floats, Floats], Tuple[Floats, Floats]]:
    """(bad, total) of the canary and of the baseline, per run and look of the bake."""
    is_canary = np.arange(traffic.bad.shape[2])[None, :] < traffic.canaries[traffic.past :, None]
    counts = (traffic.bad[:, traffic.past :].astype(float), traffic.total[:, traffic.past :].astype(float))
    canary, baseline = (tuple((c * mask).sum(axis=2) for c in counts) for mask in (is_canary, ~is_canary))
    return (canary[0], canary[1]), (baseline[0], baseline[1])


def _divisors(preset: Preset, traffic: Traffic, history: bool) -> Tuple[Floats, Floats]:
    """What evidence is divided by, for a fail and for a pass: (slot, run). History is watched without its canary."""
    runs, looks, places = traffic.bad.shape
    count, past = looks // PER_SLOT, traffic.past // PER_SLOT
    inside = np.arange(places)[None, :] >= traffic.canaries[::PER_SLOT, None]
    slots = [
        side.reshape(runs, count, PER_SLOT, places).sum(axis=2, dtype=float) * inside
        for side in (traffic.bad, traffic.total)
    ]
    if not history:
        slots, inside, past, count = [side[:, past:] for side in slots], inside[past:], 0, count - past
    fail_by, pass_by = np.full((runs, count), -np.inf), np.ones((runs, count))
    for width in preset.windows:
        length = int(width / SLOT)
        scatter, variance, freedom = _closed(slots[0], slots[1], inside, length)
        known = np.arange(count) // length - 1  # the last closed window before each slot
        some = known >= 0
        s, v, f = (np.where(some, side[:, np.maximum(known, 0)], 0.0) for side in (scatter, variance, freedom))
        noise = preset.deadband * np.sqrt(2.0 / np.maximum(f, 1.0))
        estimate = (s + preset.prior_events * preset.prior) / (v + preset.prior_events) - noise
        fail_by = np.where(f > 0.0, np.maximum(fail_by, estimate), fail_by)
        pass_by = np.where(f > 0.0, np.maximum(pass_by, (s + 1.0) / (v + 1.0)), pass_by)
    if not preset.windows:
        return np.ones((count, runs)), np.ones((count, runs))
    fail_by = np.where(np.isfinite(fail_by), fail_by, preset.prior)
    most = places - 1
    fail_by = np.maximum(1.0, fail_by * (1.0 + preset.few / (most - 1))) ** preset.power
    return fail_by[:, past:].T.copy(), pass_by[:, past:].T.copy()


def _closed(bad: Floats, total: Floats, inside: npt.NDArray[np.bool_], length: int) -> Tuple[Floats, Floats, Floats]:
    """Scatter, variance and degrees of freedom, summed over the windows of `length` slots closed so far."""
    runs, count, places = bad.shape
    windows = max(1, count // length)
    used = min(count, windows * length)
    s, n = (side[:, :used].reshape(runs, windows, -1, places).sum(axis=2) for side in (bad, total))
    there = inside[:used].reshape(windows, -1, places).any(axis=1).sum(axis=1)
    every = s.sum(axis=2, keepdims=True)
    part = n / np.maximum(n.sum(axis=2, keepdims=True), 1.0)
    seen = (every[:, :, 0] > 0.0) & (there > 1)
    scatter = np.where(seen, ((s - every * part) ** 2).sum(axis=2), 0.0)
    variance = np.where(seen, (every * part * (1.0 - part)).sum(axis=2), 0.0)
    return np.cumsum(scatter, axis=1), np.cumsum(variance, axis=1), np.cumsum(seen * (there - 1.0), axis=1)


def replay(spec: RatioSpec, traffic: Traffic, run: int, *, history: bool = True) -> Tuple[int, int]:
    """The same of one run by the real gate: (look of the fail, look of the first pass). History in looks of a slot."""
    gate = RatioGate(spec)
    names = tuple(f"place-{index}" for index in range(traffic.bad.shape[2]))
    bad, total = traffic.bad[run].astype(float), traffic.total[run].astype(float)
    if history:
        for first in range(0, traffic.past, PER_SLOT):
            look = _look(names, bad[first : first + PER_SLOT].sum(axis=0), total[first : first + PER_SLOT].sum(axis=0))
            gate.observe(look, Arms((), names[1:]), (first - traffic.past) * LOOK)
    passed = -1
    for index in range(traffic.past, len(bad)):
        count = int(traffic.canaries[index])
        arms = Arms(names[:count], names[count:])
        verdict = gate.observe(_look(names, bad[index], total[index]), arms, (index - traffic.past) * LOOK)
        if verdict.verdict == "fail":
            return index - traffic.past, passed
        if verdict.verdict == "pass" and passed < 0:
            passed = index - traffic.past
    return -1, passed


def _look(names: Tuple[str, ...], bad: Floats, total: Floats) -> GateLook:
    return GateLook(counts={name: Counts(b, n) for name, b, n in zip(names, bad.tolist(), total.tolist(), strict=True)})
