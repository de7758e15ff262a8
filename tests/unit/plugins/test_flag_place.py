# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A feature flag as a place: which release its share means, what is wished of it, and its two sides in a bake."""

from __future__ import annotations

from typing import Any, Dict, Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.action import rollback_plan
from ansible_collections.selfheal.delivery.plugins.action.canary_bake import _routed
from ansible_collections.selfheal.delivery.plugins.action.canary_plan import DEFAULT_TRAFFIC, _traffic
from ansible_collections.selfheal.delivery.plugins.module_utils._act.flag.options import facts, outcome, wish
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy
from ansible_collections.selfheal.delivery.plugins.plugin_utils._flag_place import (
    arms,
    is_off,
    measured,
    overwriting,
    refuse_unlike,
    sides,
    switched_off,
)

OWN: Dict[str, Any] = {"flag": "new-search", "provider": {"type": "json", "path": "flags.json"}}
GATE = {"name": "errors", "bad": "bad", "total": "all"}
STEPS = [{"index": n, "shares": {"search": share}} for n, share in enumerate((5.0, 25.0, 100.0), start=1)]
PROMETHEUS = {"type": "prometheus", "url": "http://127.0.0.1:9090"}


def policy_of(source: Dict[str, Any] = PROMETHEUS, **options: object) -> Policy:
    raw: Dict[str, Any] = {"backend": "flag", "backend_options": {**OWN, **options}, "source": source, "gates": [GATE]}
    return parse_policy(raw, "test/search")


def told_of(*, on: bool, percentage: Any = None, served: Optional[Dict[str, object]] = None) -> Dict[str, Any]:
    return {"state": {"on": on, "percentage": percentage}, "served": {"known": served is not None, **(served or {})}}


@pytest.mark.parametrize(
    "asked, share, current, canary, active",
    [
        (told_of(on=False, percentage=50), 0, "off", "", ""),
        (told_of(on=True, percentage=25), 25, "off", "on", "on"),
        (told_of(on=True, percentage=100), 100, "on", "", "on"),
        # by the flag's own rules: for whom, nobody can say in one number
        (told_of(on=True), None, "on", "", "on"),
        # what clients are served counts before what management says
        (told_of(on=False, served={"percentage": 25.0, "value": None}), 25, "off", "on", "on"),
        (told_of(on=False, served={"value": True}), None, "on", "", "on"),
        (told_of(on=False, served={"value": False}), 0, "off", "", ""),
    ],
)
def test_which_release_a_share_means(asked: Dict[str, Any], share: Any, current: str, canary: str, active: str) -> None:
    seen = facts(asked, OWN)
    assert (seen["share"], seen["current"], seen["canary"], seen["active"]) == (share, current, canary, active)
    assert seen["known_good"] == ("off" if current == "on" else None)
    assert [one["id"] for one in seen["releases"] if one["known_good"]] == ["off"]
    # what a rollback would take back is what some are served already, and nothing of a flag that is off
    place = rollback_plan._place(seen)
    assert place is not None and place.current == (active or None)


def test_a_rollback_of_what_a_flag_cannot_be_is_not_one_that_has_nothing_to_do() -> None:
    told = {"search": facts(told_of(on=True, percentage=100), OWN)}
    rollback_plan.refuse_unknown("on", told)
    with pytest.raises(OptionError, match="release 'True' is none of a feature flag.* Write it in quotes"):
        rollback_plan.refuse_unknown("True", told)
    rollback_plan.refuse_unknown("True", {"web1": {"current": "2.0.0", "releases": []}})


def test_a_releases_wishes_in_those_of_a_flag() -> None:
    own = {**OWN, "serve": "blue", "serve_off": "grey", "arm_on": "true"}
    part = wish(own, {"release": "on", "state": "deployed", "token": 7}, share=5)
    assert part == {**OWN, "state": "on", "serve": "blue", "percentage": 5}
    assert wish(OWN, {"release": "on", "state": "promoted"}, share=100)["percentage"] == 100
    back = wish(own, {"release": "on", "state": "known_good", "to": "off", "mark_bad": "errors failed"}, share=100)
    assert back == {**OWN, "state": "off", "serve": "grey", "reason": "errors failed"}
    assert wish(OWN, {"state": "known_good"}, share=100)["serve"] is False


@pytest.mark.parametrize(
    "wishes, share, said",
    [
        ({"release": "2.0.0"}, 100, "release '2.0.0' is none of a feature flag: here it can be 'on' alone"),
        ({"release": "True"}, 100, "Write it in quotes"),
        ({"release": "off"}, 100, "off is where it goes back to"),
        ({"release": "on"}, 0, "share is 0"),
        ({"release": "on", "src": "build"}, 100, "a flag has no content"),
        ({"release": "on", "rollback": "blocked"}, 100, "may always be turned off"),
        ({"state": "known_good", "to": "on"}, 100, "a person's decision"),
        ({"state": "known_good", "release": "off"}, 100, "nothing to go back to"),
    ],
)
def test_what_a_flag_cannot_be(wishes: Dict[str, object], share: float, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        wish(OWN, wishes, share=share)


def test_what_came_of_it_in_the_words_of_a_release() -> None:
    off, on = {"on": False, "percentage": 0}, {"on": True, "percentage": 5}
    result = {"changed": True, "status": "effective", "call_took": 0.5, "effective_after": 1.0, "before": off}
    done = outcome({**result, "after": on, "served": {"known": True, "percentage": 5.0}}, OWN, "on")
    assert (done["before"], done["current"], done["share"], done["took"]) == ("off", "off", 5.0, 1.5)
    assert done["actions"] == ["turned it on for 5 % of the clients"]
    # it was turned off, and clients are still served it: the place is where they are
    stuck = {**result, "status": "not_effective", "effective_after": None, "failed": True, "msg": "still served"}
    late = outcome({**stuck, "before": on, "after": off, "served": {"known": True, "percentage": 5.0}}, OWN, "on")
    assert (late["failed"], late["share"], late["active"], late["msg"]) == (True, 5.0, "on", "still served")
    # a dry run asks what is served now, and tells what would be
    dry = outcome({**result, "after": on, "served": {"known": True, "percentage": 0.0}}, OWN, "on", dry=True)
    assert dry["share"] == 5.0
    unasked = outcome({"failed": True, "msg": "it cannot be reached", "before": {}}, OWN, "on")
    assert unasked == {"failed": True, "msg": "it cannot be reached", "release": "on"}


def rollout(kind: str, state: str, **intent: object) -> Rollout:
    return Rollout("r", "test/search", "on", kind, state, 1, 0.0, 0.0, intent)


def test_a_flag_that_was_switched_off_is_turned_on_again_by_a_person_alone() -> None:
    off = rollout("action", "done", action="flag_off", flag="new-search", why="alert SearchErrors")
    on = rollout("action", "done", action="flag_on", flag="new-search", why="mended")
    other = rollout("action", "done", action="flag_off", flag="old-search", why="alert OldErrors")
    good, undone = rollout("canary", "done"), rollout("canary", "undone")
    assert switched_off([other, undone, off, good], "new-search") == "alert SearchErrors"
    for newest_first in ([], [other], [good, off], [on, off], [undone, on, off]):
        assert switched_off(newest_first, "new-search") == ""


def test_two_sides_of_one_place_are_measured_until_everybody_is_on_the_same() -> None:
    policy = policy_of(arm_on="true", arm_off="false")
    assert [(side["place"], side["instance"]) for side in sides(policy, "search")] == [
        ("search/on", "true"),
        ("search/off", "false"),
    ]
    assert policy.source_of(policy.gates[0])["place_label"] == "flag_variant"
    assert arms(policy, "search", STEPS[0]) == (("search/on",), ("search/off",))
    assert arms(policy, "search", STEPS[2]) == (("search/on",), ())
    assert arms(policy, "search", {}) == (("search/on",), ("search/off",))  # where it went back to is the second one
    assert [_routed(policy, {**step, "canary": ["search"], "baseline": []}) for step in STEPS] == [0.05, 0.25, None]
    plan = measured(policy, "search", {"current": "off"}, STEPS)
    assert (plan["sizes"], plan["later"], plan["share"]) == ([1, 1, 2], ["search/on"], 0.05)
    # of a flag that is on for all, nothing is measured on the other side
    assert measured(policy, "search", {"current": "on"}, STEPS)["later"] == ["search/off"]
    assert measured(policy, "search", {"current": "off"}, [{"index": 1, "shares": {}}])["share"] is None
    assert _traffic({"traffic_steps": "auto"}, policy, {}) == DEFAULT_TRAFFIC
    assert policy_of({**PROMETHEUS, "place_label": "variant"}).source_of(policy.gates[0])["place_label"] == "variant"


def test_a_flag_is_off_where_nobody_is_to_be_served_it() -> None:
    late = {"percentage": 10.0, "value": True}  # clients have not asked since it was switched off
    assert is_off(told_of(on=False, served=late), OWN) and is_off(told_of(on=True, percentage=0), OWN)
    assert not is_off(told_of(on=True, percentage=10), OWN) and not is_off(told_of(on=True), OWN)
    inverted = {**OWN, "serve": False, "serve_off": True}
    assert not is_off(told_of(on=False, served={"value": False}), inverted)
    assert is_off(told_of(on=False, served={"value": True}), inverted)


def test_a_share_that_somebody_else_set_is_not_overwritten_in_silence() -> None:
    assert overwriting(OWN, facts(told_of(on=False), OWN)) == []
    for asked, whom in ((told_of(on=True, percentage=30), "30 % of the clients"), (told_of(on=True), "its own rules")):
        (said,) = overwriting(OWN, facts(asked, OWN))
        assert whom in said and "is on for" in said


def test_what_cannot_be_walked_through_with_a_flag() -> None:
    on = {"release": "on", "src": ""}
    refuse_unlike(on, policy_of(), ["search"])
    for options, policy, places, said in (
        ({**on, "release": "1.0.0"}, policy_of(), ["search"], "is none of a feature flag"),
        ({**on, "src": "build"}, policy_of(), ["search"], "Remove canary_src"),
        (on, policy_of(), ["eu", "us"], "has 2 places, and a flag is the same for all of them"),
        (on, policy_of({"type": "exposition"}), ["search"], "gate 'errors' reads a page"),
    ):
        with pytest.raises(OptionError, match=said):
            refuse_unlike(options, policy, places)
    with pytest.raises(OptionError, match="arm_on is not text"):
        sides(policy_of(arm_on=True), "search")
    # what is compared with itself is as good as itself, however bad it is
    with pytest.raises(OptionError, match="both sides of a flag are called 'off'"):
        sides(policy_of(arm_on="off"), "search")
