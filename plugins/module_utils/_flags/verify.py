# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a wish come true for clients? What is served is read until it has, or until the deadline. Fails closed.

What nobody could find out is never what was wished, and a value equals another only when it is of the same kind.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Callable, Optional

from .._errors import DeliveryError, OptionError
from .._tell.text import clean
from .model import OFF, Deadline, Served, Value, Wish
from .texts import same

PAUSE, LONGEST = 0.05, 0.5  # seconds between two questions, growing
_GROWTH = 1.5
_POINT = 0.01  # percentage points: providers count in hundredths, or in fractions that are not exact
REFUSED = (400, 401, 403)  # asked again, it would be refused again


@dataclass(frozen=True)
class Verdict:
    """`met` is None where nobody can tell; `why` says what was served instead, or why it is not known."""

    met: Optional[bool]
    why: str = ""


@dataclass(frozen=True)
class Seen:
    """The last that was served, what it means, and when that was found out, by the deadline's clock.

    `error` is why it could not be asked.
    """

    served: Served
    verdict: Verdict
    at: float
    error: Optional[DeliveryError] = None


def watch(
    ask: Callable[[], Served],
    wish: Wish,
    deadline: Deadline,
    *,
    first: Optional[Seen] = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Seen:
    """Ask until the wish has come true, to ask again would not help, or the deadline has passed."""
    seen, pause = first or look(ask, wish, deadline), PAUSE
    while not seen.verdict.met and not seen.served.final and deadline.left() > PAUSE:
        # the last question is asked while there still is time for its answer
        sleep(min(pause, deadline.left() / 2))
        pause = min(pause * _GROWTH, LONGEST)
        newer = look(ask, wish, deadline)
        if newer.served.known or deadline.left() > 0 or not seen.served.known:
            seen = newer
    return seen


def look(ask: Callable[[], Served], wish: Wish, deadline: Deadline) -> Seen:
    """Ask once. Who does not answer is not known to serve anything; OptionError passes."""
    failure: Optional[DeliveryError] = None
    try:
        served = ask()
    except OptionError:
        raise
    except DeliveryError as error:
        failure = error
        served = Served(known=False, why=error.message, final=error.details.get("http_status") in REFUSED)
    return Seen(served, judge(wish, served), deadline.clock(), failure)


def judge(wish: Wish, served: Served) -> Verdict:
    """Is what clients are served what was wished?"""
    if not served.known:
        return Verdict(None, served.why or "nobody could tell what clients are served")
    if wish.state == OFF:
        return _off(wish, served)
    if wish.percentage is not None and wish.percentage < 100:
        return _share(wish.percentage, served)
    if wish.percentage is None and not wish.variation and 0 < (served.percentage or 0) < 100:
        return Verdict(True)  # on, for those whom the flag's own rules let: one evaluation says nothing of the others
    if served.percentage is not None and served.percentage < 100:
        return Verdict(False, f"{said_share(served.percentage)} are served it")
    return _value(wish, served)


def _off(wish: Wish, served: Served) -> Verdict:
    if served.percentage is not None and served.percentage > 0:
        return Verdict(False, f"{said_share(served.percentage)} are still served the on side")
    return _value(wish, served)


def _value(wish: Wish, served: Served) -> Verdict:
    if same(served.value, wish.serve):
        return Verdict(True)
    return Verdict(False, f"clients are served {said(served.value)}, not {said(wish.serve)}")


def _share(wished: float, served: Served) -> Verdict:
    if served.percentage is None:
        return Verdict(None, "one evaluation cannot show how many are served it, and nothing else does")
    if abs(served.percentage - wished) <= _POINT:
        return Verdict(True)
    return Verdict(False, f"{said_share(served.percentage)} are served it, not {wished:g} %")


def said(value: Value) -> str:
    """A value as JSON has it, so that false and "false" are told apart; shortened."""
    return clean(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str), 120)


def said_share(percentage: float) -> str:
    return f"{round(percentage, 2):g} % of the clients"
