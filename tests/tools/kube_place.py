# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One workload in the testbed's cluster, changed through what the Kubernetes modules call, without ansible-playbook."""

from __future__ import annotations

from typing import Any, Dict, List

from cluster import Cluster
from kube_api import Doc

from ansible_collections.selfheal.delivery.plugins.module_utils._act.durable import Checkpoint, nowhere
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube import options

PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


class KubePlace:
    """`name` in `namespace`. Options go to the module's own functions, with its defaults where they matter."""

    def __init__(self, cluster: Cluster, namespace: str, name: str = "shop", kind: str = "Deployment") -> None:
        self.cluster, self.namespace, self.name, self.kind = cluster, namespace, name, kind
        self.path = f"/apis/apps/v1/namespaces/{namespace}/{PLURALS[kind]}/{name}"
        self.options: Dict[str, Any] = {
            "kubeconfig": str(cluster.kubeconfig),
            "namespace": namespace,
            "name": name,
            "kind": kind,
            "images": {"app": "shop:{release}"},
            "keep": 5,
            "timeout": 20.0,
        }

    def deploy(
        self, release: str, *, dry: bool = False, checkpoint: Checkpoint = nowhere, **more: Any
    ) -> Dict[str, Any]:
        asked = {**self.options, "state": "deployed", "release": release, **more}
        return options.change(asked, dry=dry, checkpoint=checkpoint)

    def state(self, state: str, **more: Any) -> Dict[str, Any]:
        return options.change({**self.options, "state": state, **more}, dry=False)

    def promote(self, release: str, **more: Any) -> Dict[str, Any]:
        return self.state("promoted", release=release, **more)

    def good(self, release: str, **more: Any) -> Dict[str, Any]:
        """Deploy and promote."""
        self.deploy(release, **more)
        return self.promote(release)

    def back(self, *, dry: bool = False, checkpoint: Checkpoint = nowhere, **more: Any) -> Dict[str, Any]:
        return options.roll_back({**self.options, **more}, dry=dry, checkpoint=checkpoint)

    def info(self) -> Dict[str, Any]:
        return options.look(self.options)

    def seen(self) -> Doc:
        """The workload, by the tests' own eyes."""
        return self.cluster.get(self.path)

    def image(self) -> str:
        return str(self.seen()["spec"]["template"]["spec"]["containers"][0]["image"])

    def annotations(self) -> Dict[str, str]:
        notes: Dict[str, str] = self.seen()["metadata"].get("annotations", {})
        return notes

    def set_image(self, image: str) -> None:
        """As somebody else does, under a field manager of their own."""
        change = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
        self.cluster.patch(self.path + "?fieldManager=somebody", change, "json")

    def revisions(self) -> List[Doc]:
        """What the workload owns."""
        uid = self.seen()["metadata"]["uid"]
        plural = "replicasets" if self.kind == "Deployment" else "controllerrevisions"
        found = self.cluster.list(f"/apis/apps/v1/namespaces/{self.namespace}/{plural}")
        return [each for each in found if each["metadata"]["ownerReferences"][0]["uid"] == uid]
