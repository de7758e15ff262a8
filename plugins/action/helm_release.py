# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of a change to one Helm release; the change itself is the module of the same name."""

from __future__ import annotations

from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.options import ARGUMENTS, REQUIRED_IF, packed
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts
from ansible_collections.selfheal.delivery.plugins.plugin_utils._record import RecordedAction, spec_of


class ActionModule(RecordedAction):
    MODULE = "selfheal.delivery.helm_release"
    SPEC = spec_of(ARGUMENTS)
    REQUIRED_IF = REQUIRED_IF

    def intent(self, options: Facts) -> Facts:
        about = ("name", "namespace", "chart", "chart_version")
        return {**super().intent(options), **{option: options[option] for option in about if options.get(option)}}

    def change(self, options: Facts, given: Facts, task_vars: Facts) -> Facts:
        return super().change(options, packed(given), task_vars)
