# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop of real places whose release 2.0.1 has a broken feature behind a flag, and what its ledger and people know."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Mapping

from ansible_run import Run
from code_catalogue import catalogue, entry
from fleet import SERVICE
from shops import Shop
from tell_servers import Hook

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

NAMES = ("web1", "web2")
OLD, NEW = dict.fromkeys(NAMES, "1.0.0"), dict.fromkeys(NAMES, "2.0.1")
FLAG, CODE = "new-search", "SHOP-SEARCH-001"  # as flagged_app.py has them
RUNBOOK, CODE_RUNBOOK = "https://runbooks.example.org/shop", f"https://runbooks.example.org/{CODE}"
GUARD = {"mode": "act", "alerts": ["ShopErrors"], "codes": [CODE], "clear_for": 0}
BAKE = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 2}
WAYS = ["flag_off", "rollback", "page"]
APP = Path(__file__).with_name("flagged_app.py")
# with the flag, how it is reached, and with which policy a test has it
FLAGGED: Mapping[str, Any] = {
    "guard": GUARD,
    "bake": BAKE,
    "flag": FLAG,
    "flags": {FLAG: {"refresh": 1}},
    "response": WAYS,
}


def flagged(shop: Shop, where: Mapping[str, str], flags: Mapping[str, Any], told: Hook, **variables: object) -> None:
    """Put 2.0.1 on all places, which asks for the flag at `where`; `flags` and `variables` go into the inventory."""
    content = shop.folder / "artifacts" / "2.0.1"
    shutil.copy(APP, content / "app.py")
    (content / "release.json").write_text(json.dumps({"version": "2.0.1", "flag": {"name": FLAG, **where}}))
    shop.known_good("2.0.1")
    codes = shop.folder / "codes.yml"
    codes.write_text(
        catalogue(**{CODE.replace("-", "_"): entry(response=WAYS, flag=FLAG, runbook=CODE_RUNBOOK, owner="team-shop")})
    )
    known: Dict[str, Any] = {"delivery_flags": dict(flags), "delivery_error_codes": str(codes)}
    known["delivery_notify"] = {"people": {"type": "webhook", "url": told.url}}
    given(shop, **known, **variables)


def given(shop: Shop, **variables: object) -> None:
    """Set variables of the inventory."""
    path = shop.folder / "inventory.json"
    inventory = json.loads(path.read_text())
    inventory["all"]["vars"].update(variables)
    path.write_text(json.dumps(inventory))


def policy(shop: Shop, **keys: object) -> None:
    """Set keys of the shop's policy; those that are None are removed."""
    path = shop.folder / "inventory.json"
    inventory = json.loads(path.read_text())
    services = inventory["all"]["vars"]["delivery_services"]
    whole = {**services["shop"], **keys}
    services["shop"] = {key: value for key, value in whole.items() if value is not None}
    path.write_text(json.dumps(inventory))


def play(shop: Shop, playbook: str, *arguments: str, well: bool = True, **variables: object) -> str:
    """What a playbook says; it ends as it has to."""
    command = ["ansible-playbook", "-i", str(shop.folder / "inventory.json"), f"selfheal.delivery.{playbook}"]
    run: Run = shop.run([*command, *arguments, "-e", json.dumps(variables)])
    assert (run.end() == 0) == well, run.output
    return run.output


def respond(shop: Shop, event: Mapping[str, Any], *, well: bool = True, **variables: object) -> str:
    return play(shop, "respond", well=well, respond_event=dict(event, ack=[]), **variables)


def entries(shop: Shop, *kinds: str) -> List[Entry]:
    """Oldest first; the ledger is whole."""
    with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
        assert ledger.verify() is None
        return [entry for entry in reversed(ledger.last_entries(SERVICE, 1000)) if entry.kind in kinds]


def decisions(shop: Shop) -> List[str]:
    """What the guard said, such as `flag_off allowed`, oldest first."""
    return [f"{one.body['action']} {one.body['reason'] or one.body['verdict']}" for one in entries(shop, "decision")]


def messages(told: Hook) -> List[Mapping[str, Any]]:
    """What people were told, oldest first."""
    return [post.json.get("data", post.json) for post in told.posts]
