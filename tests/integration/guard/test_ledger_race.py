# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many processes with thousands of triggers on one ledger, on each real store: never two at once, never too many.

SELFHEAL_RACE=1000 runs the whole race, 8 processes with 1,000 triggers each; by default they have fewer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List

import pytest
from stores import Kept, Serving

RACER = Path(__file__).with_name("ledger_racer.py")
PROCESSES = 8
WHOLE = int(os.environ.get("SELFHEAL_RACE", "0"))
TRIGGERS = {"sqlite": WHOLE or 60, "postgresql": WHOLE or 60, "kubernetes": WHOLE or 25}
POLICY = {"cooldown": 0.25, "window": 3600, "max_actions": 12}
PATIENCE = 30.0  # seconds for one decision, on a machine that has other things to do
SHOP = "production/service-00"


def start(env: Dict[str, str], kept: Kept, **told: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(RACER), json.dumps({"options": kept.options, "policy": POLICY, **told})]
    return subprocess.Popen(
        command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> Dict[str, Any]:
    out, errors = process.communicate(timeout=3000)
    assert process.returncode == 0, errors
    answer: Dict[str, Any] = json.loads(out)
    return answer


@pytest.mark.timeout(3600 if WHOLE else 300)
def test_processes_that_race_never_act_twice_and_never_too_often(
    serve: Serving, script_env: Dict[str, str], tmp_path: Path, kind: str
) -> None:
    kept, triggers = serve(), TRIGGERS[kind]
    witnesses = tmp_path / "witnesses"
    witnesses.mkdir()
    told = {"mode": "race", "witnesses": str(witnesses), "triggers": triggers}
    racers = [start(script_env, kept, racer=number, **told) for number in range(PROCESSES)]
    assert [line(racer) for racer in racers] == ["ready"] * PROCESSES
    try:
        for racer in racers:  # also the race for who makes the ledger
            go(racer)
        answers = [ended(racer) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
    # a witness that was there already would have ended its racer
    assert not list(witnesses.iterdir())
    allowed: Dict[str, List[float]] = defaultdict(list)
    for answer in answers:
        assert sum(answer["answers"].values()) == triggers
        for service, at in answer["allowed"]:
            allowed[service].append(at)
    for times in allowed.values():
        times.sort()
        assert len(times) <= POLICY["max_actions"]
        assert all(after - before >= POLICY["cooldown"] for before, after in zip(times, times[1:], strict=False))
    assert len(allowed) == 20
    ledger = kept.open()
    assert ledger.verify() is None
    assert ledger.unfinished() == [] and ledger.leases(time.time()) == []
    counted = [counters.get("decisions:restart:allowed") for counters in ledger.counters().values()]
    assert sum(filter(None, counted)) == sum(map(len, allowed.values()))
    took = [answer["took"] for answer in answers]
    slowest = max(answer["slowest"] for answer in answers)
    print(
        f"{kind}: {PROCESSES} x {triggers} in {max(took):.1f} s, {PROCESSES * triggers / max(took):.0f}/s,"
        f" slowest decision {slowest:.2f} s, first done after {min(took):.1f} s,"
        f" allowed {sum(map(len, allowed.values()))}, tried again {sum(answer.get('again', 0) for answer in answers)}"
    )
    assert slowest < PATIENCE  # nobody starves
    ledger.close()


def test_a_process_that_was_stopped_past_its_lease_is_refused_whatever_it_writes(
    serve: Serving, script_env: Dict[str, str]
) -> None:
    kept = serve()
    late = start(script_env, kept, mode="stopped", ttl=0.5)
    assert line(late) == "ready"
    go(late)
    expires = json.loads(line(late))["expires"]
    late.send_signal(signal.SIGSTOP)
    ledger = kept.open()
    now = expires + 0.001
    newer = ledger.acquire(SHOP, "reconcile", 60, now)
    closed = ledger.set_state(newer, "stopped", "undone", {}, "reconcile", now)
    before = ledger.entries()
    late.send_signal(signal.SIGCONT)
    go(late)
    refused = ended(late)["refused"]
    assert len(refused) == 4
    assert all(why.endswith("was lost: reconcile has it now") for why in refused)
    assert (ledger.entries(), ledger.rollout("stopped")) == (before, closed)
    assert ledger.verify() is None
    ledger.close()
