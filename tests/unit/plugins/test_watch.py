# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of a bake, with a clock of its own and a real ledger: what is written, renewed, obeyed, and gone on from."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import LeaseError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard import rollouts
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Lease, Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Absent, Counts
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Presence, Reading, Sample
from ansible_collections.selfheal.delivery.plugins.plugin_utils._watch import (
    HISTORY_STEP,
    Hands,
    Past,
    Progress,
    Scene,
    Taker,
    Watch,
    verify,
)

BEGAN = 1_000_000.0
TTL = 30.0
CANARY, OLD = ("web1",), ("web2", "web3", "web4")
BAKE: Dict[str, Any] = {"look_every": 1, "min_bake": 5, "deadline": 60, "extend": 0, "warm_up": 0, "verify_for": 5}


def policy(**bake: object) -> Policy:
    errors = {"name": "errors", "bad": "bad", "total": "total", "max": 0.1, "floor": 0.05, "min_requests": 50}
    raw = {"source": {"type": "exposition"}, "gates": [errors], "bake": {**BAKE, **bake}, "preset": "fast"}
    return parse_policy(raw, "shop")


class World:
    """Places that serve 100 requests a second each, a clock that only moves when somebody sleeps, and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.sqlite"
        self.ledger = SqliteLedger(str(self.path), busy_timeout=0.01)
        self.now, self.parent = BEGAN, 4711
        self.bad: Dict[str, float] = dict.fromkeys(CANARY + OLD, 0.0)
        self.down: Optional[Absent] = None
        self.lines: List[str] = []
        self.pages: List[str] = []
        self.looks = 0
        self.happens: Dict[int, Callable[[], object]] = {}  # by number of the sleep
        self.slept: List[float] = []
        self.served: Dict[str, List[float]] = {}
        self.read_at = BEGAN

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now += seconds
        self.happens.pop(len(self.slept), lambda: None)()
        assert len(self.slept) < 2000, "this bake never ends"

    def sample(self) -> Sample:
        self.looks += 1
        if self.down is not None:
            return Sample(self.now, down=self.down)
        passed, self.read_at = max(0.0, self.now - self.read_at), max(self.now, self.read_at)
        answers = {}
        for place, share in self.bad.items():
            bad, total = self.served.get(place, [0.0, 0.0])
            self.served[place] = [bad + share * 100 * passed, total + 100 * passed]
            answers[place] = Reading(self.now, *self.served[place], start=BEGAN - 100)
        return Sample(self.now, {"errors": answers}, {place: Presence(True, BEGAN - 100) for place in self.bad})

    def hands(self, takers: Optional[Sequence[Taker]] = None, pasts: Sequence[Past] = ()) -> Hands:
        return Hands(
            self.ledger,
            [self.sample] if takers is None else takers,
            say=self.lines.append,
            page=self.pages.append,
            ttl=TTL,
            pasts=pasts,
            clock=lambda: self.now,
            sleep=self.sleep,
            parent=lambda: self.parent,
        )

    def begin(self, steps: int = 1) -> Tuple[Rollout, Lease]:
        intent = {"fleet": [*CANARY, *OLD], "steps": [{"index": index + 1} for index in range(steps)]}
        what = rollouts.Begin("shop", "2.0.0", "canary", intent)
        return rollouts.begin(self.ledger, what, holder="run 1", actor="ada", ttl=TTL, now=self.now)

    def watch(self, rollout: Rollout, lease: Lease, scene: Optional[Scene] = None, **bake: object) -> Watch:
        return Watch(self.hands(), policy(**bake), rollout, lease, scene or Scene(1, CANARY, OLD))

    def progress(self, rollout: Rollout) -> Mapping[str, object]:
        with closing(SqliteLedger(str(self.path))) as ledger:
            stored = ledger.rollout(rollout.id)
        assert stored is not None
        return stored.progress

    def reopened(self, rollout: Rollout) -> Rollout:
        stored = self.ledger.rollout(rollout.id)
        assert stored is not None
        return stored


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.ledger.close()


def test_a_good_release_passes_and_not_before_its_time(world: World) -> None:
    rollout, lease = world.begin()
    watch = world.watch(rollout, lease)
    report = watch.bake()
    assert (report.action, report.verdict) == ("promote", "pass")
    assert 5 <= watch.took < 20
    assert len(world.lines) == world.looks and "bake 1/1" in world.lines[0]
    assert world.pages == []


def test_a_bad_release_fails_and_the_verdict_is_written_down(world: World) -> None:
    rollout, lease = world.begin()
    world.bad["web1"] = 0.5
    report = world.watch(rollout, lease).bake()
    assert (report.action, report.verdict, report.gate) == ("undo", "fail", "errors")
    bake = world.progress(rollout)["bake"]
    assert isinstance(bake, dict) and (bake["phase"], bake["reason"]) == ("failed", report.reason)


def test_the_state_is_written_and_the_lease_renewed_before_each_look(world: World) -> None:
    rollout, lease = world.begin()
    seen: List[Tuple[object, float]] = []

    def looking() -> Sample:
        stored, holder = world.progress(rollout), world.ledger.holder("shop", world.now)
        assert holder is not None and holder.token == lease.token
        seen.append((stored["elapsed"], holder.expires))
        return world.sample()

    Watch(world.hands([looking]), policy(), rollout, lease, Scene(1, CANARY, OLD)).bake()
    assert [expires for _elapsed, expires in seen] == [BEGAN + number + TTL for number in range(len(seen))]
    # what is written before a look is where the look before it stood
    assert [elapsed for elapsed, _expires in seen] == [max(0.0, number - 1.0) for number in range(len(seen))]


def test_looks_keep_their_rhythm_when_one_is_slow(world: World) -> None:
    rollout, lease = world.begin()

    def slow() -> Sample:
        world.now += 0.3
        return world.sample()

    Watch(world.hands([slow]), policy(), rollout, lease, Scene(1, CANARY, OLD)).bake()
    assert world.slept == pytest.approx([0.7] * len(world.slept))


def test_one_that_lost_its_lease_stops_and_looks_no_more(world: World) -> None:
    rollout, lease = world.begin()

    def taken() -> None:
        world.ledger.release(lease, world.now)
        world.ledger.acquire("shop", "run 2", TTL, world.now)

    world.happens[3] = taken
    with pytest.raises(LeaseError):
        world.watch(rollout, lease, min_bake=30).bake()
    assert world.looks == 3


def test_one_whose_controller_is_gone_stops_and_looks_no_more(world: World) -> None:
    rollout, lease = world.begin()

    def orphaned() -> None:
        world.parent = 1

    world.happens[3] = orphaned
    with pytest.raises(LeaseError, match="gone") as stopped:
        world.watch(rollout, lease, min_bake=30).bake()
    assert world.looks == 3 and "reconcile" in stopped.value.mend


class Locked:
    """Somebody writes to the ledger and does not come to an end."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)

    def begin(self) -> None:
        self._db.execute("BEGIN EXCLUSIVE")

    def end(self) -> None:
        self._db.execute("ROLLBACK")

    def close(self) -> None:
        self._db.close()


def test_a_store_that_comes_back_in_time_costs_nothing(world: World) -> None:
    rollout, lease = world.begin()
    with closing(Locked(world.path)) as locked:
        world.happens = {2: locked.begin, 6: locked.end}
        assert world.watch(rollout, lease, min_bake=20).bake().action == "promote"
    said = [line for line in world.lines if "watching on until the lease ends" in line]
    assert len(said) == 4


def test_a_store_that_stays_dead_ends_the_bake_with_its_lease(world: World) -> None:
    rollout, lease = world.begin()
    with closing(Locked(world.path)) as locked:
        world.happens = {5: locked.begin}
        with pytest.raises(LeaseError, match="ran out while the ledger could not be written"):
            world.watch(rollout, lease, min_bake=300, deadline=600).bake()
        # the last renewal was at the fourth second
        assert world.now == pytest.approx(BEGAN + 4 + TTL)


def test_a_bad_release_is_seen_while_the_store_is_dead(world: World) -> None:
    rollout, lease = world.begin()
    world.bad["web1"] = 0.5
    with closing(Locked(world.path)) as locked:
        world.happens = {1: locked.begin}
        assert world.watch(rollout, lease, min_bake=30).bake().action == "undo"


@pytest.mark.parametrize("word, action, phase", [("abort", "undo", "failed"), ("promote", "promote", "passed")])
def test_a_person_ends_it(world: World, word: str, action: str, phase: str) -> None:
    rollout, lease = world.begin()
    world.happens[2] = lambda: world.ledger.say("shop", word, "ada", "INC-1", world.now)
    report = world.watch(rollout, lease, min_bake=30).bake()
    assert (report.action, report.phase, report.verdict) == (action, phase, "inconclusive")
    assert "by ada: INC-1" in report.message
    assert world.looks == 2  # the word takes effect before the next look


def test_a_person_holds_and_resumes(world: World) -> None:
    rollout, lease = world.begin()
    world.happens = {
        2: lambda: world.ledger.say("shop", "hold", "ada", "", world.now),
        40: lambda: world.ledger.say("shop", "resume", "bob", "", world.now),
    }
    assert world.watch(rollout, lease, deadline=300).bake().action == "promote"
    assert "held by ada" in world.lines[5] and len(world.slept) > 40


def test_commands_are_obeyed_once_and_in_order(world: World) -> None:
    rollout, lease = world.begin()

    def both() -> None:
        world.ledger.say("shop", "hold", "ada", "", world.now)
        world.ledger.say("shop", "abort", "bob", "enough", world.now)
        world.ledger.say("shop", "resume", "eve", "too late", world.now)

    world.happens[2] = both
    assert world.watch(rollout, lease, min_bake=30).bake().message == "aborted by bob: enough"
    heard = world.progress(rollout)["heard"]
    assert [said.command for said in world.ledger.commands(rollout=rollout.id) if said.seq == heard] == ["abort"]


def test_another_controller_goes_on_where_the_first_one_stopped(world: World) -> None:
    rollout, lease = world.begin()

    class Killed(Exception):
        pass

    def killed() -> None:
        raise Killed

    world.happens[10] = killed
    with pytest.raises(Killed):
        world.watch(rollout, lease, min_bake=30).bake()
    world.now += TTL + 5  # its lease runs out
    taken, lease = rollouts.take_over(world.ledger, rollout.id, holder="run 2", actor="bob", ttl=TTL, now=world.now)
    looks = world.looks
    watch = world.watch(taken, lease, min_bake=30)
    assert watch.bake().action == "promote"
    assert watch.took > 10 + TTL
    assert 30 - 10 <= world.looks - looks <= 30  # the seconds that were watched count, those of nobody do not


def test_what_is_stored_is_plain_json(world: World) -> None:
    rollout, lease = world.begin()
    world.happens[3] = lambda: world.ledger.say("shop", "promote", "ada", "why not", world.now)
    world.watch(rollout, lease).bake()
    stored = dict(world.progress(rollout))
    assert Progress.of(world.reopened(rollout)).as_dict() == json.loads(json.dumps(stored))
    assert stored["began"] == BEGAN and stored["since"] == {"web1": 0.0} and stored["step"] == 1


def test_a_place_is_watched_from_when_it_got_the_release(world: World) -> None:
    rollout, lease = world.begin(steps=2)
    first = world.watch(rollout, lease)
    assert first.bake().step == 1
    world.now += 7
    lease = world.ledger.renew(lease, TTL, world.now)
    both = Scene(2, ("web1", "web2"), ("web3", "web4"))
    second = world.watch(world.reopened(rollout), lease, both)
    report = second.bake()
    assert (report.step, report.steps, report.action) == (2, 2, "promote")
    since = world.progress(rollout)["since"]
    assert isinstance(since, dict) and since["web1"] == 0 and since["web2"] >= first.took + 7


def test_a_place_that_warms_up_gives_no_evidence(world: World) -> None:
    rollout, lease = world.begin()
    world.bad["web1"] = 1.0

    def warm() -> None:
        world.bad["web1"] = 0.0

    world.happens[8] = warm
    assert world.watch(rollout, lease, warm_up=10, min_bake=5).bake().verdict == "pass"
    assert world.now >= BEGAN + 10


def set_back(world: World, seconds: float) -> None:
    world.now -= seconds


def test_a_clock_that_is_set_back_a_little_changes_no_verdict(world: World) -> None:
    rollout, lease = world.begin()
    world.happens[3] = lambda: set_back(world, 2.5)
    assert world.watch(rollout, lease).bake().action == "promote"


def test_a_clock_that_is_an_hour_behind_gives_no_counts_but_a_dead_canary_is_seen(world: World) -> None:
    rollout, lease = world.begin()
    world.happens = {3: lambda: set_back(world, 3600), 6: lambda: world.bad.pop("web1")}

    def without() -> Sample:
        sample = world.sample()
        presence = {place: Presence(place in world.bad, BEGAN - 100) for place in CANARY + OLD}
        return Sample(sample.at, sample.answers, presence)

    report = Watch(world.hands([without]), policy(), rollout, lease, Scene(1, CANARY, OLD)).bake()
    assert (report.action, report.gate) == ("undo", "alive")


@settings(max_examples=10)  # each with a ledger on disk
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=12))
def test_elapsed_time_never_falls_whatever_the_clock_does(
    tmp_path_factory: pytest.TempPathFactory, jumps: List[float]
) -> None:
    world = World(tmp_path_factory.mktemp("world"))
    with closing(world.ledger):
        rollout, lease = world.begin()
        told: List[float] = []

        def jump() -> Sample:
            world.now += jumps[world.looks % len(jumps)]
            return world.sample()

        def told_by(line: str) -> None:
            told.append(float(str(world.progress(rollout)["elapsed"])))

        hands = replace(world.hands([jump]), say=told_by, ttl=1e6)
        watch = Watch(hands, policy(on_undecided="undo"), rollout, lease, Scene(1, CANARY, OLD))
        world.happens[30] = lambda: world.ledger.say("shop", "abort", "ada", "", BEGAN)
        watch.bake()
        assert told == sorted(told) and watch.took >= told[-1]


def test_a_source_that_is_down_pages_and_neither_fails_nor_promotes(world: World) -> None:
    rollout, lease = world.begin()
    world.down = Absent("provider_error", "connection refused")

    def up() -> None:
        world.down = None

    world.happens[8] = up
    report = world.watch(rollout, lease).bake()
    assert report.action == "promote" and len(world.slept) > 8
    assert len(world.pages) == 1 and "connection refused" in world.pages[0] and world.pages[0].startswith("shop: ")


def test_one_source_of_two_that_is_down_is_missing_data_not_a_dead_source(world: World) -> None:
    errors = {"name": "errors", "bad": "bad", "total": "total", "max": 0.1, "floor": 0.05, "min_requests": 50}
    queue = {"name": "queue", "type": "value", "value": "queue", "max": 10}
    raw = {"source": {"type": "exposition"}, "gates": [errors, queue], "bake": {**BAKE, "deadline": 10}}
    rollout, lease = world.begin()
    takers = [world.sample, lambda: Sample(world.now, down=Absent("provider_error", "refused"))]
    hands = world.hands(takers)
    report = Watch(hands, parse_policy(raw, "shop"), rollout, lease, Scene(1, CANARY, OLD)).bake()
    assert (report.action, report.verdict) == ("hold", "inconclusive")


def test_the_gates_learn_from_what_the_source_remembers_once(world: World) -> None:
    rollout, lease = world.begin()
    asked: List[float] = []

    def past() -> Mapping[str, Sequence[Mapping[str, Counts]]]:
        asked.append(world.now)
        return {"errors": [dict.fromkeys(OLD, Counts(3.0, 3000.0))] * int(600 / HISTORY_STEP)}

    hands = world.hands(pasts=[past, dict])
    watch = Watch(hands, policy(), rollout, lease, Scene(1, CANARY, OLD))
    assert watch.bake().action == "promote"
    lease = world.ledger.renew(lease, TTL, world.now)
    Watch(hands, policy(), world.reopened(rollout), lease, Scene(2, CANARY + ("web2",), OLD[1:])).bake()
    assert asked == [BEGAN]


def held(world: World) -> Rollout:
    """A rollout held for want of data, as the bake leaves it."""
    rollout, lease = world.begin()
    world.down = Absent("provider_error", "refused")
    world.happens[2] = lambda: world.ledger.say("shop", "hold", "ada", "", world.now)
    report = world.watch(rollout, lease, deadline=5, hold_deadline=600, resume_after=3).bake()
    assert (report.action, report.phase) == ("hold", "held")
    world.down = None
    outcome: Dict[str, object] = {"hold_until": world.now + 600}
    return rollouts.close(world.ledger, lease, rollout.id, state="held", outcome=outcome, actor="ada", now=world.now)


def looked(world: World, rollout: Rollout) -> Any:
    taken, lease = rollouts.take_over(
        world.ledger, rollout.id, holder="reconcile", actor="cron", ttl=TTL, now=world.now
    )
    before = world.looks
    report = world.watch(taken, lease, deadline=5, hold_deadline=600, resume_after=3).once()
    assert world.looks - before <= 1
    assert isinstance(world.progress(rollout)["bake"], dict)
    world.ledger.release(lease, world.now)
    return report


def test_a_held_rollout_gets_one_look_at_a_time(world: World) -> None:
    rollout = held(world)
    world.now += 10
    assert looked(world, rollout).phase == "held"
    world.ledger.say("shop", "resume", "ada", "", world.now)
    world.now += 10
    assert looked(world, rollout).action in ("watch", "promote")


def test_a_held_rollout_is_undone_at_a_persons_word_without_another_look(world: World) -> None:
    rollout = held(world)
    looks = world.looks
    world.ledger.say("shop", "abort", "ada", "enough", world.now)
    assert looked(world, rollout).action == "undo"
    assert world.looks == looks


def test_places_that_went_back_are_watched_until_they_are_known_to_be_good(world: World) -> None:
    report = verify(world.hands(), policy(), CANARY, {"errors": 0.001})
    assert report.verdict == "recovered"
    assert world.lines[0].startswith("verify   0s of 5s  errors ?")
    assert "errors 0" in world.lines[-1]


def test_places_that_stay_bad_are_said_to_be(world: World) -> None:
    world.bad["web1"] = 0.5
    assert verify(world.hands(), policy(), CANARY, {"errors": 0.001}).verdict == "not_recovered"


def test_places_that_nobody_can_measure_are_unverified(world: World) -> None:
    world.down = Absent("provider_error", "refused")
    assert verify(world.hands(), policy(), CANARY, {}).verdict == "unverified"
