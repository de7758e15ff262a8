# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said before a bake starts, held against what then happens."""

from __future__ import annotations

from typing import Optional

import numpy as np
import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.detect import expected_detection
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Arms, Counts, GateLook
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.ratio import RatioGate, RatioSpec


def seen_after(spec: RatioSpec, rps: float, places: int, rate: float, usual: float, seed: int) -> Optional[float]:
    """When the real gate first says what it comes to say, with 20 min of history."""
    gate, rng = RatioGate(spec), np.random.default_rng(seed)
    names, each = tuple(f"place-{index}" for index in range(places + 1)), rps / (places + 1)
    rates = np.array([rate] + [usual] * places)
    for elapsed in np.arange(-1200.0, 0.0, 10.0).tolist():
        past = rng.poisson(each * 10.0 * usual, places + 1)
        counts = {name: Counts(float(bad), each * 10.0) for name, bad in zip(names, past, strict=True)}
        gate.observe(GateLook(counts=counts), Arms((), names[1:]), elapsed)
    for elapsed in np.arange(0.0, 3600.0, 2.0).tolist():
        now = rng.poisson(each * 2.0 * rates)
        counts = {name: Counts(float(bad), each * 2.0) for name, bad in zip(names, now, strict=True)}
        verdict = gate.observe(GateLook(counts=counts), Arms(names[:1], names[1:]), elapsed)
        if verdict.verdict != "inconclusive":
            return float(elapsed) + 2.0
    return None


@pytest.mark.parametrize("preset", ["careful", "balanced", "fast"])
@pytest.mark.parametrize(("key", "rate"), [("5x", 0.025), ("50%", 0.5), ("pass", 0.005)])
def test_the_forecast_is_near_the_median(preset: str, key: str, rate: float) -> None:
    spec = RatioSpec.of("errors", preset=preset)
    forecast = expected_detection(spec, 100.0, 0.1, baseline_rate=0.005, places=9, history=1200.0)[key]
    median = np.median([seen_after(spec, 100.0, 9, rate, 0.005, seed) or 1e9 for seed in range(15)])
    assert forecast is not None
    assert 0.5 * median - 4.0 <= forecast <= 2.0 * median + 4.0


def test_history_and_traffic_help() -> None:
    spec = RatioSpec("errors")
    blind = expected_detection(spec, 100.0, 0.1, baseline_rate=0.005, places=9)
    known = expected_detection(spec, 100.0, 0.1, baseline_rate=0.005, places=9, history=1200.0)
    busy = expected_detection(spec, 1000.0, 0.1, baseline_rate=0.005, places=9, history=1200.0)
    for slower, faster in ((blind, known), (known, busy)):
        for key in ("2x", "5x", "50%", "pass"):
            assert (faster[key] or 0.0) <= (slower[key] or 0.0)


def test_what_cannot_be_seen_is_none() -> None:
    quiet = expected_detection(RatioSpec("errors"), 0.0, 0.1, baseline_rate=0.005, places=9)
    assert set(quiet.values()) == {None}
    tolerant = expected_detection(RatioSpec("errors", tolerance=3.0), 100.0, 0.1, baseline_rate=0.005, places=9)
    assert tolerant["2x"] is None
    alone = expected_detection(RatioSpec("errors"), 100.0, 1.0, baseline_rate=0.005)
    assert (alone["2x"], alone["5x"], alone["50%"], alone["pass"]) == (None, None, None, None)


def test_a_limit_sees_without_a_baseline() -> None:
    alone = expected_detection(RatioSpec("errors", maximum=0.01), 100.0, 1.0, baseline_rate=0.001)
    assert alone["2x"] is None and alone["5x"] is None
    assert 10.0 <= (alone["50%"] or 0.0) <= 20.0
    assert (alone["pass"] or 0.0) < 60.0
