# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox: nothing is lost, nothing is sent by two runs, and it never grows without bounds."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Mapping, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._tell import outbox
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.channel import Sent
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.message import message_of
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.outbox import Document, Letter

FAILED = Sent(False, "it refuses the connection", again=True)


class Shelf:
    """Notes in memory, as JSON. Each change is tried twice, as where somebody else was faster."""

    def __init__(self) -> None:
        self.texts: Dict[str, str] = {}

    def note(self, key: str) -> Document:
        found: Dict[str, object] = json.loads(self.texts.get(key, "{}"))
        return found

    def change_note(self, key: str, change: Callable[[Document], Document]) -> Document:
        change(self.note(key))
        self.texts[key] = json.dumps(change(self.note(key)))
        return self.note(key)


def letter(number: int, channel: str = "team", at: float = 1000.0, **facts: Any) -> Letter:
    told = {"service": "shop", "event": "held", "incident": f"i{number}", **facts}
    return Letter(channel, message_of(told, ident=f"msg_{number}", now=at), at)


def take(shelf: Shelf, *new: Letter, now: float = 1000.0, channels: str = "team") -> outbox.Taken:
    return outbox.take(shelf, new, channels=channels.split(), now=now, timeout=10)


def settle(shelf: Shelf, taken: outbox.Taken, results: Mapping[str, Optional[Sent]], now: float) -> List[str]:
    kept, dropped = outbox.settle(shelf, taken.letters, results, now=now)
    return [*(one.id for one in kept), *(one.reason for one in dropped)]


def ids(taken: outbox.Taken) -> List[str]:
    return [one.message.id for one in taken.letters]


def test_what_was_sent_leaves_and_what_failed_comes_at_the_next_run() -> None:
    shelf = Shelf()
    taken = take(shelf, letter(1), letter(2))
    assert ids(taken) == ["msg_1", "msg_2"]
    assert settle(shelf, taken, {"msg_1/team": Sent(True, "ok"), "msg_2/team": FAILED}, 1001) == ["msg_2/team"]
    again = take(shelf, now=1002)
    assert ids(again) == ["msg_2"]
    assert again.letters[0].reason == "it refuses the connection"
    assert settle(shelf, again, {"msg_2/team": Sent(True, "ok")}, 1003) == []
    assert ids(take(shelf, now=9999)) == []


def test_it_waits_longer_each_time_and_as_long_as_it_is_asked_to() -> None:
    assert [outbox.backoff(tries) for tries in (1, 2, 3, 4, 9, 99)] == [0, 30, 60, 120, 3600, 3600]
    shelf = Shelf()
    settle(shelf, take(shelf, letter(1)), {"msg_1/team": FAILED}, 1000)
    settle(shelf, take(shelf), {"msg_1/team": FAILED}, 1000)
    assert ids(take(shelf, now=1029)) == []
    assert [one.id for one in take(shelf, now=1029).later] == ["msg_1/team"]
    limited = Sent(False, "too many", again=True, after=600)
    settle(shelf, take(shelf, now=1030), {"msg_1/team": limited}, 1030)
    assert ids(take(shelf, now=1629)) == []
    assert ids(take(shelf, now=1630)) == ["msg_1"]


def test_what_is_new_takes_what_is_kept_about_the_same_along() -> None:
    shelf = Shelf()
    failed = {"msg_1/team": FAILED, "msg_2/team": FAILED}
    settle(shelf, take(shelf, letter(1), letter(2)), failed, 1000)
    settle(shelf, take(shelf), failed, 1000)
    assert ids(take(shelf, letter(3, incident="i1"), now=1001)) == ["msg_1", "msg_3"]


def test_a_run_that_died_loses_nothing_and_two_runs_send_nothing_twice() -> None:
    shelf = Shelf()
    take(shelf, letter(1))  # and dies
    assert ids(take(shelf, now=1001)) == []
    assert ids(take(shelf, letter(2, incident="i1"), now=1001)) == ["msg_2"]
    assert ids(take(shelf, now=1071)) == ["msg_1", "msg_2"]


@pytest.mark.parametrize("back", [-7200.0, -86400.0 * 365])
def test_a_clock_that_is_put_back_keeps_nothing_waiting_for_it(back: float) -> None:
    shelf = Shelf()
    settle(shelf, take(shelf, letter(1, at=1e9), now=1e9), {"msg_1/team": FAILED}, 1e9)
    settle(shelf, take(shelf, now=1e9), {"msg_1/team": FAILED}, 1e9)
    take(shelf, now=1e9 + 60)
    assert ids(take(shelf, now=1e9 + back)) == ["msg_1"]


def test_what_can_never_be_told_is_given_up() -> None:
    shelf = Shelf()
    taken = take(shelf, letter(1))
    assert settle(shelf, taken, {"msg_1/team": Sent(False, "HTTP 400")}, 1000) == ["HTTP 400"]
    assert ids(take(shelf)) == []


def test_too_old_too_many_and_too_large_are_given_up_and_told() -> None:
    shelf = Shelf()
    settle(shelf, take(shelf, letter(0)), {"msg_0/team": FAILED}, 1000)
    late = take(shelf, *(letter(number, at=90000.0) for number in range(1, 53)), now=90000)
    assert [one.reason for one in late.dropped] == [
        "it could not be told for 24 h; last: it refuses the connection",
        "too many messages were waiting; last: not tried",
        "too many messages were waiting; last: not tried",
    ]
    assert len(late.letters) == outbox.MOST
    large = take(Shelf(), *(letter(number, summary="ü" * 1000, why="€" * 1000) for number in range(50)))
    assert 0 < len(large.letters) < 50
    assert large.letters[-1].message.id == "msg_49"


def test_a_channel_that_is_gone_waits_for_its_return() -> None:
    shelf = Shelf()
    settle(shelf, take(shelf, letter(1, "old"), channels="old"), {"msg_1/old": FAILED}, 1000)
    assert [one.channel for one in take(shelf, now=1001).later] == ["old"]
    assert ids(take(shelf, now=1002, channels="old")) == ["msg_1"]


def test_an_empty_outbox_is_not_written() -> None:
    shelf = Shelf()
    take(shelf)
    assert shelf.texts == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
ENTRY = outbox.write([letter(1)])["letters"][0]  # type: ignore[index]


@given(st.lists(st.sampled_from(sorted(ENTRY)), max_size=2), JSON, st.sampled_from(sorted(ENTRY["message"])))
def test_an_entry_that_somebody_broke_is_given_up_and_told(names: List[str], value: object, inner: str) -> None:
    broken = {**ENTRY, **dict.fromkeys(names, value), "message": {**ENTRY["message"], inner: value}}
    shelf = Shelf()
    shelf.texts["outbox"] = json.dumps({"letters": [broken, value, ENTRY]})
    taken = take(shelf, now=1000)
    assert taken.letters[-1].message.id == "msg_1"
    taken = take(shelf, letter(2), now=1000)
    assert taken.letters[-1].message.id == "msg_2"


@given(st.lists(st.tuples(st.sampled_from("sfnx"), st.integers(0, 4000)), max_size=30))
def test_each_message_is_sent_once_or_given_up_once(steps: List[Any]) -> None:
    """s: all get through; f: none does; n: the run dies before it settles; x: refused for ever. Each has a new one."""
    shelf, now, ended = Shelf(), 1000.0, []
    for number, (end, pause) in enumerate(steps):
        now += pause
        taken = take(shelf, letter(number, at=now), now=now)
        sent = {"s": Sent(True, "ok"), "f": FAILED, "x": Sent(False, "never")}.get(end)
        ended += [f"old {one.reason}" for one in taken.dropped]
        if sent is not None:
            outbox.settle(shelf, taken.letters, {one.id: sent for one in taken.letters}, now=now)
            ended += [one.id for one in taken.letters if end in "sx"]
    ended += [one.id for one in outbox.read(shelf.note("outbox"))[0]]
    messages = [one for one in ended if one.startswith("msg")]
    assert len(messages) == len(set(messages))
    assert len(ended) == len(steps)
