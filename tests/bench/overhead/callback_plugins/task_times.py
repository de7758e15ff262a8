# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes how long each task took, from its start to its result, as JSON to the file named by TASK_TIMES."""

from __future__ import annotations

import json
import os
import time
from typing import Any, List, Tuple

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_times
type: aggregate
short_description: How long each task took
description: Writes the name and the seconds of each task, in order, to the file that E(TASK_TIMES) names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_times"

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0.0
        self._times: List[Tuple[str, float]] = []

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._begun = time.perf_counter()

    def v2_runner_on_ok(self, result: Any) -> None:
        task = getattr(result, "task", None) or result._task
        self._times.append((task.get_name().split(" : ")[-1], time.perf_counter() - self._begun))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with open(os.environ["TASK_TIMES"], "w", encoding="utf-8") as file:
            json.dump(self._times, file)
