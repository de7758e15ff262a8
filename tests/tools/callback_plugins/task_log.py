# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes when each task began and how long its result took, with figures of that result, for `timed_play.py`."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: task_log
type: aggregate
short_description: When each task began and ended
description:
  - Writes of each task its name, its beginning and end (epoch seconds), the seconds in between by a clock that nobody
    sets, and those keys of its result that E(TASK_LOG_KEYS) lists with commas, in order, to the file that E(TASK_LOG)
    names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_log"

    def __init__(self) -> None:
        super().__init__()
        self._keys = [key for key in os.environ["TASK_LOG_KEYS"].split(",") if key]
        self._began, self._timer = 0.0, 0.0
        self._done: List[Dict[str, Any]] = []

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._began, self._timer = time.time(), time.perf_counter()

    def v2_runner_on_ok(self, result: Any) -> None:
        took, ended = time.perf_counter() - self._timer, time.time()
        times = {"name": result.task.get_name(), "began": self._began, "ended": ended, "took": took}
        self._done.append({**times, **{key: result.result.get(key) for key in self._keys}})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with open(os.environ["TASK_LOG"], "w", encoding="utf-8") as file:
            json.dump(self._done, file)
