# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The next way back of one incident: what the first one set off does not stand against it, and all else does."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import decision as say
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import (
    Grant,
    Request,
    Situation,
    Trigger,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import DONE, OPEN, UNDONE, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard
from tests.tools.ledgers import SqliteLedger

NOW = 1_800_000_000.0
POLICY = parse_guard({"mode": "act", "alerts": ["High"]}, "shop")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    book = SqliteLedger(str(tmp_path / "ledger.db"))
    yield book
    book.close()


def asked(
    ledger: SqliteLedger, ident: str, action: str, *, after: str = "", incident: str = "f1", now: float = NOW
) -> Grant:
    situation = Situation(confirmed=True, current="2.0", known_good="1.9", changed_at=NOW - 600, places=4, services=20)
    trigger = Trigger(say.ALERT, "High", incident, NOW - 60)
    wish = Request(ident, "shop", action, trigger, "test", situation, after=after)
    intent: Dict[str, object] = {"action": action, "trigger": incident}
    opens = Rollout(ident, "shop", "2.0", "action", OPEN, 0, 0.0, 0.0, intent)
    return ledger.decide(wish, POLICY, holder="here", ttl=60, now=now, opens=opens)


def switched(ledger: SqliteLedger, *, ok: bool, verified: Optional[str] = None) -> None:
    """A flag was turned off, and that is over."""
    grant = asked(ledger, "flag", say.FLAG_OFF)
    assert grant.lease is not None, grant.decision.message
    outcome: Dict[str, object] = {"ok": ok, **({"verified": {"verdict": verified}} if verified else {})}
    ledger.set_state(grant.lease, "flag", DONE if ok else UNDONE, outcome, "test", NOW + 5)
    ledger.release(grant.lease, NOW + 5)


@pytest.mark.parametrize(("ok", "verified"), [(False, None), (True, "not_recovered")])
def test_what_did_not_help_says_nothing_against_the_next_way(
    ledger: SqliteLedger, ok: bool, verified: Optional[str]
) -> None:
    switched(ledger, ok=ok, verified=verified)
    alone = ledger.check(
        Request("x", "shop", say.RESTART, Trigger(say.ALERT, "High", "f1", NOW - 60), "test", Situation(True)),
        POLICY,
        now=NOW + 6,
        record=False,
    )
    assert alone.verdict == say.DENIED  # on its own it would have to wait
    assert asked(ledger, "back", say.ROLLBACK, after="flag", now=NOW + 6).decision.allowed
    ledger.release(ledger.holder("shop", NOW + 7), NOW + 7)  # type: ignore[arg-type]


def test_it_is_the_next_way_only_once(ledger: SqliteLedger) -> None:
    switched(ledger, ok=False)
    grant = asked(ledger, "back", say.ROLLBACK, after="flag", now=NOW + 6)
    assert grant.lease is not None
    ledger.set_state(grant.lease, "back", UNDONE, {"ok": False}, "test", NOW + 9)
    ledger.release(grant.lease, NOW + 9)
    assert not asked(ledger, "again", say.RESTART, after="flag", now=NOW + 10).decision.allowed


@pytest.mark.parametrize(
    ("what", "after", "incident", "later"),
    [
        ("another incident", "flag", "f2", 6.0),
        ("another action", "flog", "f1", 6.0),
        ("too long ago", "flag", "f1", 5.0 + 900.0),
    ],
)
def test_only_after_the_very_action(ledger: SqliteLedger, what: str, after: str, incident: str, later: float) -> None:
    switched(ledger, ok=False)
    grant = asked(ledger, "back", say.ROLLBACK, after=after, incident=incident, now=NOW + later)
    assert not grant.decision.allowed, what


def test_what_helped_is_not_followed_by_another(ledger: SqliteLedger) -> None:
    switched(ledger, ok=True, verified="recovered")
    assert not asked(ledger, "back", say.ROLLBACK, after="flag", now=NOW + 6).decision.allowed


def test_a_pause_stands_against_it(ledger: SqliteLedger) -> None:
    switched(ledger, ok=False)
    ledger.pause("shop", "ada", "let me look", None, NOW + 5.5)
    denied = asked(ledger, "back", say.ROLLBACK, after="flag", now=NOW + 6).decision
    assert denied.reason == say.PAUSED
