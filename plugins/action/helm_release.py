# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of a change to one Helm release; the change itself is the module of the same name."""

from __future__ import annotations

import json

from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm_options import ARGUMENTS, REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts
from ansible_collections.selfheal.delivery.plugins.plugin_utils._record import RecordedAction, spec_of


class ActionModule(RecordedAction):
    MODULE = "selfheal.delivery.helm_release"
    SPEC = spec_of(ARGUMENTS)
    REQUIRED_IF = REQUIRED_IF

    def change(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        values = given.get("values")
        if values is not None and not isinstance(values, str):
            # one text is one secret; of a mapping each word would be masked, wherever it is in the result
            given = {**given, "values": json.dumps(values)}
        return super().change(options, given, task_vars)
