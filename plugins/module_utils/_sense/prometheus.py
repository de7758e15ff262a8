# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `prometheus` source: a metrics server that scrapes the places for us.

Plain selectors are fetched as raw samples with their own timestamps, so that increments can be cut to the same instant
on all places; any other expression is evaluated at the look's instant, the same one for all queries of a look.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import partial
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

from .._errors import OptionError
from .._judge.model import Absent, Counts, Probed
from .buckets import Bucket, above
from .client import Client, NoAnswer
from .crew import Crew
from .line import Line, cut_of, increase, living, total_at
from .model import Answer, Presence, Query, Reading, Sample, Targets, Value
from .options import DEFAULT_UP, SourceOptions
from .places import Places
from .promapi import Api, Result, range_of
from .selector import NotASelector, base_of, bucket_at, parse_selector, quoted

_START = "process_start_time_seconds"
_METRIC = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*[{\[]")
Results = Mapping[str, Union[Result, NoAnswer]]


@dataclass(frozen=True)
class Counters:
    """The series of one place: events are bad as far as `plus` counts more than `minus`, of `total`."""

    total: Sequence[Line]
    plus: Sequence[Line]
    minus: Sequence[Line] = ()

    def living(self, now: float, window: float) -> "Counters":
        total = living(self.total, now, window)
        if not total:
            age = now - max(line.newest for line in self.total)
            raise NoAnswer("stale", f"the newest sample is {age:.0f} s old")
        return Counters(total, living(self.plus, now, window), living(self.minus, now, window))

    @property
    def cut(self) -> float:
        return cut_of([*self.total, *self.plus, *self.minus])

    def bad_at(self, instant: float) -> float:
        return total_at(self.plus, instant) - total_at(self.minus, instant)

    def increase(self, begin: float, end: float) -> Optional[Counts]:
        gains = [increase(lines, begin, end) for lines in (self.total, self.plus, self.minus)]
        if None in gains or min(line.points[0][0] for line in self.total) > begin:
            return None
        total, plus, minus = (gain or 0.0 for gain in gains)
        return Counts(max(0.0, plus - minus), total)


class Prometheus:
    """All queries of a look go out at the same time, each with its own timeout, and ask for the same instant."""

    def __init__(
        self, options: SourceOptions, queries: Sequence[Query], targets: Targets, client: Client, crew: Crew
    ) -> None:
        self._options, self._queries, self._crew = options, queries, crew
        self._api = Api(client, options.urls[0])
        self._places = Places(targets, options.place_label)
        self._existing: Set[str] = set()
        self._native: Set[str] = set()
        self._jobs: Set[str] = set()
        for query in queries:
            if not (query.value or query.histogram or (query.bad and query.total)):
                raise OptionError(f"gate {query.gate!r} asks for neither counts, nor a histogram, nor a value")
            if query.histogram:
                parse_selector(query.histogram)

    def sample(self, now: float) -> Sample:
        wanted = dict.fromkeys(filter(None, self._presence_queries()), self._options.timeout)
        for query in self._queries:
            for sent in self._sent(query, self._options.window):
                wanted[sent] = max(query.timeout, wanted.get(sent, 0.0))
        results = self._ask(wanted, now)
        down = _down(results)
        if down is not None:
            return Sample(now, down=down)
        answers = {query.gate: self._answers(query, results, now) for query in self._queries}
        warnings = [text for result in results.values() if isinstance(result, Result) for text in result.warnings]
        return Sample(now, answers, self._presence(results, answers, now), warnings=tuple(dict.fromkeys(warnings)))

    def history(self, now: float, window: float, step: float) -> Mapping[str, Sequence[Mapping[str, Counts]]]:
        """Increments per slot of `step` seconds, oldest first; a slot in which a counter was reset is left out."""
        counted = [query for query in self._queries if not query.value]
        # the samples around the first slot's begin lie before it, by up to a scrape interval and its delay
        span = window + self._options.window
        sent = {text: query.timeout for query in counted for text in self._sent(query, span, step)}
        results = self._ask(sent, now)
        slots: Dict[str, Sequence[Mapping[str, Counts]]] = {}
        for query in counted:
            try:
                found = self._counters(query, results, now, span, step)
            except NoAnswer:
                found = {}
            slots[query.gate] = _slots(found, now, span, step, int(window // step))
        return slots

    def probe(self, now: float) -> Mapping[str, Probed]:
        sent = {text: query.timeout for query in self._queries for text in self._sent(query, self._options.window)}
        results = self._ask(sent, now)
        return {query.gate: self._probed(query, results, now) for query in self._queries}

    # what is sent

    def _sent(self, query: Query, window: float, step: float = 0.0) -> List[str]:
        return [self._text(part, window, step) for part in self._parts(query)]

    def _parts(self, query: Query) -> List[str]:
        """A value; or the total and what is bad; or a histogram's count and its bucket at the limit."""
        if query.value:
            return [query.value]
        if not query.histogram:
            return [query.total, query.bad]
        if query.gate in self._native:
            return [str(base_of(query.histogram))]
        histogram = base_of(query.histogram)
        return [str(histogram.renamed(f"{histogram.name}_count")), str(bucket_at(histogram, query.over or 0.0))]

    def _text(self, expression: str, window: float, step: float) -> str:
        """Raw samples where the expression is a selector; with a `step`, an expression's values over the window."""
        try:
            return f"{self._places.narrow(parse_selector(expression))}[{range_of(window)}]"
        except NotASelector:
            return f"({expression})[{range_of(window)}:{range_of(step)}]" if step else expression

    def _presence_queries(self) -> Tuple[str, str]:
        """What tells who answers, and since when; the second is empty where the first is no selector."""
        try:
            start = str(parse_selector(self._options.up).renamed(_START))
        except NotASelector:
            return self._options.up, ""
        window = self._options.window
        return self._text(self._options.up, window, 0.0), self._text(start, window, 0.0)

    def _ask(self, sent: Mapping[str, float], now: float) -> Dict[str, Union[Result, NoAnswer]]:
        jobs = [(partial(self._api.query, text, at=now, timeout=timeout), timeout) for text, timeout in sent.items()]
        return dict(zip(sent, self._crew.all(jobs)))

    def _found(
        self, expression: str, results: Results, window: float, step: float = 0.0, *, others: bool = False
    ) -> Dict[str, List[Line]]:
        """The lines of one part by place; raises what the source said instead. For `others`, see `Places.sort`."""
        result = results[self._text(expression, window, step)]
        if isinstance(result, NoAnswer):
            raise result
        raw = step > 0 or _is_selector(expression)
        if (result.kind == "matrix") != raw:
            raise NoAnswer("query_error", f"{expression} gives a {result.kind}: ask for one number for each place")
        self._jobs.update(line.labels["job"] for line in result.lines if "job" in line.labels)
        return self._places.sort(result.lines, expression, others=others)

    # what is answered

    def _answers(self, query: Query, results: Results, now: float) -> Dict[str, Answer]:
        try:
            if query.value:
                found = self._found(query.value, results, self._options.window)
                return {place: self._value(query, found.get(place, []), now) for place in self._places.names}
            counters = self._counters(query, results, now, self._options.window)
        except NoAnswer as error:
            return dict.fromkeys(self._places.names, error.absent)
        return {place: self._reading(counters[place], now) for place in self._places.names}

    def _value(self, query: Query, lines: Sequence[Line], now: float) -> Answer:
        if not lines:
            return Absent("no_series", f"no series of {query.value}")
        current = living(lines, now, self._options.window)
        if not current:
            return Absent("stale", f"the newest sample is {now - max(line.newest for line in lines):.0f} s old")
        if len(current) > 1:
            return Absent("several_series", f"{len(current)} series of {query.value} for one place: aggregate them")
        if not math.isfinite(current[0].value):
            return Absent("not_a_number", f"{query.value} is {current[0].value}")
        return Value(current[0].newest, current[0].value)

    def _reading(self, counters: Union[Counters, NoAnswer], now: float) -> Answer:
        if isinstance(counters, NoAnswer):
            return counters.absent
        try:
            current = counters.living(now, self._options.window)
        except NoAnswer as error:
            return error.absent
        at = current.cut
        bad, total = current.bad_at(at), total_at(current.total, at)
        if not (math.isfinite(bad) and math.isfinite(total)):
            return Absent("not_a_number", f"a counter is {total if math.isfinite(bad) else bad}")
        return Reading(at, bad, total)

    def _counters(
        self, query: Query, results: Results, now: float, window: float, step: float = 0.0
    ) -> Dict[str, Union[Counters, NoAnswer]]:
        """Each place's series, or why it has none."""
        if query.histogram:
            return self._histogram(query, results, now, window)
        totals = self._found(query.total, results, window, step)
        bads = self._found(query.bad, results, window, step, others=True)
        counters: Dict[str, Union[Counters, NoAnswer]] = {}
        for place in self._places.names:
            total, bad = totals.get(place, []), bads.get(place, [])
            if not total:
                counters[place] = NoAnswer("no_series", f"no series of {query.total}")
            elif not (bad or bads or self._exists(query, now)):
                counters[place] = NoAnswer("no_series", f"no place has ever had a series of {query.bad}")
            else:
                counters[place] = _one_each(query, Counters(total, bad))
        return counters

    def _exists(self, query: Query, now: float) -> bool:
        """Is there such a metric at all? Then no series means that nothing bad was counted yet."""
        names = _metrics(query.bad)
        missing = names - self._existing - _metrics(query.total)
        for name in sorted(missing):
            try:
                known = self._api.query(f"count({{__name__={quoted(name)}}})", at=now, timeout=query.timeout).lines
            except NoAnswer:
                return False
            if not known and not self._api.declares(name, timeout=query.timeout):
                return False
            self._existing.add(name)
        return bool(names)

    def _histogram(
        self, query: Query, results: Results, now: float, window: float
    ) -> Dict[str, Union[Counters, NoAnswer]]:
        over = query.over or 0.0
        if query.gate not in self._native:
            count, bucket = self._parts(query)
            counts, within = self._found(count, results, window), self._found(bucket, results, window)
            if counts:
                return {place: self._classic(query, counts, within, place, now) for place in self._places.names}
        natives = self._natives(query, results, now, window)
        if natives:
            self._native.add(query.gate)
        return {
            place: _native_counters(natives[place], over)
            if place in natives
            else NoAnswer("no_series", f"no series of {query.histogram}")
            for place in self._places.names
        }

    def _classic(
        self, query: Query, counts: Mapping[str, List[Line]], within: Mapping[str, List[Line]], place: str, now: float
    ) -> Union[Counters, NoAnswer]:
        if place not in counts:
            return NoAnswer("no_series", f"no series of {query.histogram}")
        if len(within.get(place, [])) != len(counts[place]):
            there = ", ".join(f"{edge:g}" for edge in self._edges(query, now)) or "none"
            over = f"{query.over or 0.0:g}"
            return NoAnswer("query_error", f"{query.histogram} has no bucket edge at {over} s: its edges are {there}")
        return Counters(counts[place], counts[place], within[place])

    def _natives(self, query: Query, results: Results, now: float, window: float) -> Dict[str, List[Line]]:
        text = self._text(str(base_of(query.histogram)), window, 0.0)
        result = results.get(text) or self._api.query(text, at=now, timeout=query.timeout)
        if isinstance(result, NoAnswer):
            raise result
        return self._places.sort([line for line in result.lines if line.histograms], query.histogram)

    def _edges(self, query: Query, now: float) -> Tuple[float, ...]:
        histogram = base_of(query.histogram)
        bucket = self._places.narrow(histogram.renamed(f"{histogram.name}_bucket"))
        try:
            lines = self._api.query(f"group by (le) ({bucket})", at=now, timeout=query.timeout).lines
        except NoAnswer:
            return ()
        edges = {float(line.labels["le"]) for line in lines if "le" in line.labels}
        return tuple(sorted(edge for edge in edges if math.isfinite(edge)))

    # who is there

    def _presence(
        self, results: Results, answers: Mapping[str, Mapping[str, Answer]], now: float
    ) -> Dict[str, Presence]:
        """By the server's own `up`; where it has none, a place with fresh numbers is there, and others are unknown."""
        ups, starts = (self._told(text, results) for text in self._presence_queries())
        presence: Dict[str, Presence] = {}
        for place in self._places.names:
            here = living(ups.get(place, []), now, self._options.window)
            begun = [line.value for line in living(starts.get(place, []), now, self._options.window)]
            start = max(begun, default=None)
            if here:
                down = [line for line in here if _down_twice(line)]
                detail = f"the metrics server cannot scrape {len(down)} of {len(here)} instances" if down else ""
                presence[place] = Presence(not down, start, detail)
            elif any(isinstance(told.get(place), (Reading, Value)) for told in answers.values()):
                presence[place] = Presence(True, start)
        return presence

    def _told(self, text: str, results: Results) -> Dict[str, List[Line]]:
        """Without a selector of the user's own, only the jobs that the gates read: a host runs other exporters too."""
        result = results.get(text)
        if not isinstance(result, Result):
            return {}
        every = not self._jobs or self._options.up != DEFAULT_UP
        lines = [line for line in result.lines if every or line.labels.get("job", "") in self._jobs]
        try:
            return self._places.sort(lines, text)
        except NoAnswer:
            return {}

    # lint

    def _probed(self, query: Query, results: Results, now: float) -> Probed:
        answers = self._answers(query, results, now)
        absent = {place: answer for place, answer in answers.items() if isinstance(answer, Absent)}
        there = [place for place in answers if place not in absent or absent[place].reason != "no_series"]
        return Probed(
            gate=query.gate,
            exists=bool(there) and not _source_errors(absent, answers),
            series=self._series(query, results),
            edges=self._edges(query, now) if query.histogram else (),
            places=tuple(there),
            rate=None if query.value else self._rate(query, results, now),
            detail="; ".join(f"{place}: {why.detail}" for place, why in list(absent.items())[:3]),
            unseen=self._unseen(query, results),
        )

    def _rate(self, query: Query, results: Results, now: float) -> Optional[float]:
        window = self._options.window
        try:
            slots = _slots(self._counters(query, results, now, window), now, window, window / 2, 1)
        except NoAnswer:
            return None
        return sum(counts.total for counts in slots[0].values()) / (window / 2) if slots else None

    def _unseen(self, query: Query, results: Results) -> Tuple[str, ...]:
        """Where what is bad and the total are the same metric, the total's series show which labels it has."""
        try:
            bad, total = parse_selector(query.bad), parse_selector(query.total)
            found = self._found(query.total, results, self._options.window)
        except (NotASelector, NoAnswer):
            return ()
        labels = [line.labels for lines in found.values() for line in lines]
        return tuple(bad.unseen(labels)) if bad.name == total.name else ()

    def _series(self, query: Query, results: Results) -> int:
        if not query.value:
            return 1
        try:
            found = self._found(query.value, results, self._options.window)
        except NoAnswer:
            return 1
        return max((len(lines) for lines in found.values()), default=1)


def _down(results: Results) -> Optional[Absent]:
    """Set when nothing at all could be asked: then the server is away, and not the places."""
    errors = [result.absent for result in results.values() if isinstance(result, NoAnswer)]
    if errors and len(errors) == len(results) and all(error.reason == "provider_error" for error in errors):
        return errors[0]
    return None


def _slots(
    found: Mapping[str, Union[Counters, NoAnswer]], now: float, window: float, step: float, number: int
) -> List[Mapping[str, Counts]]:
    """The newest `number` slots of `step` seconds, oldest first, all cut at the same instants."""
    counters: Dict[str, Counters] = {}
    for place, told in found.items():
        if isinstance(told, Counters) and living(told.total, now, window):
            counters[place] = told.living(now, window)
    if not counters:
        return []
    end = min(told.cut for told in counters.values())
    slots: List[Mapping[str, Counts]] = []
    for ago in range(number, 0, -1):
        begin = end - ago * step
        gains = {place: told.increase(begin, begin + step) for place, told in counters.items()}
        slots.append({place: counts for place, counts in gains.items() if counts is not None})
    return [slot for slot in slots if slot]


def _source_errors(absent: Mapping[str, Absent], answers: Mapping[str, Answer]) -> bool:
    errors = [why for why in absent.values() if why.reason == "provider_error"]
    return bool(errors) and len(errors) == len(answers)


def _down_twice(line: Line) -> bool:
    """One failed scrape is a blip; a look every two seconds would see it many times over."""
    return all(value == 0 for _at, value in list(line.points)[-2:])


def _one_each(query: Query, counters: Counters) -> Union[Counters, NoAnswer]:
    """A selector's series are instances and children, to be summed; of an expression, one result is expected."""
    for expression, lines in ((query.total, counters.total), (query.bad, counters.plus)):
        if len(lines) > 1 and not _is_selector(expression):
            return NoAnswer("several_series", f"{len(lines)} results of {expression} for one place: aggregate them")
    return counters


def _native_counters(lines: Sequence[Line], over: float) -> Counters:
    total: List[Line] = []
    bad: List[Line] = []
    for line in lines:
        total.append(Line(line.labels, [(at, _figure(said.get("count"))) for at, said in line.histograms]))
        bad.append(Line(line.labels, [(at, above(_buckets(said), over)) for at, said in line.histograms]))
    return Counters(total, bad)


def _buckets(said: Mapping[str, object]) -> List[Bucket]:
    """`[boundary rule, lower, upper, count]`, as the API writes them."""
    listed = said.get("buckets")
    rows = listed if isinstance(listed, list) else []
    return [Bucket(*(_figure(cell) for cell in row[1:4])) for row in rows]


def _figure(raw: object) -> float:
    return float(raw) if isinstance(raw, (str, int, float)) else math.nan


def _is_selector(expression: str) -> bool:
    try:
        parse_selector(expression)
    except NotASelector:
        return False
    return True


def _metrics(expression: str) -> Set[str]:
    """The metrics that an expression names, as far as they have labels or a range."""
    try:
        return {parse_selector(expression).name}
    except NotASelector:
        return set(_METRIC.findall(expression))
