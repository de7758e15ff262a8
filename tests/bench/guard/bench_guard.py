# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a recorded decision costs on each store, beside the least that the same store can do, in turns, by one client.

A decision is a trigger that nobody has seen before: read what is remembered, decide by the policy, and record trigger
and decision in the chain; most are denied by the cooldown. Beside it stand on SQLite a bare `BEGIN IMMEDIATE; INSERT;
COMMIT` of one row as long as what a decision records, on PostgreSQL pgbench with single-row inserts of the same, and on
Kubernetes the GET and PUT of one small ConfigMap. Everything is durable: synchronous=FULL, fsync on.

Writes build/bench/guard.json (`rows`, `bars`), prints a table, and exits 1 when a bar does not hold. In each round, the
other one begins. BENCH_GUARD_STORES=sqlite,postgresql leaves one out.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, List, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "tests/tools"))

import guard_load as load  # noqa: E402
from stores import STORES, Kept, KubernetesKept, PostgresqlKept, serving  # noqa: E402

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Clock  # noqa: E402

Row = Dict[str, Any]
Bar = Dict[str, Any]
Timed = Callable[[int], List[float]]  # how often → seconds of each

SIZES = {"sqlite": (15, 200), "postgresql": (9, 150), "kubernetes": (5, 40)}  # rounds, and how often in each
LEAST = {"sqlite": 0.5, "postgresql": 0.3}
LIMITS = {
    "sqlite": "BEGIN IMMEDIATE; INSERT; COMMIT",
    "postgresql": "pgbench, single-row inserts",
    "kubernetes": "GET and PUT of a ConfigMap",
}
PAYLOAD = "x" * 1000  # characters: about what a decision adds to the chain


class Decisions:
    """One decision after another on one ledger, each a second later than the one before."""

    def __init__(self, kept: Kept) -> None:
        self._ledger = kept.open()
        self._policies = {
            service: load.policy(service, cooldown=900, window=86_400, max_actions=64) for service in load.SERVICES
        }
        self._number = 0

    def __call__(self, count: int) -> List[float]:
        return [self._one() for _turn in range(count)]

    def _one(self) -> float:
        self._number += 1
        service, now = load.SERVICES[self._number % len(load.SERVICES)], 1_790_000_000.0 + self._number
        request, clock = load.request(f"t{self._number}", service, now), Clock("boot", float(self._number))
        opens = load.action(service)
        begun = time.perf_counter()
        grant = self._ledger.decide(
            request, self._policies[service], holder="bench", ttl=60, now=now, clock=clock, opens=opens
        )
        took = time.perf_counter() - begun
        if grant.lease is not None:  # it has to end before the next one; that is no decision
            self._ledger.set_state(grant.lease, request.id, "done", {"ok": True}, "bench", now)
            self._ledger.release(grant.lease, now)
        return took

    def close(self) -> None:
        problem = self._ledger.verify()
        if problem:
            raise SystemExit(problem)
        self._ledger.close()


def bare_sqlite(folder: Path) -> Timed:
    db = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE entry (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)")

    def one() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO entry (body) VALUES (?)", (PAYLOAD,))
        db.execute("COMMIT")

    return lambda count: [timed(one) for _turn in range(count)]


def bare_postgresql(folder: Path, kept: Kept) -> Timed:
    assert isinstance(kept, PostgresqlKept)
    server = kept.server
    server.sql("CREATE TABLE bare (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)")
    script, log = folder / "insert.sql", folder / "pgbench"
    script.write_text(f"INSERT INTO bare (body) VALUES ('{PAYLOAD}');\n")

    def run(count: int) -> List[float]:
        # over TCP and prepared, as the ledger does
        command = [server.program("pgbench"), "-h", "127.0.0.1", "-n", "-M", "prepared", "-c", "1", "-t", str(count)]
        command += ["-f", str(script), "-l", f"--log-prefix={log}"]
        done = subprocess.run(command, env=server.env, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        (told,) = folder.glob("pgbench.*")
        times = [int(line.split()[2]) / 1e6 for line in told.read_text().splitlines()]
        told.unlink()
        return times

    return run


def bare_kubernetes(_folder: Path, kept: Kept) -> Timed:
    assert isinstance(kept, KubernetesKept)
    path = f"/api/v1/namespaces/{kept.namespace}/configmaps"
    kept.cluster.create(path, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "bare"}, "data": {}})

    def one() -> None:
        found = kept.cluster.get(f"{path}/bare")
        found["data"] = {"entry": PAYLOAD, "at": str(time.perf_counter())}
        kept.cluster.call("PUT", f"{path}/bare", found)

    return lambda count: [timed(one) for _turn in range(count)]


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def measure(kind: str, folder: Path) -> "tuple[List[Row], List[Bar]]":
    rounds, count = SIZES[kind]
    with ExitStack() as ending:
        kept = ending.enter_context(serving(kind, folder))()
        decisions = Decisions(kept)
        ending.callback(decisions.close)
        limit: Timed = {
            "sqlite": lambda: bare_sqlite(folder),
            "postgresql": lambda: bare_postgresql(folder, kept),
            "kubernetes": lambda: bare_kubernetes(folder, kept),
        }[kind]()
        both: List[Timed] = [decisions, limit]
        for warm in both:
            warm(count // 2)
        times: List[List[List[float]]] = [[], []]
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 else (1, 0):
                times[which].append(both[which](count))
    # of each pair, so that what else the machine did meanwhile counts on both sides
    ratio = median(sum(bare) / sum(mine) for mine, bare in zip(*times, strict=True))
    rows = [row(kind, "decision", times[0], ratio), row(kind, LIMITS[kind], times[1], 1.0)]
    least = LEAST.get(kind)
    return rows, [bar(f"{kind}: decisions per second / {LIMITS[kind]}", ratio, least)] if least else []


def row(kind: str, what: str, rounds: Sequence[Sequence[float]], ratio: float) -> Row:
    times = sorted(took for each in rounds for took in each)
    return {
        "store": kind,
        "what": what,
        "runs": len(times),
        "per_second": round(len(times) / sum(times), 1),
        "median_ms": round(median(times) * 1000, 3),
        "p99_ms": round(times[int(len(times) * 0.99)] * 1000, 3),
        "ratio": round(ratio, 3),
    }


def bar(name: str, value: float, least: float) -> Bar:
    return {"name": name, "value": round(value, 3), "op": ">=", "limit": least, "holds": value >= least}


def main() -> int:
    rows: List[Row] = []
    bars: List[Bar] = []
    asked = os.environ.get("BENCH_GUARD_STORES", ",".join(STORES)).split(",")
    target = ROOT / "build/bench"
    target.mkdir(parents=True, exist_ok=True)
    for kind in asked:
        # on the disk of the checkout: a temporary folder may be only memory
        with tempfile.TemporaryDirectory(prefix="guard-", dir=target) as folder:
            its_rows, its_bars = measure(kind, Path(folder))
        rows += its_rows
        bars += its_bars
    for line in rows:
        print(
            "{store:<11} {what:<32} {per_second:>8.1f}/s   median {median_ms:>8.3f} ms   p99 {p99_ms:>8.3f} ms"
            "   {ratio:>6.3f}".format(**line)
        )
    for line in bars:
        print("{name:<70} {value:>6} {op} {limit:<4} {0}".format("holds" if line["holds"] else "MISSED", **line))
    (target / "guard.json").write_text(json.dumps({"rows": rows, "bars": bars}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(line["holds"] for line in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
