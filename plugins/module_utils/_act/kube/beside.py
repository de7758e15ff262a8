# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hands of one change to a place that has, or gets, a second Deployment beside the stable one.

The stable Deployment carries the highest fencing token: it is read again before every change of anything else, and
each change is pinned on what was seen of the thing itself. So whoever was overtaken changes nothing any more.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Set, TypeVar

from ..._errors import DeliveryError, PlaceError
from .. import plan
from ..model import DEPLOYED, FAILED, RESTARTING, SETTLED, Deploy, Journal, Outcome, Release, Situation
from .api import JSON_PATCH, MERGE, Conflict
from .follow import Follow, State
from .images import change_of
from .marks import journal_of, name_of, notes_of, owner_uid, pending_of, token_of, workload_marks
from .names import PREFIX, ROLLOUT, TOKEN, path_of
from .sibling import BASE, Apart, Plan, base_of, check_ours, is_sibling, release_named, rollout_of, sibling_name
from .workload import last_change, pins, pointer, selector_of, template_of
from .workload_steps import Steps

Object = Mapping[str, Any]

Run = TypeVar("Run", bound="Beside")

# on a sibling: the share that it was given last, in percent
SHARE = PREFIX + "share"
_TRIES = 5  # to change an object whose controller writes to it, too
_LEAVING = 30.0  # seconds for removed pods to be told to end


class Beside:
    """`steps` are the stable Deployment's hands, `track` is what the second one, `found`, is for."""

    def __init__(self, steps: Steps, track: str, token: Optional[int], clock: Callable[[], float] = time.time) -> None:
        self.steps, self.track, self.token, self.clock = steps, track, token, clock
        self.api, self.target, self.how = steps.api, steps.target, steps.how
        self.own = Steps(self.api, replace(self.target, name=sibling_name(self.target.name, track)), self.how)
        self.view = steps.look()
        plan.fence(self.view.situation, token)
        self.found: Optional[Dict[str, Any]] = None
        self.actions: List[str] = []
        self.warnings: List[str] = []
        self._kept = False
        self._first = self.view.situation
        self._began = time.monotonic()

    # -- looking

    @property
    def stable(self) -> Object:
        return self.view.workload

    def find(self, *, strict: bool = True) -> Optional[Object]:
        """What stands beside, when it is ours. One that is not is refused, or left alone unless `strict`."""
        found = self.api.find(self.own.target.path)
        if found is not None:
            found = {"kind": self.target.kind.kind, **found}
            if strict:
                check_ours(found, self.stable, self.track)
            elif not is_sibling(found, self.stable, self.track):
                self.warnings.append(f"{self.own.target} is not ours, and was left as it is")
                found = None
        if found is not None and found["metadata"].get("deletionTimestamp"):
            self._await_gone()
            found = None
        self.found = found
        return found

    def _await_gone(self) -> None:
        """Somebody removes it, pods first (`kubectl delete --cascade=foreground`): until then its name is taken."""
        lists = {"own": (self.own.target.collection, {"fieldSelector": f"metadata.name={self.own.target.name}"})}
        with Follow(self.api, lists) as follow:
            if not self.how.dry and not follow.until(lambda state: None if state["own"] else True, self.how.timeout):
                raise PlaceError(
                    f"{self.own.target} is being removed, and is still there after {self.how.timeout:g} s",
                    mend="See what holds it (its finalizers, its pods), and run this again",
                )

    def services(self) -> Dict[str, Object]:
        """The namespace's Services by name."""
        return {name_of(each): each for each in self.api.items(path_of("v1", "services", self.target.namespace))}

    def expect_base(self, rollout: str, release: str) -> None:
        """Conflict when somebody deployed to the stable Deployment since this rollout began."""
        if self.found is None or not rollout or rollout_of(self.found) != rollout:
            return
        if self.view.situation.current == release or notes_of(self.found).get(BASE) == base_of(self.stable):
            return
        raise Conflict(
            f"{self.target} was changed {last_change(self.stable)}, after {self.own.target.name} was made of it,"
            " and nothing was overwritten",
            mend="Undo this rollout, which removes what stands beside, and begin again",
            details={"changed": False, "current": self.view.situation.current},
        )

    def refuse_other(self, track: str, strategy: str) -> None:
        """PlaceError while another strategy has something beside."""
        name = sibling_name(self.target.name, track)
        found = self.api.find(f"{self.target.collection}/{name}")
        if found is not None and is_sibling(found, self.stable, track):
            raise PlaceError(
                f"Deployment {name} of {_rollout(rollout_of(found))} stands beside {self.target}",
                mend=f"End that rollout first, with strategy: {strategy} and state: promoted or known_good",
                details={"changed": False},
            )

    # -- planning

    def wished(self, wish: Deploy) -> Dict[str, Any]:
        """The pod template that the stable Deployment would have with the release, as the API server says."""
        body = change_of(template_of(self.stable), self.how.images, self.how.patch, wish.release)
        return self.steps.preview(body) if body else template_of(self.stable)

    def plan(
        self,
        wish: Deploy,
        template: Object,
        replicas: int,
        apart: Optional[Apart],
        notes: Optional[Mapping[str, str]] = None,
    ) -> Plan:
        """The sibling that is to run the release."""
        now = self.clock()
        release = Release(
            id=wish.release,
            version=wish.version or wish.release,
            deployed_at=now,
            by=wish.by,
            complete=True,
            rollback=wish.rollback or "allowed",
        )
        before = wish.before or self.view.situation.current
        journal = Journal(DEPLOYED, before, wish.release, RESTARTING, now, wish.rollout, wish.token)
        return Plan(self.stable, template, replicas, release, journal, wish.token, self.track, apart, notes or {})

    # -- fencing

    def claim(self) -> None:
        """Remember our token, the highest, before anything is changed."""
        if self.token is None or self.token == self.view.situation.token:
            return
        workload = self.steps.apply(self.view, template_of(self.stable), {TOKEN: str(self.token)})
        self.view = replace(self.view, workload={**self.stable, **workload})

    def guard(self) -> None:
        """FencedError when a newer holder has been here."""
        self.how.checkpoint("changing")
        if self.token is not None and not self.how.dry:
            seen = token_of(self.api.get(self.target.path))
            plan.fence(Situation(current=self.view.situation.current, token=seen), self.token)

    # -- changing

    def stand(self, wanted: Mapping[str, Any]) -> None:
        """Let there be a sibling as `wanted`, which may be of another size or rollout than the one that is there."""
        replicas, release = int(wanted["spec"]["replicas"]), release_named(wanted)
        pods = f"{replicas} pod{'s' * (replicas != 1)}"
        name = self.own.target.name
        if self.found is None:
            self.guard()
            # in a rehearsal, what would have been removed is still there
            made = wanted if self._kept else self.api.create(self.own.target.collection, wanted, dry=self.how.dry)
            self.found = {"kind": self.target.kind.kind, **made}
            self.actions.append(f"created {name} with {pods} of {release}")
            return
        notes, before = notes_of(wanted), int(self.found["spec"]["replicas"])
        if before == replicas and rollout_of(self.found) == notes[ROLLOUT] and token_of(self.found) == self.token:
            return
        if rollout_of(self.found) != notes[ROLLOUT]:
            self.actions.append(f"adopted {name} of {_rollout(rollout_of(self.found))}, which runs {release}")
        self.patch([{"op": "replace", "path": "/spec/replicas", "value": replicas}], notes)
        if before != replicas:
            self.actions.append(f"scaled {name} from {before} to {pods} of {release}")

    def wait(self) -> None:
        """Until the sibling is rolled out; PlaceError says why it cannot be."""
        if self.found is None or self.how.dry or not self.how.wait:
            return
        self.own.look()
        try:
            self.own.wait(template_of(self.found), lambda revision: None)
        except PlaceError as error:
            journal = journal_of(self.found)
            if journal:
                with suppress(PlaceError):
                    self.note(replace(journal, phase=FAILED, problem=error.what[:500]))
            error.mend = error.mend or f"{self.target} was not touched; undo removes {self.own.target.name}"
            error.args = (error.message,)
            raise

    def settle(self, share: Optional[float] = None, **more: str) -> None:
        """Write down that the sibling is what it is to be, when that is not known yet."""
        if self.how.dry:
            return
        journal = journal_of(self.found or {})
        notes = {**more, **({SHARE: f"{share:g}"} if share is not None else {})}
        known = notes_of(self.found or {})
        if journal and not (journal.settled and all(known.get(key) == value for key, value in notes.items())):
            self.note(replace(journal, phase=SETTLED, problem=""), **notes)

    def note(self, journal: Journal, **notes: str) -> None:
        """The sibling's journal, and the token that it was written with."""
        self.patch([], {**workload_marks(journal, self.token, pending_of(self.found or {})), **notes})

    def patch(self, operations: Sequence[Mapping[str, object]], notes: Mapping[str, str]) -> None:
        """Change the sibling, pinned on what was seen of it."""
        found = self.found or {}
        tests = [{"op": "test", "path": path, "value": value} for path, value in pins(found)]
        added = [{"op": "add", "path": pointer(key), "value": value} for key, value in notes.items()]
        self.guard()
        try:
            changed = self.api.patch(self.own.target.path, [*tests, *operations, *added], JSON_PATCH, dry=self.how.dry)
        except PlaceError as error:
            if error.details.get("status") not in (409, 422):
                raise
            what = f"{self.own.target} was changed since it was looked at: {error.what}"
            raise Conflict(what, mend="Look at what changed and run it again") from None
        self.found = {**found, **changed}

    def remove(self, *, left_over: bool = False) -> None:
        """Take the sibling away, and see its pods leave."""
        if self.found is None:
            return
        owners = self._owners()
        self.guard()
        self._kept = self.how.dry
        if not self.how.dry:
            self.api.delete(self.own.target.path, uid=str(self.found["metadata"]["uid"]))
            self._left(owners)
        left = f", left over from {_rollout(rollout_of(self.found))}" if left_over else ""
        self.actions.append(f"removed {self.own.target.name} with {release_named(self.found)}{left}")
        self.found = None

    def changed(
        self, path: str, make: Callable[[Object], Optional[Mapping[str, Any]]], missing: Optional[str] = None
    ) -> bool:
        """Merge-patch an object that others write to, as `make` says of what it is now; False when there is nothing.

        `make` pins its patch on the resourceVersion. `missing` is the warning for an object that is gone.
        """
        for attempt in range(_TRIES):
            now = self.api.find(path) if missing else self.api.get(path)
            if now is None:
                self.warnings.append(str(missing))
                return False
            patch = make(now)
            if patch is None:
                return False
            self.guard()
            try:
                self.api.patch(path, patch, MERGE, dry=self.how.dry)
                return True
            except Conflict:  # a controller writes its status
                if attempt == _TRIES - 1:
                    raise
        return False

    def _owners(self) -> Set[str]:
        """The uids of the sibling's ReplicaSets."""
        found = self.found or {}
        sets = self.api.items(self.own.target.revisions, labelSelector=selector_of(found))
        return {str(each["metadata"]["uid"]) for each in sets if owner_uid(each) == found["metadata"]["uid"]}

    def _left(self, owners: Set[str]) -> None:
        """Wait until no pod of these ReplicaSets lives: requests no longer go to one that was told to end."""

        def look(state: State) -> Optional[bool]:
            pods = [pod for pod in state["pods"].values() if owner_uid(pod) in owners]
            return None if any(not pod["metadata"].get("deletionTimestamp") for pod in pods) else True

        lists = {"pods": (self.target.pods, {"labelSelector": selector_of(self.found or {})})}
        with Follow(self.api, lists) as follow:
            if owners and not follow.until(look, min(_LEAVING, self.how.timeout)):
                self.warnings.append(f"pods of {self.own.target.name} are still there: the cluster is slow to end them")

    # -- telling

    def outcome(self, release: Optional[str], *others: Outcome) -> Outcome:
        """What came of it, together with what the core did, in the order given."""
        seen = self.view.situation
        mine = Outcome(
            release=release,
            before=seen.previous,
            current=seen.current,
            known_good=plan.known_good(seen),
            changed=bool(self.actions),
            actions=tuple(self.actions),
            warnings=tuple(self.warnings),
            diff={"before": {"current": self._first.current}, "after": {"current": seen.current, **self.facts()}},
            took=round(time.monotonic() - self._began, 3),
        )
        return merged(mine, *others)

    def facts(self) -> Dict[str, object]:
        """What stands beside, JSON-safe."""
        return {self.track: side_facts(self.found)} if self.found else {}


def side_facts(sibling: Object) -> Dict[str, object]:
    """`{name, release, rollout, replicas, share, settled}` of what stands beside; share in percent, or None."""
    journal, share = journal_of(sibling), notes_of(sibling).get(SHARE, "")
    return {
        "name": name_of(sibling),
        "release": release_named(sibling),
        "rollout": rollout_of(sibling),
        "replicas": int(sibling["spec"].get("replicas", 1)),
        "share": float(share) if share.replace(".", "", 1).isdecimal() else None,
        "settled": bool(journal and journal.settled),
    }


def merged(mine: Outcome, *others: Outcome) -> Outcome:
    """One outcome of several: of the core's (the last one) where the stable Deployment is, with everybody's actions."""
    if not others:
        return mine
    last = others[-1]
    return replace(
        last,
        release=mine.release or last.release,
        changed=mine.changed or any(each.changed for each in others),
        actions=(*(action for each in others for action in each.actions), *mine.actions),
        warnings=tuple(dict.fromkeys((*(told for each in others for told in each.warnings), *mine.warnings))),
        diff={**last.diff, "before": others[0].diff.get("before", {})},
        took=mine.took,
    )


@contextmanager
def told(run: Run) -> Iterator[Run]:
    """Let every error carry what was done until then."""
    try:
        yield run
    except DeliveryError as problem:
        problem.details = {**run.outcome(None).as_dict(), **problem.details}
        problem.details["changed"] = bool(run.actions) or problem.details.get("changed") is True
        raise


def _rollout(rollout: str) -> str:
    return f"rollout {rollout}" if rollout else "an earlier run"
