# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A task of this collection as a part of another one: to begin a task takes Ansible longer than most of them take."""

from __future__ import annotations

from typing import Type

from ansible.plugins.action import ActionBase

from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts


def done_for(whole: ActionBase, part: Type[ActionBase], given: Facts, service: str, task_vars: Facts) -> Facts:
    """As `done_by`, about this service, and with the ledger of `whole`."""
    # as it was written: in the options of `whole`, defaults are filled in that the ledger does not take
    usual = {"service": service, "ledger": whole._task.args.get("ledger") or {}}
    return done_by(whole, part, {**usual, **given}, task_vars)


def done_by(whole: ActionBase, part: Type[ActionBase], given: Facts, task_vars: Facts) -> Facts:
    """The result of a task of `part` with the options `given`, done by the process and on the host of `whole`."""
    task = whole._task.copy()
    task.args = given
    action = part(
        task=task,
        connection=whole._connection,
        play_context=whole._play_context,
        loader=whole._loader,
        templar=whole._templar,
        shared_loader_obj=whole._shared_loader_obj,
    )
    result: Facts = action.run(task_vars=task_vars)
    return result
