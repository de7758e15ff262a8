# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first seven of twenty ways to fool or break a guard: copies, forgeries, crashes, dead stores and races.

Each on the three real stores, with real places; the docstrings quote what must be true.
"""

from __future__ import annotations

import json
import os
import random
import signal
import string
import time
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from stores import Serving, SqliteKept
from tell_servers import hook
from twenty_alerts import CAPTURED, alertmanagers, fire, triggers
from twenty_site import (
    ALARM,
    DAY,
    FORKS,
    HOUR,
    MINUTE,
    PATIENCE,
    SERVICE,
    TTL,
    Site,
    alarm,
    die,
    ended,
    forked,
    policy,
    site_on,
)

from ansible_collections.selfheal.delivery.plugins.action.heartbeat import prove
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    FencedError,
    LeaseError,
    OptionError,
    StoreError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    CALL,
    ROLLBACK,
    Grant,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.plugin_utils import _ask_guard
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import places_of

NOW = 1_790_000_000.0


@pytest.fixture
def site(serve: Serving) -> Iterator[Site]:
    """1.0.0 and then 2.0.0 passed on two places; 2.0.0 runs, and has turned bad by now."""
    with site_on(serve(), NOW) as found:
        found.release("1.0.0", "2.0.0")
        yield found


def told(grant: Grant) -> tuple[str, str, bool]:
    return grant.decision.verdict, grant.decision.reason, grant.decision.page


# --- 1


def test_case_01_duplicate_alert(site: Site) -> None:
    """Alertmanager repeat (byte-identical body) and HA pair sending twice -> one action."""
    (trigger,) = triggers(CAPTURED)
    other = site.kept.open()
    first = site.ask(trigger)
    repeated = [site.ask(trigger, ledger=other, holder="its twin") for _copy in range(3)]
    assert [told(one) for one in repeated] == [("denied", "duplicate", False)] * 3
    site.act(first)
    repeated += [site.ask(trigger, ledger=ledger) for ledger in (other, site.ledger)]
    assert [one.repeated for one in repeated] == [True] * 5  # counted, and not written again
    other.close()
    assert site.everywhere("1.0.0") and len(site.rollbacks()) == len(site.allowed()) == 1
    assert [entry.body["id"] for entry in site.entries("trigger") if entry.body["kind"] == "alert"] == [trigger.id]
    assert site.ledger.counters()[SERVICE]["suppressed:rollback:duplicate"] == 5
    assert site.whole()


@pytest.mark.xdist_group("sqlite")
def test_case_01_duplicate_alert_of_a_real_alertmanager_pair(tmp_path: Path) -> None:
    """Alertmanager repeat (byte-identical body) and HA pair sending twice -> one action."""
    started = datetime.now(timezone.utc)
    with site_on(SqliteKept(tmp_path), started.timestamp() - HOUR) as site, hook() as receiver:
        site.release("1.0.0", "2.0.0")
        site.now = started.timestamp()
        with alertmanagers(tmp_path, receiver.url) as urls:
            fire(urls, started)
            deadline = time.monotonic() + 30
            while not all(count >= 2 for count in senders(receiver.posts, urls)):
                assert time.monotonic() < deadline, receiver.posts
                time.sleep(0.05)
        bodies = [post.json for post in receiver.posts]
        assert all(body.keys() == CAPTURED.keys() for body in bodies)
        assert all(body["alerts"][0].keys() == CAPTURED["alerts"][0].keys() for body in bodies)
        copies = [trigger for body in bodies for trigger in triggers(body)]
        assert len(copies) >= 4 and len({copy.id for copy in copies}) == 1
        reasons = [site.heal(copy, guard=policy(attribution_window=2 * HOUR)).reason for copy in copies]
        assert reasons == ["", *["duplicate"] * (len(copies) - 1)]
        assert site.everywhere("1.0.0") and len(site.rollbacks()) == 1 and site.whole()


def senders(posts: List[Any], urls: List[str]) -> List[int]:
    """How often each Alertmanager has told it."""
    told_by = [post.json["externalURL"].rpartition(":")[2] for post in posts]
    return [told_by.count(url.rpartition(":")[2]) for url in urls]


# --- 2


@pytest.mark.parametrize("sender", ["alert", CALL])
def test_case_02_replayed_webhook(site: Site, sender: str) -> None:
    """Resent within and after the tolerance, same id with new timestamp, no timestamp, after a restart -> one action.

    Signatures and their tolerance belong to the event source: here a replay has got through.
    """
    name = "ci" if sender == CALL else ALARM
    asked: Dict[str, Any] = {"guard": policy(calls=["ci"])}
    assert site.heal(Trigger(sender, name, "x1", at=site.now), **asked).allowed
    for later in (10.0, 10 * MINUTE, 2 * HOUR, 30 * DAY):
        site.wait(later)
        site.restarted()
        for at in (site.now, None, 0.0):
            decision = site.heal(Trigger(sender, name, "x1", at=at, evidence={"delivery": str(later)}), **asked)
            assert (decision.verdict, decision.reason, decision.page) == ("denied", "duplicate", False)
    assert len(site.rollbacks()) == 1 and site.everywhere("1.0.0") and site.whole()


# --- 3

NASTY = {
    "shell": "$(touch {mark}); `touch {mark}` | touch {mark} & touch {mark}",
    "jinja": "{{ lookup('ansible.builtin.pipe', 'touch {mark}') }}{% raw %}",
    "path": "../../../../{mark}",
    "sql": "'; DROP TABLE entry; --",
    "format": "%s%n{0.__class__}{mark}",
    "control": "a\x1b[2J\r\nX-Injected: 1\u202e",
    "long": "".join(random.Random(1).choices(string.ascii_letters, k=100_000)),
    "all": "*",
}


def test_case_03_forged_or_altered_trigger(site: Site, tmp_path: Path) -> None:
    """Forged -> counted, no work.

    That a signature is checked, and a body bounded, before anything is believed is the receiver's, which belongs to
    the event source. The guard has no receiver to trust: what a trigger says is data in all of its fields.
    """
    mark = tmp_path / "run"
    before = [place.picture() for place in site.places.values()]
    for name, nasty in NASTY.items():
        text = nasty.replace("{mark}", str(mark))
        for trigger in (
            Trigger("alert", text, f"{name} 1"),
            Trigger("alert", text, text, evidence={text[:200]: text, "labels": {"service": text}}),
            Trigger("error_code", text, f"{text}.code"),
            Trigger(CALL, text, f"{text}.call"),
        ):
            grant = site.ask(trigger)
            assert told(grant) == ("denied", "not_eligible", True), (name, grant)
            assert site.ask(trigger).repeated, name  # and nobody is paged for the same one again
            assert len(grant.decision.message) < 1000
        forged = Trigger("alert", ALARM, text, evidence={"service": "prod/other", "target": "0.0.1", "note": text})
        assert told(site.ask(forged, confirmed=False)) == ("denied", "not_confirmed", False)
    assert site.ledger.services() == [SERVICE] and not mark.exists()
    assert [place.picture() for place in site.places.values()] == before
    assert site.ledger.counters()[SERVICE]["suppressed:rollback:not_eligible"] == 8 * len(NASTY)
    flood = {str(number): NASTY["long"] for number in range(30)}
    assert told(site.ask(Trigger(CALL, "flood", "flood", evidence=flood))) == ("denied", "not_eligible", True)
    kept = site.entries("trigger", "decision")
    assert max(len(json.dumps(entry.body)) for entry in kept) < 5_000
    assert site.whole() and not site.allowed()


def test_case_03_forged_kinds_and_selections_are_refused(site: Site) -> None:
    """Unknown kinds and actions, and a service that is no group of places: an error, and nothing is kept."""
    head = site.ledger.head()
    with pytest.raises(OptionError, match="'alerts' is unknown to the guard"):
        site.ask(Trigger("alerts", ALARM, "x"))
    with pytest.raises(OptionError, match="'rollback; reboot' is unknown to the guard"):
        site.ask(alarm(), action="rollback; reboot")
    with pytest.raises(OptionError, match="not valid Unicode"):
        site.ask(alarm("half a pair \ud800"))
    for name, ident in (("", "x"), (ALARM, "")):
        asked = {"trigger": {"kind": "alert", "name": name, "id": ident}, "service": SERVICE, "action": ROLLBACK}
        with pytest.raises(OptionError, match="needs a name and an id"):
            _ask_guard.request_of({**asked, "situation": {}, "approved": "", "after": ""}, "guard")
    inventory = {"groups": {"all": ["web1", "db1"], "shop": ["web1"], "empty": []}}
    for group in ("all", "ungrouped", "*", "shop:db", "~.*", "shop,all", "../shop", "{{ groups.all }}", "empty", ""):
        with pytest.raises(OptionError):
            places_of(group, inventory)
    assert site.ledger.head() == head


# --- 4


def test_case_04_true_sender_false_claim(site: Site) -> None:
    """Alert not firing at the source -> no action. Labels of another service, target or path select nothing."""
    lie = {"service": "prod/other", "to": "0.0.1", "path": "/", "confirmed": True, "places": 99}
    false = site.ask(alarm("a1", evidence=lie), confirmed=False)
    assert told(false) == ("denied", "not_confirmed", False)
    silent = site.ask(alarm("a2", evidence=lie), confirmed=None)
    assert told(silent) == ("denied", "not_confirmed", True)
    # that it is about a release which does not run can only keep it from acting
    elsewhere = site.ask(alarm("a4", evidence={**lie, "release": "9.9.9"}))
    assert told(elsewhere) == ("recommended", "not_attributable", True)
    assert site.everywhere("2.0.0") and not site.rollbacks()
    grant = site.ask(alarm("a3", evidence=lie))
    assert grant.lease is not None and grant.lease.service == SERVICE
    assert grant.rollout is not None and grant.rollout.intent["before"] == {"web1": "1.0.0", "web2": "1.0.0"}
    assert site.ledger.services() == [SERVICE] and site.ledger.holder("prod/other", site.now) is None


# --- 5

STEPS = ("to be decided", "decided", "to change web1", "to record what came of web2", "to be closed", "closed")


@pytest.mark.parametrize("step", STEPS)
def test_case_05_crash_between_decision_action_and_record(site: Site, step: str) -> None:
    """kill -9 at each step -> the intent is found, the real state is read, finished or closed exactly once.

    At every single write: test_guard_killed.py. Here at the steps that people know, and what the next ones see.
    """

    def controller() -> None:
        site.ledger = site.kept.open()
        at: Callable[[str], None] = lambda here: die() if here == step else None  # noqa: E731
        at("to be decided")
        grant = site.ask(alarm())
        at("decided")
        assert grant.rollout is not None and grant.lease is not None
        results = site.go_back(grant.rollout, grant.lease, at)
        at("to be closed")
        site.close(grant.rollout, grant.lease, results)
        at("closed")

    assert ended(forked(controller)) == -signal.SIGKILL
    site.wait(1)
    begun, over = step != "to be decided", step == "closed"
    assert site.settle() == (["wait"] if begun and not over else [])  # its lease is still in force
    assert site.ask(alarm("a2"), confirmed=False).lease is None
    site.wait(TTL)
    assert site.settle() == (["undo"] if begun and not over else [])
    assert site.settle() == []
    again = site.heal(alarm())
    assert again.allowed != begun and site.heal(alarm()).reason == "duplicate"
    (rollback,) = site.rollbacks()
    assert rollback.state == "done" and site.everywhere("1.0.0") and site.whole()
    changed = [entry.body["place"] for entry in site.entries("outcome") if entry.body["changed"]]
    assert len(changed) == len(set(changed))
    assert [entry.body["state"] for entry in site.entries("state") if entry.body["rollout"] == rollback.id][
        -1
    ] == "done"


# --- 6

BROKEN = ["denied", "corrupted", "of_another_version", "unreachable", "locked", "full"]
ASKED: Dict[str, Any] = {
    "service": SERVICE,
    "action": ROLLBACK,
    "trigger": {"kind": "alert", "name": ALARM, "id": "a2"},
    "situation": {"confirmed": True, "places": 2},
    "guard": {},
    "release": "",
    "kind": "rollback",
    "intent": {},
    "approved": "",
    "after": "",
    "lease_ttl": TTL,
    "on_denied": "continue",
    "ledger": {},
}


@pytest.mark.parametrize("how", BROKEN)
def test_case_06_state_store_gone(site: Site, kind: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down, full, corrupt or read-only, before and during -> no automatic action, page; no loss of the audit chain."""
    if kind == "kubernetes" and how in ("locked", "full"):
        assert not hasattr(site.kept, how)  # an API server has no lock to hold, and no disk of ours to fill
        return
    grant = site.ask(alarm("a1"))
    assert grant.lease is not None and grant.rollout is not None
    with getattr(site.kept, how)() as opener:
        filled(opener, full=how == "full")
        monkeypatch.setattr(_ask_guard, "ledger_from", lambda _options: opener())
        answer = _ask_guard.acquired(ASKED, "guard", checking=False)
        said = [answer["decision"][name] for name in ("verdict", "reason", "page")]
        assert said == ["denied", "store_unavailable", True], answer
        assert (answer["allowed"], answer["changed"], answer["lease"]) == (False, False, None)
        if how not in ("corrupted", "full"):  # there, one small document may still be rewritten
            with pytest.raises(StoreError), closing(opener()) as asked:  # no sign of life: others alarm on that
                prove(asked, "controller")
        if how != "corrupted" and (kind, how) != ("postgresql", "locked"):  # an action needs none of those documents
            during(site, opener, grant.rollout, grant.lease)
    assert site.everywhere("2.0.0")
    site.restarted()
    assert [one.id for one in site.ledger.unfinished()] == [grant.rollout.id]
    site.wait(TTL + 1)
    assert site.settle() == ["undo"] and site.everywhere("1.0.0") and site.whole()


def filled(opener: Callable[[], Any], *, full: bool) -> None:
    """To the last byte that fits."""
    for size in (2000, 200, 20) if full else ():
        with closing(opener()) as ledger, pytest.raises(StoreError, match="full|No space left|disk_full"):
            for _entry in range(500):
                ledger.append(SERVICE, "note", "me", {"text": "x" * size}, NOW)


def during(site: Site, opener: Callable[[], Any], rollout: Rollout, lease: Lease) -> None:
    """It was allowed before the store went: nothing is begun on a place that cannot be recorded first."""
    mine = site.ledger
    with pytest.raises(StoreError), closing(opener()) as opened:
        site.ledger = opened
        site.go_back(rollout, lease)
    site.ledger = mine


# --- 7


def test_case_07_two_controllers_racing(site: Site) -> None:
    """Two controllers racing -> one acts, the other is told that it does."""
    together = FORKS.Barrier(2, timeout=PATIENCE)

    def controller(number: int) -> None:
        site.ledger = site.kept.open()
        plan = site.plan()
        together.wait()
        grant = site.ask(alarm(f"a{number}"), plan=plan, holder=f"controller {number}")
        assert grant.decision.reason in ("", "in_progress"), grant

    children = [forked(lambda: controller(1)), forked(lambda: controller(2))]
    assert [ended(child) for child in children] == [0, 0]
    assert len(site.allowed()) == len(site.rollbacks()) == 1
    said = [one.body["reason"] for one in site.entries("decision") if one.body["action"] == ROLLBACK]
    assert said == ["", "in_progress"]


def test_case_07_a_paused_process_wakes_with_an_expired_lease(site: Site) -> None:
    """SIGSTOP past the lease, then CONT -> the fencing token rejects the late one, in the ledger and on the place."""
    asked, go = FORKS.Event(), FORKS.Event()

    def late() -> None:
        site.ledger = site.kept.open()
        grant = site.ask(alarm("a1"), holder="the late one")
        assert grant.lease is not None and grant.rollout is not None
        asked.set()
        assert go.wait(PATIENCE)  # it is stopped here, and sees nothing of the time that goes by
        with pytest.raises(LeaseError, match="was lost"):
            site.go_back(grant.rollout, grant.lease)
        with pytest.raises(FencedError, match=f"token {grant.lease.token} is lower than"):
            site.places["web1"].back(release="2.0.0", to="1.0.0", token=grant.lease.token)
        with pytest.raises(LeaseError):
            site.close(grant.rollout, grant.lease, {})

    child = forked(late)
    assert asked.wait(PATIENCE)
    os.kill(child, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(child, os.WUNTRACED)[1])
    site.wait(TTL + 1)
    assert site.settle() == ["undo"]
    os.kill(child, signal.SIGCONT)
    go.set()
    assert ended(child) == 0
    (rollback,) = site.rollbacks()
    assert (rollback.state, site.everywhere("1.0.0")) == ("done", True) and site.whole()
