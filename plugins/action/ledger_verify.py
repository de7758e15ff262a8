# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the ledger whole? See plugins/modules/ledger_verify.py for the documentation."""

from __future__ import annotations

import re
from contextlib import closing

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts

_HEAD = re.compile(r"[0-9a-f]{64}")


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {**LEDGER, "head": {"type": "str", "default": ""}}

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        kept = options["head"].strip().lower()
        if kept and not _HEAD.fullmatch(kept):
            raise OptionError("The option head is not the head of a ledger", mend="It has 64 hexadecimal digits")
        with closing(ledger_from(options, create=False)) as ledger:
            problem, newest = ledger.verify(kept), ledger.last_entries(limit=1)
        found = {"head": newest[0].hash if newest else "", "entries": newest[0].seq if newest else 0}
        if problem is not None:
            raise StoreError(
                problem.rstrip("."),
                mend="Do not rely on it from there on: keep it as it is, and find out who wrote to it",
                details={**found, "problem": problem},
            )
        return {"changed": False, **found, "problem": None, "msg": f"The ledger is whole, {found['entries']} entries"}
