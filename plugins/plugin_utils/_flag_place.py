# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place that is a feature flag: turned and looked at by the tasks for flags, planned as one place with two sides."""

from __future__ import annotations

from contextlib import closing
from typing import Any, List, Mapping, Sequence, Tuple

from ansible.plugins.action import ActionBase

from ansible_collections.selfheal.delivery.plugins.module_utils._act.flag import options as flag
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import change, look_at
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import OFF, ON
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.options import ARGUMENTS, INFO_ARGUMENTS
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.verify import said_share
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import FLAG_OFF, FLAG_ON
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import last_known_good, passed
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy
from ansible_collections.selfheal.delivery.plugins.plugin_utils._flag_task import done_by, refused
from ansible_collections.selfheal.delivery.plugins.plugin_utils._inside import Inside, done, runs_here
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, plain

MODULE = "selfheal.delivery.feature_flag"
RETRY = "To turn it on again is a person's decision: set canary_retry_bad"
_ROLLOUTS = 200


def turned(action: ActionBase, own: Facts, given: Facts, task_vars: Facts, options: Facts) -> Facts:
    """Turn the flag, as the wishes `given` of a release mean it; a release's result. `options` are the task's."""
    wish = flag.wish(own, given, share=options["share"])
    inside = Inside(ARGUMENTS, (), lambda params, dry: change(params, dry=dry))
    result = refused(wish)
    if not result and wish["state"] == ON:
        result = _overruled(action, own, options, task_vars)
    result = result or done_by(action, MODULE, inside, wish, task_vars)
    dry = bool(action._task.check_mode)
    return flag.outcome(result, own, str(given.get("release") or ON), dry=dry)


def _overruled(action: ActionBase, own: Facts, options: Facts, task_vars: Facts) -> Facts:
    """A failed result where somebody switched off, at the provider, what this rollout had turned on; else empty."""
    if not _has_begun(options):
        return {}
    told = _asked(action, own, task_vars)
    if "state" not in told or not is_off(told, own):
        return {}
    what = f"flag {own.get('flag')!r} was switched off at its provider since this rollout turned it on"
    mend = "It is not turned on again over that: ask who did it, and why"
    return {"failed": True, "msg": OptionError(what, mend=mend, service=options["service"]).message}


def is_off(told: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Is nobody to be served the on side, by what management says? That is newer than what clients are served.

    Where the on side is `false` it may look like off to management, and only clients can tell.
    """
    served = told["served"] if flag.served_on(own) is False else {}
    return flag.share_of(told["state"], served, own) == 0


def _has_begun(options: Facts) -> bool:
    """Has the task's rollout been baking, so that it has turned the flag on?"""
    if not options["rollout"]:
        return False
    with closing(ledger_from(options)) as ledger:
        rollout = ledger.rollout(options["rollout"])
    return rollout is not None and bool(rollout.progress.get("step"))


def seen(action: ActionBase, own: Facts, task_vars: Facts) -> Facts:
    """What clients are served of the flag; an info module's result."""
    result = _asked(action, own, task_vars)
    if result.get("failed") or result.get("unreachable"):
        return result
    return {"changed": False, **flag.facts(result, own)}


def _asked(action: ActionBase, own: Facts, task_vars: Facts) -> Facts:
    """The result of module feature_flag_info."""
    options = {name: value for name, value in own.items() if name in flag.WHERE}
    inside = Inside(INFO_ARGUMENTS, (), lambda params, _dry: look_at(params))
    return refused(options) or done_by(action, f"{MODULE}_info", inside, options, task_vars)


def refuse_unlike(options: Facts, policy: Policy, places: Sequence[str]) -> None:
    """Refuse what cannot be walked through with a flag, before anything is begun."""
    flag.checked_release(str(options["release"]))
    if options["src"]:
        raise OptionError("a flag has no content that a source could be", mend="Remove canary_src")
    if len(places) > 1:
        raise OptionError(
            f"the service has {len(places)} places, and a flag is the same for all of them",
            mend="Put one entry into its group, for the flag and its environment",
        )
    for gate in policy.gates:
        if policy.source_of(gate).get("type") == "exposition":
            raise OptionError(
                f"gate {gate.name!r} reads a page, on which the two sides of a flag cannot be told apart",
                mend="Ask a metrics server by a label of them: source {type: prometheus, url: …, place_label: …}",
            )


def refuse_undecided(options: Facts, own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Leave to a person what waits at the provider, and a flag that was switched off since it was last found good."""
    flag_name = str(own.get("flag"))
    if state.get("pending"):
        raise OptionError(
            f"a change of flag {flag_name!r} waits at its provider: {state['pending']}", mend="Decide it there first"
        )
    with closing(ledger_from(options)) as ledger:
        why = switched_off(ledger.last_rollouts(options["service"], _ROLLOUTS), flag_name)
    if why and not options["retry_bad"]:
        raise OptionError(f"flag {flag_name!r} was switched off: {why}", mend=RETRY)


def overwriting(own: Mapping[str, Any], state: Mapping[str, Any]) -> List[str]:
    """A warning where the flag is on already, by whoever did that: the first step sets another share."""
    share = state.get("share", 0)
    if share == 0:
        return []
    whom = said_share(float(share)) if share is not None else "those whom its own rules let"
    return [
        f"flag {own.get('flag')!r} is on for {whom} already: the first step sets its own share instead, and an undo"
        " turns it off for all"
    ]


def switched_off(rollouts: Sequence[Rollout], flag_name: str) -> str:
    """Why a kill switch turned the flag off, by the newest of these rollouts that says; '' when none did."""
    for rollout in rollouts:
        action = rollout.intent.get("action") if rollout.intent.get("flag") == flag_name else ""
        if passed(rollout) or action == FLAG_ON:
            break
        if action == FLAG_OFF:
            return str(rollout.intent.get("why") or "nobody says why")
    return ""


def rehearse(action: ActionBase, policy: Policy, share: float) -> None:
    """Let the provider say whether the flag can be on for `share` of 100 clients; it is not turned by that."""
    own = own_of(policy)
    options = flag.wish(own, {"release": ON}, share=share)
    inside = Inside(ARGUMENTS, (), lambda params, _dry: change(params, dry=True))
    if runs_here(action):  # else the first step tells
        result = refused(options) or done(inside, options, dry=True)
        if result.get("failed"):
            raise OptionError(str(result["msg"]))


def vouched(state: Mapping[str, Any], options: Facts) -> Facts:
    """What a place told, and what the ledger knows of it: no provider keeps who found `on` good."""
    with closing(ledger_from(options)) as ledger:
        known = last_known_good(ledger, options["service"])
    if known is None:
        return dict(state)
    good = {"at": known.at, "rollout": known.rollout}
    releases = [
        {**one, "known_good": good} if one.get("id") == known.release else one for one in state.get("releases") or ()
    ]
    return {**state, "releases": releases}


def sides(policy: Policy, place: str) -> List[Facts]:
    """Where the two sides of a place are measured, the one that is on first: by a label of the metrics themselves."""
    own = own_of(policy)
    targets = []
    for side, name in ((ON, "arm_on"), (OFF, "arm_off")):
        value = own.get(name, side)
        if not isinstance(value, str) or not value:
            raise OptionError(f"backend_options.{name} is not text", mend="Write the label's value in quotes")
        targets.append({"place": f"{place}/{side}", "urls": [], "instance": value})
    if targets[0]["instance"] == targets[1]["instance"]:
        raise OptionError(
            f"both sides of a flag are called {value!r}, so that it would be compared with itself",
            mend="Write into backend_options.arm_on and arm_off how the metrics' label calls each",
        )
    return targets


def arms(policy: Policy, place: str, step: Mapping[str, Any]) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """Who is judged against whom; where a step gives everybody the on side, nobody is left to compare with."""
    on, off = (str(side["place"]) for side in sides(policy, place))
    whole = bool(step) and dict(step.get("shares") or {}).get(place, 100.0) >= 100
    return (on,), () if whole else (off,)


def measured(policy: Policy, place: str, state: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> Facts:
    """What a plan says of measuring: the sides, how many have the release in each step, who is there only later.

    `share` is the canary's part of the requests in the first step, 0..1; None where it is all of them.
    """
    targets = sides(policy, place)
    shares = [float((step.get("shares") or {}).get(place, 100.0)) for step in steps]
    unseen = targets[1] if state.get("current") == ON else targets[0]
    first = min(shares, default=100.0)
    return {
        "targets": targets,
        "sizes": [1 if share < 100 else len(targets) for share in shares],
        "later": [unseen["place"]],
        "share": first / 100 if first < 100 else None,
    }


def own_of(policy: Policy) -> Facts:
    """The policy's backend_options."""
    own = policy.plain.get("backend_options")
    return plain(own) if isinstance(own, Mapping) else {}
