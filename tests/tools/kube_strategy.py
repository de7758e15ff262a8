# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place for tests of strategies: one Deployment of a cluster, its wishes, and what there is of it, seen by others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional

from cluster import Cluster, deployment, service

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.api import Api
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.backend import DeploymentBackend
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.connection import Access, access
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.names import kind_of
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.workload import Target
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.workload_steps import How, Steps
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import (
    Backend,
    Deploy,
    Outcome,
    Promote,
    Rollback,
)

Doc = Dict[str, Any]
Make = Callable[..., Backend]  # of Steps and the strategy's own options


class Killed(BaseException):
    """What SIGKILL is to a process: nothing of ours catches it."""


class Mortal(Api):
    """An Api whose process is killed when its `nth` change is to be sent; the one before it was done."""

    def __init__(self, access: Access) -> None:
        super().__init__(access)
        self.nth: Optional[int] = None
        self.changes: List[str] = []

    def _json(self, method: str, path: str, *body: Any, **how: Any) -> Doc:
        if method != "GET" and "dryRun=All" not in path:
            self.changes.append(f"{method} {'/'.join(path.split('/')[-2:])}")
            if len(self.changes) == self.nth:
                raise Killed
        return super()._json(method, path, *body, **how)


@dataclass
class StrategyPlace:
    """Deployment `name` with a Service of the same name; `make` builds the backend of the strategy under test."""

    cluster: Cluster
    namespace: str
    make: Make = DeploymentBackend
    name: str = "shop"
    replicas: int = 3
    how: Doc = field(default_factory=dict)
    nth: Optional[int] = None  # at which of its changes the next backend is killed
    # to reach a cluster costs more than all that is asked of it, so it is reached once
    api: Mortal = field(init=False)
    # the changes that the last backend asked for, as "PATCH services/shop"
    sent: List[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api = Mortal(access({"kubeconfig": str(self.cluster.kubeconfig)}, {}))

    def start(self, release: str = "1.0.0", labels: Mapping[str, str] | None = None) -> None:
        """Let the release run behind its Service."""
        made = deployment(self.name, f"shop:{release}", self.replicas, labels)
        self.cluster.apply([made, service(self.name, labels)], self.namespace)
        self.cluster.wait_available(self.namespace, self.name)
        DeploymentBackend(self.steps(release)).deploy(Deploy(release))

    def begin(self, release: str = "1.0.0", labels: Mapping[str, str] | None = None) -> None:
        """The same, known good."""
        self.start(release, labels)
        backend = DeploymentBackend(self.steps(release))
        backend.promote(Promote(release))

    def backend(self, release: str, **options: Any) -> Backend:
        return self.make(self.steps(release), **options)

    def steps(self, release: str) -> Steps:
        self.sent = []
        self.api.nth, self.api.changes = self.nth, self.sent
        how = How(**{"images": {"app": f"shop:{release}"}, "timeout": 20.0, **self.how})
        return Steps(self.api, Target(kind_of("Deployment"), self.namespace, self.name), how)

    def deploy(self, release: str, rollout: str = "r1", token: Optional[int] = None, **options: Any) -> Outcome:
        return self.backend(release, **options).deploy(Deploy(release, rollout=rollout, token=token))

    def promote(self, release: str, rollout: str = "r1", token: Optional[int] = None, **options: Any) -> Outcome:
        return self.backend(release, **options).promote(Promote(release, rollout=rollout, token=token))

    def undo(self, release: str, rollout: str = "r1", token: Optional[int] = None, **options: Any) -> Outcome:
        wish = Rollback(leave=release, undo=True, rollout=rollout, token=token)
        return self.backend(release, **options).rollback(wish)

    def killed(self, nth: int, ask: Callable[..., Outcome], *args: Any, **options: Any) -> bool:
        """Ask, and be killed at the `nth` change; True when there are not that many."""
        self.nth = nth
        try:
            ask(*args, **options)
            return True
        except Killed:
            return False
        finally:
            self.nth = None

    # -- what there is, by the tests' own eyes

    def path(self, kind: str = "deployments", name: str = "") -> str:
        groups = {"services": "/api/v1", "httproutes": "/apis/gateway.networking.k8s.io/v1"}
        return f"{groups.get(kind, '/apis/apps/v1')}/namespaces/{self.namespace}/{kind}/{name}".rstrip("/")

    def get(self, kind: str, name: str) -> Doc:
        return self.cluster.get(self.path(kind, name))

    def names(self, kind: str = "deployments") -> List[str]:
        return sorted(each["metadata"]["name"] for each in self.cluster.list(self.path(kind)))

    def pods(self) -> Dict[str, str]:
        """Live pods: uid -> image, of all that is in the namespace."""
        return {
            pod["metadata"]["uid"]: pod["spec"]["containers"][0]["image"] for pod in self.cluster.pods(self.namespace)
        }

    def served(self, name: str = "") -> List[str]:
        """The images of the live pods that a Service selects, sorted."""
        selector = self.get("services", name or self.name)["spec"]["selector"]
        pods = self.cluster.pods(self.namespace, **selector)
        return sorted(pod["spec"]["containers"][0]["image"] for pod in pods)

    def story(self) -> Doc:
        """Everything of a place that must not depend on how often a run was killed."""
        return {
            "deployments": {
                each["metadata"]["name"]: (
                    each["spec"]["replicas"],
                    each["spec"]["template"]["spec"]["containers"][0]["image"],
                )
                for each in self.cluster.list(self.path())
            },
            "services": {
                each["metadata"]["name"]: each["spec"]["selector"] for each in self.cluster.list(self.path("services"))
            },
            "pods": sorted(self.pods().values()),
            "current": DeploymentBackend(self.steps("x")).current(),
        }


def http_route(name: str, *rules: Mapping[str, Optional[int]], **more: Any) -> Doc:
    """An HTTPRoute; each rule maps the Services it sends to, on port 80, to their weights. `more` goes into rule 0."""
    made = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": f"/{index}"}}],
            "backendRefs": [
                {"name": service, "port": 80, **({} if weight is None else {"weight": weight})}
                for service, weight in rule.items()
            ],
        }
        for index, rule in enumerate(rules)
    ]
    made[0].update(more)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"rules": made},
    }
