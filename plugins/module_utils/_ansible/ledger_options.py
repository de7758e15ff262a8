# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger that a task names; its options are `_act/wishes.py:LEDGER`, documented by the fragment `ledger`."""

from __future__ import annotations

from typing import Any, Mapping

from .._guard.ledger import Ledger
from .._guard.open import open_ledger


def ledger_from(options: Mapping[str, Any], *, create: bool = True) -> Ledger:
    """The ledger that a task's validated options name."""
    return open_ledger(options["ledger"], create=create)
