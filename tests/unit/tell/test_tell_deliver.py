# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Telling everybody: what is down holds nobody up, is told by the next run exactly once, and fails nothing."""

from __future__ import annotations

import json
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence

import pytest
from tell_servers import ACCEPTED, DOWN, PAGE, Hook, Reply, hook

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._tell import outbox
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.channel import Sent
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.deliver import OVERTAKEN, Clock, Report, tell
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.message import message_of
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.outbox import Document, Notes
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.pagerduty import PagerDuty
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.routes import parse_channels

SECRET = "services/T000/B000/XyZzYXyZzY"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(open_ledger({"path": str(tmp_path / "ledger.sqlite")})) as ledger:
        yield ledger


class Teller:
    """A controller with its channels, at a time of the test's own."""

    def __init__(self, notes: Notes, **channels: Any) -> None:
        self.notes, self.channels, self.now = notes, channels, 1795251593.0
        self.said = 0

    def tell(self, event: str = "", timeout: float = 3.0, **facts: object) -> Report:
        self.now += 1
        message = None
        if event:
            self.said += 1
            told = {"event": event, "service": "shop", "incident": f"i{self.said}", **facts}
            message = message_of(told, ident=f"msg_{self.said}", now=self.now)
        routes = parse_channels(self.channels, {})
        return tell(routes, message, self.notes, timeout=timeout, clock=Clock(lambda: self.now))


def slack(server: Hook) -> Dict[str, Any]:
    return {"type": "slack", "url": f"{server.url}/{SECRET}"}


def sent(report: Report) -> List[str]:
    return [one.id for one, _sent in report.sent]


def kept(report: Report) -> List[str]:
    return [one.id for one in report.kept]


@pytest.mark.parametrize(
    "bad", [DOWN, PAGE, Reply(429), Reply(403), Reply(hang=True), Reply(302, headers={"Location": f"/{SECRET}"})]
)
def test_who_is_down_is_told_by_the_next_run_exactly_once(bad: Reply, ledger: Ledger) -> None:
    with hook(bad, Reply()) as team, hook() as other:
        teller = Teller(ledger, team=slack(team), other=slack(other))
        first = teller.tell("held", timeout=0.5)
        assert (sent(first), kept(first), first.dropped) == (["msg_1/other"], ["msg_1/team"], ())
        assert first.kept[0].reason
        assert SECRET not in repr(first) + json.dumps(ledger.note(outbox.KEY))
        second = teller.tell()
        assert (sent(second), kept(second)) == (["msg_1/team"], [])
        assert sent(teller.tell()) == []
        assert (len(team.posts), len(other.posts)) == (2, 1)
        assert ledger.note(outbox.KEY) == {"letters": []}


def test_a_hanging_or_dripping_notifier_takes_no_longer_than_the_timeout(ledger: Ledger) -> None:
    drip = Reply(200, b"ok" * 2000, drip=0.05)
    with hook(Reply(hang=True)) as hanging, hook(drip) as dripping, hook() as well:
        teller = Teller(ledger, a=slack(hanging), b=slack(dripping), c=slack(well))
        begun = time.monotonic()
        report = teller.tell("page", timeout=1.0)
        assert time.monotonic() - begun < 2.5
        assert "msg_1/c" in sent(report)
        assert "msg_1/a" in kept(report)
        assert sorted([*sent(report), *kept(report)]) == ["msg_1/a", "msg_1/b", "msg_1/c"]
        # what is old leaves what is new its time, and both are bounded together
        begun = time.monotonic()
        again = teller.tell("page", timeout=1.0, incident="i1")
        assert time.monotonic() - begun < 2.5
        assert {"msg_1/a", "msg_2/a"} <= set(kept(again)) and "msg_2/c" in sent(again)


def test_what_is_refused_for_ever_is_told_and_not_tried_again(ledger: Ledger) -> None:
    with hook(Reply(400, b"invalid_payload")) as team:
        teller = Teller(ledger, team=slack(team))
        report = teller.tell("done")
        assert [(one.channel, one.event, one.service) for one in report.dropped] == [("team", "done", "shop")]
        assert "invalid_payload" in report.dropped[0].reason
        teller.tell()
        assert len(team.posts) == 1


def test_messages_about_one_thing_come_in_their_order_and_the_new_one_first_of_all_others(ledger: Ledger) -> None:
    with hook(DOWN, DOWN, DOWN, DOWN, Reply()) as team:
        teller = Teller(ledger, team=slack(team))
        for event, incident in (("started", "a"), ("started", "b"), ("held", "a")):
            teller.tell(event, incident=incident)
        teller.now += 600
        asked = len(team.posts)
        team.replies = [Reply()]
        report = teller.tell("undone", incident="a")
    assert len(sent(report)) == 4
    order = [post.json["blocks"][0]["text"]["text"].partition("shop: ")[2] for post in team.posts[asked:]]
    assert order == ["started", "held", "undone", "started"]


def test_a_late_trigger_never_opens_again_what_is_resolved(ledger: Ledger) -> None:
    def oncall(server: Hook) -> Dict[str, Any]:
        return {"type": "pagerduty", "routing_key": "k" * 32, "url": server.url}

    with hook(DOWN, DOWN, ACCEPTED) as server:
        teller = Teller(ledger, oncall=oncall(server))
        assert kept(teller.tell("page", incident="a")) == ["msg_1/oncall"]
        report = teller.tell("resolved", incident="a")
        assert (sent(report), [one.reason for one in report.dropped]) == (["msg_2/oncall"], [OVERTAKEN])
        teller.now += 9999
        assert sent(teller.tell()) == []
    assert [post.json["event_action"] for post in server.posts] == ["trigger", "trigger", "resolve"]


class Broken:
    """A store that is down from its nth use on."""

    def __init__(self, ledger: Ledger, *uses: bool) -> None:
        self.ledger, self.uses = ledger, list(uses)

    def note(self, key: str) -> Document:
        return self.ledger.note(key)

    def change_note(self, key: str, change: Callable[[Document], Document]) -> Document:
        if not self.uses.pop(0):
            raise StoreError("the disk is full")
        return self.ledger.change_note(key, change)


@pytest.mark.parametrize(
    ("uses", "answer", "expected"),
    [
        ((False,), Reply(), (["msg_1/team"], [], [])),
        ((False, False), DOWN, ([], [], ["and it could not be kept: the disk is full"])),
        ((False, True), DOWN, ([], ["msg_1/team"], [])),
        ((True, False), DOWN, ([], ["msg_1/team"], [])),
        ((True, False), Reply(), (["msg_1/team"], [], [])),
    ],
)
def test_a_store_that_is_down_keeps_nobody_from_being_told(
    uses: Sequence[bool], answer: Reply, expected: Any, ledger: Ledger
) -> None:
    with hook(answer) as team:
        report = Teller(Broken(ledger, *uses), team=slack(team)).tell("page")
        assert len(team.posts) == 1
    reasons = [one.reason.partition("; ")[2] for one in report.dropped]
    assert (sent(report), kept(report), reasons) == expected
    assert any("the disk is full" in note for note in report.notes)
    assert len(outbox.read(ledger.note(outbox.KEY))[0]) == (1 if True in uses else 0)  # what it took, it has


def test_a_channel_that_breaks_breaks_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_given: object) -> Sent:
        raise RuntimeError(SECRET)

    with hook() as team:
        monkeypatch.setattr(PagerDuty, "send", broken)
        teller = Teller(ledger, team=slack(team), oncall={"type": "pagerduty", "routing_key": "k" * 32})
        report = teller.tell("page")
        assert (sent(report), kept(report)) == (["msg_1/team"], ["msg_1/oncall"])
        assert report.kept[0].reason == "it could not be sent (RuntimeError)"
        del teller.channels["oncall"]
        left = teller.tell()
    assert left.kept[0].reason == "there is no channel 'oncall' now; it could not be sent (RuntimeError)"
