# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch a release until its gates decide. A verdict is data: this task fails only on options that are wrong."""

from __future__ import annotations

import traceback
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import trace
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    LeaseError,
    OptionError,
    StoreError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import ROLLBACK
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.keeper import LeaseKeeper
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.story import went_back
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.bake import HELD, HOLD, PROMOTE, UNDO, BakeReport
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.confirm import SLOTS
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.history import with_history
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Absent
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.ask import Asked, asked
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Sample
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    LEASE_TTL,
    SERVICE,
    ControllerAction,
    Facts,
    actor,
    clock,
    lease_from,
    now,
    places_of,
    plain,
    targets_of,
)
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pods import Crowd, CrowdSource, listers_of
from ansible_collections.selfheal.delivery.plugins.plugin_utils._watch import (
    HISTORY,
    HISTORY_STEP,
    Hands,
    Past,
    Scene,
    Taker,
    Watch,
    confirm,
    verify,
)

STOP = "stop"  # somebody else has the lease: nothing may be changed from here
display = Display()


class ActionModule(ControllerAction):
    SPEC = {
        **SERVICE,
        **LEDGER,
        "lease": {"type": "dict"},
        "rollout": {"type": "str"},
        "phase": {"type": "str", "choices": ["bake", "look", "verify", "confirm"], "default": "bake"},
        "group": {"type": "str", "required": True},
        "release": {"type": "str", "required": True},
        "step": {"type": "dict", "default": {}},
        "policy": {"type": "dict", "required": True},
        "guard": {"type": "dict", "default": {}},
        "lease_ttl": {"type": "float", "default": LEASE_TTL},
        "results": {"type": "dict", "default": {}},
        "confirm_window": {"type": "float", "default": 120.0},
    }
    REQUIRED_IF = (
        ("phase", "bake", ("step", "lease", "rollout")),
        ("phase", "look", ("step", "lease", "rollout")),
        ("phase", "verify", ("lease", "rollout")),
    )

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        policy = parse_policy(plain(options["policy"]), options["service"])
        confirms = options["phase"] == "confirm"  # which only reads, so that a rehearsal asks as well
        if self.checking and not confirms:
            return {
                "changed": False,
                "next": "promote",
                "verdict": "inconclusive",
                "reason": "check",
                "msg": _would(options, policy),
            }
        try:
            return self._looked(options, policy, task_vars)
        except Exception as error:  # whatever it was: a task that fails here would strand every place but the first
            display.vvv(traceback.format_exc())
            unknown = {"confirmed": None} if confirms else {"next": UNDO}
            broke = {"changed": False, **unknown, "verdict": "inconclusive", "reason": "error"}
            if isinstance(error, DeliveryError):
                return {**broke, "msg": error.message}
            # the text of an unexpected error may hold anything, also a URL with a password
            return {**broke, "msg": f"the bake broke: {type(error).__name__}", "trace": trace(error)}

    def _looked(self, options: Facts, policy: Policy, task_vars: Facts) -> Facts:
        places = judged = places_of(options["group"], task_vars)
        window = options["confirm_window"]
        past = (window, window / SLOTS) if options["phase"] == "confirm" else (HISTORY, HISTORY_STEP)
        with ExitStack() as stack:
            ledger = stack.enter_context(closing(ledger_from(options)))
            hands = Hands(ledger, (), say=_say, page=display.warning, ttl=options["lease_ttl"])
            if policy.by_pods:
                listers = listers_of(options["group"], policy, places, task_vars)
                crowd = Crowd(listers, options["release"], _say, switched=_switched(policy))
                judged = [pod for arm in crowd.cast() for pod in arm]
                takers, pasts = self._crowd_sources(policy, crowd, stack, task_vars, past)
                hands = replace(hands, takers=takers, pasts=pasts, cast=crowd.cast)
            elif policy.by_sides:
                from ansible_collections.selfheal.delivery.plugins.plugin_utils import _flag_place as flags

                arms = flags.arms(policy, places[0], plain(options["step"]))
                targets, judged = flags.sides(policy, places[0]), list(arms[0])
                takers, pasts = self._sources(asked(policy, targets), stack, task_vars, past)
                hands = replace(hands, takers=takers, pasts=pasts, cast=lambda: arms)
            else:
                targets = targets_of(options["service"], options["group"], places, task_vars)
                takers, pasts = self._sources(asked(policy, targets), stack, task_vars, past)
                hands = replace(hands, takers=takers, pasts=pasts)
            if options["phase"] == "confirm":
                return _confirmed(hands, policy, judged)
            return self._watch(options, policy, hands, task_vars)

    def _watch(self, options: Facts, policy: Policy, hands: Hands, task_vars: Facts) -> Facts:
        try:
            rollout = hands.ledger.rollout(options["rollout"])
        except StoreError:
            if options["phase"] != "verify":
                raise
            rollout = None
        if options["phase"] == "verify":
            return self._verify(options, policy, hands, rollout, actor(task_vars))
        if rollout is None:
            raise OptionError(f"there is no rollout {options['rollout']!r} in the ledger", mend="Begin it first")
        return self._bake(options, policy, hands, rollout, task_vars)

    def _verify(self, options: Facts, policy: Policy, hands: Hands, rollout: Rollout | None, who: str) -> Facts:
        returned = went_back(options["results"], rollout)
        if not returned:
            return {"changed": False, "verdict": "recovered", "reason": "no place was changed"}
        levels = _levels(rollout)
        if rollout is not None and rollout.kind == ROLLBACK:
            levels = _passed_levels(hands.ledger, rollout.service)
        with LeaseKeeper(lambda: ledger_from(options), lease_from(options["lease"]), ttl=hands.ttl):
            back = hands.cast()[1] if hands.cast else returned
            report = verify(hands, policy, back, levels)
        told = {"rollout": options["rollout"], "places": list(back), **report.as_dict()}
        try:
            hands.ledger.append(options["service"], "verification", who, told, now())
        except StoreError as error:
            display.warning(error.message)  # the rollout's end says it too
        return {"changed": False, **report.as_dict()}

    def _bake(self, options: Facts, policy: Policy, hands: Hands, rollout: Rollout, task_vars: Facts) -> Facts:
        step = plain(options["step"])
        scene = Scene(int(step["index"]), *_arms(hands, step), _routed(policy, step))
        judged, note = policy, ""
        if not scene.baseline:
            judged, note = with_history(policy, _passed_levels(hands.ledger, rollout.service))
            hands.say(f"{policy.service}: no old place is left to compare with; {note}")
        try:
            watch = Watch(hands, judged, rollout, lease_from(options["lease"]), scene)
            report = watch.bake() if options["phase"] == "bake" else watch.once()
        except LeaseError as error:
            return {
                "changed": False,
                "next": STOP,
                "verdict": "inconclusive",
                "reason": "lease_lost",
                "msg": error.message,
            }
        denied = _denied(options, hands, rollout, actor(task_vars)) if report.action == PROMOTE else ""
        return {"changed": False, **_result(report, policy, denied), "took": watch.took, "note": note}

    def _sources(
        self, asks: Sequence[Asked], stack: ExitStack, task_vars: Facts, past: Tuple[float, float]
    ) -> Tuple[List[Taker], List[Past]]:
        """Measure from here, or from the gate host that this task is delegated to, which remembers nothing."""
        if self._connection.transport != "local":
            return [partial(self._from_gate, ask, task_vars) for ask in asks], []
        samplers = [stack.enter_context(ask.sampler()) for ask in asks]
        pasts: List[Past] = [partial(sampler.history, *past) for sampler in samplers]
        return [sampler.sample for sampler in samplers], pasts

    def _crowd_sources(
        self, policy: Policy, crowd: Crowd, stack: ExitStack, task_vars: Facts, past: Tuple[float, float]
    ) -> Tuple[List[Taker], List[Past]]:
        """The same for pods, who are others at each look."""
        sources = [CrowdSource(policy, index, crowd) for index in range(len(asked(policy, crowd.targets())))]
        if self._connection.transport != "local":
            return [partial(self._crowd_from_gate, source, task_vars) for source in sources], []
        for source in sources:
            stack.enter_context(closing(source))
        pasts: List[Past] = [partial(source.history, *past) for source in sources]
        return [source.sample for source in sources], pasts

    def _crowd_from_gate(self, source: CrowdSource, task_vars: Facts) -> Sample:
        return source.seen(self._from_gate(source.ask(), task_vars))

    def _from_gate(self, ask: Asked, task_vars: Facts) -> Sample:
        """A gate host that cannot be reached measures nothing; it does not end the bake."""
        try:
            told: Mapping[str, Any] = self._execute_module(
                module_name="selfheal.delivery.metric_info", module_args=ask.as_options(), task_vars=task_vars
            )
        except AnsibleConnectionFailure as error:
            return Sample(now(), down=Absent("provider_error", f"the gate host cannot be reached: {error.message}"))
        if told.get("failed") or told.get("unreachable"):
            return Sample(now(), down=Absent("provider_error", str(told.get("msg") or "the gate host gave no answer")))
        return Sample.from_dict(plain(told["sample"]))


def _say(line: str) -> None:
    # standard error is live in a pipe, keeps the json callback's output valid, and reaches ansible-runner's events
    display.display(line, stderr=True)


def _denied(options: Facts, hands: Hands, rollout: Rollout, who: str) -> str:
    """Why a rollout whose gates passed, or that a person promoted, may not go on, or ''."""
    policy = parse_guard(plain(options["guard"]), rollout.service)
    try:
        wish = rollouts.widening(rollout, int(options["step"]["index"]), who)
        decision = hands.ledger.check(wish, policy, now=now(), clock=clock())
    except StoreError as error:
        return f"the guard cannot be asked: {error.message}"
    return "" if decision.allowed else decision.message


def _result(report: BakeReport, policy: Policy, denied: str = "") -> Facts:
    result = {**report.as_dict(), "next": report.action, "msg": report.message or report.reason}
    if denied:
        # its gates stay passed: the next look asks the guard again, and goes on when it may
        result.update(next=HOLD, reason="guard", msg=f"{_passed(report)}, but it may not go on: {denied}")
    if result["next"] == HOLD or report.phase == HELD:
        result["hold_until"] = now() + policy.bake.hold_deadline
    return result


def _passed(report: BakeReport) -> str:
    return report.message if report.reason == "promoted" else "its gates passed"


def _levels(rollout: Rollout | None) -> Dict[str, float]:
    """What the baseline showed during the bake, as the rollout's progress keeps it."""
    bake = rollout.progress.get("bake") if rollout is not None else None
    levels = bake.get("levels") if isinstance(bake, Mapping) else None
    return {str(gate): float(level) for gate, level in levels.items()} if isinstance(levels, Mapping) else {}


def _passed_levels(ledger: Ledger, service: str) -> Dict[str, float]:
    """The service's own history: what each gate showed when a bake last passed."""
    for earlier in ledger.last_rollouts(service):
        bake = earlier.outcome.get("bake") if earlier.state == "done" else None
        gates = bake.get("gates") if isinstance(bake, Mapping) else None
        if isinstance(gates, Sequence):
            values = {str(gate["gate"]): gate.get("value") for gate in gates if isinstance(gate, Mapping)}
            return {gate: float(value) for gate, value in values.items() if isinstance(value, (int, float))}
    return {}


def _confirmed(hands: Hands, policy: Policy, places: Sequence[str]) -> Facts:
    try:
        levels = _passed_levels(hands.ledger, policy.service)
    except StoreError as error:
        hands.say(f"the ledger cannot be read, so that the policy's limits alone are asked: {error.what}")
        levels = {}
    answer = confirm(hands, policy, places, levels)
    return {"changed": False, **answer.as_dict(), "msg": f"{policy.service}: {answer.told}"}


def _arms(hands: Hands, step: Mapping[str, Any]) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """The pods that are there now, or the step's places."""
    return hands.cast() if hands.cast else (tuple(step["canary"]), tuple(step["baseline"]))


def _routed(policy: Policy, step: Mapping[str, Any]) -> float | None:
    """The share of requests that routes, or a flag, give the canary, where every place has as many; pods alone share
    them evenly.

    Where Argo makes a weight of whole pods it may be more, which is no mismatch.
    """
    options, shares = policy.plain.get("backend_options"), step.get("shares") or {}
    routed = policy.backend in ("argo_rollout", "flag") or (isinstance(options, Mapping) and options.get("route"))
    if not routed or not shares or _switched(policy):
        return None
    places = [*step["canary"], *step["baseline"]]
    given = [shares.get(place, 100.0 if place in step["canary"] else 0.0) for place in places]
    share = sum(given) / len(given) / 100
    return share if share < 1 else None


def _switched(policy: Policy) -> bool:
    options = policy.plain.get("backend_options")
    return isinstance(options, Mapping) and options.get("strategy") == "blue_green"


def _would(options: Facts, policy: Policy) -> str:
    gates = ", ".join(gate.name for gate in policy.gates)
    places = options["step"].get("canary") or went_back(options["results"], None)
    return f"would watch {gates} on {', '.join(places)} for {policy.bake.min_bake:g}s and more"
