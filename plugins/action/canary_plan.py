# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fix a rollout's steps, or refuse what would break its promise. See plugins/modules/canary_plan.py for the docs."""

from __future__ import annotations

from contextlib import closing
from typing import Any, Dict, List, Mapping, Sequence

from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import release_id
from ansible_collections.selfheal.delivery.plugins.module_utils._act.steps import Size, Step, Walk, walk, with_traffic
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.ledger_options import ledger_from
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import found_bad
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.story import named
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import (
    SERVICE,
    ControllerAction,
    Facts,
    places_of,
    plain,
    targets_of,
)
from ansible_collections.selfheal.delivery.plugins.plugin_utils._pods import pod_targets
from ansible_collections.selfheal.delivery.plugins.plugin_utils._whole import (
    refuse_forgotten,
    refuse_keywords,
    refuse_lost,
    refuse_missing,
)

DEFAULT_TRAFFIC: Sequence[Size] = (10, 50)
RETRY = "Release a mended one under a new id, or set canary_retry_bad to try this one again"


class ActionModule(ControllerAction):
    BYPASS_HOST_LOOP = True

    SPEC = {
        **SERVICE,
        **LEDGER,
        "group": {"type": "str", "required": True},
        "release": {"type": "str", "required": True},
        "kind": {"type": "str", "choices": ["canary", "watch"], "default": "canary"},
        "steps": {"type": "list", "elements": "raw", "default": ["100%"]},
        "traffic_steps": {"type": "raw", "default": "auto"},
        "holdback": {"type": "int", "default": 1},
        "first_release": {"type": "bool", "default": False},
        "forget": {"type": "list", "elements": "str", "default": []},
        "policy": {"type": "dict", "required": True},
        "states": {"type": "dict", "required": True},
        "resume": {"type": "dict", "default": {}},
        "retry_bad": {"type": "bool", "default": False},
        "src": {"type": "str", "default": ""},
    }

    def act(self, options: Facts, task_vars: Facts) -> Facts:
        release_id(options["release"])
        places = places_of(options["group"], task_vars)
        refuse_keywords(self._task.get_play())
        refuse_missing(places, task_vars)
        refuse_lost(places, task_vars)
        policy = parse_policy(plain(options["policy"]), options["service"])
        _refuse_shared_pages(policy)
        states = {place: plain(options["states"].get(place) or {}) for place in places}
        if policy.by_sides:
            return self._sided(options, policy, places, states)
        planned = self._plan(options, policy, places, states)
        if policy.by_pods:
            targets = [target for place in places for target in pod_targets(place, states[place], len(places))]
            _refuse_namesakes(targets)
        else:
            targets = targets_of(options["service"], options["group"], places, task_vars)
        sizes = [_size(step, states, by_pods=policy.by_pods) for step in planned["steps"]]
        return {"changed": False, "targets": targets, "sizes": sizes, **planned}

    def _sided(
        self, options: Facts, policy: Policy, places: List[str], states: Mapping[str, Mapping[str, Any]]
    ) -> Facts:
        from ansible_collections.selfheal.delivery.plugins.plugin_utils import _flag_place as flags

        flags.refuse_unlike(options, policy, places)
        (place,) = places
        begins, own = options["kind"] == "canary" and not options["resume"], flags.own_of(policy)
        if begins:
            flags.refuse_undecided(options, own, states[place])
        known = {place: flags.vouched(states[place], options)}
        planned = self._plan(options, policy, places, known)
        measured = flags.measured(policy, place, known[place], planned["steps"])
        if measured["share"] is not None:
            flags.rehearse(self, policy, measured["share"] * 100)
        warned = flags.overwriting(own, states[place]) if begins and planned["steps"] else []
        return {"changed": False, **measured, **planned, **({"warnings": warned} if warned else {})}

    def _plan(
        self, options: Facts, policy: Policy, places: List[str], states: Mapping[str, Mapping[str, Any]]
    ) -> Facts:
        if options["resume"]:
            return _resumed(plain(options["resume"]))
        refuse_forgotten(options, places)
        if options["kind"] == "watch":
            return _watched(options, policy.plain, states)
        _refuse_bad(options, states)
        ahead = [place for place in places if _current(states[place]) == options["release"]]
        if len(ahead) == len(places) and all(_is_good(states[place]) for place in places):
            text = f"every place already runs {options['release']}, known good: nothing to do"
            return {"steps": [], "holdback": [], "before": {}, "msg": text}
        before = _ways_back(states, options["release"], first=options["first_release"])
        way = _way(options, places, ahead, _traffic(options, policy, states))
        return _planned(policy.plain, way, before)


def _refuse_shared_pages(policy: Policy) -> None:
    """Only the policy's own source is rendered for each place: a gate's page would be one and the same for all."""
    if policy.by_pods and any(policy.source_of(gate).get("type") == "exposition" for gate in policy.gates):
        raise OptionError(
            f"the pods of backend {policy.backend} come and go, so no url of theirs can be written down to scrape",
            mend="Ask a metrics server that follows them: source {type: prometheus, url: …}",
        )
    for gate in policy.gates:
        if gate.ask.source is not None and gate.ask.source.get("type") == "exposition":
            raise OptionError(
                f"gate {gate.name!r} has a page of its own to scrape, which would stand for every place",
                mend="Add its url to the urls of the policy's source, or ask a metrics server",
            )


def _refuse_namesakes(targets: Sequence[Mapping[str, Any]]) -> None:
    """One metrics server cannot tell pods of the same name apart: a StatefulSet's have it in every cluster."""
    seen: Dict[str, str] = {}
    for target in targets:
        other = seen.setdefault(target["instance"], target["place"])
        if other != target["place"]:
            raise OptionError(
                f"{other} and {target['place']} are pods of the same name, which the metrics server cannot tell apart",
                mend="Set source.place_label to a label that has the cluster's name in it, or release one at a time",
            )


def _way(options: Facts, places: List[str], ahead: List[str], traffic: Sequence[Size]) -> Walk:
    if options["first_release"]:
        # nothing old to compare with: one step over everything, judged by limits alone
        return walk(["100%"], places, holdback=0)
    behind = [place for place in places if place not in ahead]
    # where a part of each place's traffic stays on the old release, no place has to be held back
    holdback = 0 if traffic else options["holdback"]
    return with_traffic(walk(options["steps"], ahead + behind, holdback=holdback, ahead=len(ahead)), traffic)


def _traffic(options: Facts, policy: Policy, states: Mapping[str, Mapping[str, Any]]) -> Sequence[Size]:
    """The shares inside each place: as given, else where the place's own Rollout pauses, else two."""
    wanted = plain(options["traffic_steps"])
    given = None if wanted == "auto" else wanted if isinstance(wanted, list) else [wanted]
    backend_options = policy.plain.get("backend_options")
    own = backend_options if isinstance(backend_options, Mapping) else {}
    strategy, kind = str(own.get("strategy") or "canary"), str(own.get("kind") or "Deployment")
    # only beside a Deployment can another one stand; a Rollout has no option kind
    shared = policy.by_sides or (policy.by_pods and strategy == "canary" and kind == "Deployment")
    if given and not shared:
        how = f"strategy {strategy}" if strategy != "canary" else f"backend {policy.backend}"
        how = f"a {kind}" if policy.by_pods and kind != "Deployment" else how
        raise OptionError(f"{how} cannot give a release a share of a place's traffic", mend="Remove traffic_steps")
    if given is not None or not shared:
        return given or ()
    pauses = [set(state["pauses"]) for state in states.values() if "pauses" in state]
    if not pauses:
        return DEFAULT_TRAFFIC
    common = sorted(share for share in set.intersection(*pauses) if 0 < share < 100)
    if not common:
        raise OptionError(
            "the steps of the Rollouts have no pause without an end, at the same weight, to bake at",
            mend="Add one to strategy.canary.steps, or release each place whole with canary_traffic_steps: []",
        )
    return common


def _size(step: Mapping[str, Any], states: Mapping[str, Mapping[str, Any]], *, by_pods: bool) -> int:
    """How many of the targets have the release in this step, as far as can be told before it."""
    if not by_pods:
        return len(step["canary"])
    shares = step.get("shares") or {}
    pods = {place: len(states.get(place, {}).get("pods") or ()) for place in step["canary"]}
    return sum(max(1, round(pods[place] * shares.get(place, 100.0) / 100)) for place in step["canary"])


def _watched(options: Facts, policy: Mapping[str, object], states: Mapping[str, Mapping[str, Any]]) -> Facts:
    """One step without a change: the places that run the release, against those that do not."""
    canary = tuple(place for place, state in states.items() if _current(state) == options["release"])
    if not canary:
        raise OptionError(
            f"no place runs {options['release']}, so there is nothing to watch",
            mend="Name the release that is out; release_info tells which",
        )
    before = {place: str(state["known_good"]) for place, state in states.items() if state.get("known_good")}
    without = [place for place in canary if place not in before]
    if without and not options["first_release"]:
        raise OptionError(_no_way_back(without), mend="Set watch_first_release to watch a first release by its limits")
    baseline = tuple(place for place in states if place not in canary)
    return _planned(policy, Walk((Step(1, 1, (), canary, baseline),), ()), before)


def _no_way_back(places: Sequence[str]) -> str:
    return f"{named(places)} {'has' if len(places) == 1 else 'have'} no known good release to go back to"


def _planned(policy: Mapping[str, object], way: Walk, before: Dict[str, str]) -> Facts:
    steps = [step.as_dict() for step in way.steps]
    fleet = list(way.steps[-1].canary + way.steps[-1].baseline)
    intent = {
        "fleet": fleet,
        "steps": steps,
        "holdback": list(way.holdback),
        "before": before,
        "gates": [gate.get("name") for gate in _gates(policy)],
        "bake": policy.get("bake") or {},
    }
    return {
        "steps": steps,
        "holdback": list(way.holdback),
        "before": before,
        "intent": intent,
        "msg": _text(way, before),
    }


def _gates(policy: Mapping[str, object]) -> List[Mapping[str, object]]:
    gates = policy.get("gates")
    return [gate for gate in gates if isinstance(gate, Mapping)] if isinstance(gates, list) else []


def _resumed(rollout: Mapping[str, Any]) -> Facts:
    """The plan as it was written down: a rollout resumes on its own steps, whatever the inventory says now."""
    intent = rollout["intent"]
    reached = int((rollout.get("progress") or {}).get("step") or 1)
    steps = [step for step in intent["steps"] if step["index"] >= reached]
    text = f"rollout {rollout['id']} of {rollout['release']} resumes at step {reached} of {len(intent['steps'])}"
    return {
        "steps": steps,
        "holdback": intent["holdback"],
        "before": intent["before"],
        "intent": intent,
        "msg": text,
    }


def _ways_back(states: Mapping[str, Mapping[str, Any]], release: str, *, first: bool) -> Dict[str, str]:
    """What each place goes back to: its newest known good release, pinned now."""
    before: Dict[str, str] = {}
    without = []
    for place, state in states.items():
        target = state.get("current") if _is_good(state) and _current(state) != release else state.get("known_good")
        if target:
            before[place] = str(target)
        else:
            without.append(place)
    if without and not first:
        raise OptionError(
            _no_way_back(without),
            mend="Watch what runs there now with playbooks/watch.yml, or set canary_first_release for a first release",
        )
    return before


def _refuse_bad(options: Facts, states: Mapping[str, Mapping[str, Any]]) -> None:
    """A release that was found bad does not go out again by itself, whoever runs the pipeline once more."""
    if options["retry_bad"]:
        return
    bad = {}
    for place, state in states.items():
        for one in state.get("releases") or []:
            if one.get("id") == options["release"] and one.get("bad"):
                bad[place] = str(one["bad"].get("reason") or "no reason is recorded")
    if bad:
        place, reason = next(iter(bad.items()))
        raise OptionError(
            f"{options['release']} was found bad on {named(list(bad))}: {reason}", mend=RETRY, details={"place": place}
        )
    with closing(ledger_from(options)) as ledger:
        # a cluster keeps no mark of a canary that is gone
        why = found_bad(ledger, options["service"], options["release"])
    if why is not None:
        raise OptionError(f"{options['release']} was found bad in its last rollout: {why}", mend=RETRY)


def _current(state: Mapping[str, Any]) -> str:
    return str(state.get("current") or "")


def _is_good(state: Mapping[str, Any]) -> bool:
    releases = state.get("releases") or []
    return any(
        one.get("id") == _current(state) and one.get("known_good") and not one.get("bad")
        for one in releases
        if isinstance(one, Mapping)
    )


def _shared(step: Step) -> Sequence[str]:
    return [f"{place} {share:g} %" for place, share in step.shares.items()]


def _text(way: Walk, before: Mapping[str, str]) -> str:
    parts = [f"{step.index}/{step.of}: {named(_shared(step) or step.places or step.canary)}" for step in way.steps]
    back = ", ".join(sorted(set(before.values()))) or "nothing (a first release)"
    held = f"; held back until the last bake passes: {named(way.holdback)}" if way.holdback else ""
    return f"steps {'; '.join(parts)}{held}; the way back is {back}"
