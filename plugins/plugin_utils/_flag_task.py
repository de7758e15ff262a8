# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a task about a feature flag is done: a server is asked from the controller, a file is of the task's machine."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any, Mapping

from ansible.plugins.action import ActionBase

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import failure
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.options import checked_provider
from ansible_collections.selfheal.delivery.plugins.plugin_utils._inside import Inside, done, runs_here
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts

# Each task has a process of its own, forked from one that has loaded this. What it would need is loaded here, once.
with suppress(ImportError):  # and where it is missing, it is said when it is needed
    import_module("requests")


def refused(arguments: Mapping[str, Any]) -> Facts:
    """A failed result for a provider with wrong keys, which names the right ones; empty where they are right."""
    if arguments.get("provider") is None:
        return {}  # said with what else is missing
    try:
        checked_provider(arguments["provider"])
    except OptionError as error:
        return {"failed": True, "msg": error.message}
    return {}


def done_by(action: ActionBase, module: str, inside: Inside, given: Facts, task_vars: Facts) -> Facts:
    """The task's result: of work done in this process, or of the module where that has to be elsewhere."""
    if runs_here(action) or not _elsewhere(action, given):
        try:
            return done(inside, given, dry=bool(action._task.check_mode))
        except ImportError as error:
            if action._connection.transport != "local":
                return {"failed": True, "msg": failure(error)["msg"]}
            # the Python that modules run in here may have the library
    result: Facts = action._execute_module(module_name=module, module_args=given, task_vars=task_vars)
    return result


def _elsewhere(action: ActionBase, given: Facts) -> bool:
    """Is it for another machine? Or for this one, in another environment or as another user?"""
    is_here = action._connection.transport == "local"
    return is_here or bool(action._task.delegate_to) or bool(given["provider"].get("path"))
