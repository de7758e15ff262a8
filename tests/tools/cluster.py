# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Kubernetes control plane on this machine for the tests, with nodes and pods that kwok gives a life.

`start(folder)` runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok on free loopback ports, in a
few seconds. What pods do is said in `tests/testbed/kwok/stages.yaml`: tags with `never` are never ready, tags with
`crash` crash, and the annotation `testbed/ready-after` delays. The helpers here speak plain HTTP: they are the tests'
own eyes, independent of the code under test.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping

import requests
from child import Child, free_ports
from environment import ROOT
from go_tool import crds, go_tool
from kube_api import ApiError as ApiError  # for those who have a cluster
from kube_api import Doc, KubeApi

STAGES = ROOT / "tests/testbed/kwok/stages.yaml"
OWN = "SELFHEAL_TEST_KUBECONFIG"  # names the kubeconfig of a cluster to test on, instead of one that is started


class NotThere(Exception):
    """What a test wants of the person's own cluster, and it does not have or must not do."""


class Cluster(KubeApi):
    """A control plane that runs; `url` and `kubeconfig` (an admin's) are for the code under test."""

    def restart_apiserver(self) -> None:
        """As after a crash: `kill -9`, then the same port and the same data."""
        self.kill_apiserver()
        self.revive_apiserver()

    def kill_apiserver(self) -> None:
        raise NotThere(f"this test kills the API server, and that of ${OWN} is not ours to kill")

    def revive_apiserver(self) -> None:
        raise NotThere(f"this test starts the API server, and that of ${OWN} is not ours to start")

    def add_gateway(self) -> None:
        """The Gateway API's kinds (HTTPRoute and others). No gateway runs: a route is what its weights say."""
        self._expect("/apis/gateway.networking.k8s.io/v1", "the Gateway API")

    def add_argo(self) -> None:
        """The kinds of Argo Rollouts, and its controller."""
        self._expect("/apis/argoproj.io/v1alpha1", "Argo Rollouts")

    def _expect(self, group: str, name: str) -> None:
        try:
            self.get(group)
        except ApiError as error:
            raise NotThere(f"this test wants {name} on the cluster of ${OWN}: install it there") from error


class ControlPlane(Cluster):
    """One that is started here."""

    def __init__(self, folder: Path) -> None:
        self._etcd_port, self._peer_port, self._port = free_ports(3)
        self._token = secrets.token_hex(16)
        self._children: Dict[str, Child] = {}
        cluster = {
            "server": f"https://127.0.0.1:{self._port}",
            "certificate-authority": str(folder / "certs/apiserver.crt"),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": "testbed", "user": {"token": self._token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
        }
        super().__init__(folder, config)

    def run(self, *, nodes: bool = True) -> None:
        """Start everything, and wait until pods can be scheduled; without `nodes` only the API server and its etcd."""
        self._write_credentials()
        self._start_etcd()
        self._start_apiserver()
        if not nodes:
            return
        alone = [f"--kubeconfig={self.kubeconfig}", "--leader-elect=false", "--secure-port=0"]
        self._start("kube-controller-manager", *alone, "--kube-api-qps=500", "--kube-api-burst=1000")
        self._start("kube-scheduler", *alone)
        # without leases the nodes turn NotReady after 40 s
        leases = ["--manage-all-nodes", "--node-lease-duration-seconds=40"]
        self._start("kwok", f"--kubeconfig={self.kubeconfig}", *leases, f"--config={STAGES}")
        self.apply([node("node-1"), node("node-2")])
        self._children["kwok"].wait_ready(self._nodes_ready)

    def stop(self) -> None:
        """Kill everything, last started first, and throw its data away; the logs stay."""
        for child in reversed(self._children.values()):
            child.kill()
        self._session.close()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def kill_apiserver(self) -> None:
        self._children["kube-apiserver"].kill()

    def revive_apiserver(self) -> None:
        self._children["kube-apiserver"].start()
        self._children["kube-apiserver"].wait_ready(self.answers)

    def add_gateway(self) -> None:
        self._define("gateway-api")

    def add_argo(self) -> None:
        if "rollouts-controller" in self._children:
            return
        self._define("argo-rollouts")
        health, metrics = free_ports(2)
        ports = [f"--healthzPort={health}", f"--metricsPort={metrics}"]
        quick = ["--leader-elect=false", "--qps=500", "--burst=1000"]
        argo = self._start("rollouts-controller", f"--kubeconfig={self.kubeconfig}", *ports, *quick)
        argo.wait_ready(lambda: _says_ok(f"http://127.0.0.1:{metrics}/metrics"))

    def _define(self, module: str) -> None:
        """Create a module's kinds that are not there yet, and wait until the API serves them."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        there = {crd["metadata"]["name"] for crd in self.list(path)}
        files = [file.read_text() for file in crds(module)]
        made = [self.call("POST", path, text, "application/yaml") for text in files if _name(text) not in there]
        self.wait(lambda: all(map(self._serves, made)), f"the API serves {module}")

    def _serves(self, crd: Doc) -> bool:
        spec = crd["spec"]
        version = next(each["name"] for each in spec["versions"] if each["served"])
        try:
            resources = self.get(f"/apis/{spec['group']}/{version}")["resources"]
        except ApiError:  # the group has nothing yet
            return False
        return any(each["name"] == spec["names"]["plural"] for each in resources)

    def _start(self, program: str, *flags: str | Path) -> Child:
        self._children[program] = Child(program, [go_tool(program), *flags], self.folder)
        return self._children[program]

    def _start_etcd(self) -> None:
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        listen = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"]
        cluster = [f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"]
        etcd = self._start("etcd", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn", *listen, *cluster)
        etcd.wait_ready(lambda: _says_ok(f"{client}/health"))

    def _start_apiserver(self) -> None:
        key = self.folder / "service-accounts.key"
        apiserver = self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            f"--cert-dir={self.folder}/certs",
            f"--secure-port={self._port}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--token-auth-file={self.folder}/tokens.csv",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
        )
        apiserver.wait_ready(self.answers)

    def _write_credentials(self) -> None:
        (self.folder / "tokens.csv").write_text(f'{self._token},admin,admin,"system:masters"\n')
        key = ["openssl", "genrsa", "-out", str(self.folder / "service-accounts.key"), "2048"]
        subprocess.run(key, check=True, capture_output=True)

    def _nodes_ready(self) -> bool:
        nodes = self.list("/api/v1/nodes")
        return bool(nodes) and all(
            any(each["type"] == "Ready" and each["status"] == "True" for each in one["status"].get("conditions", []))
            and not one["spec"].get("taints")
            for one in nodes
        )


def _says_ok(url: str) -> bool:
    try:
        return requests.get(url, timeout=1, proxies={"http": ""}).ok
    except requests.RequestException:
        return False


def _name(crd: str) -> str:
    """The name in a definition's text; reading the whole of its YAML takes seconds."""
    return next(line for line in crd.splitlines() if line.startswith("  name: "))[len("  name: ") :]


@contextmanager
def start(folder: Path, *, nodes: bool = True, argo: bool = False, gateway: bool = False) -> Iterator[Cluster]:
    """A control plane with its logs and data in `folder`; gone at the end, and after a `kill -9` of this process.

    Without `nodes`, only an API server: objects are kept, and nothing is done about them.

    With $SELFHEAL_TEST_KUBECONFIG nothing is started: its cluster must have whatever the tests want, and pods that
    live by the stages of `tests/testbed/kwok` (kwokctl makes such clusters).
    """
    own = os.environ.get(OWN)
    cluster = Cluster(folder, _flattened(Path(own))) if own else ControlPlane(folder)
    try:
        if isinstance(cluster, ControlPlane):
            cluster.run(nodes=nodes)
        if gateway:
            cluster.add_gateway()
        if argo:
            cluster.add_argo()
        yield cluster
    finally:
        if isinstance(cluster, ControlPlane):
            cluster.stop()


def _flattened(kubeconfig: Path) -> Doc:
    """The current context of a kubeconfig, with the files that it names in it."""
    command = [str(go_tool("kubectl")), f"--kubeconfig={kubeconfig}", "config", "view"]
    command += ["--raw", "--minify", "--flatten", "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotThere(f"${OWN}: {done.stderr.strip()}")
    config: Doc = json.loads(done.stdout)
    return config


# -- manifests


def node(name: str) -> Doc:
    about = {"name": name, "labels": {"kubernetes.io/hostname": name}, "annotations": {"kwok.x-k8s.io/node": "fake"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": about}


def deployment(name: str, image: str, replicas: int = 3, labels: Mapping[str, str] | None = None, **spec: Any) -> Doc:
    """A Deployment with one container, called `app`; pods carry `labels` (default `{"app": name}`).

    `spec` goes into its spec (`revisionHistoryLimit=2`); `Cluster.apply` says the namespace.
    """
    return _workload("Deployment", name, image, labels, {"replicas": replicas, **spec})


def stateful_set(name: str, image: str, replicas: int = 3, labels: Mapping[str, str] | None = None, **spec: Any) -> Doc:
    """As `deployment`, a StatefulSet of the headless service `name`."""
    return _workload("StatefulSet", name, image, labels, {"replicas": replicas, "serviceName": name, **spec})


def daemon_set(name: str, image: str, labels: Mapping[str, str] | None = None, **spec: Any) -> Doc:
    """As `deployment`, a DaemonSet: one pod on each of the two nodes."""
    return _workload("DaemonSet", name, image, labels, spec)


def _workload(kind: str, name: str, image: str, labels: Mapping[str, str] | None, spec: Mapping[str, Any]) -> Doc:
    labels = dict(labels or {"app": name})
    containers = [{"name": "app", "image": image, "ports": [{"containerPort": 8080}]}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": containers}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **spec},
    }


def rollout(
    name: str, image: str, replicas: int = 3, labels: Mapping[str, str] | None = None, strategy: object = None
) -> Doc:
    """As `deployment`, a Rollout of Argo Rollouts; `strategy` is a canary that waits after a fifth by default."""
    canary = {"canary": {"steps": [{"setWeight": 20}, {"pause": {}}]}}
    spec = {"replicas": replicas, "strategy": canary if strategy is None else strategy}
    return {**_workload("Rollout", name, image, labels, spec), "apiVersion": "argoproj.io/v1alpha1"}


def service(name: str, selector: Mapping[str, str] | None = None) -> Doc:
    """A Service on port 80 for the pods with the labels `selector` (default `{"app": name}`)."""
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    spec = {"selector": dict(selector or {"app": name}), "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
