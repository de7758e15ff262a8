# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the event source that an event was looked at. See plugins/modules/respond_done.py for the documentation."""

from __future__ import annotations

from ansible_collections.selfheal.delivery.plugins.module_utils._respond.spool import acknowledge
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        "spool": {"type": "path", "required": True},
        "items": {"type": "list", "elements": "str", "required": True},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        items = options["items"]
        if not self.checking:
            acknowledge(options["spool"], items)
        return {"changed": bool(items), "msg": f"{len(items)} acknowledged"}
