# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a broken feature to its flag being off, on real places, through a real Unleash and its own SDK.

The alert goes through Prometheus, Alertmanager and ansible-rulebook. With Unleash's database stopped, places go back.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Sequence, Tuple

import pytest
import requests
from ansible_run import ping
from child import free_ports
from flagged_shop import CODE, FLAG, FLAGGED, NEW, OLD, RUNBOOK, decisions, entries, flagged, given, messages
from rulebook import HERE, Rulebook, alerting, alertmanager, rulebook
from shops import Shop
from tell_servers import Hook, hook
from traffic import prometheus
from unleash import ENVIRONMENT, PROJECT, Unleash, unleash

RULE = {
    "alert": "ErrorCodeRaised",
    "expr": f'sum(rate(app_errors_total{{error_code="{CODE}"}}[5s])) > 5',
    "labels": {"service": "shop", "environment": "demo", "error_code": CODE},
}
FALLS_THROUGH_WITHIN = 15.0  # seconds from the alert to the places being back, when Unleash's database is down
WAITED = 5.0  # of them for Unleash, however busy the machine is
BUSY = 1.5  # times the processor's seconds of a ping: who takes so long has to share the machine
EVERYONE = {"name": "flexibleRollout", "parameters": {"rollout": "100", "stickiness": "default", "groupId": FLAG}}

pytestmark = [pytest.mark.xdist_group("eda-end-to-end")]


@dataclass
class World:
    """The shop on 2.0.1, whose SDK reads a flag of a real Unleash that is on, and what people are told."""

    shop: Shop
    flags: Unleash
    told: Hook
    stack: ExitStack

    def book(self, name: str, folder: Path, **variables: object) -> Rulebook:
        given(self.shop, **variables)
        inventory = self.shop.folder / "inventory.json"
        found: Rulebook = self.stack.enter_context(
            rulebook(folder, self.shop.env, f"selfheal.delivery.{name}", inventory=inventory)
        )
        return found

    def served(self) -> bool:
        """What Unleash gives its clients."""
        found = self.flags.call("GET", "/api/client/features", token=self.flags.client).json()["features"]
        (flag,) = [one for one in found if one["name"] == FLAG]
        return bool(flag["enabled"])

    def runs(self, release: str) -> bool:
        """Does every place answer as this release?"""
        return all(self._answer(port) == release for port in self.shop.ports)

    def errors(self) -> float:
        """How many requests have failed since the places were started."""
        pages = [requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5, proxies=HERE) for port in self.shop.ports]
        lines = [line for page in pages for line in page.text.splitlines()]
        return sum(float(line.split()[1]) for line in lines if line.startswith('http_requests_total{code="500"}'))

    @staticmethod
    def _answer(port: int) -> str:
        try:
            return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=1, proxies=HERE).text.strip()
        except requests.RequestException:
            return ""


@pytest.fixture
def world(make_shop: Callable[..., Shop], tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        flags, told = stack.enter_context(unleash()), stack.enter_context(hook())
        flags.create(FLAG, strategies=[EVERYONE])
        flags.switch(FLAG, "on")
        shop = make_shop(places=2, **FLAGGED)
        where = {"type": "unleash", "url": flags.url, "token": flags.client, "environment": ENVIRONMENT}
        provider: Dict[str, Any] = {"type": "unleash", "url": flags.url}
        for name, token in (("token_file", flags.admin), ("client_token_file", flags.client)):
            (tmp_path / name).touch(0o600)
            (tmp_path / name).write_text(token)
            provider[name] = str(tmp_path / name)
        flagged(shop, where, {"provider": provider, "environment": ENVIRONMENT, "project": PROJECT}, told)
        stack.enter_context(shop.load())
        yield World(shop, flags, told, stack)


def test_an_error_code_turns_its_flag_off_and_the_service_recovers(world: World, tmp_path: Path) -> None:
    shop, port = world.shop, free_ports(1)[0]
    manager = f"http://127.0.0.1:{port}"
    book = world.book("alert_rollback", tmp_path / "book", delivery_alerts={"type": "alertmanager", "url": manager})
    book.wait(world.errors, "requests fail", 30)
    world.stack.enter_context(alertmanager(tmp_path / "manager", f"{book.url}/alerts", book.token_file, port))
    targets = [f"127.0.0.1:{one}" for one in shop.ports]
    lines = alerting(tmp_path / "rules", [RULE], manager)
    world.stack.enter_context(prometheus(tmp_path / "prometheus", targets, more=lines))

    book.wait(lambda: not world.served(), "clients are served the flag as off", 60)
    book.wait(lambda: entries(shop, "verification") and shop.last().state == "done", "the gates are read again", 30)
    before = world.errors()
    time.sleep(1)
    assert world.errors() == before
    last = shop.last()
    assert (last.intent["flag"], last.outcome["verified"]["verdict"]) == (FLAG, "recovered"), book.log
    trigger, outcome = entries(shop, "trigger")[0].body, entries(shop, "outcome")[0].body
    assert (trigger["kind"], trigger["name"]) == ("error_code", CODE)
    assert outcome["status"] == "effective" and 0 <= float(str(outcome["effective_after"])) < 10
    assert len(world.flags.events(FLAG, "feature-environment-disabled")) == 1
    book.wait(lambda: world.told.posts, "people are told", 30)
    (told,) = messages(world.told)
    assert (told["event"], told["code"], told["runbook"]) == ("done", CODE, RUNBOOK)
    assert decisions(shop) == ["flag_off allowed"] and shop.current() == NEW
    assert world.flags.admin not in book.log and world.flags.client not in book.log


def test_with_unleashs_database_stopped_the_places_go_back(world: World, tmp_path: Path) -> None:
    shop = world.shop
    port = free_ports(1)[0]
    asked = {"type": "alertmanager", "url": f"http://127.0.0.1:{port}"}
    book = world.book("kill_switch", tmp_path / "book", delivery_alerts=asked)
    book.wait(world.errors, "requests fail", 30)
    world.stack.enter_context(alertmanager(tmp_path / "manager", f"{book.url}/alerts", book.token_file, port))
    world.flags.database.stop()
    pings = [ping(tmp_path, shop.env)]
    began = time.monotonic()
    alert = {"labels": {"alertname": "ShopErrors", "service": "shop", "environment": "demo"}}
    assert requests.post(f"{asked['url']}/api/v2/alerts", json=[alert], timeout=10, proxies=HERE).ok
    book.wait(lambda: world.runs("1.0.0"), "the places serve 1.0.0 again", 60)
    took = time.monotonic() - began
    pings.append(ping(tmp_path, shop.env))
    within, told = limit(pings)
    print(f"from the alert to the places being back, with Unleash's database stopped: {took:.1f} s; {told}")
    book.wait(lambda: len(shop.rollouts()) == 2 and shop.last().state == "done", "the rollback is closed", 30)
    assert shop.current() == OLD
    assert decisions(shop) == ["flag_off allowed", "rollback allowed"]
    back, turned = shop.rollouts()
    assert turned.state == "undone" and turned.outcome["ok"] is False
    assert f"flag {FLAG} could not be turned off" in str(back.outcome["why"])
    book.wait(lambda: world.told.posts, "people are told", 30)
    assert [message["event"] for message in messages(world.told)] == ["rolled_back"]
    assert took <= within, f"{took:.1f} s; {told}\n{book.log}"


def limit(pings: Sequence[Tuple[float, float]]) -> Tuple[float, str]:
    """In how many seconds it has to be done, by pings right before and after it, and that in words.

    On a busy machine what computes takes longer, by as much as a ping does, and what waits does not.
    """
    took, computed = (sum(values) / len(pings) for values in zip(*pings, strict=True))
    slower = took / computed if took > BUSY * computed else 1.0
    within = WAITED + slower * (FALLS_THROUGH_WITHIN - WAITED)
    return within, f"a ping takes {took:.2f} s, {computed:.2f} s of it computing: {within:.1f} s are allowed"
