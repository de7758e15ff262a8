# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes when each task began and when its result was there, with that result's figures, to the file TASK_LOG names."""

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
  - Writes name, beginning and end (epoch seconds) of each task, and RV(changed), RV(recorded) and RV(requests) of its
    result, in order, to the file that E(TASK_LOG) names.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_log"

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0
        self._done: List[Dict[str, Any]] = []

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._began = time.time()

    def v2_runner_on_ok(self, result: Any) -> None:
        times = {"name": result.task.get_name(), "began": self._began, "ended": time.time()}
        figures = {key: result.result.get(key) for key in ("changed", "recorded", "requests")}
        self._done.append({**times, **figures})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with open(os.environ["TASK_LOG"], "w", encoding="utf-8") as file:
            json.dump(self._done, file)
