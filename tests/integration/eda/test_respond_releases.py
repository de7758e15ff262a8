# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An event and what comes of it, on real places: it goes back once, or nothing is done."""

from __future__ import annotations

import json
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping

import pytest
from ansible_run import Run

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

NAMES = ("web1", "web2")
OLD, NEW = dict.fromkeys(NAMES, "1.0.0"), dict.fromkeys(NAMES, "2.0.1")
GUARD = {"mode": "act", "alerts": ["ShopErrors"], "cooldown": 0, "global_cooldown": 0, "clear_for": 0}
PATIENT = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 3}


def event(**more: object) -> Dict[str, Any]:
    """As the filter makes it of an alert that began a moment ago."""
    at = time.time()
    told = {"kind": "alert", "status": "firing", "service": "shop", "environment": "", "name": "ShopErrors"}
    return {**told, "id": f"{uuid.uuid4().hex[:16]}-{int(at)}", "at": at, "ack": [str(uuid.uuid4())], **more}


def respond(shop: Any, about: Mapping[str, Any], *arguments: str, **variables: object) -> Run:
    spool = shop.folder / "spool"
    (spool / "done").mkdir(parents=True, exist_ok=True)
    given = {"respond_event": about, "respond_spool": str(spool), **variables}
    command = ["ansible-playbook", "-i", str(shop.folder / "inventory.json"), "selfheal.delivery.respond", *arguments]
    run: Run = shop.run([*command, "-e", json.dumps(given)])
    return run


def ended(run: Run, *, well: bool) -> str:
    assert (run.end() == 0) == well, run.output
    return run.output


def acknowledged(shop: Any, about: Mapping[str, Any]) -> bool:
    return all((shop.folder / "spool" / "done" / ident).is_file() for ident in about["ack"])


def entries(shop: Any, kind: str) -> List[Entry]:
    with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
        assert ledger.verify() is None
        return [entry for entry in ledger.last_entries("", 1000) if entry.kind == kind]


@pytest.fixture
def promoted(make_shop: Callable[..., Any]) -> Callable[..., Any]:
    """Two places on 2.0.1, known good, as 1.0.0 was before."""

    def make(**policy: object) -> Any:
        shop = make_shop(places=2, **{"guard": GUARD, "bake": PATIENT, **policy})
        shop.known_good("2.0.1")
        return shop

    return make


def test_an_alert_takes_the_release_back_once(promoted: Callable[..., Any]) -> None:
    shop = promoted()
    shop.turn_bad("2.0.1")
    told = event()
    with shop.load():
        said = ended(respond(shop, told), well=True)
    assert shop.current() == OLD, said
    assert acknowledged(shop, told)
    (trigger,) = entries(shop, "trigger")
    assert trigger.body["at"] == told["at"]
    again = ended(respond(shop, told), well=True)
    assert "was decided on before" in again
