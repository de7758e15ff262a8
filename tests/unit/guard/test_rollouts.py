# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout's life in a real ledger: begun, taken over, closed, and what is due when its controller is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Tuple

import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    GuardError,
    LeaseError,
    OptionError,
    RolloutError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.story import story

TTL = 30.0
GONE = 100.0 + TTL + 1  # when the lease of the one who began has run out
BAD: Dict[str, Any] = {"failed": True, "msg": "no"}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(str(tmp_path / "ledger.sqlite"), busy_timeout=0.05)
    yield ledger
    ledger.close()


def begun(
    ledger: SqliteLedger, *, kind: str = "canary", intent: Mapping[str, object] | None = None, now: float = 100.0
) -> Tuple[Rollout, Lease]:
    what = rollouts.Begin("shop", "2.0.0", kind, intent or {"fleet": ["web1", "web2"]})
    return rollouts.begin(ledger, what, holder="run 1", actor="ada", ttl=TTL, now=now)


def taken(ledger: SqliteLedger, rollout: Rollout, now: float) -> Tuple[Rollout, Lease]:
    return rollouts.take_over(ledger, rollout.id, holder="run 2", actor="bob", ttl=TTL, now=now)


def closed(ledger: SqliteLedger, lease: Lease, rollout: Rollout, state: str, now: float, **outcome: object) -> Rollout:
    return rollouts.close(ledger, lease, rollout.id, state=state, outcome=outcome, actor="ada", now=now)


def due(ledger: SqliteLedger, now: float, on_interrupt: str = "undo") -> Tuple[str, str]:
    (found,) = rollouts.find(ledger, on_interrupt=on_interrupt, now=now, service="shop")
    return found.action, found.why


def test_the_intent_is_there_before_anything_changes(ledger: SqliteLedger) -> None:
    rollout, lease = begun(ledger, intent={"fleet": ["web1"], "before": {"web1": "1.0.0"}})
    stored = ledger.rollout(rollout.id)
    assert stored is not None and stored.intent == {"fleet": ["web1"], "before": {"web1": "1.0.0"}}
    assert (stored.state, stored.token, stored.by) == ("open", lease.token, "ada")


def test_a_second_rollout_is_told_who_holds_the_service(ledger: SqliteLedger) -> None:
    begun(ledger)
    with pytest.raises(GuardError, match="run 1") as caught:
        begun(ledger, now=101.0)
    assert caught.value.details["decision"]["reason"] == "in_progress"


def test_one_that_cannot_begin_gives_the_lease_back(ledger: SqliteLedger) -> None:
    begun(ledger)
    with pytest.raises(GuardError, match="is unfinished"):
        begun(ledger, now=GONE)  # the first is still unfinished
    assert ledger.holder("shop", GONE) is None


def test_who_takes_over_fences_off_the_one_before(ledger: SqliteLedger) -> None:
    rollout, old = begun(ledger)
    with pytest.raises(LeaseError):
        taken(ledger, rollout, 101.0)
    again, new = taken(ledger, rollout, GONE)
    assert new.token > old.token and (again.state, again.token) == ("open", new.token)
    with pytest.raises(LeaseError):
        ledger.save_progress(old, rollout.id, {}, GONE)


@pytest.mark.parametrize("state", ["done", "undone"])
def test_what_is_closed_is_taken_over_by_nobody(ledger: SqliteLedger, state: str) -> None:
    rollout, lease = begun(ledger)
    closed(ledger, lease, rollout, state, 101.0)
    assert ledger.holder("shop", 102.0) is None
    with pytest.raises(LeaseError, match=f"already {state}"):
        taken(ledger, rollout, 102.0)
    assert ledger.holder("shop", 102.0) is None
    with pytest.raises(OptionError, match="there is no rollout"):
        rollouts.take_over(ledger, "nothing", holder="run 2", actor="bob", ttl=TTL, now=102.0)


def test_one_that_was_closed_in_between_gives_the_lease_back(
    ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between reading it and getting the lease, its holder may have ended it."""
    rollout, lease = begun(ledger)
    acquire = ledger.acquire

    def late(service: str, holder: str, ttl: float, now: float) -> Lease:
        closed(ledger, lease, rollout, "done", 105.0)
        return acquire(service, holder, ttl, now)

    monkeypatch.setattr(ledger, "acquire", late)
    with pytest.raises(RolloutError):
        taken(ledger, rollout, 106.0)
    assert ledger.holder("shop", 106.0) is None


def test_nothing_is_due_while_its_holder_lives(ledger: SqliteLedger) -> None:
    begun(ledger)
    assert due(ledger, 101.0) == ("wait", "run 1 holds it until its lease ends")
    assert due(ledger, GONE)[0] == "undo"
    assert due(ledger, GONE, "continue")[0] == "continue"


def test_an_abort_is_undone_whatever_the_policy_says(ledger: SqliteLedger) -> None:
    begun(ledger)
    ledger.say("shop", "abort", "ada", "checkout is broken", 101.0)
    assert due(ledger, GONE, "continue") == ("undo", "a person aborted it")


def test_an_unresolved_place_is_undone_whatever_the_policy_says(ledger: SqliteLedger) -> None:
    rollout, lease = begun(ledger)
    closed(ledger, lease, rollout, "unresolved", 101.0, unresolved=["web1"])
    assert due(ledger, 102.0, "continue") == ("undo", "some places could not be brought back yet")


def held(ledger: SqliteLedger, **outcome: object) -> Rollout:
    rollout, lease = begun(ledger)
    return closed(ledger, lease, rollout, "held", 110.0, **outcome)


def test_what_is_held_waits_for_a_person_until_its_deadline(ledger: SqliteLedger) -> None:
    held(ledger, hold_until=200.0)
    assert due(ledger, 150.0) == ("wait", "it is held; a person decides within 50 s, else it is undone")
    assert due(ledger, 200.0) == ("undo", "nobody decided before its hold_deadline")


@pytest.mark.parametrize(
    "word, action", [("resume", "continue"), ("promote", "continue"), ("abort", "undo"), ("hold", "wait")]
)
def test_a_person_decides_what_is_held(ledger: SqliteLedger, word: str, action: str) -> None:
    held(ledger, hold_until=200.0)
    ledger.say("shop", word, "ada", "INC-1", 120.0)
    assert due(ledger, 130.0)[0] == action


def test_what_was_said_before_the_hold_and_obeyed_decides_nothing(ledger: SqliteLedger) -> None:
    rollout, lease = begun(ledger)
    said = ledger.say("shop", "resume", "ada", "", 101.0)
    ledger.save_progress(lease, rollout.id, {"heard": said.seq}, 102.0)
    closed(ledger, lease, rollout, "held", 110.0, hold_until=200.0)
    assert due(ledger, 130.0)[0] == "wait"


def test_what_was_said_while_the_hold_was_written_down_is_heard(ledger: SqliteLedger) -> None:
    """Between the last look and the entry that it is held, somebody may have spoken."""
    rollout, lease = begun(ledger)
    ledger.save_progress(lease, rollout.id, {"heard": 0}, 108.0)
    ledger.say("shop", "abort", "ada", "checkout is broken", 109.0)
    closed(ledger, lease, rollout, "held", 110.0, hold_until=200.0)
    assert due(ledger, 130.0) == ("undo", "a person aborted it")


def test_what_stayed_good_for_long_enough_goes_on(ledger: SqliteLedger) -> None:
    held(ledger, hold_until=200.0, resumed=True)
    assert due(ledger, 130.0) == ("continue", "its gates stayed good for long enough")


def test_a_hold_without_a_deadline_is_not_trusted(ledger: SqliteLedger) -> None:
    held(ledger)
    assert due(ledger, 130.0)[0] == "undo"


def changes(ledger: SqliteLedger, rollout: Rollout, lease: Lease, *places: str, state: str = "deployed") -> None:
    for place in places:
        ledger.append("shop", "action", "ada", {"rollout": rollout.id, "place": place, "state": state}, 101.0, lease)


def test_a_place_whose_change_gave_no_answer_counts_as_changed(ledger: SqliteLedger) -> None:
    rollout, lease = begun(ledger)
    changes(ledger, rollout, lease, "web1", "web2", "web1")
    changes(ledger, rollout, lease, "web3", state="known_good")
    ledger.append("shop", "outcome", "ada", {"rollout": rollout.id, "place": "web4", "state": "deployed"}, 101.0)
    assert set(rollouts.unresolved(ledger, rollout, {})) == {"web1", "web2"}
    back: Dict[str, Mapping[str, object]] = {"web1": {"changed": True}, "web2": {"changed": False}}
    assert list(rollouts.unresolved(ledger, rollout, back)) == []
    for lost in (BAD, {"unreachable": True}, {"skipped": True}, {}):
        assert list(rollouts.unresolved(ledger, rollout, {**back, "web2": lost})) == ["web2"]


def test_the_changes_of_another_rollout_are_not_ours(ledger: SqliteLedger) -> None:
    first, lease = begun(ledger)
    changes(ledger, first, lease, "web1")
    closed(ledger, lease, first, "undone", 102.0)
    second, lease = begun(ledger, now=103.0)
    changes(ledger, second, lease, "web2")
    assert list(rollouts.unresolved(ledger, second, {})) == ["web2"]


def test_a_long_rollout_is_read_back_to_its_beginning(ledger: SqliteLedger) -> None:
    rollout, lease = begun(ledger)
    changes(ledger, rollout, lease, "web1")
    for number in range(300):
        ledger.append("shop", "note", "ada", {"number": number}, 102.0)
    assert list(rollouts.unresolved(ledger, rollout, {})) == ["web1"]


def test_a_rollout_that_only_watched_counts_what_it_began_to_take_back(ledger: SqliteLedger) -> None:
    rollout, lease = begun(
        ledger, kind="watch", intent={"fleet": ["web1"], "steps": [{"canary": ["web1", "web2", "web3"]}]}
    )
    assert list(rollouts.unresolved(ledger, rollout, {})) == []
    for place in ("web1", "web2"):
        body = {"rollout": rollout.id, "place": place, "state": "known_good"}
        ledger.append("shop", "action", "ada", body, 101.0, lease)
    assert set(rollouts.unresolved(ledger, rollout, {"web1": {"changed": True}})) == {"web2"}


PINNED: Dict[str, Any] = {"fleet": ["web1", "web2", "web3"], "before": {"web1": "1.0.0", "web2": "1.0.0"}}


def test_a_rollback_counts_every_place_that_is_not_where_it_was_pinned(ledger: SqliteLedger) -> None:
    rollout, _lease = begun(ledger, kind="rollback", intent=PINNED)
    assert rollouts.unresolved(ledger, rollout, {}) == ["web1", "web2"]
    back: Dict[str, Mapping[str, object]] = {"web1": {"changed": True}, "web2": {"skipped": True}, "web3": BAD}
    assert rollouts.unresolved(ledger, rollout, back) == ["web2"]


def test_a_rollback_whose_controller_is_gone_is_finished_whatever_the_policy_says(ledger: SqliteLedger) -> None:
    begun(ledger, kind="rollback", intent=PINNED)
    assert due(ledger, 101.0)[0] == "wait"
    for on_interrupt in ("undo", "continue"):
        assert due(ledger, GONE, on_interrupt) == ("undo", "its controller is gone")


def test_a_rollback_that_failed_is_tried_again_once_for_each_word_of_a_person(ledger: SqliteLedger) -> None:
    rollout, lease = begun(ledger, kind="rollback", intent=PINNED)
    closed(ledger, lease, rollout, "unresolved", 101.0, unresolved=["web1"])
    assert due(ledger, GONE) == (
        "wait",
        "it could not be finished, and is not tried again unless a person says resume or abort",
    )
    ledger.say("shop", "resume", "ada", "the disk is free", GONE)
    assert due(ledger, GONE) == ("undo", "a person said resume")
    again, lease = taken(ledger, rollout, GONE)
    closed(ledger, lease, again, "unresolved", GONE + 1, unresolved=["web1"])
    assert due(ledger, GONE + 2)[0] == "wait"
    ledger.say("shop", "abort", "ada", "it is gone for good", GONE + 3)
    assert due(ledger, GONE + 4) == ("close", "a person aborted it")


def test_what_is_given_up_keeps_what_is_known_and_is_closed_once(ledger: SqliteLedger) -> None:
    rollout, lease = begun(ledger, kind="rollback", intent=PINNED)
    closed(ledger, lease, rollout, "unresolved", 101.0, unresolved=["web1"])
    who = {"holder": "run 2", "actor": "bob", "ttl": TTL}
    given_up = rollouts.give_up(ledger, rollout.id, "a person aborted it", now=GONE, **who)  # type: ignore[arg-type]
    assert given_up.state == "undone" and given_up.outcome["unresolved"] == ["web1"]
    assert "is closed as it is: a person aborted it. web1 may still run 2.0.0." in story(given_up)
    with pytest.raises(LeaseError, match="already undone"):
        rollouts.give_up(ledger, rollout.id, "again", now=GONE + 1, **who)  # type: ignore[arg-type]
    assert not ledger.unfinished("shop") and ledger.holder("shop", GONE + 1) is None


@pytest.mark.parametrize("kind", ["action", "rollback"])
def test_what_a_playbook_did_on_its_own_is_closed_for_nobody_knows_whether_it_was_done(
    ledger: SqliteLedger, kind: str
) -> None:
    begun(ledger, kind=kind, intent={"action": "restart", "fleet": ["web1"]})
    assert due(ledger, 101.0)[0] == "wait"
    assert due(ledger, GONE) == ("close", rollouts.NOBODY_KNOWS)
