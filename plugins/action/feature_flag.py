# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of turning a feature flag, which is done here unless the flag is another machine's."""

from __future__ import annotations

from typing import Optional

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import change
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.options import ARGUMENTS
from ansible_collections.selfheal.delivery.plugins.plugin_utils._flag_task import done_by, refused
from ansible_collections.selfheal.delivery.plugins.plugin_utils._inside import Inside
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts
from ansible_collections.selfheal.delivery.plugins.plugin_utils._record import RecordedAction, spec_of

_TOLD = ("flag", "environment", "project", "percentage", "variation", "serve", "reason")
_SHOWN = ("status", "call_took", "effective_after", "served", "after")


class ActionModule(RecordedAction):
    MODULE = "selfheal.delivery.feature_flag"
    SPEC = spec_of(ARGUMENTS)

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Facts] = None) -> Facts:
        return refused(self._task.args) or super().run(tmp, task_vars)

    def change(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        # no provider keeps a fencing token
        wishes = {name: value for name, value in given.items() if name != "token"}
        inside = Inside(ARGUMENTS, (), lambda params, dry: change(params, dry=dry))
        return done_by(self, self.MODULE, inside, wishes, task_vars)

    def intent(self, options: Facts) -> Facts:
        told = {name: options[name] for name in _TOLD if options.get(name) not in (None, "")}
        return {"state": options["state"], "provider": options["provider"]["type"], **told}

    def outcome(self, result: Facts) -> Facts:
        return {**super().outcome(result), **{name: result[name] for name in _SHOWN if name in result}}
