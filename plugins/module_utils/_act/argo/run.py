# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a Rollout of Argo Rollouts: what was seen, what was done, and what all changes have in common."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple

from ..._errors import PlaceError
from .. import plan
from ..kube.marks import journal_of, workload_marks
from ..kube.names import CHANGE_CAUSE, TOKEN
from ..kube.progress import trouble_of
from ..kube.revisions import Revision
from ..kube.workload import digest_of, gitops_warning, images_of, is_paused, refuse_owned, template_of
from ..model import FAILED, Journal, Outcome, Release
from . import status, steps
from .hands import Hands, Operations, Sight
from .template import normal, same_but_false
from .view import ArgoView

Object = Mapping[str, Any]

_SETTLING = 2.0  # seconds until a revision that is still named is the one of the new template, too


@dataclass(frozen=True)
class ArgoOutcome(Outcome):
    """What came of a wish. `stable` is the release that an abort would leave; `share`, in percent, is `current`'s."""

    stable: Optional[str] = None
    share: float = 0.0
    phase: str = ""
    message: str = ""
    analysis: Tuple[Mapping[str, Any], ...] = ()
    more: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, object]:
        told = dict(super().as_dict(), analysis=list(self.analysis))
        told.pop("more")
        return {**told, **self.more}


class Run:
    """One change. `view` follows what is seen; in a dry run, what would be seen.

    `template` is the pod template that the Rollout must keep for what we wait for; None while that does not matter.
    """

    def __init__(
        self, hands: Hands, view: ArgoView, clock: Callable[[], float], *, release: Optional[str], token: Optional[int]
    ) -> None:
        self.hands, self.how, self.view = hands, hands.how, view
        self.clock = clock
        self.warnings: List[str] = []
        self.facts: Dict[str, object] = {}  # what only one kind of change has to tell
        self.analysis: List[Dict[str, Any]] = []
        self.template: Optional[Object] = None
        self._first, self._began = view, time.monotonic()
        self._release, self._token = release, token
        self._actions: List[str] = []
        self._asked: Set[str] = set()
        self._put: Optional[Tuple[Journal, Release]] = None
        self._left: Optional[Revision] = None  # the revision whose template we have replaced, and when
        self._put_at = 0.0

    @property
    def rollout(self) -> Object:
        return self.view.workload

    @property
    def paused(self) -> bool:
        return is_paused(self.rollout)

    def did(self, action: str) -> None:
        if action not in self._actions:  # Argo may have to be asked again
            self._actions.append(action)

    def refuse_foreign(self) -> None:
        """Only a Rollout with a pod template of its own, which nobody else would set back, can be changed here."""
        target = self.hands.target
        if "template" not in self.rollout["spec"]:
            other = self.rollout["spec"].get("workloadRef") or {}
            named = f"{other.get('kind')} {other.get('name')}"
            raise PlaceError(
                f"{target} takes its pod template from {named} (workloadRef), which this does not change",
                mend=f"Change {named}, or move its template into the Rollout",
            )
        refuse_owned(self.rollout, target)
        warning = gitops_warning(self.rollout, target)
        if warning and self.how.on_gitops == "refuse":
            raise PlaceError(warning)
        self.warnings += [warning] if warning else []

    # -- changes

    def put(self, template: Object, journal: Journal, release: Release, cause: str, more: Operations) -> None:
        """The pod template, with the journal in the same patch; the controller begins with it at once."""
        pending = replace(release, digest=digest_of(normal(template)))
        notes = workload_marks(journal, journal.token, pending)
        if cause:
            notes[CHANGE_CAUSE] = cause
        replaced: Operations = [{"op": "replace", "path": "/spec/template", "value": dict(template)}]
        self._left, self._put_at = self.view.current, time.monotonic()
        self._change(replaced + more, notes, f"set the pod template of {release.id}")
        self.template = template_of(self.rollout)
        self._put = journal, pending

    def spec(self, operations: Operations, action: str) -> None:
        """Another change of the spec, such as `paused`."""
        self._change(operations, {} if self._token is None else {TOKEN: str(self._token)}, action)

    def _change(self, operations: Operations, notes: Mapping[str, str], action: str) -> None:
        made = self.hands.change(self.rollout, operations, notes)
        self.view = replace(self.view, workload=made)
        if action:
            self.did(action)

    def remember(self) -> None:
        """The fencing token goes first where only a status or a revision is changed."""
        if self._token is not None and self.view.situation.token != self._token and not self._put:
            self._change([], {TOKEN: str(self._token)}, "")
            self.view = replace(self.view, situation=replace(self.view.situation, token=self._token))

    def once(self, what: str) -> bool:
        """True the first time: what is followed may be older than what was done."""
        fresh = what not in self._asked
        self._asked.add(what)
        return fresh

    def ask(self, wish: Mapping[str, object], action: str) -> None:
        """Ask Argo for something, once in this change for each state that the Rollout is in."""
        told = status.status_of(self.rollout)
        at = [told.get(key) for key in ("currentPodHash", "currentStepIndex", "pauseConditions")]
        key = json.dumps([wish, *at], sort_keys=True)
        if self.once(key):
            self.remember()
            self.hands.ask(self.rollout, wish)
            self.did(action)

    def ask_full(self) -> None:
        """`kubectl argo rollouts promote --full`. Before the controller knows of the template it would be forgotten."""
        if not status.status_of(self.rollout).get("promoteFull"):
            self.ask({"promoteFull": True}, "promoted in full")

    def ask_step(self) -> None:
        """`kubectl argo rollouts promote`, with its three cases."""
        told = status.status_of(self.rollout)
        index = min(int(told.get("currentStepIndex") or 0) + 1, len(steps.steps(self.rollout)))
        waiting = told.get("pauseConditions")
        analysed = ((told.get("canary") or {}).get("currentStepAnalysisRunStatus") or {}).get("status")
        wish: Dict[str, object] = {"pauseConditions": None}
        if waiting and told.get("controllerPause") and analysed == "Inconclusive":
            wish = {**wish, "controllerPause": False, "currentStepIndex": index}
        elif not waiting and steps.canary(self.rollout) is not None:
            wish = {**wish, "currentStepIndex": index}
        self.ask(wish, f"promoted past {steps.share_of(self.rollout):g} %")

    def mark(self, revision: Revision, release: Release, more: Optional[Mapping[str, str]] = None) -> None:
        self.hands.mark(revision, release, more)
        seen = self.view.situation
        releases = tuple(release if known.id == release.id else known for known in seen.releases)
        self.view = replace(self.view, situation=replace(seen, releases=releases))

    # -- waiting

    def follow(self, look: Callable[[Sight], bool], wanted: str) -> None:
        """Until `look` is true. What makes that impossible is journalled as this change's failure, and raised."""
        if self.how.dry:
            return

        def seen(sight: Sight) -> Optional[bool]:
            self.view = sight.view
            return look(sight) or None

        try:
            if self.hands.follow(seen, self.how.timeout) is None:
                told = status.told(self.rollout)
                raise PlaceError(f"{self.hands.target} is not {wanted} after {self.how.timeout:g} s: {told}")
        except PlaceError as problem:
            self._fail(problem.what)
            raise

    def ready(self, sight: Sight) -> bool:
        """Has the controller made our template's pods, or begun to? PlaceError when it cannot get any further."""
        current = sight.view.current
        if self.template is not None and not same_but_false(self.rollout["spec"].get("template"), self.template):
            raise self.hands.overtaken(self.rollout)
        if current and self._stale(current):
            return False
        stops = status.stops(self.rollout)
        if stops:
            self.read_analysis()  # which may know better why
            raise PlaceError(f"{self.hands.target} does not go on: {stops}")
        for pod in sight.pods_of(current) if current else ():
            trouble = trouble_of(pod)
            if trouble:
                raise PlaceError(f"{self.hands.target} cannot be rolled out: {trouble}")
        return status.observed(self.rollout) and current is not None

    def _stale(self, current: Revision) -> bool:
        """Is this the status of before our change? The controller may call a change seen before it has looked at it."""
        if self._left is None or current.uid != self._left.uid or self.template is None:
            return False
        same = images_of(current.template) == images_of(self.template)
        return not same or time.monotonic() - self._put_at < _SETTLING

    def read_analysis(self) -> None:
        """What Argo's own analysis says of the newest template; PlaceError unless it is fine so far."""
        if not self.how.read_analysis or self.how.dry:
            return
        self.analysis = self.hands.analysis(self.rollout)
        for phases, mend in (
            (status.BROKEN, "Go back to the last known good release"),
            (status.UNSURE, "It can tell neither good nor bad: promote a step, or go back"),
        ):
            told = [status.told_analysis(found) for found in self.analysis if found["phase"] in phases]
            if told:
                raise PlaceError("; ".join(told), mend=mend)

    def refresh(self) -> None:
        """Look again, so that the outcome tells the marks just made."""
        if self._actions and not self.how.dry:
            self.view = self.hands.glance()

    def _fail(self, problem: str) -> None:
        ours = journal_of(self.rollout)
        if self._put and ours == self._put[0]:
            journal, release = self._put
            failed = replace(journal, phase=FAILED, problem=problem[:500])
            with suppress(PlaceError):  # somebody else was here meanwhile: the journal is theirs
                self.hands.change(self.rollout, [], workload_marks(failed, journal.token, release))

    def foresee(self, release: Release) -> None:
        """In a dry run: what would be current."""
        seen = self.view.situation
        others = tuple(known for known in seen.releases if known.id != release.id)
        self.view = replace(self.view, situation=replace(seen, current=release.id, releases=(release, *others)))

    # -- what came of it

    def outcome(self) -> ArgoOutcome:
        seen, stable = self.view.situation, self.view.stable
        return ArgoOutcome(
            release=self._release or seen.current,
            before=seen.previous,
            current=seen.current,
            known_good=plan.known_good(self.view.deciding),
            changed=bool(self._actions),
            actions=tuple(self._actions),
            warnings=tuple(self.warnings),
            diff={"before": _shown(self._first), "after": _shown(self.view)},
            took=round(time.monotonic() - self._began, 3),
            stable=stable.id if stable else None,
            share=steps.share_of(self.rollout),
            phase=status.phase(self.rollout),
            message=str(status.status_of(self.rollout).get("message") or ""),
            analysis=tuple(self.analysis),
            more={**self.facts, "requests": self.hands.api.requests},
        )


def _shown(view: ArgoView) -> Dict[str, object]:
    seen = view.situation
    return {
        "current": seen.current,
        "images": images_of(view.workload["spec"].get("template") or {}),
        "share": steps.share_of(view.workload),
        "paused": is_paused(view.workload),
        "known_good": [release.id for release in seen.releases if release.known_good],
        "bad": [release.id for release in seen.releases if release.bad],
    }
