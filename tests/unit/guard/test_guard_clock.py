# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall clock is believed while it agrees with the uptime, the store and the ledger."""

from __future__ import annotations

from typing import Mapping, Optional, Tuple

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.clock import watch
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Clock

NOW = 1_000_000.0
SETTLE, TOLERANCE = 300.0, 60.0


def look(
    note: Mapping[str, object],
    now: float,
    up: Optional[float],
    *,
    boot: str = "a",
    store: Optional[float] = None,
    newest: Optional[float] = None,
) -> Tuple[Mapping[str, object], float]:
    clock = None if up is None else Clock(boot, up)
    return watch(note, now, clock, store, newest, SETTLE, TOLERANCE)


@pytest.mark.parametrize("jump", [600.0, -600.0, 61.0, -61.0])
def test_a_step_is_distrusted_until_it_is_old(jump: float) -> None:
    note, drift = look({}, NOW, 50.0)
    assert drift == 0.0
    note, drift = look(note, NOW + 10 + jump, 60.0)
    assert drift == jump
    note, drift = look(note, NOW + 309 + jump, 359.0)
    assert drift == jump
    note, drift = look(note, NOW + 310 + jump, 360.0)
    assert drift == 0.0
    assert note == {"boot": "a", "wall": NOW + 310 + jump, "up": 360.0}


def test_each_further_step_begins_the_wait_anew() -> None:
    note, _drift = look({}, NOW, 0.0)
    note, _drift = look(note, NOW + 600, 1.0)
    note, drift = look(note, NOW + 200, 201.0)
    assert drift == -600.0
    assert look(note, NOW + 499, 500.0)[1] == -600.0
    assert look(note, NOW + 500, 501.0)[1] == 0.0


def test_slow_correction_and_a_new_boot_are_no_steps() -> None:
    note, drift = look({}, NOW, 0.0)
    for minute in range(1, 60):
        note, drift = look(note, NOW + minute * 61.0, minute * 60.0)
        assert drift == 0.0
    assert look(note, NOW + 86400, 5.0, boot="b")[1] == 0.0


def test_it_has_to_agree_with_the_stores_clock_and_the_newest_entry() -> None:
    assert look({}, NOW, 5.0, store=NOW - 61)[1] == 61.0
    assert look({}, NOW, 5.0, store=NOW + 61)[1] == -61.0
    assert look({}, NOW, 5.0, newest=NOW + 61)[1] == -61.0
    assert look({}, NOW, 5.0, newest=NOW - 86400)[1] == 0.0
    assert look({}, NOW, 5.0, store=NOW - 70, newest=NOW + 80)[1] == -80.0
    assert look({}, NOW, 5.0, store=NOW + 60, newest=NOW + 60)[1] == 0.0


def test_without_uptime_it_is_wrong_for_as_long_as_it_is_seen_to_be() -> None:
    assert look({"boot": "a"}, NOW, None, newest=NOW + 600) == ({"boot": "a"}, -600.0)
    assert look({"boot": "a"}, NOW, None, newest=NOW) == ({"boot": "a"}, 0.0)


@pytest.mark.parametrize("note", [{"boot": "a"}, {"boot": "a", "wall": "x", "up": True}, {"wall": 1.0, "up": 1.0}])
def test_a_note_that_says_nothing_begins_anew(note: Mapping[str, object]) -> None:
    assert look(note, NOW, 5.0) == ({"boot": "a", "wall": NOW, "up": 5.0}, 0.0)
