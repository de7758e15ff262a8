# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From Alertmanager's POST to the change of the Deployment, beside a bare playbook of one task.

Both are started by one ansible-rulebook, on one inventory, and take turns in being first. The way of the alert is the
whole one: a real Alertmanager posts, the event source writes the alert to its spool, the filter makes an event of it,
the rule runs `selfheal.delivery.respond`, which asks Alertmanager again and then Prometheus by the service's own gates,
asks the guard, records in the ledger, and goes back. It is over when the API server has accepted the change, by its
audit log; what comes after (waiting for the pods, reading the gates again, telling) is not in it. The bare playbook is
over when it has printed its recap. A first round, in which everything is loaded once, is left out.

Where the time goes is told by what ansible-rulebook prints and by the ledger.

Writes build/bench/eda.json (`rows`, `bars`), prints a table, and exits 1 when the bar does not hold. BENCH_RUNS is how
often each is measured (9).
"""

from __future__ import annotations

import json
import operator
import os
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Callable, Dict, List, Optional, Sequence, TypeVar

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / ".tree"), str(ROOT / "tests/tools"), str(ROOT / "tests/bench/kubernetes")]

import requests  # noqa: E402
from alert_scene import ALARM, BAD, OLD, Scene, Shop, changes, scene  # noqa: E402

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS", "9"))
OPERATORS = {"<=": operator.le, ">=": operator.ge}
TARGET = ROOT / "build/bench/eda.json"
# seconds for which users have met the bad release before the alert fires: less than any rule's `for` makes of it, and
# enough for the service's gates to remember it
SEEN_BAD = 30.0
PATIENCE = 60.0

Row = Dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Healed:
    """Seconds since Alertmanager's POST until each step."""

    started: float  # the playbook's first play
    decided: float  # the guard's yes is in the ledger
    changed: float  # the API server has accepted the change


@dataclass(frozen=True)
class Pinged:
    """Seconds since the POST until each step."""

    started: float
    ended: float


def wait(found: Callable[[], Optional[T]], what: str) -> T:
    """The first that is not None."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = found()
        if value is not None:
            return value
        time.sleep(0.02)
    raise SystemExit(f"{what} never came")


def ping(on: Scene) -> Pinged:
    began = time.time()
    requests.post(f"http://127.0.0.1:{on.ping_port}/", json={"ping": 1}, timeout=10, proxies={"http": ""})
    ended = wait(lambda: on.printed.since(began, "PLAY RECAP"), "the recap of the ping")
    started = on.printed.since(began, "PLAY [")
    time.sleep(1)  # its process ends, too
    assert started is not None
    return Pinged(started - began, ended - began)


def heal(on: Scene, shop: Shop) -> Healed:
    """An alert about the shop, until it has gone back and all is quiet again."""
    with shop.used():
        time.sleep(SEEN_BAD)
        on.manager.fire(ALARM, shop.name, environment="bench")
        posted = wait(lambda: on.relay.came(f'"{shop.name}"'), f"Alertmanager's POST about {shop.name}")
        changed = wait(lambda: next(iter(accepted(on, shop, posted)), None), f"the change of {shop.name}")
        on.book.wait_idle()
    started = on.printed.since(posted, "PLAY [")
    if started is None or shop.image() != f"{shop.name}:{OLD}":
        raise SystemExit(f"{shop.name} did not go back: it runs {shop.image()}\n{on.book.log[-4000:]}")
    on.manager.fire(ALARM, shop.name, environment="bench", ago=1, ends=-0.5)  # it began before, and is over
    wait(lambda: resolved(on, shop), f"Alertmanager's POST that {shop.name} is good again")
    time.sleep(0.5)
    on.book.wait_idle()
    time.sleep(1)  # the last process ends, too
    return Healed(started - posted, decided(on, shop) - posted, changed - posted)


def resolved(on: Scene, shop: Shop) -> Optional[bool]:
    bodies = [body for _at, body in list(on.relay.posts) if f'"{shop.name}"' in body]
    return json.loads(bodies[-1])["status"] == "resolved" or None


def accepted(on: Scene, shop: Shop, since: float) -> List[float]:
    return [at for at in changes(on.cluster, shop.path) if at >= since]


def decided(on: Scene, shop: Shop) -> float:
    """When the guard said yes, which is when it wrote the intent down."""
    with closing(open_ledger({"path": str(on.folder / "ledger.sqlite")}, create=False)) as ledger:
        assert ledger.verify() is None
        (rollout,) = ledger.last_rollouts(f"bench/{shop.name}")
        if (rollout.release, rollout.state) != (BAD, "done"):
            raise SystemExit(f"the ledger does not know that {shop.name} went back: {rollout}")
        (yes,) = [
            entry
            for entry in ledger.last_entries(f"bench/{shop.name}", 100)
            if entry.kind == "decision" and entry.body["verdict"] == "allowed"
        ]
    return float(yes.at)


def run(on: Scene) -> "tuple[List[Healed], List[Pinged]]":
    healed: List[Healed] = []
    pinged: List[Pinged] = []
    for number, shop in enumerate(on.shops):
        if number % 2:
            pinged.append(ping(on))
            healed.append(heal(on, shop))
        else:
            healed.append(heal(on, shop))
            pinged.append(ping(on))
        print(f"round {number}: {healed[-1].changed:.2f} s, ping {pinged[-1].ended:.2f} s", flush=True)
    return healed[1:], pinged[1:]


def row(what: str, seconds: Sequence[float]) -> Row:
    p90 = quantiles(seconds, n=10, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    figures = {"min_s": min(seconds), "median_s": median(seconds), "p90_s": p90, "max_s": max(seconds)}
    return {"what": what, "runs": len(seconds), **{name: round(value, 3) for name, value in figures.items()}}


def rows_of(healed: Sequence[Healed], pinged: Sequence[Pinged]) -> List[Row]:
    return [
        row("alert: POST to change accepted", [one.changed for one in healed]),
        row("ping: POST to recap", [one.ended for one in pinged]),
        row(
            "alert: POST to first play (source, spool, filter, rule, Ansible's start)", [one.started for one in healed]
        ),
        row("ping: POST to first play", [one.started for one in pinged]),
        row("alert: first play to the guard's yes", [one.decided - one.started for one in healed]),
        row("alert: the guard's yes to change accepted", [one.changed - one.decided for one in healed]),
        row("ping: first play to recap", [one.ended - one.started for one in pinged]),
    ]


def bar(name: str, value: float, op: str, limit: float) -> Row:
    return {"name": name, "value": round(value, 3), "op": op, "limit": limit, "holds": OPERATORS[op](value, limit)}


def main() -> int:
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    load = [os.getloadavg()[0]]
    names = [f"shop{number}" for number in range(RUNS + 1)]
    with tempfile.TemporaryDirectory(prefix="eda-", dir=TARGET.parent) as folder, scene(Path(folder), names) as on:
        healed, pinged = run(on)
    load.append(os.getloadavg()[0])
    rows = rows_of(healed, pinged)
    ratio = median(one.changed for one in healed) / median(one.ended for one in pinged)
    bars = [bar("post_to_patch_over_ping", ratio, "<=", 2.0)]
    for line in rows:
        figures = "min {min_s:.3f}   median {median_s:.3f}   nine tenths {p90_s:.3f}   max {max_s:.3f} s".format(**line)
        print(f"{line['what']:<74} {line['runs']:>3} runs   {figures}")
    about = {"what": "load average of the machine, at the beginning and the end", "cores": os.cpu_count(), "load": load}
    print(f"{about['what']}: {load[0]:.1f}, {load[1]:.1f} on {about['cores']} cores")
    for line in bars:
        print("{name:<74} {value:>7} {op} {limit:<5} {0}".format("holds" if line["holds"] else "MISSED", **line))
    TARGET.write_text(json.dumps({"rows": [*rows, about], "bars": bars}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(line["holds"] for line in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
