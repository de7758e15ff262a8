# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo, again and again: how many bad requests get out, and whether a good release is ever taken back.

`BENCH_RUNS` sets the number of runs (20). Each is one bad and one good release on real places under real load. Writes
build/bench/demo.json, prints a table, and ends with 1 when a bar does not hold.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[3]
OUT = ROOT / "build" / "bench" / "demo.json"
RUNS = int(os.environ.get("BENCH_RUNS", "20"))


def demo(number: int) -> Dict[str, Any]:
    folder = ROOT / "build" / "bench" / "demo-run"
    began = time.monotonic()
    command = [sys.executable, str(ROOT / "demo" / "run.py"), "--folder", str(folder)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    row: Dict[str, Any] = {"run": number, "exit": done.returncode, "took_s": round(time.monotonic() - began, 1)}
    summary = folder / "summary.json"
    if not summary.exists():
        return {**row, "error": (done.stdout + done.stderr)[-2000:]}
    told = json.loads(summary.read_text())
    return {**row, **{f"bad_{key}": value for key, value in told["bad"].items()}, **_good(told["good"])}


def _good(good: Dict[str, Any]) -> Dict[str, Any]:
    return {f"good_{key}": value for key, value in good.items()}


def bars(rows: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    whole = [row for row in rows if "error" not in row]
    requests = [row["bad_bad_requests"] for row in whole]
    back = sum(row["bad_rolled_back_to"] == "1.0.0" and row["bad_recovered"] for row in whole)
    promoted = sum(row["good_verdict"] == "pass" and len(row["good_promoted_places"]) == 4 for row in whole)
    return [
        _bar("runs that ended with a summary", len(whole), ">=", len(rows)),
        _bar("median bad requests served by the bad release", statistics.median(requests or [10**9]), "<=", 40),
        _bar("bad releases caught, back everywhere and recovered", back, ">=", len(rows)),
        _bar("good releases promoted on all places", promoted, ">=", len(rows)),
        _bar("median seconds of a run", statistics.median(row["took_s"] for row in rows), "<=", 120),
    ]


def _bar(name: str, value: float, op: str, limit: float) -> Dict[str, Any]:
    holds = value <= limit if op == "<=" else value >= limit
    return {"name": name, "value": value, "op": op, "limit": limit, "holds": holds}


def main() -> int:
    rows: List[Dict[str, Any]] = []
    print("run  took  detected  bad requests  verdict        good verdict  baked")
    for number in range(1, RUNS + 1):
        row = demo(number)
        rows.append(row)
        if "error" in row:
            print(f"{number:3}  {row['took_s']:4.0f}  no summary: {row['error'][-200:]!r}", flush=True)
            continue
        print(
            f"{number:3}  {row['took_s']:4.0f}  {row['bad_detected_after_s']:8}  {row['bad_bad_requests']:12}  "
            f"{row['bad_verdict']:13}  {row['good_verdict']:12}  {row['good_bake_s']}",
            flush=True,
        )
    held = bars(rows)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"rows": rows, "bars": held}, indent=2) + "\n")
    for bar in held:
        print(f"{'ok  ' if bar['holds'] else 'MISS'} {bar['name']}: {bar['value']:g} {bar['op']} {bar['limit']:g}")
    return 0 if all(bar["holds"] for bar in held) else 1


if __name__ == "__main__":
    sys.exit(main())
