# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the judge is given is what happened between two looks, over the same stretch of time on every place."""

from __future__ import annotations

import json
from typing import Dict, List, Mapping, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Absent, Counts, Liveness
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.increments import Increments
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import (
    Answer,
    Presence,
    Reading,
    Sample,
    Value,
)

GATE = "errors"


def sample(at: float, answers: Mapping[str, Answer], starts: Optional[Mapping[str, float]] = None) -> Sample:
    presence = {place: Presence(True, (starts or {}).get(place)) for place in answers}
    return Sample(at, {GATE: answers}, presence)


def counts(increments: Increments, at: float, answers: Mapping[str, Answer]) -> Mapping[str, Counts]:
    looks, _alive = increments.take(sample(at, answers))
    return looks[GATE].counts


def test_the_first_sample_gives_nothing_and_the_next_what_came_since() -> None:
    increments = Increments()
    assert counts(increments, 10, {"a": Reading(10, 3, 100), "b": Reading(10, 5, 500)}) == {}
    assert counts(increments, 12, {"a": Reading(12, 4, 120), "b": Reading(12, 5, 540)}) == {
        "a": Counts(1, 20),
        "b": Counts(0, 40),
    }


def test_scrapes_that_are_nearly_simultaneous_keep_whole_numbers() -> None:
    increments = Increments()
    counts(increments, 10, {"a": Reading(10.0, 3, 100), "b": Reading(10.1, 5, 500)})
    seen = counts(increments, 12, {"a": Reading(12.05, 4, 121), "b": Reading(12.0, 6, 543)})
    assert seen == {"a": Counts(1, 21), "b": Counts(1, 43)}


def test_scrapes_at_different_times_are_cut_at_the_newest_instant_that_all_have() -> None:
    """Both places serve 10 requests a second; b is read five seconds later, and must not seem to serve more."""
    increments = Increments()
    counts(increments, 20, {"a": Reading(10, 0, 100), "b": Reading(10, 0, 100)})
    seen = counts(increments, 30, {"a": Reading(20, 1, 200), "b": Reading(25, 0, 250)})
    assert seen == {"a": Counts(1, 100), "b": Counts(0, 100)}
    seen = counts(increments, 40, {"a": Reading(30, 1, 300), "b": Reading(40, 0, 400)})
    assert seen == {"a": Counts(0, 100), "b": Counts(0, 100)}


def test_without_a_new_scrape_nothing_is_counted_twice() -> None:
    increments = Increments()
    same = {"a": Reading(10, 0, 100), "b": Reading(11, 0, 100)}
    counts(increments, 12, same)
    counts(increments, 14, {"a": Reading(20, 1, 200), "b": Reading(21, 2, 200)})
    for at in (16, 18):
        seen = counts(increments, at, {"a": Reading(20, 1, 200), "b": Reading(21, 2, 200)})
        assert seen == {"a": Counts(0, 0), "b": Counts(0, 0)}


def test_an_error_that_is_counted_before_its_request_comes_with_the_request() -> None:
    increments = Increments()
    counts(increments, 10, {"a": Reading(10, 0, 0)})
    assert counts(increments, 12, {"a": Reading(12, 3, 2)}) == {"a": Counts(2, 2)}
    assert counts(increments, 14, {"a": Reading(14, 3, 5)}) == {"a": Counts(1, 3)}


def test_a_restart_drops_the_look_for_its_place_and_is_counted() -> None:
    increments = Increments()
    both = {"a": Reading(10, 3, 100), "b": Reading(10, 3, 100)}
    increments.take(sample(10, both, {"a": 1.0, "b": 1.0}))
    after = {"a": Reading(12, 50, 500), "b": Reading(12, 4, 120)}
    looks, alive = increments.take(sample(12, after, {"a": 11.0 + 1, "b": 1.0}))
    assert looks[GATE].counts == {"b": Counts(1, 20)}
    assert looks[GATE].absent == {}
    assert alive == {"a": Liveness(True, 1), "b": Liveness(True, 0)}
    looks, alive = increments.take(sample(14, {"a": Reading(14, 51, 510), "b": Reading(14, 4, 140)}, {"a": 12, "b": 1}))
    assert looks[GATE].counts == {"a": Counts(1, 10), "b": Counts(0, 20)}
    assert alive["a"].restarts == 1


def test_a_start_time_that_jitters_by_a_second_is_no_restart() -> None:
    increments = Increments()
    increments.take(sample(10, {"a": Reading(10, 3, 100)}, {"a": 1.0}))
    looks, alive = increments.take(sample(12, {"a": Reading(12, 3, 110)}, {"a": 2.0}))
    assert looks[GATE].counts == {"a": Counts(0, 10)}
    assert alive["a"].restarts == 0


def test_counters_that_fall_are_a_restart_where_no_start_is_known() -> None:
    increments = Increments()
    increments.take(sample(10, {"a": Reading(10, 3, 100)}))
    looks, alive = increments.take(sample(12, {"a": Reading(12, 0, 7)}))
    assert looks[GATE].counts == {}
    assert alive["a"].restarts == 1
    assert counts(increments, 14, {"a": Reading(14, 1, 9)}) == {"a": Counts(1, 2)}


@pytest.mark.parametrize("start", [None, 11.0])
def test_a_process_that_is_replaced_is_no_restart_of_a_collective_place(start: float | None) -> None:
    increments = Increments(collective=True)
    increments.take(sample(10, {"a": Reading(10, 3, 100)}, {"a": 1.0} if start else {}))
    looks, alive = increments.take(sample(12, {"a": Reading(12, 0, 50)}, {"a": start} if start else {}))
    assert looks[GATE].counts == {}  # what is gone took its counts along
    assert alive["a"].restarts == 0


def test_counters_that_fall_under_a_known_start_lost_a_series_and_not_the_process() -> None:
    increments = Increments()
    increments.take(sample(10, {"a": Reading(10, 3, 100)}, {"a": 1.0}))
    looks, alive = increments.take(sample(12, {"a": Reading(12, 0, 50)}, {"a": 1.0}))
    assert looks[GATE].counts == {}
    assert alive["a"].restarts == 0


def test_the_start_in_a_reading_counts_where_presence_knows_none() -> None:
    increments = Increments()
    for at, start in ((10, 1.0), (12, 11.0)):
        looks, alive = increments.take(
            Sample(at, {GATE: {"a": Reading(at, at, at * 10, start)}}, {"a": Presence(True)})
        )
    assert looks[GATE].counts == {}
    assert alive["a"].restarts == 1


def test_a_release_that_we_changed_is_no_restart() -> None:
    """The metrics server still shows the old process for a scrape or two after the change."""
    increments = Increments()
    increments.take(sample(100, {"a": Reading(100, 3, 100)}, {"a": 1.0}))
    increments.reset("a")
    _looks, alive = increments.take(sample(102, {"a": Reading(102, 3, 110)}, {"a": 1.0}))
    assert alive["a"].restarts == 0
    looks, alive = increments.take(sample(104, {"a": Reading(104, 0, 5)}, {"a": 101.5}))
    assert (looks[GATE].counts, alive["a"].restarts) == ({}, 0)
    looks, alive = increments.take(sample(106, {"a": Reading(106, 0, 15)}, {"a": 101.5}))
    assert (looks[GATE].counts, alive["a"].restarts) == ({"a": Counts(0, 10)}, 0)
    _looks, alive = increments.take(sample(108, {"a": Reading(108, 0, 1)}, {"a": 107.0}))
    assert alive["a"].restarts == 1


def test_a_place_that_was_away_while_others_went_on_starts_anew() -> None:
    """Otherwise its next increment would cover twice the time, and look like twice the share."""
    increments = Increments()
    counts(increments, 10, {"a": Reading(10, 0, 100), "b": Reading(10, 0, 100)})
    looks, _alive = increments.take(sample(12, {"a": Absent("provider_error", "refused"), "b": Reading(12, 0, 120)}))
    assert looks[GATE].absent == {"a": Absent("provider_error", "refused")}
    assert counts(increments, 14, {"a": Reading(14, 9, 140), "b": Reading(14, 0, 140)}) == {"b": Counts(0, 20)}
    assert counts(increments, 16, {"a": Reading(16, 9, 160), "b": Reading(16, 0, 160)}) == {
        "a": Counts(0, 20),
        "b": Counts(0, 20),
    }


def test_a_new_place_waits_until_the_cut_has_reached_it() -> None:
    increments = Increments()
    counts(increments, 10, {"a": Reading(10, 0, 0)})
    assert counts(increments, 20, {"a": Reading(20, 0, 100), "b": Reading(25, 0, 100)}) == {"a": Counts(0, 100)}
    assert counts(increments, 30, {"a": Reading(30, 0, 200), "b": Reading(35, 0, 200)}) == {"a": Counts(0, 100)}
    assert counts(increments, 40, {"a": Reading(40, 0, 300), "b": Reading(45, 0, 300)}) == {
        "a": Counts(0, 100),
        "b": Counts(0, 100),
    }


def test_with_the_source_down_nothing_is_known_and_nothing_is_lost() -> None:
    increments = Increments()
    increments.take(sample(10, {"a": Reading(10, 0, 100), "b": Value(10, 1.0)}))
    down = Absent("provider_error", "the server is away")
    looks, alive = increments.take(Sample(12, down=down))
    assert looks[GATE].absent == {"a": down, "b": down}
    assert (looks[GATE].counts, alive) == ({}, {})
    assert counts(increments, 14, {"a": Reading(14, 2, 140)}) == {"a": Counts(2, 40)}


def test_a_value_is_given_once() -> None:
    increments = Increments()
    values: List[Mapping[str, float]] = []
    for value in (Value(10, 1.0), Value(10, 1.0), Value(25, 2.0)):
        looks, _alive = increments.take(sample(30, {"a": value}))
        values.append(looks[GATE].values)
    assert values == [{"a": 1.0}, {}, {"a": 2.0}]


def test_a_place_that_is_down_is_told_so() -> None:
    increments = Increments()
    gone = Sample(10, {GATE: {"a": Absent("provider_error", "refused")}}, {"a": Presence(False, None, "refused")})
    _looks, alive = increments.take(gone)
    assert alive == {"a": Liveness(False, 0, "refused")}


def test_a_stored_state_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="number"):
        Increments().restore({"cuts": {"errors": "soon"}})


steps = st.lists(
    st.tuples(
        st.floats(0.5, 20),
        st.dictionaries(
            st.sampled_from("abc"),
            st.tuples(st.integers(0, 50), st.integers(0, 500), st.floats(-0.4, 0.0), st.booleans()),
        ),
    ),
    min_size=2,
    max_size=12,
)


def history(story: List[Tuple[float, Dict[str, Tuple[int, int, float, bool]]]]) -> List[Sample]:
    at, samples = 0.0, []
    standing: Dict[str, List[float]] = {place: [0.0, 0.0, 0.0] for place in "abc"}
    for gap, places in story:
        at += gap
        answers: Dict[str, Answer] = {}
        for place, (bad, good, lag, restarts) in places.items():
            kept = standing[place]
            kept[:] = [bad, bad + good, at] if restarts else [kept[0] + bad, kept[1] + bad + good, kept[2]]
            answers[place] = Reading(at + lag, kept[0], kept[1], kept[2])
        samples.append(sample(at, answers, {place: standing[place][2] for place in places}))
    return samples


@given(steps)
def test_increments_are_never_negative_and_never_more_than_was_counted(
    story: List[Tuple[float, Dict[str, Tuple[int, int, float, bool]]]],
) -> None:
    increments, total = Increments(), dict.fromkeys("abc", 0.0)
    for one in history(story):
        looks, _alive = increments.take(one)
        for place, count in looks[GATE].counts.items():
            assert 0.0 <= count.bad <= count.total + 1e-6
            total[place] += count.total
    for place in "abc":
        told = sum(bad + good for _gap, places in story for bad, good, _lag, _anew in [places.get(place, (0, 0, 0, 0))])
        assert total[place] <= told + 1e-6


@given(steps, st.integers(0, 11))
def test_a_bake_that_goes_on_elsewhere_sees_the_same(
    story: List[Tuple[float, Dict[str, Tuple[int, int, float, bool]]]], moment: int
) -> None:
    here, samples = Increments(), history(story)
    moment = min(moment, len(samples))
    for one in samples[:moment]:
        here.take(one)
    there = Increments()
    there.restore(json.loads(json.dumps(here.state())))
    for one in samples[moment:]:
        assert here.take(one) == there.take(one)
