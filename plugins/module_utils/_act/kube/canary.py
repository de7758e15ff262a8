# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategy `canary`: a sibling Deployment runs the new release beside the stable one, with a share of the requests.

The stable Deployment stays as it is until the release gets all of them; then it is brought there by the core backend,
and the sibling goes. A larger share adds pods first and weight then; the way back takes the weight away first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..._errors import OptionError, PlaceError
from ..model import Deploy, Outcome, Promote, Release, Rollback
from .api import NotFound
from .backend import DeploymentBackend
from .beside import Beside, told
from .marks import name_of, notes_of, pending_of
from .names import PREFIX, ROLLOUT, TRACK, path_of
from .route import (
    GROUP,
    ROUTES,
    RouteOption,
    backend_of,
    canary_service,
    change,
    is_split,
    nearest_route,
    restored,
    route_path,
    split,
)
from .sibling import (
    CANARY,
    GREEN,
    Apart,
    Plan,
    apart_of,
    by_replicas,
    by_weight,
    check_ours,
    checked_share,
    is_sibling,
    manifest,
    plain_template,
    pod_labels,
    real_share,
    release_named,
    rollout_of,
    runs,
    selecting,
    sibling_name,
)
from .workload import same, template_of, wanted
from .workload_steps import Steps

Object = Mapping[str, Any]

# on a sibling: which route splits the requests, as kind/name
ROUTE = PREFIX + "route"
_OFF = 5.0  # points of share by which pods may miss what was asked before it is worth a warning


@dataclass(frozen=True)
class CanaryOptions:
    """`share` is the percentage of requests; without a `route` it is made by the number of pods."""

    share: float = 100.0
    route: Optional[RouteOption] = None


class CanaryBackend:
    """See `model.Backend`. With a share of 100 it is the core backend that also takes a canary back in."""

    def __init__(self, steps: Steps, options: CanaryOptions, clock: Callable[[], float] = time.time) -> None:
        self.core = DeploymentBackend(steps, clock)
        self.steps, self.options, self.clock = steps, options, clock
        checked_share(options.share)

    @property
    def facts(self) -> Dict[str, object]:
        return self.core.facts

    def current(self) -> Optional[str]:
        return self.core.current()

    def releases(self) -> Sequence[Release]:
        return self.core.releases()

    def known_good(self) -> Optional[str]:
        return self.core.known_good()

    def mark_good(self, wish: Promote) -> Outcome:
        return self.core.mark_good(wish)

    def deploy(self, wish: Deploy) -> Outcome:
        if self.options.share == 100:
            return self._whole(wish)
        if self.steps.target.kind.kind != "Deployment":
            raise OptionError(
                f"a {self.steps.target.kind.kind} has no canary beside it", mend="Use share: 100 or strategy: rolling"
            )
        if self.options.route and not self.steps.how.wait:
            raise OptionError("a route's weights wait for pods, so wait: false makes no sense with it")
        return self._part(wish)

    def promote(self, wish: Promote) -> Outcome:
        """The canary's own pod template is brought to the stable Deployment, so that what was watched is what runs."""
        if not self._may_stand():
            return self.core.promote(wish)
        with told(self._run(wish.token)) as run:
            found = run.find(strict=False)
            done: List[Outcome] = []
            if found and release_named(found) == wish.release:
                run.expect_base(wish.rollout, wish.release)
                done.append(self._bring(run, found, wish))
            if not (done and self.steps.how.dry):
                done.append(self.core.promote(wish))
            self._clear(run)
            return self._said(run, wish.release, *done)

    def rollback(self, wish: Rollback) -> Outcome:
        """An undo leaves the canary of another rollout alone; who goes back to the known good leaves no canary."""
        if not self._may_stand():
            return self.core.rollback(wish)
        with told(self._run(wish.token)) as run:
            found = run.find(strict=False)
            if wish.undo and found and wish.rollout != rollout_of(found) and wish.leave != release_named(found):
                run.warnings.append(f"{run.own.target} is of rollout {rollout_of(found)}, and was left as it is")
            else:
                run.claim()
                self._clear(run)
            return self._said(run, wish.leave or None, self.core.rollback(wish))

    # -- the whole share

    def _whole(self, wish: Deploy) -> Outcome:
        if not self._may_stand():
            return self.core.deploy(wish)
        with told(self._run(wish.token)) as run:
            run.find(strict=False)
            run.expect_base(wish.rollout, wish.release)
            done = self.core.deploy(wish)
            self._clear(run, wish.release)
            return self._said(run, wish.release, done)

    def _bring(self, run: Beside, found: Object, wish: Promote) -> Outcome:
        """Deploy what the sibling runs to the stable Deployment."""
        release = pending_of(found) or Release(wish.release)
        asked = Deploy(
            release=wish.release,
            version=release.version,
            by=release.by,
            rollback=release.rollback,
            before=wish.before,
            rollout=wish.rollout or rollout_of(found),
            token=wish.token,
        )
        return core_with(self.steps, plain_template(found, run.stable), self.clock).deploy(asked)

    # -- a part of it

    def _part(self, wish: Deploy) -> Outcome:
        warnings = rehearsed(self.steps, wish)
        with told(self._run(wish.token)) as run:
            template = run.wished(wish)
            if run.view.situation.current == wish.release or same(template, template_of(run.stable)):
                return self._whole(wish)
            run.find()
            run.refuse_other(GREEN, "blue_green")
            run.expect_base(wish.rollout, wish.release)
            run.warnings += warnings
            plan, service = self._planned(run, wish, template)
            run.claim()
            if run.found and not runs(run.found, manifest(plan)):
                self._clear(run, left_over=True)
            self._shift(run, plan, service)
            return self._said(run, wish.release)

    def _planned(self, run: Beside, wish: Deploy, template: Object) -> Tuple[Plan, Optional[Object]]:
        """The sibling, and with a route the Service whose requests are split; refuses what cannot be, unchanged."""
        stable, share, route = wanted(run.stable), self.options.share, self.options.route
        if stable < 1:
            raise PlaceError(f"{run.target} wants no pods (replicas 0), so there is nothing to share", details=_SAME)
        services = run.services()
        selected = {name_of(each): each for each in selecting(services.values(), pod_labels(run.stable))}
        if not selected:
            run.warnings.append(f"no Service selects the pods of {run.target}, so nothing shows who gets requests")
        service, apart = None, None
        if route:
            service = selected[backend_of(self._route(run, route), route, selected, str(run.target))]
            apart = apart_of([service], CANARY)
            own = services.get(run.own.target.name)
            if own:
                check_ours({"kind": "Service", **own}, run.stable, CANARY)
            self._leaks(run, selected, apart)
            replicas = by_weight(stable, share)
        else:
            replicas = by_replicas(stable, share)
            real = real_share(stable, replicas)
            if abs(real - share) >= _OFF:
                run.warnings.append(f"{replicas} of {stable + replicas} pods get {real:g} %, not {share:g} %")
        notes = {ROUTE: f"{route.kind}/{route.name}"} if route else {}
        return run.plan(wish, template, replicas, apart, notes), service

    def _shift(self, run: Beside, plan: Plan, service: Optional[Object]) -> None:
        """More share: pods first, then weight. Less: the other way round."""
        share, sibling = self.options.share, manifest(plan)
        if service and run.found and int(run.found["spec"]["replicas"]) > plan.replicas:
            self._weigh(run, plan, service)
        run.stand(sibling)
        run.wait()
        real = share
        if service:
            self._weigh(run, plan, service)
        else:
            real = real_share(wanted(plan.stable), plan.replicas)
        run.settle(real)

    # -- the route

    def _route(self, run: Beside, option: RouteOption) -> Object:
        try:
            return run.api.get(route_path(option, run.target.namespace))
        except NotFound:
            path = path_of(GROUP, ROUTES[option.kind], run.target.namespace)
            raise nearest_route(option, run.target.namespace, lambda: run.api.items(path)) from None

    def _weigh(self, run: Beside, plan: Plan, service: Object) -> None:
        """Let the route give the sibling its share, over a Service of its own."""
        option, share = self.options.route, self.options.share
        if option is None or plan.apart is None:
            return
        self._serve(run, plan, service)
        names = {"workload": run.target.name, "service": name_of(service)}

        def make(now: Object) -> Optional[Mapping[str, Any]]:
            return change(now, split(now, option, **names, canary=run.own.target.name, share=share))

        if run.changed(route_path(option, run.target.namespace), make):
            run.actions.append(f"gave {run.own.target.name} {share:g} % of {option.kind} {option.name}")

    def _serve(self, run: Beside, plan: Plan, service: Object) -> None:
        """The sibling's Service."""
        name, collection = run.own.target.name, path_of("v1", "services", run.target.namespace)
        about = {"labels": {TRACK: CANARY}, "annotations": {ROLLOUT: plan.journal.rollout}}
        wished = canary_service(service, name, plan.apart or apart_of([service], CANARY), plan.stable, about)
        found = run.api.find(f"{collection}/{name}")
        if found is not None:
            check_ours({"kind": "Service", **found}, run.stable, CANARY)
            if found["spec"].get("selector") == wished["spec"]["selector"]:
                return
            run.guard()
            if not run.how.dry:
                run.api.delete(f"{collection}/{name}", uid=str(found["metadata"]["uid"]))
        run.guard()
        if not (found and run.how.dry):
            run.api.create(collection, wished, dry=run.how.dry)
        run.actions.append(f"created Service {name}")

    def _leaks(self, run: Beside, selected: Mapping[str, Object], apart: Apart) -> None:
        labels = {**pod_labels(run.stable), apart.key: apart.value}
        for service in selecting(selected.values(), labels):
            name = name_of(service)
            run.warnings.append(f"Service {name} selects the canary's pods too: its requests pass by the route")

    # -- taking it away

    def _clear(self, run: Beside, release: str = "", *, left_over: bool = False) -> None:
        """Give the share back to the stable pods, then remove what stood beside them."""
        left_over = left_over or bool(run.found and release and release_named(run.found) != release)
        for option in self._routes(run.found):
            self._restore(run, option)
        self._unserve(run)
        run.remove(left_over=left_over)

    def _routes(self, found: Optional[Object]) -> List[RouteOption]:
        """The routes that may be split: the option's, and the one that the sibling was made with."""
        option = self.options.route
        kind, slash, name = notes_of(found or {}).get(ROUTE, "").partition("/")
        used = [RouteOption(name, kind)] if slash and kind in ROUTES else []
        mine = (
            [option] if option and (option.kind, option.name) not in [(each.kind, each.name) for each in used] else []
        )
        return [*used, *mine]

    def _restore(self, run: Beside, option: RouteOption) -> None:
        workload = run.target.name

        def make(now: Object) -> Optional[Mapping[str, Any]]:
            return change(now, restored(now, workload)) if is_split(now, workload) else None

        gone = f"{option.kind} {option.name} is gone, so no weight of it was put back"
        if run.changed(route_path(option, run.target.namespace), make, gone):
            run.actions.append(f"put the weights of {option.kind} {option.name} back")

    def _unserve(self, run: Beside) -> None:
        path = path_of("v1", "services", run.target.namespace, run.own.target.name)
        found = run.api.find(path)
        if found is None or not is_sibling(found, run.stable, CANARY):
            return
        run.guard()
        if not run.how.dry:
            run.api.delete(path, uid=str(found["metadata"]["uid"]))
        run.actions.append(f"removed Service {run.own.target.name}")

    # -- the rest

    def _run(self, token: Optional[int]) -> Beside:
        return Beside(self.steps, CANARY, token, self.clock)

    def _may_stand(self) -> bool:
        """Is there anything beside to care for? A StatefulSet or DaemonSet never has it."""
        if self.steps.target.kind.kind != "Deployment":
            return False
        name = sibling_name(self.steps.target.name)
        return self.options.route is not None or (
            self.steps.api.find(f"{self.steps.target.collection}/{name}") is not None
        )

    def _said(self, run: Beside, release: Optional[str], *others: Outcome) -> Outcome:
        self.core.facts.update(run.facts())
        self.core.facts["requests"] = run.api.requests
        return run.outcome(release, *others)


def rehearsed(steps: Steps, wish: Deploy) -> Tuple[str, ...]:
    """The core backend's warnings; it refuses what it would refuse in the end, before anything is changed."""
    return DeploymentBackend(Steps(steps.api, steps.target, replace(steps.how, dry=True))).deploy(wish).warnings


def core_with(steps: Steps, template: Mapping[str, Any], clock: Callable[[], float]) -> DeploymentBackend:
    """The core backend, to bring exactly this pod template."""
    whole = {"$patch": "replace", **template}
    return DeploymentBackend(Steps(steps.api, steps.target, replace(steps.how, images={}, patch=whole)), clock)


_SAME: Mapping[str, object] = {"changed": False}
