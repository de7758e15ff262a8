# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Kubernetes control plane on this machine for the tests, with nodes and pods that kwok gives a life.

`start(folder)` runs etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok on free loopback ports, in a
few seconds. What pods do is said in `tests/testbed/kwok/stages.yaml`: tags with `never` are never ready, tags with
`crash` crash, and the annotation `testbed/ready-after` delays. The helpers here speak plain HTTP: they are the tests'
own eyes, independent of the code under test.
"""

from __future__ import annotations

import itertools
import json
import secrets
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, TypeVar

import requests
from child import Child, free_ports
from environment import ROOT
from go_tool import crds, go_tool

Doc = Dict[str, Any]
Seen = TypeVar("Seen")

STAGES = ROOT / "tests/testbed/kwok/stages.yaml"
USERS = 200  # the static token file is read only once, so users with less rights are made beforehand
PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(Exception):
    """An answer of the API server that is no success; `code` is its HTTP status."""

    def __init__(self, method: str, path: str, answer: requests.Response) -> None:
        super().__init__(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        self.code = answer.status_code


class Cluster:
    """A control plane that runs; `url` and `kubeconfig` (an admin's, with a token) are for the code under test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._etcd_port, self._peer_port, self._port = free_ports(3)
        self.url = f"https://127.0.0.1:{self._port}"
        self.ca_cert = folder / "certs/apiserver.crt"
        self.token = secrets.token_hex(16)
        self._tokens = [secrets.token_hex(16) for _ in range(USERS)]
        self._next_user = itertools.count()
        self._plurals: Dict[str, Dict[str, tuple[str, bool]]] = {}
        self._children: Dict[str, Child] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy is asked for 127.0.0.1
        self._session.headers["Authorization"] = f"Bearer {self.token}"
        self.kubeconfig = self.kubeconfig_with()

    # -- its life

    def run(self) -> None:
        """Start everything, and wait until pods can be scheduled."""
        self._write_credentials()
        self._start_etcd()
        self._start_apiserver()
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

    def restart_apiserver(self) -> None:
        """As after a crash: `kill -9`, then the same port and the same data."""
        self.kill_apiserver()
        self.revive_apiserver()

    def kill_apiserver(self) -> None:
        self._children["kube-apiserver"].kill()

    def revive_apiserver(self) -> None:
        self._children["kube-apiserver"].start()
        self._children["kube-apiserver"].wait_ready(self._answers)

    def add_gateway(self) -> None:
        """The Gateway API's kinds (HTTPRoute and others). No gateway runs: a route is what its weights say."""
        self._define("gateway-api")

    def add_argo(self) -> None:
        """The kinds of Argo Rollouts, and its controller."""
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
        apiserver.wait_ready(self._answers)

    def _write_credentials(self) -> None:
        users = [f"{token},user-{number},user-{number}" for number, token in enumerate(self._tokens)]
        (self.folder / "tokens.csv").write_text(
            "\n".join([f'{self.token},admin,admin,"system:masters"', *users]) + "\n"
        )
        key = ["openssl", "genrsa", "-out", str(self.folder / "service-accounts.key"), "2048"]
        subprocess.run(key, check=True, capture_output=True)

    def _answers(self) -> bool:
        if not self.ca_cert.exists():
            return False
        try:
            return self._session.get(f"{self.url}/readyz", verify=str(self.ca_cert), timeout=2).ok
        except (requests.RequestException, OSError):
            return False

    def _nodes_ready(self) -> bool:
        nodes = self.list("/api/v1/nodes")
        return bool(nodes) and all(
            any(each["type"] == "Ready" and each["status"] == "True" for each in one["status"].get("conditions", []))
            and not one["spec"].get("taints")
            for one in nodes
        )

    # -- the tests' own eyes and hands; `path` is a raw one, as "/apis/apps/v1/namespaces/x/deployments/y"

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """The decoded answer to `body`, a text as it is or data as JSON; raises ApiError for anything but a success."""
        answer = self._session.request(
            method,
            self.url + path,
            data=body if body is None or isinstance(body, str) else json.dumps(body),
            headers={"Content-Type": content_type},
            verify=str(self.ca_cert),
            timeout=30,
        )
        if not answer.ok:
            raise ApiError(method, path, answer)
        return answer.json()

    def get(self, path: str) -> Doc:
        found: Doc = self.call("GET", path)
        return found

    def list(self, path: str) -> List[Doc]:
        items: List[Doc] = self.get(path)["items"]
        return items

    def create(self, path: str, doc: Mapping[str, Any]) -> Doc:
        made: Doc = self.call("POST", path, doc)
        return made

    def patch(self, path: str, body: object, kind: str = "merge") -> Doc:
        """`kind` is one of `PATCHES`."""
        patched: Doc = self.call("PATCH", path, body, PATCHES[kind])
        return patched

    def delete(self, path: str) -> None:
        self.call("DELETE", path)

    def apply(self, docs: Iterable[Mapping[str, Any]], namespace: str = "default") -> List[Doc]:
        """Create or change each, server-side, as the field manager `testbed`; returns them as they are now.

        Those that name no namespace go into `namespace`.
        """
        placed = [{**doc, "metadata": {"namespace": namespace, **doc["metadata"]}} for doc in docs]
        return [self.patch(f"{self.path_of(doc)}?fieldManager=testbed&force=true", doc, "apply") for doc in placed]

    def path_of(self, doc: Mapping[str, Any]) -> str:
        """The raw path of a manifest's object."""
        version, kind, about = doc["apiVersion"], doc["kind"], doc["metadata"]
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if kind not in self._plurals.get(base, {}):
            resources = [each for each in self.get(base)["resources"] if "/" not in each["name"]]
            self._plurals[base] = {each["kind"]: (each["name"], each["namespaced"]) for each in resources}
        plural, namespaced = self._plurals[base][kind]
        place = f"/namespaces/{about['namespace']}" if namespaced else ""
        return f"{base}{place}/{plural}/{about['name']}"

    def wait(self, predicate: Callable[[], Seen], what: str, timeout: float = 30) -> Seen:
        """The first true answer of `predicate`, asked every 50 ms; raises AssertionError with `what` in it."""
        deadline = time.monotonic() + timeout
        while True:
            seen = predicate()
            if seen:
                return seen
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:g} s: {what}")
            time.sleep(0.05)

    def namespace(self, prefix: str = "t") -> str:
        """A fresh namespace with a name of its own."""
        name = f"{prefix}-{secrets.token_hex(4)}"
        self.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def wait_available(self, namespace: str, name: str, kind: str = "deployments", timeout: float = 30) -> Doc:
        """The Deployment, StatefulSet or DaemonSet (plural, small letters), once the newest template is all it runs."""
        path = f"/apis/apps/v1/namespaces/{namespace}/{kind}/{name}"

        def rolled_out() -> Doc | None:
            found = self.get(path)
            return found if _rolled_out(found) else None

        found = self.wait(rolled_out, f"{kind}/{name} is rolled out", timeout)
        assert found is not None
        return found

    def pods(self, namespace: str, **labels: str) -> List[Doc]:
        """The pods of a namespace that are not being deleted, by name."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.list(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    # -- who may do what

    def token_for(self, namespace: str, rules: Sequence[Mapping[str, Any]]) -> Path:
        """A kubeconfig of a new user who may do in `namespace` what the RBAC `rules` say, and nothing else.

        A rule is as in a Role: `{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}`.
        """
        number = next(self._next_user)
        user = f"user-{number}"
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": user, "namespace": namespace}}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
        self.apply(
            [
                {**rbac, "kind": "Role", "rules": list(rules)},
                {**rbac, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
            ]
        )
        if rules:
            self.wait(lambda: self._may(user, namespace, rules[0]), f"{user} may do what {rules[0]} says")
        return self.kubeconfig_with(token=self._tokens[number], namespace=namespace)

    def _may(self, user: str, namespace: str, rule: Mapping[str, Any]) -> bool:
        wish = {"group": rule["apiGroups"][0], "resource": rule["resources"][0], "verb": rule["verbs"][0]}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {**wish, "namespace": namespace}},
        }
        status = self.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]
        return bool(status["allowed"])

    def kubeconfig_with(self, **changes: str) -> Path:
        """A new kubeconfig, the admin's but for `changes`: server, token, ca_cert, namespace, context, current_context.

        `context` names the one context in it, `current_context` the one that is said to be current. A wrong token, a
        server that is dead or a file of certificates that is not there are for tests of exactly that.
        """
        name = changes.get("context", "testbed")
        cluster = {
            "server": changes.get("server", self.url),
            "certificate-authority": changes.get("ca_cert", str(self.ca_cert)),
        }
        context = {"cluster": "testbed", "user": "testbed", "namespace": changes.get("namespace", "default")}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": "testbed", "user": {"token": changes.get("token", self.token)}}],
            "contexts": [{"name": name, "context": context}],
            "current-context": changes.get("current_context", name),
        }
        path = self.folder / f"kubeconfig-{secrets.token_hex(4)}.json"
        path.write_text(json.dumps(config, indent=1))
        path.chmod(0o600)
        return path


def _says_ok(url: str) -> bool:
    try:
        return requests.get(url, timeout=1, proxies={"http": ""}).ok
    except requests.RequestException:
        return False


def _name(crd: str) -> str:
    """The name in a definition's text; reading the whole of its YAML takes seconds."""
    return next(line for line in crd.splitlines() if line.startswith("  name: "))[len("  name: ") :]


def _rolled_out(workload: Doc) -> bool:
    """By the rules of `kubectl rollout status`."""
    status, spec = workload["status"], workload["spec"]
    if status.get("observedGeneration", 0) < workload["metadata"]["generation"]:
        return False
    if workload["kind"] == "DaemonSet":
        wanted = status["desiredNumberScheduled"]
        return bool(status.get("updatedNumberScheduled", 0) == wanted == status.get("numberAvailable", 0))
    counts = (status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas"))
    return all(int(count) == int(spec["replicas"]) for count in counts)


@contextmanager
def start(folder: Path, *, argo: bool = False, gateway: bool = False) -> Iterator[Cluster]:
    """A control plane with its logs and data in `folder`; gone at the end, and after a `kill -9` of this process."""
    cluster = Cluster(folder)
    try:
        cluster.run()
        if gateway:
            cluster.add_gateway()
        if argo:
            cluster.add_argo()
        yield cluster
    finally:
        cluster.stop()


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
