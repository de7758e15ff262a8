# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies whose gates are alerted on, for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Dict

from ansible_collections.selfheal.delivery.plugins.module_utils._alerting.model import Watched, watched

ERRORS = {"name": "errors", "bad": 'http_requests_total{code=~"5.."}', "total": "http_requests_total", "max": "2%"}
SLOW = {"name": "slow", "type": "latency", "histogram": "took_seconds", "over": "500ms", "max": "5%"}
BURN = {"name": "burn", "type": "burn_rate", "bad": "bad_total", "total": "all_total", "slo": "99%"}
MEMORY = {"name": "memory", "type": "value", "value": "process_resident_memory_bytes", "max": 5e8}


def policy(*gates: Dict[str, Any], **more: Any) -> Dict[str, Any]:
    """A policy with these gates, or one that counts errors and slow requests."""
    source = {"type": "exposition", "url": "http://192.0.2.1:8080/metrics"}
    return {
        "owner": "team-shop",
        "runbook": "https://runbooks.example.org/shop",
        "source": source,
        "gates": list(gates or (ERRORS, SLOW)),
        "guard": {"mode": "recommend", "alerts": ["ReleaseBurnsBudget"]},
        **more,
    }


def shop(*gates: Dict[str, Any], environment: str = "production", **more: Any) -> Watched:
    return watched("shop", policy(*gates), environment=environment, **more)


def said(*command: object, folder: Path, code: int = 0) -> str:
    """What a program prints; another end than `code` fails the test."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
