# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lookup `metric`: terms in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence

from .._errors import OptionError, SourceError
from .._judge.model import Absent
from .._sense.collect import collect
from .._sense.model import EVERYTHING, Answer, Query, Sample, Target, Value
from .._sense.options import ENVIRONMENT
from .source_options import source_of


@dataclass(frozen=True)
class Wanted:
    """What the caller wants of each term."""

    total: str = ""
    place: str = ""
    timeout: float = 5.0
    has_default: bool = False
    default: object = None


def read(terms: Sequence[str], source: object, server: Mapping[str, object], wanted: Wanted) -> List[object]:
    """One answer for each term. `server` is where and as whom to ask when `source` does not say it."""
    if not isinstance(source, Mapping):
        raise OptionError("source is not a mapping", mend="Write it as {type: …, url: …}")
    options = source_of(
        {"type": "prometheus", **source}, environment={ENVIRONMENT[k]: str(v) for k, v in server.items() if v}
    )
    targets = (Target(wanted.place),) if wanted.place and options.type == "prometheus" else ()
    if options.type == "exposition":
        targets = (Target(wanted.place or EVERYTHING, options.urls),)
    sample = collect(options, [_query(term, wanted) for term in dict.fromkeys(terms)], targets)
    place = targets[0].place if targets else EVERYTHING
    return [_told(term, sample, place, wanted) for term in terms]


def _query(term: str, wanted: Wanted) -> Query:
    if wanted.total:
        return Query(term, bad=term, total=wanted.total, timeout=wanted.timeout)
    return Query(term, value=term, timeout=wanted.timeout)


def _told(term: str, sample: Sample, place: str, wanted: Wanted) -> object:
    answer: Answer = sample.down or sample.answers[term][place]
    if isinstance(answer, Absent):
        if wanted.has_default:
            return wanted.default
        raise SourceError(
            f"{term}: {answer.reason.replace('_', ' ')}: {answer.detail}", mend="Give a default if that may be"
        )
    if isinstance(answer, Value):
        return answer.value
    counts: Dict[str, object] = {"bad": answer.bad, "total": answer.total}
    return {**counts, "rate": answer.bad / answer.total if answer.total > 0 else None}
