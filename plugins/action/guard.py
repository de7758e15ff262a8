# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""May we act, and what people say of it. See plugins/modules/guard.py for the documentation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Callable, Dict, Optional

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, RolloutError, nearest
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts, rules
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import ROLLBACK
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import (
    COMMANDS,
    DONE,
    UNDONE,
    UNFINISHED,
    Command,
    Lease,
    Rollout,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.part import Part
from ansible_collections.selfheal.delivery.plugins.plugin_utils import _ask_guard
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pauses import pauses_of, told, warned
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    ControllerAction,
    Facts,
    actor,
    holder,
    lease_from,
    now,
    plain,
)

VERIFIED = ("recovered", "not_recovered", "unverified")


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        **_ask_guard.OPTIONS,
        "service": {"type": "str", "default": ""},
        "all_services": {"type": "bool", "default": False},
        "command": {
            "type": "str",
            "required": True,
            "choices": ["acquire", "release", "pause", "approve", *COMMANDS],
        },
        "reason": {"type": "str", "default": ""},
        "by": {"type": "str"},
        "rollout": {"type": "str", "default": ""},
        "lease": {"type": "dict"},
        "ok": {"type": "bool"},
        "verified": {"type": "str", "choices": list(VERIFIED)},
        "facts": {"type": "dict", "default": {}},
        "for": {"type": "str"},
        "ends_at": {"type": "str"},
        "without_end": {"type": "bool", "default": False},
        "decision": {"type": "str", "default": ""},
    }
    REQUIRED_IF = (
        ("command", "acquire", ("action",)),
        ("command", "release", ("rollout", "ok")),
        ("command", "approve", ("decision",)),
    )

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        who = options["by"] or actor(task_vars)
        _name_one(options)
        if options["command"] == "acquire":
            return _ask_guard.acquired(options, who, checking=self.checking)
        todo: Dict[str, Callable[[Ledger, Facts, str], Facts]] = {
            "release": self._release,
            "pause": self._pause,
            "approve": self._approve,
            "resume": self._resume,
        }
        with closing(ledger_from(options, create=False)) as ledger:
            done = todo.get(options["command"], self._say)(ledger, options, who)
            return {**warned(pauses_of(ledger, options["service"], now())), "changed": True, **done}

    def _say(self, ledger: Ledger, options: Facts, who: str) -> Facts:
        service, command, reason = options["service"], options["command"], options["reason"]
        said = (
            _rehearse(ledger, service, command, who, reason)
            if self.checking
            else ledger.say(service, command, who, reason, now())
        )
        lease = ledger.holder(service, now())
        waits = _waits(lease, ledger.rollout(said.rollout))
        return {
            "said": asdict(said),
            "holder": lease.holder if lease else None,
            "msg": f"{service}: {said.command} of rollout {said.rollout} by {said.by}; {waits}",
        }

    def _release(self, ledger: Ledger, options: Facts, who: str) -> Facts:
        """Close an action that `acquire` has opened, exactly once, and give its lease back."""
        ok, verdict = options["ok"], options["verified"]
        outcome = {**plain(options["facts"] or {}), "ok": ok}
        if verdict:
            outcome["verified"] = {"verdict": verdict}
        state = DONE if ok else UNDONE
        if self.checking and options["rollout"] == _ask_guard.PRETENDED:
            return {"outcome": state, "msg": "nothing was recorded: this is check mode"}
        rollout = _own(ledger, options)
        if self.checking:
            return {"outcome": state, "rollout": asdict(rollout), "msg": "nothing was recorded: this is check mode"}
        lease = _lease(ledger, rollout, options, who)
        closed = rollouts.close(ledger, lease, rollout.id, state=state, outcome=outcome, actor=who, now=now())
        told_of = f", {verdict.replace('_', ' ')}" if verdict else ""
        message = (
            f"{closed.service}: {closed.kind} {closed.id} is closed, it {'went well' if ok else 'failed'}{told_of}"
        )
        return {"outcome": closed.state, "rollout": asdict(closed), "msg": message}

    def _pause(self, ledger: Ledger, options: Facts, who: str) -> Facts:
        service, reason, at = options["service"], options["reason"], now()
        until = _end(options, at)
        if self.checking:
            rules.pausing(who, reason, until, at)
        else:
            ledger.pause(service, who, reason, until, at)
        pause = {"service": service, "by": who, "at": at, "reason": reason, "until": until}
        unknown = [] if not service or service in ledger.services() else [_unknown(ledger, service)]
        return {"pause": pause, "msg": told([pause])[0], "warnings": [*told([pause]), *unknown]}

    def _resume(self, ledger: Ledger, options: Facts, who: str) -> Facts:
        """Lift the pause, let the rollout go on, or both; whatever of it there is."""
        service, reason = options["service"], options["reason"]
        paused = any(pause["service"] == service for pause in pauses_of(ledger, service, now()))
        unfinished = ledger.unfinished(service) if service else []
        if not paused and not unfinished:
            raise _nothing(ledger, service)
        if paused and not self.checking:
            ledger.unpause(service, who, reason, now())
        lifted = f"{service or 'every service'} is not paused any more, says {who}"
        done = self._say(ledger, options, who) if unfinished else {"msg": lifted}
        if paused and unfinished:
            done["msg"] = f"{done['msg']}; {lifted}"
        return {**done, "unpaused": paused}

    def _approve(self, ledger: Ledger, options: Facts, who: str) -> Facts:
        service, decision, reason = options["service"], options["decision"], options["reason"]
        if not reason.strip():
            raise OptionError("An approval needs a reason", mend="Set reason: it is kept in the ledger")
        if self.checking:
            rules.approving(service, decision, who, ledger.memory(service).approvable(decision, now()))
        else:
            ledger.approve(service, decision, who, reason, now())
        return {
            "approved": decision,
            "msg": f"{service}: recommendation {decision} is approved by {who}: whoever acquires with it may act once",
        }


def _waits(lease: Optional[Lease], about: Optional[Rollout]) -> str:
    """Who obeys what was said, and when. Only who bakes looks for it; a rollback or an action goes on to its end."""
    if lease is None:
        return "nobody is at work on it: reconcile obeys it"
    if about is not None and about.kind in (ROLLBACK, rollouts.ACTION):
        return f"{lease.holder} is at it and cannot be stopped by that: reconcile obeys it when it is left unfinished"
    return f"{lease.holder} obeys it at its next look"


def _name_one(options: Facts) -> None:
    """A service, or all of them: an empty name is never read as everything."""
    service, everything = options["service"], options["all_services"]
    if everything and (service or options["command"] not in ("pause", "resume")):
        raise OptionError("all_services is for pause and resume, without a service", mend="Name one of the two")
    if not service and not everything:
        raise OptionError("No service is named", mend="Set service, or all_services: true to pause or resume them all")


def _end(options: Facts, at: float) -> Optional[float]:
    """When the pause ends, in epoch seconds; exactly one of three ways to say so."""
    ways = [name for name in ("for", "ends_at", "without_end") if options[name]]
    if len(ways) != 1:
        raise OptionError(
            "A pause needs one end" if ways else "A pause needs an end",
            mend="Set for: 2h, ends_at: 2026-11-30T08:00:00+01:00, or without_end: true",
        )
    if options["for"]:
        return at + Part("pause", {"for": options["for"]}, ("for",)).seconds("for", 0.0)
    return _moment(options["ends_at"]) if options["ends_at"] else None


def _moment(text: str) -> float:
    """Epoch seconds, from themselves or from a date and time with its offset."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise OptionError(
            f"ends_at is no moment: {text[:40]!r}",
            mend="Write a date and time with its offset: 2026-11-30T08:00:00+01:00",
        )
    return moment.timestamp()


def _unknown(ledger: Ledger, service: str) -> str:
    return (
        f"the ledger has never heard of {service}{nearest(service, ledger.services())}: is it the service's whole name?"
    )


def _nothing(ledger: Ledger, service: str) -> RolloutError:
    if service and pauses_of(ledger, service, now()):
        return RolloutError(
            "It is not paused by itself, every service is", mend="Resume with all_services: true", service=service
        )
    return RolloutError(
        "There is nothing to resume: neither a pause nor an unfinished rollout",
        mend="guard_info lists the pauses, ledger_info what is under way",
        service=service,
    )


def _own(ledger: Ledger, options: Facts) -> Rollout:
    """The action that is to be closed; what a canary or watch began, only they can close."""
    rollout = ledger.rollout(options["rollout"])
    if rollout is None or rollout.service != options["service"]:
        raise RolloutError(
            f"It has no action {options['rollout']!r} in the ledger", mend="Hand over rollout.id as acquire returned it"
        )
    if rollout.kind not in ("action", "rollback"):
        raise RolloutError(
            f"{rollout.id} is a {rollout.kind}, and not an action that was acquired",
            mend="The role that began it closes it; to stop it, say abort",
        )
    if rollout.state not in UNFINISHED:
        raise RolloutError(f"{rollout.id} is closed already ({rollout.state})", mend="Nothing is left to do for it")
    return rollout


def _lease(ledger: Ledger, rollout: Rollout, options: Facts, who: str) -> Lease:
    """The caller's, or a new one where that has expired, or where there is none because the controller is gone.

    A newer holder fences the caller off: then it is the caller's lease that comes back, and closing says so.
    """
    given = lease_from(options["lease"]) if options["lease"] else None
    taken = ledger.holder(rollout.service, now()) is not None
    if given is not None and (taken or rollout.token != given.token):
        return given
    _taken, lease = rollouts.take_over(
        ledger, rollout.id, holder=holder(), actor=who, ttl=options["lease_ttl"], now=now()
    )
    return lease


def _rehearse(ledger: Ledger, service: str, command: str, by: str, reason: str) -> Command:
    """The same refusals, and nothing written."""
    unfinished, last = ledger.unfinished(service), ledger.last_rollouts(service, 1)
    about = rules.speak(service, command, by, reason, next(iter(unfinished), None), next(iter(last), None))
    return Command(0, service, command, by, reason, now(), None, about.id)
