# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Kubernetes bench measures on, and its own eyes: Deployments to take back, a watch, and the audit log."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Dict, Iterator, List

import requests
from child import Child
from cluster import ControlPlane, deployment
from kube_api import Doc
from kube_place import KubePlace

NAME = "shop"
OLD, GOOD, BAD = "1.0.0", "2.0.0", "3.0.0"
COLLECTION = "/apis/apps/v1/deployments"
# the user agents of the two tasks; the control plane's own programs and the bench's eyes have others
CLIENTS = ("selfheal.delivery", "OpenAPI-Generator")
_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


class Audited(ControlPlane):
    """A control plane whose API server notes every request that it has answered."""

    def _start(self, program: str, *flags: str | Path) -> Child:
        if program != "kube-apiserver":
            return super()._start(program, *flags)
        policy = self.folder / "audit-policy.json"
        policy.write_text(json.dumps(_POLICY), encoding="utf-8")
        return super()._start(program, *flags, f"--audit-policy-file={policy}", f"--audit-log-path={self._log}")

    @property
    def _log(self) -> Path:
        return self.folder / "audit.log"

    def asked(self) -> List[float]:
        """When (epoch seconds) the API server got a request from one of `CLIENTS`, each time."""
        events = [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]
        ours = [event for event in events if str(event.get("userAgent", "")).startswith(CLIENTS)]
        return [datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp() for event in ours]


@contextmanager
def audited(folder: Path) -> Iterator[Audited]:
    """A control plane with its data in `folder`, as `cluster.start` gives."""
    plane = Audited(folder)
    try:
        plane.run()
        yield plane
    finally:
        plane.stop()


def prepare(cluster: ControlPlane, slow: bool) -> str:
    """A Deployment of three pods and three revisions in a namespace of its own: good, good, and the current one bad.

    With `slow` a pod needs half a second to be ready. Returns the namespace.
    """
    namespace = cluster.namespace("bench")
    doc = deployment(NAME, f"{NAME}:{OLD}")
    if slow:
        doc["spec"]["template"]["metadata"]["annotations"] = {"testbed/ready-after": "500ms"}
    cluster.apply([doc], namespace)
    place = KubePlace(cluster, namespace)
    place.good(OLD)
    place.good(GOOD)
    place.deploy(BAD)
    return namespace


class Observer(threading.Thread):
    """Watches all Deployments, and notes when each was seen rolled out on GOOD first: `seen`, by namespace."""

    def __init__(self, cluster: ControlPlane) -> None:
        super().__init__(name="observer", daemon=True)
        self.seen: Dict[str, float] = {}
        self._url, self._ca = cluster.url, str(cluster.ca_cert)
        config = json.loads(cluster.kubeconfig.read_text(encoding="utf-8"))
        self._headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self._version = cluster.get(COLLECTION)["metadata"]["resourceVersion"]

    def run(self) -> None:
        with suppress(requests.RequestException):  # the API server ends before this does
            self._watch()

    def _watch(self) -> None:
        asked = {"watch": "1", "resourceVersion": self._version, "timeoutSeconds": "7200"}
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update(self._headers)
            answer = session.get(self._url + COLLECTION, params=asked, verify=self._ca, stream=True)
            rest = b""
            for chunk in answer.iter_content(chunk_size=None):
                now = time.time()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._note(json.loads(line)["object"], now)

    def _note(self, found: Doc, now: float) -> None:
        if rolled_out(found):
            self.seen.setdefault(found["metadata"]["namespace"], now)


def rolled_out(found: Doc) -> bool:
    """Is GOOD all that the Deployment runs? As `kubectl rollout status` says it, and no old pod terminates any more."""
    status, spec = found.get("status", {}), found["spec"]
    counts = (status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas"))
    return bool(
        image_of(found) == f"{NAME}:{GOOD}"
        and status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        and all(count == spec["replicas"] for count in counts)
        and not status.get("terminatingReplicas")
    )


def image_of(found: Doc) -> str:
    return str(found["spec"]["template"]["spec"]["containers"][0]["image"])
