# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever happens in whatever order: one valid lease, rising tokens, one unfinished rollout, a whole chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Dict, List

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError, RolloutError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import STATES, UNFINISHED, Lease, Rollout

SERVICES = st.sampled_from(["shop", "bank"])
HOLDERS = st.sampled_from(["ada", "bob"])
TTLS = st.sampled_from([1.0, 10.0])


class LedgerMachine(RuleBasedStateMachine):
    """A ledger beside the plainest model of it: the newest lease of each service, and each rollout's state."""

    leases = Bundle("leases")

    def __init__(self, fresh: Callable[[], Ledger]) -> None:
        super().__init__()
        self.ledger = fresh()
        self.now = 1000.0
        self.granted: List[Lease] = []
        self.newest: Dict[str, Lease] = {}
        self.states: Dict[str, str] = {}
        self.services: Dict[str, str] = {}

    def valid(self, lease: Lease) -> bool:
        newest = self.newest[lease.service]
        return (newest.token, newest.holder) == (lease.token, lease.holder) and newest.expires > self.now

    def unfinished(self, service: str) -> List[str]:
        return [name for name, state in self.states.items() if self.services[name] == service and state in UNFINISHED]

    @rule(seconds=st.floats(-5, 12))
    def time_passes_or_is_set_back(self, seconds: float) -> None:
        self.now += seconds

    @rule(target=leases, service=SERVICES, holder=HOLDERS, ttl=TTLS)
    def acquire(self, service: str, holder: str, ttl: float) -> object:
        newest = self.newest.get(service)
        if newest is not None and newest.expires > self.now:
            with pytest.raises(LeaseError, match=newest.holder):
                self.ledger.acquire(service, holder, ttl, self.now)
            return multiple()
        lease = self.ledger.acquire(service, holder, ttl, self.now)
        assert lease.token > (newest.token if newest else 0)
        assert lease.expires == self.now + ttl
        self.newest[service] = lease
        self.granted.append(lease)
        return lease

    @rule(lease=leases, ttl=TTLS)
    def renew(self, lease: Lease, ttl: float) -> None:
        if not self.valid(lease):
            with pytest.raises(LeaseError):
                self.ledger.renew(lease, ttl, self.now)
            return
        renewed = self.ledger.renew(lease, ttl, self.now)
        assert renewed.expires == max(self.newest[lease.service].expires, self.now + ttl)
        self.newest[lease.service] = renewed

    @rule(lease=leases)
    def give_back(self, lease: Lease) -> None:
        self.ledger.release(lease, self.now)
        newest = self.newest[lease.service]
        if (newest.token, newest.holder) == (lease.token, lease.holder):
            self.newest[lease.service] = replace(newest, expires=0.0)

    @rule(lease=leases)
    def open_rollout(self, lease: Lease) -> None:
        name = f"r{len(self.states)}"
        wanted = Rollout(name, lease.service, "2.0", "canary", "", 0, 0.0, 0.0, {"places": ["web1"]})
        if not self.valid(lease):
            with pytest.raises(LeaseError):
                self.ledger.open_rollout(lease, wanted, "ada", self.now)
        elif self.unfinished(lease.service):
            with pytest.raises(RolloutError, match=self.unfinished(lease.service)[0]):
                self.ledger.open_rollout(lease, wanted, "ada", self.now)
        else:
            opened = self.ledger.open_rollout(lease, wanted, "ada", self.now)
            assert (opened.state, opened.token, opened.by) == ("open", lease.token, "ada")
            self.states[name], self.services[name] = "open", lease.service

    @rule(lease=leases, state=st.sampled_from(STATES), data=st.data())
    def move(self, lease: Lease, state: str, data: st.DataObject) -> None:
        if not self.states:
            return
        name = data.draw(st.sampled_from(sorted(self.states)))
        if not self.valid(lease):
            with pytest.raises(LeaseError):
                self.ledger.set_state(lease, name, state, {}, "ada", self.now)
        elif self.services[name] != lease.service or self.states[name] not in UNFINISHED:
            with pytest.raises(RolloutError):
                self.ledger.set_state(lease, name, state, {}, "ada", self.now)
        else:
            assert self.ledger.set_state(lease, name, state, {}, "ada", self.now).token == lease.token
            self.states[name] = state

    @rule(lease=leases, data=st.data())
    def look(self, lease: Lease, data: st.DataObject) -> None:
        if not self.states:
            return
        name = data.draw(st.sampled_from(sorted(self.states)))
        mine = self.services[name] == lease.service and self.states[name] in UNFINISHED
        if self.valid(lease) and mine:
            renewed, _said = self.ledger.look(lease, name, {"at": self.now}, ttl=5.0, now=self.now)
            self.newest[lease.service] = renewed
            return
        with pytest.raises(RolloutError if self.valid(lease) else LeaseError):
            self.ledger.look(lease, name, {"at": self.now}, ttl=5.0, now=self.now)

    @rule(service=SERVICES)
    def say(self, service: str) -> None:
        if not self.unfinished(service):
            with pytest.raises(RolloutError):
                self.ledger.say(service, "hold", "ada", "", self.now)
            return
        assert self.ledger.say(service, "hold", "ada", "", self.now).rollout == self.unfinished(service)[0]

    @invariant()
    def one_lease_at_most_can_write(self) -> None:
        for service in self.newest:
            writers = [lease for lease in self.granted if lease.service == service and self.may_write(lease)]
            assert len(writers) <= 1
            assert writers == [lease for lease in self.granted if lease.service == service and self.valid(lease)]
            holder = self.ledger.holder(service, self.now)
            assert (holder is not None) == bool(writers)

    def may_write(self, lease: Lease) -> bool:
        try:
            self.ledger.append(lease.service, "note", "ada", {}, self.now, lease)
        except LeaseError:
            return False
        return True

    @invariant()
    def tokens_only_rise(self) -> None:
        for service in self.newest:
            tokens = [lease.token for lease in self.granted if lease.service == service]
            assert tokens == sorted(set(tokens))

    @invariant()
    def rollouts_are_where_they_were_left(self) -> None:
        found = {rollout.id: rollout.state for rollout in self.ledger.last_rollouts(limit=1000)}
        assert found == self.states
        assert all(len(self.unfinished(service)) <= 1 for service in self.newest)

    def teardown(self) -> None:
        assert self.ledger.verify() is None
        self.ledger.close()
