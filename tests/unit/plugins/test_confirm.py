# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is it bad now? At once where a source remembers, by looks where it does not, and never by nobody's answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import pytest
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.confirm import Confirmation
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Absent, Counts
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import parse_policy
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Presence, Reading, Sample, Value
from ansible_collections.selfheal.delivery.plugins.plugin_utils._watch import Hands, confirm

PLACES = ("web1", "web2", "web3")
ERRORS = {"name": "errors", "bad": "bad", "total": "total", "max": 0.1, "floor": 0.05, "min_requests": 50}
QUEUE = {"name": "queue", "type": "value", "value": "queue", "max": 100}
Slots = Sequence[Mapping[str, Counts]]


class Asked:
    """A service that a test asks about; the clock moves only while it is waited for."""

    def __init__(self, folder: Path) -> None:
        self.ledger = SqliteLedger(str(folder / "ledger.sqlite"))
        self.now, self.looks, self.lines = 1000.0, 0, []  # type: float, int, List[str]
        self.bad = dict.fromkeys(PLACES, 0.0)
        self.up = dict.fromkeys(PLACES, True)
        self.queue: Optional[float] = None
        self.away: Optional[Absent] = None
        self.served: Dict[str, List[float]] = {place: [0.0, 0.0] for place in PLACES}
        self.read_at = self.now

    def sample(self) -> Sample:
        self.looks += 1
        passed, self.read_at = self.now - self.read_at, self.now
        if self.away is not None:
            return Sample(self.now, down=self.away)
        answers: Dict[str, Dict[str, Any]] = {"errors": {}, "queue": {}}
        for place in [place for place in PLACES if self.up[place]]:
            bad, total = self.served[place]
            self.served[place] = [bad + self.bad[place] * 100 * passed, total + 100 * passed]
            answers["errors"][place] = Reading(self.now, *self.served[place], start=1.0)
            if self.queue is not None:
                answers["queue"][place] = Value(self.now, self.queue)
        return Sample(self.now, answers, {place: Presence(up, 1.0) for place, up in self.up.items()})

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def answer(
        self, *gates: Mapping[str, object], past: Optional[Slots] = None, levels: Mapping[str, float] = {}
    ) -> Confirmation:
        raw = {"source": {"type": "exposition"}, "gates": list(gates), "bake": {"look_every": 1, "verify_for": 10}}
        hands = Hands(
            self.ledger,
            [self.sample],
            say=self.lines.append,
            page=self.lines.append,
            ttl=30.0,
            pasts=[] if past is None else [lambda: {"errors": past}],
            clock=lambda: self.now,
            sleep=self.sleep,
        )
        return confirm(hands, parse_policy(raw, "shop"), PLACES, levels)


def slots(*rates: Optional[float], requests: float = 1000) -> Slots:
    """One slot for each share of bad requests, oldest first; None has no requests."""
    return [
        {} if rate is None else {place: Counts(requests * rate / 3, requests / 3) for place in PLACES} for rate in rates
    ]


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


def test_what_the_source_remembers_confirms_without_a_look(asked: Asked) -> None:
    told = asked.answer(ERRORS, past=slots(0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5))
    assert (told.confirmed, told.reason, asked.looks, told.elapsed) == (True, "errors", 0, 0.0)
    assert told.level == pytest.approx(5.0)  # times its limit
    assert told.as_dict()["verdict"] == "fail"
    json.dumps(told.as_dict(), allow_nan=False)


def test_it_is_bad_since_a_moment_only(asked: Asked) -> None:
    assert asked.answer(ERRORS, past=slots(*[0] * 7, 0.3)).confirmed is True


def test_an_alert_that_still_fires_after_the_fix_is_not_confirmed(asked: Asked) -> None:
    told = asked.answer(ERRORS, past=slots(*[0.5] * 7, 0))
    assert (told.confirmed, asked.looks) == (False, 1)


def test_slots_with_few_requests_are_taken_together(asked: Asked) -> None:
    assert asked.answer(ERRORS, past=slots(*[0.5] * 8, requests=8)).confirmed is True
    assert asked.answer(ERRORS, past=slots(*[0.0] * 8, requests=8)).confirmed is False


def test_it_is_held_against_what_it_showed_when_it_last_passed(asked: Asked) -> None:
    loose = {**ERRORS, "max": 0.9, "floor": 0.001}
    remembered = slots(*[0.02] * 8)
    assert asked.answer(loose, past=remembered, levels={"errors": 0.001}).confirmed is True
    assert asked.answer(loose, past=remembered, levels={"errors": 0.02}).confirmed is False


def test_a_good_service_is_known_at_the_first_look_where_the_past_answers(asked: Asked) -> None:
    told = asked.answer(ERRORS, past=slots(*[0.0] * 8))
    assert (told.confirmed, asked.looks) == (False, 1)


def test_a_value_is_looked_at_twice_before_it_confirms(asked: Asked) -> None:
    asked.queue = 200.0
    told = asked.answer(ERRORS, QUEUE, past=slots(*[0.0] * 8))
    assert (told.confirmed, told.reason, asked.looks) == (True, "queue", 2)


def test_without_a_past_it_is_watched(asked: Asked) -> None:
    asked.bad = dict.fromkeys(PLACES, 0.5)
    told = asked.answer(ERRORS)
    assert told.confirmed is True
    assert asked.looks <= 4
    asked.bad = dict.fromkeys(PLACES, 0.0)
    good = asked.answer(ERRORS)
    assert (good.confirmed, good.reason, good.elapsed) == (False, "", 10.0)


@pytest.mark.parametrize("past", [None, [], slots(*[None] * 8)])
def test_a_source_that_is_away_is_neither_bad_nor_good(asked: Asked, past: Optional[Slots]) -> None:
    asked.away = Absent("provider_error", "refused")
    told = asked.answer(ERRORS, past=past)
    assert (told.confirmed, told.reason, asked.looks) == (None, "provider_error", 2)
    assert told.as_dict()["verdict"] == "inconclusive"
    json.dumps(told.as_dict(), allow_nan=False)


def test_no_traffic_is_neither_bad_nor_good(asked: Asked) -> None:
    asked.served = {}
    asked.sample = lambda: Sample(asked.now, {}, {place: Presence(True, 1.0) for place in PLACES})  # type: ignore[method-assign]
    assert asked.answer(ERRORS).confirmed is None


@pytest.mark.parametrize(("down", "confirmed"), [(1, False), (2, True), (3, None)])
def test_places_that_are_gone(asked: Asked, down: int, confirmed: Optional[bool]) -> None:
    """One is a lost node, most are the release, and all may as well be the way there."""
    for place in PLACES[:down]:
        asked.up[place] = False
    assert asked.answer(ERRORS).confirmed is confirmed
