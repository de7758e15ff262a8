# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases 17 to 20 of the twenty, and the two stories that the product is for. See test_twenty_cases.py."""

from __future__ import annotations

import json
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from stores import Row, Serving, SqliteKept
from tell_servers import Reply, hook
from twenty_site import (
    DAY,
    FORKS,
    HOUR,
    MINUTE,
    NOT_RECOVERED,
    PATIENCE,
    RECOVERED,
    SERVICE,
    TTL,
    Site,
    alarm,
    ended,
    forked,
    policy,
    site_on,
)

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import RolloutError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain, rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.book import WATCHDOG
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    FLAG_OFF,
    RESTART,
    ROLLBACK,
    Clock,
    Grant,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.export import FORMATS, Shape, lines
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import found_bad
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import breaker
from ansible_collections.selfheal.delivery.plugins.module_utils._tell import heartbeat
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.deliver import tell
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.message import message_of
from ansible_collections.selfheal.delivery.plugins.module_utils._tell.routes import parse_channels

NOW = 1_790_000_000.0
QUICK: Dict[str, Any] = {"cooldown": 0, "global_cooldown": 0, "clear_for": 0}


@pytest.fixture
def site(serve: Serving) -> Iterator[Site]:
    """1.0.0 and then 2.0.0 passed on two places; 2.0.0 runs, and has turned bad by now."""
    with site_on(serve(), NOW) as found:
        found.release("1.0.0", "2.0.0")
        yield found


def told(grant: Grant) -> tuple[str, str, bool]:
    return grant.decision.verdict, grant.decision.reason, grant.decision.page


# --- 17


def test_case_17_flag_kill_says_200_but_is_not_effective(site: Site) -> None:
    """-> verify the evaluated value inside a deadline, else go on to the next action.

    That a flag was evaluated again is the flag module's to find out; here it says that it was not effective.
    """
    guard = policy(**QUICK, breaker={"failures": 2})
    flag = site.ask(alarm("a1"), action=FLAG_OFF, guard=guard)
    assert flag.lease is not None and flag.rollout is not None
    outcome = {"ok": True, "status": 200, "verified": {"verdict": NOT_RECOVERED}}
    rollouts.close(site.ledger, flag.lease, flag.rollout.id, state="done", outcome=outcome, actor="guard", now=site.now)
    counters = site.ledger.counters()[SERVICE]
    assert counters["verified:not_recovered"] == 1 and "last_success:action" not in counters
    memory = site.ledger.memory(SERVICE)
    assert memory.failures == 1 and breaker(policy(), memory, site.now)[0] == "open"
    assert told(site.ask(alarm("a1"), action=RESTART)) == (
        "denied",
        "breaker_open",
        True,
    )  # by the default: one is enough
    assert site.ask(alarm("a1"), action=FLAG_OFF, guard=guard).decision.reason == "duplicate"
    assert site.heal(alarm("a1"), guard=guard).allowed  # the next one in the order of response, for the same alert
    assert site.everywhere("1.0.0") and site.whole()


# --- 18


def test_case_18_flapping(site: Site) -> None:
    """Fires and resolves every 30 s -> hysteresis."""
    guard = policy(hold_for="2m", clear_for="5m", cooldown=0, global_cooldown=0)

    def flap(times: int) -> List[str]:
        reasons = []
        for _time in range(times):
            began = alarm(f"start {site.now}")
            reasons.append(site.heal(began, action=RESTART, guard=guard).reason)
            site.wait(30)
            site.ledger.observe(SERVICE, replace(began, active=False), guard, "guard", site.now)
            site.wait(30)
        return reasons

    assert set(flap(20)) == {"not_held"} and not site.allowed(RESTART)
    lasting = alarm("it stays")
    reasons = [site.ask(lasting, action=RESTART, guard=guard) for _half in range(4) if site.wait(30)]
    assert [one.decision.reason for one in reasons] == ["not_held"] * 4
    site.wait(30)
    grant = site.ask(lasting, action=RESTART, guard=guard)
    assert grant.lease is not None and grant.rollout is not None
    done = {"ok": True, "verified": {"verdict": RECOVERED}}
    rollouts.close(site.ledger, grant.lease, grant.rollout.id, state="done", outcome=done, actor="g", now=site.now)
    assert set(flap(20)) == {"not_rearmed"} and len(site.allowed(RESTART)) == 1
    assert site.whole()


def test_case_18_resolved_before_firing_and_out_of_order(site: Site) -> None:
    """`resolved` arrives before `firing`, out of order -> order by startsAt: an incident that is over stays over.

    That a truncated group (max_alerts) pages is the receiver's to say, which belongs to the event source.
    """
    over = alarm("a1", active=False)
    assert told(site.ask(over)) == ("denied", "not_confirmed", False)
    assert told(site.ask(alarm("a1"))) == ("denied", "not_confirmed", True)
    site.restarted()
    assert site.ask(alarm("a1", level=9.0)).decision.reason == "not_confirmed"
    assert site.everywhere("2.0.0") and not site.rollbacks()
    assert site.heal(alarm("a2")).allowed  # another start is another incident
    site.ledger.observe(SERVICE, over, policy(), "guard", site.now)  # a late copy of the first one's end
    assert site.ledger.memory(SERVICE).condition(over.condition).firing == ("a2",)


# --- 19


def test_case_19_the_alert_pipeline_is_silent(site: Site) -> None:
    """No Watchdog heartbeat -> alert-triggered action stops and pages; pipelines without alerts go on."""
    guard = policy(watchdog="5m", **QUICK)

    def seen() -> None:
        site.ledger.change_note(WATCHDOG, lambda note: heartbeat.heard(note, site.now, "alertmanager", site.now))

    assert told(site.ask(alarm("a1"), guard=guard)) == ("denied", "alerts_silent", True)
    assert heartbeat.silent(site.ledger.note(WATCHDOG), 300, site.now)
    seen()
    site.wait(6 * MINUTE)
    assert told(site.ask(alarm("a2"), guard=guard)) == ("denied", "alerts_silent", True)
    what = rollouts.Begin(SERVICE, "3.0.0", "canary", {"fleet": ["web1", "web2"]})
    who: Dict[str, Any] = {"actor": "ada", "now": site.now}
    begun, lease = rollouts.begin(site.ledger, what, holder="pipeline", ttl=TTL, policy=guard, **who)
    rollouts.close(site.ledger, lease, begun.id, state="undone", outcome={}, **who)
    seen()
    assert heartbeat.silent(site.ledger.note(WATCHDOG), 300, site.now) is None
    assert site.heal(alarm("a2"), guard=guard).allowed and site.whole()


@pytest.mark.parametrize("jump", [10 * MINUTE, -10 * MINUTE])
def test_case_19_the_clock_jumped(serve: Serving, jump: float) -> None:
    """NTP step of +/-10 min -> nothing automatic until the step is old, and no cooldown ends by it."""
    with site_on(serve(), time.time() - 20 * MINUTE) as site:
        guard = policy(clock={"settle": 1}, cooldown="5m", global_cooldown="5m", clear_for=0)
        site.release("0.9.0", "1.0.0", "2.0.0")
        began = site.now = time.time()
        assert site.heal(alarm("a1"), guard=guard, clock=Clock("boot", 1000.0)).allowed
        site.now = began + jump
        jumped = site.ask(alarm("a2"), guard=guard, clock=Clock("boot", 1000.5))
        assert told(jumped) == ("denied", "clock_jumped", True)
        site.now = began + 1  # somebody has put it right
        assert site.ask(alarm("a3"), guard=guard, clock=Clock("boot", 1001.0)).decision.reason == "clock_jumped"
        site.now = began + 3
        assert told(site.ask(alarm("a4"), guard=guard, clock=Clock("boot", 1003.0)))[:2] != ("allowed", "")
        assert len(site.rollbacks()) == 1 and site.everywhere("1.0.0") and site.whole()


def test_case_19_the_notifier_is_down(site: Site) -> None:
    """Slack down -> the action does not wait for chat; what was not told is told later, once."""
    with hook(Reply(hang=True), Reply()) as slack:
        routes = parse_channels({"team": {"type": "slack", "url": f"{slack.url}/T0/B0/s3cr3t"}}, {})
        began = time.monotonic()
        rollback = site.act(site.ask(alarm()))
        assert rollback.state == "done" and site.everywhere("1.0.0")  # before anybody is told
        acted = time.monotonic() - began
        message = message_of({"rollout": vars(rollback)}, ident="m1", now=time.time())
        report = tell(routes, message, site.ledger, timeout=0.3)
        assert [letter.id for letter in report.kept] == ["m1/team"] and report.sent == ()
        assert time.monotonic() - began < acted + 5
        assert site.ledger.verify() is None
        again = tell(routes, None, site.ledger, timeout=5)
        assert [letter.id for letter, _sent in again.sent] == ["m1/team"] and again.kept == ()
        assert tell(routes, None, site.ledger, timeout=5).sent == ()
    assert site.whole()


def test_case_19_approvals_time_out_to_no(site: Site) -> None:
    """Nobody answers -> no."""
    guard = policy(mode="recommend", approval_ttl="30m")
    asked = site.ask(alarm("a1"), guard=guard)
    assert told(asked) == ("recommended", "", True)
    site.wait(30 * MINUTE + 1)
    with pytest.raises(RolloutError, match="expired"):
        site.ledger.approve(SERVICE, asked.decision.id, "ada", "yes", site.now)
    late = site.ask(alarm("a1"), guard=guard, approved=asked.decision.id)
    assert told(late)[:2] == ("denied", "not_eligible") and site.everywhere("2.0.0")
    in_time = site.ask(alarm("a2"), guard=guard)
    assert site.ask(alarm("a2"), guard=guard, approved=in_time.decision.id).decision.reason == "not_eligible"
    site.ledger.approve(SERVICE, in_time.decision.id, "ada", "it is the migration", site.now)
    assert site.heal(alarm("a2"), guard=guard, approved=in_time.decision.id).allowed
    assert site.everywhere("1.0.0")
    again = site.ask(alarm("a2"), guard=guard, approved=in_time.decision.id)
    assert again.lease is None and len(site.rollbacks()) == 1 and site.whole()


# --- 20


def edited(rows: List[Row]) -> List[Row]:
    return [{**row, "actor": "somebody else"} if row["seq"] == 4 else row for row in rows]


def removed(rows: List[Row]) -> List[Row]:
    return [row for row in rows if row["seq"] != 4]


def swapped(rows: List[Row]) -> List[Row]:
    return sorted(
        ({**row, "seq": {4: 5, 5: 4}.get(row["seq"], row["seq"])} for row in rows), key=lambda row: row["seq"]
    )


@pytest.mark.parametrize(
    ("attack", "found"),
    [(edited, "Entry 4 was changed"), (removed, "Entry 4 is missing"), (swapped, "Entry 4 does not follow entry 3")],
)
def test_case_20_audit_attack(site: Site, attack: Callable[[List[Row]], List[Row]], found: str) -> None:
    """Line edited, removed in the middle, put in another order -> verify names the first bad entry."""
    assert site.ledger.verify() is None
    site.kept.edit("entry", attack)
    site.restarted()
    problem = site.ledger.verify()
    assert problem is not None and problem.startswith(found)


def test_case_20_audit_attack_on_the_whole(site: Site) -> None:
    """Tail cut, whole file rebuilt -> the head that was kept elsewhere catches both."""
    for number in range(3):
        site.ledger.append(SERVICE, "note", "ada", {"number": number}, site.now)
    head, count = site.ledger.head(), len(site.entries("note"))
    site.kept.edit("entry", lambda rows: rows[:-2])
    site.restarted()
    assert len(site.entries("note")) == count - 2
    problem = site.ledger.verify(head)
    assert problem is not None and "without the head" in problem
    site.kept.edit("entry", rebuilt)
    site.restarted()
    assert site.ledger.verify() is None  # it is a chain, and every hash of it is right
    problem = site.ledger.verify(head)
    assert problem is not None and "it was cut or rewritten" in problem


def rebuilt(rows: List[Row]) -> List[Row]:
    """Another story of who it was, from the first entry on."""
    prev, new = chain.GENESIS, []
    for row in rows:
        names = {name: row[name] for name in ("at", "service", "kind", "body")}
        entry = chain.link(row["seq"], prev, actor="nobody", **names)
        new.append({**row, "actor": "nobody", "prev": entry.prev, "hash": entry.hash})
        prev = entry.hash
    return new


def test_case_20_two_writers(site: Site) -> None:
    """Two writers at once -> one chain, and nothing of either lost."""
    together = FORKS.Barrier(2, timeout=PATIENCE)

    def writer(name: str) -> None:
        ledger = site.kept.open()
        together.wait()
        for number in range(10):
            ledger.append(SERVICE, "note", name, {"number": number}, site.now)

    children = [forked(lambda: writer("one")), forked(lambda: writer("two"))]
    assert [ended(child) for child in children] == [0, 0]
    notes = site.entries("note")
    for name in ("one", "two"):
        assert [entry.body["number"] for entry in notes if entry.actor == name] == list(range(10))
    assert len(notes) == 20 and site.whole()


@pytest.mark.xdist_group("sqlite")
def test_case_20_disk_full(tmp_path: Path) -> None:
    """The process may write no more -> an error, and the chain stays whole. A full disk: test_guard_disk.py, case 6."""
    kept = SqliteKept(tmp_path)
    with site_on(kept, NOW) as site:
        site.ledger.append(SERVICE, "note", "ada", {"text": "first"}, NOW)
        site.ledger.close()

        def writer() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (kept.path.stat().st_size + 100_000, resource.RLIM_INFINITY))
            ledger = kept.open()
            with pytest.raises(StoreError):
                for _entry in range(1000):
                    ledger.append(SERVICE, "note", "ada", {"text": "x" * 5000}, NOW)

        assert ended(forked(writer)) == 0
        site.ledger = kept.open()
        assert site.ledger.verify() is None
        site.release("1.0.0")
        assert site.whole()


def test_case_20_secrets_in_messages(site: Site) -> None:
    """-> secrets redacted, in every entry, export and note."""
    secret = "hunter2-do-not-tell"
    evidence = {"api_token": secret, "labels": {"password": secret}, "headers": [{"authorization": secret}]}
    site.heal(alarm(evidence=evidence))
    lease = site.ledger.acquire(SERVICE, "ada", TTL, site.now)
    site.ledger.append(SERVICE, "note", "ada", {"connection": {"client_secret": secret}}, site.now, lease)
    site.ledger.release(lease, site.now)
    for format in FORMATS:
        exported = [line for _entry, line in lines(site.ledger.all_entries(), Shape(format))]
        assert exported and not any(secret in line for line in exported)
    raw: List[Row] = []
    for table in ("entry", "rollout", "note"):
        site.kept.edit(table, lambda rows: raw.extend(rows) or rows)  # type: ignore[func-returns-value]
    assert raw and secret not in json.dumps(raw) and site.whole()


# --- what it is all for


def test_a_release_that_turns_bad_after_its_bake_goes_back_and_is_never_chosen_again(site: Site) -> None:
    """It passed its bake and turns bad ten minutes later: back to the one before it, marked bad, never chosen again."""
    site.wait(5 * MINUTE)
    assert site.heal(alarm("a1", at=site.now)).allowed and site.everywhere("1.0.0")
    assert all(place.metadata("2.0.0")["bad"]["reason"] == "alert ShopErrors" for place in site.places.values())  # type: ignore[index]
    assert found_bad(site.ledger, SERVICE, "2.0.0") == "alert ShopErrors"
    (rollback,) = site.rollbacks()
    assert rollback.intent["before"] == {"web1": "1.0.0", "web2": "1.0.0"} and rollback.by == "guard"
    site.wait(HOUR)
    site.release("3.0.0")
    plan = site.plan()
    assert (plan["release"], plan["known_good"]) == ("3.0.0", "1.0.0")  # 2.0.0 was released later than 1.0.0
    assert site.heal(alarm("a2", at=site.now), guard=policy(clear_for=0)).allowed and site.everywhere("1.0.0")
    site.wait(HOUR)
    assert told(site.ask(alarm("a3"), guard=policy(clear_for=0))) == ("denied", "no_known_good", True)
    assert site.everywhere("1.0.0") and len(site.rollbacks()) == 2 and site.whole()


@pytest.mark.parametrize("mode", ["act", "observe"])
def test_an_outage_three_days_after_the_last_deploy_only_pages(site: Site, mode: str) -> None:
    """The release is not to blame: people are told, and nothing changes."""
    site.wait(3 * DAY)
    before: Dict[str, Any] = {name: place.picture() for name, place in site.places.items()}
    guard = policy(mode=mode)
    verdict = {"act": "recommended", "observe": "observed"}[mode]
    assert told(site.ask(alarm("a1", at=site.now - MINUTE), guard=guard)) == (verdict, "not_attributable", True)
    assert not site.ask(alarm("a1", at=site.now - MINUTE), guard=guard).decision.page  # once
    assert {name: place.picture() for name, place in site.places.items()} == before
    assert not site.rollbacks() and not site.allowed(ROLLBACK) and site.whole()
