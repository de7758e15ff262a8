# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a rollback is there that nobody goes on with: then an event that was decided on before is not done yet."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from ansible_collections.selfheal.delivery.plugins.action.respond_plan import _left_behind
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Request, Situation, Trigger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import OPEN, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard


def begin(ledger: Ledger, kind: str, ttl: float) -> None:
    """Somebody acquired, and was not seen again."""
    situation = Situation(places=1, current="2.0.0", known_good="1.0.0")
    asked = Request("d1", "shop", "rollback", Trigger("person", "ada", "p1"), "ada", situation)
    opens = Rollout("d1", "shop", "2.0.0", kind, OPEN, 0, 0.0, 0.0, {"action": "rollback"})
    grant = ledger.decide(asked, parse_guard({}, "shop"), holder="x", ttl=ttl, now=time.time(), opens=opens)
    assert grant.lease is not None, grant.decision


@pytest.mark.parametrize(("kind", "left"), [("rollback", True), ("action", False), ("", False)])
def test_only_a_rollback_whose_lease_runs_out_is_left_behind(tmp_path: Path, kind: str, left: bool) -> None:
    with closing(open_ledger({"path": str(tmp_path / "ledger.sqlite")})) as ledger:
        if kind:
            begin(ledger, kind, 0.3)
        began = time.monotonic()
        assert _left_behind(ledger, "shop") is left
        assert time.monotonic() - began < 5
        assert _left_behind(ledger, "bank") is False
