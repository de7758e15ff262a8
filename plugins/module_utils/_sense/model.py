# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a source is asked and what it answers: raw readings, which `increments` turns into the judge's looks.

JSON-safe both ways (`as_dict`, `from_dict`), because a gate host may take them for the controller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple, Union

from .._judge.model import Absent


@dataclass(frozen=True)
class Query:
    """One gate's question. Counters: `bad` and `total`, or `histogram` and `over`. A number: `value`.

    Every expression is a PromQL selector (`name{label="x", other=~"5.."}`), which both sources understand; the
    `prometheus` source takes any PromQL expression besides.
    """

    gate: str
    bad: str = ""
    total: str = ""
    histogram: str = ""
    over: Optional[float] = None  # seconds; the histogram needs a bucket edge there
    value: str = ""
    timeout: float = 5.0  # seconds, of this query alone


@dataclass(frozen=True)
class Reading:
    """Cumulative counters of one place at the instant `at` (epoch seconds); `bad` of `total` since `start`."""

    at: float
    bad: float
    total: float
    start: Optional[float] = None  # epoch seconds of the process's start, where the source knows it


@dataclass(frozen=True)
class Value:
    """A number of one place at the instant `at`."""

    at: float
    value: float


Answer = Union[Reading, Value, Absent]


@dataclass(frozen=True)
class Presence:
    """Did the place answer, and since when does its process run (epoch seconds, None where unknown)."""

    up: bool
    start: Optional[float] = None
    detail: str = ""


@dataclass(frozen=True)
class Sample:
    """Everything one look at a source gave: per gate and place an answer, and per place its presence.

    `down` is set when the source itself could not be asked (a metrics server that is away): nothing is known then.
    """

    at: float
    answers: Mapping[str, Mapping[str, Answer]] = field(default_factory=dict)
    presence: Mapping[str, Presence] = field(default_factory=dict)
    down: Optional[Absent] = None
    took: float = 0.0


@dataclass(frozen=True)
class Target:
    """One place to be asked: its name, and where it can be scraped (several instances are summed)."""

    place: str
    urls: Tuple[str, ...] = ()
    instance: str = ""  # the value of the metrics server's place label, when it is not the place's name


Targets = Tuple[Target, ...]
Headers = Dict[str, str]
