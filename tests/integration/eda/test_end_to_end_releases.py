# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bad release to the good one on real hosts' places, through Prometheus, Alertmanager and ansible-rulebook."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
from child import free_ports
from rulebook import Rulebook, alerting, alertmanager, rulebook
from shops import Shop
from tell_servers import Hook, hook
from traffic import prometheus

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

NAMES = ("web1", "web2")
OLD, NEW = dict.fromkeys(NAMES, "1.0.0"), dict.fromkeys(NAMES, "2.0.1")
GUARD = {"mode": "act", "alerts": ["ShopErrors"], "clear_for": 0}
BAKE = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 3}
RULE = {
    "alert": "ShopErrors",
    "expr": 'sum(rate(http_requests_total{code=~"5.."}[5s])) / sum(rate(http_requests_total[5s])) > 0.1',
    "labels": {"service": "shop", "environment": "demo", "severity": "page"},
    "annotations": {"summary": "{{ $value | humanizePercentage }} of requests fail"},
}
RUNBOOK = "https://runbooks.example.org/shop"

pytestmark = [pytest.mark.xdist_group("eda-end-to-end")]


class Chain:
    """A shop whose alerts reach ansible-rulebook, and the receiver of what people are told."""

    def __init__(self, shop: Shop, book: Rulebook, told: Hook) -> None:
        self.shop, self.book, self.told = shop, book, told

    def entries(self, kind: str) -> List[Entry]:
        with closing(open_ledger({"path": str(self.shop.ledger)}, create=False)) as ledger:
            assert ledger.verify() is None
            return [entry for entry in ledger.last_entries("demo/shop", 1000) if entry.kind == kind]


@pytest.fixture
def chained(make_shop: Callable[..., Shop], tmp_path: Path) -> Any:
    """Two places on 2.0.1, known good, as 1.0.0 was before; with everything that its alerts go through."""
    with ExitStack() as stack:

        def make(token: str | None = None) -> Chain:
            shop = make_shop(places=2, guard=GUARD, bake=BAKE)
            shop.known_good("2.0.1")
            told = stack.enter_context(hook())
            manager_port = free_ports(1)[0]
            manager = f"http://127.0.0.1:{manager_port}"
            inventory = shop.folder / "inventory.json"
            contents = json.loads(inventory.read_text())
            more: Dict[str, Any] = {"delivery_alerts": {"type": "alertmanager", "url": manager}}
            more["delivery_notify"] = {"people": {"type": "webhook", "url": told.url}}
            contents["all"]["vars"].update(more)
            inventory.write_text(json.dumps(contents))
            book = stack.enter_context(rulebook(tmp_path / "book", shop.env, inventory=inventory))
            shown = book.token_file
            if token is not None:
                shown = tmp_path / "other-token"
                shown.write_text(token)
            stack.enter_context(alertmanager(tmp_path / "alertmanager", f"{book.url}/alerts", shown, manager_port))
            lines = alerting(tmp_path / "rules", [RULE], manager)
            targets = [f"127.0.0.1:{port}" for port in shop.ports]
            stack.enter_context(prometheus(tmp_path / "prometheus", targets, more=lines))
            stack.enter_context(shop.load())
            return Chain(shop, book, told)

        yield make


def test_a_release_that_turns_bad_is_taken_back_and_people_are_told(chained: Callable[..., Chain]) -> None:
    chain = chained()
    shop, book = chain.shop, chain.book
    assert shop.current() == NEW
    shop.turn_bad("2.0.1")
    book.wait(lambda: shop.current() == OLD, "the places are back on 1.0.0", 90)
    book.wait(lambda: chain.entries("outcome") and shop.last().state == "done", "the rollback is closed", 60)
    assert shop.last().outcome["verified"]["verdict"] == "recovered", book.log

    (decision,) = [entry.body for entry in chain.entries("decision") if entry.body["verdict"] == "allowed"]
    trigger = chain.entries("trigger")[0].body
    assert (trigger["kind"], trigger["name"]) == ("alert", "ShopErrors")
    assert trigger["evidence"]["gates"]["confirmed"] is True  # type: ignore[index]
    assert trigger["evidence"]["source"]["firing"] is True  # type: ignore[index]
    assert decision["action"] == "rollback"
    assert {entry.body["place"] for entry in chain.entries("action")} == set(NAMES)

    book.wait(lambda: chain.told.posts, "people are told", 30)
    assert any(RUNBOOK in post.body.decode() and "2.0.1" in post.body.decode() for post in chain.told.posts)
    # the alert ends, and the guard hears of it
    book.wait(lambda: book.answered() >= 2 and book.idle(), "all of it is done", 60)
    assert shop.current() == OLD and len(shop.rollouts()) == 1
    assert book.count("requests", "unauthorised") == 0


def test_nothing_happens_and_it_is_counted_when_the_sender_shows_the_wrong_token(chained: Callable[..., Chain]) -> None:
    chain = chained(token="a-token-of-somebody-else")
    chain.shop.turn_bad("2.0.1")
    chain.book.wait(lambda: chain.book.count("requests", "unauthorised") > 0, "it is refused", 60)
    assert chain.book.count("alerts", "taken") == 0 and chain.book.idle()
    assert chain.shop.current() == NEW and not chain.told.posts
    assert not chain.shop.ledger.exists() or not chain.entries("trigger")
    assert "a-token-of-somebody-else" not in chain.book.log
