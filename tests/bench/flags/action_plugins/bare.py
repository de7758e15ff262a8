# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a provider itself takes: the calls of one `feature_flag` task, without anything of ours around them.

Done in a task of the same play, so that both meet the machine in the same mood; what is told is only the calls' time.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import Any, Dict, Mapping, Optional

import requests
from ansible.plugins.action import ActionBase

EVERY = 0.05  # seconds between two questions of a client


class ActionModule(ActionBase):
    def run(self, tmp: Optional[str] = None, task_vars: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        result: Dict[str, Any] = super().run(tmp, task_vars)
        given = self._task.args
        begun = time.perf_counter()
        {"settle": settle, "unleash": unleash, "json": document}[given["what"]](given)
        return {**result, "seconds": time.perf_counter() - begun}


def settle(given: Mapping[str, Any]) -> None:
    """For up to a second: the server looks for changes once a second, and nobody shall begin in step with that."""
    time.sleep(random.random())


def unleash(given: Mapping[str, Any]) -> None:
    """Ask, ask as a client, set, ask; then ask as a client until it is off."""
    base, flag = str(given["url"]), str(given["flag"])
    feature = f"{base}/api/admin/projects/default/features/{flag}"
    with requests.Session() as management, requests.Session() as client:
        management.headers["Authorization"], client.headers["Authorization"] = str(given["admin"]), str(given["client"])
        management.get(feature, timeout=5).raise_for_status()
        served(client, base, flag)
        management.post(f"{feature}/environments/{given['environment']}/off", timeout=5).raise_for_status()
        management.get(feature, timeout=5).raise_for_status()
        while served(client, base, flag):
            time.sleep(EVERY)


def served(client: requests.Session, base: str, flag: str) -> bool:
    answer = client.get(f"{base}/api/client/features", timeout=5)
    answer.raise_for_status()
    return next(one["enabled"] for one in answer.json()["features"] if one["name"] == flag)


def document(given: Mapping[str, Any]) -> None:
    """Read, read, write durably beside it and rename, read, read."""
    path, flag = str(given["path"]), str(given["flag"])
    for _time in range(2):
        with open(path, encoding="utf-8") as file:
            flags = json.load(file)
    flags[flag] = False
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(flags, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)
    for _time in range(2):
        with open(path, encoding="utf-8") as file:
            if json.load(file)[flag] is not False:
                raise ValueError(path)
