# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What asking costs: `metric_gate` beside `ping`, and a hundred queries beside one.

Writes build/bench/overhead.json (`rows`, `bars`), prints a table, and exits 1 when a bar does not hold.
"""

from __future__ import annotations

import json
import operator
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / ".tree"), str(ROOT / "tests/tools")]

from timed_play import timed_tasks  # noqa: E402

from ansible_collections.selfheal.delivery.plugins.module_utils._sense.collect import collect  # noqa: E402
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Query, Target  # noqa: E402
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import parse_source  # noqa: E402

PAIRS = 24
ROUNDS = 15
QUERIES = 100
OPERATORS = {"<=": operator.le, ">=": operator.ge}

Row = Dict[str, Any]
Bar = Dict[str, Any]


@contextmanager
def serving(kind: str) -> Iterator[str]:
    """The address of an overhead_server of that kind."""
    process = subprocess.Popen([sys.executable, HERE / "overhead_server.py", kind], stdout=subprocess.PIPE, text=True)
    try:
        port = process.stdout.readline().strip() if process.stdout else ""
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def pairs(url: str) -> List[Dict[str, Any]]:
    """Tasks that are interleaved."""
    gate = {
        "name": "errors",
        "bad": 'http_requests_total{code=~"5.."}',
        "total": "http_requests_total",
        "max": 0.01,
    }
    asked = {
        "source": {"type": "exposition", "url": f"{url}/metrics"},
        "gate": gate,
        "fail_on": ["fail", "inconclusive"],
    }
    pair: List[Dict[str, Any]] = [
        {"name": "ping", "ansible.builtin.ping": {}},
        {"name": "metric_gate", "selfheal.delivery.metric_gate": asked},
    ]
    return pair * PAIRS


def gate_beside_ping() -> Tuple[List[Row], List[Bar]]:
    with serving("place") as url, tempfile.TemporaryDirectory() as folder:
        noted = timed_tasks(Path(folder), pairs(url))
    pings, gates = ([float(one["took"]) for one in noted if one["name"] == name] for name in ("ping", "metric_gate"))
    # the first pair pays for what Ansible itself loads only once
    ratios = [gate / ping for ping, gate in zip(pings[1:], gates[1:], strict=True)]
    rows = [row("ping task", pings[1:]), row("metric_gate task, one scrape", gates[1:])]
    return rows, [bar("metric_gate / ping, median of pairs", median(ratios), "<=", 1.5)]


def many_beside_one() -> Tuple[List[Row], List[Bar]]:
    with serving("server") as url:
        one: List[float] = []
        many: List[float] = []
        for _ in range(ROUNDS):
            one.append(timed(lambda: ask(url, 1)))
            many.append(timed(lambda: ask(url, QUERIES)))
    rows = [row("1 query, server takes 50 ms", one), row(f"{QUERIES} queries, server takes 50 ms", many)]
    return rows, [bar(f"{QUERIES} queries / 1 query", median(many) / median(one), "<=", 3.0)]


def ask(url: str, number: int) -> None:
    """Everything that a look costs when nothing is kept from an earlier one: session, threads, connections."""
    options = parse_source({"type": "prometheus", "url": url})
    queries = [Query(f"gate{index}", value=f"avg by (instance) (thing{index})") for index in range(number)]
    sample = collect(options, queries, (Target("web1"),))
    answered = [answers["web1"] for answers in sample.answers.values()]
    if len(answered) != number or any(getattr(answer, "value", None) != 0.25 for answer in answered):
        raise SystemExit(f"the server did not answer: {sample.down or answered[0]}")


def timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def row(what: str, seconds: Sequence[float]) -> Row:
    return {
        "what": what,
        "runs": len(seconds),
        "min_s": round(min(seconds), 4),
        "median_s": round(median(seconds), 4),
        "max_s": round(max(seconds), 4),
    }


def bar(name: str, value: float, op: str, limit: float) -> Bar:
    return {"name": name, "value": round(value, 3), "op": op, "limit": limit, "holds": OPERATORS[op](value, limit)}


# each gives its rows and bars; what else costs something goes here
PARTS = (gate_beside_ping, many_beside_one)


def main() -> int:
    rows: List[Row] = []
    bars: List[Bar] = []
    for part in PARTS:
        its_rows, its_bars = part()
        rows += its_rows
        bars += its_bars
    for line in rows:
        print(
            "{what:<34} {runs:>4} runs   min {min_s:.3f} s   median {median_s:.3f} s   max {max_s:.3f} s".format(**line)
        )
    for line in bars:
        print("{name:<50} {value:>7} {op} {limit:<5} {0}".format("holds" if line["holds"] else "MISSED", **line))
    target = ROOT / "build/bench/overhead.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"rows": rows, "bars": bars}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(line["holds"] for line in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
