# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bake's state machine: what ends it, what holds it, what people may say, and that it resumes anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.bake import (
    FAILED,
    HELD,
    HOLD,
    OVER,
    PASSED,
    PROMOTE,
    UNDECIDED,
    UNDO,
    WATCH,
    WATCHING,
    Bake,
    BakeReport,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Absent,
    Arms,
    Counts,
    GateLook,
    Liveness,
    Look,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy

BASE = tuple(f"b{index}" for index in range(8))
ARMS = Arms(("a", "a2"), BASE)
EVERYBODY = ARMS.canary + BASE
UP = {place: Liveness(True) for place in EVERYBODY}
DOWN = Absent("provider_error", "connection refused by 127.0.0.1:9090")
MEMORY = {"name": "memory", "type": "value", "value": "rss", "max": 100, "pass_max": 80, "every": 2}
ERRORS = {"name": "errors", "bad": "bad", "total": "all", "max": 0.05}
BUDGET = {"name": "budget", "type": "burn_rate", "bad": "b", "total": "t", "slo": 0.99}


def policy(*gates: Mapping[str, object], **bake: object) -> Policy:
    times = {"min_bake": 20, "deadline": 60, "extend": 30, "hold_deadline": 300, "resume_after": 20, **bake}
    return parse_policy({"source": {"type": "exposition"}, "bake": times, "gates": list(gates) or [MEMORY]}, "shop")


def at(
    elapsed: float,
    value: Optional[float] = 50,
    *,
    gates: Optional[Mapping[str, GateLook]] = None,
    alive: Mapping[str, Liveness] = UP,
    warming: Tuple[str, ...] = (),
) -> Look:
    measured = GateLook() if value is None else GateLook(values=dict.fromkeys(EVERYBODY, value))
    return Look(elapsed, ARMS, gates or {"memory": measured}, alive, warming)


def begun(read: Policy, steps: int = 3) -> Bake:
    bake = Bake(read, steps=steps)
    bake.begin_step(1, 0, ARMS.canary)
    return bake


def run(bake: Bake, until: float, look: Callable[[float], Look], start: float = 0) -> List[BakeReport]:
    """Looks every 2 s after `start`, until the bake is over or the time is up."""
    reports: List[BakeReport] = []
    elapsed = start
    while elapsed < until and (not reports or reports[-1].phase not in OVER):
        elapsed += 2
        reports.append(bake.look(look(elapsed)))
    return reports


def test_all_gates_pass_but_not_before_min_bake() -> None:
    reports = run(begun(policy()), 100, at)
    last = reports[-1]
    assert (last.phase, last.verdict, last.action, last.elapsed) == (PASSED, PASS, PROMOTE, 20)
    assert all(report.action == WATCH and report.verdict == INCONCLUSIVE for report in reports[:-1])
    assert last.progress == "bake 1/3  00:20 of 01:00  memory 50 vs 50 (n 5, bad 0) PASS  all gates pass"


def test_the_first_fail_ends_it() -> None:
    last = run(begun(policy()), 100, lambda now: at(now, 500 if now > 4 else 50))[-1]
    assert (last.phase, last.verdict, last.action, last.gate, last.reason) == (FAILED, FAIL, UNDO, "memory", "limit")
    assert last.elapsed == 10 and json.dumps(last.as_dict(), allow_nan=False)


def test_a_canary_that_is_down_fails_within_two_looks() -> None:
    dead = {**UP, "a": Liveness(False)}
    last = run(begun(policy()), 100, lambda now: at(now, alive=dead))[-1]
    assert (last.phase, last.gate, last.elapsed) == (FAILED, "alive", 4)


def test_a_place_that_warms_up_keeps_the_step_open() -> None:
    reports = run(begun(policy()), 40, lambda now: at(now, warming=("a3",), alive={**UP, "a3": Liveness(True)}))
    assert {report.phase for report in reports} == {WATCHING}


@pytest.mark.parametrize(
    ("choice", "phase", "action"), [("hold", HELD, HOLD), ("pass", UNDECIDED, PROMOTE), ("undo", UNDECIDED, UNDO)]
)
def test_at_the_deadline_the_policy_decides(choice: str, phase: str, action: str) -> None:
    last = run(begun(policy(on_undecided=choice)), 60, lambda now: at(now, 90))[-1]
    assert (last.phase, last.action, last.verdict, last.reason) == (phase, action, INCONCLUSIVE, "undecided")
    assert last.message == "undecided after 60s: memory is undecided"


def test_it_is_extended_once_for_want_of_data() -> None:
    reports = run(begun(policy(on_undecided="undo")), 200, lambda now: at(now, None))
    assert (reports[29].total, reports[29].phase) == (90, WATCHING)
    assert reports[29].progress.endswith("extended by 30s: memory has no data")
    assert (reports[-1].elapsed, reports[-1].action, reports[-1].reason) == (90, UNDO, "no_data")


def test_no_data_is_held_even_where_undecided_would_pass() -> None:
    last = run(begun(policy(on_undecided="pass", extend=0)), 60, lambda now: at(now, None))[-1]
    assert (last.phase, last.action, last.page) == (HELD, HOLD, True)


def test_a_canary_that_is_down_right_then_is_held_even_where_undecided_would_pass() -> None:
    down = {**UP, "a": Liveness(False)}
    last = run(begun(policy(on_undecided="pass")), 60, lambda now: at(now, 90, alive=down if now == 60 else UP))[-1]
    assert (last.phase, last.gate) == (HELD, "alive")


def test_an_old_pass_does_not_outlive_the_data() -> None:
    """The gate keeps saying pass for a place that has fallen silent; the bake does not."""
    said = GateLook(absent={place: Absent("stale") for place in EVERYBODY})
    bake = begun(policy(BUDGET))
    counts = {"budget": GateLook(counts={place: Counts(0, 100) for place in EVERYBODY})}
    assert run(bake, 18, lambda now: at(now, gates=counts))[-1].gates[-1].verdict == PASS
    report = bake.look(at(30, gates={"budget": said}))
    assert (report.phase, report.gates[-1].reason) == (WATCHING, "no_data")


def test_a_silence_of_a_few_looks_is_between_two_scrapes_and_a_long_one_is_no_data() -> None:
    def sparse(now: float) -> Look:
        return at(now, 50 if now in (2, 4, 6, 8, 10) else None)

    bake = begun(policy(min_bake=60, deadline=100))
    reports = run(bake, 90, sparse)
    assert all(report.phase == WATCHING for report in reports)


# --- the source


def test_a_source_that_is_down_holds_and_pages_and_goes_on() -> None:
    bake = begun(policy())
    run(bake, 10, at)
    down = [bake.look(at(now), DOWN) for now in (12, 14, 16, 18)]
    assert {(report.phase, report.action, report.reason) for report in down} == {(HELD, WATCH, "provider_error")}
    assert [report.page for report in down] == [False, False, True, False]
    assert "the source is down: connection refused" in down[0].progress
    assert {gate.reason for gate in down[0].gates} == {"provider_error"}
    after = run(bake, 60, at, start=18)
    assert after[0].phase == WATCHING and after[-1].phase == PASSED
    assert after[-1].elapsed == 20


def test_a_source_that_never_answers_neither_fails_nor_promotes_until_the_hold_is_over() -> None:
    bake = begun(policy(on_undecided="pass"))
    reports = [bake.look(at(now), DOWN) for now in range(2, 302, 2)]
    assert {report.action for report in reports} == {WATCH, HOLD}
    last = bake.look(at(302), DOWN)
    assert (last.phase, last.action, last.reason, last.verdict) == (UNDECIDED, UNDO, "hold_deadline", INCONCLUSIVE)


def test_a_gate_whose_own_source_is_down_is_held_at_the_deadline() -> None:
    lost = GateLook(absent={place: Absent("provider_error") for place in EVERYBODY})
    last = run(begun(policy(on_undecided="undo")), 60, lambda now: at(now, gates={"memory": lost}))[-1]
    assert (last.phase, last.reason, last.gate) == (HELD, "provider_error", "memory")


# --- held


def test_a_held_rollout_that_comes_to_pass_is_promoted() -> None:
    reports = run(begun(policy()), 100, lambda now: at(now, 90 if now <= 60 else 79))
    assert reports[29].phase == HELD and reports[-1].phase == PASSED


def test_a_held_rollout_resumes_when_it_stayed_low_and_is_held_again_when_nothing_comes_of_it() -> None:
    slow = policy({**MEMORY, "fail_of": 25})
    reports = run(begun(slow), 140, lambda now: at(now, 79 if 60 < now <= 84 else 90))
    phases = [report.phase for report in reports]
    assert phases[29:39] == [HELD] * 10 and phases[39] == WATCHING and phases[-1] == HELD
    assert reports[39].message == "resumed: every gate stayed low for 20s"


def test_a_held_rollout_that_stays_high_is_undone_at_the_hold_deadline() -> None:
    last = run(begun(policy()), 500, lambda now: at(now, 90))[-1]
    assert (last.action, last.reason, last.page) == (UNDO, "hold_deadline", True)
    assert last.message.startswith("held for 300s without a decision: undecided after 60s")


def test_a_held_rollout_still_fails() -> None:
    last = run(begun(policy()), 500, lambda now: at(now, 90 if now < 100 else 500))[-1]
    assert (last.phase, last.action) == (FAILED, UNDO)


# --- people


def test_a_person_holds_and_resumes() -> None:
    bake = begun(policy())
    run(bake, 10, at)
    held = bake.command("hold", by="ada", reason="lunch")
    assert (held.phase, held.action, held.message) == (HELD, WATCH, "held by ada: lunch")
    assert {report.phase for report in run(bake, 40, at, start=10)} == {HELD}
    assert bake.command("resume", by="ada").phase == WATCHING
    assert run(bake, 100, at, start=40)[-1].elapsed == 20


def test_a_person_decides_after_the_play_has_ended() -> None:
    bake = begun(policy())
    run(bake, 60, lambda now: at(now, 90))
    resumed = bake.command("resume", by="ada")
    assert (resumed.phase, resumed.action, resumed.total) == (WATCHING, WATCH, 90)
    assert bake.command("resume", by="ada").phase == WATCHING


def test_a_person_who_held_the_undecided_gives_it_time_by_resuming() -> None:
    bake = begun(policy())
    run(bake, 60, lambda now: at(now, 90))
    assert bake.command("hold", by="ada").action == HOLD
    bake.command("resume", by="ada")
    assert bake.look(at(62, 90)).phase == WATCHING


def test_a_hold_by_a_person_that_outlasts_the_bake_ends_the_play() -> None:
    bake = begun(policy())
    bake.command("hold", by="ada")
    assert [report.action for report in run(bake, 70, at)][28:31] == [WATCH, HOLD, HOLD]


def test_a_person_promotes_with_a_reason() -> None:
    bake = begun(policy())
    with pytest.raises(OptionError, match="needs a reason"):
        bake.command("promote", by="ada")
    report = bake.command("promote", by="ada", reason="known flake")
    assert (report.phase, report.action, report.verdict, report.reason) == (PASSED, PROMOTE, INCONCLUSIVE, "promoted")
    bake.begin_step(2, 10, ARMS.canary)
    assert bake.report().action == WATCH


def test_a_person_aborts() -> None:
    bake = begun(policy())
    report = bake.command("abort", by="ada", reason="wrong build")
    assert (report.phase, report.action, report.verdict) == (FAILED, UNDO, INCONCLUSIVE)
    assert report.message == "aborted by ada: wrong build"
    with pytest.raises(DeliveryError, match="over"):
        bake.command("resume", by="ada")
    with pytest.raises(DeliveryError, match="over"):
        bake.look(at(2))
    with pytest.raises(DeliveryError, match="no further step"):
        bake.begin_step(2, 4, ARMS.canary)


def test_an_unknown_command() -> None:
    with pytest.raises(OptionError, match="did you mean 'promote'"):
        begun(policy()).command("promot", by="ada")


# --- steps


def test_a_step_has_its_own_time_and_the_gates_keep_what_they_know() -> None:
    bake = begun(policy())
    run(bake, 20, at)
    bake.begin_step(2, 20, EVERYBODY, share=0.5)
    assert (bake.report().step, bake.report().elapsed, bake.report().phase) == (2, 0, WATCHING)
    reports = run(bake, 60, at, start=20)
    assert reports[0].gates[-1].verdict == PASS and reports[-1].elapsed == 20


def test_a_step_that_is_under_way_goes_on_and_unwatched_time_does_not_count() -> None:
    bake = begun(policy())
    run(bake, 10, at)
    bake.command("hold", by="ada")
    bake.begin_step(1, 500, ARMS.canary)
    assert (bake.report().phase, bake.report().elapsed) == (HELD, 10)


def test_a_controller_that_slept_has_not_watched() -> None:
    bake = begun(policy(deadline=600))
    bake.look(at(2))
    assert bake.look(at(5000)).elapsed == 62


def test_over_no_place_it_is_an_error() -> None:
    with pytest.raises(DeliveryError, match="a bake over no place"):
        Bake(policy()).begin_step(1, 0, ())


def test_looks_have_an_order() -> None:
    with pytest.raises(DeliveryError, match="after its first step"):
        Bake(policy()).look(at(0))
    bake = begun(policy())
    bake.look(at(4))
    with pytest.raises(DeliveryError, match="this look is from 2s"):
        bake.look(at(2))


# --- counts, shares and few places


def counted(now: float, bad: float, arms: Arms = ARMS, canary: float = 50) -> Look:
    counts = {place: Counts(0.05, 50) for place in arms.baseline}
    counts.update({place: Counts(bad, canary) for place in arms.canary})
    return Look(now, arms, {"errors": GateLook(counts=counts)}, UP)


def test_a_bad_canary_fails_by_the_sequential_test_and_its_baseline_is_kept_for_the_recovery() -> None:
    bake = begun(policy({"name": "errors", "bad": "b", "total": "t"}))
    last = run(bake, 60, lambda now: counted(now, 10))[-1]
    assert (last.phase, last.gate, last.reason) == (FAILED, "errors", "worse_than_baseline")
    assert bake.levels() == {"errors": pytest.approx(0.001)}


def test_a_canary_without_its_share_does_not_pass() -> None:
    last = run(begun(policy(ERRORS, on_undecided="pass")), 60, lambda now: counted(now, 0, canary=10))[-1]
    assert (last.phase, last.reason, last.gate) == (HELD, "share_mismatch", "share")


def few(now: float) -> Look:
    return counted(now, 10, Arms(("a",), ("b0", "b1")))


def test_few_baseline_places_undo_or_ask_as_the_policy_wants() -> None:
    gate = {"name": "errors", "bad": "b", "total": "t"}
    assert run(begun(policy(gate)), 60, few)[-1].phase == FAILED
    bake = begun(policy(gate, on_weak="hold"))
    reports = run(bake, 60, few)
    first = next(report for report in reports if report.phase == HELD)
    assert (first.action, first.page, first.gate) == (HOLD, True, "errors")
    assert "fails against few baseline places" in first.message
    assert not reports[-1].page and reports[-1].phase == HELD
    assert run(bake, 500, few, start=60)[-1].reason == "hold_deadline"


def test_a_broken_limit_needs_nobody() -> None:
    bake = begun(policy(ERRORS, on_weak="hold"))
    last = run(bake, 200, few)[-1]
    assert (last.phase, last.reason) == (FAILED, "over_limit")


def test_history_teaches_the_gates_and_decides_nothing() -> None:
    gate = {"name": "errors", "bad": "b", "total": "t"}
    bake = Bake(policy(gate))
    for now in range(-600, 0, 2):
        bake.history(counted(now, 10))
    bake.begin_step(1, 0, ARMS.canary)
    assert bake.look(counted(2, 0)).gates[-1].samples["bad"] == 0


# --- resuming


def test_a_state_of_other_gates_is_refused() -> None:
    with pytest.raises(DeliveryError, match=r"other gates \(memory\) than the policy \(errors\)"):
        Bake(policy(ERRORS)).restore(begun(policy()).state())


def test_a_broken_state_is_refused() -> None:
    with pytest.raises(DeliveryError, match="cannot be read"):
        Bake(policy(ERRORS)).restore({"gates": {"errors": {"places": 1}}})


Event = Tuple[str, float]
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("look"), st.sampled_from([0.0, 1.0, 3.0, 20.0])),
        st.tuples(st.just("silent"), st.just(0.0)),
        st.tuples(st.just("down"), st.just(0.0)),
        st.tuples(st.sampled_from(["hold", "resume"]), st.just(0.0)),
        st.tuples(st.just("wait"), st.sampled_from([10.0, 100.0])),
    ),
    min_size=5,
    max_size=60,
)
MIXED = policy(
    {"name": "errors", "bad": "b", "total": "t", "min_requests": 50},
    MEMORY,
    BUDGET,
)


def apply(bake: Bake, now: float, event: Event) -> Optional[BakeReport]:
    kind, bad = event
    if kind == "wait" or bake.report().phase in OVER:
        return None
    if kind in ("hold", "resume"):
        return bake.command(kind, by="ada")
    if kind == "down":
        return bake.look(Look(now, ARMS, {}), DOWN)
    if kind == "silent":
        return bake.look(Look(now, ARMS, {}, UP))
    counts = GateLook(counts={place: Counts(bad if place == "a" else 0.1, 50) for place in EVERYBODY})
    values = GateLook(values=dict.fromkeys(EVERYBODY, 40 + 3 * bad))
    return bake.look(Look(now, ARMS, {"errors": counts, "budget": counts, "memory": values}, UP))


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sets(st.integers(0, 60)))
def test_resumed_at_any_look_it_says_the_same(events: List[Event], cuts: set[int]) -> None:
    straight, broken = begun(MIXED), begun(MIXED)
    now = 0.0
    for index, event in enumerate(events):
        now += event[1] if event[0] == "wait" else 2
        if index in cuts:
            state = json.loads(json.dumps(broken.state(), allow_nan=False))
            broken = Bake(MIXED, steps=3)
            broken.restore(state)
        one, two = apply(straight, now, event), apply(broken, now, event)
        assert (one and one.as_dict()) == (two and two.as_dict())


@settings(max_examples=60, deadline=None)
@given(EVENTS, st.sampled_from(["hold", "undo", "pass"]), st.sampled_from([0, 30]))
def test_nothing_promotes_but_a_pass_of_all_gates(events: List[Event], choice: str, extend: float) -> None:
    read = replace(MIXED, bake=replace(MIXED.bake, on_undecided=choice, extend=extend))
    bake, now, measured = begun(read), 0.0, 0
    for event in events:
        now += event[1] if event[0] == "wait" else 2
        measured += event[0] == "look"
        report = apply(bake, now, event)
        if report is None or report.action != PROMOTE:
            continue
        assert measured > 0
        if report.verdict == PASS:
            assert {gate.verdict for gate in report.gates} == {PASS} and report.elapsed >= read.bake.min_bake
        else:
            assert choice == "pass" and report.reason in ("undecided", "low_sample")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["silent", "down", "wait"]), min_size=1, max_size=80), st.sampled_from(["hold", "pass"])
)
def test_no_data_never_promotes(kinds: List[str], choice: str) -> None:
    bake, now = begun(replace(MIXED, bake=replace(MIXED.bake, on_undecided=choice))), 0.0
    seen: Dict[str, int] = {}
    for kind in kinds:
        now += 10
        report = apply(bake, now, (kind, 0.0))
        if report is not None:
            seen[report.action] = seen.get(report.action, 0) + 1
    assert PROMOTE not in seen
