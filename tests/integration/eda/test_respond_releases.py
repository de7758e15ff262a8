# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event and what comes of it, on real places, and with a real Alertmanager that is asked again."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping

import pytest
from alert_server import Alertmanager, alertmanager
from ansible_run import Run
from code_catalogue import catalogue, entry
from fleet import SERVICE
from tell_servers import Hook, hook

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

NAMES = ("web1", "web2")
OLD, NEW = dict.fromkeys(NAMES, "1.0.0"), dict.fromkeys(NAMES, "2.0.1")
GUARD = {"mode": "act", "alerts": ["ShopErrors"], "cooldown": 0, "global_cooldown": 0, "clear_for": 0}
PATIENT = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 3}
STORM = ("s1", "s2", "s3", "s4")  # services beside the shop
CART, STUCK, FLAGGED = "SHOP-CART-001", "SHOP-STUCK-001", "SHOP-FLAG-001"
CODES = {
    "SHOP_CART_001": entry(),
    "SHOP_STUCK_001": entry(response=["restart", "page"]),
    "SHOP_FLAG_001": entry(response=["flag_off"], flag="cart", runbook="https://runbooks.example.org/flag"),
}


@dataclass
class World:
    """Two places on 2.0.1, known good as 1.0.0 was before; whom to ask, and whom to tell."""

    shop: Any
    alerts: Alertmanager
    hook: Hook
    again: bool = False  # is the event source to ask about the last event once more?

    def respond(self, event: object, *arguments: str, well: bool = True, **variables: object) -> str:
        spool = self.shop.folder / "spool"
        (spool / "done").mkdir(parents=True, exist_ok=True)
        given = {"respond_event": event, "respond_spool": str(spool), **variables}
        inventory = ("-i", str(self.shop.folder / "inventory.json"))
        command = ["ansible-playbook", *inventory, "selfheal.delivery.respond", *arguments, "-e", json.dumps(given)]
        run: Run = self.shop.run(command)
        assert (run.end() == 0) == well, run.output
        items = event.get("ack", []) if isinstance(event, dict) else []
        left = {path.name for path in (spool / "done").iterdir()}
        self.again = any(f"{item}.again" in left for item in items)
        assert left == {f"{item}.again" if self.again else item for item in items if uuid_like(item)}, run.output
        shutil.rmtree(spool / "done")
        return run.output

    def entries(self, kind: str, service: str = "") -> List[Entry]:
        """Newest first."""
        with closing(open_ledger({"path": str(self.shop.ledger)})) as ledger:
            assert ledger.verify() is None
            return [entry for entry in ledger.last_entries(service, 1000) if entry.kind == kind]

    def decision(self) -> Mapping[str, Any]:
        return self.entries("decision")[0].body

    def told(self, event: str = "") -> List[Mapping[str, Any]]:
        """What was posted to the channel."""
        found = [post.json.get("data", post.json) for post in self.hook.posts]
        return [one for one in found if not event or one["event"] == event]

    def set(self, **variables: object) -> None:
        path = self.shop.folder / "inventory.json"
        inventory = json.loads(path.read_text())
        inventory["all"]["vars"].update(variables)
        path.write_text(json.dumps(inventory))


def uuid_like(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


@pytest.fixture
def make_world(make_shop: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., World]]:
    with alertmanager(tmp_path / "am") as alerts, hook() as hooked:

        def make(**policy: object) -> World:
            shop = make_shop(places=2, **{"guard": GUARD, "bake": PATIENT, **policy})
            shop.known_good("2.0.1")
            (shop.folder / "codes.yml").write_text(catalogue(**CODES))
            inventory = json.loads((shop.folder / "inventory.json").read_text())
            services = inventory["all"]["vars"]["delivery_services"]
            for name in STORM:
                inventory[name] = {"hosts": {f"{name}host": {"shop_port": 1}}}
                services[name] = {**services["shop"], "path": f"/nonexistent/{name}"}
            (shop.folder / "inventory.json").write_text(json.dumps(inventory))
            world = World(shop, alerts, hooked)
            world.set(
                delivery_alerts={"type": "alertmanager", "url": alerts.url},
                delivery_notify={"ops": {"type": "webhook", "url": hooked.url}},
                delivery_error_codes=str(shop.folder / "codes.yml"),
            )
            return world

        yield make


def test_an_alert_that_really_fires_takes_the_release_back_once(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.shop.turn_bad("2.0.1")
    world.alerts.fire("ShopErrors", "shop", severity="page")
    world.alerts.fire("ShopSlow", "shop")
    event, slow = world.alerts.event("ShopErrors"), world.alerts.event("ShopSlow")
    sender = {"source": "alertmanager", "verified": "bearer", "key": "am-1"}
    with world.shop.load():
        # it stands for another alert, that alone may be acted on; its own release says nothing of that one
        said = world.respond({**slow, "others": ["ShopErrors"], "release": "1.0.0", "meta": {"selfheal": sender}})
        assert world.shop.current() == OLD, said
        assert "web1, web2 are back on 1.0.0. Its gates there: recovered" in said
        (trigger,) = world.entries("trigger")
        assert abs(float(trigger.body["at"]) - event["at"]) < 0.01  # type: ignore[arg-type]
        assert trigger.body["evidence"]["source"]["firing"] is True  # type: ignore[index]
        assert trigger.body["evidence"]["sender"] == sender  # type: ignore[index]
        assert not world.again
        assert world.decision()["confirmed"] is True
        (told,) = world.told()
        assert (told["event"], told["runbook"]) == ("rolled_back", "https://runbooks.example.org/shop")

        assert "was decided on before" in world.respond(event)
        assert len(world.told()) == 1 and len(world.shop.rollouts()) == 1

        over = {**slow, "status": "resolved", "others": ["ShopErrors"]}
        assert "is over, which is recorded" in world.respond(over)
        world.alerts.fire("ShopErrors", "shop", severity="page", ago=2, ends=-1)
        assert "is over, which is recorded" in world.respond(over)
        assert "is over, which was known already" in world.respond(over)
    seen = [(one.body["name"], one.body["active"]) for one in world.entries("trigger")]
    assert seen == [("ShopErrors", False), ("ShopSlow", False), ("ShopErrors", True)]


def test_it_is_left_alone_where_its_source_does_not_say_so(make_world: Callable[..., World]) -> None:
    world = make_world(guard={**GUARD, "alerts": ["ShopErrors", "Quiet", "Over"]})
    world.alerts.fire("Over", "shop", ends=0.5)
    world.alerts.fire("Quiet", "shop")
    over, quiet = world.alerts.event("Over"), world.alerts.event("Quiet")
    world.alerts.silence("Quiet")
    time.sleep(max(0.0, over["at"] + 1 - time.time()))

    for event in (over, quiet):
        assert "does not fire, or is silenced or inhibited" in world.respond(event)
        assert not world.again
        assert (world.decision()["reason"], world.decision()["page"]) == ("not_confirmed", False)
    world.alerts.fire("ShopErrors", "shop")
    now = world.alerts.event("ShopErrors")
    before = {**now, "at": now["at"] - 600, "id": f"{now['id'].partition('-')[0]}-{int(now['at'] - 600)}"}
    assert "began anew since" in world.respond(before)
    assert world.told("page") == []

    world.set(delivery_alerts={"type": "alertmanager", "url": "http://127.0.0.1:9"})
    assert "http://127.0.0.1:9/api/v2/alerts refuses the connection" in world.respond(now)
    assert (world.decision()["reason"], world.decision()["page"], world.again) == ("not_confirmed", True, True)
    (page,) = world.told("page")
    assert "Its source could not be asked again" in page["summary"]
    assert world.shop.current() == NEW and world.shop.rollouts() == []


def test_a_person_who_paused_it_and_who_is_at_work_come_first(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.alerts.fire("ShopErrors", "shop")
    world.alerts.fire("NobodyNamedIt", "shop")
    event = world.alerts.event("ShopErrors")
    with closing(open_ledger({"path": str(world.shop.ledger)})) as ledger:
        ledger.pause(SERVICE, "ada", "CHG-1234", None, time.time())
        assert "ada paused it" in world.respond(event)
        assert (world.decision()["reason"], world.decision()["page"], world.again) == ("paused", True, True)
        ledger.unpause(SERVICE, "ada", "done", time.time())
        lease = ledger.acquire(SERVICE, "ci@runner", 60, time.time())
        assert "ci@runner is at work on it" in world.respond(event)
        assert world.decision()["reason"] == "in_progress" and world.again
        ledger.release(lease, time.time())
    # the event source knows of more than the alerts' source counts
    assert "5 of 5 services alarm together" in world.respond({**event, "alarming": 5})
    assert "is not among the guard's alerts" in world.respond(world.alerts.event("NobodyNamedIt"))
    assert not world.again
    assert world.shop.current() == NEW and world.shop.rollouts() == []

    world.hook.posts.clear()
    world.set(delivery_ledger={"path": "/proc/nowhere/ledger.sqlite"})
    world.respond(event, well=False)
    (page,) = world.told("page")
    assert "alert ShopErrors: nothing can be done: shop: " in page["summary"] and world.again
    world.respond({**event, "service": "shpo"}, well=False)
    (denied,) = world.told("denied")
    assert "the inventory has no service 'shpo'" in denied["summary"] and not world.again


def test_what_alarms_together_is_left_alone_and_paged_once(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.alerts.fire("ShopErrors", "shop", *STORM)
    for name in ("shop", *STORM[:3]):
        assert "5 of 5 services alarm together" in world.respond(world.alerts.event("ShopErrors", name))
    assert [one["service"] for one in world.told()] == [SERVICE]
    assert "5 of 5 services alarm together" in world.told("page")[0]["summary"]
    assert {one.body["reason"] for one in world.entries("decision")} == {"blast_radius"}
    assert world.shop.rollouts() == []


REFUSED: Dict[str, Any] = {
    "unknown": ({"service": "shpo"}, {}, "the inventory has no service 'shpo' (did you mean 'shop'?)"),
    "everything": ({"service": "all"}, {}, "its service is 'all', which is no service"),
    "pattern": ({"service": "shop:!web1"}, {}, "which is no plain name"),
    "environment": ({"environment": "staging"}, {}, "about the environment 'staging', and these places are of 'demo'"),
    "template": ({"labels": {"a": "{{ lookup('pipe', 'touch OWNED') }}"}}, {}, "holds a template"),
    "engine": ({}, {"ansible_eda": {"event": {"x": "{% set y = 1 %}"}}}, "holds a template"),
    "code": ({"kind": "error_code", "name": "SHOP-CART-002"}, {}, "no error code 'SHOP-CART-002' (did you mean"),
    "response": ({}, {"respond_with": "rolback"}, "respond_with is 'rolback' (did you mean 'rollback'?)"),
    "service twice": ({}, {"delivery_service": "s1"}, "delivery_service is given, and the event says it"),
    "filter": ({"kind": "refused", "reason": "label service is missing"}, {}, "label service is missing"),
}


def test_what_cannot_be_taken_is_refused_told_once_and_changes_nothing(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.alerts.fire("ShopErrors", "shop")
    event = world.alerts.event("ShopErrors")
    folder = world.shop.folder
    for more, variables, expected in REFUSED.values():
        told = {
            key: str(value).replace("OWNED", str(folder / "owned")) if key == "x" else value
            for key, value in more.items()
        }
        assert expected in world.respond({**event, **told}, well=False, **variables)
    assert len(world.told("denied")) == len(REFUSED) == len(world.entries("refusal"))
    # of what is wrong in the same way only the first is told, whatever words are in it
    for service in ("shpo", "s1s", "sho"):
        world.respond({**event, "service": service, "ack": ["../../evil", "x", *event["ack"]]}, well=False)
    assert len(world.told()) == len(REFUSED)
    world.respond({**event, "service": "qqq"}, well=False)
    assert "(3 more refusals since the last one were not told.)" in world.told()[-1]["summary"]
    assert len(world.told()) == len(REFUSED) + 1
    assert "run it without --limit" in world.respond({**event, "ack": []}, "--limit", "web1", well=False)
    assert "is a text" in world.respond("kind=alert", well=False)
    assert not list(folder.rglob("evil")) and world.entries("decision") == []
    assert world.shop.current() == NEW


def test_other_responses_than_a_rollback(make_world: Callable[..., World]) -> None:
    codes = {**GUARD, "codes": [STUCK, FLAGGED]}
    world = make_world(guard=codes)
    world.alerts.fire("ShopErrors", "shop")
    world.alerts.fire("Stuck", "shop", error_code=STUCK)
    world.alerts.fire("Flagged", "shop", error_code=FLAGGED)
    event, stuck = world.alerts.event("ShopErrors"), world.alerts.event("Stuck", kind="error_code", name=STUCK)
    flagged = world.alerts.event("Flagged", kind="error_code", name=FLAGGED)

    call = {**event, "kind": "call", "name": "ci", "id": "build-7", "labels": {}}
    for _time in range(2):
        assert "the response is to call a person" in world.respond(call, respond_with="page")
    (page,) = world.told("page")
    assert "call ci" in page["summary"]
    world.hook.posts.clear()
    assert "is recorded" in world.respond(event, respond_with="record")
    assert world.told() == [] and world.entries("decision") == []

    began = world.shop.place("web1") / "app.pid"
    with world.shop.load():
        said = world.respond(stuck)
    assert "error code SHOP-STUCK-001: restarted. Its gates: recovered." in said, (said, began)
    (done,) = world.told("done")
    assert done["service"] == SERVICE
    last = world.shop.last()
    assert (last.kind, last.state, last.outcome["verified"]["verdict"]) == ("action", "done", "recovered")
    assert world.decision()["action"] == "restart" and world.shop.current() == NEW
    assert {entry.body["place"] for entry in world.entries("action")} == set(NAMES)
    assert "was decided on before" in world.respond(stuck)

    assert "its policy lists no flag 'cart'" in world.respond(flagged, well=False)
    assert "was decided on before" in world.respond(flagged)
    (page,) = world.told("page")
    assert page["code"] == FLAGGED and "no flag could be turned off: its policy lists no flag" in page["summary"]

    always = {**event, "kind": "watchdog", "name": "Watchdog", "service": ""}
    assert "the Watchdog alert was seen" in world.respond(always)
    with closing(open_ledger({"path": str(world.shop.ledger)})) as ledger:
        assert time.time() - float(ledger.note("watchdog")["at"]) < 30  # type: ignore[arg-type]


def test_a_canarys_own_alert_aborts_it_and_nothing_else(make_world: Callable[..., World]) -> None:
    guard = {**GUARD, "alerts": ["ShopErrors", "Later"], "calls": ["ci"]}
    world = make_world(bake={**PATIENT, "min_bake": 60, "deadline": 90}, guard=guard)
    world.alerts.fire("ShopErrors", "shop", version="2.0.2")
    event = world.alerts.event("ShopErrors", release="1.0.0")
    abort = {"respond_with": "abort"}
    assert "nothing is aborted: no rollout of it is under way" in world.respond(event, **abort)
    assert world.told() == []
    shutil.copytree(world.shop.folder / "artifacts" / "2.0.1", world.shop.folder / "artifacts" / "2.0.2")
    with world.shop.load():
        run = world.shop.run(world.shop.canary("2.0.2", canary_steps=["50%"]))
        run.until("bake")
        assert "it began before rollout" in world.respond({**event, "release": "2.0.2"}, **abort)
        call = {**event, "kind": "call", "name": "ci", "id": "build-7", "labels": {}}
        assert "there is no alert that confirms it" in world.respond(call, **abort)
        assert [one["event"] for one in world.told()] == ["page"] * len(world.entries("refusal"))
        assert "there is no alert that confirms it" in world.entries("refusal")[0].body["why"]
        world.set(delivery_alerts={})
        assert "delivery_alerts names no server that confirms it" in world.respond(event, **abort)
        world.set(delivery_alerts={"type": "alertmanager", "url": world.alerts.url})
        world.alerts.fire("Later", "shop", version="2.0.2")
        event = world.alerts.event("Later")
        other = {**event, "release": "2.0.1"}
        assert "it is about 2.0.1, and the rollout is of 2.0.2" in world.respond(other, **abort)
        own = {**event, "release": "2.0.2"}
        assert "its unfinished rollout is aborted" in world.respond(own, **abort)
        assert run.end() != 0
    assert world.shop.current() == NEW, run.output
    (said,) = world.entries("command")
    assert (said.actor, said.body["command"]) == ("alert Later", "abort")


def test_a_recommendation_waits_for_a_person(make_world: Callable[..., World]) -> None:
    world = make_world(guard={**GUARD, "mode": "recommend"})
    world.shop.turn_bad("2.0.1")
    world.alerts.fire("ShopErrors", "shop")
    with world.shop.load():
        said = world.respond(world.alerts.event("ShopErrors"))
    assert "Its guard only recommends" in said and world.shop.current() == NEW
    (told,) = world.told()
    assert told["event"] == "recommended"


def test_what_is_about_another_release_waits_for_a_person(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.shop.turn_bad("2.0.1")
    world.alerts.fire("ShopErrors", "shop")
    with world.shop.load():
        said = world.respond(world.alerts.event("ShopErrors", release="1.0.0"))
    assert "It is about release 1.0.0, and 2.0.1 is what would be left" in said
    assert (world.decision()["verdict"], world.decision()["reason"]) == ("recommended", "not_attributable")
    assert world.shop.current() == NEW and not world.again


def test_what_was_not_decided_comes_again(make_world: Callable[..., World]) -> None:
    world = make_world()
    world.alerts.fire("ShopErrors", "shop")
    event = world.alerts.event("ShopErrors")
    said = world.respond(event, well=False, rollback_batches=["of two"])
    assert "of two" in said, said
    assert world.again and world.entries("decision") == []
    for name in NAMES:
        world.shop.take_down(name)
    # what runs on places that cannot be reached is not known
    assert "could not be asked" in world.respond(event, well=False)
    assert world.again and world.entries("decision") == []
    assert "web1 is not well" in world.respond(event, well=False, respond_with="restart")
    assert world.decision()["verdict"] == "allowed" and not world.again
    assert world.shop.rollouts() == [] or world.shop.last().kind == "action"
