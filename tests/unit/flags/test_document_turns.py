# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A change of a document that others change, too, or whose answer is lost: what is read again, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Tuple

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.document import Moved, altered
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import Deadline, FlagError

DONE, MOVED, LOST, LOST_BUT_DONE = "done", "moved", "lost", "lost but done"


@dataclass
class Scripted:
    """A document whose writes end as `ends` says, the last one for ever; each call takes `took` seconds."""

    ends: List[str]
    took: float = 0.0
    now: float = 0.0
    name: str = "it"
    note: str = ""
    flags: Dict[str, Any] = field(default_factory=lambda: {"a": True, "others": 0})
    writes: int = 0
    slept: List[float] = field(default_factory=list)

    def read(self) -> Tuple[Dict[str, Any], str]:
        self.now += self.took
        return self.flags, str(self.flags["others"])

    def write(self, document: Mapping[str, Any], revision: str) -> None:
        self.now += self.took
        self.writes += 1
        end = self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]
        assert revision == str(self.flags["others"])
        if end == MOVED:
            self.flags = {**self.flags, "others": self.flags["others"] + 1}
            raise Moved("it was changed since it was read")
        if end != LOST:
            self.flags = dict(document)
        if end != DONE:
            raise Moved("the answer was lost", details={"lost": True})

    def close(self) -> None:
        """Nothing is open."""

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def off(document: Scripted, seconds: float = 10) -> None:
    deadline = Deadline(seconds, lambda: document.now)
    altered(document, deadline, lambda found: {**found, "a": False}, sleep=document.sleep)


def test_it_is_read_again_and_what_others_wrote_stays() -> None:
    document = Scripted([MOVED, MOVED, DONE])
    off(document)
    assert (document.flags, document.writes) == ({"a": False, "others": 2}, 3)


def test_a_lost_answer_is_looked_up_and_not_done_twice() -> None:
    done, not_done = Scripted([LOST_BUT_DONE]), Scripted([LOST, DONE])
    off(done)
    off(not_done)
    assert (done.writes, not_done.writes) == (1, 2)
    assert done.flags == not_done.flags == {"a": False, "others": 0}


def test_the_deadline_ends_it_and_whether_it_was_done_is_said() -> None:
    moved, lost = Scripted([MOVED], took=0.1), Scripted([LOST], took=0.1)
    with pytest.raises(FlagError, match="changed since it was read, until the deadline. Run it again") as told:
        off(moved)
    assert "lost" not in told.value.details
    with pytest.raises(FlagError, match="the answer was lost, until the deadline") as told:
        off(lost)
    assert told.value.details == {"lost": True}
    assert max(moved.slept) <= 1
    assert 10 <= moved.now < 11


def test_an_edit_that_changes_nothing_writes_nothing_and_cannot_touch_what_was_read() -> None:
    document = Scripted([DONE])

    def edit(found: Dict[str, Any]) -> Dict[str, Any]:
        before = dict(found)
        found.clear()
        return before

    altered(document, Deadline(1, lambda: document.now), edit)
    assert (document.writes, document.flags) == (0, {"a": True, "others": 0})
