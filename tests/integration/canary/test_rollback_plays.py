# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release that turns bad after it was promoted, on real places: it goes back once, or nothing happens."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Any, Callable, Dict, List, Mapping

import pytest
from ansible_run import Run
from fleet import SERVICE
from sense_servers import Reply, always, web

from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import look
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Request, Situation, Trigger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import OPEN, Entry, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard

NAMES = ("web1", "web2", "web3", "web4")
OLD, NEW = dict.fromkeys(NAMES, "1.0.0"), dict.fromkeys(NAMES, "2.0.1")
GUARD = {"mode": "act", "alerts": ["ShopErrors"], "cooldown": 0, "global_cooldown": 0, "clear_for": 0}
PATIENT = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 3}


def alert(ident: str) -> Dict[str, object]:
    return {"kind": "alert", "name": "ShopErrors", "id": ident}


def roll_back(shop: Any, *arguments: str, **variables: object) -> Run:
    run: Run = shop.run(shop.command("selfheal.delivery.rollback", {"rollback_lease_ttl": 5, **variables}, *arguments))
    return run


def ended(run: Run, *, well: bool) -> str:
    assert (run.end() == 0) == well, run.output
    return run.output


def entries(shop: Any, kind: str) -> List[Entry]:
    with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
        assert ledger.verify() is None
        return [entry for entry in ledger.last_entries(SERVICE, 1000) if entry.kind == kind]


def decision(shop: Any) -> Mapping[str, Any]:
    return entries(shop, "decision")[0].body


def marks(shop: Any, name: str, release: str) -> Mapping[str, Any]:
    told = look({"path": str(shop.place(name))})["releases"]
    assert isinstance(told, list)
    return next(one for one in told if one["id"] == release)


def settled(shop: Any, state: str, seconds: float = 60) -> None:
    began = time.monotonic()
    while shop.last().state != state:
        assert time.monotonic() - began < seconds, shop.last()
        shop.reconcile()


@pytest.fixture
def promoted(make_shop: Callable[..., Any]) -> Callable[..., Any]:
    """Four places on 2.0.1, known good, as 1.0.0 was before; it turns bad on demand."""

    def make(**policy: object) -> Any:
        shop = make_shop(**{"guard": GUARD, "bake": PATIENT, **policy})
        shop.known_good("2.0.1")
        return shop

    return make


def test_it_goes_back_once_is_marked_bad_and_never_chosen_again(promoted: Callable[..., Any]) -> None:
    shop = promoted()
    shop.turn_bad("2.0.1")
    with shop.load():
        said = ended(roll_back(shop, rollback_trigger=alert("a1")), well=True)
        assert shop.current() == OLD
        last: Rollout = shop.last()
        assert (last.kind, last.state, last.release) == ("rollback", "done", "2.0.1")
        assert last.outcome["verified"]["verdict"] == "recovered"  # type: ignore[index]
        assert "2.0.1 was rolled back: alert ShopErrors. web1, web2, web3, web4 are back on 1.0.0" in said
        assert all(marks(shop, name, "2.0.1")["bad"]["reason"] == "alert ShopErrors" for name in NAMES)
        (trigger,) = entries(shop, "trigger")
        assert trigger.body["evidence"]["gates"]["confirmed"] is True  # type: ignore[index]
        assert trigger.body["level"] > 1  # type: ignore[operator]

        again = ended(roll_back(shop, rollback_trigger=alert("a1")), well=False)
        assert "was decided on before" in again
        refused = shop.play("2.0.1")
        assert refused.process.returncode != 0 and "2.0.1 was found bad" in refused.output

        shop.turn_bad("1.0.0")
        second = ended(roll_back(shop, rollback_trigger=alert("a2")), well=False)
        assert "have no known good release to go back to" in second and decision(shop)["verdict"] == "denied"
    assert shop.current() == OLD
    assert [one.kind for one in shop.rollouts()] == ["rollback"]
    assert shop.holder() is None


def test_nothing_happens_where_the_gates_are_good_and_a_person_can_insist(promoted: Callable[..., Any]) -> None:
    shop = promoted()
    inventory = json.loads((shop.folder / "inventory.json").read_text())
    inventory["gate"] = {"hosts": {"gate1": {"ansible_connection": "ssh"}}}
    (shop.folder / "inventory.json").write_text(json.dumps(inventory))
    with shop.load():
        ended(roll_back(shop, rollback_trigger=alert("a1"), rollback_on_denied="end"), well=True)
        assert (decision(shop)["verdict"], decision(shop)["reason"]) == ("denied", "not_confirmed")
        assert shop.current() == NEW
        refused = ended(roll_back(shop, "--limit", "web1", rollback_reason="INC-1"), well=False)
        assert "not in this play" in refused
        assert "its gates are good" in ended(roll_back(shop, rollback_reason="INC-1"), well=False)
        assert "nobody says why" in ended(roll_back(shop), well=False)
        assert "is a text" in ended(roll_back(shop, rollback_trigger="kind=person", rollback_confirm=False), well=False)
        ended(roll_back(shop, "--check", rollback_reason="INC-1", rollback_confirm=False), well=True)
        assert shop.current() == NEW
        shop.take_down("web3")
        nobody = ended(roll_back(shop, rollback_trigger=alert("a2"), rollback_gate_host="gate1"), well=False)
        assert "could not be asked again" in nobody and shop.current() == NEW
        said = ended(roll_back(shop, rollback_reason="INC-1", rollback_confirm=False), well=False)
    assert shop.current() == {**OLD, "web3": "2.0.1"}
    assert "web3 could NOT go back" in said and shop.last().state == "unresolved"
    assert marks(shop, "web1", "2.0.1")["bad"]["reason"] == "INC-1"


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("away", "not_confirmed"),
        ("nothing known good", "no_known_good"),
        ("blocked", "rollback_blocked"),
        ("long after the last deploy", "not_attributable"),
    ],
)
def test_it_only_pages(promoted: Callable[..., Any], why: str, reason: str) -> None:
    away = {"source": {"type": "prometheus", "url": "http://127.0.0.1:9"}} if why == "away" else {}
    ago = {"guard": {**GUARD, "attribution_window": 1}} if why.startswith("long") else {}
    shop = promoted(**away, **ago)
    if why == "nothing known good":
        for name in NAMES:
            mark = shop.place(name) / "releases" / "1.0.0" / ".release.json"
            mark.write_text(json.dumps({**json.loads(mark.read_text()), "known_good": None}))
    if why == "blocked":
        (shop.place("web2") / "releases" / "2.0.1" / ".rollback-blocked").touch()
    shop.turn_bad("2.0.1")
    with shop.load():
        said = ended(roll_back(shop, rollback_trigger=alert("a1")), well=False)
    told = decision(shop)
    assert (told["verdict"], told["reason"], told["page"]) == (
        "recommended" if reason == "not_attributable" else "denied",
        reason,
        True,
    ), said
    assert shop.current() == NEW and not shop.rollouts()
    assert "2.0.1 was not rolled back" in said


def test_a_rollback_whose_controller_was_killed_is_finished_once(promoted: Callable[..., Any]) -> None:
    shop = promoted()
    shop.turn_bad("2.0.1")
    with shop.load():
        run = roll_back(shop, rollback_trigger=alert("a1"), rollback_batches=[1, "100%"])
        run.until("changed: [web1]")
        run.kill()
        run.end()
        settled(shop, "done")
        assert shop.current() == OLD
        assert shop.last().outcome["verified"]["verdict"] == "recovered"
        assert [one.kind for one in shop.rollouts()] == ["rollback"]
        back = [entry.body["place"] for entry in entries(shop, "outcome") if entry.body["changed"]]
        assert len(back) == len(set(back)) and set(back) <= set(NAMES)
        assert len([one for one in entries(shop, "decision") if one.body["verdict"] == "allowed"]) == 1
    began_and_died(shop)
    closed = shop.reconcile()
    assert shop.last().state == "undone" and "nobody knows whether it was done" in closed.output
    assert len(entries(shop, "state")) == len({entry.seq for entry in entries(shop, "state")})


def began_and_died(shop: Any) -> None:
    """A playbook of somebody's own acquired, and was not seen again."""
    trigger = Trigger("person", "ada", "p1")
    asked = Request("d1", SERVICE, "restart", trigger, "ada", Situation(places=4, current="1.0.0"))
    opens = Rollout("d1", SERVICE, "1.0.0", "action", OPEN, 0, 0.0, 0.0, {"action": "restart"})
    with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
        grant = ledger.decide(asked, parse_guard({}, SERVICE), holder="x", ttl=0.1, now=time.time(), opens=opens)
    assert grant.lease is not None
    time.sleep(0.2)


def test_one_that_fails_waits_for_a_person_and_for_the_batch_before(promoted: Callable[..., Any]) -> None:
    shop = promoted()
    shop.turn_bad("2.0.1")
    shop.break_release("web1", "1.0.0", start=False)
    with shop.load():
        run = roll_back(shop, rollback_trigger=alert("a1"), rollback_batches=[1, "100%"], rollback_lease_ttl=30)
        said = ended(run, well=False)
        assert shop.last().state == "unresolved"
        assert shop.current() == {**NEW, "web1": "1.0.0"}  # switched, and not healthy: the others were not begun
        assert "does not start here" in said and "not tried, because a batch before it failed" in said
        tried = len(entries(shop, "action"))
        left = shop.reconcile()
        assert left.process.returncode != 0 and "unless a person says resume or abort" in left.output
        assert len(entries(shop, "action")) == tried
        shop.mend("web1")
        shop.say("resume", "the disk is free again")
        assert shop.reconcile().process.returncode == 0
    assert shop.current() == OLD and shop.last().state == "done"


def test_what_is_recommended_is_told_and_done_once_a_person_approved_it(promoted: Callable[..., Any]) -> None:
    shop = promoted(guard={**GUARD, "mode": "recommend"})
    shop.turn_bad("2.0.1")
    with shop.load(), web(always(Reply("ok"))) as (url, asked):
        hook = {"delivery_notify": {"hook": {"type": "webhook", "url": url}}}
        said = ended(roll_back(shop, rollback_trigger=alert("a1"), rollback_on_denied="end", **hook), well=True)
        recommended = decision(shop)
        assert recommended["verdict"] == "recommended" and shop.current() == NEW
        given = {"rollback_approved": recommended["id"], **hook}
        assert "nobody approved it" in ended(roll_back(shop, **given), well=False), said
        with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
            ledger.approve(SERVICE, recommended["id"], "ada", "INC-1", time.time())
        ended(roll_back(shop, **given), well=True)
        assert shop.current() == OLD and shop.last().state == "done"
    assert len(asked) == 3
    assert marks(shop, "web1", "2.0.1")["bad"]["reason"] == f"recommendation {recommended['id']}, approved"
