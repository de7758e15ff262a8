# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a release walks through its places: every place exactly once, steps that grow, and a holdback."""

from __future__ import annotations

import math
from typing import List, Sequence, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act.steps import walk, with_traffic
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError

Size = Union[int, str]


def named(count: int) -> List[str]:
    return [f"web{number}" for number in range(1, count + 1)]


def ends(sizes: Sequence[Size], count: int, *, holdback: int = 0) -> List[int]:
    return [len(step.canary) for step in walk(sizes, named(count), holdback=holdback).steps]


@pytest.mark.parametrize(
    "sizes, count, expected",
    [
        ([1, "25%", "100%"], 4, [1, 4]),  # equal steps merge
        ([1, "25%", "100%"], 10, [1, 3, 10]),  # shares round up
        (["7%"], 100, [7, 100]),  # and only up from where they really are
        (["0.1%"], 10, [1, 10]),
        ([2], 5, [2, 5]),  # a last step short of all is followed by one of all
        ([" 50% ", "3"], 4, [2, 3, 4]),
        ([1], 1, [1]),
    ],
)
def test_sizes_become_places(sizes: Sequence[Size], count: int, expected: List[int]) -> None:
    assert ends(sizes, count) == expected


def test_a_holdback_stays_old_while_the_last_step_bakes() -> None:
    way = walk([1, "100%"], named(4))
    assert [step.places for step in way.steps] == [("web1",), ("web2", "web3")]
    assert way.steps[-1].baseline == way.holdback == ("web4",)
    assert way.steps[0].as_dict() == {
        "index": 1,
        "of": 2,
        "places": ["web1"],
        "canary": ["web1"],
        "baseline": ["web2", "web3", "web4"],
        "shares": {},
    }


def test_one_place_is_baked_and_nothing_is_held_back() -> None:
    way = walk([1, "25%", "100%"], ["web1"])
    assert (len(way.steps), way.holdback, way.steps[0].baseline) == (1, (), ())


def test_a_place_that_runs_the_release_already_is_no_baseline() -> None:
    way = walk(["100%"], named(4), holdback=2, ahead=3)
    assert way.holdback == way.steps[-1].baseline == ("web4",)
    assert walk(["100%"], named(4), ahead=4).steps[-1].baseline == ()


@pytest.mark.parametrize(
    "sizes, places, told",
    [
        ([1], [], "no place"),
        ([], ["web1"], "steps are empty"),
        ([2, 1], ["web1", "web2"], "step 1 is smaller than the one before it (1 after 2 places)"),
        (["100%", "50%"], ["web1", "web2"], "'50%' is smaller"),
        ([3], ["web1", "web2"], "exceeds the 2 places"),
        (["101%"], named(100), "exceeds the 100 places"),
        (["a few"], ["web1"], "'a few' is neither a number"),
        (["%"], ["web1"], "neither a number"),
        (["1.5"], ["web1", "web2"], "neither a number"),
        ([""], ["web1"], "neither a number"),
        ([True], ["web1"], "True is neither a number"),
        ([0], ["web1"], "not above zero"),
        (["-5%"], ["web1"], "not above zero"),
        (["nan%"], ["web1"], "not above zero"),
        (["inf%"], ["web1"], "not above zero"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes: Sequence[Size], places: Sequence[str], told: str) -> None:
    with pytest.raises(OptionError) as refused:
        walk(sizes, places)
    assert told in refused.value.what
    assert refused.value.mend


@given(st.data())
def test_every_place_gets_the_release_once_and_steps_only_grow(data: st.DataObject) -> None:
    places = named(data.draw(st.integers(1, 60)))
    shares = st.integers(1, 100).map(lambda share: f"{share}%")
    numbers = st.integers(1, len(places))
    sizes = data.draw(st.lists(st.one_of(numbers, shares), min_size=1, max_size=6))
    sizes.sort(key=lambda size: size if isinstance(size, int) else math.ceil(int(size[:-1]) * len(places) / 100))
    holdback, ahead = data.draw(st.integers(0, 5)), data.draw(st.integers(0, len(places)))
    way = walk(sizes, places, holdback=holdback, ahead=ahead)
    assert [place for step in way.steps for place in step.places] + list(way.holdback) == places
    sizes_walked = [len(step.canary) for step in way.steps]
    assert sizes_walked == sorted(set(sizes_walked))
    assert [(step.index, step.of) for step in way.steps] == [(n, len(way.steps)) for n in range(1, len(way.steps) + 1)]
    for step in way.steps:
        assert step.places and [*step.canary, *step.baseline] == places
        assert not set(places[:ahead]) & set(step.baseline)
    assert way.steps[-1].baseline == way.holdback
    assert len(way.holdback) == min(holdback, len(places) - max(1, ahead))


def test_traffic_walks_inside_each_steps_places_and_the_places_before_get_the_release_whole() -> None:
    way = with_traffic(walk([1, "100%"], ["eu", "us"], holdback=0), [10, "50%"])
    assert [(step.index, step.of, step.places, dict(step.shares)) for step in way.steps] == [
        (1, 4, ("eu",), {"eu": 10.0}),
        (2, 4, ("eu",), {"eu": 50.0}),
        (3, 4, ("eu", "us"), {"eu": 100.0, "us": 10.0}),
        (4, 4, ("us",), {"us": 50.0}),
    ]
    assert [step.canary for step in way.steps] == [("eu",), ("eu",), ("eu", "us"), ("eu", "us")]


def test_without_traffic_steps_a_way_stays_as_it_is() -> None:
    way = walk([1, "100%"], ["eu", "us"])
    assert with_traffic(way, []) == way


@pytest.mark.parametrize("shares", [[0], [101], ["half"], [True], [50, 10], [10, 10], [float("nan")]])
def test_shares_that_are_none_or_do_not_grow_are_refused(shares: list[object]) -> None:
    with pytest.raises(OptionError):
        with_traffic(walk(["100%"], ["eu"]), shares)  # type: ignore[arg-type]
