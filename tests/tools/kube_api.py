# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Kubernetes API as the tests see it: plain HTTP and JSON, independent of the code under test."""

from __future__ import annotations

import base64
import copy
import json
import secrets
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence, TypeVar

import requests

Doc = Dict[str, Any]
Seen = TypeVar("Seen")

PATCHES = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}
RBAC = "rbac.authorization.k8s.io"


class ApiError(Exception):
    """An answer of the API server that is no success; `code` is its HTTP status."""

    def __init__(self, method: str, path: str, answer: requests.Response) -> None:
        super().__init__(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        self.code = answer.status_code


class KubeApi:
    """Reached by the first of everything in `config`, a kubeconfig's document; `folder` keeps what it writes.

    `path` is always a raw one, as "/apis/apps/v1/namespaces/x/deployments/y".
    """

    def __init__(self, folder: Path, config: Doc) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._config = config
        self.url = str(cluster["server"])
        self.ca_cert = self._file(cluster, "certificate-authority")
        self._plurals: Dict[str, Dict[str, tuple[str, bool]]] = {}
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the environment, nor a .netrc
        if "token" in user:
            self._session.headers["Authorization"] = f"Bearer {user['token']}"
        certificate, key = self._file(user, "client-certificate"), self._file(user, "client-key")
        if certificate and key:
            self._session.cert = (str(certificate), str(key))
        self.kubeconfig = self.kubeconfig_with()

    def _file(self, entry: Mapping[str, str], key: str) -> Path | None:
        """The file that a kubeconfig's entry names, or holds."""
        if f"{key}-data" not in entry:
            return Path(entry[key]) if key in entry else None
        path = self.folder / f"{key}.pem"
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(entry[f"{key}-data"]))
        return path

    def kubeconfig_with(self, **changes: str) -> Path:
        """A new kubeconfig, the admin's but for `changes`: server, token, ca_cert, namespace, context, current_context.

        `context` names the one context in it, `current_context` the one that is said to be current. A wrong token, a
        server that is dead or a file of certificates that is not there are for tests of exactly that.
        """
        config = copy.deepcopy(self._config)
        cluster, context = config["clusters"][0]["cluster"], config["contexts"][0]
        cluster["server"] = changes.get("server", self.url)
        if "ca_cert" in changes:
            cluster.pop("certificate-authority-data", None)
            cluster["certificate-authority"] = changes["ca_cert"]
        if "token" in changes:
            config["users"][0]["user"] = {"token": changes["token"]}
        context["context"]["namespace"] = changes.get("namespace", "default")
        context["name"] = changes.get("context", context["name"])
        config["current-context"] = changes.get("current_context", context["name"])
        path = self.folder / f"kubeconfig-{secrets.token_hex(4)}.json"
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path

    def answers(self) -> bool:
        """Whether the API is ready."""
        try:
            return self._session.get(f"{self.url}/readyz", verify=self._verify(), timeout=2).ok
        except (requests.RequestException, OSError):  # OSError: its certificate is not written yet
            return False

    def _verify(self) -> str | bool:
        return str(self.ca_cert) if self.ca_cert else True

    def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> Any:
        """The decoded answer to `body`, a text as it is or data as JSON; raises ApiError for anything but a success."""
        answer = self._session.request(
            method,
            self.url + path,
            data=body if body is None or isinstance(body, str) else json.dumps(body),
            headers={"Content-Type": content_type},
            verify=self._verify(),
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

    def token_for(self, namespace: str, rules: Sequence[Mapping[str, Any]]) -> Path:
        """A kubeconfig of a new ServiceAccount that may do in `namespace` what the RBAC `rules` say, and nothing else.

        A rule is as in a Role: `{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}`.
        """
        name = f"user-{secrets.token_hex(4)}"
        about = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": name}}
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
        docs: List[Doc] = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
            {**about, "kind": "Role", "rules": list(rules)},
            {
                **about,
                "kind": "RoleBinding",
                "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": name},
                "subjects": subjects,
            },
        ]
        self.apply(docs, namespace)
        user = f"system:serviceaccount:{namespace}:{name}"
        self.wait(lambda: all(self._may(user, namespace, rule) for rule in rules), f"{user} may do what {rules} say")
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = self.create(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", request)
        return self.kubeconfig_with(token=made["status"]["token"], namespace=namespace)

    def _may(self, user: str, namespace: str, rule: Mapping[str, Any]) -> bool:
        wish = {"group": rule["apiGroups"][0], "resource": rule["resources"][0], "verb": rule["verbs"][0]}
        if rule.get("resourceNames"):
            wish["name"] = rule["resourceNames"][0]
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": {**wish, "namespace": namespace}},
        }
        status = self.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]
        return bool(status["allowed"])


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
