# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places are scraped as they are: real pages of real client libraries, and everything else that may answer there."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Sequence

import pytest
from prometheus_client.samples import BucketSpan, NativeHistogram
from sense_servers import Place, Reply, always, web, zipped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Absent
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.buckets import above, native_buckets, same_edge
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.collect import Sampler, collect, probe
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import (
    Answer,
    Query,
    Reading,
    Sample,
    Target,
    Value,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import parse_source

ERRORS = Query("errors", bad='http_requests_total{code=~"5.."}', total="http_requests_total", timeout=2)
SLOW = Query("slow", histogram="took_seconds", over=0.3, timeout=2)
QUEUE = Query("queue", value="queue_length", timeout=2)
SOURCE = parse_source({"type": "exposition"})
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def scraped(urls: Sequence[str], *queries: Query) -> Sample:
    return collect(SOURCE, queries or (ERRORS,), (Target("a", tuple(urls)),))


def answered(reply: Reply, query: Query = ERRORS) -> Answer:
    with web(always(reply)) as (url, _asked):
        return scraped([f"{url}/metrics"], query).answers[query.gate]["a"]


def test_counts_come_from_the_pages_of_all_places_at_once() -> None:
    one, two = Place(start=1_000.0), Place(start=2_000.0)
    one.serve(96, 4)
    two.serve(50)
    with one.listening() as first, two.listening() as second:
        sample = collect(SOURCE, [ERRORS, SLOW], (Target("a", (first,)), Target("b", (second,))))
    errors, slow = sample.answers["errors"], sample.answers["slow"]
    assert isinstance(errors["a"], Reading) and isinstance(errors["b"], Reading) and isinstance(slow["a"], Reading)
    assert (errors["a"].bad, errors["a"].total, errors["a"].start) == (4, 100, 1_000.0)
    assert (errors["b"].bad, errors["b"].total, errors["b"].start) == (0, 50, 2_000.0)
    assert (slow["a"].bad, slow["a"].total) == (0, 100)
    assert sample.presence["a"].up and sample.presence["a"].start == 1_000.0
    assert Sample.from_dict(sample.as_dict()) == sample


def test_instances_of_a_place_are_summed_and_the_youngest_start_counts() -> None:
    one, two = Place(start=1_000.0), Place(start=2_000.0)
    one.serve(10, 1)
    two.serve(20, 2)
    with one.listening() as first, two.listening() as second:
        answer = scraped([first, second]).answers["errors"]["a"]
    assert isinstance(answer, Reading)
    assert (answer.bad, answer.total, answer.start) == (3, 33, 2_000.0)


def test_an_instance_that_is_down_takes_its_place_with_it() -> None:
    place = Place()
    place.serve(10, 1)
    with ExitStack() as stack:
        first = stack.enter_context(place.listening())
        with Place().listening() as gone:
            pass
        sample = scraped([first, gone])
    answer = sample.answers["errors"]["a"]
    assert isinstance(answer, Absent) and answer.reason == "provider_error"
    assert "refuses the connection" in answer.detail
    assert not sample.presence["a"].up


def test_slow_requests_are_those_above_the_edge() -> None:
    place = Place()
    place.serve(90, seconds=0.2)
    place.serve(10, seconds=0.5)
    with place.listening() as url:
        answer = scraped([url], SLOW).answers["slow"]["a"]
    assert isinstance(answer, Reading)
    assert (answer.bad, answer.total) == (10, 100)


def test_without_an_edge_at_the_limit_the_edges_are_named() -> None:
    place = Place()
    place.serve(1)
    with place.listening() as url:
        answer = scraped([url], Query("slow", histogram="took_seconds_bucket", over=0.5)).answers["slow"]["a"]
    assert answer == Absent("query_error", "took_seconds has no bucket edge at 0.5 s: its edges are 0.1, 0.3, 1")


def test_a_counter_that_nothing_touched_yet_is_zero_while_its_family_is_there() -> None:
    place = Place()
    with place.listening() as url:
        untouched = scraped([url]).answers["errors"]["a"]
        place.serve(10)
        good = scraped([url]).answers["errors"]["a"]
        other = scraped([url], Query("x", bad="panics_total", total="http_requests_total")).answers["x"]["a"]
        typo = scraped([url], Query("x", bad="http_requests_total", total="http_request_total")).answers["x"]["a"]
        label = scraped([url], Query("x", bad="http_requests_total", total='http_requests_total{job="x"}'))
    assert isinstance(untouched, Reading) and (untouched.bad, untouched.total) == (0, 0)
    assert isinstance(good, Reading) and (good.bad, good.total) == (0, 10)
    assert other == Absent("no_series", "there is no metric panics_total")
    assert typo == Absent("no_series", "there is no metric http_request_total")
    assert label.answers["x"]["a"] == Absent(
        "no_series", 'http_requests_total is there, but no series matches http_requests_total{job="x"}'
    )


def test_a_value_is_one_series() -> None:
    place = Place()
    place.queue.labels("mail").set(7)
    with place.listening() as url:
        one = scraped([url], QUEUE).answers["queue"]["a"]
        place.queue.labels("jobs").set(3)
        several = scraped([url], QUEUE).answers["queue"]["a"]
        narrowed = scraped([url], Query("queue", value='queue_length{queue="jobs"}')).answers["queue"]["a"]
        none = scraped([url], Query("queue", value="queue_size")).answers["queue"]["a"]
        histogram = scraped([url], Query("slow", histogram="took", over=1)).answers["slow"]["a"]
    assert isinstance(one, Value) and one.value == 7
    assert several == Absent("several_series", "2 series match queue_length: name one")
    assert isinstance(narrowed, Value) and narrowed.value == 3
    assert none == Absent("no_series", "there is no metric queue_size")
    assert histogram == Absent("no_series", "there is no metric took")


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf"])
def test_what_is_not_a_number_is_told_apart(number: str) -> None:
    value = answered(Reply(f"queue_length {number}\n"), QUEUE)
    assert isinstance(value, Absent) and value.reason == "not_a_number"
    counts = answered(Reply(f'# TYPE http_requests_total counter\nhttp_requests_total{{code="500"}} {number}\n'))
    assert isinstance(counts, Absent) and counts.reason == "not_a_number"


def test_the_start_of_the_oldest_counter_stands_in_for_that_of_the_process() -> None:
    place = Place(start=None)
    place.serve(5, 1)
    with place.listening() as url:
        answer = scraped([url]).answers["errors"]["a"]
    text = 'hits_total{code="500"} 3\nhits_total 9\nhits_created{code="500"} 70\nhits_created 50\n'
    plain = answered(Reply(text), Query("x", bad='hits_total{code="500"}', total="hits_total"))
    assert isinstance(answer, Reading) and answer.start is not None and answer.start > 1_000_000_000
    assert isinstance(plain, Reading) and (plain.bad, plain.total, plain.start) == (3, 12, 50)


def test_openmetrics_is_understood_too() -> None:
    text = (
        "# HELP http_requests Requests.\n# TYPE http_requests counter\n"
        'http_requests_total{code="200"} 95 1000.0 # {trace_id="a"} 1\nhttp_requests_created{code="200"} 60\n'
        'http_requests_total{code="500"} 5\nhttp_requests_created{code="500"} 99\n'
        "# TYPE http_requests_seen gauge\nhttp_requests_seen 1\n"
        "# TYPE took_seconds histogram\n# UNIT took_seconds seconds\n"
        'took_seconds_bucket{path="/",le="0.3"} 8\ntook_seconds_bucket{path="/",le="+Inf"} 9\n'
        'took_seconds_count{path="/"} 9\ntook_seconds_sum{path="/"} 2\n'
        'took_seconds_bucket{path="/x",le="0.3"} 1\ntook_seconds_bucket{path="/x",le="+Inf"} 3\n'
        'took_seconds_count{path="/x"} 3\ntook_seconds_sum{path="/x"} 2\n# EOF\n'
    )
    counts = answered(Reply(text.replace(" 1000.0 #", " #"), content_type=OPENMETRICS))
    slow = answered(Reply(text.replace(" 1000.0 #", " #"), content_type=OPENMETRICS), SLOW)
    assert isinstance(counts, Reading) and (counts.bad, counts.total, counts.start) == (5, 100, 60)
    assert isinstance(slow, Reading) and (slow.bad, slow.total) == (3, 12)


def test_native_histograms_are_understood_where_the_parser_knows_them() -> None:
    native = (
        "{count:24,sum:100,schema:0,zero_threshold:0.001,zero_count:4,"
        "positive_spans:[0:2,1:2],positive_deltas:[2,1,-3,3]}"
    )
    text = f"# TYPE took_seconds histogram\ntook_seconds {native}\n# EOF\n"
    answer = answered(Reply(text, content_type=OPENMETRICS), Query("slow", histogram="took_seconds", over=1.0))
    assert isinstance(answer, Reading)
    assert answer.total == 24 and answer.bad == pytest.approx(6)


def test_a_compressed_page_is_read() -> None:
    with web(always(zipped("http_requests_total 7\n"))) as (url, asked):
        sample = scraped([f"{url}/metrics"])
    assert "gzip" in asked[0].headers["Accept-Encoding"]
    answer = sample.answers["errors"]["a"]
    assert isinstance(answer, Reading) and (answer.bad, answer.total) == (0, 7)


def test_names_stay_as_they_are_written_on_the_page() -> None:
    """Go's library leaves out the `_total` that a parser of the same page would add."""
    text = '# TYPE hits counter\nhits{code="500"} 1\nhits{code="200"} 9\n# TYPE hits_other gauge\nhits_other 3\n'
    answer = answered(Reply(text), Query("x", bad='hits{code="500"}', total="hits"))
    assert isinstance(answer, Reading) and (answer.bad, answer.total) == (1, 10)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("<!DOCTYPE html><title>Login</title>", content_type="text/html"), "HTML, not metrics"),
        (Reply("<html></html>", content_type="text/plain"), "HTML, not metrics"),
        (Reply("nothing", 404), "HTTP 404"),
        (Reply("no", 401), "HTTP 401: the credentials are missing or wrong"),
        (Reply("no", 503), "HTTP 503"),
        (Reply("", 302, headers={"Location": "https://u:pw@login.example.org/?next=x"}), "redirects to https://login"),
        (Reply("http_requests_total\n"), "something that is not metrics"),
        (Reply('http_requests_total{code="200} 1\n'), "something that is not metrics"),
        (Reply("# TYPE http_requests counter\nhttp_requests_total 1\n\n", content_type=OPENMETRICS), None),
        (Reply('{"requests":1}', content_type="application/json"), "something that is not metrics"),
        (Reply(b"\x1f\x8bnot gzip", headers={"Content-Encoding": "gzip"}), "provider"),
    ],
)
def test_anything_that_is_not_a_page_of_metrics_is_the_providers_error(reply: Reply, reason: str | None) -> None:
    answer = answered(reply)
    if reason is None:
        assert isinstance(answer, Reading)
        return
    assert isinstance(answer, Absent) and answer.reason == "provider_error"
    assert reason == "provider" or reason in answer.detail
    assert "\n" not in answer.detail and "pw" not in answer.detail


def test_a_place_whose_gateway_answers_is_down_and_one_that_answers_badly_is_up() -> None:
    for status, up in ((503, False), (404, True)):
        with web(always(Reply("", status))) as (url, _asked):
            assert scraped([url]).presence["a"].up is up


def test_a_place_that_does_not_answer_in_time_holds_nobody_up() -> None:
    place = Place()
    place.serve(10)
    quick = Query("errors", bad=ERRORS.bad, total=ERRORS.total, timeout=0.3)
    for reply in (Reply("x", delay=5), Reply("http_requests_total 1\n" * 50, drip=0.05)):
        with web(always(reply)) as (url, _asked), place.listening() as good:
            sample = collect(SOURCE, [quick], (Target("slow", (url,)), Target("good", (good,))))
        late = sample.answers["errors"]["slow"]
        assert isinstance(late, Absent) and late.reason == "provider_error" and "0.3 s" in late.detail
        assert isinstance(sample.answers["errors"]["good"], Reading)
        assert sample.took < 2
        assert not sample.presence["slow"].up


def test_a_sampler_keeps_its_connections_between_looks() -> None:
    place = Place()
    with place.listening() as url, Sampler(SOURCE, [ERRORS], (Target("a", (url,)),)) as sampler:
        for number in (1, 2, 3):
            place.serve(10)
            answer = sampler.sample().answers["errors"]["a"]
            assert isinstance(answer, Reading) and answer.total == 10 * number
        assert sampler.history() == {}


def test_what_is_no_selector_or_has_no_page_is_an_option_error() -> None:
    for query, targets in (
        (Query("x", value="rate(up[5m])"), (Target("a", ("http://127.0.0.1:1/metrics",)),)),
        (ERRORS, (Target("a"), Target("b"))),
    ):
        with pytest.raises(OptionError):
            collect(SOURCE, [query], targets)
    with web(always(Reply("http_requests_total 1\n"))) as (url, _asked), pytest.raises(OptionError):
        scraped([url], Query("empty"))


def test_the_sources_own_url_serves_a_single_place() -> None:
    place = Place()
    place.serve(3)
    with place.listening() as url:
        sample = collect(parse_source({"type": "exposition", "url": url}), [ERRORS], (Target("a"),))
    answer = sample.answers["errors"]["a"]
    assert isinstance(answer, Reading) and answer.total == 3


def test_a_probe_tells_what_lint_wants_to_know() -> None:
    place = Place()
    place.serve(1000, 5)
    place.queue.labels("a").set(1)
    place.queue.labels("b").set(1)
    typo = Query("typo", bad="http_request_total", total="http_requests_total")
    with place.listening() as url, Place().listening() as gone:
        pass
    with place.listening() as url:
        targets = (Target("a", (url,)), Target("b", (url,)), Target("c", (gone,)))
        probes = probe(SOURCE, [ERRORS, SLOW, QUEUE, typo], targets)
    assert probes["errors"].exists and probes["errors"].places == ("a", "b") and probes["errors"].series == 1
    assert probes["errors"].rate is not None and 0 < probes["errors"].rate < 1
    assert probes["slow"].edges == (0.1, 0.3, 1.0)
    assert (probes["queue"].exists, probes["queue"].series, probes["queue"].rate) == (True, 2, None)
    assert not probes["typo"].exists and "there is no metric http_request_total" in probes["typo"].detail
    assert "c: " in probes["errors"].detail


def test_a_probe_names_labels_that_nothing_has() -> None:
    place = Place()
    queries = [
        Query("typo", bad='http_requests_total{cod=~"5..", host!="x"}', total='http_requests_total{shop=""}'),
        Query("fine", bad='http_requests_total{code="599"}', total="http_requests_total"),
        Query("slow", histogram='took_seconds{path="/"}', over=0.3),
    ]
    with place.listening() as url:
        targets = (Target("a", (url,)),)
        untouched = probe(SOURCE, queries, targets)
        place.serve(1)
        touched = probe(SOURCE, queries, targets)
    assert untouched["typo"].unseen == ()
    assert {gate: probed.unseen for gate, probed in touched.items()} == {
        "typo": ("cod",),
        "fine": (),
        "slow": ("path",),
    }


def test_edges_are_compared_as_numbers() -> None:
    assert same_edge("0.30", 0.3) and same_edge("3e-01", 0.3) and same_edge("1", 1.0)
    assert not same_edge("0.31", 0.3) and not same_edge("", 0.3)


def test_the_bucket_that_holds_the_limit_is_interpolated() -> None:
    native = NativeHistogram(10, 0.0, 0, 0.5, 2, (BucketSpan(1, 1),), None, (8,), None)
    buckets = list(native_buckets(native))
    assert [(bucket.lower, bucket.upper, bucket.count) for bucket in buckets] == [(0.0, 0.5, 2.0), (1.0, 2.0, 8.0)]
    assert above(buckets, 0.25) == pytest.approx(9)
    assert above(buckets, 2**0.5) == pytest.approx(4)
    assert above(buckets, 2.0) == 0
