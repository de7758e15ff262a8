# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of a flag: what is called in which order, and what each end is called."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import Turn
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    Change,
    Deadline,
    FlagError,
    Served,
    State,
    Where,
    Wish,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.outcome import Record, hidden

WHERE = Where("search", "production", "default")
LOST = FlagError("the answer never came", details={"lost": True})


@dataclass
class Scripted:
    """A provider whose calls take 0.1 s, and whose clients hear of a change `delay` seconds later."""

    on: bool = True
    delay: float = 1.0
    sets: List[Any] = field(default_factory=list)  # what each call to set does; then it sets
    served: List[Any] = field(default_factory=list)  # what clients say before they say the truth
    states: List[Any] = field(default_factory=list)
    pending: str = ""
    now: float = 0.0
    heard_at: float = 0.0
    calls: List[str] = field(default_factory=list)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.now += 0.1

    def state(self, where: Where) -> State:
        self._called("state")
        for one in self.states[:1]:
            self.states.pop(0)
            if isinstance(one, Exception):
                raise one
        return State(on=self.on, pending=self.pending)

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        return state.on != (wish.state == "on")

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        self._called("set")
        one = self.sets.pop(0) if self.sets else None
        if isinstance(one, Change):
            return one
        if not isinstance(one, Exception) or one is LOST:
            self.on, self.heard_at = wish.state == "on", self.now + self.delay
        if isinstance(one, Exception):
            raise one
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        self._called("effective")
        one = self.served.pop(0) if self.served else None
        if isinstance(one, Exception):
            raise one
        return one or Served(True, self.on if self.now >= self.heard_at else not self.on, by="client API")

    def close(self) -> None:
        self.calls.append("close")

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def turned(provider: Scripted, *, seconds: float = 30.0, **options: Any) -> Dict[str, Any]:
    record = Record(WHERE, Wish("off"), **options)
    deadline = Deadline(seconds, lambda: provider.now)
    Turn(provider, record, deadline, sleep=provider.sleep).go()
    return record.as_dict()


def test_off_is_set_and_then_seen() -> None:
    provider = Scripted()
    result = turned(provider)
    assert provider.calls[:4] == ["state", "effective", "set", "state"]
    assert result["status"] == "effective" and result["changed"] and "failed" not in result
    assert result["call_took"] == pytest.approx(0.2)
    assert 1.0 <= result["effective_after"] < 1.5
    assert (result["before"]["on"], result["after"]["on"], result["served"]["value"]) == (True, False, False)
    assert result["diff"]["before"]["served"] is True and result["diff"]["after"]["served"] is False
    assert "is off: clients are served false" in result["msg"]


def test_what_is_off_already_is_verified_all_the_same() -> None:
    result = turned(Scripted(on=False))
    assert (result["changed"], result["status"]) == (False, "effective")
    stuck = turned(Scripted(on=False, served=[Served(True, True)] * 99), seconds=5.0)
    assert (stuck["changed"], stuck["status"], stuck["failed"]) == (False, "not_effective", True)
    assert "served true, not false" in stuck["msg"]


def test_check_mode_asks_and_sets_nothing() -> None:
    provider = Scripted()
    result = turned(provider, dry=True)
    assert provider.calls == ["state", "effective"] and provider.on
    assert result["changed"] and "failed" not in result and "would be turned off" in result["msg"]
    assert (result["status"], result["effective_after"]) == ("not_effective", None)
    assert result["diff"] == {
        "before": {"on": True, "percentage": None, "variation": "", "served": True},
        "after": {"on": False, "percentage": None, "variation": "", "served": False},
    }
    assert not turned(Scripted(on=False), dry=True)["changed"]


def test_a_change_that_waits_for_approval_is_pending_at_once() -> None:
    provider = Scripted(sets=[Change("an approval is needed")])
    result = turned(provider)
    assert (result["status"], result["failed"], result["changed"]) == ("pending", True, False)
    assert "an approval is needed" in result["msg"] and provider.now < 2


def test_a_change_that_is_merely_accepted_is_pending() -> None:
    result = turned(Scripted(sets=[FlagError("it answers HTTP 202", details={"http_status": 202})]))
    assert (result["status"], result["failed"], result["changed"]) == ("pending", True, False)
    assert "is not off yet: it answers HTTP 202" in result["msg"]


def test_a_pending_change_is_pending_even_where_clients_are_served_it() -> None:
    provider = Scripted(sets=[Change("an approval is needed")], served=[Served(True, True), Served(True, False)])
    assert turned(provider)["status"] == "pending"
    provider = Scripted(sets=[Change("an approval is needed")])
    assert turned(provider, verify=False)["status"] == "pending"


def test_what_waits_explains_why_it_is_not_effective() -> None:
    result = turned(
        Scripted(on=False, pending="it is scheduled for Monday", served=[Served(True, True)] * 99), seconds=3
    )
    assert result["status"] == "pending" and "Monday" in result["msg"]
    # and what waits is nothing to us where it is as wished
    assert turned(Scripted(on=False, pending="it is scheduled for Monday"))["status"] == "effective"


def test_nobody_asked_is_unverified_and_says_so() -> None:
    provider = Scripted()
    result = turned(provider, verify=False)
    assert "effective" not in provider.calls
    assert (result["status"], result["changed"], result["effective_after"]) == ("unverified", True, None)
    assert "failed" not in result and result["warnings"]


def test_nobody_can_tell_is_unverified_and_fails() -> None:
    result = turned(Scripted(served=[Served(False, why="clients get what is in their code")] * 99), seconds=4.0)
    assert (result["status"], result["failed"], result["changed"]) == ("unverified", True, True)
    assert "clients get what is in their code" in result["msg"]


def test_who_may_not_ask_what_is_served_changes_nothing() -> None:
    provider = Scripted(served=[FlagError("a token of the wrong kind", details={"http_status": 403})])
    with pytest.raises(FlagError, match="wrong kind"):
        turned(provider)
    assert "set" not in provider.calls
    provider = Scripted(served=[OptionError("no client_token")])
    with pytest.raises(OptionError):
        turned(provider)
    assert "set" not in provider.calls


def test_clients_that_cannot_be_asked_beforehand_do_not_keep_it_on() -> None:
    result = turned(Scripted(served=[FlagError("down")]))
    assert result["status"] == "effective" and result["diff"]["before"]["served"] is None


def test_a_lost_answer_is_looked_for() -> None:
    result = turned(Scripted(sets=[LOST]))
    assert (result["status"], result["changed"]) == ("effective", True)
    assert "says that it was done" in result["warnings"][0]
    provider = Scripted(sets=[FlagError("the answer never came", details={"lost": True})])
    with pytest.raises(FlagError, match="it was not done"):
        turned(provider)
    provider = Scripted(sets=[LOST], states=[None, FlagError("down")])
    with pytest.raises(FlagError, match="never came"):
        turned(provider)


def test_a_conflict_is_settled_by_what_the_flag_is_now() -> None:
    conflict = FlagError("somebody else was first", details={"http_status": 409})
    result = turned(Scripted(sets=[conflict, conflict]))
    assert (result["status"], result["changed"]) == ("effective", True)
    with pytest.raises(FlagError, match="somebody else"):
        turned(Scripted(sets=[conflict] * 4))


def test_somebody_else_who_wished_the_same_leaves_nothing_to_do() -> None:
    class Overtaken(Scripted):
        def set(self, where: Where, wish: Wish, state: State) -> Change:
            self._called("set")
            self.on = False
            raise FlagError("somebody else was first", details={"http_status": 412})

    result = turned(Overtaken())
    assert (result["status"], result["changed"], result["after"]["on"]) == ("effective", False, False)


def test_a_refusal_is_an_error_and_is_not_tried_again() -> None:
    provider = Scripted(sets=[FlagError("no right", details={"http_status": 403})])
    with pytest.raises(FlagError, match="no right"):
        turned(provider)
    assert provider.calls.count("set") == 1


def test_a_change_that_was_refused_halfway_says_what_it_is_now() -> None:
    class Halfway(Scripted):
        def set(self, where: Where, wish: Wish, state: State) -> Change:
            self._called("set")
            self.pending = "half of it"
            raise FlagError("the second call is refused", details={"http_status": 422})

    provider = Halfway()
    record = Record(WHERE, Wish("off"))
    with pytest.raises(FlagError, match="second call"):
        Turn(provider, record, Deadline(30.0, lambda: provider.now), sleep=provider.sleep).go()
    assert record.changed and record.after is not None and record.after.pending == "half of it"


def test_management_that_falls_silent_after_the_change_is_a_warning() -> None:
    result = turned(Scripted(states=[None, FlagError("down")]))
    assert (result["status"], result["after"]) == ("effective", {})
    assert "down" in result["warnings"][0]


def test_secrets_are_hidden_wherever_they_are() -> None:
    found = hidden(
        {"msg": "token abcd-efg: no", "list": ["xabcd-efg"], "n": 1, "short": "abc"}, ["abcd", "abcd-efg", "abc"]
    )
    assert "efg" not in str(found) and found["n"] == 1 and found["short"] == "abc"


def test_a_secret_is_hidden_as_it_is_written_in_an_address() -> None:
    found = hidden("http://a/key%2B1%2Fx%3D%3D/json and /key%2B1/x%3D%3D/json", ["key+1/x=="])
    assert "%3D" not in found and found.count("/json") == 2


def test_who_was_served_it_beforehand_shows_little() -> None:
    result = turned(Scripted(served=[Served(True, False), Served(True, False)]))
    assert result["status"] == "effective" and "before the change, too" in result["warnings"][0]
    for first in (Served(True, True), Served(False, why="nobody knows")):
        assert not turned(Scripted(served=[first, Served(True, False)]))["warnings"]
    assert not turned(Scripted(served=[Served(True, False, 0.0)] * 2))["warnings"], "that holds for all"
    assert not turned(Scripted(on=False, served=[Served(True, False)]))["warnings"], "nothing was changed"


def test_a_share_of_the_clients_is_told_as_one() -> None:
    provider = Scripted(on=False, served=[Served(True, None, 0.0), Served(True, None, 20.0, by="client API")])
    record = Record(WHERE, Wish("on", serve=True, percentage=20.0))
    Turn(provider, record, Deadline(30.0, lambda: provider.now), sleep=provider.sleep).go()
    told = record.as_dict()
    assert told["status"] == "effective" and "is on for 20 %: 20 % of the clients are served it" in told["msg"]
