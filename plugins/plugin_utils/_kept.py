# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are made on the controller, and kept, checked and read where Prometheus and Alertmanager are."""

from __future__ import annotations

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.alert_file import FILE
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.part import Part
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts


class KeepingAction(ControllerAction):
    """An action whose text is returned, or where `path` is given brought there."""

    def kept(self, text: str, options: Facts, task_vars: Facts, *, kind: str, secret: bool = False) -> Facts:
        if not options["path"]:
            return {"changed": False, "content": text}
        given = {name: options[name] for name in FILE if options[name] is not None}
        arguments = {**given, "content": text, "kind": kind, "secret": secret}
        result: Facts = self._execute_module(
            module_name="selfheal.delivery.alert_file", module_args=arguments, task_vars=task_vars
        )
        result.pop("invocation", None)  # the whole text once more
        return result


def untagged(options: Facts) -> Facts:
    """Options of plain types: what writes YAML knows no others, and a number of a play is one of Ansible's own."""
    return Part("the task", options, tuple(options)).plain()


def seconds(options: Facts, *names: str, least: float = 0.0) -> Facts:
    """These options, which are durations as people write them, in seconds."""
    part = Part("the task", {name: options[name] for name in names}, names)
    given = {name: part.maybe_seconds(name, least=least) for name in names}
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise OptionError(f"{missing[0]} is empty", mend="Write a duration, such as 5m")
    return given
