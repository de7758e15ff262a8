# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests' control plane for a person to play with, until Ctrl-C: `make testbed`."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator
from urllib.parse import quote

from child import ChildFailed
from cluster import Cluster, NotThere, deployment, service, start
from go_tool import ToolMissing, go_tool
from traffic import traffic

RATES = {"2.0.0": 0.05}
LATENCIES = {"3.0.0": 0.5}

QUERY = "sum by (version, code) (rate(http_requests_total[10s]))"

TOLD = """
  export KUBECONFIG={kubeconfig}
{path}
There are a Deployment `shop` of shop:1.0.0 behind a Service `shop`, Argo Rollouts (the kind Rollout), the Gateway API's
kinds, and 50 requests a second for the ready pods of the Service, which Prometheus scrapes:

  {prometheus}/query?g0.expr={query}

Of shop:2.0.0's requests 5 % fail; shop:3.0.0 answers in half a second; any other version is fine. A tag with `never` in
it is never ready, one with `crash` in it crashes. For example:

  kubectl set image deployment/shop app=shop:2.0.0

Logs are in {folder}. Ctrl-C stops everything.
"""


def tell(cluster: Cluster, namespace: str, prometheus: str) -> None:
    found = {name: go_tool(name) for name in ("kubectl", "helm")}
    built = dict.fromkeys(str(path.parent) for name, path in found.items() if not shutil.which(name))
    told = TOLD.format(
        kubeconfig=cluster.kubeconfig_with(namespace=namespace),
        path=f"  export PATH=$PATH:{':'.join(built)}\n" if built else "",
        prometheus=prometheus,
        query=quote(QUERY),
        folder=cluster.folder,
    )
    print(told, flush=True)


@contextmanager
def sample(cluster: Cluster) -> Iterator[str]:
    """The namespace with something in it."""
    namespace = cluster.namespace("play")
    try:
        cluster.apply([deployment("shop", "shop:1.0.0", 4), service("shop")], namespace)
        cluster.wait_available(namespace, "shop")
        yield namespace
    finally:
        cluster.delete(f"/api/v1/namespaces/{namespace}")


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C
    with tempfile.TemporaryDirectory(prefix="selfheal-testbed-") as folder:
        with start(Path(folder), argo=True, gateway=True) as cluster, sample(cluster) as namespace:
            with traffic(cluster, namespace, "shop", RATES, latencies=LATENCIES) as prometheus:
                tell(cluster, namespace, prometheus)
                signal.pause()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except (ChildFailed, NotThere, ToolMissing) as error:
        sys.exit(str(error))
