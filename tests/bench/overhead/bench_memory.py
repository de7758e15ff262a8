# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What watching costs in memory: a play that bakes beside one that only waits for as long.

Both are sampled from outside: the private memory (USS) of ansible-playbook and of everything below it, at its peak.
Writes build/bench/memory.json (`rows`, `bars`), prints a table, and exits 1 when a bar does not hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / ".tree"), str(ROOT / "tests/tools")]

from ansible_run import family  # noqa: E402
from bench_overhead import bar, serving  # noqa: E402

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts  # noqa: E402
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger  # noqa: E402

PAIRS = 3
SECONDS = 8  # of waiting and of watching
EVERY = 0.1  # seconds between two samples
PLACES = ["web1", "web2", "web3", "web4"]


def policy(url: str) -> Dict[str, Any]:
    gate = {"name": "errors", "bad": 'http_requests_total{code=~"5.."}', "total": "http_requests_total", "max": 0.01}
    bake = {"look_every": 1, "min_bake": SECONDS, "deadline": SECONDS, "extend": 0, "warm_up": 0}
    return {"source": {"type": "exposition", "url": f"{url}/metrics"}, "gates": [gate], "bake": bake}


def waiting() -> Dict[str, Any]:
    return {"name": "wait", "ansible.builtin.pause": {"seconds": SECONDS}, "run_once": True}


def baking(url: str, folder: Path) -> Dict[str, Any]:
    """The task, with a rollout and a lease as the role hands them over."""
    path = str(folder / "ledger.sqlite")
    step = {"index": 1, "of": 1, "canary": PLACES[:1], "baseline": PLACES[1:], "places": PLACES[:1]}
    begin = rollouts.Begin("shop", "2.0.0", "canary", {"steps": [step], "fleet": PLACES})
    with closing(open_ledger({"path": path})) as ledger:
        begun, lease = rollouts.begin(ledger, begin, holder="bench", actor="bench", ttl=300, now=time.time())
    options = {
        "service": "shop",
        "group": "shop",
        "release": "2.0.0",
        "step": step,
        "policy": policy(url),
        "rollout": begun.id,
        "lease": asdict(lease),
        "ledger": {"path": path},
    }
    return {"name": "bake", "selfheal.delivery.canary_bake": options, "run_once": True, "register": "baked"}


def peak_mb(task: Dict[str, Any], url: str, folder: Path) -> float:
    """Play the task and give the largest private memory that its processes had together, in MB."""
    book, hosts = folder / "book.json", folder / "inventory.json"
    shop = {"delivery_services": {"shop": policy(url)}, "ansible_connection": "local"}
    hosts.write_text(json.dumps({"shop": {"hosts": dict.fromkeys(PLACES, {}), "vars": shop}}), encoding="utf-8")
    # a bake that broke would be over at once, and cheap
    watched: Dict[str, Any] = {
        "ansible.builtin.assert": {"that": f"baked is not defined or baked.took >= {SECONDS - 1}"}
    }
    book.write_text(json.dumps([{"hosts": "shop", "gather_facts": False, "tasks": [task, watched]}]), encoding="utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        "ANSIBLE_LOCAL_TEMP": str(folder),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(hosts), str(book)]
    with open(folder / "output.txt", "w+", encoding="utf-8") as output:
        play = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        peak = 0.0
        while play.poll() is None:
            peak = max(peak, sum(private_mb(pid) for pid in family([play.pid])))
            time.sleep(EVERY)
        if play.returncode:
            output.seek(0)
            raise SystemExit(output.read())
    return peak


def private_mb(pid: int) -> float:
    """USS: what would be free if the process ended; 0 when it has."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def row(what: str, megabytes: List[float]) -> Dict[str, Any]:
    figures = {"min_mb": min(megabytes), "median_mb": median(megabytes), "max_mb": max(megabytes)}
    return {"what": what, "runs": len(megabytes), **{name: round(mb, 1) for name, mb in figures.items()}}


def main() -> int:
    waits: List[float] = []
    bakes: List[float] = []
    with serving("place") as url:
        for _ in range(PAIRS):
            with tempfile.TemporaryDirectory() as folder:
                waits.append(peak_mb(waiting(), url, Path(folder)))
                bakes.append(peak_mb(baking(url, Path(folder)), url, Path(folder)))
    rows = [row("a play that only waits", waits), row("a play that bakes", bakes)]
    bars = [bar("MB (USS) that canary_bake adds", median(bakes) - median(waits), "<=", 25.0)]
    for line in rows:
        print("{what:<34} {runs:>4} runs   min {min_mb} MB   median {median_mb} MB   max {max_mb} MB".format(**line))
    for line in bars:
        print("{name:<50} {value:>7} {op} {limit:<5} {0}".format("holds" if line["holds"] else "MISSED", **line))
    target = ROOT / "build/bench/memory.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({"rows": rows, "bars": bars}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(line["holds"] for line in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
