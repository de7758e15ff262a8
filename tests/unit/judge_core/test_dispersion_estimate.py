# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""φ̂: 1 for independent requests, the size of the clumps for clumps, unmoved by what all places share."""

from __future__ import annotations

import json
from typing import Dict, List

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chi2_contingency

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.dispersion import Dispersion, divisor
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.presets import PRESETS

BALANCED = PRESETS["balanced"]


def learn(bad: npt.NDArray[np.int64], total: float = 100.0, preset: str = "balanced") -> Dispersion:
    """`bad` is (slot, place)."""
    dispersion = Dispersion(PRESETS[preset])
    dispersion.settle(0.0, bad.shape[1])
    for slot, row in enumerate(bad.tolist()):
        dispersion.add(slot * 10.0, counts(row, total))
    dispersion.settle(len(bad) * 10.0, bad.shape[1])
    return dispersion


def counts(bad: List[float], total: float) -> Dict[str, List[float]]:
    return {f"place-{index}": [float(number), total] for index, number in enumerate(bad)}


def test_one_window_is_pearsons_statistic() -> None:
    bad, total = [3, 9, 1, 7], 10_000.0
    dispersion = Dispersion(BALANCED)
    dispersion.add(0.0, counts([float(number) for number in bad], total))
    dispersion.settle(10.0, 4)
    state = dispersion.state()["windows"]
    assert isinstance(state, list)
    scatter, variance, freedom = state[0]["sums"]
    chi2 = chi2_contingency([bad, [total - number for number in bad]], correction=False).statistic
    # ours is multinomial given the total of bad ones: the contingency table's without its factor 1 − p
    assert scatter / variance == pytest.approx(chi2 / freedom, rel=2e-3)
    assert freedom == 3


@pytest.mark.parametrize("places", [3, 9, 19])
def test_independent_requests_have_none(places: int) -> None:
    rng = np.random.default_rng(1)
    found = [learn(rng.poisson(0.5, (120, places))).for_fail for _ in range(40)]
    assert np.median(found) < 1.3
    assert np.mean(found) < 2.0


def test_clusters_are_seen_with_their_size() -> None:
    rng = np.random.default_rng(2)
    clusters = rng.poisson(0.5, (120, 9))
    bad = clusters + np.where(clusters > 0, rng.negative_binomial(np.maximum(clusters, 1), 1 / 8), 0)
    assert 10.0**2 < learn(bad).for_fail < 25.0**2  # E[size²] / E[size] is 15 for a geometric mean of 8
    assert 10.0 < learn(bad).for_pass < 25.0


def test_what_all_places_share_cancels() -> None:
    rng = np.random.default_rng(3)
    shared = np.where(np.arange(120) % 20 < 3, 10.0, 0.5)[:, None]
    assert learn(rng.poisson(np.repeat(shared, 9, axis=1))).for_fail < 2.0


def test_lasting_differences_show_in_long_windows() -> None:
    rng = np.random.default_rng(4)
    rate = 5.0 * np.exp(rng.normal(0, 0.4, 9))
    assert learn(rng.poisson(rate, (120, 9))).for_fail > 10.0


def test_before_anything_is_known_the_prior_speaks() -> None:
    dispersion = Dispersion(BALANCED)
    dispersion.settle(0.0, 9)
    assert dispersion.for_fail == BALANCED.prior**BALANCED.power
    assert dispersion.for_pass == 1.0
    assert dispersion.places == 9


def test_one_place_cannot_tell() -> None:
    dispersion = learn(np.full((120, 1), 3))
    assert dispersion.for_fail == BALANCED.lone
    assert Dispersion(PRESETS["fast"]).for_fail == 1.0


def test_few_places_are_trusted_less_by_careful() -> None:
    sums = [(300.0, 100.0, 50.0)]
    assert divisor(PRESETS["careful"], 3, sums) > divisor(PRESETS["careful"], 9, sums)


def test_no_errors_at_all_do_not_hold_up_a_pass() -> None:
    dispersion = learn(np.zeros((120, 9), dtype=np.int64))
    assert dispersion.for_pass == 1.0
    assert dispersion.for_fail == BALANCED.prior**BALANCED.power


def test_it_survives_json_in_the_middle_of_a_window() -> None:
    rng = np.random.default_rng(5)
    bad = rng.poisson(0.7, (137, 4))
    one = learn(bad[:77])
    other = Dispersion(BALANCED)
    other.restore(json.loads(json.dumps(one.state())))
    for slot, row in enumerate(bad[77:].tolist(), 77):
        for dispersion in (one, other):
            dispersion.add(slot * 10.0, counts(row, 50.0))
    assert one.state() == other.state()
    assert one.for_fail == other.for_fail


@pytest.mark.parametrize("wrong", [{}, {"most": 3, "windows": []}, {"most": "3", "windows": None}])
def test_a_foreign_state_is_refused(wrong: Dict[str, object]) -> None:
    with pytest.raises(ValueError, match="dispersion"):
        Dispersion(BALANCED).restore(wrong)
