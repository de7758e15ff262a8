# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout that cannot be settled does not keep the others back."""

from __future__ import annotations

from contextlib import closing
from typing import List

from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.sqlite import MEMORY


def due(ledger: Ledger, now: float) -> List[str]:
    return [one.rollout.service for one in rollouts.find(ledger, on_interrupt="undo", now=now)]


def test_what_was_tried_in_vain_is_tried_again_after_the_others() -> None:
    with closing(SqliteLedger(MEMORY, allow_memory=True)) as ledger:
        for at, service in enumerate(("bank", "crm", "shop"), start=100):
            what = rollouts.Begin(service, "2.0.0", "canary", {"fleet": ["eu"]})
            rollouts.begin(ledger, what, holder="gone", actor="ada", ttl=30, now=at)
        assert due(ledger, 200.0) == ["bank", "crm", "shop"]
        first = ledger.unfinished("bank")[0].id
        rollouts.take_over(ledger, first, holder="reconcile", actor="cron", ttl=30, now=200.0)
        assert due(ledger, 300.0) == ["crm", "shop", "bank"]
