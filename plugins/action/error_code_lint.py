# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what is wrong with a catalogue of error codes. See plugins/modules/error_code_lint.py for the docs."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.code_tasks import (
    ERROR_CODE_LINT,
    error_code_lint,
)
from ansible_collections.selfheal.delivery.plugins.plugin_utils._near import NearAction


class ActionModule(NearAction):
    SPEC = ERROR_CODE_LINT

    @staticmethod
    def work(params: Mapping[str, object]) -> Mapping[str, object]:
        return error_code_lint(params)
