# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line that people read while they wait."""

from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import FAIL, INCONCLUSIVE, PASS, Verdict
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.progress import clock, figure, gate_text, line

ERRORS = Verdict(
    INCONCLUSIVE,
    "errors",
    "undecided",
    value=0.0481,
    baseline=0.0047,
    samples={"canary": 812, "baseline": 2403.4, "bad": 39},
    evidence={"fail": 0.92, "pass": 0.1},
)


def test_the_whole_line() -> None:
    alive = Verdict(PASS, "alive", value=0.0)
    memory = Verdict(PASS, "memory", value=4.12e8, limit=5e8, samples={"canary": 5}, evidence={"pass": 1.0})
    told = line([alive, ERRORS, memory], {"errors"}, step="2/3", elapsed=24.9, total=1800, told="extended by 600s")
    assert told == (
        "bake 2/3  00:24 of 30:00  errors 4.81% vs 0.47% (n 812/2403, bad 39) fail ███████░ 92%"
        "  memory 412M limit 500M (n 5) PASS  extended by 600s"
    )


def test_a_built_in_gate_speaks_when_it_has_something_to_say() -> None:
    down = Verdict(FAIL, "alive", "down", value=1.0, limit=0.0)
    assert "alive 1 limit 0 FAIL" in line([down], (), step="1/1", elapsed=2, total=60)


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        (Verdict(INCONCLUSIVE, "p99", "no_data"), "p99 no data"),
        (Verdict(INCONCLUSIVE, "p99"), "p99 inconclusive"),
        (Verdict(INCONCLUSIVE, "p99", "low_sample", value=1.25), "p99 1.25 low sample"),
        (Verdict(INCONCLUSIVE, "x", value=1.0, evidence={"fail": "?", "pass": 0.5}), "x 1 pass ████░░░░ 50%"),
        (Verdict(INCONCLUSIVE, "x", value=1.0, evidence={"fail": 7.0}), "x 1 fail ████████ 100%"),
    ],
)
def test_gates_that_know_little(verdict: Verdict, text: str) -> None:
    assert gate_text(verdict, False) == text


@pytest.mark.parametrize(
    ("value", "rate", "text"),
    [
        (None, False, "?"),
        (float("nan"), True, "?"),
        (0.00123, True, "0.12%"),
        (999.0, False, "999"),
        (1234.0, False, "1.23k"),
        (-2.5e9, False, "-2.5G"),
        (3e12, False, "3T"),
    ],
)
def test_figures(value: Optional[float], rate: bool, text: str) -> None:
    assert figure(value, rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(-1, "00:00"), (61, "01:01"), (3600, "1:00:00"), (4000, "1:06:40")])
def test_clocks(seconds: float, text: str) -> None:
    assert clock(seconds) == text
