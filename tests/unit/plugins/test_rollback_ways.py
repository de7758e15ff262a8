# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each place goes back to: the newest known good that is neither current nor bad, and nobody else's release."""

from __future__ import annotations

from typing import Dict, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.action.rollback_plan import refuse_silence, ways_back
from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Bad, Good, Release, Situation
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import PlaceError

IDS = ("1.0.0", "1.1.0", "2.0.0", "3.0.0")


def place(current: str, *good: str, bad: str = "", blocked: bool = False) -> Situation:
    """A place whose releases were found good in this order."""
    releases = {
        one: Release(one, complete=True, known_good=Good(float(at)), bad=Bad(9.0, "5xx") if one == bad else None)
        for at, one in enumerate(good)
    }
    releases[current] = Release(
        current, complete=True, known_good=Good(8.0), rollback="blocked" if blocked else "allowed"
    )
    return Situation(current, tuple(releases.values()))


def test_the_newest_known_good_before_it() -> None:
    ways = ways_back({"web1": place("2.0.0", "1.0.0", "1.1.0"), "web2": place("2.0.0", "1.0.0")}, "2.0.0", ())
    assert ways.before == {"web1": "1.1.0", "web2": "1.0.0"}
    assert (ways.left, ways.elsewhere, ways.unread) == ((), (), ())


def test_bad_ones_are_passed_over_whoever_knows_it() -> None:
    states: Dict[str, Optional[Situation]] = {"web1": place("2.0.0", "1.0.0", "1.1.0", bad="1.1.0")}
    assert ways_back(states, "2.0.0", ()).before == {"web1": "1.0.0"}
    assert ways_back(states, "2.0.0", ("1.0.0",)).left == ("web1",)


def test_who_runs_something_else_is_left_alone_and_who_is_silent_is_tried() -> None:
    states = {"web1": place("2.0.0", "1.0.0"), "web2": place("3.0.0", "1.0.0"), "web3": None}
    ways = ways_back(states, "2.0.0", ())
    assert ways.before == {"web1": "1.0.0", "web3": "1.0.0"}
    assert (ways.elsewhere, ways.unread) == (("web2",), ("web3",))
    assert ways_back({"web3": None}, "2.0.0", ()).before == {}


def test_where_nobody_answers_nobody_knows_what_runs() -> None:
    told = {"web1": {"failed": True, "msg": "web1 is away."}, "web2": {"unreachable": True}}
    with pytest.raises(PlaceError, match=r"web1, web2 could not be asked what runs there: web1 is away\. Nothing was"):
        refuse_silence(told, dict.fromkeys(told))
    refuse_silence(told, {"web1": None, "web2": Situation()})  # nothing was ever deployed there


def test_a_release_that_must_not_be_rolled_back_is_told_by_place() -> None:
    states = {"web1": place("2.0.0", "1.0.0"), "web2": place("2.0.0", "1.0.0", blocked=True)}
    assert ways_back(states, "2.0.0", ()).blocked == ("web2",)


@given(
    st.dictionaries(
        st.sampled_from(("a", "b", "c", "d")),
        st.none() | st.builds(place, st.sampled_from(IDS), st.sampled_from(IDS), bad=st.sampled_from(IDS)),
        min_size=1,
    ),
    st.sampled_from(IDS),
    st.sets(st.sampled_from(IDS)),
)
def test_nobody_ever_goes_to_the_accused_or_to_a_bad_one(
    states: Dict[str, Optional[Situation]], accused: str, bad: "set[str]"
) -> None:
    ways = ways_back(states, accused, sorted(bad))
    assert not set(ways.before.values()) & {accused, *bad}
    for name, seen in states.items():
        assert (name in ways.before) + (name in ways.left) + (name in ways.elsewhere) <= 1
        if seen is not None:
            assert (name in ways.elsewhere) == (seen.current != accused)
        target = seen.find(ways.before[name]) if seen is not None and name in ways.before else None
        assert target is None or target.trusted
