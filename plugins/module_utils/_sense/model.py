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
    warnings: Tuple[str, ...] = ()

    def as_dict(self) -> Dict[str, object]:
        return {
            "at": self.at,
            "answers": {
                gate: {place: answer_as_dict(answer) for place, answer in answers.items()}
                for gate, answers in self.answers.items()
            },
            "presence": {
                place: {"up": presence.up, "start": presence.start, "detail": presence.detail}
                for place, presence in self.presence.items()
            },
            "down": answer_as_dict(self.down) if self.down else None,
            "took": self.took,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> "Sample":
        """The sample that `as_dict` gave; ValueError when it is none."""
        answers, presence = _mapping(raw.get("answers", {})), _mapping(raw.get("presence", {}))
        warnings = raw.get("warnings")
        return cls(
            at=_number(raw.get("at")),
            answers={
                gate: {place: answer_from_dict(_mapping(answer)) for place, answer in _mapping(places).items()}
                for gate, places in answers.items()
            },
            presence={place: _presence(_mapping(said)) for place, said in presence.items()},
            down=_down(raw.get("down")),
            took=_number(raw.get("took", 0.0)),
            warnings=tuple(str(warning) for warning in warnings) if isinstance(warnings, (list, tuple)) else (),
        )


@dataclass(frozen=True)
class Target:
    """One place to be asked: its name, and where it can be scraped (several instances are summed)."""

    place: str
    urls: Tuple[str, ...] = ()
    instance: str = ""  # the value of the metrics server's place label, when it is not the place's name


# the one place that everything belongs to where no places are told apart
EVERYTHING = "all"
Targets = Tuple[Target, ...]
Headers = Dict[str, str]


def answer_as_dict(answer: Answer) -> Dict[str, object]:
    if isinstance(answer, Reading):
        return {"at": answer.at, "bad": answer.bad, "total": answer.total, "start": answer.start}
    if isinstance(answer, Value):
        return {"at": answer.at, "value": answer.value}
    return {"absent": answer.reason, "detail": answer.detail}


def answer_from_dict(raw: Mapping[str, object]) -> Answer:
    if "absent" in raw:
        return Absent(str(raw["absent"]), str(raw.get("detail", "")))
    if "value" in raw:
        return Value(_number(raw["at"]), _number(raw["value"]))
    return Reading(_number(raw["at"]), _number(raw["bad"]), _number(raw["total"]), _optional(raw.get("start")))


def _mapping(raw: object) -> Mapping[str, object]:
    if isinstance(raw, Mapping):
        return raw
    raise ValueError(f"a sample has {type(raw).__name__} where a mapping belongs")


def _number(raw: object) -> float:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return float(raw)
    raise ValueError(f"a sample has {type(raw).__name__} where a number belongs")


def _presence(raw: Mapping[str, object]) -> Presence:
    return Presence(raw.get("up") is True, _optional(raw.get("start")), str(raw.get("detail", "")))


def _down(raw: object) -> Optional[Absent]:
    if raw is None:
        return None
    said = _mapping(raw)
    return Absent(str(said.get("absent", "provider_error")), str(said.get("detail", "")))


def _optional(raw: object) -> Optional[float]:
    return None if raw is None else _number(raw)
