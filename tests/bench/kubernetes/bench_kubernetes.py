# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a Deployment back: our task beside kubernetes.core's, on a real control plane.

All tasks are of one run of ansible-playbook, interleaved, so that its start is in none of them. A callback plugin of
the bench's own notes when each began and when its result was there: that is what a person waits, with lease, ledger,
the module's transfer and its start. Each task has a Deployment of its own, all prepared alike before the run: three
pods, three revisions, the last of them bad. The tasks take turns in being first, and a pause lets each rollout end
before the next task. A first round, in which Ansible loads its plugins and kubernetes.core fills its cache, is left
out.

What the API server was asked is counted in its audit log. When a rollout is complete is seen by a watch of the bench's
own; a wait ends when ansible-playbook has the task's result.

Writes build/bench/kubernetes.json (`rows`, `bars`), prints a table, and exits 1 when a bar does not hold. BENCH_RUNS is
how often each is measured (20).
"""

from __future__ import annotations

import json
import operator
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Dict, List, Mapping, Optional, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / ".tree"), str(ROOT / "tests/tools")]

from kube_api import KubeApi  # noqa: E402
from rollback_scene import GOOD, NAME, Observer, audited, image_of, prepare  # noqa: E402
from timed_play import timed_tasks  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS", "20"))
OPERATORS = {"<=": operator.le, ">=": operator.ge}
TARGET = ROOT / "build/bench/kubernetes.json"

OURS, MARKING, WAITING = "kubernetes_rollback", "kubernetes_rollback, mark_bad", "kubernetes_rollback, waiting"
THEIRS, THEIRS_WAITING, PING = "k8s_rollback", "k8s_rollback, then our wait", "ping"
CHANGES = (OURS, THEIRS, MARKING, WAITING, THEIRS_WAITING)
SLOW = (WAITING, THEIRS_WAITING)
SETTLE = {"name": "settle", "ansible.builtin.pause": {"seconds": 1}}

Row = Dict[str, Any]
Task = Dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """One change: seconds until its result, requests by the audit log and as told, seconds behind the observer."""

    seconds: float
    requests: int
    told: Optional[int]
    behind: float


def tasks_of(what: str, namespace: str, options: Mapping[str, Any]) -> List[Task]:
    """The tasks that make one change; `options` are those that both collections take."""
    about = {**options, "namespace": namespace, "name": NAME}
    ours = {**about, "service": namespace, "ledger": {"path": "{{ playbook_dir }}/ledger.sqlite"}}
    back = "selfheal.delivery.kubernetes_rollback"
    theirs = {"kubernetes.core.k8s_rollback": {**about, "api_version": "apps/v1", "kind": "Deployment"}}
    waits = {"selfheal.delivery.kubernetes_rollout": {**ours, "state": "deployed", "release": GOOD}}
    made: Dict[str, List[Task]] = {
        OURS: [{back: {**ours, "wait": False}}],
        MARKING: [{back: {**ours, "wait": False, "mark_bad": "it fails"}}],
        WAITING: [{back: ours}],
        THEIRS: [theirs],
        THEIRS_WAITING: [theirs, waits],
    }
    return [{"name": f"{what}: {namespace}", **task} for task in made[what]]


def tasks(places: Mapping[str, Sequence[str]], options: Mapping[str, Any]) -> List[Task]:
    """All rounds, each beginning with another change."""
    listed: List[Task] = []
    for number in range(RUNS + 1):
        turn = number % len(CHANGES)
        for what in (*CHANGES[turn:], *CHANGES[:turn]):
            listed += [*tasks_of(what, places[what][number], options), SETTLE]
        listed.append({"name": PING, "ansible.builtin.ping": {}})
    return listed


def measured(noted: Sequence[Mapping[str, Any]], asked: Sequence[float], seen: Mapping[str, float]) -> Measured:
    """What one change, which is one task or two, has cost."""
    began, ended = noted[0]["began"], noted[-1]["ended"]
    namespace = str(noted[0]["name"]).rpartition(" ")[2]
    if namespace not in seen:
        raise SystemExit(f"the observer did not see {namespace} complete")
    return Measured(
        seconds=sum(task["ended"] - task["began"] for task in noted),
        requests=sum(began <= at <= ended for at in asked),
        told=noted[0]["requests"],
        behind=ended - seen[namespace],
    )


def run(folder: Path) -> Dict[str, List[Measured]]:
    """What each kind of change has cost; the task that only pings is told as if it were one."""
    with audited(folder / "cluster") as cluster:
        with ThreadPoolExecutor(8) as several:
            futures = {
                what: [several.submit(prepare, cluster, what in SLOW) for _number in range(RUNS + 1)]
                for what in CHANGES
            }
            places = {what: [future.result() for future in made] for what, made in futures.items()}
        observer = Observer(cluster)
        observer.start()
        listed = tasks(places, {"kubeconfig": str(cluster.kubeconfig)})
        noted = timed_tasks(folder, listed, "changed", "recorded", "requests")
        check(cluster, places, noted)
        asked = cluster.asked()
    done = {}
    for what, namespaces in places.items():
        of_each = [[task for task in noted if task["name"] == f"{what}: {name}"] for name in namespaces[1:]]
        done[what] = [measured(each, asked, observer.seen) for each in of_each]
    pings = [task["ended"] - task["began"] for task in noted if task["name"] == PING]
    done[PING] = [Measured(seconds, 0, None, 0.0) for seconds in pings[1:]]
    return done


def check(cluster: KubeApi, places: Mapping[str, Sequence[str]], noted: Sequence[Mapping[str, Any]]) -> None:
    """A task that did nothing would be fast: every Deployment went back, and the ledger knows of each of ours."""
    for namespaces in places.values():
        for namespace in namespaces:
            found = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/{NAME}")
            if image_of(found) != f"{NAME}:{GOOD}":
                raise SystemExit(f"{namespace} was not taken back: it runs {image_of(found)}")
    for task in noted:
        if str(task["name"]).startswith(OURS) and not (task["changed"] and task["recorded"]):
            raise SystemExit(f"{task['name']} changed nothing, or the ledger does not know of it")


def row(what: str, seconds: Sequence[float], **more: object) -> Row:
    """`seconds` by their least, middle, nine tenths and most."""
    figures = {"min_s": min(seconds), "median_s": median(seconds), "p90_s": p90(seconds), "max_s": max(seconds)}
    return {"what": what, "runs": len(seconds), **{name: round(value, 3) for name, value in figures.items()}, **more}


def p90(values: Sequence[float]) -> float:
    return quantiles(values, n=10, method="inclusive")[-1]


def bar(name: str, value: float, op: str, limit: float) -> Row:
    return {"name": name, "value": round(value, 3), "op": op, "limit": limit, "holds": OPERATORS[op](value, limit)}


def rows_of(done: Mapping[str, Sequence[Measured]]) -> List[Row]:
    rows = []
    for what, all_of_it in done.items():
        requests = sorted({each.requests for each in all_of_it})
        rows.append(row(what, [each.seconds for each in all_of_it], **({} if what == PING else {"requests": requests})))
    rows.append(row(f"{WAITING}: result after it was complete", [each.behind for each in done[WAITING]]))
    return rows


def bars_of(done: Mapping[str, Sequence[Measured]]) -> List[Row]:
    ours, theirs = (median(each.seconds for each in done[what]) for what in (OURS, THEIRS))
    unwaited = [*done[OURS], *done[MARKING]]
    mistold = sum(each.told != each.requests for each in unwaited)
    behind = [each.behind for each in done[WAITING]]
    return [
        bar("our rollback task / kubernetes.core's, of the medians", ours / theirs, "<=", 1.0),
        bar("API requests without waiting, the most", max(each.requests for each in unwaited), "<=", 5),
        bar("tasks that tell another number of requests", mistold, "<=", 0),
        bar("s from complete to the wait's result, nine tenths", p90(behind), "<=", 0.3),
        bar("s from complete to the wait's result, the most", max(behind), "<=", 0.3),
    ]


def main() -> int:
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory(prefix="kubernetes-", dir=TARGET.parent) as folder:
        done = run(Path(folder))
    load.append(os.getloadavg()[0])
    rows, bars = rows_of(done), bars_of(done)
    for line in rows:
        figures = "min {min_s:.3f}   median {median_s:.3f}   nine tenths {p90_s:.3f}   max {max_s:.3f} s".format(**line)
        print(f"{line['what']:<52} {line['runs']:>3} runs   {figures}   {line.get('requests', '')}")
    about = {"what": "load average of the machine, at the beginning and the end", "cores": os.cpu_count(), "load": load}
    print(f"{about['what']}: {load[0]:.1f}, {load[1]:.1f} on {about['cores']} cores")
    for line in bars:
        print("{name:<52} {value:>7} {op} {limit:<5} {0}".format("holds" if line["holds"] else "MISSED", **line))
    TARGET.write_text(json.dumps({"rows": [*rows, about], "bars": bars}, indent=2) + "\n", encoding="utf-8")
    return 0 if all(line["holds"] for line in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
