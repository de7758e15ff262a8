# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/rollback.yml is killed with all that it started, at ten moments; then it, or reconcile, runs once more.

Afterwards, whatever the moment was: exactly one rollback, the chain whole, nothing of it lost, and no lease left. In
process, at every write and two hundred times: tests/integration/guard/test_guard_killed.py.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import time
import uuid
from contextlib import closing
from typing import Any, Callable, Dict, List

import pytest
from ansible_run import Run, kill_all
from fleet import SERVICE

from ansible_collections.selfheal.delivery.plugins.module_utils._act.options import change, look
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import ROLLBACK, Request, Trigger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard

GOOD = "1.0.0"
TTL = 30.0
PATIENCE = 90.0
GUARD = {"mode": "act", "alerts": ["ShopErrors"]}
BAKE = {"look_every": 0.3, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 1}
OURS = ("place.py", "app.py", "load.py")  # what would be systemd, the service and its users


class Round:
    """One release that is bad, an alert of it, and a ledger of its own."""

    def __init__(self, shop: Any, number: int) -> None:
        self.shop, self.release = shop, f"2.0.{number + 10}"
        self.path = shop.folder / f"ledger-{number}.sqlite"
        self.trigger: Dict[str, Any] = {"kind": "alert", "name": "ShopErrors", "id": f"a{number}"}
        content = shop.folder / "artifacts" / self.release
        shutil.copytree(shop.folder / "artifacts" / GOOD, content)
        (content / "release.json").write_text(json.dumps({"version": self.release, "error_rate": 0.6}))
        for given in shop.deployed(self.release, shop.names):
            change({**given, "state": "promoted"}, dry=False)

    def run(self, playbook: str = "rollback") -> Run:
        given: Dict[str, object] = {"delivery_ledger": {"path": str(self.path)}}
        if playbook == "rollback":
            given.update(rollback_trigger=self.trigger, rollback_lease_ttl=TTL, rollback_batches=[1, "100%"])
        started: Run = self.shop.run(self.shop.command(f"selfheal.delivery.{playbook}", given))
        return started

    def ledger(self) -> Ledger:
        return open_ledger({"path": str(self.path)}, create=False)

    def entries(self) -> List[Entry]:
        if not self.path.exists():
            return []
        with closing(self.ledger()) as ledger:
            return list(ledger.entries(limit=10_000))

    def has(self, kind: str, count: int = 1, **body: object) -> bool:
        found = [entry for entry in self.entries() if entry.kind == kind]
        return sum(all(entry.body.get(name) == value for name, value in body.items()) for entry in found) >= count

    def on_good(self, name: str) -> bool:
        return bool(self.shop.current()[name] == GOOD)

    def time_passes(self) -> None:
        """Past the end of the dead one's lease, without waiting for it: so that a slow machine may have a long one."""
        with closing(sqlite3.connect(self.path)) as db, db:
            db.execute("UPDATE lease SET expires = ? WHERE expires > 0", (time.time() - 1,))


def task(name: str) -> Callable[[Round, Run], bool]:
    return lambda _round, run: any(name in line for line in list(run.lines))


# when it is killed: as soon as this is true, and a little later
MOMENTS: Dict[str, Callable[[Round, Run], bool]] = {
    "it reads the places": task("Read what every place runs"),
    "it asks the gates": task("goes back to 1.0.0"),
    "it asks the guard": task("bad: errors"),
    "it was allowed": lambda one, _run: one.has("rollout"),
    "it is to change the first place": lambda one, _run: one.has("action"),
    "the first place is switched": lambda one, _run: one.on_good("web1"),
    "it is between the places": lambda one, _run: one.has("outcome"),
    "the second place is switched": lambda one, _run: one.on_good("web2"),
    "it verifies": task("Read the gates again"),
    "it is closed": lambda one, _run: one.has("state", state="done"),
}


def wait_for(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def check(one: Round, before: List[Entry]) -> None:
    with closing(one.ledger()) as ledger:
        (rollback,) = ledger.last_rollouts(SERVICE)
        assert (rollback.kind, rollback.state, rollback.release) == ("rollback", "done", one.release)
        assert ledger.verify(ledger.head()) is None
        assert ledger.leases(time.time()) == [] and ledger.unfinished() == []
        request = Request(uuid.uuid4().hex, SERVICE, ROLLBACK, Trigger(**one.trigger), "guard")
        again = ledger.check(request, parse_guard(GUARD, SERVICE), now=time.time(), record=False)
        assert again.reason == "duplicate"
    entries = one.entries()
    assert entries[: len(before)] == before  # nothing that was written is lost
    assert {entry.body["id"] for entry in entries if entry.kind == "trigger"} == {one.trigger["id"]}
    assert [entry.body["verdict"] for entry in entries if entry.kind == "decision"] == ["allowed"]
    assert [entry.body["state"] for entry in entries if entry.kind == "state"].count("done") == 1
    changed = [entry.body["place"] for entry in entries if entry.kind == "outcome" and entry.body["changed"]]
    assert len(changed) == len(set(changed))
    for name in one.shop.names:
        told: Any = look({"path": str(one.shop.place(name))})
        assert (told["current"], told["settled"]) == (GOOD, True)
        assert next(release for release in told["releases"] if release["id"] == one.release)["bad"]


@pytest.mark.timeout(600)  # ten minutes: a machine that has much else to do
@pytest.mark.parametrize(
    "half", [pytest.param(half, marks=pytest.mark.xdist_group(f"rollback_killed_{half}")) for half in (0, 1)]
)
def test_killed_at_ten_moments_there_is_exactly_one_rollback(make_shop: Callable[..., Any], half: int) -> None:
    shop = make_shop(places=2, guard=GUARD, bake=BAKE)
    chance = random.Random(20261121 + half)
    assert len(MOMENTS) == 10
    with shop.load():
        for number, (moment, reached) in list(enumerate(MOMENTS.items()))[half::2]:
            one = Round(shop, number)
            run = one.run()
            wait_for(lambda: reached(one, run) or run.process.poll() is not None, f"{moment}:\n{run.output}")  # noqa: B023
            time.sleep(chance.uniform(0, 0.15))
            assert run.process.poll() is None, f"it ended before {moment}:\n{run.output}"
            kill_all(run, OURS)
            before = one.entries()
            allowed = one.has("rollout")
            if allowed:
                one.time_passes()
            # every other time nobody repeats the alert, and the schedule finds it
            again = one.run("reconcile" if allowed and number // 2 % 2 else "rollback")
            again.end()
            assert shop.current() == dict.fromkeys(shop.names, GOOD), f"{moment}:\n{run.output}\n{again.output}"
            check(one, before)
