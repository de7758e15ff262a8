# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person who says hold, promote or abort is told: who obeys that, and when."""

from __future__ import annotations

from typing import Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.action.guard import _waits
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout

ALIVE = Lease("shop", "ci-7 pid 4711", 3, 1e12)


@pytest.mark.parametrize(
    ("lease", "kind", "told"),
    [
        (ALIVE, "canary", "ci-7 pid 4711 obeys it at its next look"),
        (ALIVE, "watch", "ci-7 pid 4711 obeys it at its next look"),
        # nobody looks there, until it has ended
        (ALIVE, "rollback", "ci-7 pid 4711 is at it and cannot be stopped by that"),
        (ALIVE, "action", "ci-7 pid 4711 is at it and cannot be stopped by that"),
        (None, "rollback", "nobody is at work on it: reconcile obeys it"),
    ],
)
def test_who_obeys_is_told_as_it_is(lease: Optional[Lease], kind: str, told: str) -> None:
    assert _waits(lease, Rollout("r1", "shop", "2.0.0", kind, "open", 3, 0.0, 0.0)).startswith(told)
