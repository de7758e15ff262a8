# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask about a feature flag. See plugins/modules/feature_flag_info.py for the docs."""

from __future__ import annotations

from typing import Optional

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import look_at
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.options import INFO_ARGUMENTS
from ansible_collections.selfheal.delivery.plugins.plugin_utils._flag_task import done_by, refused
from ansible_collections.selfheal.delivery.plugins.plugin_utils._inside import Inside
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts, plain


class ActionModule(ControllerAction):
    SPEC = INFO_ARGUMENTS

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Facts] = None) -> Facts:
        return refused(self._task.args) or super().run(tmp, task_vars)

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        inside = Inside(INFO_ARGUMENTS, (), lambda params, _dry: look_at(params))
        return done_by(self, "selfheal.delivery.feature_flag_info", inside, plain(self._task.args), task_vars)
