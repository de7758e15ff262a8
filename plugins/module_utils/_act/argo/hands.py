# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The single steps on a Rollout of Argo Rollouts: look, change its spec or its status, mark a revision, follow it.

What to do, and when, is `argo`'s. The spec is changed by whom a decision stands for; the status is where Argo keeps
what people ask for (abort, promote), and is patched exactly as `kubectl argo rollouts` does.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

from ..._errors import DeliveryError, OptionError, PlaceError, nearest
from ..kube.api import JSON_PATCH, MERGE, Api, Conflict, Forbidden, NotFound
from ..kube.follow import Follow, State
from ..kube.marks import notes_of, owner_uid, release_mark
from ..kube.names import JOURNAL, KINDS, PREFIX, TOKEN, path_of
from ..kube.revisions import Revision
from ..kube.workload import Target, is_paused, last_change, pins, pointer, selector_of
from ..kube.workload_steps import How
from ..model import Release
from . import status as argo_status
from .template import same_but_false
from .view import ArgoView, of_revision, view_of

Object = Mapping[str, Any]
Operations = List[Dict[str, object]]
Found = TypeVar("Found")

_TRIES = 5  # to apply a change while the controller, or an autoscaler, changes the same object
_TAKEN_UP = 15.0  # seconds for the controller to see a change
_SILENCE = 0.5  # seconds after which the controller may have lost our change; twice as long before each next time
_NUDGE = PREFIX + "nudge"  # a label, because Argo copies annotations to the ReplicaSets


@dataclass(frozen=True)
class ArgoHow(How):
    """How to do it: `share` is in percent; `read_analysis` lets Argo's own analysis fail what it finds bad."""

    share: Optional[float] = None
    read_analysis: bool = False


@dataclass(frozen=True)
class Sight:
    """What is followed: the Rollout with its revisions, and the live pods of all of them."""

    view: ArgoView
    pods: Tuple[Object, ...]

    def pods_of(self, revision: Revision) -> Tuple[Object, ...]:
        return tuple(pod for pod in self.pods if of_revision(pod, revision))


def target_of(namespace: str, name: str) -> Target:
    return Target(KINDS["Rollout"], namespace, name)


class Hands:
    """The hands on one Rollout of one cluster."""

    def __init__(self, api: Api, target: Target, how: ArgoHow) -> None:
        self.api, self.target, self.how = api, target, how
        self._selector = ""
        self._ours = ""  # the resourceVersion that our last change made

    def look(self) -> ArgoView:
        """The Rollout with its revisions. Where the controller has not seen its newest spec yet, that is awaited."""
        view = self.glance()
        if not argo_status.observed(view.workload):
            self.follow(lambda sight: argo_status.observed(sight.view.workload) or None, _TAKEN_UP)
            view = self.glance()
        return view

    def glance(self) -> ArgoView:
        """The Rollout with its revisions, as they are."""
        try:
            rollout = self.api.get(self.target.path)
        except NotFound:
            raise self._unknown() from None
        self._selector = selector_of(rollout)
        return view_of(rollout, self.api.items(self.target.revisions, labelSelector=self._selector))

    def change(self, seen: Object, operations: Operations, notes: Mapping[str, str]) -> Object:
        """Spec and annotations in one patch, pinned on what was `seen`; Conflict when somebody was faster."""
        for attempt in range(_TRIES):
            tests: Operations = [{"op": "test", "path": path, "value": value} for path, value in pins(seen)]
            if not notes_of(seen):
                tests.append({"op": "add", "path": "/metadata/annotations", "value": {}})
            added: Operations = [{"op": "add", "path": pointer(key), "value": text} for key, text in notes.items()]
            try:
                made = self.api.patch(self.target.path, tests + operations + added, JSON_PATCH, dry=self.how.dry)
                self._ours = str(made["metadata"]["resourceVersion"])
                return made
            except PlaceError as error:
                # a test that fails is answered like a spec that is invalid
                if error.details.get("status") not in (409, 422):
                    raise
                now = self.api.get(self.target.path)
                self._same(seen, now)
                if (pins(now) == pins(seen) and not isinstance(error, Conflict)) or attempt == _TRIES - 1:
                    raise
                seen = now
        raise AssertionError  # the last try has raised

    def ask(self, seen: Object, status: Mapping[str, object]) -> None:
        """Patch the status, where Argo takes what people ask for; pinned like `change`."""
        for attempt in range(_TRIES):
            pinned = {"metadata": {"resourceVersion": seen["metadata"]["resourceVersion"]}, "status": dict(status)}
            try:
                made = self.api.patch(f"{self.target.path}/status", pinned, MERGE, dry=self.how.dry)
                self._ours = str(made["metadata"]["resourceVersion"])
                return
            except Conflict:
                now = self.api.get(self.target.path)
                self._same(seen, now)
                if attempt == _TRIES - 1:
                    raise
                seen = now

    def mark(self, revision: Revision, release: Release, more: Optional[Mapping[str, str]] = None) -> None:
        """Write on the revision which release it is."""
        notes = {**release_mark(release, revision.name), **(more or {})}
        body = {"metadata": {"annotations": notes, "uid": revision.uid}}
        self.api.patch(f"{self.target.revisions}/{revision.name}", body, MERGE, dry=self.how.dry)

    def follow(self, look: Callable[[Sight], Optional[Found]], seconds: float) -> Optional[Found]:
        """What `look` finds, asked whenever anything of the Rollout changes; None after `seconds`."""

        last: List[Sight] = []

        def seen(state: State) -> Optional[Found]:
            rollout = next(iter(state["rollout"].values()), None)
            if rollout is None:
                raise PlaceError(f"{self.target} was deleted meanwhile")
            view = view_of(rollout, state["revisions"].values())
            last[:] = [Sight(view, tuple(pod for pod in state["pods"].values() if _lives(pod)))]
            return look(last[0])

        labels = {"labelSelector": self._selector}
        lists = {
            "rollout": (self.target.collection, {"fieldSelector": f"metadata.name={self.target.name}"}),
            "revisions": (self.target.revisions, labels),
            "pods": (self.target.pods, labels),
        }
        deadline, patience = time.monotonic() + seconds, _SILENCE
        with Follow(self.api, lists) as following:
            while True:
                left = deadline - time.monotonic()
                found = following.until(seen, max(0.0, min(patience, left)))
                if found is not None or left <= patience:
                    return found
                if last and last[0].view.workload["metadata"]["resourceVersion"] == self._ours:
                    patience *= 2
                    self._nudge()
                found = look(last[0]) if last else None  # which may also depend on the time
                if found is not None:
                    return found

    def _nudge(self) -> None:
        """Let the controller see the Rollout again.

        It writes each status that it has made into its own cache, over what came in meanwhile (v1.9: a change that is
        made just then, by whomever, is not seen until the next one).
        """
        for value in ("on", None):
            made = self.api.patch(self.target.path, {"metadata": {"labels": {_NUDGE: value}}}, MERGE)
            self._ours = str(made["metadata"]["resourceVersion"])

    def pods_of(self, revision: Revision) -> List[Object]:
        """The live pods of one revision."""
        return [pod for pod in self.pods() if of_revision(pod, revision)]

    def pods(self) -> List[Object]:
        """The live pods that carry the Rollout's labels; whose they are, their owners say."""
        return [pod for pod in self.api.items(self.target.pods, labelSelector=self._selector) if _lives(pod)]

    def analysis(self, rollout: Object) -> List[Dict[str, Any]]:
        """What Argo's own AnalysisRuns and Experiments say of the newest pod template."""
        labels = {"labelSelector": f"{argo_status.HASH}={argo_status.current_hash(rollout)}"}
        found: List[Dict[str, Any]] = []
        for kind, plural in (("AnalysisRun", "analysisruns"), ("Experiment", "experiments")):
            runs = self.api.items(path_of(self.target.kind.group, plural, self.target.namespace), **labels)
            mine = [{**run, "kind": kind} for run in runs if owner_uid(run) == rollout["metadata"]["uid"]]
            found += argo_status.analysis(sorted(mine, key=lambda run: str(run["metadata"]["creationTimestamp"])))
        return found

    def overtaken(self, now: Object) -> Conflict:
        return Conflict(
            f"{self.target} was changed {last_change(now)} since it was looked at, and nothing was overwritten",
            mend="Look at what changed and run it again",
        )

    def _same(self, seen: Object, now: Object) -> None:
        """Raise when somebody did what makes the decision void. To scale it, or to spell it otherwise, does not."""
        told, tells = notes_of(seen), notes_of(now)
        moved = (
            seen["metadata"]["uid"] != now["metadata"]["uid"]
            or is_paused(seen) != is_paused(now)
            or any(told.get(key) != tells.get(key) for key in (JOURNAL, TOKEN))
            or not same_but_false(seen["spec"].get("template"), now["spec"].get("template"))
        )
        if moved:
            raise self.overtaken(now)

    def _unknown(self) -> DeliveryError:
        """Why there is no such Rollout: no such kind, no such namespace, or the nearest name that is there."""
        namespace, name = self.target.namespace, self.target.name
        try:
            names = [str(each["metadata"]["name"]) for each in self.api.items(self.target.collection)]
        except NotFound:
            return PlaceError(
                f"{self.api.access.server} knows no Rollout ({self.target.kind.group})",
                mend="Install Argo Rollouts in this cluster, or check context",
                details={"changed": False},
            )
        except Forbidden:
            names = []
        if names:
            there = f"It has {', '.join(sorted(names)[:10])}"
            return OptionError(f"namespace {namespace} has no Rollout {name!r}{nearest(name, names)}", mend=there)
        with suppress(Forbidden):
            spaces = [str(each["metadata"]["name"]) for each in self.api.items("/api/v1/namespaces")]
            if namespace not in spaces:
                return OptionError(f"there is no namespace {namespace!r}{nearest(namespace, spaces)}")
        return OptionError(f"namespace {namespace} has no Rollout {name!r}", mend="Check name, namespace and context")


def _lives(pod: Object) -> bool:
    return not pod["metadata"].get("deletionTimestamp")
