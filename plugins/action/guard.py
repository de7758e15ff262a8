# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's word on a rollout that is under way. See plugins/modules/guard.py for the documentation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import LEDGER, ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rules
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import COMMANDS, Command
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    SERVICE,
    ControllerAction,
    Facts,
    actor,
    now,
)


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **SERVICE,
        **LEDGER,
        "command": {"type": "str", "required": True, "choices": list(COMMANDS)},
        "reason": {"type": "str", "default": ""},
        "by": {"type": "str"},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        service, by = options["service"], options["by"] or actor(task_vars)
        say = _rehearse if self.checking else _say
        with closing(ledger_from(options, create=False)) as ledger:
            said = say(ledger, service, options["command"], by, options["reason"])
            lease = ledger.holder(service, now())
        waits = f"{lease.holder} obeys it at its next look" if lease else "nobody is at work on it: reconcile obeys it"
        return {
            "changed": True,
            "said": asdict(said),
            "holder": lease.holder if lease else None,
            "msg": f"{service}: {said.command} of rollout {said.rollout} by {said.by}; {waits}",
        }


def _say(ledger: Ledger, service: str, command: str, by: str, reason: str) -> Command:
    return ledger.say(service, command, by, reason, now())


def _rehearse(ledger: Ledger, service: str, command: str, by: str, reason: str) -> Command:
    """The same refusals, and nothing written."""
    unfinished, last = ledger.unfinished(service), ledger.last_rollouts(service, 1)
    about = rules.speak(service, command, by, reason, next(iter(unfinished), None), next(iter(last), None))
    return Command(0, service, command, by, reason, now(), None, about.id)
