# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cases 8 to 16 of the twenty: what can go wrong with going back, and when not to. See test_twenty_cases.py."""

from __future__ import annotations

import shutil
from typing import Any, Dict, Iterator

import pytest
from act_place import Place
from stores import Serving
from twenty_site import DAY, HOUR, MINUTE, NOT_RECOVERED, SERVICE, TTL, Site, alarm, policy, site_on

from ansible_collections.selfheal.delivery.plugins.module_utils._act.steps import walk
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    GuardError,
    LeaseError,
    OptionError,
    PlaceError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    FLAG_OFF,
    PERSON,
    RESTART,
    SCALE,
    UNDO,
    Grant,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import places_of

NOW = 1_790_000_000.0


@pytest.fixture
def fresh(serve: Serving) -> Iterator[Site]:
    """Two places on which nothing was ever released."""
    with site_on(serve(), NOW) as found:
        yield found


@pytest.fixture
def site(fresh: Site) -> Site:
    """1.0.0 and then 2.0.0 passed on two places; 2.0.0 runs, and has turned bad by now."""
    fresh.release("1.0.0", "2.0.0")
    return fresh


def told(grant: Grant) -> tuple[str, str, bool]:
    return grant.decision.verdict, grant.decision.reason, grant.decision.page


# --- 8


@pytest.mark.parametrize("how", ["it fails", "it hangs"])
def test_case_08_the_rollback_itself_fails_or_hangs(site: Site, how: str) -> None:
    """-> no blind retry, breaker opens, escalate with state, next fallback only if allowed.

    What a cluster adds (RBAC denied, Helm's pending-rollback) is tested with its backends.
    """
    (site.places["web1"].path / "releases" / "1.0.0" / "broken").touch()
    slow = {"command": ["/bin/sleep", "30"], "timeout": 0.2, "interval": 0.1, "status": [200]}
    if how == "it hangs":
        healthy = site.places["web1"].do
        site.places["web1"].do = lambda **given: healthy(**{**given, "health": slow})  # type: ignore[method-assign]
    rollback = site.act(site.ask(alarm("a1")), NOT_RECOVERED)
    assert (rollback.state, rollback.outcome["unresolved"]) == ("unresolved", ["web1"])
    assert site.places["web2"].current() == "1.0.0"
    site.wait(TTL + 1)
    assert site.settle() == ["wait"]  # for a person: nothing is tried blindly
    assert len(site.entries("action")) == 2
    asked = site.ask(alarm("a2"))
    assert told(asked) == ("denied", "in_progress", True) and rollback.id in asked.decision.message
    site.ledger.say(SERVICE, "abort", "ada", "the disk of web1 is gone", site.now)
    assert site.settle() == ["close"] and site.settle() == []
    for number, action in enumerate((FLAG_OFF, RESTART)):
        assert told(site.ask(alarm(f"b{number}"), action=action)) == ("denied", "breaker_open", True)
    site.wait(HOUR)  # half open: one try of the next action in the order of response
    tried = site.ask(alarm("a1"), action=FLAG_OFF, guard=policy(clear_for=0))
    assert tried.lease is not None and tried.rollout is not None
    outcome = {"ok": True, "verified": {"verdict": NOT_RECOVERED}}
    who: Dict[str, Any] = {"state": "done", "outcome": outcome, "actor": "guard", "now": site.now}
    rollouts.close(site.ledger, tried.lease, tried.rollout.id, **who)
    assert told(site.ask(alarm("a3"), action=RESTART)) == ("denied", "breaker_open", True)
    assert site.ledger.verify(site.ledger.head()) is None


# --- 9


@pytest.mark.parametrize("why", ["first deploy", "history pruned", "only failed ones"])
def test_case_09_no_previous_release(fresh: Site, why: str) -> None:
    """First deploy, history pruned, only failed ones -> "not eligible", page; never revision 0."""
    if why == "only failed ones":
        begun, lease = fresh.start("1.0.0")
        outcome = {"bake": {"verdict": "fail", "msg": "3 % of its requests failed"}}
        rollouts.close(fresh.ledger, lease, begun.id, state="undone", outcome=outcome, actor="pipeline", now=fresh.now)
    elif why == "history pruned":
        fresh.release("1.0.0")
    fresh.release("2.0.0")
    if why == "history pruned":
        for place in fresh.places.values():
            shutil.rmtree(place.path / "releases" / "1.0.0")
    assert told(fresh.ask(alarm())) == ("denied", "no_known_good", True)
    with pytest.raises(PlaceError, match="no known good release to go back to"):
        fresh.places["web1"].back(release="2.0.0", mark_bad="the alert")
    assert fresh.everywhere("2.0.0") and not fresh.rollbacks() and fresh.whole()


# --- 10


def test_case_10_the_target_is_bad_as_well(fresh: Site) -> None:
    """-> bad versions marked; at most N steps back; never ping-pong A->B->A."""
    fresh.release("0.9.0", "1.0.0", "2.0.0")
    assert fresh.heal(alarm("a1"), NOT_RECOVERED).allowed and fresh.everywhere("1.0.0")
    after = [fresh.heal(alarm(f"b{number}")).reason for number in range(2)]
    fresh.wait(HOUR)  # the breaker is half open again
    after += [fresh.heal(alarm(f"c{number}"), guard=policy(attribution_window=DAY)).reason for number in range(2)]
    assert after == ["breaker_open"] * 4
    assert fresh.everywhere("1.0.0") and len(fresh.rollbacks()) == 1
    fresh.wait(MINUTE)
    two = policy(max_steps_back=2, clear_for=0, attribution_window=DAY, breaker={"reset": 1})
    more = fresh.heal(alarm("d"), guard=two)
    assert more.allowed and fresh.everywhere("0.9.0")
    assert all(fresh.places["web1"].metadata(release)["bad"] for release in ("1.0.0", "2.0.0"))
    fresh.wait(DAY)
    last = fresh.ask(alarm("e"), guard=policy(max_steps_back=9, clear_for=0, breaker={"reset": 1}))
    assert told(last) == ("denied", "no_known_good", True)
    for bad in ("1.0.0", "2.0.0"):
        with pytest.raises(PlaceError, match="was found bad"):
            fresh.places["web1"].back(to=bad)
    assert fresh.everywhere("0.9.0") and fresh.whole()


# --- 11


def test_case_11_migration_not_backward_compatible(fresh: Site) -> None:
    """Contract phase done -> block automatic rollback, offer flag kill; the release says so, not the payload."""
    fresh.release("1.0.0")
    fresh.release("2.0.0", rollback="blocked")
    lie = {"rollback": "allowed", "blocked": "", "labels": {"rollback": "allowed"}}
    grant = fresh.ask(alarm("a1", evidence=lie))
    assert told(grant) == ("denied", "rollback_blocked", True) and "Switch the feature off" in grant.decision.message
    with pytest.raises(PlaceError, match="does not allow to be rolled back"):
        fresh.places["web1"].back(release="2.0.0", to="1.0.0")
    assert fresh.everywhere("2.0.0") and not fresh.rollbacks()
    assert fresh.ask(alarm("a1"), action=FLAG_OFF).decision.allowed  # of the very same trigger


def test_case_11_the_payload_cannot_block_a_rollback(site: Site) -> None:
    """The marker is read from the release, not from the payload."""
    assert site.heal(alarm("a1", evidence={"rollback": "blocked", "blocked": "says the sender"})).allowed
    assert site.everywhere("1.0.0") and site.whole()


# --- 12


@pytest.mark.parametrize("how", ["gone", "nobody vouches for it", "marked bad meanwhile"])
def test_case_12_artifact_gone_or_changed(site: Site, how: str) -> None:
    """Between the plan and the change -> checked again before acting: refused, and nothing is switched."""
    grant = site.ask(alarm())
    assert grant.rollout is not None and grant.lease is not None
    for place in site.places.values():
        spoil(place, how)
    results = site.go_back(grant.rollout, grant.lease)
    assert all(result["failed"] and "cannot go back to release 1.0.0" in result["msg"] for result in results.values())
    assert site.everywhere("2.0.0")
    closed = site.close(grant.rollout, grant.lease, results, NOT_RECOVERED)
    assert (closed.state, closed.outcome["unresolved"]) == ("unresolved", ["web1", "web2"])
    assert told(site.ask(alarm("a2")))[::2] == ("denied", True)


def spoil(place: Place, how: str) -> None:
    kept = place.path / "releases" / "1.0.0"
    if how == "gone":
        shutil.rmtree(kept)
    elif how == "nobody vouches for it":
        (kept / ".release.json").write_text("{")
    else:
        mark = kept / ".release.json"
        mark.write_text(
            mark.read_text()
            .replace('"bad":null', '"bad":{"at":1,"reason":"CVE"}')
            .replace('"bad": null', '"bad": {"at": 1, "reason": "CVE"}')
        )


# --- 13


def test_case_13_alert_decay(fresh: Site) -> None:
    """The alert fires on after the fix -> Verifying, no second action; but a new deploy in between re-arms."""
    site = fresh
    site.release("0.9.0", "1.0.0", "2.0.0")
    grant = site.ask(alarm("a1"))
    assert grant.lease is not None and grant.rollout is not None
    results = site.go_back(grant.rollout, grant.lease)
    verifying = [told(site.ask(alarm(ident))) for ident in ("a1", "a2")]
    assert verifying == [("denied", "duplicate", False), ("denied", "in_progress", True)]
    site.close(grant.rollout, grant.lease, results)
    decaying = []
    for minutes in range(1, 20):
        site.wait(MINUTE)
        decaying.append(site.heal(alarm("a1" if minutes % 2 else "a2"), guard=policy(max_steps_back=9)).reason)
    assert set(decaying) == {"duplicate", "not_rearmed"}
    site.release("2.1.0")  # it is mended, they think
    assert site.heal(alarm("a3")).allowed
    assert site.everywhere("1.0.0") and len(site.rollbacks()) == 2 and site.whole()


# --- 14


def test_case_14_wrong_cause_most_of_the_fleet_alarms(site: Site) -> None:
    """Dependency down, node lost: > x % of the services alarm together -> stop and page."""
    for number in range(6):  # of twenty, as the site's inventory knows
        other = f"prod/other-{number}"
        site.ledger.observe(other, alarm(f"o{number}"), policy(other), "guard", site.now)
    grant = site.ask(alarm())
    assert told(grant) == ("denied", "blast_radius", True)
    assert "7 of 20 services alarm together" in grant.decision.message
    assert site.ask(alarm()).repeated and site.everywhere("2.0.0") and not site.rollbacks()
    site.ledger.observe("prod/other-0", alarm("o0", active=False), policy("prod/other-0"), "guard", site.now)
    assert site.heal(alarm()).allowed  # 6 of 20 are not more than 30 %


@pytest.mark.parametrize("began", [-30 * MINUTE, 61 * MINUTE])
def test_case_14_wrong_cause_not_tied_to_the_deploy(site: Site, began: float) -> None:
    """An error code older than the deploy, or long after it, is not tied to it -> stop and page."""
    guard = policy(codes=["SHOP-DB-001"])
    site.wait(62 * MINUTE)
    at = NOW + 5 * MINUTE + began
    grant = site.ask(Trigger("error_code", "SHOP-DB-001", "c1", at=at), guard=guard)
    assert told(grant) == ("recommended", "not_attributable", True)
    assert site.everywhere("2.0.0") and not site.rollbacks() and site.whole()


# --- 15


def test_case_15_empty_or_over_wide_selector(site: Site) -> None:
    """ "everything", `*`, 0 targets, 100 % of replicas -> refuse; max count and max %."""
    for action in (RESTART, SCALE):
        assert told(site.ask(alarm(f"a {action}"), action=action, places=0)) == ("denied", "blast_radius", True)
    person = site.ask(Trigger(PERSON, "ada", "p1"), action=RESTART, places=0)
    assert told(person) == ("denied", "blast_radius", False) and "never stands for all" in person.decision.message
    for names in (["*"], ["Shop*"], [""], "ShopErrors", {"all": True}):
        with pytest.raises(OptionError, match="guard: alerts must be"):
            policy(alerts=names)
    for group in ("all", "*", "", "shop:other"):
        with pytest.raises(OptionError):
            places_of(group, {"groups": {"all": ["web1"], "shop": ["web1"]}})
    with pytest.raises(OptionError):
        walk([0], ["web1", "web2"], holdback=0)
    assert walk(["100%"], ["web1", "web2", "web3"], holdback=1).steps[0].places != ("web1", "web2", "web3")
    for number in range(3):  # the most that are acted on within an hour
        other = f"prod/other-{number}"
        grant = site.ledger.decide(_request(other), policy(other, global_cooldown=0), holder="x", ttl=TTL, now=site.now)
        assert grant.decision.allowed, grant
    wide = site.ask(alarm("a9"), guard=policy(global_cooldown=0))
    assert told(wide) == ("denied", "blast_radius", True) and "max_services" in wide.decision.message
    assert site.everywhere("2.0.0")


def _request(service: str) -> Request:
    return Request(
        f"r {service}", service, RESTART, alarm(f"a {service}"), "guard", Situation(True, places=1, services=20)
    )


# --- 16


def test_case_16_a_newer_deploy_between_alert_and_action(site: Site) -> None:
    """-> compare-and-set on the revision: what was planned for another release changes nothing."""
    plan, began = site.plan(), site.now
    site.wait(MINUTE)
    begun, lease = site.start("3.0.0")
    assert told(site.ask(alarm("a1"), plan=plan)) == ("denied", "in_progress", True)
    with pytest.raises(LeaseError):
        site.ledger.acquire(SERVICE, "controller", TTL, site.now)
    site.promote(begun, lease)
    late = site.ask(alarm("a2", at=began), plan=plan)
    assert told(late) == ("recommended", "not_attributable", True)
    forced = site.act(site.ask(Trigger(PERSON, "ada", "p1"), plan=plan))
    assert forced.state == "done" and site.everywhere("3.0.0")  # it is not the release that was accused
    assert not any(result["changed"] for result in forced.outcome["places"].values())  # type: ignore[attr-defined]


def test_case_16_freeze_window_or_a_person_at_work(site: Site) -> None:
    """Freeze, manual pause, a rollback of a rollback -> yield to humans; a freeze stops rollouts, not rollbacks."""
    always = {"name": "year's end", "from": "2026-01-01 00:00", "until": "2027-01-01 00:00", "zone": "UTC"}
    frozen = policy(freeze=[always])
    what = rollouts.Begin(SERVICE, "3.0.0", "canary", {"fleet": ["web1", "web2"]})
    who: Dict[str, Any] = {"holder": "pipeline", "actor": "ada", "ttl": TTL, "now": site.now}
    with pytest.raises(GuardError, match="year's end is a freeze window"):
        rollouts.begin(site.ledger, what, policy=frozen, **who)
    for service in ("", SERVICE):
        site.ledger.pause(service, "ada", "we are moving the database", None, site.now)
        assert told(site.ask(alarm(f"a {service}"), guard=frozen)) == ("denied", "paused", True)
        assert site.ask(alarm(f"b {service}"), action=UNDO, guard=frozen).decision.allowed
        site.ledger.release(site.ledger.holder(SERVICE, site.now), site.now)  # type: ignore[arg-type]
        for unfinished in site.ledger.unfinished(SERVICE):
            rollouts.give_up(site.ledger, unfinished.id, "it was only asked for", **who)
        site.ledger.unpause(service, "ada", "done", site.now)
    site.wait(2 * HOUR)
    assert site.heal(alarm("a1"), guard=policy(freeze=[always], attribution_window=DAY)).allowed
    assert site.everywhere("1.0.0")
    site.wait(HOUR)
    guard = policy(attribution_window=DAY, clear_for=0)
    assert told(site.ask(alarm("a2"), guard=guard))[:2] in (("denied", "no_known_good"), ("denied", "breaker_open"))


def test_case_16_a_person_takes_the_rollout_over(site: Site) -> None:
    """A human acting meanwhile holds the lease; the guard yields, and says who it is."""
    lease = site.ledger.acquire(SERVICE, "ada@laptop", TTL, site.now)
    grant = site.ask(alarm())
    assert told(grant) == ("denied", "in_progress", True) and "ada@laptop is at work" in grant.decision.message
    site.ledger.release(lease, site.now)
    with pytest.raises(DeliveryError):
        site.ledger.append(SERVICE, "action", "ada", {}, site.now, lease)
    assert site.heal(alarm()).allowed and site.whole()
