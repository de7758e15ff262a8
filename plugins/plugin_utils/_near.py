# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks that measure: here, on the controller, unless they are delegated to a gate host.

A place need not have the libraries, nor reach the metrics server; and without a process of its own for the module, the
task is done in half the time of a ping.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional

from ansible.plugins.action import ActionBase

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import failure
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, Spec, plain


class NearAction(ActionBase):
    """`SPEC` and `work` are those of the module of the same name, which a gate host runs."""

    SPEC: Spec = {}

    @staticmethod
    def work(params: Mapping[str, object]) -> Mapping[str, object]:
        raise NotImplementedError

    def run(self, tmp: Optional[str] = None, task_vars: Optional[Facts] = None) -> Facts:
        result: Facts = super().run(tmp, task_vars)
        if self._task.delegate_to and self._connection.transport != "local":
            result.update(self._execute_module(module_args=_told(self._task.args), task_vars=task_vars))
            return result
        _validation, options = self.validate_argument_spec(argument_spec=self.SPEC)
        result.update(_done(self.work, plain(options)))
        return result


def _told(given: Mapping[str, Any]) -> Dict[str, Any]:
    """What a gate host is told: of a policy nothing about the places, whose credentials it does not need."""
    policy = given.get("policy")
    if not isinstance(policy, Mapping):
        return dict(given)
    return {**given, "policy": {key: value for key, value in policy.items() if key != "backend_options"}}


def _done(work: Callable[[Mapping[str, object]], Mapping[str, object]], options: Mapping[str, Any]) -> Dict[str, Any]:
    try:
        return dict(work(options))
    except Exception as error:
        return {"failed": True, **failure(error)}
