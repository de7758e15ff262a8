# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard's options mean, and what its decisions say."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    FLAG_OFF,
    PROMOTE,
    RESTART,
    ROLLBACK,
    ROLLOUT,
    Decision,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.memory import (
    Condition,
    Fleet,
    Memory,
    Pause,
    Recommendation,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import (
    View,
    breaker,
    decide,
    mark,
    parse_guard,
)

NOW = 1_800_000_000.0
ACTING: Mapping[str, object] = {"mode": "act", "alerts": ["High"], "codes": ["PAY-DB-001"], "calls": ["ci"]}
FINE = Situation(confirmed=True, current="2.0", known_good="1.9", places=4, services=20)
CHANGED = Memory(changed_from=NOW - 900, changed_at=NOW - 600)


def asked(
    raw: Optional[Mapping[str, object]] = None,
    *,
    action: str = ROLLBACK,
    kind: str = "alert",
    name: str = "High",
    at: Optional[float] = NOW - 100,
    active: bool = True,
    approved: str = "",
    evidence: Optional[Mapping[str, object]] = None,
    situation: Situation = FINE,
    memory: Memory = CHANGED,
    fleet: Optional[Fleet] = None,
    **view: object,
) -> Decision:
    trigger = Trigger(kind, name, "t1", at, active, evidence=evidence or {})
    request = Request("d1", "shop", action, trigger, "x", situation, approved)
    seen = View(memory, fleet or Fleet(), **view)  # type: ignore[arg-type]
    return decide(parse_guard({**ACTING, **(raw or {})}, "shop"), request, seen, NOW)


def outcome(decision: Decision) -> str:
    return f"{decision.verdict} {decision.reason}".strip()


# --- options


def test_everything_can_be_set() -> None:
    policy = parse_guard(
        {
            "mode": "observe",
            "alerts": ["A", "B"],
            "codes": ["C-D-001"],
            "calls": ["ci"],
            "cooldown": "30m",
            "global_cooldown": "10s",
            "max_actions": 5,
            "window": "12h",
            "breaker": {"failures": 2, "reset": "2h"},
            "max_steps_back": 2,
            "hold_for": "1m",
            "clear_for": "10m",
            "rearm_below": "50%",
            "max_services": 7,
            "services_window": "30m",
            "max_alarming": "20%",
            "freeze": [{"days": ["sat"]}],
            "attribution_window": "2h",
            "approval_ttl": "1h",
            "watchdog": "5m",
            "clock": {"tolerance": "30s", "settle": "1m"},
        },
        "shop",
    )
    told = {key: value for key, value in vars(policy).items() if key not in ("plain", "version", "freeze")}
    assert told == {
        "service": "shop",
        "mode": "observe",
        "alerts": frozenset({"A", "B"}),
        "codes": frozenset({"C-D-001"}),
        "calls": frozenset({"ci"}),
        "cooldown": 1800.0,
        "global_cooldown": 10.0,
        "max_actions": 5,
        "window": 43200.0,
        "breaker_failures": 2,
        "breaker_reset": 7200.0,
        "max_steps_back": 2,
        "hold_for": 60.0,
        "clear_for": 600.0,
        "rearm_below": 0.5,
        "max_services": 7,
        "services_window": 1800.0,
        "max_alarming": 0.2,
        "attribution_window": 7200.0,
        "approval_ttl": 3600.0,
        "watchdog": 300.0,
        "clock_tolerance": 30.0,
        "clock_settle": 60.0,
    }
    assert len(policy.freeze) == 1


def test_the_version_is_that_of_what_was_written() -> None:
    one, same = (
        parse_guard({"cooldown": "5m", "mode": "act"}, "shop"),
        parse_guard({"mode": "act", "cooldown": "5m"}, "bank"),
    )
    assert one.version == same.version
    assert len(one.version) == 12
    assert parse_guard({"cooldown": "6m", "mode": "act"}, "shop").version != one.version
    assert asked({"cooldown": "5m"}).policy == parse_guard({**ACTING, "cooldown": "5m"}, "shop").version


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"modus": "act"}, "shop: guard: unknown key 'modus' (did you mean 'mode'?)"),
        ({"mode": "acting"}, "guard: mode must be one of observe, recommend, act, not 'acting' (did you mean 'act'?)"),
        ({"cooldown": "soon"}, "guard: cooldown must be a duration"),
        ({"max_actions": 0}, "guard: max_actions must be at least 1"),
        ({"max_actions": 65}, "guard: max_actions must be at most 64, not 65"),
        ({"max_services": 300}, "guard: max_services must be at most 256"),
        ({"breaker": 3}, "guard: breaker must be a mapping, not a number"),
        ({"breaker": {"failure": 3}}, "guard: breaker: unknown key 'failure' (did you mean 'failures'?)"),
        ({"clock": {"settle": -1}}, "guard: clock: settle must be at least 0"),
        ({"alerts": "High"}, "guard: alerts must be a list, not text"),
        ({"alerts": ["High", "*"]}, "guard: alerts must be names, not '*'"),
        ({"codes": [""]}, "guard: codes must be names, not ''"),
        ({"calls": [3]}, "guard: calls must be names, not 3"),
        ({"max_alarming": "130%"}, "guard: max_alarming must be at least 0 and at most 1"),
        ({"freeze": [{"days": ["sun"], "zone": "Mars"}]}, "shop: freeze 1: 'Mars' is no time zone"),
        ([], "shop: guard must be a mapping"),
    ],
)
def test_bad_options_say_what_is_wrong(raw: Mapping[str, object], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_guard(raw, "shop")
    assert message in caught.value.message


@pytest.mark.parametrize(("action", "kind"), [("rolback", "alert"), (ROLLBACK, "alarm")])
def test_words_that_the_guard_does_not_know_are_errors(action: str, kind: str) -> None:
    with pytest.raises(OptionError, match="is unknown to the guard .did you mean"):
        asked(action=action, kind=kind)


# --- modes


@pytest.mark.parametrize(
    ("mode", "kind", "action", "expected"),
    [
        ("observe", "alert", ROLLBACK, "observed"),
        ("recommend", "alert", ROLLBACK, "recommended"),
        ("act", "alert", ROLLBACK, "allowed"),
        ("recommend", "call", ROLLOUT, "recommended"),
        ("recommend", "call", PROMOTE, "allowed"),  # it was begun, and that was asked
        ("observe", "pipeline", ROLLOUT, "allowed"),
        ("observe", "person", ROLLBACK, "allowed"),
    ],
)
def test_modes_are_for_what_systems_begin(mode: str, kind: str, action: str, expected: str) -> None:
    name = "ci" if kind == "call" else "High"
    assert outcome(asked({"mode": mode}, kind=kind, action=action, name=name)) == expected


def test_without_options_nothing_is_done_and_nothing_is_eligible() -> None:
    request = Request("d1", "shop", ROLLBACK, Trigger("alert", "High", "t1", NOW), "x", FINE)
    assert outcome(decide(parse_guard({}, "shop"), request, View(CHANGED, Fleet()), NOW)) == "denied not_eligible"
    named = parse_guard({"alerts": ["High"]}, "shop")
    assert outcome(decide(named, request, View(CHANGED, Fleet()), NOW)) == "recommended"


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("alert", "High", "allowed"),
        ("alert", "high", "denied not_eligible"),
        ("alert", "PAY-DB-001", "denied not_eligible"),
        ("error_code", "PAY-DB-001", "allowed"),
        ("call", "ci", "allowed"),
        ("call", "High", "denied not_eligible"),
    ],
)
def test_eligible_is_what_is_named_exactly(kind: str, name: str, expected: str) -> None:
    assert outcome(asked(kind=kind, name=name)) == expected


def test_a_recommendation_says_how_long_it_waits_for_approval() -> None:
    decision = asked({"mode": "recommend", "approval_ttl": "10m"})
    assert decision.until == NOW + 600
    assert "Approve d1 with playbooks/control.yml, then run this again with rollback_approved=d1" in decision.message


def test_a_copy_of_what_was_recommended_names_what_waits() -> None:
    waiting = Recommendation(ROLLBACK, "2.0", "1.9", NOW + 60, "alert:High")
    for known, said in (
        (waiting, "nobody has approved recommendation d1. Approve d1 with"),
        (replace(waiting, approved_by="ada"), "ada approved recommendation d1."),
        (replace(waiting, used=True), "was decided on before. A new incident"),
        (replace(waiting, until=NOW), "was decided on before. A new incident"),
        (replace(waiting, condition="alert:Low"), "was decided on before. A new incident"),
    ):
        decision = asked(memory=replace(CHANGED, recommendations={"d1": known}), seen="recommended")
        assert outcome(decision) == "denied duplicate"
        assert said in decision.message


# --- attribution


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (NOW - 601, "allowed"),  # while it was rolled out
        (NOW - 901, "recommended not_attributable"),  # before
        (NOW - 540, "allowed"),
        (NOW - 539, "recommended not_attributable"),
        (None, "recommended not_attributable"),  # now, then
        (NOW + 999, "recommended not_attributable"),
    ],
)
def test_a_release_is_to_blame_for_what_begins_soon_after_it(at: Optional[float], expected: str) -> None:
    assert outcome(asked({"attribution_window": "60s"}, at=at)) == expected


@pytest.mark.parametrize(
    ("evidence", "action", "expected"),
    [
        ({"release": "2.0"}, ROLLBACK, "allowed"),
        ({"release": "1.9"}, ROLLBACK, "recommended not_attributable"),
        ({"release": ""}, ROLLBACK, "allowed"),
        ({"release": ["1.9"]}, ROLLBACK, "allowed"),
        ({"release": "1.9"}, RESTART, "allowed"),
    ],
)
def test_what_is_about_another_release_is_not_this_ones_fault(
    evidence: Mapping[str, object], action: str, expected: str
) -> None:
    assert outcome(asked(evidence=evidence, action=action)) == expected


def test_attribution_by_what_the_caller_knows_where_the_ledger_does_not() -> None:
    assert outcome(asked(memory=Memory())) == "recommended not_attributable"
    known = replace(FINE, changed_at=NOW - 600)
    assert outcome(asked(memory=Memory(), situation=known)) == "allowed"
    assert outcome(asked(memory=Memory(), situation=known, at=NOW - 700)) == "recommended not_attributable"
    assert outcome(asked({"mode": "observe"}, memory=Memory())) == "observed not_attributable"
    assert outcome(asked(memory=Memory(), action=FLAG_OFF)) == "allowed"


def test_an_outage_three_days_after_the_last_deploy_only_pages() -> None:
    decision = asked(memory=Memory(changed_from=NOW - 3 * 86400, changed_at=NOW - 3 * 86400))
    assert (outcome(decision), decision.page) == ("recommended not_attributable", True)
    assert "3600 s older (attribution_window)" in decision.message


# --- confirmation and pages


@pytest.mark.parametrize(
    ("confirmed", "active", "expected", "page"),
    [
        (True, True, "allowed", False),
        (False, True, "denied not_confirmed", False),
        (None, True, "denied not_confirmed", True),
        (True, False, "denied not_confirmed", False),
    ],
)
def test_what_its_source_does_not_confirm_is_not_acted_on(
    confirmed: Optional[bool], active: bool, expected: str, page: bool
) -> None:
    decision = asked(situation=replace(FINE, confirmed=confirmed), active=active)
    assert (outcome(decision), decision.page) == (expected, page)


@pytest.mark.parametrize(
    ("kind", "seen", "page"),
    [
        ("alert", None, True),
        ("alert", "denied:paused", False),
        ("alert", "denied:cooldown", True),
        ("person", None, False),
        ("pipeline", None, False),
    ],
)
def test_what_is_bad_and_denied_pages_once_for_each_reason(kind: str, seen: Optional[str], page: bool) -> None:
    paused = replace(CHANGED, pause=Pause("ada", NOW - 5, "a drill"))
    action = ROLLOUT if kind == "person" else ROLLBACK
    decision = asked(kind=kind, memory=paused, seen=seen, action=action)
    assert (outcome(decision), decision.page) == ("denied paused", page)
    told = page or seen == "denied:paused"
    assert mark(decision, seen) == ("denied:paused" if told else "denied:paused:untold")


def test_what_was_denied_without_a_page_pages_when_it_has_to() -> None:
    calm = asked(situation=replace(FINE, confirmed=False))
    assert (calm.reason, calm.page, mark(calm)) == ("not_confirmed", False, "denied:not_confirmed:untold")
    blind = asked(situation=replace(FINE, confirmed=None), seen=mark(calm))
    assert (blind.reason, blind.page, mark(blind, mark(calm))) == ("not_confirmed", True, "denied:not_confirmed")
    assert not asked(situation=replace(FINE, confirmed=None), seen="denied:not_confirmed").page


def test_what_is_only_recommended_or_observed_pages_too() -> None:
    assert asked({"mode": "recommend"}).page
    assert asked({"mode": "observe"}).page
    assert not asked({"mode": "observe"}, seen="observed").page
    assert not asked({"mode": "recommend"}, situation=replace(FINE, confirmed=True), action=ROLLOUT).page
    assert mark(asked({"mode": "observe"})) == "observed"


@pytest.mark.parametrize("seen", ["allowed", "recommended", "denied:duplicate"])
def test_a_copy_is_neither_acted_on_nor_paged(seen: str) -> None:
    decision = asked(seen=seen)
    assert (outcome(decision), decision.page) == ("denied duplicate", False)


def test_a_late_copy_of_what_is_over_is_not_acted_on() -> None:
    over = replace(CHANGED, conditions={"alert:High": Condition(ended=("t1",))})
    assert outcome(asked(memory=over)) == "denied not_confirmed"


# --- limits


@pytest.mark.parametrize(
    ("ago", "expected"), [(899.0, "denied cooldown"), (900.0, "allowed"), (-5.0, "denied cooldown")]
)
def test_cooldown(ago: float, expected: str) -> None:
    """Five seconds ahead, after the clock went back, is not long ago."""
    decision = asked(memory=replace(CHANGED, acted_at=NOW - ago))
    assert outcome(decision) == expected
    assert decision.until == (None if decision.allowed else NOW - ago + 900)


def test_cooldown_of_all_services() -> None:
    decision = asked(fleet=Fleet(acted={"bank": NOW - 59, "mail": NOW - 500}))
    assert (outcome(decision), decision.until) == ("denied cooldown", NOW + 1)
    assert outcome(asked(fleet=Fleet(acted={"bank": NOW - 60}))) == "allowed"
    assert outcome(asked({"global_cooldown": 0}, fleet=Fleet(acted={"bank": NOW}))) == "allowed"
    # another one acted while this one waited for the store
    assert outcome(asked({"global_cooldown": 0}, fleet=Fleet(acted={"bank": NOW + 0.1}))) == "allowed"


def test_at_most_so_many_actions_in_a_window() -> None:
    often = replace(CHANGED, actions=(NOW - 90000, NOW - 80000, NOW - 5000, NOW - 4000))
    decision = asked(memory=often)
    assert (outcome(decision), decision.until) == ("denied rate_limited", NOW - 80000 + 86400)
    assert outcome(asked({"max_actions": 4}, memory=often)) == "allowed"
    assert outcome(asked(memory=replace(often, actions=often.actions[1:3]))) == "allowed"


def test_at_most_so_many_services_in_a_window() -> None:
    acted = {"bank": NOW - 3599, "mail": NOW - 2000, "crm": NOW - 100}
    decision = asked(fleet=Fleet(acted=acted))
    assert (outcome(decision), decision.until) == ("denied blast_radius", NOW + 1)
    assert outcome(asked(fleet=Fleet(acted={**acted, "bank": NOW - 3600}))) == "allowed"
    # a service that was acted on already is not one more
    assert outcome(asked(fleet=Fleet(acted={"bank": NOW - 300, "mail": NOW - 200, "shop": NOW - 100}))) == "allowed"


@pytest.mark.parametrize(
    ("others", "services", "expected"),
    [
        (1, 2, "allowed"),  # two of two: too few to say anything
        (2, 9, "denied blast_radius"),
        (2, 10, "allowed"),
        (3, 10, "denied blast_radius"),
        (2, 0, "denied blast_radius"),  # of nobody knows how many
    ],
)
def test_when_most_services_alarm_the_signal_is_distrusted(others: int, services: int, expected: str) -> None:
    alarming = {f"s{number}": {"alert:High": NOW - 60} for number in range(others)}
    alarming["old"] = {"alert:High": NOW - 86400}  # goes on for a day, and has no part in this
    decision = asked(fleet=Fleet(alarming=alarming), situation=replace(FINE, services=services))
    assert outcome(decision) == expected
    assert decision.page == (not decision.allowed)
    called = asked(fleet=Fleet(alarming=alarming), situation=replace(FINE, services=services), kind="call", name="ci")
    assert outcome(called) == "allowed"


def test_the_empty_selection_is_never_everything() -> None:
    decision = asked(situation=replace(FINE, places=0), kind="person")
    assert outcome(decision) == "denied blast_radius"
    assert "never stands for all" in decision.message


@pytest.mark.parametrize(
    ("heard", "kind", "expected"),
    [
        (None, "alert", "denied alerts_silent"),
        (NOW - 301, "alert", "denied alerts_silent"),
        (NOW - 300, "alert", "allowed"),
        (None, "call", "allowed"),
    ],
)
def test_without_its_watchdog_an_alert_is_not_believed(heard: Optional[float], kind: str, expected: str) -> None:
    name = "ci" if kind == "call" else "High"
    assert outcome(asked({"watchdog": "5m"}, watchdog_at=heard, kind=kind, name=name)) == expected


# --- hysteresis


def test_it_has_to_last() -> None:
    since = replace(CHANGED, conditions={"alert:High": Condition(since=NOW - 59, firing=("t1",))})
    decision = asked({"hold_for": "1m"}, memory=since)
    assert (outcome(decision), decision.until) == ("denied not_held", NOW + 1)
    assert outcome(asked({"hold_for": 59}, memory=since)) == "allowed"
    assert outcome(asked({"hold_for": "1m"})) == "denied not_held"  # heard of for the first time
    assert outcome(asked({"hold_for": "1m"}, kind="call", name="ci")) == "allowed"


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (((-900, 3.0), (-400, -1.0), (-50, 2.0)), "allowed"),  # resolved for 350 s
        (((-900, 3.0), (-300, 0.8)), "allowed"),  # low for 300 s, until now
        (((-900, 3.0), (-299, 0.8)), "denied not_rearmed"),
        (((-900, 3.0), (-400, 0.9)), "denied not_rearmed"),  # lower, but not low
        (((-900, 3.0), (-800, -1.0), (-600, 2.0), (-400, -1.0), (-200, 2.0)), "denied not_rearmed"),  # flapping
        (((-900, 3.0), (-400, 0.5), (-200, 0.1)), "allowed"),  # in one piece
        (((-2000, -1.0), (-900, 3.0)), "denied not_rearmed"),  # was clear before it was acted on
        (((100, -1.0), (90, 2.0)), "denied not_rearmed"),  # the clock went back
    ],
)
def test_it_is_armed_again_when_it_was_clear_for_long_enough(levels: object, expected: str) -> None:
    steps = tuple((NOW + at, height) for at, height in levels)  # type: ignore[attr-defined]
    acted_on = replace(CHANGED, conditions={"alert:High": Condition(NOW - 900, NOW - 890, steps, ("t1",))})
    assert outcome(asked(memory=acted_on)) == expected
    assert outcome(asked(memory=acted_on, kind="call", name="ci")) == "allowed"


# --- breaker


def test_the_breaker_opens_lets_one_try_through_and_waits_again() -> None:
    policy = parse_guard({**ACTING, "breaker": {"failures": 2, "reset": "10m"}}, "shop")
    once = Memory(failures=1, failed_at=NOW - 10)
    assert breaker(policy, once, NOW) == ("closed", None)
    twice = Memory(failures=2, failed_at=NOW - 10, actions=(NOW - 20,))
    assert breaker(policy, twice, NOW) == ("open", NOW + 590)
    assert breaker(policy, twice, NOW + 590) == ("half_open", None)
    trying = replace(twice, actions=(NOW - 20, NOW + 590))
    assert breaker(policy, trying, NOW + 591) == ("open", NOW + 1190)
    assert breaker(policy, Memory(tripped_at=NOW), NOW) == ("open", NOW + 600)


def test_an_open_breaker_says_why_and_until_when() -> None:
    decision = asked(memory=replace(CHANGED, failures=1, failed_at=NOW - 600))
    assert (outcome(decision), decision.until) == ("denied breaker_open", NOW + 3000)
    assert "after 1 failed or unrecovered action." in decision.message
    tripped = asked(memory=replace(CHANGED, tripped_at=NOW - 600), action=RESTART)
    assert tripped.message.startswith("Its breaker is open. ")


@pytest.mark.parametrize(
    ("steps", "most", "action", "expected"),
    [
        (1, 1, ROLLBACK, "denied breaker_open"),
        (1, 1, RESTART, "allowed"),
        (1, 2, ROLLBACK, "allowed"),
        (2, 2, ROLLBACK, "denied breaker_open"),
    ],
)
def test_it_never_steps_back_further_than_it_may(steps: int, most: int, action: str, expected: str) -> None:
    decision = asked({"max_steps_back": most}, memory=replace(CHANGED, steps_back=steps), action=action)
    assert (outcome(decision), decision.until) == (expected, None)


# --- pauses and what is under way


def test_a_pause_says_who_why_and_until_when() -> None:
    mine = Pause("ada", NOW - 5, "a drill.", NOW + 60)
    everybodys = Pause("bob", NOW - 9, "an outage")
    decision = asked(memory=replace(CHANGED, pause=mine))
    assert decision.until == NOW + 60
    assert decision.message == (
        "ada paused it at 2027-01-15 07:59:55 UTC until 2027-01-15 08:01:00 UTC: a drill. "
        "Resume it with playbooks/control.yml."
    )
    both = asked(memory=replace(CHANGED, pause=mine), fleet=Fleet(pause=everybodys))
    assert both.until is None
    assert "bob paused every service at 2027-01-15 07:59:51 UTC without end: an outage" in both.message
    assert asked(memory=replace(CHANGED, pause=replace(mine, until=NOW))).allowed


def test_a_lease_in_force_says_who_holds_it() -> None:
    decision = asked(lease=Lease("shop", "ctl1", 7, NOW + 30))
    assert (outcome(decision), decision.until) == ("denied in_progress", NOW + 30)
    assert decision.message.startswith("ctl1 is at work on it and holds the lease for 30 s more. Wait")


# --- approvals

RECOMMENDED = Recommendation(ROLLBACK, "2.0", "1.9", NOW + 60, "alert:High", "ada")


def approved(kept: Recommendation, **more: object) -> Decision:
    memory = replace(CHANGED, recommendations={"d0": kept})
    return asked({"mode": "recommend"}, memory=memory, approved="d0", seen="recommended", **more)  # type: ignore[arg-type]


def test_what_was_approved_is_allowed_in_any_mode_and_despite_limits() -> None:
    assert outcome(approved(RECOMMENDED)) == "allowed"
    memory = replace(
        CHANGED,
        recommendations={"d0": RECOMMENDED},
        acted_at=NOW - 1,
        failures=3,
        failed_at=NOW - 1,
        steps_back=5,
        actions=(NOW - 3, NOW - 2, NOW - 1),
    )
    assert outcome(asked({"mode": "observe", "alerts": []}, memory=memory, approved="d0")) == "allowed"


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        (replace(RECOMMENDED, until=NOW), "it expired at 2027-01-15 08:00:00 UTC"),
        (replace(RECOMMENDED, used=True), "it was carried out already"),
        (replace(RECOMMENDED, approved_by=""), "nobody approved it"),
        (
            replace(RECOMMENDED, release="1.8"),
            "it was for the rollback of 1.8 to 1.9, and by now it would be the rollback of 2.0",
        ),
        (replace(RECOMMENDED, target="1.7"), "it was for the rollback of 2.0 to 1.7"),
        (replace(RECOMMENDED, action=RESTART, target=""), "it was for the restart of 2.0,"),
    ],
)
def test_an_approval_is_good_once_in_time_and_for_the_same_thing(kept: Recommendation, why: str) -> None:
    decision = approved(kept)
    assert outcome(decision) == "denied not_eligible"
    assert f"Recommendation d0 is no leave to act: {why}" in decision.message


def test_an_approval_of_nothing_and_one_of_what_is_over() -> None:
    assert "there is no such recommendation" in asked(approved="d9").message
    over = approved(RECOMMENDED, situation=replace(FINE, confirmed=False))
    assert outcome(over) == "denied not_confirmed"
    assert outcome(approved(RECOMMENDED, situation=replace(FINE, confirmed=None))) == "allowed"


def test_a_jumped_clock_cannot_tell_whether_an_approval_expired() -> None:
    decision = approved(RECOMMENDED, drift=-600.0)
    assert outcome(decision) == "denied clock_jumped"
    assert "wrong by -600 s" in decision.message
