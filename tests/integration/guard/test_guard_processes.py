# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real processes on one ledger: never two holders, and nothing half-written when they are killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease

RACER = Path(__file__).with_name("guard_racer.py")
ORPHAN = Path(__file__).with_name("guard_orphan.py")
SERVICE = "prod/shop"


def start(path: Path, mode: str, witness: Path, times: int, env: Dict[str, str]) -> subprocess.Popen[str]:
    command = [sys.executable, str(RACER), str(path), mode, str(witness), str(times)]
    return subprocess.Popen(
        command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_processes_that_race_for_one_service_never_hold_it_at_once(tmp_path: Path, script_env: Dict[str, str]) -> None:
    path, times = tmp_path / "state" / "ledger.sqlite", 40
    racers = [start(path, "race", tmp_path / "witness", times, script_env) for _racer in range(4)]
    for racer in racers:
        assert line(racer) == "ready"
    for racer in racers:  # also the race for who creates the file
        go(racer)
    for racer in racers:
        _out, errors = racer.communicate(timeout=120)
        assert (racer.returncode, errors) == (0, "")
    ledger = SqliteLedger(str(path))
    assert ledger.verify() is None
    said = ledger.entries(limit=10_000)
    tokens = [entry.body["token"] for entry in said if entry.kind == "note"]
    assert tokens == list(range(tokens[0], tokens[0] + len(racers) * times))
    # acquired, noted, released by one and the same, before anybody else
    for first in range(0, len(said), 3):
        assert len({entry.actor for entry in said[first : first + 3]}) == 1
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".ledger-")] == []


def test_a_process_killed_in_the_middle_of_writes_leaves_a_whole_ledger(
    tmp_path: Path, script_env: Dict[str, str]
) -> None:
    path, chance = tmp_path / "state" / "ledger.sqlite", random.Random(20261121)
    heads: List[str] = []
    for _kill in range(25):
        process = start(path, "roll", tmp_path / "witness", 1000, script_env)
        assert line(process) == "ready"
        go(process)
        for _line in range(chance.randrange(40)):
            heads.append(line(process))
        process.kill()
        rest, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (-9, "")
        heads += rest.split("\n")[:-1]
        if path.exists():
            check_whole(path, heads)
    ledger = SqliteLedger(str(path))
    assert len(ledger.last_rollouts(limit=10_000)) > 50
    assert len(heads) > 150


def check_whole(path: Path, heads: List[str]) -> None:
    """Nothing that was acknowledged is lost, nothing is written by half, and the next one can go on."""
    ledger = SqliteLedger(str(path))
    assert ledger.verify(heads[-1] if heads else "") is None
    entries = ledger.entries(limit=100_000)
    assert set(heads) <= {entry.hash for entry in entries}
    assert len(ledger.unfinished(SERVICE)) <= 1
    spoken = [entry for entry in entries if entry.kind == "command"]
    assert [entry.body["seq"] for entry in spoken] == [command.seq for command in ledger.commands()]
    ledger.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()


def test_an_orphaned_worker_stops_and_its_lease_ends(tmp_path: Path, script_env: Dict[str, str]) -> None:
    path = tmp_path / "ledger.sqlite"
    command = [sys.executable, str(ORPHAN), str(path)]
    with subprocess.Popen(command, env=script_env, text=True, stdout=subprocess.PIPE) as parent:
        assert line(parent).startswith("renewed ")
        parent.kill()
        assert line(parent) == (
            "shop: The process that started this one is gone, so nobody waits for it any more."
            " Stop here: whoever takes the lease, or reconcile, goes on from the recorded state."
        )
    ledger = SqliteLedger(str(path))
    lease = taken_over(ledger, deadline=time.monotonic() + 30)
    tokens = [entry.body["token"] for entry in ledger.entries() if entry.body.get("event") == "acquired"]
    assert lease.holder == "reconcile" and lease.token == tokens[-1] == tokens[0] + 1


def taken_over(ledger: SqliteLedger, *, deadline: float) -> Lease:
    while True:
        try:
            return ledger.acquire("shop", "reconcile", 60, time.time())
        except LeaseError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
