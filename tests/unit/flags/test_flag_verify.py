# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is what clients are served what was wished? And how long is asked."""

from __future__ import annotations

from typing import Any, List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import Deadline, FlagError, Served, Wish
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.verify import judge, watch

VALUES: List[Any] = [False, True, 0, 1, 0.0, 1.5, "", "false", "False", "0", "off", None, [], {}, [False], {"a": 0}]


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pauses: List[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def met(wish: Wish, **served: Any) -> Optional[bool]:
    return judge(wish, Served(**{"known": True, **served})).met


@pytest.mark.parametrize("served", [value for value in VALUES if value is not False])
def test_nothing_but_false_is_false(served: object) -> None:
    assert met(Wish("off"), value=served) is False


@pytest.mark.parametrize("served", [value for value in VALUES if value is not True])
def test_nothing_but_true_is_true(served: object) -> None:
    assert met(Wish("on", serve=True), value=served) is False


@given(st.sampled_from(VALUES), st.sampled_from(VALUES), st.floats(0, 100) | st.none())
def test_what_is_not_known_is_never_as_wished(value: object, serve: object, percentage: Optional[float]) -> None:
    for wish in (Wish("off", serve=serve), Wish("on", serve=serve), Wish("on", serve=serve, percentage=percentage)):
        assert judge(wish, Served(known=False, value=value, percentage=percentage)).met is None


@given(st.floats(0, 100), st.floats(0, 100))
def test_a_share_is_only_shown_by_the_rules(wished: float, served: float) -> None:
    told = met(Wish("on", serve=True, percentage=wished), value=True, percentage=served)
    assert told is (abs(wished - served) <= 0.01 if wished < 100 else served >= 100)
    if wished < 100:
        assert met(Wish("on", serve=True, percentage=wished), value=True) is None


def test_off_is_off_for_everyone() -> None:
    assert met(Wish("off"), value=False, percentage=0.0) is True
    assert met(Wish("off"), value=False) is True
    assert met(Wish("off"), value=False, percentage=0.5) is False


def test_on_by_the_flags_own_rules_need_not_be_on_for_all() -> None:
    wish = Wish("on", serve=True)
    assert met(wish, value=False, percentage=20.0) is True
    assert met(wish, value=True, percentage=0.0) is False
    assert met(wish, value=False, percentage=100.0) is False
    assert met(Wish("on", serve="#00f", variation="blue"), value="#00f", percentage=20.0) is False


def test_it_is_asked_until_it_is_so() -> None:
    time, answers = Time(), iter([True, True, True, False])
    seen = watch(lambda: Served(True, next(answers)), Wish("off"), Deadline(130.0, time), sleep=time.sleep)
    assert seen.verdict.met and time.pauses == pytest.approx([0.05, 0.075, 0.1125])
    assert seen.at == pytest.approx(100.2375)


def test_pauses_grow_to_half_a_second_and_end_at_the_deadline() -> None:
    time = Time()
    asked: List[float] = []

    def ask() -> Served:
        asked.append(time.now)
        return Served(True, True)

    seen = watch(ask, Wish("off"), Deadline(110.0, time), sleep=time.sleep)
    assert seen.verdict.met is False and "served true, not false" in seen.verdict.why
    assert max(time.pauses) == 0.5 and 109.9 < time.now < 110.0
    assert asked[-1] < 110.0, "the last question has time for its answer"


def test_who_does_not_answer_is_asked_again_and_who_refuses_is_not() -> None:
    time = Time()
    answers: List[Any] = [FlagError("down"), FlagError("down", details={"http_status": 503}), Served(True, False)]

    def ask() -> Served:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert watch(ask, Wish("off"), Deadline(130.0, time), sleep=time.sleep).verdict.met
    answers = [FlagError("wrong kind of token", details={"http_status": 403})]
    seen = watch(ask, Wish("off"), Deadline(130.0, time), sleep=time.sleep)
    assert seen.verdict.met is None and "wrong kind of token" in seen.verdict.why
    answers = [Served(False, why="nobody can know", final=True)]
    assert watch(ask, Wish("off"), Deadline(130.0, time), sleep=time.sleep).verdict.met is None
    answers = [OptionError("no client_token")]
    with pytest.raises(OptionError):
        watch(ask, Wish("off"), Deadline(130.0, time), sleep=time.sleep)


def test_what_was_seen_last_outlives_a_deadline_that_cut_the_next_answer_off() -> None:
    time = Time()

    def ask() -> Served:
        if time.now < 100.9:
            return Served(True, True)
        time.now = 101.0
        raise FlagError("was not asked: the deadline has passed")

    seen = watch(ask, Wish("off"), Deadline(101.0, time), sleep=time.sleep)
    assert seen.verdict.met is False
