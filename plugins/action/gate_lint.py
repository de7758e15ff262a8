# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find gates that do not do what they are there for. See plugins/modules/gate_lint.py for the docs."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.lint_task import GATE_LINT, gate_lint
from ansible_collections.selfheal.delivery.plugins.plugin_utils._near import NearAction


class ActionModule(NearAction):
    SPEC = GATE_LINT

    @staticmethod
    def work(params: Mapping[str, object]) -> Mapping[str, object]:
        return gate_lint(params)
