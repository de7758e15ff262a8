# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger behaves the same on all three real stores: what each call keeps, refuses, and leaves as it was."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Callable, Dict, Iterator, List

import guard_load as load
import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from ledger_machine import LedgerMachine
from stores import Serving

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError, OptionError, RolloutError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import decision as say
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Clock, Grant, Request, Trigger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import GuardPolicy, parse_guard


@pytest.fixture
def ledger(serve: Serving) -> Iterator[Ledger]:
    ledger = serve().open()
    yield ledger
    ledger.close()


def rollout(name: str = "r1", service: str = "shop") -> Rollout:
    return Rollout(name, service, "2.0.0", "canary", "", 0, 0.0, 0.0, {"before": {"web1": "1.0.0"}})


def begun(ledger: Ledger, name: str = "r1") -> Lease:
    lease = ledger.acquire("shop", "run", 30, 100.0)
    ledger.open_rollout(lease, rollout(name), "ada", 100.0)
    return lease


def test_a_rollout_goes_its_way_and_leaves_a_trace(ledger: Ledger) -> None:
    lease = begun(ledger)
    ledger.save_progress(lease, "r1", {"step": 1}, 101.0)
    assert ledger.rollout("r1") == Rollout(
        "r1",
        "shop",
        "2.0.0",
        "canary",
        "open",
        lease.token,
        100.0,
        101.0,
        {"before": {"web1": "1.0.0"}},
        {"step": 1},
        {},
        "ada",
    )
    held = ledger.set_state(lease, "r1", "held", {"why": "undecided"}, "run", 102.0)
    assert (held.state, held.outcome, held.progress, held.updated_at) == (
        "held",
        {"why": "undecided"},
        {"step": 1},
        102.0,
    )
    assert [one.id for one in ledger.unfinished("shop")] == ["r1"]
    ledger.set_state(lease, "r1", "undone", {"left": []}, "run", 103.0)
    ledger.release(lease, 104.0)
    assert ledger.unfinished() == []
    assert [(entry.seq, entry.kind, entry.actor) for entry in ledger.entries()] == [
        (1, "lease", "run"),
        (2, "rollout", "ada"),
        (3, "state", "run"),
        (4, "state", "run"),
        (5, "lease", "run"),
    ]
    assert ledger.entries()[3].body == {
        "rollout": "r1",
        "from": "held",
        "state": "undone",
        "token": lease.token,
        "outcome": {"left": []},
    }
    assert ledger.verify() is None


def test_a_second_rollout_is_told_which_one_is_unfinished_and_what_to_do(ledger: Ledger) -> None:
    lease = begun(ledger)
    with pytest.raises(RolloutError) as caught:
        ledger.open_rollout(lease, rollout("r2"), "bob", 101.0)
    assert str(caught.value) == (
        "shop: Rollout r1 of release 2.0.0, started by ada, is unfinished (open). Let playbooks/reconcile.yml settle"
        " it, or say abort or promote with playbooks/control.yml, then run again."
    )
    assert caught.value.details == {"rollout": "r1", "release": "2.0.0", "state": "open", "by": "ada"}
    assert ledger.rollout("r2") is None


def test_a_held_lease_is_refused_with_who_holds_it(ledger: Ledger) -> None:
    begun(ledger)
    with pytest.raises(LeaseError, match=r"shop: run is at work on it and holds the lease for 20 s more\. Wait for"):
        ledger.acquire("shop", "other", 30, 110.0)
    assert [lease.holder for lease in ledger.leases(110.0)] == ["run"]
    assert ledger.leases(131.0) == []


def test_a_holder_that_wakes_up_late_is_fenced_off_whatever_it_does(ledger: Ledger) -> None:
    late = begun(ledger)
    writes: List[Callable[[], object]] = [
        lambda: ledger.renew(late, 30, 131.0),
        lambda: ledger.save_progress(late, "r1", {}, 131.0),
        lambda: ledger.look(late, "r1", {}, ttl=30, now=131.0),
        lambda: ledger.set_state(late, "r1", "done", {}, "run", 131.0),
        lambda: ledger.open_rollout(late, rollout("r2"), "ada", 131.0),
        lambda: ledger.append("shop", "action", "run", {}, 131.0, late),
    ]
    for write in writes:
        with pytest.raises(LeaseError, match="has expired"):
            write()
    newer = ledger.acquire("shop", "reconcile", 30, 131.0)
    for write in writes:
        with pytest.raises(LeaseError, match=r"\(token 100\) was lost: reconcile has it now\. Stop here"):
            write()
    ledger.release(late, 132.0)
    assert ledger.holder("shop", 132.0) == newer
    assert newer.token == late.token + 1
    assert ledger.set_state(newer, "r1", "undone", {}, "reconcile", 132.0).token == newer.token
    assert ledger.entries()[2].body == {"event": "acquired", "token": 101, "ttl": 30, "expired_holder": "run"}


def test_a_lease_nobody_ever_had_and_one_of_another_name_are_refused(ledger: Ledger) -> None:
    with pytest.raises(LeaseError, match="was lost: it is gone"):
        ledger.renew(Lease("shop", "run", 1, 130.0), 30, 100.0)
    lease = ledger.acquire("shop", "run", 30, 100.0)
    with pytest.raises(LeaseError, match="was lost: run has it now"):
        ledger.renew(Lease("shop", "eve", lease.token, 130.0), 30, 100.0)


def test_a_ledger_begun_anew_gives_higher_tokens_than_the_lost_one(serve: Serving) -> None:
    for begun, highest in ((1_000.0, 0), (2_000.0, 1_002)):
        ledger = serve().open()
        for turn in range(3):
            lease = ledger.acquire("shop", "run", 30, begun + turn)
            assert lease.token > highest
            ledger.release(lease, begun + turn)
        ledger.close()


def test_a_lease_given_back_stays_dead_when_the_clock_is_set_back(ledger: Ledger) -> None:
    lease = ledger.acquire("shop", "run", 30, 100.0)
    ledger.release(lease, 101.0)
    ledger.release(lease, 102.0)
    with pytest.raises(LeaseError):
        ledger.renew(lease, 30, 50.0)
    assert ledger.acquire("shop", "run", 30, 50.0).token == lease.token + 1
    assert [entry.body["event"] for entry in ledger.entries()] == ["acquired", "released", "acquired"]


@pytest.mark.parametrize(("service", "holder", "ttl"), [("", "run", 30), ("shop", "", 30), ("shop", "run", 0)])
def test_a_lease_of_nothing_by_nobody_or_for_no_time_is_refused(
    ledger: Ledger, service: str, holder: str, ttl: float
) -> None:
    with pytest.raises(OptionError, match="A lease needs a service, a holder and a time to live"):
        ledger.acquire(service, holder, ttl, 100.0)


def test_a_closed_rollout_stays_closed(ledger: Ledger) -> None:
    lease = begun(ledger)
    ledger.set_state(lease, "r1", "done", {}, "run", 101.0)
    for write in (
        lambda: ledger.set_state(lease, "r1", "open", {}, "run", 102.0),
        lambda: ledger.save_progress(lease, "r1", {}, 102.0),
    ):
        with pytest.raises(RolloutError, match=r"Rollout r1 is closed already \(done\)"):
            write()


def test_a_rollout_that_is_unknown_or_of_another_service_is_refused(ledger: Ledger) -> None:
    lease = begun(ledger)
    bank = ledger.acquire("bank", "run", 30, 100.0)
    with pytest.raises(RolloutError, match="knows no rollout r9"):
        ledger.save_progress(lease, "r9", {}, 101.0)
    with pytest.raises(RolloutError, match="bank: Rollout r1 is one of shop"):
        ledger.set_state(bank, "r1", "done", {}, "run", 101.0)
    with pytest.raises(RolloutError, match="shop: Rollout r2 is one of bank"):
        ledger.open_rollout(lease, rollout("r2", "bank"), "ada", 101.0)


def test_ids_and_actors_are_needed_and_ids_are_never_used_twice(ledger: Ledger) -> None:
    lease = begun(ledger)
    ledger.set_state(lease, "r1", "done", {}, "run", 101.0)
    with pytest.raises(OptionError, match="There has been a rollout r1 before"):
        ledger.open_rollout(lease, rollout("r1"), "ada", 102.0)
    with pytest.raises(OptionError, match="needs an id and somebody"):
        ledger.open_rollout(lease, rollout(""), "ada", 102.0)
    with pytest.raises(OptionError, match="needs an id and somebody"):
        ledger.open_rollout(lease, rollout("r2"), "", 102.0)


def test_a_state_that_is_none_is_refused_with_the_nearest(ledger: Ledger) -> None:
    lease = begun(ledger)
    with pytest.raises(OptionError, match=r"cannot be 'undo' \(did you mean 'undone'\?\)"):
        ledger.set_state(lease, "r1", "undo", {}, "run", 101.0)


def test_what_cannot_be_kept_leaves_nothing_behind(ledger: Ledger) -> None:
    lease = begun(ledger)
    before = ledger.entries()
    for body in ({"raw": b""}, {"raw": {1, 2}}):
        with pytest.raises(OptionError):
            ledger.set_state(lease, "r1", "done", body, "run", 101.0)
        with pytest.raises(OptionError):
            ledger.look(lease, "r1", body, ttl=60, now=101.0)
    with pytest.raises(OptionError, match="not valid Unicode"):
        ledger.append("shop", "note", "\udc80", {}, 101.0)
    assert ledger.entries() == before
    assert ledger.unfinished("shop")[0].state == "open"
    assert ledger.holder("shop", 101.0) == lease


def test_the_ledgers_own_kinds_of_entries_cannot_be_forged(ledger: Ledger) -> None:
    for kind in ("", "rollout", "state", "command", "lease"):
        with pytest.raises(OptionError, match="written by the ledger itself"):
            ledger.append("shop", kind, "eve", {}, 100.0)
    entry = ledger.append("shop", "note", "guard", {"allowed": True}, 100.0)
    assert ledger.entries() == [entry]


def test_entries_and_rollouts_are_found_by_service_in_both_directions(ledger: Ledger) -> None:
    for number in range(6):
        ledger.append("shop" if number % 2 else "bank", "note", "ada", {"number": number}, 100.0 + number)
    assert [entry.seq for entry in ledger.entries("shop", after=2, limit=1)] == [4]
    assert [entry.seq for entry in ledger.entries(after=4)] == [5, 6]
    assert [entry.seq for entry in ledger.last_entries("bank", 2)] == [5, 3]
    assert [entry.seq for entry in ledger.last_entries(limit=1)] == [6]
    lease = begun(ledger)
    ledger.set_state(lease, "r1", "done", {}, "run", 101.0)
    ledger.open_rollout(lease, rollout("r2"), "ada", 101.0)
    assert [one.id for one in ledger.last_rollouts("shop")] == ["r2", "r1"]
    assert [one.id for one in ledger.last_rollouts(limit=1)] == ["r2"]
    assert ledger.last_rollouts("bank") == []


# --- what people say


def test_a_word_reaches_the_bake_once_and_again_until_it_is_obeyed(ledger: Ledger) -> None:
    lease = begun(ledger)
    said = ledger.say("shop", "hold", "ada", "", 101.0)
    renewed, heard = ledger.look(lease, "r1", {"obeyed": 0}, ttl=30, now=102.0)
    assert renewed.expires == 132.0
    assert [(one.seq, one.command, one.by, one.taken, one.rollout) for one in heard] == [
        (said.seq, "hold", "ada", 102.0, "r1")
    ]
    assert ledger.look(lease, "r1", {}, ttl=30, now=103.0)[1] == heard
    assert ledger.look(lease, "r1", {"obeyed": said.seq}, ttl=30, now=104.0, after=said.seq)[1] == []
    again = ledger.say("shop", "abort", "bob", "enough", 105.0)
    assert [one.seq for one in ledger.commands("shop", after=said.seq)] == [again.seq]
    assert [one.taken for one in ledger.commands()] == [102.0, None]
    assert ledger.last_entries(limit=1)[0].body == {"command": "abort", "reason": "enough", "rollout": "r1", "seq": 2}


def test_a_word_about_one_rollout_is_never_heard_by_the_next(ledger: Ledger) -> None:
    lease = begun(ledger)
    ledger.say("shop", "abort", "ada", "", 101.0)
    ledger.set_state(lease, "r1", "undone", {}, "run", 102.0)
    ledger.open_rollout(lease, rollout("r2"), "ada", 103.0)
    assert ledger.look(lease, "r2", {}, ttl=30, now=104.0)[1] == []
    assert [one.command for one in ledger.commands(rollout="r1")] == ["abort"]
    assert ledger.commands("bank") == []


def test_words_that_make_no_sense_are_refused(ledger: Ledger) -> None:
    with pytest.raises(RolloutError, match="There is no unfinished rollout to hold: it never had one"):
        ledger.say("shop", "hold", "ada", "", 100.0)
    lease = begun(ledger)
    with pytest.raises(OptionError, match=r"'holt' is no command \(did you mean 'hold'\?\)\. Say one of: hold, resume"):
        ledger.say("shop", "holt", "ada", "", 101.0)
    with pytest.raises(OptionError, match="Somebody has to say it"):
        ledger.say("shop", "hold", " ", "", 101.0)
    with pytest.raises(OptionError, match="needs a reason"):
        ledger.say("shop", "promote", "ada", " ", 101.0)
    ledger.set_state(lease, "r1", "done", {}, "run", 102.0)
    with pytest.raises(RolloutError, match=r"to abort: its last one, r1 of release 2\.0\.0, is done"):
        ledger.say("shop", "abort", "ada", "", 103.0)
    assert ledger.commands() == []


# --- may we act?

SHOP = "production/service-00"
NOW = 1_790_000_000.0


def allows(**more: object) -> GuardPolicy:
    """Restarts because of HighErrorRate, each service once in 100 s. These tests say themselves what time it is."""
    raw: Dict[str, object] = {"mode": "act", "alerts": ["HighErrorRate"], "cooldown": 100, "global_cooldown": 0}
    raw.update(clear_for=0, window=900, clock={"tolerance": 10**9})
    return parse_guard({**raw, **more}, SHOP)


def decided(ledger: Ledger, request: Request, now: float, policy: GuardPolicy | None = None) -> Grant:
    policy = policy or allows()
    return ledger.decide(request, policy, holder="run", ttl=30, now=now, opens=load.action(SHOP))


def kinds(ledger: Ledger) -> List[str]:
    return [entry.kind for entry in ledger.entries()]


def test_a_yes_is_its_lease_and_its_rollout_too(ledger: Ledger) -> None:
    grant = decided(ledger, load.request("t1", SHOP, NOW), NOW)
    assert grant.decision.allowed and grant.lease is not None and grant.rollout is not None
    assert ledger.holder(SHOP, NOW) == grant.lease
    assert ledger.unfinished(SHOP) == [grant.rollout]
    assert (grant.rollout.id, grant.rollout.kind, grant.rollout.token) == ("t1", "action", grant.lease.token)
    assert kinds(ledger) == ["trigger", "decision", "lease", "rollout"]
    assert ledger.services() == [SHOP]
    assert ledger.memory(SHOP).acted_at == NOW and dict(ledger.fleet().acted) == {SHOP: NOW}
    assert ledger.verify() is None


def test_a_no_is_recorded_and_the_same_again_is_only_counted(ledger: Ledger) -> None:
    first = decided(ledger, load.request("t1", SHOP, NOW), NOW)
    assert first.lease is not None
    ledger.set_state(first.lease, "t1", "done", {"ok": True}, "run", NOW + 1)
    ledger.release(first.lease, NOW + 2)
    for turn in range(3):
        grant = decided(ledger, load.request("t2", SHOP, NOW + 3), NOW + 3 + turn)
        assert (grant.decision.reason, grant.lease, grant.repeated) == (say.COOLDOWN, None, turn > 0)
    again = decided(ledger, load.request("t1", SHOP, NOW), NOW + 200)
    assert (again.decision.reason, again.lease) == (say.DUPLICATE, None)
    assert [kind for kind in kinds(ledger)[4:] if kind != "lease"] == ["state", "trigger", "decision"]
    assert decided(ledger, load.request("t2", SHOP, NOW + 3), NOW + 201).decision.allowed
    decisions = [entry.body for entry in ledger.entries() if entry.kind == "decision"]
    # the trigger's own entry has the evidence of the first time; that of a later one stands beside what came of it
    assert ["evidence" in body for body in decisions] == [False, False, True]
    assert ledger.counters()[SHOP] == {
        "decisions:restart:allowed": 2,
        "decisions:restart:denied": 4,
        "suppressed:restart:cooldown": 3,
        "suppressed:restart:duplicate": 1,
        "outcomes:action:done": 1,
        "seconds:action:count": 1,
        "seconds:action:sum": 1.0,
        "last_success:action": NOW + 1,
    }
    assert ledger.verify() is None


def test_a_trigger_is_known_however_many_came_after_it(serve: Serving) -> None:
    kept = serve()
    ledger = kept.open()
    names = [*(f"t{number}" for number in range(1, 21)), "fp/InvalidToken"]
    first = decided(ledger, load.request(names[0], SHOP, NOW), NOW)
    assert first.lease is not None
    ledger.set_state(first.lease, names[0], "done", {"ok": True}, "run", NOW + 1)
    ledger.release(first.lease, NOW + 2)
    for name in names[1:]:
        assert not decided(ledger, load.request(name, SHOP, NOW + 3), NOW + 3).repeated
    with closing(kept.open()) as other:
        for book in (ledger, other):
            for name in names[1:]:
                grant = decided(book, load.request(name, SHOP, NOW + 3), NOW + 4)
                assert (grant.decision.reason, grant.repeated) == (say.COOLDOWN, True), name
            assert decided(book, load.request(names[0], SHOP, NOW), NOW + 4).decision.reason == say.DUPLICATE
            elsewhere = load.request(names[5], "production/other", NOW + 4)
            assert book.check(elsewhere, allows(), now=NOW + 4, record=False).allowed
    assert kinds(ledger).count("decision") == len(names)
    assert ledger.verify() is None
    ledger.close()


def test_a_decision_needs_a_service(ledger: Ledger) -> None:
    nobody = load.request("t1", "", NOW)
    for ask in (
        lambda: ledger.decide(nobody, allows(), holder="run", ttl=30, now=NOW),
        lambda: ledger.check(nobody, allows(), now=NOW),
        lambda: ledger.check(nobody, allows(), now=NOW, record=False),
        lambda: ledger.deny(nobody, allows(), now=NOW, only=say.REASONS),
    ):
        with pytest.raises(OptionError, match="A decision needs a service"):
            ask()
    assert (kinds(ledger), ledger.counters(), ledger.verify()) == ([], {}, None)


def test_a_decision_that_fails_in_the_middle_leaves_nothing(ledger: Ledger) -> None:
    clock = Clock("boot", 10.0)
    request = load.request("t1", SHOP, NOW)
    for intent in ({"raw": b""}, {"raw": {1}}):
        broken = Rollout("", SHOP, "2.4.1", "action", "", 0, 0.0, 0.0, intent)
        with pytest.raises(OptionError, match="cannot keep raw"):  # when trigger, decision and lease were written
            ledger.decide(request, allows(), holder="run", ttl=30, now=NOW, clock=clock, opens=broken)
    assert (ledger.head(), kinds(ledger), ledger.counters()) == ("0" * 64, [], {})
    assert (ledger.holder(SHOP, NOW), ledger.unfinished(), ledger.services()) == (None, [], [])
    grant = ledger.decide(request, allows(), holder="run", ttl=30, now=NOW, clock=clock, opens=load.action(SHOP))
    assert grant.decision.allowed and not grant.repeated
    assert ledger.verify() is None


def test_a_rehearsal_leaves_nothing_and_a_check_takes_no_lease(ledger: Ledger) -> None:
    request = load.request("t1", SHOP, NOW)
    assert ledger.check(request, allows(), now=NOW, record=False).allowed
    assert (kinds(ledger), ledger.counters()) == ([], {})
    assert ledger.check(request, allows(), now=NOW).allowed
    assert (kinds(ledger), ledger.holder(SHOP, NOW)) == (["trigger", "decision"], None)


def test_a_clock_that_was_set_back_is_noticed_over_transactions(ledger: Ledger) -> None:
    def at(name: str, now: float, up: float) -> str:
        request, clock = load.request(name, SHOP, now), Clock("boot", up)
        return ledger.check(request, allows(clock={"tolerance": 60}), now=now, clock=clock).reason

    now = time.time()
    assert at("t1", now, 100.0) == ""
    assert at("t2", now - 600, 101.0) == say.CLOCK_JUMPED
    assert at("t3", now, 102.0) == say.CLOCK_JUMPED  # for a while after it was put right


def test_conditions_come_and_go_without_a_wish_to_act(ledger: Ledger) -> None:
    trigger = Trigger(say.ALERT, "HighErrorRate", "f1", NOW, level=1.2)
    assert ledger.observe(SHOP, trigger, allows(), "alertmanager", NOW) is not None
    assert ledger.observe(SHOP, trigger, allows(), "alertmanager", NOW + 30) is None
    assert ledger.memory(SHOP).condition(trigger.condition).since == NOW
    over = Trigger(say.ALERT, "HighErrorRate", "f1", NOW, active=False)
    assert ledger.observe(SHOP, over, allows(), "alertmanager", NOW + 60) is not None
    assert ledger.observe(SHOP, over, allows(), "alertmanager", NOW + 90) is None
    assert ledger.memory(SHOP).condition(trigger.condition).since is None
    assert kinds(ledger) == ["trigger", "trigger"]
    assert ledger.verify() is None


def test_a_recommendation_is_approved_once_and_in_time(ledger: Ledger) -> None:
    asks = allows(mode="recommend", approval_ttl=60)
    for name in ("t1", "t2"):
        assert decided(ledger, load.request(name, SHOP, NOW), NOW, asks).decision.verdict == say.RECOMMENDED
    with pytest.raises(RolloutError, match="Recommendation t9 cannot be approved: there is no such"):
        ledger.approve(SHOP, "t9", "ada", "", NOW)
    assert ledger.approve(SHOP, "t1", "ada", "go", NOW + 1).body == {"decision": "t1", "reason": "go"}
    with pytest.raises(RolloutError, match="ada approved it already"):
        ledger.approve(SHOP, "t1", "bob", "", NOW + 2)
    with pytest.raises(RolloutError, match="it expired at"):
        ledger.approve(SHOP, "t2", "ada", "", NOW + 60)
    wanted = load.request("a1", SHOP, NOW)
    trigger = Trigger(say.PERSON, "ada", "a1")
    request = Request("a1", SHOP, wanted.action, trigger, "ada", wanted.situation, approved="t1")
    assert decided(ledger, request, NOW + 3, asks).decision.allowed
    with pytest.raises(RolloutError, match="it was carried out already"):
        ledger.approve(SHOP, "t1", "bob", "", NOW + 4)
    assert ledger.verify() is None


@pytest.mark.parametrize("service", [SHOP, ""])
def test_a_pause_stops_action_until_it_is_lifted_or_over(ledger: Ledger, service: str) -> None:
    with pytest.raises(OptionError, match="needs a reason"):
        ledger.pause(service, "ada", " ", None, NOW)
    with pytest.raises(RolloutError, match="is not paused"):
        ledger.unpause(service, "ada", "", NOW)
    ledger.pause(service, "ada", "INC-7", None, NOW)
    denied = decided(ledger, load.request("t1", SHOP, NOW), NOW + 1).decision
    assert denied.reason == say.PAUSED and "ada paused" in denied.message and "INC-7" in denied.message
    ledger.unpause(service, "bob", "mended", NOW + 2)
    ledger.pause(service, "ada", "lunch", NOW + 10, NOW + 3)
    assert decided(ledger, load.request("t2", SHOP, NOW), NOW + 9).decision.reason == say.PAUSED
    assert decided(ledger, load.request("t3", SHOP, NOW), NOW + 10).decision.allowed
    assert ledger.verify() is None


def test_notes_are_changed_in_one_transaction_and_the_ledgers_own_are_not(ledger: Ledger) -> None:
    assert ledger.note("outbox") == {}
    for number in range(3):
        ledger.change_note("outbox", lambda note, number=number: {**note, f"n{number}": (number, None)})  # type: ignore[misc]
    assert ledger.note("outbox") == {"n0": [0, None], "n1": [1, None], "n2": [2, None]}
    ledger.change_note("outbox", lambda note: {"password": "hunter2"})
    assert ledger.note("outbox") == {"password": "***"}

    def broken(note: object) -> dict[str, object]:
        raise ValueError("no")

    with pytest.raises(ValueError):
        ledger.change_note("outbox", broken)
    assert ledger.note("outbox") == {"password": "***"}
    for key in ("", "memory:", f"memory:{SHOP}", "clocks"):
        with pytest.raises(OptionError, match="written by the ledger itself"):
            ledger.change_note(key, lambda note: {})
    assert kinds(ledger) == []


# --- what is old


def acted(ledger: Ledger, name: str, now: float, *, end: str = "done", service: str = SHOP) -> None:
    """One decision and its rollout, closed after a second unless `end` is empty."""
    request = load.request(name, service, now)
    grant = ledger.decide(request, allows(), holder="run", ttl=30, now=now, opens=load.action(service))
    assert grant.lease is not None
    if end:
        ledger.set_state(grant.lease, name, end, {"ok": True}, "run", now + 1)
    ledger.release(grant.lease, now + 2)


def test_what_is_old_and_exported_is_removed_and_nothing_that_is_needed(ledger: Ledger) -> None:
    bank = "production/service-01"
    for number in range(24):  # more than are kept of each service
        acted(ledger, f"old{number}", NOW + number * 1000)
    acted(ledger, "open", NOW + 24_000, end="", service=bank)
    acted(ledger, "new", NOW + 25_000)
    exported, before = ledger.head(), {name: ledger.memory(name) for name in (SHOP, bank)}
    fleet, counters, entries = ledger.fleet(), ledger.counters(), len(ledger.entries())
    with pytest.raises(OptionError, match="No entry has the hash that is said to be exported last"):
        ledger.prune(NOW + 50_000, "f" * 64, "ada", NOW + 50_000)
    early = ledger.entries()[9].hash
    kept = ledger.prune(NOW + 50_000, early, "ada", NOW + 50_000)  # only as far as it was exported
    assert kept is not None and (kept.kind, kept.body["through"]) == ("retention", 10)
    assert ledger.entries(limit=1)[0].seq == 11
    kept = ledger.prune(NOW + 50_000, exported, "ada", NOW + 50_001)  # only up to what is unfinished
    assert kept is not None and ledger.verify() is None
    assert ledger.unfinished()[0].id == "open"
    left = [entry.body.get("rollout") for entry in ledger.entries() if entry.kind == "rollout"]
    assert left == ["open", "new"] and len(ledger.entries()) < entries
    assert ledger.prune(NOW + 50_000, exported, "ada", NOW + 50_002) is None
    rollouts = [one.id for one in ledger.last_rollouts(SHOP, limit=100)]
    assert rollouts == ["new", *(f"old{number}" for number in range(23, 4, -1))]
    assert {name: ledger.memory(name) for name in (SHOP, bank)} == before
    assert (ledger.fleet(), ledger.counters()) == (fleet, counters)
    acted(ledger, "next", NOW + 60_000)
    assert ledger.verify(exported) is None and ledger.verify(ledger.head()) is None
    assert ledger.prune(NOW + 10, exported, "ada", NOW + 60_003) is None


# --- whatever happens


def test_whatever_happens_in_whatever_order_on_a_real_store(serve: Serving, kind: str) -> None:
    examples, steps = {"sqlite": (15, 25), "postgresql": (10, 20), "kubernetes": (4, 12)}[kind]
    sizes = settings(max_examples=examples, stateful_step_count=steps, deadline=None, database=None)
    run_state_machine_as_test(lambda: LedgerMachine(lambda: serve().open()), settings=sizes)
