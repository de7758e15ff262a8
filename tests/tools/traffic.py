# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traffic for pods that serve none: requests are drawn for the live pods of a Service, and a real Prometheus scrapes.

kwok's pods have no containers. What their users would see is therefore drawn here, for each ready pod by its image's
tag, and served as the pods' own metrics would be: a pod's series begin with it, and vanish with it.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Tuple

import requests
from child import Child, free_ports
from cluster import Cluster
from go_tool import go_tool
from kube_api import ApiError, Doc
from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

LOOK_EVERY = 0.3  # seconds
LABELS = ("namespace", "pod", "version")
# How a Prometheus of the tests starts. By itself it waits 5 s until the first scrape, and a minute until it tells an
# alert again that got lost, as one does that comes before it knows of its Alertmanager.
IMPATIENT = ("--scrape.discovery-reload-interval=100ms", "--rules.alert.resend-delay=5s")


def version_of(pod: Doc) -> str:
    """The tag of the first container's image: `2.0.0` of `registry:5000/shop:2.0.0@sha256:…`."""
    image = str(pod["spec"]["containers"][0]["image"]).partition("@")[0]
    return image.rpartition("/")[2].partition(":")[2] or "latest"


def is_ready(pod: Doc) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


class Exporter:
    """Draws the requests of a Service, and counts them by pod.

    `rps` requests a second are shared evenly by the ready pods that the Service selects; with `route`, by the weights
    of the HTTPRoute's first rule over its Services, and evenly within each. Of a version's requests the part
    `rates[version]` (default 0) answers 500, and they take `latencies[version]` seconds in the mean (default 0.05);
    both may be changed while it runs. The n-th request of a version is the same in every run with the same `seed`.

    Series: `http_requests_total{namespace,pod,version,code}` and the histogram
    `request_seconds{namespace,pod,version}` with the bounds 0.1, 0.3 and 1.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        service: str,
        *,
        rates: Mapping[str, float],
        latencies: Mapping[str, float] | None = None,
        rps: float = 50,
        route: str | None = None,
        seed: int = 0,
    ) -> None:
        self._cluster, self._namespace, self._service, self._route = cluster, namespace, service, route
        self._rates, self._latencies, self._rps, self._seed = rates, latencies or {}, rps, seed
        self.registry = CollectorRegistry()
        self._requests = Counter("http_requests", "Requests.", [*LABELS, "code"], registry=self.registry)
        self._took = Histogram(
            "request_seconds", "How long they took.", LABELS, buckets=(0.1, 0.3, 1.0), registry=self.registry
        )
        self._chance: Dict[str, random.Random] = {}
        # by the pods' uids: a StatefulSet's new pod has the name of the old one
        self._labels: Dict[str, Tuple[str, str, str]] = {}
        self._owed: Dict[str, float] = {}  # the part of a request that is not yet a whole one
        self._shares: Dict[str, float] = {}

    def run(self, done: threading.Event) -> None:
        """Until `done`. While the API server is away, the pods that were last seen go on serving."""
        before = time.monotonic()
        while not done.wait(LOOK_EVERY):
            try:
                self.look()
            except (requests.RequestException, ApiError):
                pass
            now = time.monotonic()
            self.draw(now - before)
            before = now

    def look(self) -> None:
        """See which pods there are, and which share of the requests goes to each."""
        pods = self._cluster.pods(self._namespace)
        for gone in self._labels.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._forget(gone)
        ready = [pod for pod in pods if is_ready(pod)]
        for pod in ready:
            self._labels[pod["metadata"]["uid"]] = (self._namespace, pod["metadata"]["name"], version_of(pod))
        shares: Dict[str, float] = {}
        for service, weight in self._weights().items():
            uids = self._selected(service, ready)
            for uid in uids:
                shares[uid] = shares.get(uid, 0) + weight / len(uids)
        self._shares = shares

    def draw(self, seconds: float) -> None:
        """Draw the requests of the last `seconds`."""
        for uid, share in self._shares.items():
            owed = self._owed.get(uid, 0) + self._rps * share * seconds
            self._owed[uid] = owed % 1
            labels = self._labels[uid]
            for failed, took in (self._request(labels[2]) for _number in range(int(owed))):
                self._requests.labels(*labels, "500" if failed else "200").inc()
                self._took.labels(*labels).observe(took)

    def _request(self, version: str) -> Tuple[bool, float]:
        chance = self._chance.setdefault(version, random.Random(f"{self._seed} {version}"))
        failed = chance.random() < self._rates.get(version, 0)
        return failed, chance.gammavariate(4, self._latencies.get(version, 0.05) / 4)

    def _weights(self) -> Dict[str, float]:
        """Service -> its share of the requests."""
        if self._route is None:
            return {self._service: 1}
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{self._namespace}/httproutes/{self._route}"
        backends = self._cluster.get(path)["spec"]["rules"][0]["backendRefs"]
        total = sum(backend["weight"] for backend in backends)
        return {backend["name"]: backend["weight"] / total for backend in backends if backend["weight"]}

    def _selected(self, service: str, pods: List[Doc]) -> List[str]:
        selector = self._cluster.get(f"/api/v1/namespaces/{self._namespace}/services/{service}")["spec"]["selector"]
        return [pod["metadata"]["uid"] for pod in pods if selector.items() <= pod["metadata"].get("labels", {}).items()]

    def _forget(self, uid: str) -> None:
        labels = self._labels.pop(uid)
        self._owed.pop(uid, None)
        self._shares.pop(uid, None)
        self._took.remove(*labels)
        for code in ("200", "500"):
            self._requests.remove(*labels, code)


@contextmanager
def prometheus(folder: Path, targets: List[str], port: int | None = None, *, more: str = "") -> Iterator[str]:
    """A real Prometheus with its data in `folder` that scrapes `targets` ("127.0.0.1:1234") twice a second; its URL.

    `more` are further lines of its configuration.
    """
    port = free_ports(1)[0] if port is None else port
    folder.mkdir(parents=True, exist_ok=True)
    scrapes = ", ".join(f"'{target}'" for target in targets)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 400ms}\n"
        f"scrape_configs: [{{job_name: pods, honor_labels: true, static_configs: [{{targets: [{scrapes}]}}]}}]\n"
        f"{more}"
    )
    command: List[str | Path] = [go_tool("prometheus"), f"--config.file={folder}/prometheus.yml", "--log.level=warn"]
    command += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    server = Child("prometheus", [*command, *IMPATIENT], folder)
    url = f"http://127.0.0.1:{port}"
    try:
        server.wait_ready(lambda: _scraped(url) == len(targets))
        yield url
    finally:
        server.kill()


def _scraped(url: str) -> int:
    """How many targets Prometheus has scraped."""
    try:
        answer = requests.get(f"{url}/api/v1/query", {"query": "sum(up)"}, timeout=1, proxies={"http": ""}).json()
    except (requests.RequestException, ValueError):
        return 0
    found = answer["data"]["result"] if answer["status"] == "success" else []
    return int(found[0]["value"][1]) if found else 0


@contextmanager
def traffic(
    cluster: Cluster,
    namespace: str,
    service: str,
    rates: Mapping[str, float],
    *,
    latencies: Mapping[str, float] | None = None,
    rps: float = 50,
    route: str | None = None,
    seed: int = 0,
    more: str = "",
) -> Iterator[str]:
    """An `Exporter` and a Prometheus that scrapes it; yields the Prometheus' URL.

    The arguments are the exporter's; `more` are further lines of Prometheus' configuration.

    >>> with traffic(cluster, namespace, "shop", rates={"2.0.0": 0.05}, rps=200) as url: ...
    """
    exporter = Exporter(cluster, namespace, service, rates=rates, latencies=latencies, rps=rps, route=route, seed=seed)
    exporter.look()
    server, serving = start_http_server(0, "127.0.0.1", registry=exporter.registry)
    done = threading.Event()
    drawing = threading.Thread(target=exporter.run, args=(done,))
    drawing.start()
    try:
        folder = cluster.folder / f"prometheus-{namespace}"
        with prometheus(folder, [f"127.0.0.1:{server.server_address[1]}"], more=more) as url:
            yield url
    finally:
        done.set()
        drawing.join()
        server.shutdown()
        server.server_close()
        serving.join()
