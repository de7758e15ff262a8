# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the ledger holds. See plugins/modules/ledger_info.py for the documentation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pauses import pauses_of, warned
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts, now


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        "service": {"type": "str", "default": ""},
        "limit": {"type": "int", "default": 20},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        service, limit = options["service"], options["limit"]
        with closing(ledger_from(options, create=False)) as ledger:
            unfinished = ledger.unfinished(service)
            pauses = pauses_of(ledger, service, now())
            leases = [lease for lease in ledger.leases(now()) if service in ("", lease.service)]
            return {
                "changed": False,
                "chain": _chain(ledger),
                "leases": [asdict(lease) for lease in leases],
                "unfinished": [_story(rollout) for rollout in unfinished],
                "rollouts": [_story(rollout) for rollout in ledger.last_rollouts(service, limit)],
                "commands": [asdict(said) for rollout in unfinished for said in ledger.commands(rollout=rollout.id)],
                "entries": [asdict(entry) for entry in ledger.last_entries(service, limit)],
                "statistics": {
                    name: dict(counted) for name, counted in ledger.counters().items() if service in ("", name)
                },
                "pauses": pauses,
                **warned(pauses),
            }


def _chain(ledger: Ledger) -> Facts:
    problem, newest = ledger.verify(), ledger.last_entries(limit=1)
    return {"ok": problem is None, "problem": problem, "head": ledger.head(), "entries": newest[0].seq if newest else 0}


def _story(rollout: Rollout) -> Facts:
    """The rollout without its progress: that is the bake's own state, and long."""
    return {name: fact for name, fact in asdict(rollout).items() if name != "progress"}
