# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What retention and verify must not overlook: which release is good, and how a rollout ended."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Iterator, List, Mapping

import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import (
    is_masked,
    kept_template,
    last_known_good,
    rolled_back,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.retention import KEPT_ROLLOUTS

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


@pytest.mark.parametrize(("args", "masked"), [([], False), (["--db=postgres://shop:hunter2@db/shop"], True)])
def test_a_template_with_a_masked_secret_is_not_the_release_that_ran(
    ledger: SqliteLedger, args: List[str], masked: bool
) -> None:
    template = {"spec": {"containers": [{"name": "shop", "image": "shop", "args": args}]}}
    done = run(ledger, "1.0.0", "canary", 100.0)
    told = {"rollout": done.id, "place": "eu", "current": "1.0.0", "template": template, "images": {"shop": "sha256:1"}}
    ledger.append(SHOP, "outcome", "ada", told, 101.0)
    kept, good = kept_template(ledger, SHOP, "eu", "1.0.0"), last_known_good(ledger, SHOP)
    assert kept is not None and is_masked(kept[1]) == masked
    images = {"images": {"shop": "sha256:1"}}
    assert good is not None and good.recorded["eu"] == (images if masked else {**images, "template": template})


def test_what_is_held_is_asked_about_at_each_look_and_recorded_once(ledger: SqliteLedger) -> None:
    what = rollouts.Begin(SHOP, "2.0.0", "canary", {"fleet": ["eu"]})
    rollout, _lease = rollouts.begin(ledger, what, holder="run", actor="ada", ttl=30, now=100.0)
    ledger.pause(SHOP, "ada", "INC-1", None, 101.0)
    before = len(ledger.entries())
    for look in range(5):
        asked = ledger.check(rollouts.widening(rollout, 1, "cron"), parse_guard({}, SHOP), now=110.0 + look)
        assert asked.reason == "paused"
    ledger.unpause(SHOP, "ada", "over", 120.0)
    assert ledger.check(rollouts.widening(rollout, 1, "cron"), parse_guard({}, SHOP), now=121.0).allowed
    kinds = [entry.kind for entry in ledger.entries()][before:]
    assert kinds == ["trigger", "decision", "pause", "decision"]
