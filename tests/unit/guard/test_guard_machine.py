# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger beside its model, as often as only memory allows; test_ledger_stores.py has the real stores."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from ledger_machine import LedgerMachine
from ledgers import SqliteLedger


def test_whatever_happens_in_whatever_order() -> None:
    sizes = settings(max_examples=60, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(
        lambda: LedgerMachine(lambda: SqliteLedger(":memory:", allow_memory=True)), settings=sizes
    )
