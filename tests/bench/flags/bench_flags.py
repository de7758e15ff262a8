# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turning a flag off: our task beside a ping and the provider's own time, with a real Unleash and with a file.

All tasks are of one run of ansible-playbook, interleaved: a ping, our task, and the same calls made bare, each time in
another order and on a flag of its own that is on. Of our task and of the ping is measured what a person waits, from the
task's beginning until its result, with lease, ledger and the process that each task has. Of the bare calls only they
themselves are measured. Unleash tells its clients of a change about once a second; that wait is the provider's, and is
in our task and in the bare calls alike. Before each of them is a pause of random length, so that none begins in step
with that second.

A second bar is about what is left of our task without its provider, by the times that the task itself tells.

Writes build/bench/flags.json (`rows`, `bars`), prints a table, and exits 1 when a bar does not hold. BENCH_RUNS is how
often each is measured (24).
"""

from __future__ import annotations

import json
import operator
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Mapping, Sequence, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / ".tree"), str(ROOT / "tests/tools")]

from timed_play import timed_tasks  # noqa: E402
from unleash import ENVIRONMENT, PROJECT, Unleash, unleash  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS", "24"))
TARGET = ROOT / "build/bench/flags.json"
OPERATORS = {"<=": operator.le, ">=": operator.ge}
PING, TASK, BARE, SETTLE = "ping", "feature_flag", "bare calls", "settle"
KINDS = ("unleash", "json")
FIGURES = ("seconds", "status", "call_took", "effective_after")  # of results: the first of bare calls, the rest of ours

Task = Dict[str, Any]
Log = List[Dict[str, Any]]


def flags_of(kind: str, what: str) -> List[str]:
    """Those that are turned off; the first of each only loads what Ansible loads once."""
    return [f"{kind}-{what}-{number}".replace(" ", "-") for number in range(RUNS + 1)]


def prepared(kind: str) -> List[str]:
    return [*flags_of(kind, TASK), *flags_of(kind, BARE)]


def tasks(server: Unleash, folder: Path) -> List[Task]:
    """All rounds, each in another order."""
    path = str(folder / "flags.json")
    secrets = {"admin": server.admin, "client": server.client}
    where: Dict[str, Task] = {
        "unleash": {"what": "unleash", "url": server.url, "environment": ENVIRONMENT, **secrets},
        "json": {"what": "json", "path": path},
    }
    token_files = {"token_file": str(folder / "token"), "client_token_file": str(folder / "client")}
    providers: Dict[str, Task] = {
        "unleash": {"provider": {"type": "unleash", "url": server.url, **token_files}, "environment": ENVIRONMENT},
        "json": {"provider": {"type": "json", "path": path}},
    }
    ours = {"service": "bench/shop", "state": "off", "ledger": {"path": str(folder / "ledger.sqlite")}}
    listed: List[Task] = []
    for number in range(RUNS + 1):
        turn: List[Task] = [{"name": PING, "ansible.builtin.ping": {}}]
        for kind in KINDS:
            flag = {"flag": flags_of(kind, TASK)[number], **ours, **providers[kind]}
            bare = {"flag": flags_of(kind, BARE)[number], **where[kind]}
            turn.append({"name": f"{kind}: {TASK}", "selfheal.delivery.feature_flag": flag})
            turn.append({"name": f"{kind}: {BARE}", "bare": bare})
        first = number % len(turn)
        for task in (*turn[first:], *turn[:first]):
            listed += [{"name": SETTLE, "bare": {"what": SETTLE}}, task]
    return listed


def measure() -> Log:
    with tempfile.TemporaryDirectory() as name, unleash() as server:
        folder = Path(name)
        for file, token in (("token", server.admin), ("client", server.client)):
            (folder / file).write_text(token, encoding="utf-8")
        (folder / "flags.json").write_text(json.dumps(dict.fromkeys(prepared("json"), True)), encoding="utf-8")
        for flag in prepared("unleash"):
            server.create(flag, project=PROJECT)
            server.switch(flag, "on")
        noted = timed_tasks(folder, tasks(server, folder), *FIGURES, action_plugins=HERE / "action_plugins")
        left = [flag for flag, value in json.loads((folder / "flags.json").read_text()).items() if value is not False]
        if left or any(one["status"] != "effective" for one in noted if one["name"].endswith(TASK)):
            raise SystemExit(f"not everything was turned off: {left}")
    return noted


def told(noted: Log) -> Tuple[List[Mapping[str, Any]], List[Mapping[str, Any]]]:
    """Rows and bars."""
    pings = seconds(noted, PING, "took")
    rows = [row("ping task", pings)]
    bars = []
    for kind in KINDS:
        whole, bare = seconds(noted, f"{kind}: {TASK}", "took"), seconds(noted, f"{kind}: {BARE}", "seconds")
        lines = [one for one in noted if one["name"] == f"{kind}: {TASK}"][1:]
        own = [one["took"] - one["call_took"] - one["effective_after"] for one in lines]
        rows += [row(f"{kind}: feature_flag off, whole task", whole), row(f"{kind}: the same calls, bare", bare)]
        rows.append(row(f"{kind}: feature_flag off without them", own))
        beside = median(whole) / (median(pings) + median(bare))
        bars.append(bar(f"{kind}: feature_flag / (ping + the provider's own time)", beside, "<=", 1.5))
        bars.append(bar(f"{kind}: feature_flag without the provider / ping", median(own) / median(pings), "<=", 1.5))
    return rows, bars


def seconds(noted: Log, name: str, key: str) -> List[float]:
    return [float(one[key]) for one in noted if one["name"] == name][1:]


def row(what: str, measured: Sequence[float]) -> Mapping[str, Any]:
    figures = {"min_s": min(measured), "median_s": median(measured), "max_s": max(measured)}
    return {"what": what, "runs": len(measured), **{name: round(value, 4) for name, value in figures.items()}}


def bar(name: str, value: float, op: str, limit: float) -> Mapping[str, Any]:
    return {"name": name, "value": round(value, 3), "op": op, "limit": limit, "holds": OPERATORS[op](value, limit)}


def main() -> int:
    rows, bars = told(measure())
    for line in rows:
        print(
            "{what:<42} {runs:>4} runs   min {min_s:.3f} s   median {median_s:.3f} s   max {max_s:.3f} s".format(**line)
        )
    for line in bars:
        print("{name:<60} {value:>7} {op} {limit:<5} {0}".format("holds" if line["holds"] else "MISSED", **line))
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps({"rows": rows, "bars": bars}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(line["holds"] for line in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
