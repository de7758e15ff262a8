# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which flag, is it bad, and may we? See plugins/modules/kill_switch_decide.py for the documentation.

One task, because what goes wrong goes on while it runs, and to begin a task takes longer than most of this does.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from ansible.utils.display import Display

from ansible_collections.selfheal.delivery.plugins.plugin_utils._bytecode import keep_bytecode

keep_bytecode()

from ansible_collections.selfheal.delivery.plugins.action import canary_bake, error_code_gate, guard
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.model import Code
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    ERROR_CODE,
    FLAG_OFF,
    FLAG_ON,
    PERSON,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import environment_of
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.rollouts import new_id
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import parse_policy
from ansible_collections.selfheal.delivery.plugins.module_utils._respond import ways
from ansible_collections.selfheal.delivery.plugins.module_utils._respond.switch import Switch, flag_of, switch_of
from ansible_collections.selfheal.delivery.plugins.plugin_utils._ask_guard import DECIDING, GATES_KEPT
from ansible_collections.selfheal.delivery.plugins.plugin_utils._part import done_by, done_for
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    SERVICE,
    ControllerAction,
    Facts,
    actor,
    plain,
)

OFF, ON = "off", "on"
TURN, REFUSED = "turn", "denied"  # what is next
_CODE = ("verdict", "reason", "chance", "before", "after", "recent", "unit", "versions")
display = Display()


@dataclass(frozen=True)
class Case:
    """What is asked for. `switch` is None where `problem` says why there is no such flag to turn."""

    options: Facts
    trigger: Facts
    code: Optional[Code]
    why: str
    then: str
    switch: Optional[Switch]
    problem: str = ""

    @property
    def by_person(self) -> bool:
        return str(self.trigger["kind"]) == PERSON

    @property
    def flag(self) -> str:
        return self.switch.flag if self.switch is not None else ""


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **SERVICE,
        **LEDGER,
        **DECIDING,
        "group": {"type": "str", "required": True},
        "state": {"type": "str", "choices": [OFF, ON], "default": OFF},
        "policy": {"type": "dict", "required": True},
        "flags": {"type": "dict", "default": {}},
        "flag": {"type": "str", "default": ""},
        "answer": {"type": "dict", "default": {}},
        "response": {"type": "list", "elements": "str", "default": []},
        "catalogue": {"type": "path"},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        options = {**options, **{name: plain(options[name]) for name in ("policy", "flags", "answer")}}
        case = case_of(options)
        said = {} if case.by_person and not options["approved"] else self._confirmed(case, task_vars)
        wish = wish_of(case, said)
        answer = done_for(self, guard.ActionModule, wish, options["service"], task_vars)
        if answer.get("failed"):
            return answer
        found = {
            "flag": case.flag,
            "switch": case.switch.as_dict() if case.switch is not None else {},
            "problem": case.problem,
            "then": case.then,
            "why": case.why,
            "by": actor(task_vars),
            "trigger": wish["trigger"],
            "confirmed": said,
            "runbook": str(options["policy"].get("runbook") or (case.code.runbook if case.code is not None else "")),
            "lease_ttl": wish["lease_ttl"],
        }
        display.display(f"{answer['msg']}{f' {case.problem}' if case.problem else ''}", stderr=True)
        return {**found, **answer, "next": TURN if answer["allowed"] else REFUSED}

    def _confirmed(self, case: Case, task_vars: Facts) -> Facts:
        """Is it bad? By the alert's own source, by the code's own figures, or by the service's gates, who can tell."""
        options, answer = case.options, case.options["answer"]
        if answer.get("asked"):
            return {"confirmed": answer.get("firing"), "reason": str(answer.get("said") or "")}
        figures = self._figures(case, task_vars)
        if figures.get("confirmed") is not None:
            return figures
        asked = {name: options[name] for name in ("confirm_window", "group", "policy")}
        asked.update(phase="confirm", release="")
        gates = done_for(self, canary_bake.ActionModule, asked, options["service"], task_vars)
        kept = {name: gates[name] for name in GATES_KEPT if name in gates}
        return {**kept, "code": figures["code"]} if figures else kept

    def _figures(self, case: Case, task_vars: Facts) -> Facts:
        """Is the code raised since the service was changed? Only a server that remembers can tell."""
        options, code = case.options, case.code
        source = options["policy"].get("source") or {}
        if code is None or source.get("type") != "prometheus":
            return {}
        try:
            with closing(ledger_from(options, create=False)) as ledger:
                changed_at = ledger.memory(options["service"]).changed_at
        except StoreError:
            return {}
        if changed_at is None:
            return {}
        told = done_by(
            self,
            error_code_gate.ActionModule,
            {
                "source": source,
                "code": code.name,
                "service": options["group"],
                "environment": environment_of(options["service"]),
                "changed_at": changed_at,
                "ratio": code.alerting.ratio,
                "min_count": code.alerting.min_count,
            },
            task_vars,
        )
        raised = {"fail": True, "pass": False}.get(str(told.get("verdict")))
        return {"confirmed": raised, "code": {name: told[name] for name in _CODE if name in told}}


def case_of(options: Facts) -> Case:
    """The flag and the reason to turn it; OptionError for what a person has to mend before anything is asked."""
    service, policy = options["service"], options["policy"]
    parse_policy(policy, service)  # its gates are read again afterwards: too late to find out that they are wrong
    trigger = trigger_of(options["trigger"])
    kind, by_person = str(trigger["kind"]), str(trigger["kind"]) == PERSON
    if options["state"] == ON and not by_person:
        raise OptionError("turning a flag on is a person's decision", mend="Leave the trigger out", service=service)
    if by_person and not (options["reason"].strip() or options["approved"]):
        raise OptionError("a person has to say why", mend="Set kill_switch_reason", service=service)
    code = _code(options, str(trigger.get("name") or "")) if kind == ERROR_CODE else None
    response = options["response"] or (code.response if code is not None else policy.get("response"))
    then = ways.after_flag(ways.parse_response(response)) if options["state"] == OFF else ways.PAGE
    why = options["reason"].strip() or (
        f"recommendation {options['approved']}, approved"
        if by_person
        else f"{kind.replace('_', ' ')} {trigger.get('name') or ''}".strip()
    )
    try:
        name = flag_of(options["flag"], code.flag if code is not None else None, policy)
        switch: Optional[Switch] = switch_of(name, policy, options["flags"])
        problem = ""
    except OptionError as error:
        if by_person:
            raise error.on(service) from None
        switch, problem = None, error.message  # the incident goes on, and the next way back may still help
    return Case(options, trigger, code, why, then, switch, problem)


def trigger_of(raw: object) -> Dict[str, Any]:
    """The trigger with its kind and an identity, by which the next way back is known to be about the same."""
    if not isinstance(raw, Mapping):
        raise OptionError("kill_switch_trigger is a text", mend="Give it as JSON: -e '{\"kill_switch_trigger\": {…}}'")
    told: Facts = plain(raw)
    kind = str(told.get("kind") or PERSON)
    return {**told, "kind": kind, "id": told.get("id") or (new_id() if kind == PERSON else "")}


def _code(options: Facts, name: str) -> Code:
    if not options["catalogue"]:
        raise OptionError(
            f"there is no catalogue to look {name or 'the error code'} up in",
            mend="Name its file in delivery_error_codes",
            service=options["service"],
        )
    return load(options["catalogue"]).code(name)


def wish_of(case: Case, said: Facts) -> Facts:
    """What the guard is asked, with all that was found out. The flag is what an approval is pinned to."""
    options, switch = case.options, case.switch
    confirmed = said.get("confirmed")
    situation: Facts = {
        "current": case.flag,
        **{name: options[name] for name in ("services", "alarming")},
        **({} if confirmed is None else {"confirmed": confirmed}),
    }
    intent: Facts = {"why": case.why, "flag": case.flag, "then": case.then}
    waits = 0.0
    if switch is not None:
        intent.update(environment=switch.environment, project=switch.project)
        waits = switch.refresh
    level = case.trigger.get("level", said.get("level"))
    asked = said and not options["answer"].get("asked")  # the alert's own answer is with the trigger already
    evidence = {**(case.trigger.get("evidence") or {}), **({"gates": said} if asked else {})}
    return {
        "command": "acquire",
        "action": FLAG_OFF if options["state"] == OFF else FLAG_ON,
        "release": case.flag,
        "trigger": {**case.trigger, "evidence": evidence, **({} if level is None else {"level": level})},
        "situation": situation,
        "intent": intent,
        "on_denied": "continue",
        "guard": options["guard"],
        "approved": options["approved"],
        # it outlives the wait for clients that poll, in which nobody renews it
        "lease_ttl": options["lease_ttl"] + waits,
    }
