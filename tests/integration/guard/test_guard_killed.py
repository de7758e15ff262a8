# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller is killed at every point between an alert and its outcome, on each store; the next one settles it.

Afterwards, whatever the point was: exactly one rollback, every place on the known good release, the bad one marked,
the chain whole, trigger and decision recorded once, no lease left, and nothing more done when the alert comes again.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import stores
from act_place import MEMORY, Place
from guard_killed import ALARM, BAD, GOOD, SERVICE, Controller, in_a_child

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger

START = 2_000_000_000.0
PLACES = ("web1", "web2")
# about how many points one run has: three for each of its writes to the ledger, and those of each place's own change
LEAST_POINTS = 30
KILLS = 67  # on each of the three stores: more than 200 in all


@pytest.fixture(
    scope="module", params=[pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in stores.STORES]
)
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Serving]:
    with stores.serving(request.param, tmp_path_factory.mktemp(request.param)) as fresh:
        yield fresh


@pytest.fixture(scope="module")
def pattern() -> Iterator[Path]:
    """Places on the bad release, with a known good one before it, to be copied for each run."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        for name in PLACES:
            place = Place(Path(folder, "pattern", name))
            place.good(GOOD)
            place.good(BAD)
        yield Path(folder, "pattern")


class Incident:
    """Fresh places and a fresh ledger, on which one alert is answered by one controller after another."""

    def __init__(self, opened: Callable[[], Ledger], folder: Path) -> None:
        self.opened = opened
        self.places: Dict[str, Place] = {name: Place(folder / name) for name in PLACES}

    def controller(self, name: str, now: float, nth: int = 0) -> Controller:
        return Controller(self.opened, self.places, name=name, now=now, nth=nth)

    def killed(self, nth: int) -> bool:
        """A controller that dies at point `nth`; False when it was done before it came there."""
        return in_a_child(lambda: told(lambda: self.controller("first", START, nth).run())) == signal.SIGKILL

    def settled(self) -> List[str]:
        """What the next controllers do, each after the lease of the one before, with the alert still coming."""
        return [self.controller(f"later {late}", START + late).run() for late in (60.0, 120.0, 10_000.0)]

    def check(self) -> None:
        ledger: Any = self.opened()
        try:
            rollbacks = ledger.last_rollouts(SERVICE)
            assert [(rollout.kind, rollout.state) for rollout in rollbacks] == [("rollback", "done")]
            entries = ledger.entries()
            assert [entry.body["id"] for entry in entries if entry.kind == "trigger"] == [ALARM.id]
            allowed = [entry for entry in entries if entry.kind == "decision" and entry.body["verdict"] == "allowed"]
            assert [entry.body["id"] for entry in allowed] == [rollbacks[0].id]
            ended = [entry.body["state"] for entry in entries if entry.kind == "state"]
            assert ended.count("done") == 1 and ended[-1] == "done"
            for name in PLACES:
                told = [entry for entry in entries if entry.body.get("place") == name]
                assert {"action", "outcome"} == {entry.kind for entry in told}
            assert ledger.verify(ledger.head()) is None
            assert ledger.leases(START + 60.0) == []
        finally:
            ledger.close()
        for place in self.places.values():
            assert (place.current(), place.running()) == (GOOD, GOOD)
            assert place.metadata(BAD)["bad"] and not place.metadata(GOOD)["bad"]


def told(work: Callable[[], object]) -> None:
    """A forked child's traceback would be lost: pytest only reports this process."""
    try:
        work()
    except BaseException:
        traceback.print_exc()
        raise


def incident(serving: stores.Serving, pattern: Path) -> Incident:
    folder = Path(tempfile.mkdtemp(dir=pattern.parent))
    shutil.copytree(pattern, folder, symlinks=True, dirs_exist_ok=True)
    return Incident(serving().open, folder)


def test_killed_at_every_point_there_is_exactly_one_rollback(serving: stores.Serving, pattern: Path) -> None:
    whole = incident(serving, pattern)
    first = whole.controller("first", START)
    assert first.run() == "done"
    points = first.killer.passed
    assert len(points) >= LEAST_POINTS and points[0] == "to be written"
    assert whole.settled() == ["duplicate"] * 3
    whole.check()
    kills = 0
    for number in range(KILLS):
        nth = number % len(points) + 1  # every point once, and those from the beginning on again
        one = incident(serving, pattern)
        assert one.killed(nth), f"it was to be killed at point {nth}, {points[nth - 1]}"
        kills += 1
        results = one.settled()
        assert results.count("done") + ("done" in points[nth:]) <= 1, (nth, results)
        assert results[-1] == "duplicate", (nth, results)
        one.check()
        shutil.rmtree(next(iter(one.places.values())).folder.parent)
    assert kills == KILLS
