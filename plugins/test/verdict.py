# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verdict in `when`. The documentation of each test is in the YAML file of its name."""

from __future__ import annotations

from typing import Callable, Dict, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import FAIL, INCONCLUSIVE, PASS
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.recovery import (
    NOT_RECOVERED,
    RECOVERED,
    UNVERIFIED,
)

# what a bake says, and what reading the gates again after an undo says
PASSING = (PASS, RECOVERED)
FAILING = (FAIL, NOT_RECOVERED)
UNDECIDED = (INCONCLUSIVE, UNVERIFIED)
Test = Callable[[object], bool]


class TestModule:
    def tests(self) -> Dict[str, Test]:
        return {
            "passing": lambda result: _verdict(result, "passing") in PASSING,
            "failing": lambda result: _verdict(result, "failing") in FAILING,
            "inconclusive": lambda result: _verdict(result, "inconclusive") in UNDECIDED,
        }


def _verdict(result: object, test: str) -> str:
    """The verdict in `result`; AnsibleFilterError when there is none, so that a typo never passes for an answer."""
    name = f"selfheal.delivery.{test}"
    if not isinstance(result, Mapping):
        raise AnsibleFilterError(
            f"The test {name} expects a verdict or a registered result, not {type(result).__name__}"
        )
    verdict = result.get("verdict")
    if verdict in (*PASSING, *FAILING, *UNDECIDED):
        return str(verdict)
    if "verdict" in result:
        raise AnsibleFilterError(f"The test {name} does not know the verdict {verdict!r}")
    raise AnsibleFilterError(f"The test {name} finds no verdict: {_why_none(result)}")


def _why_none(result: Mapping[str, object]) -> str:
    for word in ("skipped", "unreachable", "failed"):
        if result.get(word):
            return f"the task that was registered was {word}" if word != "failed" else "the registered task failed"
    if "results" in result:
        return "this is the result of a loop; test each of its results"
    return "register the result of canary_bake or metric_gate"
