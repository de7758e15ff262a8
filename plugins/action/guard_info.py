# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard remembers. See plugins/modules/guard_info.py for the documentation."""

from __future__ import annotations

from contextlib import closing

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.outlook import outlook
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.heartbeat import WATCHDOG, seen_at
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pauses import pauses_of, warned
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts, now, plain


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        "service": {"type": "str", "default": ""},
        "guard": {"type": "dict", "default": {}},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        service, at = options["service"], now()
        policy = parse_guard(plain(options["guard"] or {}), service)
        with closing(ledger_from(options, create=False)) as ledger:
            names, fleet, counters = ledger.services(), ledger.fleet(), ledger.counters()
            asked = [service] if service else [*names, *(name for name in sorted(counters) if name not in names)]
            services = [
                {**outlook(policy, name, ledger.memory(name), fleet, at), "counters": dict(counters.get(name, {}))}
                for name in asked
            ]
            pauses = pauses_of(ledger, service, at)
            return {
                "changed": False,
                "services": services,
                "pauses": pauses,
                "alarming": sorted(fleet.alarming),
                "watchdog_at": seen_at(ledger.note(WATCHDOG)),
                "policy": policy.version,
                **warned(pauses),
            }
