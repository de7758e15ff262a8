# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `prometheus` source against a real Prometheus that scrapes real processes."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, ContextManager, Dict, Iterator, List, Mapping, Sequence

import pytest
from go_tool import go_tool

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Absent, Liveness
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.collect import Sampler
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.increments import Increments
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import (
    Query,
    Reading,
    Sample,
    Target,
    Value,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import parse_source

# a name with a domain, and one that another one begins with: both have to stay apart
PLACES = ("web-1", "web-2.example.org", "web-11")
PATIENCE = 60.0
PLACE = """
import sys, time
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
registry = CollectorRegistry()
requests = Counter("http_requests", "Served.", ["code"], registry=registry)
duration = Histogram("request_seconds", "Took.", buckets=[0.1, 0.3, 1], registry=registry)
Gauge("inflight", "Under way.", registry=registry).set(3)
Counter("panics", "None yet.", ["kind"], registry=registry)
ProcessCollector(registry=registry)
start_http_server(int(sys.argv[1]), "127.0.0.1", registry=registry)
while True:
    time.sleep(0.05)
    requests.labels("200").inc(9)
    requests.labels("500").inc(float(sys.argv[2]))
    duration.observe(0.2)
    duration.observe(0.5)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def config(ports: Mapping[str, int], own: int) -> str:
    shop = "".join(
        f"  - targets: ['127.0.0.1:{port}']\n    labels: {{instance: '{name}:8000'}}\n" for name, port in ports.items()
    )
    return (
        "global: {scrape_interval: 500ms, scrape_timeout: 400ms}\n"
        f"scrape_configs:\n- job_name: shop\n  static_configs:\n{shop}"
        # another exporter on the same host, which is down: its absence says nothing about the shop
        "- job_name: node\n  static_configs:\n  - targets: ['127.0.0.1:1']\n    labels: {instance: 'web-1:9100'}\n"
        "- job_name: self\n  scrape_native_histograms: true\n  static_configs:\n"
        f"  - targets: ['127.0.0.1:{own}']\n    labels: {{instance: prom}}\n"
    )


class Shop:
    """A Prometheus at `url`, and what it takes to start and end its places."""

    def __init__(self, url: str, ports: Dict[str, int]) -> None:
        self.url, self.ports = url, ports

    def place(self, name: str, bad: int = 0) -> ContextManager["subprocess.Popen[bytes]"]:
        return running(sys.executable, "-c", PLACE, str(self.ports[name]), str(bad))

    def sampler(self, *queries: Query, targets: Sequence[str] = PLACES) -> Sampler:
        source = parse_source({"type": "prometheus", "url": self.url, "window": 10.0})
        return Sampler(source, queries, tuple(Target(name) for name in targets))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    ports, own = {name: free_port() for name in PLACES}, free_port()
    (folder / "prometheus.yml").write_text(config(ports, own))
    command = [str(go_tool("prometheus")), f"--config.file={folder}/prometheus.yml", "--log.level=error"]
    with running(*command, f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{own}"):
        url = f"http://127.0.0.1:{own}"
        eventually(lambda: answers(f"{url}/-/ready"))
        yield Shop(url, ports)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def eventually(holds: Callable[[], object]) -> None:
    """Ask again and again until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)


ERRORS = Query("errors", bad='http_requests_total{code=~"5.."}', total="http_requests_total")
SLOW = Query("slow", histogram="request_seconds", over=0.3)


def test_each_places_increments_are_its_own_and_in_proportion(shop: Shop) -> None:
    with shop.place(PLACES[0], 1), shop.place(PLACES[1]), shop.place(PLACES[2]):
        with shop.sampler(ERRORS, SLOW) as sampler:
            sums: Dict[str, List[float]] = {name: [0.0, 0.0] for name in PLACES}
            slow = [0.0, 0.0]
            increments = Increments()

            def enough() -> bool:
                looks, _alive = increments.take(sampler.sample())
                for name, counts in looks["errors"].counts.items():
                    sums[name][0] += counts.bad
                    sums[name][1] += counts.total
                for counts in looks["slow"].counts.values():
                    slow[0] += counts.bad
                    slow[1] += counts.total
                return min(total for _bad, total in sums.values()) > 500

            eventually(enough)
            assert sums[PLACES[0]][0] / sums[PLACES[0]][1] == pytest.approx(0.1, abs=0.02)
            assert sums[PLACES[1]][0] == sums[PLACES[2]][0] == 0
            # the same time of all: a place that was scraped later does not seem to carry more
            assert max(total for _bad, total in sums.values()) < 1.3 * min(total for _bad, total in sums.values())
            assert slow[0] / slow[1] == pytest.approx(0.5, abs=0.05)
            history = sampler.history(8, 2)["errors"]
            assert any(slot.get(PLACES[0]) is not None and slot[PLACES[0]].bad > 0 for slot in history)


def test_a_place_that_dies_is_down_and_its_return_is_a_restart(shop: Shop) -> None:
    with shop.place(PLACES[1]), shop.place(PLACES[2]), shop.sampler(ERRORS) as sampler:
        increments = Increments()

        def seen(holds: Callable[[Mapping[str, Liveness]], bool]) -> bool:
            """Whether one look at all places shows it; a slow answer, and a place not scraped yet, show nothing."""
            alive = increments.take(sampler.sample())[1]
            return set(PLACES) <= set(alive) and holds(alive)

        with shop.place(PLACES[0]):
            eventually(lambda: seen(lambda alive: alive[PLACES[0]].up))
        eventually(lambda: seen(lambda alive: not alive[PLACES[0]].up and alive[PLACES[1]].up))
        with shop.place(PLACES[0]):
            eventually(lambda: seen(lambda alive: alive[PLACES[0]].up and alive[PLACES[0]].restarts == 1))


def test_every_kind_of_question_gets_its_answer_or_the_reason_why_not(shop: Shop) -> None:
    questions = (
        Query("gauge", value="inflight"),
        Query("expression", value="sum by (instance) (rate(http_requests_total[5s]))"),
        Query("several", value="http_requests_total"),
        Query("none yet", bad="panics_total", total="http_requests_total"),
        Query("no such", bad="nothing_total", total="http_requests_total"),
        Query("no edge", histogram="request_seconds", over=0.5),
        Query("syntax", value="sum("),
    )
    with shop.place(PLACES[0], 1), shop.place(PLACES[1]), shop.place(PLACES[2]):
        with shop.sampler(*questions) as sampler:
            samples: List[Sample] = []

            def all_told() -> bool:
                samples.append(sampler.sample())
                return all(isinstance(samples[-1].answers.get("expression", {}).get(p), Value) for p in PLACES)

            eventually(all_told)
    told = {gate: answers[PLACES[0]] for gate, answers in samples[-1].answers.items()}
    assert isinstance(told["gauge"], Value) and told["gauge"].value == 3
    assert isinstance(told["none yet"], Reading) and told["none yet"].bad == 0
    reasons = {gate: answer.reason for gate, answer in told.items() if isinstance(answer, Absent)}
    assert reasons == {
        "several": "several_series",
        "no such": "no_series",
        "no edge": "query_error",
        "syntax": "query_error",
    }


def test_prometheus_own_native_histogram_is_read(shop: Shop) -> None:
    selector = 'prometheus_http_request_duration_seconds{handler="/api/v1/query"}'
    with shop.sampler(Query("native", histogram=selector, over=0.4), targets=("prom",)) as sampler:
        eventually(lambda: isinstance(sampler.sample().answers.get("native", {}).get("prom"), Reading))
