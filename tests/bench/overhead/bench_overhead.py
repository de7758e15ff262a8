# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What asking costs: `metric_gate` beside `ping`, and a hundred queries beside one.

Writes build/bench/overhead.json (`rows`, `bars`), prints a table, and exits 1 when a bar does not hold.
"""

from __future__ import annotations

import json
import operator
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple, Union

from ansible_collections.selfheal.delivery.plugins.module_utils._sense.collect import collect
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Query, Target
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import parse_source

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
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


def play(url: str) -> str:
    """A play of interleaved pairs; JSON is YAML."""
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
    return json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": pair * PAIRS}])


def task_times(url: str) -> List[Tuple[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        book, times = Path(folder, "pairs.yml"), Path(folder, "times.json")
        book.write_text(play(url), encoding="utf-8")
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "task_times",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_LOCAL_TEMP": folder,
            "TASK_TIMES": str(times),
        }
        playbook = Path(sys.executable).with_name("ansible-playbook")
        command: List[Union[str, Path]] = [playbook, "-i", "localhost,", "-c", "local", book]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return [(name, float(took)) for name, took in json.loads(times.read_text(encoding="utf-8"))]


def gate_beside_ping() -> Tuple[List[Row], List[Bar]]:
    with serving("place") as url:
        times = task_times(url)
    pings = [took for name, took in times if name == "ping"]
    gates = [took for name, took in times if name == "metric_gate"]
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
