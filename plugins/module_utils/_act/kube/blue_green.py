# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy `blue_green`: a second, whole Deployment; Services are switched to it at once, and back at once.

The stable Deployment (blue) is the lasting one. Green has one label of the Services' selectors changed, so that no pod
ever needs a new label: a Service's selector asks for the one value or for the other. Blue keeps the old release until
`keep_for` has passed since the switch; then it is brought to the new one, the Services go back to it, and green goes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ..._errors import OptionError, PlaceError
from ..model import Deploy, Good, Outcome, Promote, Release, Rollback
from .backend import DeploymentBackend
from .beside import told
from .canary import core_with, rehearsed
from .images import running
from .marks import journal_of, notes_of, pending_of, workload_marks
from .revisions import belongs
from .sibling import (
    CANARY,
    GREEN,
    apart_of,
    manifest,
    plain_template,
    release_named,
    rollout_of,
    runs,
)
from .sides import KEEP_UNTIL, Sides
from .workload import same, template_of, wanted
from .workload_steps import Steps

Object = Mapping[str, Any]

_SAME: Mapping[str, object] = {"changed": False}


@dataclass(frozen=True)
class BlueGreenOptions:
    """`keep_for` is in seconds from the switch on; `switch` names the only Service to switch, else it is every one."""

    keep_for: float = 600.0
    switch: str = ""


class BlueGreenBackend:
    """See `model.Backend`. What is current is what the Services send requests to."""

    def __init__(self, steps: Steps, options: BlueGreenOptions, clock: Callable[[], float] = time.time) -> None:
        if steps.target.kind.kind != "Deployment":
            raise OptionError(f"a {steps.target.kind.kind} has no second one beside it", mend="Use strategy: rolling")
        self.core = DeploymentBackend(steps, clock)
        self.steps, self.options, self.clock = steps, options, clock

    @property
    def facts(self) -> Dict[str, object]:
        return self.core.facts

    def current(self) -> Optional[str]:
        return self._run(None).current

    def releases(self) -> Sequence[Release]:
        """The stable Deployment's, and first the green side's, while it is there."""
        run = self._run(None)
        green = pending_of(run.found) if run.found else None
        others = [each for each in run.view.situation.releases if not green or each.id != green.id]
        return [green, *others] if green else others

    def known_good(self) -> Optional[str]:
        return self._run(None).known_good

    def deploy(self, wish: Deploy) -> Outcome:
        if not self.steps.how.wait:
            raise OptionError("strategy blue_green switches what is ready, so wait: false makes no sense with it")
        warnings = rehearsed(self.steps, wish)
        with told(self._run(wish.token)) as run:
            run.find()
            done: List[Outcome] = []
            if run.found and run.promoted:
                if release_named(run.found) == wish.release and run.live:
                    return self._said(run, wish.release)
                run.claim()
                done = self._end(run, wish.token)
            template = run.wished(wish)
            if same(template, template_of(run.stable)):
                done.append(self.core.deploy(wish))
                self._drop(run)
            else:
                run.warnings += warnings
                self._green(run, wish, template)
            return self._said(run, wish.release, *done)

    def promote(self, wish: Promote) -> Outcome:
        with told(self._run(wish.token)) as run:
            if not run.found or release_named(run.found) != wish.release:
                return self._said(run, wish.release, self.core.promote(wish))
            journal = journal_of(run.found)
            if run.view.situation.current != wish.release and not (run.live and journal and journal.settled):
                raise PlaceError(
                    f"cannot promote release {wish.release}: not all Services were switched to {run.own.target.name}",
                    mend="Deploy it again, which ends what was begun",
                    details=_SAME,
                )
            run.claim()
            self._praise(run, wish)
            if self.clock() < run.keep_until:
                return self._said(run, wish.release)
            return self._said(run, wish.release, *self._end(run, wish.token))

    def mark_good(self, wish: Promote) -> Outcome:
        return self.promote(wish)

    def rollback(self, wish: Rollback) -> Outcome:
        """The Services first, which takes one request each and starts no pod; then green goes."""
        with told(self._run(wish.token)) as run:
            left = release_named(run.found) if run.found else ""
            if run.found and not self._leaves(run, wish):
                run.warnings.append(f"{run.own.target} with {left} was left as it is")
                return self._said(run, wish.leave or None)
            blue, live, done = run.view.situation.current, run.live, False
            others: List[Outcome] = []
            if run.found or run.switched:
                run.claim()
                if left and blue == left:  # blue was on its way to the same release
                    others.append(self.core.rollback(wish))
                    done = True
                run.switch_back()
                run.remove()
                done = done or (wish.to in ("", blue) and wish.leave in ("", left) and (live or wish.leave == left))
            if not done:
                others.append(self.core.rollback(wish))
            return self._said(run, wish.leave or None, *others)

    # -- deploying

    def _green(self, run: Sides, wish: Deploy, template: Object) -> None:
        """Let green run the release whole, then switch."""
        run.expect_base(wish.rollout, wish.release)
        run.refuse_other(CANARY, "canary")
        services = run.switchable(self.options.switch)
        apart = apart_of(services, GREEN)
        if wanted(run.stable) < 1:
            raise PlaceError(f"{run.target} wants no pods (replicas 0), so there is nothing to switch", details=_SAME)
        run.leaks(services, apart)
        made = manifest(run.plan(wish, template, wanted(run.stable), apart))
        run.claim()
        if run.found and not runs(run.found, made):
            self._drop(run)
        run.stand(made)
        run.wait()
        run.switch(services, apart)
        known = notes_of(run.found or {}).get(KEEP_UNTIL)
        run.settle(100.0, **{KEEP_UNTIL: known or f"{self.clock() + self.options.keep_for:.3f}"})

    def _drop(self, run: Sides) -> None:
        """Take away what another rollout left over."""
        run.switch_back()
        run.remove(left_over=True)

    # -- promoting

    def _praise(self, run: Sides, wish: Promote) -> None:
        """Mark green's release as known good, on green itself, and tell what runs."""
        release, journal = pending_of(run.found or {}), journal_of(run.found or {})
        if run.found is None or release is None or journal is None:
            return
        template, seen = plain_template(run.found, run.stable), run.own.look()
        pods = [pod for pod in run.own.pods() if seen.current and belongs(pod, seen.current)]
        self.core.facts.update(template=template, images=running(template, pods))
        good = release.known_good
        if good is None or (wish.rollout and good.rollout != wish.rollout):
            marked = replace(release, known_good=Good(self.clock(), wish.rollout), bad=None)
            run.patch([], workload_marks(journal, wish.token, marked))
            run.actions.append(f"marked {release.id} as known good")

    def _end(self, run: Sides, token: Optional[int]) -> List[Outcome]:
        """Bring blue to green's release, send the requests back to it, mark it, and let green go."""
        green = run.found or {}
        release, rollout = pending_of(green) or Release(release_named(green)), rollout_of(green)
        run.expect_base(rollout, release.id)
        asked = Deploy(
            release.id, version=release.version, by=release.by, rollback=release.rollback, rollout=rollout, token=token
        )
        done = [core_with(self.steps, plain_template(green, run.stable), self.clock).deploy(asked)]
        run.switch_back()
        if not run.how.dry:
            good = release.known_good.rollout if release.known_good else rollout
            done.append(self.core.promote(Promote(release.id, rollout=good, token=token)))
        run.remove()
        if not run.how.dry:
            run.look()
        return done

    # -- the rest

    def _leaves(self, run: Sides, wish: Rollback) -> bool:
        """Does going back mean leaving green?"""
        green = run.found or {}
        release = release_named(green)
        mine = release == wish.leave or (bool(wish.rollout) and rollout_of(green) == wish.rollout)
        if wish.undo or wish.to == release:
            return mine and wish.to != release
        return mine or bool(wish.to) or not run.promoted

    def _run(self, token: Optional[int]) -> Sides:
        run = Sides(self.steps, GREEN, token, self.clock)
        run.look()
        return run

    def _said(self, run: Sides, release: Optional[str], *others: Outcome) -> Outcome:
        outcome = run.outcome(release, *others)
        self.core.facts.update(run.facts(), requests=run.api.requests)
        return replace(outcome, before=run.before, current=run.current, known_good=run.known_good)
