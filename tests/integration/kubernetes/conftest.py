# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One control plane for each worker of pytest, started by the first test that wants it, and a namespace for each test.

So tests run spread over the workers, and need no group. Pods live by `tests/testbed/kwok/stages.yaml`: an image's tag
with `never` cannot be pulled, one with `crash` crashes, `testbed/ready-after` delays; anything else is ready at once.
"""

from __future__ import annotations

from typing import Iterator

import pytest
from cluster import Cluster, start


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with start(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def argo(cluster: Cluster) -> Cluster:
    """The cluster with Argo Rollouts, from the first test on that wants it."""
    cluster.add_argo()
    return cluster


@pytest.fixture(scope="session")
def gateway(cluster: Cluster) -> Cluster:
    """The cluster with the kinds of the Gateway API, from the first test on that wants them."""
    cluster.add_gateway()
    return cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A fresh namespace; deleted behind the test, without waiting for it."""
    name = cluster.namespace()
    yield name
    cluster.delete(f"/api/v1/namespaces/{name}")
