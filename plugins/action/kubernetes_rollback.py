# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Intent, lease and outcome of taking a workload in a cluster back; that itself is the module of the same name."""

from __future__ import annotations

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.options import (
    ROLLBACK_ARGUMENTS,
    ROLLBACK_REQUIRED_IF,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import KNOWN_GOOD
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts
from ansible_collections.selfheal.delivery.plugins.plugin_utils._record import RecordedAction, spec_of


class ActionModule(RecordedAction):
    MODULE = "selfheal.delivery.kubernetes_rollback"
    SPEC = spec_of(ROLLBACK_ARGUMENTS)
    REQUIRED_IF = ROLLBACK_REQUIRED_IF

    def intent(self, options: Facts) -> Facts:
        return {"state": KNOWN_GOOD, "release": options["release"], "to": options["to"]}
