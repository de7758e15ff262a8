# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper renews while it may, and says so when it may not. Time is turned by hand; the thread is a real one."""

from __future__ import annotations

import time
from pathlib import Path
from queue import Queue
from typing import Callable, Iterator

import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError, OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.keeper import LeaseKeeper
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease

TTL = 30.0


class Turn:
    """Steps the keeper's thread by hand: `round` lets it renew once and returns when it waits again."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.parent = 42
        self.waits: Queue[float] = Queue()
        self.go: Queue[bool] = Queue()

    def wait(self, seconds: float) -> bool:
        self.waits.put(seconds)
        return self.go.get(timeout=30)

    def renewed_once(self) -> float:
        return self.waits.get(timeout=30)

    def round(self, seconds: float) -> None:
        self.now += seconds
        self.go.put(False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(str(path))
    yield ledger
    ledger.close()


@pytest.fixture
def turn() -> Turn:
    return Turn()


def keeper_of(turn: Turn, lease: Lease, factory: Callable[[], Ledger]) -> LeaseKeeper:
    return LeaseKeeper(factory, lease, ttl=TTL, clock=lambda: turn.now, parent=lambda: turn.parent, wait=turn.wait)


@pytest.fixture
def keeper(turn: Turn, ledger: SqliteLedger, path: Path) -> LeaseKeeper:
    lease = ledger.acquire("shop", "run", TTL, turn.now)
    return keeper_of(turn, lease, lambda: SqliteLedger(str(path)))


def test_it_renews_every_third_of_the_time_to_live(turn: Turn, keeper: LeaseKeeper, ledger: SqliteLedger) -> None:
    with keeper:
        for _round in range(5):
            assert turn.renewed_once() == TTL / 3
            assert keeper.check().expires == turn.now + TTL
            assert ledger.holder("shop", turn.now) == keeper.check()
            turn.round(TTL / 3)
        turn.renewed_once()
        turn.go.put(True)
    assert not keeper.lost
    assert keeper.check().expires == turn.now + TTL


def test_it_stops_when_somebody_else_has_the_lease(turn: Turn, keeper: LeaseKeeper, ledger: SqliteLedger) -> None:
    with keeper:
        lease = keeper.check()
        turn.renewed_once()
        ledger.release(lease, turn.now)
        ledger.acquire("shop", "reconcile", TTL, turn.now)
        turn.round(TTL / 3)
        keeper._thread.join(30)
    assert keeper.lost
    with pytest.raises(LeaseError, match="shop: The lease of run .* was lost: reconcile has it now"):
        keeper.check()


def test_it_stops_when_the_parent_process_is_gone(turn: Turn, keeper: LeaseKeeper, ledger: SqliteLedger) -> None:
    with keeper:
        turn.renewed_once()
        turn.parent = 1
        assert keeper.lost
        with pytest.raises(LeaseError, match="The process that started this one is gone"):
            keeper.check()
        turn.round(TTL / 3)
    renewed = ledger.holder("shop", turn.now)
    assert renewed is not None and renewed.expires == 1000.0 + TTL


def test_the_thread_itself_stops_for_a_lost_parent(turn: Turn, keeper: LeaseKeeper) -> None:
    with keeper:
        turn.renewed_once()
        turn.parent = 1
        turn.round(TTL / 3)
        keeper._thread.join(30)
        assert not keeper._thread.is_alive()
    assert keeper.lost


def test_a_lease_that_ran_out_is_lost_before_the_thread_wakes_up(turn: Turn, keeper: LeaseKeeper) -> None:
    with keeper:
        turn.renewed_once()
        turn.now += TTL
        with pytest.raises(LeaseError, match="ran out before it could be renewed"):
            keeper.check()
        turn.go.put(True)


def test_a_store_that_fails_is_tried_again_until_the_lease_runs_out(turn: Turn, ledger: SqliteLedger) -> None:
    lease = ledger.acquire("shop", "run", TTL, turn.now)

    def down() -> Ledger:
        raise StoreError("The ledger is locked by another process")

    with keeper_of(turn, lease, down) as keeper:
        for _round in range(3):
            turn.renewed_once()
            assert not keeper.lost
            turn.round(TTL / 3)
        turn.renewed_once()
        turn.go.put(True)
    with pytest.raises(LeaseError, match=r"could be renewed \(The ledger is locked by another process\)"):
        keeper.check()


def test_a_store_that_comes_back_in_time_loses_nothing(turn: Turn, ledger: SqliteLedger, path: Path) -> None:
    lease = ledger.acquire("shop", "run", TTL, turn.now)
    down = True

    def flaky() -> Ledger:
        if down:
            raise StoreError("The ledger is locked by another process")
        return SqliteLedger(str(path))

    with keeper_of(turn, lease, flaky) as keeper:
        turn.renewed_once()
        turn.now += TTL - 1
        down = False
        turn.round(0)
        turn.renewed_once()
        assert keeper.check().expires == turn.now + TTL
        turn.go.put(True)


def test_a_copy_of_the_lease_from_long_ago_is_good_while_the_ledger_says_so(
    turn: Turn, ledger: SqliteLedger, path: Path
) -> None:
    old = ledger.acquire("shop", "run", TTL, turn.now)
    turn.now += TTL - 1
    ledger.renew(old, TTL, turn.now)
    turn.now += TTL - 1
    with keeper_of(turn, old, lambda: SqliteLedger(str(path))) as keeper:
        assert keeper.check().expires == turn.now + TTL
        turn.go.put(True)


def test_it_does_not_begin_under_a_lease_that_is_lost(turn: Turn, ledger: SqliteLedger, path: Path) -> None:
    old = ledger.acquire("shop", "run", TTL, turn.now)
    ledger.acquire("shop", "reconcile", TTL, turn.now + TTL)
    with pytest.raises(LeaseError, match="was lost: reconcile has it now"):
        keeper_of(turn, old, lambda: SqliteLedger(str(path))).__enter__()


def test_it_does_not_begin_with_a_ledger_that_can_never_be_opened(turn: Turn, ledger: SqliteLedger) -> None:
    lease = ledger.acquire("shop", "run", TTL, turn.now)

    def wrong() -> Ledger:
        raise OptionError("The ledger has no option 'pahth'")

    with pytest.raises(OptionError, match="no option 'pahth'"):
        keeper_of(turn, lease, wrong).__enter__()


def test_it_works_with_the_real_clock_and_parent_and_does_not_give_the_lease_back(
    ledger: SqliteLedger, path: Path
) -> None:
    lease = ledger.acquire("shop", "run", TTL, time.time())
    with LeaseKeeper(lambda: SqliteLedger(str(path)), lease, ttl=TTL) as keeper:
        assert keeper.check().token == lease.token
    assert ledger.holder("shop", time.time()) == keeper.check()
