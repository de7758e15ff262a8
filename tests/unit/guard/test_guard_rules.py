# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger's rules, without a store: what each of them refuses, in words, and what it lets through."""

from __future__ import annotations

from typing import Callable, Type

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import (
    DeliveryError,
    LeaseError,
    OptionError,
    RolloutError,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rules
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout

NOW = 1000.0
MINE = Lease("shop", "run 1", 7, NOW + 30)
THEIRS = Lease("shop", "run 2", 8, NOW + 30)
OPEN = Rollout("r1", "shop", "2.0.0", "canary", "open", 7, NOW, NOW, by="ada")
DONE = Rollout("r0", "shop", "1.0.0", "canary", "done", 6, NOW, NOW, by="ada")
OTHERS = Rollout("r2", "cart", "2.0.0", "canary", "open", 7, NOW, NOW, by="ada")
NEW = Rollout("r3", "shop", "3.0.0", "canary", "", 0, 0.0, 0.0)
NAMELESS = Rollout("", "shop", "3.0.0", "canary", "", 0, 0.0, 0.0)

REFUSED = [
    (lambda: rules.grant(None, "", "run 1", 30, NOW), OptionError, "A lease needs a service"),
    (lambda: rules.grant(None, "shop", "run 1", 0, NOW), OptionError, "a time to live"),
    (lambda: rules.grant(THEIRS, "shop", "run 1", 30, NOW), LeaseError, "run 2 is at work on it and holds"),
    (lambda: rules.hold(None, MINE, NOW), LeaseError, "was lost: it is gone"),
    (lambda: rules.hold(THEIRS, MINE, NOW), LeaseError, "was lost: run 2 has it now"),
    (lambda: rules.hold(THEIRS, MINE, NOW + 60), LeaseError, "was lost: it is gone"),
    (lambda: rules.hold(MINE, MINE, NOW + 30), LeaseError, "has expired or was given back"),
    (lambda: rules.begin(MINE, OTHERS, None, "ada", NOW), RolloutError, "Rollout r2 is one of cart"),
    (lambda: rules.begin(MINE, NAMELESS, None, "ada", NOW), OptionError, "needs an id"),
    (lambda: rules.begin(MINE, NEW, OPEN, "ada", NOW), RolloutError, "Rollout r1 of release 2.0.0, started by ada"),
    (lambda: rules.unfinished(MINE, "r9", None), RolloutError, "knows no rollout r9"),
    (lambda: rules.unfinished(MINE, "r2", OTHERS), RolloutError, "is one of cart"),
    (lambda: rules.unfinished(MINE, "r0", DONE), RolloutError, "Rollout r0 is closed already"),
    (lambda: rules.move(MINE, OPEN, "undon", {}, NOW), OptionError, "did you mean 'undone'"),
    (lambda: rules.speak("shop", "abrt", "ada", "", OPEN, OPEN), OptionError, "did you mean 'abort'"),
    (lambda: rules.speak("shop", "abort", " ", "", OPEN, OPEN), OptionError, "Somebody has to say it"),
    (lambda: rules.speak("shop", "promote", "ada", "", OPEN, OPEN), OptionError, "needs a reason"),
    (lambda: rules.speak("shop", "abort", "ada", "", None, DONE), RolloutError, "its last one, r0 of release 1.0.0"),
    (lambda: rules.speak("shop", "abort", "ada", "", None, None), RolloutError, "it never had one"),
    (lambda: rules.pausing("", "INC-1", None, NOW), OptionError, "Somebody has to pause it"),
    (lambda: rules.pausing("ada", " ", None, NOW), OptionError, "A pause needs a reason"),
    (lambda: rules.pausing("ada", "INC-1", NOW, NOW), OptionError, "would be over already"),
    (lambda: rules.unpausing("shop", "", True), OptionError, "Somebody has to lift the pause"),
    (lambda: rules.unpausing("shop", "ada", False), RolloutError, "It is not paused"),
    (lambda: rules.unpausing("", "ada", False), RolloutError, "Everything is not paused"),
    (lambda: rules.approving("shop", "d1", "", None), OptionError, "Somebody has to approve it"),
    (lambda: rules.approving("shop", "d1", "ada", "it expired"), RolloutError, "d1 cannot be approved: it expired"),
    (lambda: rules.own_note("", ("memory:",)), OptionError, "is written by the ledger itself"),
    (lambda: rules.own_note("memory:shop", ("memory:",)), OptionError, "is written by the ledger itself"),
    (lambda: rules.own_kind(""), OptionError, "are written by the ledger itself"),
    (lambda: rules.own_kind("decision"), OptionError, "are written by the ledger itself"),
]


@pytest.mark.parametrize(("wish", "error", "words"), REFUSED, ids=[words for _wish, _error, words in REFUSED])
def test_what_is_refused_says_why(wish: Callable[[], object], error: Type[DeliveryError], words: str) -> None:
    with pytest.raises(error) as caught:
        wish()
    assert type(caught.value) is error and words in str(caught.value)


def test_a_token_only_rises_and_the_first_is_the_time() -> None:
    first = rules.grant(None, "shop", "run 1", 30, NOW)
    assert first == Lease("shop", "run 1", 1000, NOW + 30)
    assert rules.grant(None, "shop", "run 1", 30, -5.0).token == 1
    assert rules.grant(MINE, "shop", "run 2", 30, NOW + 31).token == 8
    assert rules.hold(MINE, MINE, NOW) is MINE
    assert rules.prolong(MINE, 5, NOW).expires == NOW + 30  # never shorter
    assert rules.prolong(MINE, 60, NOW).expires == NOW + 60


def test_what_is_begun_and_moved_carries_the_newest_token() -> None:
    begun = rules.begin(THEIRS, NEW, None, "ada", NOW)
    assert (begun.state, begun.token, begun.by, begun.opened_at) == ("open", 8, "ada", NOW)
    moved = rules.move(THEIRS, OPEN, "undone", {"why": "errors"}, NOW + 1)
    assert (moved.state, moved.token, moved.outcome, moved.updated_at) == ("undone", 8, {"why": "errors"}, NOW + 1)
    assert rules.unfinished(MINE, "r1", OPEN) is OPEN
    assert rules.speak("shop", "promote", "ada", "INC-1", OPEN, OPEN) is OPEN


def test_what_people_may_say_passes() -> None:
    rules.pausing("ada", "INC-1", None, NOW)
    rules.pausing("ada", "INC-1", NOW + 1, NOW)
    rules.unpausing("shop", "ada", True)
    rules.approving("shop", "d1", "ada", None)
    rules.own_note("outbox", ("memory:",))
    rules.own_kind("note")
