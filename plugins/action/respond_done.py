# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the event source that an event was looked at. See plugins/modules/respond_done.py for the documentation."""

from __future__ import annotations

from ansible_collections.selfheal.delivery.plugins.module_utils._respond.spool import acknowledge, is_passing
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        "spool": {"type": "path", "required": True},
        "items": {"type": "list", "elements": "str", "required": True},
        "decision": {"type": "dict", "default": {}},
        "unknown": {"type": "bool", "default": False},
        "again": {"type": "bool", "default": False},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        items = options["items"]
        again = options["again"] or is_passing(options["decision"], unknown=options["unknown"])
        if not self.checking:
            acknowledge(options["spool"], items, again=again)
        told = f"{len(items)} acknowledged{', to be asked about again' if again else ''}"
        return {"changed": bool(items), "again": again, "msg": told}
