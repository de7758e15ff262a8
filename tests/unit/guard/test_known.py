# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last known good release by a real ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.known import (
    found_bad,
    kept_template,
    last_known_good,
    rolled_back,
)

TEMPLATE: Dict[str, Any] = {"spec": {"containers": [{"name": "shop", "image": "shop:1.0.0"}]}}


class Story:
    """Rollouts of one service, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ledger = SqliteLedger(str(path))
        self._now = 100.0

    def rollout(self, release: str, state: str, verdict: str = "pass", kind: str = "canary", **kept: object) -> str:
        self._now += 10
        why = {"why": "alert ShopErrors"} if kind == "rollback" else {}
        what = rollouts.Begin("test/shop", release, kind, {"fleet": ["eu"], **why})
        rollout, lease = rollouts.begin(self.ledger, what, holder="run", actor="ada", ttl=30, now=self._now)
        body = {"rollout": rollout.id, "place": "eu", "ok": True, **kept}
        self.ledger.append("test/shop", "outcome", "ada", body, self._now)
        outcome: Mapping[str, object] = {"bake": {"verdict": verdict}}
        rollouts.close(self.ledger, lease, rollout.id, state=state, outcome=outcome, actor="ada", now=self._now + 1)
        return rollout.id


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    story = Story(tmp_path / "ledger.sqlite")
    yield story
    story.ledger.close()


def test_it_is_the_newest_that_passed_with_what_was_kept_of_it(story: Story) -> None:
    story.rollout("1.0.0", "done")
    passed = story.rollout("1.1.0", "done", template=TEMPLATE)
    story.rollout("2.0.0", "undone", "fail")
    good = last_known_good(story.ledger, "test/shop")
    assert good is not None
    assert (good.release, good.rollout, good.by, good.recorded) == (
        "1.1.0",
        passed,
        "ada",
        {"eu": {"template": TEMPLATE}},
    )


def test_one_that_was_found_bad_later_is_not_good_any_more(story: Story) -> None:
    story.rollout("1.0.0", "done")
    story.rollout("1.1.0", "done")
    story.rollout("1.1.0", "undone", "fail")  # watched once more, and taken back
    good = last_known_good(story.ledger, "test/shop")
    assert good is not None and good.release == "1.0.0"


def test_an_undo_that_judged_nothing_takes_no_name_away(story: Story) -> None:
    story.rollout("1.0.0", "done")
    story.rollout("1.0.0", "undone", "inconclusive")
    good = last_known_good(story.ledger, "test/shop")
    assert good is not None and good.release == "1.0.0"


def test_a_release_is_bad_by_its_last_test_alone(story: Story) -> None:
    story.rollout("2.0.0", "undone", "fail")
    assert found_bad(story.ledger, "test/shop", "2.0.0") == "its gates failed"
    assert found_bad(story.ledger, "test/shop", "1.0.0") is None
    story.rollout("2.0.0", "done")
    assert found_bad(story.ledger, "test/shop", "2.0.0") is None


@pytest.mark.parametrize("reason, why", [("worse_than_baseline", "its gates failed"), ("aborted", None)])
def test_a_verdict_whose_controller_died_before_it_could_undo_counts(
    story: Story, reason: str, why: Optional[str]
) -> None:
    what = rollouts.Begin("test/shop", "2.0.0", "canary", {"fleet": ["eu"]})
    rollout, lease = rollouts.begin(story.ledger, what, holder="run", actor="ada", ttl=30, now=100.0)
    bake = {"bake": {"phase": "failed", "reason": reason}}
    lease, _commands = story.ledger.look(lease, rollout.id, bake, ttl=30, now=101.0, after=0)
    # reconcile has no verdict of its own
    outcome: Mapping[str, object] = {"bake": {}}
    rollouts.close(story.ledger, lease, rollout.id, state="undone", outcome=outcome, actor="ada", now=102.0)
    assert found_bad(story.ledger, "test/shop", "2.0.0") == why


@pytest.mark.parametrize("state", ["done", "undone", "unresolved"])
def test_to_roll_a_release_back_is_to_find_it_bad_whatever_becomes_of_that(story: Story, state: str) -> None:
    story.rollout("1.0.0", "done")
    story.rollout("2.0.0", "done")
    story.rollout("2.0.0", state, "", kind="rollback")
    good = last_known_good(story.ledger, "test/shop")
    assert good is not None and good.release == "1.0.0"
    assert rolled_back(story.ledger, "test/shop") == ["2.0.0"]
    assert found_bad(story.ledger, "test/shop", "2.0.0") == "alert ShopErrors"


def test_a_release_that_passed_again_was_not_bad_for_ever(story: Story) -> None:
    story.rollout("2.0.0", "done", "", kind="rollback")
    story.rollout("1.0.0", "done", "", kind="action")  # judges nothing
    assert last_known_good(story.ledger, "test/shop") is None
    story.rollout("2.0.0", "done")
    assert rolled_back(story.ledger, "test/shop") == []


def test_what_restores_a_release_outlives_the_entries_that_recorded_it(story: Story) -> None:
    story.rollout("1.0.0", "done", current="1.0.0", template=TEMPLATE)
    for number in range(3):
        story.ledger.append("test/shop", "note", "ada", {"number": number}, 160.0)
    assert story.ledger.prune(155.0, story.ledger.head(), "ada", 10_000.0) is not None
    assert [entry.kind for entry in story.ledger.entries()] == ["note", "note", "note", "retention"]
    assert kept_template(story.ledger, "test/shop", "eu") == ("1.0.0", TEMPLATE)
    assert kept_template(story.ledger, "test/other", "eu") is None
    known = last_known_good(story.ledger, "test/shop")
    assert known is not None and (known.release, known.recorded) == ("1.0.0", {"eu": {"template": TEMPLATE}})
    assert story.ledger.verify() is None
