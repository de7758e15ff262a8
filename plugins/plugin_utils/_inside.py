# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's work done in this process, where the task would run it on the controller in any case.

To pack a module and to start a Python for it takes longer than what the modules for clusters do. Whatever would make
a difference to that process (another user, another machine, an environment of its own) leaves it to the module.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import told
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, Spec, plain


@dataclass(frozen=True)
class Inside:
    """What the module's `main` does: `work` gets the validated options, and whether it is a rehearsal."""

    spec: Spec
    required_if: Sequence[Sequence[object]]
    work: Callable[[Mapping[str, Any], bool], Mapping[str, object]]


def runs_here(action: ActionBase) -> bool:
    """Would a module of this task run on the controller, as who we are, and as we are?"""
    task = action._task
    return bool(
        action._connection.transport == "local"
        and not action._play_context.become
        and not task.async_val
        and not any(task.environment or ())
    )


def done(inside: Inside, arguments: Mapping[str, Any], *, dry: bool) -> Facts:
    """The module's result. ImportError where a library is missing: the module's own Python may have it."""
    # a copy: to validate writes into the defaults
    validator = ArgumentSpecValidator(deepcopy(inside.spec), required_if=list(inside.required_if))
    checked = validator.validate(plain(arguments))
    if checked.error_messages:
        result: Facts = {"failed": True, "msg": "; ".join(checked.error_messages)}
    else:
        result = told(lambda: inside.work(checked.validated_parameters, dry), passing=(ImportError,))
    # as it would come out of the module's process: plain containers, and without what must not be shown
    result = json.loads(json.dumps(result))
    shown: Facts = remove_values(result, checked._no_log_values)
    return {**shown, **{name: value for name, value in result.items() if value is None or isinstance(value, bool)}}
