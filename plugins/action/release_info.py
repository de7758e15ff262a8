# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the info module of the place's backend."""

from __future__ import annotations

from ansible_collections.selfheal.delivery.plugins.plugin_utils._bytecode import keep_bytecode

keep_bytecode()

from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import INFO_ARGUMENTS, RELEASES_REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.plugin_utils._backends import looked_at
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts


class ActionModule(ControllerAction):
    SPEC = INFO_ARGUMENTS
    REQUIRED_IF = RELEASES_REQUIRED_IF

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        if options["backend"] == "releases":
            told: Facts = self._execute_module(task_vars=task_vars)
            return told
        return looked_at(self, options, task_vars)
