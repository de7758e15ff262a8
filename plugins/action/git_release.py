# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of a change to a branch; the change itself is the module of the same name."""

from __future__ import annotations

from ansible_collections.selfheal.delivery.plugins.module_utils._act.git.options import ARGUMENTS
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import REQUIRED_IF
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts
from ansible_collections.selfheal.delivery.plugins.plugin_utils._record import RecordedAction, spec_of


class ActionModule(RecordedAction):
    MODULE = "selfheal.delivery.git_release"
    SPEC = spec_of(ARGUMENTS)
    REQUIRED_IF = REQUIRED_IF

    def change(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        # the tags in the repository are the service's own
        return super().change(options, {**given, "service": options["service"]}, task_vars)
