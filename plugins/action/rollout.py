# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin, take over, look up and close rollouts in the ledger. See plugins/modules/rollout.py for the documentation."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any, Callable, Dict, Mapping, Sequence

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import RolloutError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import ROLLBACK
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import (
    DONE,
    UNDONE,
    UNRESOLVED,
    Lease,
    Rollout,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import GuardPolicy, parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.story import story
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pauses import pauses_of, told
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    LEASE_TTL,
    ControllerAction,
    Facts,
    actor,
    clock,
    holder,
    lease_fact,
    lease_from,
    now,
    plain,
)


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **LEDGER,
        "state": {"type": "str", "required": True, "choices": ["begun", "taken", "closed", "given_up", "due"]},
        "service": {"type": "str", "default": ""},
        "release": {"type": "str", "default": ""},
        "kind": {"type": "str", "choices": ["canary", "watch"], "default": "canary"},
        "intent": {"type": "dict", "default": {}},
        "guard": {"type": "dict", "default": {}},
        "rollout": {"type": "str", "default": ""},
        "why": {"type": "str"},
        "lease": {"type": "dict", "default": {}},
        "lease_ttl": {"type": "float", "default": LEASE_TTL},
        "outcome": {"type": "str", "choices": ["done", "undone", "held"], "default": "done"},
        "facts": {"type": "dict", "default": {}},
        "forget": {"type": "list", "elements": "str", "default": []},
        "on_interrupt": {"type": "str", "choices": ["undo", "continue"], "default": "undo"},
    }
    REQUIRED_IF = (
        ("state", "begun", ("service", "release", "intent")),
        ("state", "taken", ("rollout",)),
        ("state", "given_up", ("rollout", "why")),
        ("state", "closed", ("rollout", "lease", "outcome")),
    )

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        if options["state"] == "due":
            return self._due(options, task_vars)
        todo: Dict[str, Callable[[Facts, str], Facts]] = {
            "begun": self._begin,
            "taken": self._take,
            "closed": self._close,
            "given_up": self._give_up,
        }
        return todo[options["state"]](options, actor(task_vars))

    def _begin(self, options: Facts, who: str) -> Facts:
        what = rollouts.Begin(options["service"], options["release"], options["kind"], plain(options["intent"]))
        policy = parse_guard(plain(options["guard"]), what.service)
        with closing(ledger_from(options)) as ledger:
            if self.checking:
                return _pretended(ledger, what, options["on_interrupt"], policy, who)
            begun, lease = rollouts.begin(
                ledger,
                what,
                holder=holder(),
                actor=who,
                ttl=options["lease_ttl"],
                now=now(),
                policy=policy,
                clock=clock(),
            )
        return {"changed": True, "rollout": _fact(begun), "lease": lease_fact(lease)}

    def _take(self, options: Facts, who: str) -> Facts:
        with closing(ledger_from(options)) as ledger:
            if self.checking:
                rollout = _known(ledger, options["rollout"])
                lease = Lease(rollout.service, holder(), rollout.token, 0.0)
                return {"changed": True, "rollout": _fact(rollout), "lease": lease_fact(lease)}
            taken, lease = rollouts.take_over(
                ledger, options["rollout"], holder=holder(), actor=who, ttl=options["lease_ttl"], now=now()
            )
        return {"changed": True, "rollout": _fact(taken), "lease": lease_fact(lease)}

    def _close(self, options: Facts, who: str) -> Facts:
        if self.checking:
            return {"changed": True, "outcome": options["outcome"], "msg": "nothing was recorded: this is check mode"}
        state, facts = options["outcome"], plain(options["facts"])
        with closing(ledger_from(options)) as ledger:
            rollout = _known(ledger, options["rollout"])
            if state == UNDONE:
                state = _counted(ledger, rollout, facts, options["forget"])
            lease = lease_from(options["lease"])
            closed = rollouts.close(ledger, lease, rollout.id, state=state, outcome=facts, actor=who, now=now())
        return {"changed": True, "outcome": closed.state, "rollout": _fact(closed), "msg": story(closed)}

    def _give_up(self, options: Facts, who: str) -> Facts:
        with closing(ledger_from(options)) as ledger:
            if self.checking:
                given = _known(ledger, options["rollout"])
                return {"changed": True, "rollout": _fact(given), "msg": "nothing was recorded: this is check mode"}
            closed = rollouts.give_up(
                ledger,
                options["rollout"],
                options["why"],
                holder=holder(),
                actor=who,
                ttl=options["lease_ttl"],
                now=now(),
            )
        told = story(closed)
        return {"changed": True, "outcome": closed.state, "rollout": _fact(closed), "msg": told, "warnings": [told]}

    def _due(self, options: Facts, task_vars: Facts) -> Facts:
        with closing(ledger_from(options)) as ledger:
            found = rollouts.find(ledger, on_interrupt=options["on_interrupt"], now=now(), service=options["service"])
            paused = told(pauses_of(ledger, options["service"], now()))
        here = [one for one in found if options["service"] or _is_here(one.rollout.service, task_vars)]
        due = [{"action": one.action, "why": one.why, "rollout": _fact(one.rollout)} for one in here]
        elsewhere = sorted({one.rollout.service for one in found if one not in here})
        not_here = (
            f"unfinished, but not of this inventory: {', '.join(elsewhere)}. Reconcile with the inventory it began with"
        )
        warnings = [*paused, *[not_here] * bool(elsewhere)]
        return {"changed": False, "due": due, **({"warnings": warnings} if warnings else {})}


def _counted(ledger: Ledger, rollout: Rollout, facts: Facts, forget: Sequence[str]) -> str:
    """How the way back ended; `facts` get every place accounted for."""
    for by_place in ("places", "deployed"):
        told = facts.get(by_place) or {}
        facts[by_place] = {place: _told(result) for place, result in told.items() if result}
    stuck = rollouts.unresolved(ledger, rollout, facts["places"])
    has_way_back = plain(rollout.intent.get("before") or {})
    without = plain(rollout.intent.get("left") or []) if rollout.kind == ROLLBACK else stuck
    facts["left"] = [place for place in without if place not in has_way_back]
    facts["unresolved"] = [place for place in stuck if place in has_way_back and place not in forget]
    if facts["unresolved"]:
        return UNRESOLVED
    return DONE if rollout.kind == ROLLBACK else UNDONE


def _is_here(service: str, task_vars: Mapping[str, Any]) -> bool:
    """Is the service this inventory's? One ledger may serve several, whose places have the same names."""
    environment, _slash, group = service.rpartition("/")
    places = (task_vars.get("groups") or {}).get(group) or []
    return bool(places) and str(task_vars["hostvars"][places[0]].get("delivery_environment") or "") == environment


def _pretended(ledger: Ledger, what: rollouts.Begin, on_interrupt: str, policy: GuardPolicy, who: str) -> Facts:
    """In check mode: say whether it could begin, and hand on a rollout that was never written."""
    for one in rollouts.find(ledger, on_interrupt=on_interrupt, now=now(), service=what.service):
        raise RolloutError(
            f"rollout {one.rollout.id} of {one.rollout.release} is unfinished: {one.why}",
            mend="Settle it first with playbooks/reconcile.yml",
        )
    decision = ledger.check(rollouts.wish(what, who), policy, now=now(), clock=clock(), record=False)
    if not decision.allowed:
        raise rollouts.refusal(decision)
    pretended = Rollout("check", what.service, what.release, what.kind, "open", 0, 0.0, 0.0, what.intent)
    return {
        "changed": True,
        "rollout": _fact(pretended),
        "lease": lease_fact(Lease(what.service, holder(), 0, 0.0)),
    }


def _known(ledger: Ledger, rollout_id: str) -> Rollout:
    rollout = ledger.rollout(rollout_id)
    if rollout is None:
        raise RolloutError(f"there is no rollout {rollout_id!r} in the ledger", mend="List them with ledger_info")
    return rollout


def _fact(rollout: Rollout) -> Facts:
    return asdict(rollout)


def _told(result: Mapping[str, Any]) -> Facts:
    """What the ledger keeps of a change to one place."""
    kept = ("changed", "failed", "unreachable", "skipped", "current", "before", "msg", "actions")
    return {name: result[name] for name in kept if name in result}
