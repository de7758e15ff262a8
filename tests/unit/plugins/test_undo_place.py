# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout in hand says of one place's way back."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.action import undo_place as under_test

ROLLOUT: Dict[str, Any] = {"id": "r1", "kind": "rollback", "release": "2.0.1", "intent": {"before": {"web1": "1.0.0"}}}


@pytest.mark.parametrize(("kind", "undo"), [("rollback", False), ("canary", True), ("watch", False)])
def test_only_a_rollout_that_deployed_is_undone(kind: str, undo: bool) -> None:
    wish = under_test.release_wish({**ROLLOUT, "kind": kind}, "1.0.0")
    assert wish == {"state": "known_good", "release": "2.0.1", "rollout": "r1", "undo": undo, "to": "1.0.0"}


def test_without_a_pinned_release_the_place_finds_its_own() -> None:
    assert "to" not in under_test.release_wish(ROLLOUT, "")
