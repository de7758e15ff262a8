# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever settles what another run left behind tells people, as that run would have."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, Callable

from fleet import SERVICE
from tell_servers import hook

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

OLD = dict.fromkeys(("web1", "web2", "web3", "web4"), "1.0.0")


def test_what_the_next_run_takes_back_or_gives_up_is_told(make_shop: Callable[..., Any]) -> None:
    shop = make_shop()
    step = {"index": 1, "of": 1, "places": ["web1"], "canary": ["web1"], "baseline": ["web2", "web3", "web4"]}
    left = {
        "action": ("2.0.1", {"fleet": list(OLD), "action": "restart"}),
        "canary": ("2.0.0", {"fleet": list(OLD), "before": OLD, "steps": [step]}),
    }
    with shop.load(), hook() as hooked, closing(open_ledger({"path": str(shop.ledger)})) as ledger:
        tell = {"delivery_notify": {"ops": {"type": "webhook", "url": hooked.url}}}
        for kind, (release, intent) in left.items():
            what = rollouts.Begin(SERVICE, release, kind, intent)
            rollouts.begin(ledger, what, holder="gone", actor="ada", ttl=1, now=time.time() - 60)
            run = shop.play("2.0.1", delivery_guard={"freeze": [{"from": "2000-01-01", "until": "2999-01-01"}]}, **tell)
            assert run.process.returncode != 0 and "freeze window" in run.output
        assert [post.json["data"]["event"] for post in hooked.posts] == ["page", "undone"]
        assert "nobody knows whether it was done" in hooked.posts[0].json["data"]["summary"]
        assert ledger.unfinished() == [] and shop.current() == OLD
