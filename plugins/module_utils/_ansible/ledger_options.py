# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's options, as every module and action takes them; documented by the fragment `ledger`."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from .._guard.ledger import Ledger
from .._guard.open import STORES, open_ledger

LEDGER: Dict[str, Dict[str, Any]] = {
    "ledger": {
        "type": "dict",
        "default": {},
        "options": {
            "store": {"type": "str", "choices": list(STORES), "default": "sqlite"},
            "path": {"type": "path"},
            "allow_network": {"type": "bool", "default": False},
        },
    }
}


def ledger_from(options: Mapping[str, Any], *, create: bool = True) -> Ledger:
    """The ledger that a task's validated options name."""
    return open_ledger(options["ledger"], create=create)
