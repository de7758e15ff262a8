# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A canary asks the guard without anybody's wiring, and every end of it is told."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, Callable

from fleet import SERVICE
from tell_servers import hook

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

GOOD = dict.fromkeys(("web1", "web2", "web3", "web4"), "2.0.1")
OLD = dict.fromkeys(GOOD, "1.0.0")
SLOW = {"look_every": 0.5, "min_bake": 5, "deadline": 30, "warm_up": 0, "verify_for": 1, "hold_deadline": 120}


def control(shop: Any, word: str, **variables: object) -> None:
    run = shop.run(shop.command("selfheal.delivery.control", {"delivery_command": word, **variables}))
    assert run.end() == 0, run.output


def test_a_pause_stops_a_new_rollout_and_holds_one_under_way_until_it_is_lifted(make_shop: Callable[..., Any]) -> None:
    shop = make_shop(bake=SLOW)
    with shop.load(), hook() as hooked:
        tell = {"delivery_notify": {"ops": {"type": "webhook", "url": hooked.url}}}
        # a pause goes into a ledger that is there, never into a new one at a mistyped path
        open_ledger({"path": str(shop.ledger)}).close()
        control(shop, "pause", delivery_for="1h", delivery_reason="INC-1")
        refused = shop.play("2.0.1", **tell)
        assert refused.process.returncode != 0 and "paused" in refused.output and "INC-1" in refused.output
        assert (shop.current(), shop.rollouts()) == (OLD, [])
        control(shop, "resume", delivery_reason="over")

        run = shop.run(shop.canary("2.0.1", canary_steps=["25%", "100%"], **tell))
        run.until("bake 1/")
        # not by a playbook, which on a busy machine takes longer than the first step
        with closing(open_ledger({"path": str(shop.ledger)})) as ledger:
            ledger.pause(SERVICE, "ada", "INC-2", time.time() + 3600, time.time())
        assert run.end() != 0 and "may not go on" in run.output and "INC-2" in run.output
        assert (shop.last().state, shop.current()["web2"]) == ("held", "1.0.0")
        assert [post.json["data"]["event"] for post in hooked.posts] == ["held"]

        control(shop, "resume", delivery_reason="over")
        assert shop.reconcile(**tell).process.returncode == 0
        assert (shop.last().state, shop.current()) == ("done", GOOD)
        assert hooked.posts[-1].json["data"]["event"] == "done"
        with closing(open_ledger({"path": str(shop.ledger)})) as ledger:
            told = [entry.body for entry in ledger.last_entries(SERVICE, 1000) if entry.kind == "decision"]
            assert ledger.verify() is None
    asked = [(body["action"], body["verdict"], body["reason"]) for body in reversed(told)]
    assert asked[:3] == [
        ("rollout", "denied", "paused"),
        ("rollout", "allowed", ""),
        ("promote", "denied", "paused"),
    ]
    assert asked[-1] == ("promote", "allowed", "")


def test_a_freeze_stops_what_is_new_and_a_channel_that_is_wrong_stops_nothing(make_shop: Callable[..., Any]) -> None:
    shop = make_shop()
    freeze = [{"name": "the holidays", "from": "2000-01-01", "until": "2999-01-01"}]
    with shop.load():
        refused = shop.play("2.0.1", delivery_guard={"freeze": freeze})
        assert refused.process.returncode != 0 and "the holidays is a freeze window" in refused.output
        assert (shop.current(), shop.rollouts()) == (OLD, [])
        run = shop.play("2.0.0", canary_steps=["25%"], delivery_notify={"ops": {"type": "pigeon"}})
        assert run.process.returncode != 0 and "was taken back" in run.output and "pigeon" in run.output
        assert (shop.current(), shop.last().state) == (OLD, "undone")
    with closing(open_ledger({"path": str(shop.ledger)})) as ledger:
        entries = ledger.last_entries(SERVICE, 1000)
    (verified,) = [entry.body for entry in entries if entry.kind == "verification"]
    assert (verified["places"], verified["verdict"]) == (["web1"], "recovered")
    web1 = [one.body for one in entries if one.kind == "outcome" and one.body["place"] == "web1"]
    assert [(body["before"], body["current"]) for body in web1] == [("2.0.0", "1.0.0"), ("1.0.0", "2.0.0")]
