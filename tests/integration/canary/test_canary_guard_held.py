# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guard does not let go on is held, whoever wants it to go on and however often somebody looks."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any, Callable

from fleet import SERVICE

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

GOOD = dict.fromkeys(("web1", "web2", "web3", "web4"), "2.0.1")
SLOW = {"look_every": 0.5, "min_bake": 5, "deadline": 30, "warm_up": 0, "verify_for": 1, "hold_deadline": 120}


def test_a_look_at_what_a_pause_holds_leaves_it_and_a_person_promotes_none(make_shop: Callable[..., Any]) -> None:
    shop = make_shop(bake=SLOW)
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_steps=["25%", "100%"]))
        run.until("bake 1/")
        with closing(open_ledger({"path": str(shop.ledger)})) as ledger:
            ledger.pause("", "ada", "INC-2", None, time.time())
            ledger.say(SERVICE, "promote", "bob", "it looks good to me", time.time())
            assert run.end() != 0 and "promoted by bob" in run.output
            assert "may not go on" in run.output and "INC-2" in run.output
            assert (shop.last().state, shop.current()["web2"]) == ("held", "1.0.0")
            seen = shop.reconcile()
            assert (shop.last().state, shop.current()["web1"]) == ("held", "2.0.1"), seen.output
            ledger.unpause("", "ada", "over", time.time())
            seen = shop.reconcile()
            assert (shop.last().state, shop.current()) == ("done", GOOD), seen.output
