# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention and verify must not overlook: which release is good, and how a rollout ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Iterator, Mapping

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import (
    is_masked,
    kept_template,
    last_known_good,
    rolled_back,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.retention import KEPT_ROLLOUTS
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.sqlite import SqliteLedger

SHOP = "test/shop"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    with closing(SqliteLedger(str(path))) as ledger:
        yield ledger


def run(
    ledger: SqliteLedger, release: str, kind: str, at: float, state: str = "done", **intent: object
) -> rollouts.Rollout:
    what = rollouts.Begin(SHOP, release, kind, {"fleet": ["eu"], **intent})
    rollout, lease = rollouts.begin(ledger, what, holder="run", actor="ada", ttl=30, now=at)
    outcome: Mapping[str, object] = {"why": "it is so"}
    return rollouts.close(ledger, lease, rollout.id, state=state, outcome=outcome, actor="ada", now=at + 1)


def test_what_is_known_good_and_what_is_bad_outlive_many_actions_that_judge_nothing(ledger: SqliteLedger) -> None:
    run(ledger, "1.0.0", "canary", 100.0)
    run(ledger, "2.0.0", "canary", 110.0)
    run(ledger, "2.0.0", "rollback", 120.0, why="ShopErrors")
    for number in range(KEPT_ROLLOUTS + 1):
        run(ledger, "1.0.0", "action", 1000.0 + 10 * number, action="restart")
    for _again in range(2):
        good = last_known_good(ledger, SHOP)
        assert good is not None and good.release == "1.0.0"
        assert rolled_back(ledger, SHOP) == ["2.0.0"]
        ledger.prune(2000.0, ledger.head(), "ada", 3000.0)
    assert ledger.verify() is None
    assert len(ledger.last_rollouts(SHOP, 100)) == KEPT_ROLLOUTS + 2


def test_a_rollback_of_somebodys_own_play_finds_its_release_bad(ledger: SqliteLedger) -> None:
    run(ledger, "1.0.0", "canary", 100.0)
    run(ledger, "2.0.0", "canary", 110.0)
    run(ledger, "2.0.0", "action", 120.0, action="rollback")
    good = last_known_good(ledger, SHOP)
    assert good is not None and good.release == "1.0.0"


@pytest.mark.parametrize("pruned", [False, True])
def test_an_outcome_that_was_altered_is_named(ledger: SqliteLedger, path: Path, pruned: bool) -> None:
    """By its outcome a held rollout goes on."""
    held = run(ledger, "2.0.0", "canary", 100.0, "undone")
    ledger.append(SHOP, "note", "ada", {}, 500.0)
    if pruned:
        assert ledger.prune(400.0, ledger.head(), "ada", 600.0) is not None
    assert ledger.verify() is None
    with closing(sqlite3.connect(str(path))) as db:
        db.execute("UPDATE rollout SET outcome = '{}'")
        db.commit()
    assert ledger.verify() == f"The outcome of rollout {held.id} is not the one that the last entry about it says."


def test_a_template_with_a_masked_secret_is_not_the_release_that_ran(ledger: SqliteLedger) -> None:
    for release, args in (("1.0.0", []), ("1.1.0", ["--db=postgres://shop:hunter2@db/shop"])):
        template = {"spec": {"containers": [{"name": "shop", "image": "shop", "args": args}]}}
        ledger.append(SHOP, "outcome", "ada", {"place": "eu", "current": release, "template": template}, 100.0)
    found = {release: kept_template(ledger, SHOP, "eu", release) for release in ("1.0.0", "1.1.0")}
    assert {release: kept is not None and is_masked(kept[1]) for release, kept in found.items()} == {
        "1.0.0": False,
        "1.1.0": True,
    }
