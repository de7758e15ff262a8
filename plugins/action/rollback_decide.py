# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that is found out and asked before a rollback. See plugins/modules/rollback_decide.py for the documentation.

Four tasks in one process: to begin a task takes Ansible longer than most of them take, and going back waits for them.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping

from ansible.utils.display import Display

from ansible_collections.selfheal.delivery.plugins.plugin_utils._bytecode import keep_bytecode

keep_bytecode()

from ansible_collections.selfheal.delivery.plugins.action import canary_bake, guard, rollback_plan, rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import ERROR_CODE, PERSON
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.rollouts import CLOSE, UNDO
from ansible_collections.selfheal.delivery.plugins.plugin_utils._ask_guard import DECIDING, GATES_KEPT
from ansible_collections.selfheal.delivery.plugins.plugin_utils._part import done_for
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import SERVICE, ControllerAction, Facts, plain

# what is next: what has to be done before the guard can be asked, or what its answer is
SETTLE, CODE, NOTHING, BACK, REFUSED = "settle", "code", "nothing", "back", "denied"
YES, NO, UNKNOWN = "yes", "no", "unknown"
display = Display()


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **SERVICE,
        **LEDGER,
        **DECIDING,
        "group": {"type": "str", "required": True},
        "states": {"type": "dict", "required": True},
        "policy": {"type": "dict", "required": True},
        "release": {"type": "str", "default": ""},
        "batches": {"type": "list", "elements": "raw", "default": ["100%"]},
        "forget": {"type": "list", "elements": "str", "default": []},
        "confirm": {"type": "bool", "default": True},
        "code": {"type": "dict", "default": {}},
        "after": {"type": "str", "default": ""},
        "settled": {"type": "bool", "default": False},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        trigger = _mapping(options["trigger"])
        due = done_for(self, rollout.ActionModule, {"state": "due"}, options["service"], task_vars)
        if due.get("failed"):
            return due
        if not options["settled"] and _unsettled(due):
            return {"changed": False, "next": SETTLE, "msg": "an earlier run has to be settled first"}
        asked = {**_some(options, "group", "release", "batches", "forget", "states"), "why": _why(options, trigger)}
        plan = done_for(self, rollback_plan.ActionModule, asked, options["service"], task_vars)
        if plan.get("failed"):
            return plan
        told = f"{options['service']}: {plan['msg']}"
        warned = _some(due, *(name for name in ("warnings",) if name in due))  # of pauses, which each run shows
        found: Facts = {"changed": False, "next": NOTHING, "plan": plan, "msg": told, **warned}
        by_code = _kind(trigger) == ERROR_CODE
        if plan["due"] and by_code and not options["code"]:
            return {**found, "next": CODE}
        if not plan["due"]:
            return found
        # standard error is live in a pipe, and keeps the json callback's output valid
        display.display(told, stderr=True)
        return {**found, **self._decided(options, trigger, plan, task_vars)}

    def _decided(self, options: Facts, trigger: Facts, plan: Facts, task_vars: Facts) -> Facts:
        person = _kind(trigger) == PERSON
        gates: Facts = {}
        if options["confirm"] or not person:
            asked = {
                **_some(options, "confirm_window", "group", "policy"),
                "phase": "confirm",
                "release": plan["release"],
            }
            gates = done_for(self, canary_bake.ActionModule, asked, options["service"], task_vars)
        senseless = _senseless(options, plan, gates)
        if person and senseless:
            # no mend: the reason says what to do next
            raise OptionError(f"{plan['release']} was not rolled back: {senseless}", service=options["service"])
        wish = _wish(options, trigger, plan, gates)
        answer = done_for(self, guard.ActionModule, wish, options["service"], task_vars)
        if self.checking and answer.get("rollout"):
            # what a rehearsal hands on is not in the ledger, and has nothing of what was asked for
            answer["rollout"].update({name: wish[name] for name in ("kind", "release", "intent")})
        return {"confirmed": gates, "next": BACK if answer.get("allowed") else REFUSED, **answer}


def _unsettled(due: Facts) -> bool:
    """Who is at work, or waits for a person, is the guard's to see: it records what it denies."""
    return any(one["action"] in (CLOSE, UNDO) for one in due["due"])


def _some(options: Facts, *names: str) -> Facts:
    return {name: options[name] for name in names}


def _mapping(trigger: object) -> Facts:
    """Given as -e trigger={…} it is a text, and a text without a kind must never pass for a person."""
    if not isinstance(trigger, Mapping):
        raise OptionError("rollback_trigger is a text", mend="Give it as JSON: -e '{\"rollback_trigger\": {…}}'")
    told: Facts = plain(trigger)
    return told


def _kind(trigger: Facts) -> str:
    return str(trigger.get("kind") or PERSON)


def _why(options: Facts, trigger: Facts) -> str:
    if options["reason"] or options["approved"]:
        return str(options["reason"] or f"recommendation {options['approved']}, approved")
    kind = _kind(trigger)
    return "" if kind == PERSON else f"{kind.replace('_', ' ')} {trigger.get('name') or ''}"


def _senseless(options: Facts, plan: Facts, gates: Facts) -> str:
    """Why going back makes no sense, or cannot be; what the guard leaves to a person, who may not have seen it."""
    if options["approved"]:
        return ""
    if plan["blocked"]:
        return (
            f"it must not be, {plan['blocked']}. Switch the feature off, release a mended one, or take that mark away"
        )
    if gates.get("confirmed") is False:
        return "its gates are good. Set rollback_confirm to false to go back all the same"
    return ""


def _wish(options: Facts, trigger: Facts, plan: Facts, gates: Facts) -> Facts:
    """What the guard is asked, with all that was found out."""
    confirmed = bad(gates.get("confirmed"), options["code"].get("blamed") if _kind(trigger) == ERROR_CODE else YES)
    intent = plan["intent"]
    situation: Dict[str, Any] = {
        "current": plan["release"],
        "known_good": plan["known_good"],
        "blocked": plan["blocked"],
        "places": len(intent["before"]) + len(intent["left"]),
        **_some(options, "services", "alarming"),
        **({} if confirmed == UNKNOWN else {"confirmed": confirmed == YES}),
        **({"changed_at": plan["changed_at"]} if plan["changed_at"] else {}),
    }
    return {
        "command": "acquire",
        "action": "rollback",
        "kind": "rollback",
        "release": plan["release"],
        "trigger": _seen(trigger, gates, options["code"].get("evidence")),
        "situation": situation,
        "intent": intent,
        "on_denied": "continue",
        **_some(options, "guard", "after", "approved", "lease_ttl"),
    }


def bad(confirmed: object, blamed: object) -> str:
    """Is it bad, as far as the gates can tell, and the error code as well where one was the reason to look?"""
    if confirmed is False or blamed == NO:
        return NO
    return YES if confirmed is True and blamed == YES else UNKNOWN


def _seen(trigger: Facts, gates: Facts, code: object) -> Facts:
    """The trigger, with what the gates, and the metrics server about the code, said beside what it says itself."""
    said = {name: gates[name] for name in GATES_KEPT if name in gates}
    evidence = {**(trigger.get("evidence") or {}), "gates": said, **({"code": code} if code else {})}
    level = trigger.get("level", gates.get("level"))
    return {**trigger, "evidence": evidence, **({} if gates.get("level") is None else {"level": level})}
