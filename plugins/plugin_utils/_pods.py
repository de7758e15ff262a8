# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pods of a service's clusters during a bake: which of them run the release, who lives, and what each measures.

Pods come and go, so they are listed anew at each look; whether one lives is what the cluster says of it, not what a
metrics server could scrape.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Counts
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.ask import Asked, asked
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.collect import Sampler
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Presence, Sample
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, plain

Arms = Tuple[Tuple[str, ...], Tuple[str, ...]]
# one place's live pods: mappings with name, release, ready and started_at (epoch seconds, or None)
Lister = Callable[[], Sequence[Mapping[str, Any]]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Pod:
    """One live pod; `key` is what the judge calls it."""

    key: str
    name: str
    place: str
    release: str
    presence: Presence


class Crowd:
    """The live pods of some places, as they were at the last look."""

    def __init__(self, listers: Mapping[str, Lister], release: str, say: Say, *, switched: bool = False) -> None:
        """With `switched`, a place sends no request to its old pods any more: they are nothing to compare with."""
        self._listers, self._release, self._say, self._switched = listers, release, say, switched
        self.pods: Tuple[Pod, ...] = ()
        self._blind = False

    def cast(self) -> Arms:
        """List the pods anew; who runs the release, and who does not. A cluster that cannot be asked changes nothing
        but that nobody is known to live.
        """
        found: List[Pod] = []
        try:
            for place, lister in self._listers.items():
                found += [self._pod(place, told) for told in lister()]
            self.pods, self._blind = tuple(found), False
        except DeliveryError as error:
            self._blind = True
            self._say(f"the pods cannot be listed, watching on with those known: {error.what}")
        canary = tuple(pod.key for pod in self.pods if pod.release == self._release)
        idle = {pod.place for pod in self.pods if self._switched and pod.release == self._release}
        old = (pod for pod in self.pods if pod.release != self._release and pod.place not in idle)
        return canary, tuple(pod.key for pod in old)

    def targets(self) -> List[Facts]:
        return [{"place": pod.key, "urls": [], "instance": pod.name} for pod in self.pods]

    def presence(self) -> Dict[str, Presence]:
        return {} if self._blind else {pod.key: pod.presence for pod in self.pods}

    def _pod(self, place: str, told: Mapping[str, Any]) -> Pod:
        name, started = str(told["name"]), told.get("started_at")
        start = float(started) if isinstance(started, (int, float)) else None
        presence = Presence(told.get("ready") is True, start, str(told.get("phase") or ""))
        return Pod(pod_key(place, name, len(self._listers)), name, place, str(told.get("release") or ""), presence)


class CrowdSource:
    """One source of the policy, asked about whichever pods are there. `index` is its place among the policy's."""

    def __init__(self, policy: Policy, index: int, crowd: Crowd) -> None:
        self._policy, self._index, self._crowd = policy, index, crowd
        self._stack = ExitStack()
        self._sampler: Optional[Sampler] = None
        self._targets: List[Facts] = []

    def ask(self) -> Asked:
        return asked(self._policy, self._crowd.targets())[self._index]

    def sample(self) -> Sample:
        return self.seen(self._current().sample())

    def seen(self, sample: Sample) -> Sample:
        """What was measured, with who lives as the cluster knows it."""
        return sample if sample.down is not None else replace(sample, presence=self._crowd.presence())

    def history(self, window: float, step: float) -> Mapping[str, Sequence[Mapping[str, Counts]]]:
        return self._current().history(window, step)

    def _current(self) -> Sampler:
        """The sampler of the pods that are there now; its connections are kept while they stay the same."""
        targets = self._crowd.targets()
        if self._sampler is None or targets != self._targets:
            self._stack.close()
            self._sampler = self._stack.enter_context(self.ask().sampler())
            self._targets = targets
        return self._sampler

    def close(self) -> None:
        self._stack.close()


def pod_key(place: str, name: str, places: int) -> str:
    """What the judge calls a pod: its name, with the place's where there are several places."""
    return name if places == 1 else f"{place}/{name}"


def pod_targets(place: str, state: Mapping[str, Any], places: int) -> List[Facts]:
    """A place's pods as release_info told them, as they are measured."""
    names = [str(pod["name"]) for pod in state.get("pods") or ()]
    return [{"place": pod_key(place, name, places), "urls": [], "instance": name} for name in names]


def listers_of(group: str, policy: Policy, places: Sequence[str], task_vars: Mapping[str, Any]) -> Dict[str, Lister]:
    """For each place, who lists its pods: by the policy's backend_options, rendered with that place's own variables."""
    from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.pods import lister

    listers: Dict[str, Lister] = {}
    for place in places:
        variables = task_vars["hostvars"][place]
        if variables.get("ansible_connection") != "local":
            raise OptionError(
                f"{place} is a cluster that is not reached with ansible_connection: local",
                mend="Reach it from the controller, which lists its pods",
                service=policy.service,
            )
        services = variables.get("delivery_services") or {}
        options = plain((services.get(group) or {}).get("backend_options") or {})
        if not options:
            raise OptionError(f"{place} has no backend_options", mend="Set them in the policy", service=policy.service)
        kind = "Rollout" if policy.backend == "argo_rollout" else str(options.get("kind") or "Deployment")
        listers[place] = lister({**options, "kind": kind})
    return listers
