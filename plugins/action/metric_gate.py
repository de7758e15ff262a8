# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge one gate by one look. See plugins/modules/metric_gate.py for the docs."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.gate_task import METRIC_GATE, metric_gate
from ansible_collections.selfheal.delivery.plugins.plugin_utils._near import NearAction


class ActionModule(NearAction):
    SPEC = METRIC_GATE

    @staticmethod
    def work(params: Mapping[str, object]) -> Mapping[str, object]:
        return metric_gate(params)
