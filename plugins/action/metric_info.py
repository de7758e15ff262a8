# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, without judging. See plugins/modules/metric_info.py for the docs."""

from __future__ import annotations

from typing import Mapping

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.info_task import METRIC_INFO, metric_info
from ansible_collections.selfheal.delivery.plugins.plugin_utils._near import NearAction


class ActionModule(NearAction):
    SPEC = METRIC_INFO

    @staticmethod
    def work(params: Mapping[str, object]) -> Mapping[str, object]:
        return metric_info(params)
