# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a metrics server knows of one error code around a deploy.

Raw samples are fetched, not `increase()`, which does not see the first errors of a counter that begins with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from .._errors import OptionError
from .._sense.client import Client, NoAnswer
from .._sense.line import Line
from .._sense.options import SourceOptions
from .._sense.promapi import Api, range_of
from .._sense.selector import Selector, parse_selector
from .model import METRIC
from .since import Tally, covered, gained

_COVER_POINTS = 600.0


@dataclass(frozen=True)
class Question:
    """Times are epoch seconds, durations seconds. `total` selects the counter of all requests, empty for none: then
    the time that the service was watched is what errors are held against."""

    code: str
    service: str
    environment: str
    changed_at: float
    metric: str = METRIC
    total: str = ""
    before: float = 3600.0
    after: float = 3600.0
    recent: float = 300.0

    def stretches(self, now: float) -> List[Tuple[float, float]]:
        """Before the deploy; since then; and the newest part of that, once it is less than half of it."""
        end = min(now, self.changed_at + self.after)
        found = [(self.changed_at - self.before, self.changed_at), (self.changed_at, end)]
        return found + [(end - self.recent, end)] * (end - self.changed_at > 2.0 * self.recent)


@dataclass(frozen=True)
class Figures:
    """`tallies` are those of the stretches; `versions` says who sent the errors since the deploy."""

    tallies: Tuple[Tally, ...]
    versions: Dict[str, float]
    unit: str


def ask(options: SourceOptions, question: Question, now: float) -> Figures:
    """Raises NoAnswer where the server gives none, OptionError for a question that makes no sense."""
    if options.type != "prometheus":
        raise OptionError("a page of metrics knows no past", mend="Use a source of type prometheus")
    if question.changed_at >= now:
        ahead = question.changed_at - now
        raise OptionError(
            f"changed_at lies {ahead:.0f} s in the future", mend="Give epoch seconds, and hold the clocks against NTP"
        )
    client = Client(options.access)
    try:
        return _figures(Api(client, options.urls[0]), options, question, now)
    finally:
        client.close()


def _figures(api: Api, options: SourceOptions, question: Question, now: float) -> Figures:
    stretches = question.stretches(now)
    end, gap = stretches[1][1], options.window
    # the sample before the first begin lies up to a scrape interval and its delay before it
    span = end - question.changed_at + question.before + gap
    service = _of_service(parse_selector(question.metric), question)
    errors = _lines(api, f"{service.narrowed('error_code', '=', question.code)}[{range_of(span)}]", options, end)
    if question.total:
        requests = _lines(api, f"{parse_selector(question.total)}[{range_of(span)}]", options, end)
        exposures = [gained(requests, *stretch, gap=gap) for stretch in stretches]
    else:
        step = max(1.0, span / _COVER_POINTS)
        seen = _lines(api, f"count({service})[{range_of(span)}:{range_of(step)}]", options, end)
        exposures = [covered(seen[0].points if seen else (), step, *stretch) for stretch in stretches]
    counts = [gained(errors, *stretch, gap=gap) for stretch in stretches]
    return Figures(
        tuple(Tally(count, exposure) for count, exposure in zip(counts, exposures)),
        _by_version(errors, stretches[1], gap),
        "requests" if question.total else "seconds",
    )


def _of_service(metric: Selector, question: Question) -> Selector:
    return metric.narrowed("service", "=", question.service).narrowed("environment", "=", question.environment)


def _lines(api: Api, expression: str, options: SourceOptions, at: float) -> Sequence[Line]:
    result = api.query(expression, at=at, timeout=options.timeout)
    if result.kind != "matrix":
        raise NoAnswer("query_error", f"{expression[:80]} gives no samples over time")
    return result.lines


def _by_version(errors: Sequence[Line], since: Tuple[float, float], gap: float) -> Dict[str, float]:
    found: Dict[str, float] = {}
    for line in errors:
        version = line.labels.get("version", "")
        found[version] = found.get(version, 0.0) + gained([line], *since, gap=gap)
    return {version: count for version, count in sorted(found.items()) if count > 0}


def no_figures(error: NoAnswer) -> Tuple[str, str]:
    """The inconclusive reason, and a detail for a person."""
    reason = error.absent.reason
    return reason if reason in ("provider_error", "query_error") else "no_data", error.absent.detail
