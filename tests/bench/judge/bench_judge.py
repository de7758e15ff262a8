#!/usr/bin/env python3
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge beside Argo Rollouts', Flagger's and Kayenta's, on the same simulated traffic.

    python tests/bench/judge/bench_judge.py        writes build/bench/judge.json; exits 1 when a bar does not hold

BENCH_RUNS scales the runs per cell (2000 for false aborts, 400 or more for detection); BENCH_QUICK=1 takes one cell per
scenario and few runs; BENCH_JOBS processes (default: all cores).
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from multiprocessing import Pool
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / ".tree"), str(Path(__file__).resolve().parent)]

import judge_rivals  # noqa: E402
import numpy as np  # noqa: E402
import numpy.typing as npt  # noqa: E402
from judge_traffic import LOOK, PLACES, SCENARIOS, Traffic, generate  # noqa: E402
from judge_twin import judge, replay  # noqa: E402

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.ratio import RatioSpec  # noqa: E402

Looks = npt.NDArray[np.int64]
ALPHA = 0.01
RATES = (20, 100, 1000)
SHARES = (5, 10, 25)
CHUNK = 200
OURS: Dict[str, Tuple[str, bool]] = {
    "careful": ("careful", True),
    "balanced": ("balanced", True),
    "fast": ("fast", True),
    "balanced, no history": ("balanced", False),
}
RIVALS: Dict[str, Callable[[Traffic], Looks]] = {
    "argo": judge_rivals.argo,
    "flagger": judge_rivals.flagger,
    "kayenta": judge_rivals.kayenta,
}
BURSTS = ("bursts-40s",)
RUNS = {"0.5-5": 1200}  # its medians are held against bars, and a count of five is coarse
BAD = ("0.1-0.5", "0.1-2", "0.5-3", "0.5-5", "0.5-50")


@dataclass(frozen=True)
class Task:
    scenario: str
    rps: int
    share: int
    runs: int
    seed: int


@dataclass(frozen=True)
class Seen:
    """What the judges did in a task: per judge (look of the abort, of the first pass, bad served since the onset)."""

    task: Task
    looks: Dict[str, Tuple[Looks, Looks, npt.NDArray[np.float64]]]
    replayed: int
    differing: int


@dataclass(frozen=True)
class Row:
    """Rates in percent; medians over the bakes that were aborted (after the onset), times since the onset."""

    judge: str
    scenario: str
    rps: int
    share: int
    runs: int
    abort_rate: float
    median_s: Optional[float]
    median_bad: Optional[float]
    early_rate: float
    pass_rate: Optional[float]
    pass_median_s: Optional[float]
    promised: bool


def spec_of(preset: str) -> RatioSpec:
    return RatioSpec.of("errors", preset=preset, alpha=ALPHA)


def run(task: Task) -> Seen:
    scenario = SCENARIOS[task.scenario]
    traffic = generate(scenario, task.rps, task.share, task.runs, task.seed)
    looks: Dict[str, Tuple[Looks, Looks, npt.NDArray[np.float64]]] = {}
    onset = int(scenario.at / LOOK) if scenario.regression else 0
    served = np.cumsum(traffic.bad[:, traffic.past + onset :, 0], axis=1, dtype=float)
    rows = np.arange(task.runs)
    replayed = differing = 0
    for name, (preset, history) in OURS.items():
        said = judge(spec_of(preset), traffic, history=history)
        looks[name] = (said.failed, said.passed, served[rows, np.maximum(said.failed - onset, 0)])
        for one in [task.seed % task.runs, *np.flatnonzero(said.failed >= 0)[:1].tolist()]:
            replayed += 1
            same = replay(spec_of(preset), traffic, one, history=history)
            differing += same != (int(said.failed[one]), int(said.passed[one]))
    never = np.full(task.runs, -1)
    for name, rival in RIVALS.items():
        aborted = rival(traffic)
        looks[name] = (aborted, never, served[rows, np.maximum(aborted - onset, 0)])
    return Seen(task, looks, replayed, differing)


def tasks() -> List[Task]:
    quick = bool(os.environ.get("BENCH_QUICK"))
    scale = float(os.environ.get("BENCH_RUNS", "0.05" if quick else "1"))
    planned: List[Task] = []
    for index, (name, scenario) in enumerate(SCENARIOS.items()):
        wanted = max(20, round(RUNS.get(name, 400 if scenario.regression else 2000) * scale))
        for rps in (100,) if quick else RATES:
            for share in (10,) if quick else SHARES:
                for first in range(0, wanted, CHUNK):
                    seed = ((index * 10_000 + rps) * 100 + share) * 10_000 + first
                    planned.append(Task(name, rps, share, min(CHUNK, wanted - first), seed))
    return planned


def rows_of(seen: Iterable[Seen]) -> List[Row]:
    cells: Dict[Tuple[str, int, int], List[Seen]] = {}
    for one in seen:
        cells.setdefault((one.task.scenario, one.task.rps, one.task.share), []).append(one)
    rows: List[Row] = []
    for (scenario, rps, share), parts in cells.items():
        for name in parts[0].looks:
            failed, passed, served = (np.concatenate([part.looks[name][side] for part in parts]) for side in range(3))
            rows.append(_row(name, scenario, rps, share, failed, passed, served))
    return rows


def _row(
    name: str, scenario: str, rps: int, share: int, failed: Looks, passed: Looks, served: npt.NDArray[np.float64]
) -> Row:
    planned = SCENARIOS[scenario]
    onset = planned.at if planned.regression else 0.0
    seconds = (failed + 1) * LOOK - onset
    after = (failed >= 0) & (seconds > 0.0)
    ours = name in OURS
    return Row(
        judge=name,
        scenario=scenario,
        rps=rps,
        share=share,
        runs=len(failed),
        abort_rate=round(100.0 * float(after.mean()), 3),
        median_s=_median(seconds[after]),
        median_bad=_median(served[after]),
        early_rate=round(100.0 * float(((failed >= 0) & ~after).mean()), 3),
        pass_rate=round(100.0 * float((passed >= 0).mean()), 3) if ours else None,
        pass_median_s=_median((passed[passed >= 0] + 1) * LOOK) if ours else None,
        promised=name == "balanced" and share <= 10,
    )


def _median(values: npt.NDArray[np.float64]) -> Optional[float]:
    return float(statistics.median(values.tolist())) if len(values) else None


def bars_of(rows: List[Row], differing: int) -> List[Dict[str, object]]:
    """The promises, each over the worst of the cells it is made for."""
    ours = [row for row in rows if row.judge == "balanced"]
    many = [row for row in ours if not SCENARIOS[row.scenario].regression and row.share <= 10]
    busy = [row for row in ours if row.rps >= 100]
    bars = [
        _bar("false aborts, >= 9 baseline places, %", [r.abort_rate for r in many if r.scenario not in BURSTS], 1.0),
        _bar("false aborts, 40-s bursts, %", [r.abort_rate for r in many if r.scenario in BURSTS], 2.5),
        _bar("5 % errors, bad requests / Argo's", _ratios(rows, "balanced", "argo", SHARES), 1 / 3),
        _bar("5 % errors, bad requests / Flagger's", _ratios(rows, "balanced", "flagger", SHARES), 1 / 8),
        _bar("5 % errors, fast, / Argo's (share >= 10 %)", _ratios(rows, "fast", "argo", (10, 25)), 1 / 8),
        _bar("5 % errors, fast, / Flagger's (share >= 10 %)", _ratios(rows, "fast", "flagger", (10, 25)), 1 / 20),
        _bar(
            "0.1 -> 0.5 % found, share >= 10 %, %",
            [r.abort_rate for r in busy if r.scenario == "0.1-0.5" and r.share >= 10],
            95.0,
            least=True,
        ),
        _bar(
            "late onset, bad requests (20 and 100 requests/s)",
            [r.median_bad or 1e9 for r in ours if r.scenario.startswith("late") and r.rps <= 100],
            50.0,
        ),
        _bar(
            "late onset found, % (>= 100 requests/s)",
            [r.abort_rate for r in busy if r.scenario.startswith("late")],
            99.0,
            least=True,
        ),
        _bar(
            "no errors at all, passes in s", [r.pass_median_s or 1e9 for r in busy if r.scenario == "healthy-0"], 600.0
        ),
        _bar("releases bad from the start that pass, %", [r.pass_rate or 0.0 for r in ours if r.scenario in BAD], 5.0),
        _bar("replays that differ from the real gate", [float(differing)], 0.0),
    ]
    return bars


def apart_of(rows: List[Row]) -> List[str]:
    """What misses a figure of the bars in cells that they leave out."""
    told = []
    for row in rows:
        cell = f"{row.judge}, {SCENARIOS[row.scenario].label}, {row.rps}/s, {row.share} %"
        if row.judge == "balanced" and row.scenario.startswith("late") and (row.median_bad or 0.0) > 50.0:
            told.append(f"{cell}: {row.median_bad:.0f} bad requests, {row.median_s:.0f} s")
        if row.judge == "balanced" and row.share > 10 and not SCENARIOS[row.scenario].regression:
            if row.abort_rate > 1.0:
                told.append(f"{cell}: {row.abort_rate:.2f} % aborted")
    for ratio in _ratios(rows, "fast", "argo", (5,)):
        if ratio > 1 / 8:
            told.append(f"fast, 5 % errors, a share of 5 %: bad requests / Argo's = {ratio:.3f}")
    return told


def _ratios(rows: List[Row], name: str, rival: str, shares: Tuple[int, ...]) -> List[float]:
    """Median bad requests of `name` over those of `rival` in each cell of 5 % errors at 100 requests/s and more."""
    cells = {(row.judge, row.rps, row.share): row for row in rows if row.scenario == "0.5-5" and row.rps >= 100}
    ratios = []
    for (judged, rps, share), row in cells.items():
        other = cells[rival, rps, share]
        if judged == name and share in shares and other.median_bad:
            ratios.append((row.median_bad or 1e9) / other.median_bad)
    return ratios


def _bar(name: str, values: List[float], limit: float, *, least: bool = False) -> Dict[str, object]:
    value = (min(values) if least else max(values)) if values else float("nan")
    holds = value >= limit if least else value <= limit
    return {
        "name": name,
        "value": round(value, 4),
        "op": ">=" if least else "<=",
        "limit": round(limit, 4),
        "holds": holds,
    }


def show(rows: List[Row], bars: List[Dict[str, object]]) -> None:
    names = [*OURS, *RIVALS]
    print(f"\n{'false aborts, %':44s}" + "".join(f"{name[:13]:>14s}" for name in names))
    cells = {(row.scenario, row.rps, row.share, row.judge): row for row in rows}
    for regression in (False, True):
        if regression:
            print(f"\n{'found %, median s, bad requests served':44s}" + "".join(f"{name[:13]:>16s}" for name in names))
        for key, scenario in SCENARIOS.items():
            if scenario.regression is regression:
                for rps, share in sorted({(row.rps, row.share) for row in rows}):
                    line = [cells[key, rps, share, name] for name in names]
                    label = f"{scenario.label[:30]:30s} {rps:5d}/s {share:3d} %{'*' if share > 10 else ' '}"
                    print(label + "".join(map(_found if regression else _aborted, line)))
    print("\n* three baseline places: nothing is promised; nor for `fast` and without history, wherever requests clump")
    for bar in bars:
        print(f"{'ok  ' if bar['holds'] else 'MISS'} {bar['name']}: {bar['value']} {bar['op']} {bar['limit']}")


def _aborted(row: Row) -> str:
    return f"{row.abort_rate:14.2f}"


def _found(row: Row) -> str:
    if row.median_s is None or row.median_bad is None:
        return f"{row.abort_rate:6.1f}     –    –"
    return f"{row.abort_rate:6.1f}{row.median_s:5.0f}{row.median_bad:5.0f}"


def main() -> int:
    planned = tasks()
    began, seen = time.monotonic(), []
    # the dearest first, so that the last ones fill the cores evenly
    planned.sort(key=lambda task: -task.runs * PLACES[task.share])
    with Pool(int(os.environ.get("BENCH_JOBS", os.cpu_count() or 1))) as pool:
        for done, one in enumerate(pool.imap_unordered(run, planned), 1):
            seen.append(one)
            if done % max(1, len(planned) // 50) == 0 or done == len(planned):
                print(f"\r{done} of {len(planned)} tasks, {time.monotonic() - began:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    seen.sort(key=lambda one: (list(SCENARIOS).index(one.task.scenario), one.task.seed))
    rows = rows_of(seen)
    bars = bars_of(rows, sum(one.differing for one in seen))
    show(rows, bars)
    apart = apart_of(rows)
    print("\nNot held, and not promised:", *apart, sep="\n  ")
    print(f"\n{sum(one.replayed for one in seen)} bakes replayed by the real gate, {time.monotonic() - began:.0f} s")
    target = ROOT / "build" / "bench" / "judge.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        json.dumps({"rows": [asdict(row) for row in rows], "bars": bars, "apart": apart}, indent=1) + "\n",
        encoding="utf-8",
    )
    return 0 if all(bar["holds"] for bar in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
