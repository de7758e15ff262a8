# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of a bake: state and lease first, then a look, then a line for whoever reads along.

The verdict is `_judge`'s and the numbers are `_sense`'s; here is only time, the ledger and the order of things. Clock,
sleep and everything that is told come in from outside.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Command, Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.bake import (
    PROMOTE,
    WATCH,
    Bake,
    BakeReport,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.confirm import Confirm, Confirmation
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    Absent,
    Arms,
    Counts,
    GateLook,
    Liveness,
    Look,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.recovery import (
    VERIFYING,
    Recovery,
    RecoveryReport,
    Standing,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.increments import Increments
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Sample

Taker = Callable[[], Sample]
Past = Callable[[], Mapping[str, Sequence[Mapping[str, Counts]]]]
Say = Callable[[str], None]


HISTORY = 1200.0  # seconds of the old release's past from which the gates learn how its errors scatter
HISTORY_STEP = 30.0


@dataclass(frozen=True)
class Hands:
    """What the loop may touch. `takers` are the sources, each giving one sample of all places when called; `pasts` give
    what a source remembers, by gate the increments of each slot of HISTORY_STEP seconds up to now.
    """

    ledger: Ledger
    takers: Sequence[Taker]
    say: Say
    page: Say
    ttl: float
    pasts: Sequence[Past] = ()
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    parent: Callable[[], int] = os.getppid
    # where pods come and go: who has the release now and who has not
    cast: Optional[Callable[[], Tuple[Tuple[str, ...], Tuple[str, ...]]]] = None


@dataclass(frozen=True)
class Scene:
    """Who is on which side during this step."""

    index: int
    canary: Tuple[str, ...]
    baseline: Tuple[str, ...]
    share: Optional[float] = None  # of the requests, 0..1, that the canary is meant to get, where a route sets it


class Eyes:
    """Samples of all sources, turned into one look."""

    def __init__(
        self, takers: Sequence[Taker], states: Sequence[Mapping[str, object]] = (), *, collective: bool = False
    ) -> None:
        self._takers = takers
        self._increments = [Increments(collective=collective) for _taker in takers]
        if len(states) == len(takers):
            for increments, state in zip(self._increments, states):
                increments.restore(state)

    def look(self) -> Tuple[Dict[str, GateLook], Dict[str, Liveness], Optional[Absent]]:
        """What every gate sees and who lives; the third is set when no source at all could be asked."""
        gates: Dict[str, GateLook] = {}
        alive: Dict[str, Liveness] = {}
        down: List[Absent] = []
        for take, increments in zip(self._takers, self._increments):
            sample = take()
            seen, living = increments.take(sample)
            gates.update(seen)
            for place, life in living.items():
                alive.setdefault(place, life)
            if sample.down is not None:
                down.append(sample.down)
        return gates, alive, down[0] if len(down) == len(self._takers) else None

    def reset(self, places: Sequence[str]) -> None:
        """These places run another release from here on."""
        for increments in self._increments:
            for place in places:
                increments.reset(place)

    def state(self) -> List[Mapping[str, object]]:
        return [increments.state() for increments in self._increments]


@dataclass
class Progress:
    """What a rollout's progress holds in the ledger, so that another controller can go on from it."""

    began: Optional[float] = None  # epoch seconds of the first look
    elapsed: float = 0.0  # seconds since then, never falling, whatever the clock does
    step: int = 0
    heard: int = 0  # the last command that was obeyed
    since: Dict[str, float] = field(default_factory=dict)  # place -> elapsed when it was first watched on the release
    bake: Dict[str, object] = field(default_factory=dict)
    eyes: List[Mapping[str, object]] = field(default_factory=list)

    @classmethod
    def of(cls, rollout: Rollout) -> "Progress":
        """The progress as it was stored; what the ledger keeps is what `as_dict` gave it."""
        progress = cls()
        for name in vars(progress):
            if name in rollout.progress:
                setattr(progress, name, rollout.progress[name])
        return progress

    def as_dict(self) -> Dict[str, object]:
        return dict(vars(self))


class Watch:
    """Bakes one step of one rollout."""

    def __init__(self, hands: Hands, policy: Policy, rollout: Rollout, lease: Lease, scene: Scene) -> None:
        self._hands, self._policy, self._rollout, self._lease, self._scene = hands, policy, rollout, lease, scene
        self._born_of = hands.parent()
        self._progress = Progress.of(rollout)
        self._eyes = Eyes(hands.takers, self._progress.eyes, collective=policy.collective)
        steps = rollout.intent.get("steps")
        self._bake = Bake(policy, steps=len(steps) if isinstance(steps, list) else 1)
        if self._progress.bake:
            self._bake.restore(self._progress.bake)

    def bake(self) -> BakeReport:
        """Watch until the step is decided. Raises LeaseError when the lease is lost: then nothing may be changed."""
        self._tick()
        self._begin()
        while True:
            report = self._obey()
            if report is None or report.action == WATCH:
                report = self._look()
            self._hands.say(report.progress)
            if report.page:
                self._hands.page(f"{self._policy.service}: {report.message or report.reason}")
            if report.action != WATCH:
                self._keep()
                return report
            self._pause()

    def once(self) -> BakeReport:
        """A single look at a held rollout, for a controller that comes by on a schedule."""
        self._tick()
        standing = self._bake.report()
        if standing.action == PROMOTE:  # only the guard holds it, and what is over takes neither looks nor commands
            self._keep()
            return standing
        report = self._obey()
        if report is None or report.action == WATCH:
            report = self._look()
        self._hands.say(report.progress)
        self._keep()
        return report

    @property
    def took(self) -> float:
        """Seconds since the rollout's first look, over all steps."""
        return self._progress.elapsed

    def _begin(self) -> None:
        self._recast()
        progress, scene = self._progress, self._scene
        if progress.step == 0:
            self._learn()
        self._welcome()
        progress.step = scene.index
        self._bake.begin_step(scene.index, progress.elapsed, scene.canary, share=scene.share)

    def _recast(self) -> None:
        if self._hands.cast is not None:
            canary, baseline = self._hands.cast()
            self._scene = replace(self._scene, canary=canary, baseline=baseline)

    def _welcome(self) -> None:
        """What is new on the canary's side runs the release from now on."""
        fresh = [place for place in self._scene.canary if place not in self._progress.since]
        self._eyes.reset(fresh)
        self._progress.since.update(dict.fromkeys(fresh, self._progress.elapsed))

    def _learn(self) -> None:
        """Show the gates the past of the places that are still on the old release, where a source remembers it."""
        for past in self._hands.pasts:
            slots = past()
            length = max((len(counts) for counts in slots.values()), default=0)
            for index in range(length):
                seen = {gate: GateLook(counts=counts[index]) for gate, counts in slots.items() if index < len(counts)}
                at = (index - length) * HISTORY_STEP
                self._bake.history(Look(at, Arms((), self._scene.baseline), seen))

    def _tick(self) -> None:
        now = self._hands.clock()
        if self._progress.began is None:
            self._progress.began = now
        self._progress.elapsed = max(self._progress.elapsed, now - self._progress.began)

    def _obey(self) -> Optional[BakeReport]:
        """Write the state and renew the lease, then do what people said since the last look."""
        report = None
        for command in self._keep():
            self._progress.heard = command.seq
            report = self._bake.command(command.command, by=command.by, reason=command.reason)
            if report.action != WATCH:
                break
        return report

    def _keep(self) -> Sequence[Command]:
        if self._hands.parent() != self._born_of:
            raise LeaseError(
                "the ansible-playbook that started this bake is gone, so nobody would act on its verdict",
                mend="playbooks/reconcile.yml goes on from the recorded state",
                service=self._policy.service,
            )
        progress, now = self._progress, self._hands.clock()
        progress.bake, progress.eyes = self._bake.state(), self._eyes.state()
        try:
            self._lease, commands = self._hands.ledger.look(
                self._lease, self._rollout.id, progress.as_dict(), ttl=self._hands.ttl, now=now, after=progress.heard
            )
            return commands
        except StoreError as error:
            if now >= self._lease.expires:
                raise LeaseError(
                    f"the lease ran out while the ledger could not be written: {error.what}",
                    mend=error.mend,
                    service=self._policy.service,
                ) from error
            self._hands.say(f"the ledger cannot be written, watching on until the lease ends: {error.what}")
            return ()

    def _look(self) -> BakeReport:
        self._recast()
        self._welcome()
        gates, alive, down = self._eyes.look()
        self._tick()
        elapsed, warm_up = self._progress.elapsed, self._policy.bake.warm_up
        warming = tuple(p for p in self._scene.canary if elapsed - self._progress.since[p] < warm_up)
        arms = Arms(tuple(p for p in self._scene.canary if p not in warming), self._scene.baseline)
        return self._bake.look(Look(elapsed, arms, gates, alive, warming), source_down=down)

    def _pause(self) -> None:
        """To the next multiple of look_every, so that a slow look does not push all later ones back."""
        every = self._policy.bake.look_every
        passed = self._hands.clock() - (self._progress.began or 0.0)
        self._hands.sleep(every - passed % every)


def verify(hands: Hands, policy: Policy, places: Sequence[str], levels: Mapping[str, float]) -> RecoveryReport:
    """Watch places that went back until it is known whether their gates are good again."""
    eyes = Eyes(hands.takers, collective=policy.collective)
    began = hands.clock()
    recovery = Recovery(policy, places, levels=levels, started=0.0)
    while True:
        gates, alive, down = eyes.look()
        elapsed = max(0.0, hands.clock() - began)
        report = recovery.look(Look(elapsed, Arms(tuple(places), ()), gates, alive), source_down=down)
        hands.say(f"verify {elapsed:3.0f}s of {report.total:.0f}s  {_standings(report.gates)}")
        if report.verdict != VERIFYING:
            return report
        hands.sleep(policy.bake.look_every)


def confirm(hands: Hands, policy: Policy, places: Sequence[str], levels: Mapping[str, float]) -> Confirmation:
    """Ask whether the service is bad now: what the sources remember, and looks where that does not tell."""
    asking = Confirm(policy, places, levels=levels)
    remembered: Dict[str, Sequence[Mapping[str, Counts]]] = {}
    for past in hands.pasts:
        remembered.update(past())
    answer = asking.past(remembered)
    eyes, began = Eyes(hands.takers, collective=policy.collective), hands.clock()
    while answer is None:
        gates, alive, down = eyes.look()
        elapsed = max(0.0, hands.clock() - began)
        answer = asking.look(Look(elapsed, Arms(tuple(places), ()), gates, alive), source_down=down)
        if answer is None:
            hands.say(f"confirm {elapsed:3.0f}s of {policy.bake.verify_for:.0f}s")
            hands.sleep(policy.bake.look_every)
    hands.say(f"confirm {answer.elapsed:3.0f}s  {answer.told}  {_standings(answer.gates)}")
    return answer


def _standings(gates: Sequence[Standing]) -> str:
    shown = (f"{gate.gate} {'?' if gate.value is None else format(gate.value, '.4g')}" for gate in gates)
    return "  ".join(shown)
