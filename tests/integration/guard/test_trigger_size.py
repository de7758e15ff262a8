# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triggers come from outside: however large one is, every store answers it, and keeps no more of it than it needs."""

from __future__ import annotations

import secrets
import time
from contextlib import closing

from stores import Serving

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ROLLBACK,
    Grant,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard

NOW = time.time()


def asked(ledger: Ledger, trigger: Trigger, number: int) -> Grant:
    policy = parse_guard({"mode": "act", "alerts": [trigger.name], "clock": {"tolerance": "48h"}}, "shop")
    here = Situation(confirmed=True, current="2.0", known_good="1.9", changed_at=NOW - 60, places=1, services=9)
    request = Request(f"d{number}", "shop", ROLLBACK, trigger, "eda", here)
    return ledger.decide(request, policy, holder="run", ttl=30, now=NOW + number)


def test_a_trigger_of_any_size_is_answered_and_its_copy_is_known(serve: Serving) -> None:
    with closing(serve().open()) as ledger:
        huge = Trigger(
            "alert", f"High{'x' * 9000}", secrets.token_hex(9000), evidence={"labels": secrets.token_hex(10**6)}
        )
        assert asked(ledger, huge, 1).decision.allowed
        assert asked(ledger, huge, 2).decision.reason == "duplicate"
        assert list(ledger.memory("shop").conditions) and ledger.verify() is None
        assert all(len(chain.canonical(entry.body)) < 20_000 for entry in ledger.all_entries())
