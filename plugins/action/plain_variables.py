# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what others filled in free of templates? See plugins/modules/plain_variables.py for the documentation."""

from __future__ import annotations

from datetime import date
from typing import Iterator, List, Set, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import ControllerAction, Facts

# the last one, at the start of a text, gives it other delimiters than these
_MARKS = ("{{", "{%", "{#", "#jinja2:")
_SCALARS = (type(None), bool, int, float, date)
SHOWN = 40  # characters of a text, or of a key, that a message shows: somebody else wrote it


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {"names": {"type": "list", "elements": "str", "required": True}}

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        for name in options["names"]:
            if name in task_vars:
                for where, what in faults(name, dict.__getitem__(task_vars, name)):
                    raise OptionError(
                        f"{where} {what}",
                        mend="Ansible executes the templates in what it is given with -e: hand on plain text only",
                        details={"variable": name},
                    )
        return {"changed": False, "msg": f"No template in {', '.join(options['names'])}"}


def faults(name: str, value: object) -> Iterator[Tuple[str, str]]:
    """(where, what is wrong) for each text in `value` that holds a template, and each thing that may hide one.

    Only the methods of dict, list and tuple themselves are used: those of Ansible's lazy containers would render what
    is looked at. What such a container has not rendered yet is of a type of its own, and so is wrong, too.
    """
    seen: Set[int] = set()
    left: List[Tuple[str, object]] = [(name, value)]
    while left:
        where, one = left.pop()
        if isinstance(one, str):
            if _is_template(one):
                yield where, f"holds a template: {_shown(one)}"
        elif isinstance(one, (dict, list, tuple)):
            if id(one) not in seen:  # YAML's aliases can make a loop
                seen.add(id(one))
                left += _parts(where, one)
        elif not isinstance(one, _SCALARS):
            yield where, f"is a {type(one).__name__}, into which nobody can look without rendering it"


def _parts(where: str, one: object) -> Iterator[Tuple[str, object]]:
    if isinstance(one, dict):
        for key, value in dict.items(one):
            yield f"a key of {where}", key
            yield f"{where}[{_shown(key) if isinstance(key, str) else repr(key)}]", value
    else:
        values = list.__iter__(one) if isinstance(one, list) else tuple.__iter__(one)  # type: ignore[arg-type]
        for number, value in enumerate(values):
            yield f"{where}[{number}]", value


def _is_template(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def _shown(text: str) -> str:
    raw = str.__str__(text)
    return f"{raw[:SHOWN]!r}..." if len(raw) > SHOWN else repr(raw)
