# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A contract: what is asked of the Prometheus API, and what is made of each of its answers, also of odd ones.

The server here is a small responder that answers as the API's documentation says.
"""

from __future__ import annotations

import time
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

import pytest
from sense_servers import Reply, Request, always, api, number, raw, refused, told, web

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Absent, Counts, Probed
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.collect import Sampler, collect, probe
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import (
    EVERYTHING,
    Answer,
    Query,
    Reading,
    Sample,
    Target,
    Value,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import parse_source

NOW = 10_000.0
ERRORS = Query("errors", bad='http_requests_total{code=~"5.."}', total="http_requests_total", timeout=2)
SLOW = Query("slow", histogram="took_seconds", over=0.3, timeout=2)
QUEUE = Query("queue", value="queue_length", timeout=2)
PLACES = (Target("web1"), Target("web2"))
Replies = Mapping[str, Reply | Callable[[Request], Reply]]


def counter(place: str, *values: float, code: str = "", end: float = NOW - 1.0, job: str = "shop") -> Dict[str, object]:
    """One sample every ten seconds, the last one at `end`."""
    labels = {"instance": f"{place}:8000", "job": job, **({"code": code} if code else {})}
    begun = end - 10.0 * (len(values) - 1)
    return raw(labels, *((begun + 10.0 * index, value) for index, value in enumerate(values)))


def ask(
    replies: Replies, *queries: Query, targets: Tuple[Target, ...] = PLACES, **source: object
) -> Tuple[Sample, List[Request]]:
    with web(api(replies)) as (url, asked):
        options = parse_source({"type": "prometheus", "url": url, **source})
        with Sampler(options, queries or (ERRORS,), targets, clock=lambda: NOW) as sampler:
            return sampler.sample(), asked


def answer(replies: Replies, query: Query, place: str = "web1") -> Answer:
    return ask(replies, query)[0].answers[query.gate][place]


BOTH = {
    'http_requests_total{code=~"5.."': told("matrix", [counter("web1", 1, 2, 4, code="500")]),
    "http_requests_total{instance": told(
        "matrix",
        [
            counter("web1", 80, 90, 100, code="200"),
            counter("web1", 1, 2, 4, code="500"),
            counter("web2", 180, 190, 200, code="200", end=NOW - 4.0),
        ],
    ),
}


def test_selectors_are_fetched_as_raw_samples_of_the_known_places_at_one_instant() -> None:
    sample, asked = ask(BOTH)
    assert sample.answers["errors"] == {"web1": Reading(NOW - 1.0, 4, 104), "web2": Reading(NOW - 4.0, 0, 200)}
    queries = {request.form["query"] for request in asked}
    narrowed = r'instance=~"\\[?(?:web1|web2)\\]?(?::[0-9]+)?"'
    assert queries == {
        f'http_requests_total{{code=~"5..", {narrowed}}}[150000ms]',
        f"http_requests_total{{{narrowed}}}[150000ms]",
        f"up{{{narrowed}}}[150000ms]",
        f"process_start_time_seconds{{{narrowed}}}[150000ms]",
    }
    assert {request.form["time"] for request in asked} == {"10000.000"}
    assert {(request.method, request.path) for request in asked} == {("POST", "/api/v1/query")}
    assert "2000ms" in {request.form["timeout"] for request in asked}


def test_series_of_one_place_are_cut_at_their_common_instant() -> None:
    replies = {
        "http_requests_total": told(
            "matrix",
            [counter("web1", 0, 100, end=NOW - 10.0, code="200"), counter("web1", 0, 100, end=NOW - 5.0, code="204")],
        )
    }
    told_both = answer(replies, Query("x", bad='http_requests_total{code="200"}', total="http_requests_total"))
    assert told_both == Reading(NOW - 10.0, 150, 150)


def test_a_series_that_ended_counts_no_more() -> None:
    replies = {
        "http_requests_total": told(
            "matrix", [counter("web1", 5, 6, 7, end=NOW - 90.0, code="a"), counter("web1", 1, 2, 3, code="b")]
        )
    }
    assert answer(replies, ERRORS) == Reading(NOW - 1.0, 3, 3)


def test_samples_that_are_too_old_are_stale() -> None:
    replies = {"http_requests_total": told("matrix", [counter("web1", 5, 6, 7, end=NOW - 60.0)])}
    assert answer(replies, ERRORS) == Absent("stale", "the newest sample is 60 s old")
    queue = {"queue_length": told("matrix", [counter("web1", 5, 6, 7, end=NOW - 60.0)])}
    assert answer(queue, QUEUE) == Absent("stale", "the newest sample is 60 s old")


def test_expressions_are_evaluated_and_have_one_result_for_each_place() -> None:
    expressed = Query("errors", bad="sum by (instance) (bad)", total="sum by (instance) (all)")
    replies: Replies = {
        "sum by (instance) (bad)": told("vector", [number({"instance": "web1:8000"}, 3, NOW)]),
        "sum by (instance) (all)": told(
            "vector", [number({"instance": "web1:8000"}, 30, NOW), number({"instance": "web2:8000"}, 40, NOW)]
        ),
    }
    assert ask(replies, expressed)[0].answers["errors"] == {"web1": Reading(NOW, 3, 30), "web2": Reading(NOW, 0, 40)}
    twice = told("vector", [number({"instance": "web1:1"}, 1, NOW), number({"instance": "web1:2"}, 1, NOW)])
    several = answer({**replies, "sum by (instance) (all)": twice}, expressed)
    assert isinstance(several, Absent) and several.reason == "several_series"


def test_a_value_is_one_series_with_its_own_time() -> None:
    one = {"queue_length": told("matrix", [counter("web1", 5, 6, 7)])}
    assert answer(one, QUEUE) == Value(NOW - 1.0, 7)
    two = {"queue_length": told("matrix", [counter("web1", 1, 2, code="a"), counter("web1", 1, 2, code="b")])}
    several = answer(two, QUEUE)
    assert isinstance(several, Absent) and several.reason == "several_series"
    assert answer(one, QUEUE, "web2") == Absent("no_series", "no series of queue_length")


@pytest.mark.parametrize("figure", ["NaN", "+Inf", "-Inf"])
def test_what_is_not_a_number_is_told_apart(figure: str) -> None:
    labels = {"instance": "web1"}
    value = answer({"queue": told("vector", [number(labels, figure, NOW)])}, Query("q", value="queue + 0"))
    assert isinstance(value, Absent) and value.reason == "not_a_number"
    replies = {"http": told("matrix", [{"metric": labels, "values": [[NOW, figure]]}])}
    counts = answer(replies, ERRORS)
    assert isinstance(counts, Absent) and counts.reason == "not_a_number"


def test_nothing_bad_yet_is_zero_only_when_such_a_metric_exists() -> None:
    total = {"http_requests_total": told("matrix", [counter("web1", 1, 2, 3)])}
    panics = Query("panics", bad='panics_total{code="x"}', total="http_requests_total")
    never = Absent("no_series", 'no place has ever had a series of panics_total{code="x"}')
    assert answer(total, panics) == never
    counted: Replies = {**total, "count({__name__": told("vector", [number({}, 4, NOW)])}
    assert answer(counted, panics) == Reading(NOW - 1.0, 0, 3)
    declared: Replies = {**total, "/api/v1/metadata": Reply('{"status":"success","data":{"panics_total":[{}]}}')}
    assert answer(declared, panics) == Reading(NOW - 1.0, 0, 3)
    assert answer({**total, "/api/v1/metadata": Reply("", 404)}, panics) == never
    assert answer({**total, "count({__name__": refused("no")}, panics) == never
    expressed = Query("panics", bad="sum by (instance) (panics_total{})", total="http_requests_total")
    assert isinstance(answer(counted, expressed), Reading)
    unnamed = Query("panics", bad="sum by (instance) (panics)", total="http_requests_total")
    assert isinstance(answer(counted, unnamed), Absent)


def test_nothing_bad_at_one_place_is_zero_when_another_has_some() -> None:
    replies = {
        "panics_total": told("matrix", [counter("web2", 1, 2, 3)]),
        "http_requests_total": told("matrix", [counter("web1", 1, 2, 3), counter("web2", 1, 2, 3)]),
    }
    sample, _asked = ask(replies, Query("panics", bad="panics_total", total="http_requests_total"))
    assert sample.answers["panics"] == {"web1": Reading(NOW - 1.0, 0, 3), "web2": Reading(NOW - 1.0, 3, 3)}


def test_what_is_bad_may_be_of_other_places_alone_but_never_of_nobody() -> None:
    total = told("matrix", [counter("web1", 1, 2, 3), counter("web9", 1, 2, 3)])
    elsewhere: Replies = {"bad": told("matrix", [counter("web9", 1, 2, 3)]), "total": total}
    query = Query("x", bad="bad", total="total")
    sample, _asked = ask({**elsewhere, "count(": told("vector", [number({}, 1, NOW)])}, query, targets=PLACES[:1])
    assert sample.answers["x"] == {"web1": Reading(NOW - 1.0, 0, 3)}
    nameless: Replies = {"sum(bad)": told("vector", [number({}, 9, NOW)]), "total": total}
    lost = answer(nameless, Query("x", bad="sum(bad)", total="total"))
    assert lost == Absent("query_error", "sum(bad) has no label 'instance' that tells the places apart")


def test_a_place_is_known_by_its_name_its_host_or_its_instance() -> None:
    lines = [
        raw({"instance": "web1:8000"}, (NOW - 1.0, 1)),
        raw({"instance": "10.0.0.2:8000"}, (NOW - 1.0, 2)),
        raw({"instance": "web3:9000"}, (NOW - 1.0, 3)),
        raw({"instance": "[::1]:9000"}, (NOW - 1.0, 4)),
        raw({"instance": "else:1"}, (NOW - 1.0, 5)),
    ]
    targets = (Target("web1"), Target("two", instance="10.0.0.2"), Target("web3:9000"), Target("six", instance="::1"))
    sample, asked = ask({"queue_length": told("matrix", lines)}, QUEUE, targets=targets)
    assert list(sample.answers["queue"].values()) == [Value(NOW - 1.0, value) for value in (1, 2, 3, 4)]
    assert any(r"10\\.0\\.0\\.2" in request.form["query"] for request in asked)


def test_the_place_label_may_be_another_one() -> None:
    replies = {"queue_length": told("matrix", [raw({"pod": "web1"}, (NOW - 1.0, 1)), raw({"pod": "x"}, (NOW, 1))])}
    sample, _asked = ask(replies, QUEUE, place_label="pod")
    assert sample.answers["queue"]["web1"] == Value(NOW - 1.0, 1)


def test_series_that_name_no_place_are_a_query_error() -> None:
    unlabelled = answer({"sum": told("vector", [number({}, 1, NOW)])}, Query("q", value="sum(queue)"))
    assert unlabelled == Absent("query_error", "sum(queue) has no label 'instance' that tells the places apart")
    others = {"queue_length": told("matrix", [raw({"instance": "10.0.0.9:1"}, (NOW - 1.0, 1))])}
    elsewhere = answer(others, QUEUE)
    assert isinstance(elsewhere, Absent) and elsewhere.reason == "query_error"
    assert "instance='10.0.0.9:1'" in elsewhere.detail and "place_label" in elsewhere.detail


def test_without_places_all_there_is_is_one() -> None:
    replies = {
        "sum(queue)": told("vector", [number({}, 7, NOW)]),
        "scalar(x)": told("scalar", [NOW, "3"]),
        "http": told("matrix", [counter("web1", 1, 2), counter("web2", 3, 4)]),
    }
    queries = (Query("q", value="sum(queue)"), Query("s", value="scalar(x)"), ERRORS)
    sample, _asked = ask(replies, *queries, targets=())
    assert sample.answers["q"] == {EVERYTHING: Value(NOW, 7)}
    assert sample.answers["s"] == {EVERYTHING: Value(NOW, 3)}
    assert sample.answers["errors"] == {EVERYTHING: Reading(NOW - 1.0, 6, 6)}


def test_a_single_place_needs_no_label() -> None:
    sample, _asked = ask(
        {"sum": told("vector", [number({}, 1, NOW)])}, Query("q", value="sum(x)"), targets=(PLACES[0],)
    )
    assert sample.answers["q"] == {"web1": Value(NOW, 1)}


CLASSIC = {
    'took_seconds_bucket{le=~"0\\\\.3': told("matrix", [counter("web1", 8, 16, 24), counter("web2", 1, 2, 3)]),
    "took_seconds_count": told("matrix", [counter("web1", 10, 20, 30), counter("web2", 1, 2, 3)]),
}


def test_slow_requests_are_the_count_less_the_bucket_at_the_limit() -> None:
    sample, asked = ask(CLASSIC, SLOW)
    assert sample.answers["slow"] == {"web1": Reading(NOW - 1.0, 6, 30), "web2": Reading(NOW - 1.0, 0, 3)}
    assert any(r'le=~"1|1\\.0"' in r.form["query"] for r in ask({}, Query("s", histogram="t_bucket", over=1.0))[1])
    assert not any("group by" in request.form["query"] for request in asked)


def test_without_an_edge_at_the_limit_the_edges_are_named() -> None:
    edges = [number({"le": edge}, 1, NOW) for edge in ("0.1", "1.0", "+Inf")]
    replies: Replies = {
        "took_seconds_count": CLASSIC["took_seconds_count"],
        "group by (le) (took_seconds_bucket": told("vector", edges),
    }
    wrong = answer(replies, SLOW)
    assert wrong == Absent("query_error", "took_seconds has no bucket edge at 0.3 s: its edges are 0.1, 1")
    replies = {**replies, "group by": refused("no")}
    assert isinstance(answer(replies, SLOW), Absent)
    one = {**CLASSIC, "took_seconds_count": told("matrix", [counter("web2", 1, 2, 3)])}
    assert answer(one, SLOW) == Absent("no_series", "no series of took_seconds")


def test_native_histograms_are_understood() -> None:
    def sample(at: float, count: int) -> List[object]:
        rows = [[3, "-0.1", "0.1", str(count / 2)], [0, "0.25", "0.5", str(count / 2)]]
        return [at, {"count": str(count), "sum": "1", "buckets": rows}]

    native = {
        "metric": {"instance": "web1:8000", "job": "shop"},
        "histograms": [sample(NOW - 11.0, 20), sample(NOW - 1.0, 40)],
    }
    replies = {"took_seconds{": told("matrix", [native])}
    with web(api(replies)) as (url, asked):
        options = parse_source({"type": "prometheus", "url": url})
        edge = Query("slow", histogram="took_seconds", over=0.25)
        with Sampler(options, [edge, Query("none", histogram="other", over=1)], PLACES, clock=lambda: NOW) as sampler:
            first, second = sampler.sample(), sampler.sample()
    assert first.answers["slow"] == second.answers["slow"]
    assert first.answers["slow"]["web1"] == Reading(NOW - 1.0, 20, 40)
    assert first.answers["none"]["web1"] == Absent("no_series", "no series of other")
    counts = [request for request in asked if request.form["query"].startswith("took_seconds_count")]
    assert len(counts) == 1, "once it is known to be native, only the histogram itself is asked for"


def test_who_is_up_and_since_when() -> None:
    replies = {
        **BOTH,
        "up{": told(
            "matrix",
            [
                counter("web1", 1, 1, 1),
                counter("web1", 0, 0, 0, job="node"),
                counter("web2", 1, 0, 0),
            ],
        ),
        "process_start": told("matrix", [counter("web1", 500, 500), counter("web1", 900, 900, job="node")]),
    }
    sample, _asked = ask(replies)
    assert (sample.presence["web1"].up, sample.presence["web1"].start) == (True, 500)
    assert not sample.presence["web2"].up
    assert sample.presence["web2"].detail == "the metrics server cannot scrape 1 of 1 instances"


def test_one_failed_scrape_is_a_blip() -> None:
    sample, _asked = ask({**BOTH, "up{": told("matrix", [counter("web1", 1, 1, 0)])})
    assert sample.presence["web1"].up


def test_without_up_those_with_fresh_numbers_are_there_and_others_unknown() -> None:
    replies = {"http_requests_total": told("matrix", [counter("web1", 1, 2)]), "up{": refused("no")}
    sample, _asked = ask(replies)
    assert {place: presence.up for place, presence in sample.presence.items()} == {"web1": True}


def test_up_may_be_any_expression_or_selector() -> None:
    expression = {**BOTH, "min by (instance) (probe)": told("vector", [number({"instance": "web1"}, 0, NOW)])}
    sample, asked = ask(expression, up="min by (instance) (probe)")
    assert not sample.presence["web1"].up
    assert not any("process_start" in request.form["query"] for request in asked)
    selector = {**BOTH, 'up{job="probes"': told("matrix", [counter("web1", 0, 0, job="probes")])}
    assert not ask(selector, up='up{job="probes"}')[0].presence["web1"].up


def error_of(reply: Reply, query: Query = QUEUE) -> Absent:
    """What a gate says when its query gets this answer, and `up` an ordinary one."""
    told_one = answer({query.value: reply}, query)
    assert isinstance(told_one, Absent)
    return told_one


@pytest.mark.parametrize(
    ("reply", "reason", "detail"),
    [
        (refused("parse error: unexpected }"), "query_error", "parse error: unexpected }"),
        (refused("many-to-many\n matching", "execution", 422), "query_error", "many-to-many matching"),
        (refused("x" * 900), "query_error", "x…"),
        (refused("took too long", "timeout", 503), "provider_error", "HTTP 503: took too long"),
        (refused("oh", "internal", 500), "provider_error", "HTTP 500: oh"),
        (refused("odd", "unavailable", 200), "provider_error", "odd"),
        (Reply("nope", 429), "provider_error", "HTTP 429: nope"),
        (Reply("", 401), "provider_error", "HTTP 401"),
        (Reply("<html>Login</html>", content_type="text/html"), "provider_error", "HTML"),
        (Reply("<html>404</html>", 404, content_type="text/html"), "provider_error", "HTTP 404"),
        (Reply("plain"), "provider_error", "no JSON"),
        (Reply("[]"), "provider_error", "not of the Prometheus API"),
        (Reply('{"status": "success"}'), "provider_error", "not of the Prometheus API"),
        (told("string", [1, "x"]), "query_error", "gives a string"),
        (told("vector", [{"metric": {}, "value": 3}]), "provider_error", "cannot be read"),
        (told("vector", [{"metric": {}, "histogram": [1, 2]}]), "provider_error", "cannot be read"),
        (told("vector", [number({"instance": "web1"}, 1, NOW)]), "query_error", "gives a vector"),
        (Reply("", 302, headers={"Location": "https://sso/"}), "provider_error", "redirects to https://sso/"),
    ],
)
def test_every_odd_answer_has_its_own_reason(reply: Reply, reason: str, detail: str) -> None:
    absent = error_of(reply)
    assert absent.reason == reason
    assert detail in absent.detail and "\n" not in absent.detail and len(absent.detail) < 320


def test_an_expression_that_gives_a_range_is_a_query_error() -> None:
    matrix = told("matrix", [counter("web1", 1, 2)])
    assert answer({"queue[5m]": matrix}, Query("q", value="queue[5m]")) == Absent(
        "query_error", "queue[5m] gives a matrix: ask for one number for each place"
    )


def test_each_query_has_its_own_timeout() -> None:
    slow = Query("slow", value="sleep(60)", timeout=0.2)
    replies: Replies = {**BOTH, "sleep(60)": Reply("late", delay=5)}
    begun = time.monotonic()
    sample, _asked = ask(replies, slow, ERRORS)
    assert time.monotonic() - begun < 3
    late = sample.answers["slow"]["web1"]
    assert isinstance(late, Absent) and late.reason == "provider_error" and "within 0.2 s" in late.detail
    assert isinstance(sample.answers["errors"]["web1"], Reading)


def test_a_server_that_is_away_is_down_and_says_nothing_of_the_places() -> None:
    with web(always(Reply(""))) as (url, _asked):
        pass
    sample = collect(parse_source({"type": "prometheus", "url": url}), [ERRORS, QUEUE], PLACES)
    assert sample.down == Absent("provider_error", f"{url}/api/v1/query refuses the connection")
    assert (sample.answers, sample.presence) == ({}, {})
    assert Sample.from_dict(sample.as_dict()) == sample


def test_warnings_are_kept() -> None:
    replies: Replies = {"queue": told("vector", [], warnings=["partial answer"], infos=["not a counter"])}
    sample, _asked = ask(replies, Query("q", value="queue + 1"))
    assert sample.warnings == ("partial answer", "not a counter")


def test_the_same_question_is_asked_once() -> None:
    _sample, asked = ask(BOTH, ERRORS, Query("again", bad=ERRORS.bad, total=ERRORS.total))
    assert len(asked) == 4


def slots(
    replies: Replies, *queries: Query, window: float = 30.0, step: float = 10.0
) -> Mapping[str, Sequence[Mapping[str, Counts]]]:
    with web(api(replies)) as (url, _asked):
        options = parse_source({"type": "prometheus", "url": url})
        with Sampler(options, queries, PLACES, clock=lambda: NOW) as sampler:
            return sampler.history(window, step)


def test_history_is_cut_into_slots_for_all_places() -> None:
    replies = {
        "bad": told("matrix", [counter("web1", 0, 0, 1, 1, 4)]),
        "all": told("matrix", [counter("web1", 0, 10, 20, 30, 40), counter("web2", 0, 100, 5, 105, 205)]),
    }
    seen = slots(replies, Query("errors", bad="bad", total="all"), QUEUE)
    assert seen == {
        "errors": [
            {"web1": Counts(1, 10)},
            {"web1": Counts(0, 10), "web2": Counts(0, 100)},
            {"web1": Counts(3, 10), "web2": Counts(0, 100)},
        ]
    }


def test_a_past_that_the_server_does_not_have_is_no_slot() -> None:
    assert slots({"all": refused("no")}, ERRORS) == {"errors": []}
    assert slots({}, ERRORS) == {"errors": []}
    short = {"http": told("matrix", [counter("web1", 5, 15)])}
    assert slots(short, ERRORS) == {"errors": [{"web1": Counts(10, 10)}]}


def test_a_probe_tells_what_lint_wants_to_know() -> None:
    edges = [number({"le": "0.1"}, 1, NOW), number({"le": "0.3"}, 1, NOW)]
    replies: Replies = {
        **BOTH,
        **CLASSIC,
        "queue": told("matrix", [counter("web1", 1, code="a"), counter("web1", 1, code="b"), counter("web2", 1)]),
        "group by (le)": told("vector", edges),
        "http_requests_total{instance": told("matrix", [counter("web1", *range(0, 2000, 100))]),
        "broken": refused("no"),
    }
    with web(api(replies)) as (url, _asked):
        options = parse_source({"type": "prometheus", "url": url})
        queries = [ERRORS, SLOW, QUEUE, Query("none", value="nothing"), Query("bad", value="broken")]
        with Sampler(options, queries, PLACES, clock=lambda: NOW) as sampler:
            probes = sampler.probe()
    assert probes["errors"].rate == pytest.approx(10.0)
    assert probes["errors"].places == ("web1",) and "web2: no series" in probes["errors"].detail
    assert probes["slow"].edges == (0.1, 0.3) and probes["slow"].places == ("web1", "web2")
    assert probes["queue"].series == 2
    assert probes["none"] == Probed(
        "none", exists=False, detail="web1: no series of nothing; web2: no series of nothing"
    )
    assert probes["bad"].series == 1
    assert probes["errors"].unseen == ("code",)
    with web(always(Reply("", 500))) as (url, _asked):
        away = probe(parse_source({"type": "prometheus", "url": url}), [ERRORS], PLACES)
    assert not away["errors"].exists and away["errors"].rate is None


def test_a_gate_that_asks_nothing_is_an_option_error() -> None:
    options = parse_source({"type": "prometheus", "url": "http://127.0.0.1:1"})
    for query in (Query("x"), Query("x", histogram="rate(x[5m])", over=1)):
        with pytest.raises(OptionError):
            Sampler(options, [query], ())
