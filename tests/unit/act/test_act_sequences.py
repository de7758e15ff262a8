# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is done in whatever order, and killed wherever: a place runs a whole release and keeps its way back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

from act_place import MEMORY, Place
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, FencedError

RELEASES = [f"{number}.0" for number in range(5)]
releases = st.sampled_from(RELEASES)
rollouts = st.sampled_from(["", "r1", "r2"])
kills = st.sampled_from([None, None, None, *range(1, 25)]) | st.none()
rarely = st.sampled_from([False, False, False, True])


class Killed(BaseException):
    """What SIGKILL is to a process: nothing of ours catches it."""


class Killer:
    def __init__(self, nth: Optional[int]) -> None:
        self.left = nth or 0

    def __call__(self, _step: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class Changes(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="act-sequences-", dir=MEMORY)
        self.place = Place(Path(self.folder.name))
        self.token = 0
        self.good: List[str] = []  # as promoted, the last one last
        for release in RELEASES[:2]:
            self.place.good(release)

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def do(self, kill: Optional[int], **wish: Any) -> bool:
        """True when it went well; then the place is settled, and doing it again changes nothing."""
        try:
            done = self.place.do(checkpoint=Killer(kill), token=self.token, **wish)
        except (Killed, DeliveryError) as problem:
            event(f"{wish['state']}: {type(problem).__name__}")
            return False
        event(f"{wish['state']}: {'changed' if done.changed else 'unchanged'}")
        assert self.place.look()["settled"] or wish["state"] == "promoted"
        if wish["state"] != "promoted":
            assert self.place.running() == self.place.current() == done.current
        again = self.place.do(token=self.token, **wish)
        assert not again.changed, again.actions
        assert not self.place.do(dry=True, token=self.token, **wish).changed
        return True

    @rule(release=releases, broken=rarely, rollout=rollouts, kill=kills, blocked=rarely)
    def deploy(self, release: str, broken: bool, rollout: str, kill: Optional[int], blocked: bool) -> None:
        self.token += 1
        name = f"{release}-bad" if broken else release
        wish: Dict[str, Any] = {"rollback": "blocked"} if blocked else {}
        src = self.place.source(name, broken=broken)
        went = self.do(kill, state="deployed", release=name, src=src, rollout=rollout, **wish)
        assert not (went and broken)

    @rule(rollout=rollouts, undo=st.booleans(), bad=st.sampled_from(["", "5xx"]), to=st.none() | releases, kill=kills)
    def back(self, rollout: str, undo: bool, bad: str, to: Optional[str], kill: Optional[int]) -> None:
        undo = undo and rollout != ""
        self.do(kill, state="known_good", rollout=rollout, undo=undo, mark_bad=bad, to=to or "")

    @rule(rollout=rollouts, undo=st.booleans(), kill=kills)
    def back_from_named(self, rollout: str, undo: bool, kill: Optional[int]) -> None:
        current = self.place.current()
        if current:
            undo = undo and rollout != ""
            self.do(kill, state="known_good", release=current, rollout=rollout, undo=undo, mark_bad="named")

    @rule(keep=st.integers(1, 3), rollout=rollouts, kill=kills)
    def promote(self, keep: int, rollout: str, kill: Optional[int]) -> None:
        current = self.place.current()
        if current:
            self.do(kill, state="promoted", release=current, rollout=rollout, keep=keep)

    @rule(behind=st.integers(1, 3))
    def late_controller(self, behind: int) -> None:
        seen = self.place.look()["token"]
        before = self.place.picture()
        if isinstance(seen, int):
            try:
                self.place.do(state="known_good", token=seen - behind, mark_bad="late")
            except FencedError:
                assert self.place.picture() == before
            else:
                raise AssertionError("a lower token was let in")

    @invariant()
    def whole(self) -> None:
        if not hasattr(self, "place"):
            return
        seen, current = self.place.look(), self.place.current()
        assert (seen["token"] or 0) in range(self.token + 1)
        if current is None:
            return
        assert self.place.metadata(current)["complete"] is True
        assert (self.place.path / "releases" / current / "version").read_text() == current

    @invariant()
    def way_back_is_kept(self) -> None:
        """The last release that was called good and never bad again is always there."""
        if not hasattr(self, "place"):
            return
        known = {str(release["id"]): release for release in self.listed()}
        self.good = [name for name in self.good if name not in known or known[name]["known_good"]]
        marked = [name for name, release in known.items() if release["known_good"] and not release["bad"]]
        if self.good:
            assert self.good[-1] in known, "the last known good was pruned"
        times = {name: self.at(known[name]["known_good"]) for name in marked}
        self.good = sorted(marked, key=lambda name: times[name])

    def listed(self) -> List[Dict[str, object]]:
        found = self.place.look()["releases"]
        assert isinstance(found, list)
        return found

    @staticmethod
    def at(mark: object) -> float:
        assert isinstance(mark, dict)
        return float(mark["at"])


TestChanges = Changes.TestCase
TestChanges.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
