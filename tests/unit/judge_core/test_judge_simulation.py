# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bench's own parts: the twin against the real gate, rivals against their references, and a small level test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.ratio import RatioSpec

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "judge"))

import judge_rivals
from judge_traffic import LOOK, PAST, SCENARIOS, Traffic, generate
from judge_twin import judge, replay

ALL = sorted(SCENARIOS)


@pytest.mark.parametrize("name", ALL)
def test_the_twin_says_what_the_gate_says(name: str) -> None:
    index = ALL.index(name)
    rps, share = ((20, 10), (100, 5), (1000, 25))[index % 3]
    traffic = generate(SCENARIOS[name], rps, share, 6, seed=index)
    for preset in ("careful", "balanced", "fast"):
        spec, history = RatioSpec.of("errors", preset=preset, alpha=0.01 / 2), index % 2 == 0
        twin = judge(spec, traffic, history=history)
        for run in range(2):
            real = replay(spec, traffic, run, history=history)
            assert real == (int(twin.failed[run]), int(twin.passed[run]))


@pytest.mark.parametrize("name", ["healthy-0.1", "healthy-0.9", "outage", "retries-8", "bursts-shared", "share"])
def test_healthy_releases_are_left_alone(name: str) -> None:
    failed = judge(RatioSpec("errors"), generate(SCENARIOS[name], 100, 10, 300, seed=7)).failed
    assert (failed >= 0).mean() <= 0.02


def test_independent_requests_keep_the_level_without_any_correction() -> None:
    spec = RatioSpec.of("errors", preset="fast", alpha=0.05)
    failed = judge(spec, generate(SCENARIOS["healthy-0.9"], 100, 10, 400, seed=8)).failed
    assert (failed >= 0).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(("name", "seconds"), [("0.5-5", 40.0), ("0.5-50", 10.0), ("late-25", 80.0)])
def test_bad_releases_are_seen(name: str, seconds: float) -> None:
    failed = judge(RatioSpec("errors"), generate(SCENARIOS[name], 100, 10, 100, seed=9)).failed
    assert (failed >= 0).all()
    assert np.median((failed + 1) * LOOK - SCENARIOS[name].at) <= seconds


# (canary, baseline, class, CI low, CI high, estimate): published cases of NetflixACAJudge and what it says of them
KAYENTA: List[Tuple[List[float], List[float], str, float, float, float]] = [
    ([100] * 7 + [1] * 3, [1] * 10, "Pass", 0.0, 99.0, 99.0),
    ([100] * 8 + [1] * 2, [1] * 10, "High", 99.0, 99.0, 99.0),
    ([0, 1, 2, 1, 0, 0], [0] * 6, "Pass", 0.0, 2.0, 0.0),
    ([1, 4, 2, 3, 1], [0] * 5, "High", 1.0, 4.0, 2.0),
    ([20, 22, 21, 25, 30], [1, 2.2, 1.1, 2.5, 3], "High", 17.0, 29.0, 19.9),
    ([10, 12.2, 10.1, 12.5, 23], [20, 22, 21, 25, 30], "Pass", -20.0, 3.0, -10.9),
    ([0, 1, 1, 1, 1], [1] * 5, "Pass", -1.0, 0.0, 0.0),
    ([10, 11], [1, 2], "High", 8.0, 10.0, 9.0),
]


@pytest.mark.parametrize(("canary", "baseline", "said", "low", "high", "estimate"), KAYENTA)
def test_kayentas_judge_agrees_with_its_references(
    canary: List[float], baseline: List[float], said: str, low: float, high: float, estimate: float
) -> None:
    got = judge_rivals.mann_whitney(canary, baseline)
    assert got[0] == said
    assert got[1:] == pytest.approx((low, high, estimate), abs=2e-4)
    many = judge_rivals.classified_high(np.array([canary], dtype=float), np.array([baseline], dtype=float))
    assert many.tolist() == [said == "High"]


def test_kayentas_judge_for_many_is_the_one_for_one() -> None:
    rng = np.random.default_rng(1)
    for _case in range(60):
        points = int(rng.integers(5, 31))
        canary = rng.poisson(2.0 + rng.choice([0.0, 1.0, 2.0]), points) / 100.0
        baseline = rng.poisson(2.0, points) / 100.0
        one = judge_rivals.mann_whitney(canary.tolist(), baseline.tolist())[0] == "High"
        assert judge_rivals.classified_high(canary[None, :], baseline[None, :])[0] == one


def constant(rate: float) -> Traffic:
    """One bake with exactly `rate` of the canary's requests bad, 1000 per look."""
    shape = (1, PAST + 900, 4)
    total = np.full(shape, 1000.0, dtype=np.float32)
    return Traffic(total * np.float32(rate), total, np.ones(shape[1], dtype=np.int64), PAST)


def test_argo_aborts_at_the_third_failed_interval_and_flagger_at_the_sixth() -> None:
    assert ((judge_rivals.argo(constant(0.05)) + 1) * LOOK).tolist() == [90.0]
    assert ((judge_rivals.flagger(constant(0.05)) + 1) * LOOK).tolist() == [360.0]
    for rival in (judge_rivals.argo, judge_rivals.flagger, judge_rivals.kayenta):
        assert rival(constant(0.005)).tolist() == [-1]
