# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The single steps of changing a workload: look, preview, apply, wait, mark. What to do, and when, is `backend`'s.

Each is one or two requests that leave the cluster as it was or changed as a whole.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, TypeVar

from ..._errors import OptionError, PlaceError, nearest
from ..durable import Checkpoint, nowhere
from ..model import Release
from .api import JSON_PATCH, MERGE, STRATEGIC, Api, Conflict, Forbidden, Lost, NotFound
from .follow import Follow, State
from .marks import notes_of, owner_uid, release_mark
from .names import JOURNAL, path_of
from .progress import failure, held, missing, observed, on_delete, partition_of, ready
from .revisions import Revision, View, belongs, view_of
from .workload import Target, cleaned, images_of, last_change, moved, pins, pointer, same, selector_of, template_of

Object = Mapping[str, Any]
Seen = TypeVar("Seen")

_TRIES = 5  # to apply a change while somebody scales the workload
_TAKEN_UP = 15.0  # seconds for a controller to make a revision of a template


@dataclass(frozen=True)
class How:
    """How to do it. `timeout` is in seconds; with `dry` the API server only rehearses it."""

    images: Mapping[str, object] = field(default_factory=dict)
    patch: Mapping[str, Any] = field(default_factory=dict)
    change_cause: str = ""
    wait: bool = True
    timeout: float = 300.0
    on_digest_change: str = "warn"
    on_gitops: str = "warn"
    to_revision: Optional[int] = None
    to_previous: bool = False
    template: Mapping[str, Any] = field(default_factory=dict)
    dry: bool = False
    checkpoint: Checkpoint = nowhere


class Rolled(NamedTuple):
    """What a wait found: the workload, its revision, and that revision's live pods."""

    workload: Object
    revision: Revision
    pods: Tuple[Object, ...]


class Steps:
    """The hands on one workload of one cluster."""

    def __init__(self, api: Api, target: Target, how: How) -> None:
        self.api, self.target, self.how = api, target, how
        self._selector = ""

    def look(self) -> View:
        """The workload with its revisions. Where its controller has not taken up the template yet, that is awaited."""
        view = self._read()
        if view.current is None and not observed(view.workload):
            self._followed(("workload", "revisions"), lambda state: self._view(state).current, _TAKEN_UP)
            view = self._read()
        return view

    def _read(self) -> View:
        try:
            workload = {"kind": self.target.kind.kind, **self.api.get(self.target.path)}
        except NotFound:
            raise self._unknown() from None
        self._selector = selector_of(workload)
        return view_of(workload, self.api.items(self.target.revisions, labelSelector=self._selector))

    def preview(self, body: Mapping[str, Any]) -> Dict[str, Any]:
        """The pod template that the strategic merge patch `body` would make, whole, as the API server says."""
        query = "?dryRun=All&fieldValidation=Strict"
        return cleaned(template_of(self.api.patch(self.target.path + query, body, STRATEGIC, repeatable=True)))

    def preview_whole(self, template: Mapping[str, Any]) -> Dict[str, Any]:
        """The same for a template that replaces the whole one."""
        body = [{"op": "replace", "path": "/spec/template", "value": cleaned(template)}]
        query = "?dryRun=All&fieldValidation=Strict"
        return cleaned(template_of(self.api.patch(self.target.path + query, body, JSON_PATCH, repeatable=True)))

    def apply(self, view: View, template: Mapping[str, Any], notes: Mapping[str, str]) -> Object:
        """Template and annotations in one patch, pinned on what `view` saw; Conflict when somebody was faster."""
        self.how.checkpoint("applying")
        seen, tries = view.workload, 0
        while True:
            tries += 1
            try:
                operations = _operations(seen, template, notes)
                return self.api.patch(self.target.path, operations, JSON_PATCH, dry=self.how.dry)
            except PlaceError as error:
                # a test that fails is answered like a template that is invalid
                if error.details.get("status") not in (409, 422) and not isinstance(error, Lost):
                    raise
                now = self.api.get(self.target.path)
                if isinstance(error, Lost) and notes_of(now).get(JOURNAL) == notes.get(JOURNAL):
                    return now
                if moved(seen, now):
                    raise self._overtaken(seen, now) from None
                if (pins(now) == pins(seen) and not isinstance(error, (Conflict, Lost))) or tries == _TRIES:
                    raise
                seen = now

    def _overtaken(self, seen: Optional[Object], now: Object) -> Conflict:
        images = ", ".join(f"{name}: {image}" for name, image in images_of(template_of(now)).items())
        return Conflict(
            f"{self.target} was changed {last_change(now, seen)} since it was looked at, and nothing was overwritten;"
            f" its images are now {images}",
            mend="Look at what changed and run it again",
            details={"changed": False},
        )

    def note_if(self, key: str, before: Optional[str], notes: Mapping[str, str]) -> None:
        """`notes` on the workload, while its annotation `key` is still `before`; else somebody newer was here."""
        if self.how.dry:
            return
        tests: List[Dict[str, object]] = [{"op": "test", "path": pointer(key), "value": before}]
        with suppress(PlaceError):
            self.api.patch(self.target.path, tests + _additions(notes), JSON_PATCH)

    def mark(self, revision: Revision, release: Release, more: Optional[Mapping[str, str]] = None) -> None:
        """Write on the revision which release it is."""
        path = f"{self.target.revisions}/{revision.name}"
        notes = {**release_mark(release, revision.name), **(more or {})}
        self._annotate(path, notes, uid=revision.uid)
        self.how.checkpoint(f"marked {release.id}")

    def _annotate(self, path: str, notes: Mapping[str, str], uid: str = "") -> None:
        metadata = {"annotations": dict(notes), **({"uid": uid} if uid else {})}
        self.api.patch(path, {"metadata": metadata}, MERGE, dry=self.how.dry, repeatable=True)

    def taken_up(self, workload: Object) -> Revision:
        """The revision that the controller makes of the workload's template, as soon as it is there."""
        template = template_of(workload)

        def look(state: State) -> Optional[Revision]:
            view = self._view(state)
            self._expect(view, template, workload)
            return view.current

        revision = self._followed(("workload", "revisions"), look, min(_TAKEN_UP, self.how.timeout))
        if revision is None:
            raise PlaceError(
                f"the controller of {self.target} has not taken up the pod template",
                mend="See that kube-controller-manager runs, and run this again",
            )
        return revision

    def wait(self, template: Object, found: Callable[[Revision], None], workload: Optional[Object] = None) -> Rolled:
        """Until `template` is rolled out; `found` is told its revision. PlaceError says what is missing, or why.

        With the `workload` as it was changed, a Conflict can say who changed it since.
        """
        told: List[Revision] = []
        seen: List[Rolled] = []
        last: List[str] = ["nothing was seen of it"]

        def look(state: State) -> Optional[Rolled]:
            view = self._view(state)
            self._expect(view, template, workload)
            last[0] = missing(view.workload)
            if view.current is None:
                return None
            if not told:
                told.append(view.current)
                found(view.current)
            pods = tuple(pod for pod in state["pods"].values() if belongs(pod, view.current) and _lives(pod))
            seen[:] = [Rolled(view.workload, view.current, pods)]
            if not last[0]:
                return seen[0]
            self._unstick(view, tuple(state["pods"].values()))
            trouble = failure(view.workload, view.current.raw, pods)
            if trouble:
                raise PlaceError(f"{self.target} cannot be rolled out ({last[0]}): {trouble}")
            return None

        rolled = self._followed(("workload", "revisions", "pods"), look, self.how.timeout)
        if rolled is None:
            why = "; ".join(filter(None, [last[0], self._why(seen[0]) if seen else ""]))
            raise PlaceError(f"{self.target} is not rolled out after {self.how.timeout:g} s: {why}")
        return rolled

    def _why(self, seen: Rolled) -> str:
        """What pods wait for, or why there are none: controllers of StatefulSets and DaemonSets only tell that so."""
        waits = held(pod for pod in seen.pods if not ready(pod))
        if waits:
            return waits
        of = f"involvedObject.uid={seen.workload['metadata']['uid']},type=Warning"
        with suppress(PlaceError):  # who may not read events is not told them
            events = self.api.items(path_of("v1", "events", self.target.namespace), fieldSelector=of)
            newest = max(events, key=lambda each: str(each.get("lastTimestamp") or ""), default=None)
            return f"{newest.get('reason')}: {str(newest.get('message'))[:300]}" if newest else ""
        return ""

    def pods(self) -> List[Object]:
        """The live pods that carry the workload's labels; whose they are, their owners say."""
        found = self.api.items(self.target.pods, labelSelector=self._selector)
        return list(filter(_lives, found))

    def _view(self, state: State) -> View:
        workload = next(iter(state["workload"].values()), None)
        if workload is None:
            raise PlaceError(f"{self.target} was deleted meanwhile")
        return view_of({"kind": self.target.kind.kind, **workload}, state["revisions"].values())

    def _expect(self, view: View, template: Object, before: Optional[Object]) -> None:
        if not same(template_of(view.workload), template):
            raise self._overtaken(before, view.workload)

    def _unstick(self, view: View, pods: Tuple[Object, ...]) -> None:
        """Remove pods that hold a StatefulSet up: it waits for ever for one that another revision left unready."""
        workload = view.workload
        if self.target.kind.kind != "StatefulSet" or on_delete(workload) or not observed(workload):
            return
        for pod in pods:
            mine = owner_uid(pod) == workload["metadata"]["uid"] and _lives(pod)
            other = view.current is not None and not belongs(pod, view.current)
            if mine and other and not ready(pod) and _ordinal(pod) >= partition_of(workload):
                name, uid = str(pod["metadata"]["name"]), str(pod["metadata"]["uid"])
                with suppress(Conflict):  # it is another pod by now
                    self.api.delete(f"{self.target.pods}/{name}", uid=uid)

    def _followed(
        self, names: Tuple[str, ...], look: Callable[[State], Optional[Seen]], seconds: float
    ) -> Optional[Seen]:
        labels = {"labelSelector": self._selector}
        lists = {
            "workload": (self.target.collection, {"fieldSelector": f"metadata.name={self.target.name}"}),
            "revisions": (self.target.revisions, labels),
            "pods": (self.target.pods, labels),
        }
        with Follow(self.api, {name: lists[name] for name in names}) as follow:
            return follow.until(look, seconds)

    def _unknown(self) -> OptionError:
        """No such workload: the nearest name that is there, or the nearest namespace."""
        kind, namespace, name = self.target.kind, self.target.namespace, self.target.name
        with suppress(Forbidden):
            names = [str(each["metadata"]["name"]) for each in self.api.items(self.target.collection)]
            if names:
                there = f"It has {', '.join(sorted(names)[:10])}"
                return OptionError(
                    f"namespace {namespace} has no {kind.kind} {name!r}{nearest(name, names)}", mend=there
                )
        with suppress(Forbidden):
            spaces = [str(each["metadata"]["name"]) for each in self.api.items("/api/v1/namespaces")]
            if namespace not in spaces:
                return OptionError(f"there is no namespace {namespace!r}{nearest(namespace, spaces)}")
        return OptionError(f"namespace {namespace} has no {kind.kind} {name!r}", mend="Check kind, name and namespace")


def _operations(seen: Object, template: Object, notes: Mapping[str, str]) -> List[Dict[str, object]]:
    tests: List[Dict[str, object]] = [{"op": "test", "path": path, "value": value} for path, value in pins(seen)]
    if not notes_of(seen):
        tests.append({"op": "add", "path": "/metadata/annotations", "value": {}})
    change: Dict[str, object] = {"op": "replace", "path": "/spec/template", "value": cleaned(template)}
    return [*tests, change, *_additions(notes)]


def _additions(notes: Mapping[str, str]) -> List[Dict[str, object]]:
    return [{"op": "add", "path": pointer(key), "value": value} for key, value in notes.items()]


def _lives(pod: Object) -> bool:
    return not pod["metadata"].get("deletionTimestamp")


def _ordinal(pod: Object) -> int:
    tail = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0
