# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pauses that are in force, as every run shows them: what people stopped must not be forgotten."""

from __future__ import annotations

from typing import Any, Dict, List

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import shown_time

Facts = Dict[str, Any]


def pauses_of(ledger: Ledger, service: str, now: float) -> List[Facts]:
    """The pause of all services, and the one of `service`, or with '' those of every service; one dictionary each.

    Its `service` is '' for the one of all; `until` is None for one without end. Times are epoch seconds.
    """
    services = [service] if service else ledger.services()
    found = [("", ledger.fleet().paused(now)), *((one, ledger.memory(one).paused(now)) for one in services)]
    return [{"service": name, **vars(pause)} for name, pause in found if pause is not None]


def told(pauses: List[Facts]) -> List[str]:
    """One sentence for each, to be shown as a warning."""
    return [_sentence(pause) for pause in pauses]


def warned(pauses: List[Facts]) -> Facts:
    """The warnings that a task's result carries, or nothing."""
    return {"warnings": told(pauses)} if pauses else {}


def _sentence(pause: Facts) -> str:
    until = pause["until"]
    ends = f"until {shown_time(until)}" if until is not None else "WITHOUT END, until somebody resumes it,"
    what = pause["service"] or "every service"
    return f"{what} is paused {ends} by {pause['by']} since {shown_time(pause['at'])}: {pause['reason']}"
