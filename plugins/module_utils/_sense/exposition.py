# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The `exposition` source: scrape the places' own /metrics, so that no metrics server is needed.

Understands the text format 0.0.4 and OpenMetrics, as parsed by prometheus_client. Several URLs of one place are its
instances, and their counters are summed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import (
    TYPE_CHECKING,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)

from .._errors import OptionError
from .._judge.model import Absent, Counts, Probed
from .buckets import Native, above, native_buckets, same_edge
from .client import Client, NoAnswer, Page, http_error
from .crew import Crew
from .model import Answer, Presence, Query, Reading, Sample, Target, Targets, Value
from .options import SourceOptions
from .selector import Selector, parse_selector

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

# not OpenMetrics first: some servers rename counters between the formats, and people write what they see in a browser
_ACCEPT = "text/plain;version=0.0.4, application/openmetrics-text;q=0.1, */*;q=0.1"
_START = "process_start_time_seconds"
_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Series:
    labels: Mapping[str, str]
    value: float
    native: Optional[Native] = None


@dataclass(frozen=True)
class Scrape:
    """One page: the wanted series by name, and the names of all families it declares, with or without series."""

    at: float
    series: Mapping[str, Sequence[Series]]
    families: FrozenSet[str]

    def matching(self, selector: Selector) -> List[Series]:
        return [series for series in self.series.get(selector.name, ()) if selector.accepts(series.labels)]

    def knows(self, name: str) -> bool:
        return name in self.series or name in self.families or family_of(name) in self.families

    def start(self, counter: Selector) -> Optional[float]:
        """When the process began, as it says itself, else as its oldest counter of this name does."""
        told = [series.value for series in self.series.get(_START, ())]
        if told:
            return max(told)
        created = self.matching(counter.renamed(f"{family_of(counter.name)}_created"))
        return min((series.value for series in created), default=None)


def family_of(name: str) -> str:
    """`http_requests` of `http_requests_total`."""
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            return name[: -len(suffix)]
    return name


def parse_page(page: Page, names: Iterable[str]) -> Scrape:
    """The wanted part of a page. Only its lines go to the parser, which is slow beside this filter."""
    if page.is_html:
        raise NoAnswer("provider_error", f"{page.url} answers HTML, not metrics")
    openmetrics = "openmetrics" in page.content_type
    wanted = frozenset(names) | {_START}
    text = page.body.decode("utf-8", errors="replace")
    heads = tuple({family_of(name) for name in wanted} if openmetrics else wanted)
    quoted_heads = tuple('{"' + head for head in heads)
    types = tuple(f"# TYPE {family_of(head)}" for head in heads)
    families: List[str] = []
    kept: List[str] = []
    for line in text.split("\n"):
        if line.startswith(heads) or line.startswith(quoted_heads):
            kept.append(line)
        elif line.startswith(types):
            families.append(line.split(None, 3)[2].strip('"'))
            if openmetrics:
                kept.append(line)
    # without their TYPE lines the text parser leaves the names as they were written
    parse = _parser(openmetrics)
    series: Dict[str, List[Series]] = {}
    try:
        for family in parse("\n".join(kept) + ("\n# EOF\n" if openmetrics else "\n")):
            for name, labels, value, _timestamp, _exemplar, native in family.samples:
                if name in wanted:
                    series.setdefault(name, []).append(Series(labels or {}, _number(value), native))
    except (ValueError, IndexError, KeyError, TypeError):
        raise NoAnswer("provider_error", f"{page.url} answers something that is not metrics") from None
    if not kept and not families and "# " not in text[:4096] and " " not in text[:4096]:
        raise NoAnswer("provider_error", f"{page.url} answers something that is not metrics")
    return Scrape(page.at, series, frozenset(families))


def _parser(openmetrics: bool) -> Callable[[str], Iterable[Metric]]:
    if openmetrics:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

        return parse_openmetrics
    from prometheus_client.parser import text_string_to_metric_families

    return text_string_to_metric_families


def _number(value: Optional[float]) -> float:
    return math.nan if value is None else float(value)


class Question:
    """One query, with its selectors parsed; raises OptionError when one is not a selector."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.bad = parse_selector(query.bad) if query.bad else None
        self.total = parse_selector(query.total) if query.total else None
        self.value = parse_selector(query.value) if query.value else None
        histogram = parse_selector(query.histogram) if query.histogram else None
        self.histogram = histogram and histogram.renamed(family_of(histogram.name))

    def names(self) -> List[str]:
        named = [selector.name for selector in (self.bad, self.total, self.value) if selector]
        if self.histogram:
            named += [self.histogram.name, f"{self.histogram.name}_bucket", f"{self.histogram.name}_count"]
        return named + [f"{family_of(name)}_created" for name in named]

    def answer(self, scrapes: Sequence[Scrape]) -> Answer:
        """What the instances of one place say together."""
        try:
            if self.value:
                return _value(scrapes, self.value)
            if self.histogram:
                return _slow(scrapes, self.histogram, self.query.over or 0.0)
            if self.bad and self.total:
                return _counts(scrapes, self.bad, self.total)
        except NoAnswer as error:
            return error.absent
        raise OptionError(f"gate {self.query.gate!r} asks for neither counts, nor a histogram, nor a value")


def _value(scrapes: Sequence[Scrape], selector: Selector) -> Value:
    found = [(scrape.at, series.value) for scrape in scrapes for series in scrape.matching(selector)]
    if not found:
        raise NoAnswer("no_series", _nothing(scrapes, selector))
    if len(found) > 1:
        raise NoAnswer("several_series", f"{len(found)} series match {selector}: name one")
    at, value = found[0]
    return Value(at, _finite(value, selector))


def _counts(scrapes: Sequence[Scrape], bad: Selector, total: Selector) -> Reading:
    """A counter that has not been touched yet has no series in most client libraries: 0, if its family is there."""
    totals = [series.value for scrape in scrapes for series in scrape.matching(total)]
    untouched = not any(scrape.series.get(total.name) for scrape in scrapes) and _known(scrapes, total)
    if not totals and not untouched:
        raise NoAnswer("no_series", _nothing(scrapes, total))
    if not _known(scrapes, bad):
        raise NoAnswer("no_series", _nothing(scrapes, bad))
    bads = [series.value for scrape in scrapes for series in scrape.matching(bad)]
    return _reading(scrapes, total, bad=_finite(sum(bads), bad), total=_finite(sum(totals), total))


def _slow(scrapes: Sequence[Scrape], histogram: Selector, over: float) -> Reading:
    """The observations above `over`: all of them less those in the bucket whose edge is there."""
    natives = [s.native for scrape in scrapes for s in scrape.matching(histogram) if s.native]
    if natives:
        total = float(sum(native.count_value for native in natives))
        bad = sum(above(native_buckets(native), over) for native in natives)
        return _reading(scrapes, histogram, bad=bad, total=total)
    count, bucket = histogram.renamed(f"{histogram.name}_count"), histogram.renamed(f"{histogram.name}_bucket")
    counts = [s.value for scrape in scrapes for s in scrape.matching(count)]
    if not counts and not _known(scrapes, count):
        raise NoAnswer("no_series", _nothing(scrapes, histogram))
    buckets = [s for scrape in scrapes for s in scrape.matching(bucket)]
    within = [s.value for s in buckets if same_edge(s.labels.get("le", ""), over)]
    if len(within) != len(counts):
        raise NoAnswer("query_error", no_edge(histogram, over, edges_of(buckets)))
    total = sum(counts)
    return _reading(scrapes, count, bad=_finite(total - sum(within), histogram), total=total)


def edges_of(buckets: Iterable[Series]) -> Tuple[float, ...]:
    """Without +Inf, which every histogram has."""
    told = {float(series.labels["le"]) for series in buckets if "le" in series.labels}
    return tuple(sorted(edge for edge in told if math.isfinite(edge)))


def no_edge(histogram: object, over: float, edges: Sequence[float]) -> str:
    there = ", ".join(f"{edge:g}" for edge in edges) or "none"
    return f"{histogram} has no bucket edge at {over:g} s: its edges are {there}"


def _reading(scrapes: Sequence[Scrape], counter: Selector, *, bad: float, total: float) -> Reading:
    starts = [start for start in (scrape.start(counter) for scrape in scrapes) if start is not None]
    return Reading(max(scrape.at for scrape in scrapes), bad, total, max(starts, default=None))


def _known(scrapes: Sequence[Scrape], selector: Selector) -> bool:
    return any(scrape.knows(selector.name) for scrape in scrapes)


def _nothing(scrapes: Sequence[Scrape], selector: Selector) -> str:
    if _known(scrapes, selector) and selector.matchers:
        return f"{selector.name} is there, but no series matches {selector}"
    return f"there is no metric {selector.name}"


def _finite(number: float, selector: Selector) -> float:
    if not math.isfinite(number):
        raise NoAnswer("not_a_number", f"{selector} is {number}")
    return number


class Exposition:
    """Scrapes all places at once; one page answers all gates of its place."""

    def __init__(
        self, options: SourceOptions, queries: Sequence[Query], targets: Targets, client: Client, crew: Crew
    ) -> None:
        self._questions = [Question(query) for query in queries]
        self._names = sorted({name for question in self._questions for name in question.names()})
        self._timeout = max((query.timeout for query in queries), default=options.timeout)
        self._pages = [(target.place, url) for target in targets for url in _urls(target, options, len(targets))]
        self._client, self._crew = client, crew

    def sample(self, now: float) -> Sample:
        scrapes = self._scrape()
        answers: Dict[str, Dict[str, Answer]] = {question.query.gate: {} for question in self._questions}
        presence: Dict[str, Presence] = {}
        for place, pages in scrapes.items():
            good = [page for page in pages if isinstance(page, Scrape)]
            failed = [page for page in pages if isinstance(page, NoAnswer)]
            presence[place] = _presence(good, failed)
            for question in self._questions:
                answer = failed[0].absent if failed else question.answer(good)
                answers[question.query.gate][place] = answer
        return Sample(now, answers, presence)

    def history(self, now: float, window: float, step: float) -> Mapping[str, Sequence[Mapping[str, Counts]]]:
        """A page knows only the present."""
        return {}

    def probe(self, now: float) -> Mapping[str, Probed]:
        """What the gates' questions meet at the places now."""
        scrapes = self._scrape()
        return {question.query.gate: _probed(question, scrapes) for question in self._questions}

    def _scrape(self) -> Dict[str, List[Union[Scrape, NoAnswer]]]:
        jobs = [(partial(self._page, url), self._timeout) for _place, url in self._pages]
        scrapes: Dict[str, List[Union[Scrape, NoAnswer]]] = {}
        for (place, _url), scrape in zip(self._pages, self._crew.all(jobs)):
            scrapes.setdefault(place, []).append(scrape)
        return scrapes

    def _page(self, url: str) -> Scrape:
        page = self._client.get(url, timeout=self._timeout, accept=_ACCEPT)
        error = http_error(page)
        if error:
            raise error
        return parse_page(page, self._names)


def _urls(target: Target, options: SourceOptions, places: int) -> Tuple[str, ...]:
    urls = target.urls or (options.urls if places == 1 else ())
    if not urls:
        raise OptionError(f"place {target.place!r} has no url to scrape", mend="Give each place its own source.url")
    return urls


def _presence(good: Sequence[Scrape], failed: Sequence[NoAnswer]) -> Presence:
    """A place is up when each of its instances answers."""
    starts = [series.value for scrape in good for series in scrape.series.get(_START, ())]
    silent = [error for error in failed if not error.answered]
    details = [error.what for error in silent or failed]
    return Presence(not silent, max(starts, default=None), details[0] if details else "")


def _probed(question: Question, scrapes: Mapping[str, Sequence[Union[Scrape, NoAnswer]]]) -> Probed:
    places: List[str] = []
    details: List[str] = []
    edges: Set[float] = set()
    series = 1
    for place, pages in scrapes.items():
        good = [page for page in pages if isinstance(page, Scrape)]
        failed = [page for page in pages if isinstance(page, NoAnswer)]
        answer = failed[0].absent if failed else question.answer(good)
        if isinstance(answer, Absent):
            details.append(f"{place}: {answer.detail}")
        if not isinstance(answer, Absent) or answer.reason in ("several_series", "query_error", "not_a_number"):
            places.append(place)
        if question.value:
            series = max(series, *(len(page.matching(question.value)) for page in good), 1)
        if question.histogram:
            bucket = question.histogram.renamed(f"{question.histogram.name}_bucket")
            edges.update(edges_of(found for page in good for found in page.matching(bucket)))
    return Probed(
        gate=question.query.gate,
        exists=bool(places),
        series=series,
        edges=tuple(sorted(edges)),
        places=tuple(places),
        rate=_rate(question, scrapes),
        unseen=_unseen(question, scrapes),
        detail="; ".join(details[:3]),
    )


def _rate(question: Question, scrapes: Mapping[str, Sequence[Union[Scrape, NoAnswer]]]) -> Optional[float]:
    """Requests per second over all places, as an average since their processes began: a page knows no other past."""
    rates: List[float] = []
    for pages in scrapes.values():
        answer = question.answer([page for page in pages if isinstance(page, Scrape)]) if _whole(pages) else None
        if isinstance(answer, Reading) and answer.start is not None and answer.at > answer.start:
            rates.append(answer.total / (answer.at - answer.start))
    return sum(rates) if rates else None


def _unseen(question: Question, scrapes: Mapping[str, Sequence[Union[Scrape, NoAnswer]]]) -> Tuple[str, ...]:
    histogram = question.histogram and question.histogram.renamed(f"{question.histogram.name}_count")
    good = [page for pages in scrapes.values() for page in pages if isinstance(page, Scrape)]
    unseen: List[str] = []
    for selector in (question.total, question.bad, question.value, histogram):
        if selector:
            unseen += selector.unseen(series.labels for page in good for series in page.series.get(selector.name, ()))
    return tuple(dict.fromkeys(unseen))


def _whole(pages: Sequence[Union[Scrape, NoAnswer]]) -> bool:
    return all(isinstance(page, Scrape) for page in pages)
