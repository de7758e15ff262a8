# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A feature flag as the first way back, on real places: what follows where it helps and where not, and who decides."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, Iterator, List
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from alert_server import Alertmanager, alertmanager
from ansible_run import kill_all
from flag_vendors import Asked, Reply, Vendor, serving
from flagged_shop import (
    CODE,
    FLAG,
    FLAGGED,
    GUARD,
    NEW,
    OLD,
    RUNBOOK,
    decisions,
    entries,
    flagged,
    messages,
    play,
    policy,
    respond,
)
from fleet import SERVICE
from shops import Shop
from tell_servers import Hook, hook
from traffic import prometheus

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.identity import person
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import DONE
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.pen import owed_in
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard


@dataclass
class World:
    """The shop on 2.0.1 with its flag on, in a file; whom to ask, and whom to tell."""

    shop: Shop
    alerts: Alertmanager
    told: Hook

    @property
    def file(self) -> Path:
        return self.shop.folder / "flags.json"

    def turn(self, on: bool) -> None:
        self.file.write_text(json.dumps({FLAG: on, "other": True}))

    def flag(self) -> Any:
        return json.loads(self.file.read_text())[FLAG]

    def event(self, name: str = "ShopErrors", code: str = "") -> Dict[str, Any]:
        """The alert, which fires from now on, as the filter makes an event of it."""
        self.alerts.fire(name, "shop", **({"error_code": code} if code else {}))
        return self.alerts.event(name, **({"kind": "error_code", "name": code} if code else {}))

    def events(self) -> List[str]:
        return [str(message["event"]) for message in messages(self.told)]


@pytest.fixture
def world(make_shop: Callable[..., Shop], tmp_path: Path) -> Iterator[World]:
    with alertmanager(tmp_path / "am") as alerts, hook() as told:
        made = World(make_shop(places=2, **FLAGGED), alerts, told)
        made.turn(True)
        flags = {"provider": {"type": "json", "path": str(made.file)}}
        asked = {"type": "alertmanager", "url": alerts.url}
        flagged(made.shop, {"type": "json", "path": str(made.file)}, flags, told, delivery_alerts=asked)
        yield made


def test_an_error_code_turns_its_flag_off_and_the_gates_recover(world: World) -> None:
    shop = world.shop
    event = world.event("SearchFails", CODE)
    with shop.load():
        said = respond(shop, event)
        assert world.flag() is False and shop.current() == NEW, said
        assert "Its gates: recovered. It stays off until a person turns it on" in said
        assert decisions(shop) == ["flag_off allowed"]
        (action,) = entries(shop, "action")
        (outcome,) = entries(shop, "outcome")
        assert (action.body["flag"], action.body["state"], action.body["reason"]) == (FLAG, "off", f"error code {CODE}")
        assert (outcome.body["ok"], outcome.body["status"]) == (True, "effective")
        last = shop.last()
        assert (last.kind, last.state, last.outcome["verified"]["verdict"]) == ("action", "done", "recovered")
        assert last.outcome["flag"]["name"] == FLAG
        (told,) = messages(world.told)
        assert (told["event"], told["code"], told["runbook"]) == ("done", CODE, RUNBOOK)
        assert "was decided on before" in respond(shop, event)
    assert world.events() == ["done"]


def test_a_flag_that_is_off_and_does_not_help_is_followed_by_the_rollback(world: World) -> None:
    shop = world.shop
    world.turn(False)
    policy(shop, flag="other", flags={"other": {"refresh": 0}, FLAG: {}})
    world.turn(True)  # the broken one
    event = world.event()
    with shop.load():
        said = respond(shop, event)
    assert shop.current() == OLD, said
    assert world.flag() is True and json.loads(world.file.read_text())["other"] is False
    assert decisions(shop) == ["flag_off allowed", "rollback allowed"]
    back, turned = shop.rollouts()[:2]
    assert turned.outcome["verified"]["verdict"] == "not_recovered" and back.state == "done"
    assert "after flag other was off, and that did not help" in str(back.outcome["why"])
    assert world.events() == ["rolled_back"]


def test_a_flag_that_the_policy_does_not_list_calls_a_person(world: World) -> None:
    shop = world.shop
    policy(shop, flag="new-serach", response=["flag_off", "restart", "page"])
    with shop.load():
        said = respond(shop, world.event(), well=False)
    assert "its policy lists no flag 'new-serach' (did you mean 'new-search'?)" in said
    assert decisions(shop) == ["flag_off allowed"] and shop.last().state == "undone"
    (page,) = messages(world.told)
    assert (page["event"], page["runbook"]) == ("page", RUNBOOK)
    assert "no flag could be turned off" in page["summary"] and shop.current() == NEW and world.flag() is True


def test_a_rollback_that_is_only_recommended_after_a_flag_is_told_together_with_it_and_once(world: World) -> None:
    time.sleep(1.2)  # longer than a release is to blame here
    shop, event = world.shop, world.event()
    policy(shop, flags={FLAG: {"provider": {"type": "json", "path": str(shop.folder / "gone.json")}}})
    policy(shop, guard={**GUARD, "attribution_window": 1})
    with shop.load():
        respond(shop, event, well=False)
        assert decisions(shop) == ["flag_off allowed", "rollback not_attributable"]
        assert "was decided on before, and nobody has approved" in respond(shop, event)
    (page,) = messages(world.told)
    assert page["event"] == "page" and f"flag {FLAG} could not be turned off" in page["summary"]
    assert "No rollback either: The last change" in page["summary"] and "rollback_approved=" in page["summary"]
    with book(shop) as ledger:
        assert not ledger.owed() and shop.current() == NEW


def test_who_was_killed_before_the_next_way_is_followed_by_the_next_run(world: World) -> None:
    shop, event = world.shop, world.event()
    policy(shop, flags={FLAG: {"provider": {"type": "json", "path": str(shop.folder / "gone.json")}}})
    words = ["ansible-playbook", "-i", str(shop.folder / "inventory.json"), "selfheal.delivery.respond", "-e"]
    with shop.load():
        run = shop.run([*words, json.dumps({"respond_event": dict(event, ack=[])})])
        deadline = time.monotonic() + 60
        while not shop.ledger.exists() or not entries(shop, "state"):
            assert run.process.poll() is None and time.monotonic() < deadline, run.output
            time.sleep(0.02)
        kill_all(run, OURS)
        assert (decisions(shop), world.events()) == (["flag_off allowed"], []), run.output
        with book(shop) as ledger:
            (owed,) = ledger.owed()
            assert not ledger.unfinished() and ledger.leases(time.time()) == [] and owed == shop.last().id

        # where the alert does not come again, a person is called
        kept = shop.ledger.read_bytes()
        overdue(shop)
        play(shop, "reconcile")
        (page,) = messages(world.told)
        assert (page["event"], page["rollout"]) == ("page", owed)
        assert "gone.json cannot be read" in page["summary"] and "go on: see for yourself" in page["summary"]
        play(shop, "reconcile")
        assert world.events() == ["page"]
        shop.ledger.write_bytes(kept)

        said = respond(shop, event)
    assert shop.current() == OLD, said
    assert decisions(shop) == ["flag_off allowed", "rollback allowed"] and world.events() == ["page", "rolled_back"]
    with book(shop) as ledger:
        assert not ledger.owed() and ledger.leases(time.time()) == []


OURS = ("place.py", "app.py", "load.py")  # of what a playbook starts, those who go on without it


def book(shop: Shop) -> ContextManager[Any]:
    return closing(open_ledger({"path": str(shop.ledger)}))


def overdue(shop: Shop) -> None:
    """Two minutes pass for what has to be told."""
    with book(shop) as ledger:

        def earlier(pen: Any) -> None:
            for ident, what, at in owed_in(pen.tallies()[SERVICE]):
                pen.owe(ident, what, SERVICE, at - 121)

        ledger._write(earlier)


class Approvals(Vendor):
    """LaunchDarkly where nobody may turn the flag without somebody else's approval."""

    def __init__(self) -> None:
        super().__init__()
        settings = {"on": True, "targets": [], "rules": [], "fallthrough": {"variation": 0}, "offVariation": 1}
        self.settings = {**settings, "contextTargets": [], "prerequisites": [], "archived": False, "salt": "6"}
        self.values = [{"_id": str(number), "value": value} for number, value in enumerate((True, False))]
        self.requests: List[object] = []

    def is_client(self, asked: Asked) -> bool:
        return asked.path.startswith("/sdk/")

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            served = {**self.settings, "variations": [one["value"] for one in self.values]}
            return Reply(200, {"flags": {FLAG: served}, "segments": {}})
        if asked.path.endswith("/approval-requests"):
            if asked.method == "GET":
                return Reply(200, {"items": self.requests})
            self.requests.append({"_id": "12ab3c45", "status": "pending", "reviewStatus": "pending"})
            return Reply(201, self.requests[-1])
        if asked.method == "PATCH":
            return Reply(405, {"code": "method_not_allowed", "message": "Approval is required to make this request"})
        kept = {"key": FLAG, "kind": "boolean", "_version": 2, "archived": False, "variations": self.values}
        return Reply(200, {**kept, "environments": {"production": self.settings}})


def test_what_waits_for_an_approval_is_followed_by_the_rollback(world: World) -> None:
    shop = world.shop
    with serving(Approvals()) as vendor, shop.load():
        tokens = {"token": "api-0001-secret", "client_token": "sdk-0002-secret"}
        provider = {"type": "launchdarkly", "url": vendor.url, "client_url": vendor.url, **tokens}
        policy(shop, flags={FLAG: {"provider": provider, "environment": "production", "project": "shop"}})
        said = respond(shop, world.event())
        assert len(vendor.writes) == 2, vendor.writes  # the change, and the request for somebody's approval
    assert shop.current() == OLD and "waits for its review" in said.replace("\n", " "), said
    assert "api-0001-secret" not in said and "sdk-0002-secret" not in said
    back, turned = shop.rollouts()[:2]
    assert (turned.state, turned.outcome["flag"]["status"]) == ("undone", "pending")
    assert f"after flag {FLAG} could not be turned off" in str(back.outcome["why"])
    assert decisions(shop) == ["flag_off allowed", "rollback allowed"] and world.events() == ["rolled_back"]


def test_a_code_that_a_log_pipeline_saw_is_confirmed_by_its_own_figures(world: World) -> None:
    shop = world.shop
    world.turn(False)
    targets = [f"127.0.0.1:{port}" for port in shop.ports]
    with shop.load(), prometheus(shop.folder / "prometheus", targets) as url:
        policy(shop, source={"type": "prometheus", "url": url, "window": 10})
        time.sleep(7)  # none came in that time, of which a look at the last hour sees a point each 6 s
        what = rollouts.Begin(SERVICE, "2.0.1", "watch", {"fleet": list(NEW), "before": {}})
        with closing(open_ledger({"path": str(shop.ledger)})) as ledger:
            begun, lease = rollouts.begin(
                ledger, what, holder="ci", actor="ci", ttl=60, now=time.time(), policy=parse_guard({}, SERVICE)
            )
            rollouts.close(ledger, lease, begun.id, state=DONE, outcome={}, actor="ci", now=time.time())
        time.sleep(2)  # no scrape has both what was before and what came then
        world.turn(True)
        deadline = time.monotonic() + 30
        while value(url, f'sum(app_errors_total{{error_code="{CODE}"}})') < 400:
            assert time.monotonic() < deadline, "the code is not counted"
            time.sleep(0.2)
        seen = {"kind": "error_code", "status": "firing", "service": "shop", "environment": "demo", "labels": {}}
        said = respond(shop, {**seen, "name": CODE, "id": "log-1", "at": time.time()})
    assert world.flag() is False and shop.current() == NEW, said
    evidence: Any = entries(shop, "trigger")[-1].body["evidence"]  # the first one is of the release
    assert (evidence["gates"]["confirmed"], evidence["gates"]["code"]["verdict"]) == (True, "fail"), evidence


def value(url: str, query: str) -> float:
    """What Prometheus says, 0 for nothing."""
    with urlopen(f"{url}/api/v1/query?query={quote(query)}", timeout=5) as answer:
        found = json.load(answer)["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


def test_a_person_comes_first_and_a_recommendation_waits_for_one(world: World) -> None:
    shop = world.shop
    event = world.event()
    with closing(open_ledger({"path": str(shop.ledger)})) as ledger:
        ledger.pause(SERVICE, "ada", "CHG-1234", None, time.time())
        assert "ada paused it" in respond(shop, event)
        ledger.unpause(SERVICE, "ada", "done", time.time())
    policy(shop, guard={**GUARD, "mode": "recommend"})
    said = respond(shop, event)
    assert "Its guard only recommends" in said and "kill_switch_approved=" in said
    assert decisions(shop) == ["flag_off paused", "flag_off recommended"]
    assert world.events() == ["page", "recommended"] and world.flag() is True
    ident = entries(shop, "decision")[-1].body["id"]
    control = {"delivery_service": "shop", "delivery_command": "approve", "delivery_decision": ident}
    play(shop, "control", **control, delivery_reason="INC-4711")
    with shop.load():
        play(shop, "disable_flag", delivery_service="shop", kill_switch_approved=ident)
    assert world.flag() is False and decisions(shop)[-1] == "flag_off allowed"


def test_a_person_turns_it_off_and_on_again(world: World) -> None:
    shop = world.shop
    why = {"delivery_service": "shop", "kill_switch_reason": "INC-4711"}
    assert "did you mean 'new-search'?" in play(shop, "disable_flag", well=False, **why, kill_switch_flag="new-serch")
    assert "would be turned off" in play(shop, "disable_flag", "--check", **why) and world.flag() is True
    assert not shop.ledger.exists() or not entries(shop, "decision")
    with shop.load():
        play(shop, "disable_flag", **why)
    assert world.flag() is False and shop.last().outcome["verified"]["verdict"] == "recovered"
    play(shop, "enable_flag", delivery_service="shop", kill_switch_reason="mended in 2.0.2")
    assert world.flag() is True
    assert decisions(shop) == ["flag_off allowed", "flag_on allowed"]
    assert world.events() == ["done", "done"]
    last = messages(world.told)[-1]["summary"]
    assert f"mended in 2.0.2, says {person()}: flag '{FLAG}' is on" in last
