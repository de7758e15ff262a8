# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about an event, before anything is done. See plugins/modules/respond_plan.py for the documentation."""

from __future__ import annotations

import re
import time
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible_collections.selfheal.delivery.plugins.plugin_utils._bytecode import keep_bytecode

keep_bytecode()

from ansible_collections.selfheal.delivery.plugins.action.plain_variables import faults
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.model import Code
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import decision as words
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ERROR_CODE,
    Grant,
    Request,
    Situation,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger, Note
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.limits import ACT
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import HELD, OPEN, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.rollouts import new_id
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.rules import escalates
from ansible_collections.selfheal.delivery.plugins.module_utils._respond import ways
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.event import (
    REFUSED,
    WATCHDOG,
    Event,
    acks_of,
    parse_event,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.firing import Answer, asked
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.spool import acknowledge, is_passing
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    ControllerAction,
    Facts,
    actor,
    clock,
    now,
    plain,
)
from ansible_collections.selfheal.delivery.plugins.plugin_utils._scene import Scene, scene_of

GIVEN = ("respond_event", "respond_with", "respond_spool", "ansible_eda", "delivery_service", "delivery_environment")
NOTHING, TELL = "nothing", "tell"
ACTING = (ways.ROLLBACK, words.FLAG_OFF, ways.RESTART, ways.ABORT)
# what the guard can say before the places were asked, once the alert's source was
EARLY = (
    words.DUPLICATE,
    words.NOT_ELIGIBLE,
    words.NOT_CONFIRMED,
    words.CLOCK_JUMPED,
    words.ALERTS_SILENT,
    words.PAUSED,
    words.BLAST_RADIUS,
)
REFUSALS = "refusals"  # the ledger's note of what was refused lately, so that a flood of it is told once
QUIET = 3600.0  # seconds
REFUSALS_TOLD = 16  # within QUIET
GOES_ON = 10.0  # seconds in which whoever turned a flag off has begun the next way back
CALLS_SEEN = 200  # entries of the ledger among which a copy of a call is looked for
# what of a message may be the sender's words
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
PLACE = re.compile(r"\[[^\]]*\]|\d+|a key of ")


@dataclass(frozen=True)
class Case:
    """One event, about a service that the inventory knows; `way` is what is to be done, one of ways.WAYS."""

    event: Event
    scene: Scene
    way: str
    code: Optional[Code]
    answer: Answer
    who: str
    at: float
    after: str = ""  # the action that did not help, of which `way` is the next one


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {**LEDGER}

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        raw = dict.get(task_vars, "respond_event")
        spool, acks = dict.get(task_vars, "respond_spool"), acks_of(raw)
        spool = str.__str__(spool) if isinstance(spool, str) else ""
        end: Facts = {"changed": False, "spool": spool, "ack": list(acks) if spool else []}
        try:
            plan = {**end, **_NOTHING, **self._planned(raw, options, task_vars)}
        except BaseException:
            with suppress(DeliveryError):  # what went wrong before is what has to be told
                self._acknowledge({**end, "again": True})  # nothing was decided: it must not be forgotten
            raise
        # standard error is live in a pipe, and keeps the json callback's output valid
        self._display.display(plan["msg"], stderr=True)
        if plan["do"] == NOTHING:
            self._acknowledge(plan)
        return plan

    def _acknowledge(self, plan: Facts) -> None:
        if not self.checking:
            acknowledge(plan["spool"], plan["ack"], again=plan["again"])

    def _planned(self, raw: object, options: Facts, task_vars: Facts) -> Facts:
        event = None
        try:
            _refuse_templates(task_vars)
            event = parse_event(plain(raw))
            if event.kind == REFUSED:
                raise OptionError(f"the filter refused an event: {event.reason}", mend="Correct what sends it")
            if event.kind == WATCHDOG:
                return self._heard(event, options)
            scene = scene_of(event, task_vars, options["ledger"])
            return self._looked_at(event, scene, task_vars)
        except OptionError as error:
            return self._refused(error, event, options, actor(task_vars))
        except StoreError as error:
            if event is None or not event.active or event.kind == WATCHDOG:
                raise
            return _undecided(error, event)

    def _looked_at(self, event: Event, scene: Scene, task_vars: Facts) -> Facts:
        at, who = now(), actor(task_vars)
        code = _code(event, scene)
        way = ways.chosen(plain(dict.get(task_vars, "respond_with")), code.response if code else scene.response)
        if event.active and way in ACTING:
            event = event.about(scene.guard.alerts)
        quiet = way == ways.RECORD or not event.active
        with closing(open_ledger(scene.ledger)) as ledger:
            since = (at if event.at is None else min(event.at, at)) - scene.guard.services_window
            # of an alert that is over nobody need be asked, unless it stands for others
            answer = Answer(False)
            if not quiet or event.others:
                answer = asked(scene.alerts, event, scene.services, since, scene.environment)
            case = Case(event, scene, way, code, answer, who, at)
            if quiet:
                return self._recorded(ledger, case)
            todo: Dict[str, Callable[[Ledger, Case], Facts]] = {ways.PAGE: self._page, ways.ABORT: self._abort}
            return {**_found(case), **todo.get(way, self._act)(ledger, case)}

    # --- what may come of it

    def _heard(self, event: Event, options: Facts) -> Facts:
        """The alert that always fires: only that it came is of interest, and not when it began."""
        from ansible_collections.selfheal.delivery.plugins.module_utils._tell import heartbeat

        at = now()
        if event.active and not self.checking:
            with closing(open_ledger(options["ledger"])) as ledger:
                ledger.change_note(heartbeat.WATCHDOG, lambda note: heartbeat.heard(note, at, "respond", at))
        return {"changed": event.active, "msg": "the Watchdog alert was seen" if event.active else "it is over"}

    def _recorded(self, ledger: Ledger, case: Case) -> Facts:
        new = self._observed(ledger, case)
        if not case.event.active and not self.checking:
            new = _others_over(ledger, case) or new
        told = "is recorded" if new else "was known already"
        over = "" if case.event.active else " is over, which"
        told = "would be recorded" if self.checking else told
        return {**_found(case), "changed": new, "msg": f"{case.scene.identity}: {case.event.what}{over} {told}"}

    def _observed(self, ledger: Ledger, case: Case) -> bool:
        """Was it news? Then it is in the ledger now."""
        if self.checking:
            return False
        scene = case.scene
        if case.event.kind == words.CALL:
            return _called(ledger, case)
        return ledger.observe(scene.identity, _trigger(case), scene.guard, case.who, case.at) is not None

    def _act(self, ledger: Ledger, case: Case) -> Facts:
        """A flag, a rollback or a restart, unless the guard knows enough already to deny it."""
        if case.way == words.FLAG_OFF and not self.checking:
            case = _next_way(ledger, case)
        left = case.way == ways.ROLLBACK and not self.checking and _left_behind(ledger, case.scene.identity)
        grant = None if left else self._denied(ledger, case)
        if grant is None:
            told = _message(case, f"{case.way} next")
            return {"do": case.way, "after": case.after, "hosts": list(case.scene.places), "msg": told}
        decision = grant.decision
        said = decision.message
        if decision.reason == words.NOT_CONFIRMED and case.event.active:
            said = f"{said} {case.answer.said}."
        message = _message(case, f"no {case.way}: {said}")
        again = is_passing(decision.as_dict(), unknown=case.answer.firing is None)
        found: Facts = {"changed": not grant.repeated, "decision": decision.as_dict(), "again": again, "msg": message}
        if decision.page or not (grant.repeated or decision.storm):
            found.update(_telling(case, "page" if decision.page else "denied", message, about=[decision.id]))
        return found

    def _denied(self, ledger: Ledger, case: Case) -> Optional[Grant]:
        scene, answer, at = case.scene, case.answer, case.at
        request = Request(
            id=new_id(),
            service=scene.identity,
            action=case.way,
            trigger=_trigger(case),
            actor=case.who,
            situation=Situation(
                confirmed=answer.firing,
                places=len(scene.places),
                services=len(scene.services),
                alarming=_alarming(case),
            ),
            after=case.after,
        )
        only = list(EARLY) if answer.asked else [words.DUPLICATE]
        if ledger.holder(scene.identity, at) is not None:
            only.append(words.IN_PROGRESS)  # without a lease, the role settles what was left unfinished
        if not self.checking:
            return ledger.deny(request, scene.guard, now=at, clock=clock(), only=only)
        decision = ledger.check(request, scene.guard, now=at, clock=clock(), record=False)
        return Grant(decision) if decision.verdict == words.DENIED and decision.reason in only else None

    def _page(self, ledger: Ledger, case: Case) -> Facts:
        firing = case.answer.firing
        new = self._observed(ledger, case) if firing is not False else False
        message = _message(case, "the response is to call a person" if firing is not False else case.answer.said)
        return {"changed": new, "msg": message, **(_telling(case, "page", message) if new else {})}

    def _abort(self, ledger: Ledger, case: Case) -> Facts:
        """Only a rollout that is unfinished, of this very release, and that no person holds."""
        why, again = _why_no_abort(ledger, case)
        new = self._observed(ledger, case)
        if why:
            message = _message(case, f"nothing is aborted: {why}")
            found: Facts = {"changed": new, "again": again, "msg": message}
            if new and case.answer.firing is not False and ledger.unfinished(case.scene.identity):
                about = {"kind": case.event.kind, "name": case.event.name, "id": case.event.ident}
                ledger.append(case.scene.identity, "refusal", case.who, {"why": message, **about}, case.at)
                found.update(_telling(case, "page", message))
            return found
        if not self.checking:
            ledger.say(case.scene.identity, "abort", case.event.what, case.answer.said, case.at)
        return {"changed": True, "msg": _message(case, "its unfinished rollout is aborted")}

    def _refused(self, error: OptionError, event: Optional[Event], options: Facts, who: str) -> Facts:
        """Nothing is done; people are told once, however often it comes."""
        service, sort = event.service if event is not None else "", _sort(error, event)
        message = error.on(service).message if service else error.message
        more: Optional[int] = None
        if not self.checking:
            more = 0  # a ledger that fails cannot know that it was told before
            with suppress(DeliveryError), closing(open_ledger(options["ledger"])) as ledger:
                more = _untold(ledger, sort, now())
                if more is not None:
                    about = {"kind": event.kind, "name": event.name, "id": event.ident} if event is not None else {}
                    ledger.append("", "refusal", who, {"service": service, "why": message, **about}, now())
        told = f"{message} ({more} more refusals since the last one were not told.)" if more else message
        facts = {"service": service or "events", "incident": event.ident if event is not None else ""}
        return {
            "do": TELL,
            "hosts": ["localhost"],
            "wrong": True,
            "msg": message,
            "tell": {"event": "denied", "message": told, "facts": facts, "about": []} if more is not None else {},
        }


_NOTHING: Facts = {
    "do": NOTHING,
    "hosts": [],
    "wrong": False,
    "again": False,
    "service": "",
    "identity": "",
    "trigger": {},
    "alarming": 0,
    "after": "",
    "answer": {},
    "decision": {},
    "tell": {},
}


def _undecided(error: StoreError, event: Event) -> Facts:
    """Without a ledger nothing may be done, so that a person has to look."""
    message = error.on(event.service).message
    facts = {"service": event.service, "environment": event.environment, "incident": event.ident}
    tell = {"event": "page", "message": f"{event.what}: nothing can be done: {message}", "facts": facts, "about": []}
    return {"do": TELL, "hosts": ["localhost"], "wrong": True, "again": True, "msg": message, "tell": tell}


def _refuse_templates(task_vars: Facts) -> None:
    for name in GIVEN:
        if name in task_vars:
            for where, what in faults(name, dict.__getitem__(task_vars, name)):
                raise OptionError(
                    f"{where} {what}", mend="Put the filter selfheal.delivery.alerts behind the rulebook's source"
                )
    if dict.get(task_vars, "delivery_service"):
        raise OptionError("delivery_service is given, and the event says it", mend="Leave delivery_service out")


def _code(event: Event, scene: Scene) -> Optional[Code]:
    if event.kind != ERROR_CODE or not event.active:
        return None
    if not scene.catalogue:
        raise OptionError(
            f"there is no catalogue to look {event.name} up in", mend="Name its file in delivery_error_codes"
        )
    return load(scene.catalogue).code(event.name)


def _trigger(case: Case) -> words.Trigger:
    event = case.event
    known = {
        "source": case.answer.as_dict() if case.answer.asked else {},
        "sender": dict(event.sender),
        "release": event.release,
    }
    evidence = {name: value for name, value in known.items() if value}
    return event.trigger(at=case.answer.since, ident=case.answer.incident, evidence=evidence)


def _others_over(ledger: Ledger, case: Case) -> bool:
    """The end of other alerts, for which the event stands and of which their source says that none fires any more."""
    scene, answer = case.scene, case.answer
    if answer.firing is None:
        return False
    memory, new = ledger.memory(scene.identity), False
    for name in case.event.others:
        condition = memory.condition(f"{words.ALERT}:{name}")
        for incident in condition.firing if name not in answer.names else ():
            over = words.Trigger(words.ALERT, name, incident, active=False)
            new = ledger.observe(scene.identity, over, scene.guard, case.who, case.at) is not None or new
    return new


def _called(ledger: Ledger, case: Case) -> bool:
    """A call has no end, so that the guard keeps nothing of it until it decides: is it new? Then it is written down."""
    service, trigger = case.scene.identity, _trigger(case)
    known = {"name": trigger.name, "id": trigger.id}
    for entry in ledger.last_entries(service, CALLS_SEEN):
        if entry.kind == words.CALL and {name: entry.body.get(name) for name in known} == known:
            return False
    body = {**known, "reason": case.event.reason, "evidence": dict(trigger.evidence)}
    ledger.append(service, words.CALL, case.who, body, case.at)
    return True


def _alarming(case: Case) -> int:
    """By the alerts' own source and by what the event source has seen: each may know of services that the other
    does not, and to count too many only means that a person is called."""
    return max(case.answer.alarming, case.event.alarming)


def _found(case: Case) -> Facts:
    trigger = _trigger(case)
    named = {name: value for name, value in vars(trigger).items() if value is not None}
    return {
        "service": case.scene.service,
        "identity": case.scene.identity,
        "trigger": {**named, "evidence": dict(trigger.evidence)},
        "alarming": _alarming(case),
        "answer": case.answer.as_dict(),
    }


def _left_behind(ledger: Ledger, service: str) -> bool:
    """Is a rollback unfinished whose controller is gone? The role finishes it: what was decided is not yet done.

    The lease of one that was killed is waited for; who lives renews it.
    """
    if not any(rollout.kind == "rollback" and rollout.state == OPEN for rollout in ledger.unfinished(service)):
        return False
    lease = ledger.holder(service, now())
    if lease is not None:
        time.sleep(max(0.0, lease.expires - now()) + 0.1)
    return ledger.holder(service, now()) is None


def _next_way(ledger: Ledger, case: Case) -> Case:
    """The rollback, where a flag was turned off for this very trigger, that did not help, and its controller was gone
    before it could go on; else the case as it is. Who lives goes on at once, which is waited for."""

    def newest() -> Optional[Rollout]:
        return next(iter(ledger.last_rollouts(case.scene.identity, 1)), None)

    last, ident = newest(), _trigger(case).id
    if last is None or last.intent.get("then") != ways.ROLLBACK or not escalates(last, ways.ROLLBACK, ident, now()):
        return case
    time.sleep(max(0.0, min(GOES_ON, last.updated_at + GOES_ON - now())))
    later = newest()
    return replace(case, way=ways.ROLLBACK, after=last.id) if later is not None and later.id == last.id else case


def _message(case: Case, what: str) -> str:
    return f"{case.scene.identity}: {case.event.what}: {what.rstrip('.')}."


def _telling(case: Case, event: str, message: str, about: Sequence[str] = ()) -> Facts:
    code = case.code
    facts = {
        "service": case.scene.identity,
        "incident": case.event.ident,
        "code": code.name if code is not None else "",
        "runbook": case.scene.runbook or (code.runbook if code is not None else ""),
    }
    tell = {"event": event, "message": message, "facts": facts, "about": list(about)}
    return {"do": TELL, "hosts": [case.scene.places[0]], "tell": tell}


def _why_no_abort(ledger: Ledger, case: Case) -> Tuple[str, bool]:
    """Why not, '' when nothing stands against it; and may asking again give another answer?"""
    scene, event, answer = case.scene, case.event, case.answer
    rollout = next(iter(ledger.unfinished(scene.identity)), None)
    if rollout is None or rollout.kind in ("rollback", "action"):
        return "no rollout of it is under way", False
    if not answer.asked:
        what = "delivery_alerts names no server that" if event.by_alert else "there is no alert that"
        return f"{what} confirms it; abort it with playbooks/control.yml if it is right", False
    if answer.firing is not True:
        return answer.said, answer.firing is None
    names = {words.ALERT: scene.guard.alerts, ERROR_CODE: scene.guard.codes, words.CALL: scene.guard.calls}[event.kind]
    if event.name not in names:
        return f"{event.name} is not among what the guard may act on", False
    if event.release and event.release != rollout.release:
        return f"it is about {event.release}, and the rollout is of {rollout.release}", False
    began = event.at if answer.since is None else answer.since
    if began is not None and began < rollout.opened_at:
        return f"it began before rollout {rollout.id}, which is not to blame for it", False
    pause = ledger.fleet().paused(case.at) or ledger.memory(scene.identity).paused(case.at)
    if pause is not None:
        return f"{pause.by} paused it", True
    if rollout.state == HELD:
        return f"rollout {rollout.id} is held, and a person decides", False
    if scene.guard.mode != ACT:
        return f"its guard is in mode {scene.guard.mode}; abort it with playbooks/control.yml if it is right", False
    return "", False


def _sort(error: OptionError, event: Optional[Event]) -> str:
    """What is wrong, without the words of the sender in it: he could make each refusal look like another one."""
    text = error.what.replace(event.name, "…") if event is not None and event.name else error.what
    text = PLACE.sub("", QUOTED.sub("…", text))
    return sha256(f"{error.service}|{text}".encode()).hexdigest()[:16]


def _untold(ledger: Ledger, sort: str, at: float) -> Optional[int]:
    """How many were not told since the last one; None when this one is not told either: its sort was within QUIET, or
    too many were."""
    told: List[Optional[int]] = []

    def change(note: Note) -> Note:
        kept, left = note.get("told"), note.get("left")
        recent = {name: when for name, when in kept.items() if at - when < QUIET} if isinstance(kept, Mapping) else {}
        more = left if isinstance(left, int) else 0
        quiet = sort in recent or len(recent) >= REFUSALS_TOLD
        told[:] = [None if quiet else more]
        return {"told": recent, "left": more + 1} if quiet else {"told": {**recent, sort: at}, "left": 0}

    ledger.change_note(REFUSALS, change)
    return told[0]
