# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bake: gates watched over time until a verdict. A state machine that is fed looks and resumes from JSON.

A bake fails at the first gate that fails, and passes when every gate passes at the same look, not before `min_bake`
seconds of its step and not while a place is still warming up. What is neither by the deadline is undecided, and
`on_undecided` decides: an inconclusive bake never promotes by itself. One set of gates lives through all steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .._errors import DeliveryError, OptionError, nearest
from . import stored
from .alive import AliveGate
from .burn_rate import BurnRateGate
from .gate import Gate
from .model import FAIL, INCONCLUSIVE, PASS, Absent, GateLook, Look, Verdict
from .progress import line
from .ranks import RanksGate
from .ratio import RatioGate
from .recovery import Tally, ratio_spec, standing
from .share import ShareGate
from .spec import BurnRule, GateSpec, Policy, RanksRule, RatioRule, ValueRule
from .value import ValueGate, absence

WATCHING = "watching"
PASSED = "passed"
FAILED = "failed"
UNDECIDED = "undecided"
HELD = "held"
OVER = (PASSED, FAILED, UNDECIDED)

# what the caller does next
WATCH = "watch"
PROMOTE = "promote"
UNDO = "undo"
HOLD = "hold"

COMMANDS = ("hold", "resume", "promote", "abort")
STALE = 60.0  # seconds: a pass does not outlive longer silence, and a longer gap between two looks is not watching
PAGE_LOOKS = 3  # looks in a row without the source before somebody is paged
# an inconclusive bake has the reason of the gate that is worst off
_WORST_FIRST = ("provider_error", "query_error", "share_mismatch", "no_data", "low_sample", "undecided")


@dataclass(frozen=True)
class BakeReport:
    """Where the bake stands. `elapsed` of `total` are watched seconds of this step.

    `phase`: watching, passed, failed, undecided or held. `action`, what the caller does next: watch (look again),
    promote, undo, or hold (leave the places as they are and end the play). `gate` is the gate that decided; `reason`
    its reason, an inconclusive reason, or held, promoted, aborted, hold_deadline. `page` is True at the one look at
    which somebody has to be told.
    """

    step: int
    steps: int
    elapsed: float
    total: float
    phase: str
    verdict: str
    action: str
    reason: str = ""
    gate: str = ""
    message: str = ""
    page: bool = False
    gates: Tuple[Verdict, ...] = ()
    progress: str = ""

    def as_dict(self) -> Dict[str, object]:
        return {
            "step": self.step,
            "steps": self.steps,
            "elapsed": self.elapsed,
            "total": self.total,
            "phase": self.phase,
            "verdict": self.verdict,
            "action": self.action,
            "reason": self.reason,
            "gate": self.gate,
            "message": self.message,
            "page": self.page,
            "gates": [gate.as_dict() for gate in self.gates],
            "progress": self.progress,
        }


def build_gates(policy: Policy, deadline: float) -> List[Gate]:
    """The policy's gates, ready for their first look; α is split evenly over those that fail by the sequential test.

    `deadline` is how many seconds the whole rollout may be watched, all steps together.
    """
    return [_build(policy, gate, deadline) for gate in policy.gates]


def _build(policy: Policy, gate: GateSpec, deadline: float) -> Gate:
    if isinstance(gate.rule, ValueRule):
        return ValueGate(gate.name, gate.rule)
    if isinstance(gate.rule, RanksRule):
        return RanksGate(gate.name, gate.rule, deadline=deadline)
    if isinstance(gate.rule, BurnRule):
        return BurnRateGate(gate.name, gate.rule, deadline=policy.bake.deadline)
    return RatioGate(ratio_spec(policy, gate))


class Bake:
    """One rollout's bake. `steps` is how many steps there are, for the progress line and the ranks gates' horizon."""

    def __init__(self, policy: Policy, *, steps: int = 1) -> None:
        self.policy = policy
        self.steps = steps
        self._gates = build_gates(policy, policy.bake.deadline * steps)
        self._alive = AliveGate()
        self._share = ShareGate()
        self._counted = next((gate.name for gate in policy.gates if isinstance(gate.rule, (RatioRule, BurnRule))), "")
        self._heard: Dict[str, float] = {}  # gate -> when it last had data
        self._levels: Dict[str, float] = {}  # gate -> the baseline's last figure
        self._told: Tuple[Verdict, ...] = ()
        self._step = 0
        self._started = 0.0
        self._last: Optional[float] = None
        self._phase = WATCHING
        self._watched = 0.0
        self._until = policy.bake.deadline
        self._extended = False
        self._cause = ""  # of the hold: person, source, undecided or weak
        self._held_since: Optional[float] = None
        self._calm: Optional[Tally] = None
        self._silent = 0
        self._reason = ""
        self._gate = ""
        self._message = ""
        self._action = WATCH
        self._page = False

    def begin_step(self, index: int, elapsed: float, places: Sequence[str], *, share: Optional[float] = None) -> None:
        """Step `index` (from 1) begins, with the new release on `places`; gates keep what they have learnt.

        A step that is already under way goes on as it is: time nobody watched does not count, a hold stays. `share` is
        the canary's intended share of requests, 0..1, where places do not share them evenly.
        """
        if not places:
            raise DeliveryError(
                f"step {index}: a bake over no place would watch nothing",
                mend="Put the release on at least one place that can be measured",
                service=self.policy.service,
            )
        if self._action == UNDO:
            raise DeliveryError(
                f"this bake is over ({self._phase}): no further step begins", service=self.policy.service
            )
        self._last = elapsed if self._last is None else max(self._last, elapsed)
        self._share.intended = share
        if index == self._step and self._phase not in OVER:
            return
        self._step, self._started = index, elapsed
        self._phase, self._action = WATCHING, WATCH
        self._watched, self._until, self._extended = 0.0, self.policy.bake.deadline, False
        self._cause, self._calm, self._held_since = "", None, None
        self._reason = self._gate = self._message = ""

    def history(self, look: Look) -> None:
        """A look from before the release: the gates learn what the old release does. Its arms have no canary."""
        for gate in self._gates:
            gate.observe(look.gates.get(gate.name, GateLook()), replace(look.arms, canary=()), look.elapsed)

    def levels(self) -> Dict[str, float]:
        """The baseline's last figure of each gate that had one, for `Recovery`."""
        return dict(self._levels)

    def look(self, look: Look, source_down: Optional[Absent] = None) -> BakeReport:
        """Take in one look and say where the bake stands. With `source_down`, the look says nothing but the time."""
        if not self._step:
            raise DeliveryError("a bake looks only after its first step began", service=self.policy.service)
        if self._phase in OVER:
            raise DeliveryError(f"this bake is over: {self._phase}", service=self.policy.service)
        last = look.elapsed if self._last is None else self._last
        if look.elapsed < last:
            raise DeliveryError(
                f"this look is from {look.elapsed:g}s, but the bake has seen {last:g}s", service=self.policy.service
            )
        if self._phase == WATCHING:
            self._watched += min(look.elapsed - last, max(STALE, 2 * self.policy.bake.look_every))
        self._last, self._page = look.elapsed, False
        self._told = self._silence(source_down) if source_down is not None else self._observe(look)
        self._decide(look, source_down)
        return self.report()

    def _observe(self, look: Look) -> Tuple[Verdict, ...]:
        self._silent = 0
        told = [self._alive.observe(look)]
        if self._counted:
            told.append(self._share.observe(look.gates.get(self._counted, GateLook()), look.arms, look.elapsed))
        for gate in self._gates:
            measured = look.gates.get(gate.name, GateLook())
            verdict = self._fresh(gate.observe(measured, look.arms, look.elapsed), measured, look)
            if verdict.baseline is not None:
                self._levels[gate.name] = verdict.baseline
            if self._calm is not None:
                self._calm.add(gate.name, measured, look.arms.canary, look.arms.baseline, latest=False)
            told.append(verdict)
        return tuple(told)

    def _fresh(self, verdict: Verdict, measured: GateLook, look: Look) -> Verdict:
        """The gate's verdict, but no pass that stands on old data: silence never passes."""
        if any(place in measured.counts or place in measured.values for place in look.arms.canary):
            self._heard[verdict.gate] = look.elapsed
            return verdict
        missing = absence(measured, look.arms.canary)
        said = any(place in measured.absent for place in look.arms.canary)
        old = look.elapsed - self._heard.get(verdict.gate, -STALE) >= STALE
        if verdict.verdict == FAIL or not (said or old):
            return verdict
        return replace(verdict, verdict=INCONCLUSIVE, reason=missing)

    def _silence(self, down: Optional[Absent]) -> Tuple[Verdict, ...]:
        self._silent += 1
        names = [gate.name for gate in self._gates]
        before = {verdict.gate: verdict for verdict in self._told}
        why = {} if down is None else {"detail": down.detail}
        blank = (before.get(name, Verdict(INCONCLUSIVE, name)) for name in [self._alive.name] + names)
        return tuple(
            replace(verdict, verdict=INCONCLUSIVE, reason="provider_error", evidence={**verdict.evidence, **why})
            for verdict in blank
        )

    def _decide(self, look: Look, source_down: Optional[Absent]) -> None:
        fails = [verdict for verdict in self._told if verdict.verdict == FAIL]
        failed = next((verdict for verdict in fails if not self._wants_a_person(verdict)), None)
        if failed is not None:
            return self._end(FAILED, UNDO, failed.reason, f"{failed.gate} failed: {failed.reason}", gate=failed.gate)
        if self._phase == HELD and self._held_for(look.elapsed) >= self.policy.bake.hold_deadline:
            self._page = True
            held = f"held for {self.policy.bake.hold_deadline:g}s without a decision: {self._message}"
            return self._end(UNDECIDED, UNDO, "hold_deadline", held)
        if source_down is not None:
            return self._hold_for_source(source_down)
        if self._phase == HELD and self._cause == "source":
            self._go_on()
            self._held_since = None
        if self._cause == "person":
            return None
        if fails:
            return self._hold_weak(fails[0], look.elapsed)
        passes = all(verdict.verdict == PASS for verdict in self._told)
        if passes and look.arms.canary and not look.warming and self._watched >= self.policy.bake.min_bake:
            return self._end(PASSED, PROMOTE, "", "all gates pass")
        worst, gate = self._worst()
        self._reason, self._gate = worst, gate
        if self._phase == HELD:
            return self._resume_when_calm(look.elapsed)
        return self._at_deadline(worst, look.elapsed) if self._watched >= self._until else None

    def _end(self, phase: str, action: str, reason: str, message: str, *, gate: str = "") -> None:
        self._phase, self._action, self._cause = phase, action, ""
        self._reason, self._gate, self._message = reason, gate, message

    def _hold(self, cause: str, elapsed: float, reason: str, message: str) -> None:
        if self._held_since is None:
            self._held_since = elapsed
        self._phase, self._cause = HELD, cause
        self._reason, self._message = reason, message

    def _hold_for_source(self, down: Absent) -> None:
        if self._phase != HELD:
            self._hold(
                "source", self._last or 0.0, "provider_error", f"the source is down: {down.detail or down.reason}"
            )
        self._page = self._page or self._silent == PAGE_LOOKS

    def _wants_a_person(self, verdict: Verdict) -> bool:
        """Few baseline places know badly how errors scatter, so `on_weak: hold` asks before a comparison undoes."""
        weak = bool(verdict.evidence.get("weak")) and verdict.reason == "worse_than_baseline"
        return weak and self.policy.bake.on_weak == "hold"

    def _hold_weak(self, verdict: Verdict, elapsed: float) -> None:
        self._page = self._cause != "weak"
        self._gate = verdict.gate
        self._hold(
            "weak", elapsed, verdict.reason, f"{verdict.gate} fails against few baseline places: promote or abort"
        )

    def _held_for(self, elapsed: float) -> float:
        return 0.0 if self._held_since is None else elapsed - self._held_since

    def _go_on(self) -> None:
        self._phase, self._cause, self._calm = WATCHING, "", None
        self._reason = self._gate = self._message = ""

    def _worst(self) -> Tuple[str, str]:
        open_gates = [verdict for verdict in self._told if verdict.verdict != PASS]
        for reason in _WORST_FIRST:
            gate = next((verdict.gate for verdict in open_gates if verdict.reason == reason), None)
            if gate is not None:
                return reason, gate
        return "undecided", open_gates[0].gate if open_gates else ""

    def _at_deadline(self, worst: str, elapsed: float) -> None:
        """The time is up without a verdict: extend once for want of data, else do as `on_undecided` says.

        `pass` says nothing about a canary that is down or that nobody could measure, and nothing at all is decided
        while a source is away: such a canary is held.
        """
        bake = self.policy.bake
        if worst in ("low_sample", "no_data") and bake.extend > 0 and not self._extended:
            self._extended, self._until = True, self._until + bake.extend
            self._message = f"extended by {bake.extend:g}s: {self._gate} has {worst.replace('_', ' ')}"
            return
        message = f"undecided after {self._watched:g}s: {self._gate} is {worst.replace('_', ' ')}"
        sighted = worst in ("low_sample", "undecided") and self._told[0].verdict == PASS
        blind = worst == "provider_error" or (bake.on_undecided == "pass" and not sighted)
        if bake.on_undecided == "hold" or blind:
            self._page = True
            self._calm = Tally(elapsed)
            self._hold("undecided", elapsed, worst, message)
        else:
            action = PROMOTE if bake.on_undecided == "pass" else UNDO
            self._end(UNDECIDED, action, worst, message, gate=self._gate)

    def _resume_when_calm(self, elapsed: float) -> None:
        """A held rollout goes on watching when every gate stayed under its lower threshold for `resume_after`."""
        bake, calm = self.policy.bake, self._calm
        if calm is None or elapsed - calm.since < bake.resume_after:
            return
        stood = (standing(self.policy, gate, calm, factor=bake.resume_below) for gate in self.policy.gates)
        if all(gate.good for gate in stood):
            self._resume(f"resumed: every gate stayed low for {bake.resume_after:g}s")
        else:
            self._calm = Tally(elapsed)

    def _resume(self, message: str) -> None:
        """Watch on, with time enough for a verdict. What counts for `hold_deadline` began with the first hold."""
        self._go_on()
        self._message = message
        if self._watched >= self._until:
            self._until = self._watched + (self.policy.bake.extend or self.policy.bake.deadline)

    def command(self, name: str, *, by: str, reason: str = "") -> BakeReport:
        """A person's hold, resume, promote (which needs a reason) or abort. Takes effect at once; refused when over."""
        if name not in COMMANDS:
            raise OptionError(f"unknown command {name!r}{nearest(name, COMMANDS)}", mend=f"Use {', '.join(COMMANDS)}")
        if self._phase in OVER:
            raise DeliveryError(f"{name}: this bake is over: {self._phase}", service=self.policy.service)
        self._page = False  # the look before has paged already
        why = f" by {by}" + (f": {reason}" if reason else "")
        if name == "hold":
            self._calm = None
            self._hold("person", self._last or 0.0, "held", f"held{why}")
        elif name == "resume" and self._phase == HELD:
            self._resume(f"resumed{why}")
            self._held_since = None
        elif name == "promote":
            if not reason:
                raise OptionError("promote needs a reason", mend="Say why, it goes into the ledger")
            self._end(PASSED, PROMOTE, "promoted", f"promoted{why}")
        elif name == "abort":
            self._end(FAILED, UNDO, "aborted", f"aborted{why}")
        return self.report()

    def report(self) -> BakeReport:
        """Where the bake stands since its last look or command."""
        report = BakeReport(
            step=self._step,
            steps=max(self.steps, self._step),
            elapsed=self._watched,
            total=self._until,
            phase=self._phase,
            verdict=self._verdict(),
            action=self._next(),
            reason=self._reason,
            gate=self._gate,
            message=self._message,
            page=self._page,
            gates=self._told,
        )
        rates = {gate.name for gate in self.policy.gates if isinstance(gate.rule, (RatioRule, BurnRule))} | {"share"}
        told = self._message if self._phase != WATCHING or self._message.startswith("extended") else ""
        step = f"{report.step}/{report.steps}"
        progress = line(self._told, rates, step=step, elapsed=self._watched, total=self._until, told=told)
        return replace(report, progress=progress)

    def _verdict(self) -> str:
        """What the gates said; a person's word is no verdict."""
        if self._phase == FAILED and self._reason != "aborted":
            return FAIL
        return PASS if self._phase == PASSED and self._reason != "promoted" else INCONCLUSIVE

    def _next(self) -> str:
        if self._phase != HELD:
            return self._action
        overdue = (self._last or 0.0) - self._started >= self._until
        return HOLD if self._cause in ("undecided", "weak") or overdue else WATCH

    def state(self) -> Dict[str, object]:
        """Everything that the next look builds on, JSON-safe."""
        return {
            "gates": {gate.name: gate.state() for gate in self._gates},
            "alive": self._alive.state(),
            "share": self._share.state(),
            "heard": dict(self._heard),
            "levels": dict(self._levels),
            "told": [verdict.as_dict() for verdict in self._told],
            "steps": self.steps,
            "step": self._step,
            "started": self._started,
            "last": self._last,
            "phase": self._phase,
            "watched": self._watched,
            "until": self._until,
            "extended": self._extended,
            "cause": self._cause,
            "held_since": self._held_since,
            "calm": None if self._calm is None else self._calm.state(),
            "silent": self._silent,
            "reason": self._reason,
            "gate": self._gate,
            "message": self._message,
            "action": self._action,
        }

    def restore(self, state: Mapping[str, object]) -> None:
        """Go on from `state()` of an earlier process. DeliveryError when it belongs to another set of gates."""
        gates = stored.table(state.get("gates"))
        ours = [gate.name for gate in self._gates]
        if set(gates) != set(ours):
            raise DeliveryError(
                f"the stored bake has other gates ({', '.join(gates) or 'none'}) than the policy ({', '.join(ours)})",
                mend="Restore the policy that the rollout began with, or abort it",
                service=self.policy.service,
            )
        try:
            for gate in self._gates:
                gate.restore(stored.table(gates[gate.name]))
        except ValueError as error:
            raise DeliveryError(f"the stored bake cannot be read: {error}", service=self.policy.service) from error
        self._alive.restore(stored.table(state.get("alive")))
        self._share.restore(stored.table(state.get("share")))
        self._heard, self._levels = stored.counted(state.get("heard")), stored.counted(state.get("levels"))
        self._told = tuple(_verdict(stored.table(row)) for row in stored.rows(state.get("told")))
        self.steps, self._step = int(stored.number(state.get("steps"), 1)), int(stored.number(state.get("step")))
        self._started, self._last = stored.number(state.get("started")), stored.maybe(state.get("last"))
        self._watched, self._until = stored.number(state.get("watched")), stored.number(state.get("until"))
        self._extended, self._silent = bool(state.get("extended")), int(stored.number(state.get("silent")))
        self._phase, self._action = str(state.get("phase")), str(state.get("action"))
        self._cause, self._held_since = str(state.get("cause")), stored.maybe(state.get("held_since"))
        calm = state.get("calm")
        self._calm = Tally.of_state(stored.table(calm)) if calm is not None else None
        self._reason, self._gate = str(state.get("reason")), str(state.get("gate"))
        self._message = str(state.get("message"))


def _verdict(row: Mapping[str, object]) -> Verdict:
    return Verdict(
        verdict=str(row.get("verdict")),
        gate=str(row.get("gate")),
        reason=str(row.get("reason")),
        value=stored.maybe(row.get("value")),
        limit=stored.maybe(row.get("limit")),
        baseline=stored.maybe(row.get("baseline")),
        samples=stored.counted(row.get("samples")),
        evidence=dict(stored.table(row.get("evidence"))),
        took=stored.number(row.get("took")),
    )
