# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes how long each task took, and what its result says of a provider's time, to the file that FLAG_LOG names."""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, List

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: flag_log
type: aggregate
short_description: How long each task took, and its provider
description:
  - Writes of each task its name, its seconds, and RV(seconds), RV(status), RV(call_took) and RV(effective_after) of its
    result, in order, to the file that E(FLAG_LOG) names.
"""
_FIGURES = ("seconds", "status", "call_took", "effective_after")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "flag_log"

    def __init__(self) -> None:
        super().__init__()
        self._begun = 0.0
        self._done: List[Dict[str, Any]] = []

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._begun = time.perf_counter()

    def v2_runner_on_ok(self, result: Any) -> None:
        took = time.perf_counter() - self._begun
        figures = {key: result.result.get(key) for key in _FIGURES}
        self._done.append({"name": result.task.get_name(), "took": took, **figures})

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with open(os.environ["FLAG_LOG"], "w", encoding="utf-8") as file:
            json.dump(self._done, file)
