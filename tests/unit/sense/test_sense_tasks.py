# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tasks make of their options: a verdict, a sample, findings; or one sentence about what is wrong."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, Mapping, NoReturn

import pytest
from ansible.module_utils.basic import AnsibleModule
from sense_servers import Place, api, number, raw, told, web

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.gate_task import metric_gate
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.info_task import metric_info
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.lint_task import gate_lint
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.lookup_metric import Wanted, read
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.run import failure, run
from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.source_options import source_spec, targets_spec
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, SourceError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Counts
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import parse_policy
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.ask import asked
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.model import Query, Sample, Target
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.once import look_once
from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import parse_source

ERRORS = {"name": "errors", "bad": 'http_requests_total{code=~"5.."}', "total": "http_requests_total", "max": "1%"}


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def url(place: Place) -> Iterator[str]:
    with place.listening() as url:
        yield url


def gate(url: str = "", **params: object) -> Dict[str, Any]:
    defaults: Dict[str, object] = {
        "source": {"type": "exposition", "url": url},
        "gate": ERRORS,
        "targets": None,
        "canary": [],
        "baseline": [],
        "window": 0.0,
        "preset": "balanced",
        "fail_on": [],
    }
    result = metric_gate({**defaults, **params})
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    return result


def test_a_bad_rate_fails_the_gate_and_the_task_where_it_should(place: Place, url: str) -> None:
    place.serve(960, 40)
    result = gate(url)
    assert (result["verdict"], result["failed"], result["changed"]) == ("fail", False, False)
    assert result["msg"] == "errors fails: 0.04 of 1000 requests, limit 0.01"
    assert gate(url, fail_on=["fail"])["failed"]
    assert not gate(url, fail_on=["inconclusive"])["failed"]


def test_a_place_is_compared_with_the_others(place: Place, url: str) -> None:
    place.serve(960, 40)
    old = Place()
    old.serve(5000, 10)
    with old.listening() as other:
        targets = [{"place": "new", "url": url}, {"place": "old", "url": other}]
        result = gate(source={"type": "exposition"}, targets=targets, baseline=["old"], gate={**ERRORS, "max": None})
    assert (result["verdict"], result["reason"]) == ("fail", "baseline")
    assert result["msg"] == "errors fails: 0.04 of 1000 requests, baseline 0.001996"


def test_without_an_answer_the_reason_is_told(url: str) -> None:
    with Place().listening() as gone:
        pass
    result = gate(gone)
    assert (result["verdict"], result["reason"], result["value"]) == ("inconclusive", "provider_error", None)
    assert result["msg"] == f"errors is inconclusive: {gone} refuses the connection"
    assert result["absent"]["all"]["reason"] == "provider_error"
    untouched = gate(url)
    assert (untouched["reason"], untouched["msg"]) == ("low_sample", "errors is inconclusive: low sample")
    assert gate(url, gate={"name": "q", "type": "value", "value": "queue_length", "max": 1})["reason"] == "no_data"


def test_a_value_has_no_requests(place: Place, url: str) -> None:
    place.queue.labels("a").set(12)
    result = gate(url, gate={"name": "queue", "type": "value", "value": "queue_length", "max": 10})
    assert result["msg"] == "queue fails: 12, limit 10"


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"gate": {**ERRORS, "source": {"type": "exposition"}}}, "a source of its own"),
        ({"gate": {**ERRORS, "toal": "x"}}, "did you mean 'total'?"),
        ({"canary": ["web1"]}, "'web1' is none of the targets"),
        ({"baseline": ["all"]}, "no place is left"),
        ({"canary": ["all"], "baseline": ["all"]}, "both canary and baseline"),
        ({"source": {}}, "has no type"),
        ({"source": None}, "has no type"),
    ],
)
def test_wrong_options_are_refused(params: Dict[str, object], words: str) -> None:
    with pytest.raises(OptionError) as error:
        gate("http://127.0.0.1:1/metrics", **params)
    assert words in error.value.message


def test_a_window_over_places_is_what_comes_while_it_lasts(place: Place, url: str) -> None:
    place.serve(1000, 500)
    waited: List[float] = []

    def traffic(seconds: float) -> None:
        waited.append(seconds)
        place.serve(20, 1)

    query = Query("errors", bad=ERRORS["bad"], total=ERRORS["total"])
    look = look_once(parse_source({"type": "exposition"}), query, (Target("a", (url,)),), window=7.0, sleep=traffic)
    assert (look.counts, waited) == ({"a": Counts(1, 21)}, [7.0])


def test_a_window_over_a_metrics_server_is_its_past() -> None:
    import time

    now = time.time() - 1
    line = {"instance": "a:1"}
    points = [(now - 30.0, 100.0), (now - 20.0, 200.0), (now - 10.0, 300.0), (now, 400.0)]
    replies = {
        "http_requests_total{code": told("matrix", []),
        "http_requests_total": told("matrix", [raw(line, *points)]),
    }
    query = Query("errors", bad=ERRORS["bad"], total=ERRORS["total"])
    with web(api(replies)) as (server, _asked):
        source = parse_source({"type": "prometheus", "url": server})
        look = look_once(source, query, (Target("a"), Target("b")), window=20.0)
    assert look.counts["a"].total == pytest.approx(200, rel=0.01)
    assert look.absent["b"].reason == "no_series"
    away = look_once(source, query, (Target("a"),), window=20.0)
    assert (away.counts, away.absent["a"].reason) == ({}, "provider_error")
    assert look_once(source, query, ()).absent["all"].reason == "provider_error"


def test_a_sample_travels_as_json(place: Place, url: str) -> None:
    place.serve(10, 1)
    queries = [
        {"gate": "errors", "bad": ERRORS["bad"], "total": ERRORS["total"], "timeout": 3.0},
        {"gate": "slow", "histogram": "took_seconds", "over": 0.3},
        {"gate": "queue", "value": "queue_length"},
    ]
    result = metric_info({"source": {"type": "exposition", "url": url}, "targets": None, "queries": queries})
    sample = Sample.from_dict(json.loads(json.dumps(result, allow_nan=False))["sample"])
    assert set(sample.answers) == {"errors", "slow", "queue"} and sample.presence["all"].up


@pytest.mark.parametrize(
    ("queries", "words"),
    [
        ([], "no queries"),
        ([{"gate": "a", "value": "x"}, {"gate": "a", "value": "y"}], "name a more than once"),
        ([{"gate": "a"}], "not one question"),
        ([{"gate": "a", "bad": "x"}], "not one question"),
        ([{"gate": "a", "histogram": "x"}], "not one question"),
        ([{"gate": "a", "value": "x", "over": 0.3}], "not one question"),
        ([{"gate": "a", "value": "x", "bad": "x", "total": "y"}], "not one question"),
    ],
)
def test_a_query_is_one_question(queries: List[Dict[str, object]], words: str) -> None:
    with pytest.raises(OptionError) as error:
        metric_info(
            {"source": {"type": "exposition", "url": "http://127.0.0.1:1"}, "targets": None, "queries": queries}
        )
    assert words in error.value.message


def test_what_a_bake_asks_of_a_gate_host_is_what_metric_info_takes(place: Place, url: str) -> None:
    """The bake hands its questions to the module as options; they have to pass through its argument spec."""
    place.serve(10, 1)
    slow = {"name": "slow", "type": "latency", "histogram": "took_seconds", "over": 0.3, "max": "1%"}
    policy = parse_policy({"source": {"type": "exposition"}, "gates": [ERRORS, slow]}, "shop")
    (one,) = asked(policy, [{"place": "a", "urls": [url], "instance": ""}])
    options = one.as_options()
    with one.sampler() as sampler:
        here = sampler.sample()
    told_there: Any = metric_info({"targets": None, **options})["sample"]
    there = Sample.from_dict(told_there)
    assert set(there.answers) == set(here.answers) == {"errors", "slow"}
    assert set(there.presence) == set(here.presence) == {"a"}


def lint(policy: Mapping[str, object], **params: object) -> Dict[str, Any]:
    defaults: Dict[str, object] = {
        "source": None,
        "service": "shop",
        "policy": policy,
        "places": [],
        "targets": None,
        "canary": [],
        "probe": True,
        "strict": False,
    }
    result = gate_lint({**defaults, **params})
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    return result


def test_lint_asks_the_source_and_fails_on_errors(place: Place, url: str) -> None:
    place.serve(5000)
    typo = {**ERRORS, "name": "typo", "bad": 'http_request_total{code=~"5.."}'}
    slow = {"name": "slow", "type": "latency", "histogram": "took_seconds", "over": 0.5, "max": "1%"}
    policy = {"source": {"type": "exposition"}, "traffic": 500, "gates": [ERRORS, typo, slow]}
    targets = [{"place": f"web{index}", "url": url} for index in range(4)]
    result = lint(policy, targets=targets, canary=[1, 2])
    found = {(one["gate"], one["code"]) for one in result["findings"] if one["level"] == "error"}
    assert found == {("typo", "no_such_metric"), ("slow", "no_bucket_edge")}
    assert result["failed"] and result["errors"] == 2
    assert "no_such_metric" not in result["msg"] and "the source does not have it" in result["msg"]
    assert set(result["detection"]) == {"errors", "typo", "slow"}
    seconds = [
        lint(policy, targets=targets, canary=[1, 2], **more)["detection"]["errors"]["50%"]
        for more in ({}, {"share": 0.01})
    ]
    assert seconds[0] < seconds[1]
    with pytest.raises(OptionError, match="share is 5.0, not between 0 and 1"):
        lint(policy, targets=targets, share=5.0)
    unasked = lint(policy, places=[f"web{index}" for index in range(4)], probe=False)
    assert {one["code"] for one in unasked["findings"]}.isdisjoint({"no_such_metric", "no_bucket_edge"})


def test_lint_is_told_how_many_places_and_asks_each_source_once(place: Place, url: str) -> None:
    place.serve(5000)
    place.queue.labels("a").set(3)
    replies = {"queue_length": told("vector", [])}
    queue = {"name": "queue", "type": "value", "value": "queue_length + 0", "max": 5}
    with web(api(replies)) as (server, seen):
        mine = {"type": "prometheus", "url": server}
        gates = [
            ERRORS,
            {**ERRORS, "name": "again"},
            {**queue, "source": mine},
            {**queue, "name": "more", "source": mine},
        ]
        policy = {"source": {"type": "exposition"}, "gates": gates}
        result = lint(policy, targets=[{"place": f"web{n}", "url": url} for n in range(4)], source={"token": "tk"})
    assert {one["gate"] for one in result["findings"] if one["code"] == "no_such_metric"} == {"queue", "more"}
    assert len(seen) == 1 and seen[0].headers["Authorization"] == "Bearer tk"


def test_lint_takes_a_query_that_the_source_cannot_ask_as_a_finding(url: str) -> None:
    policy = {"source": {"type": "exposition"}, "traffic": 100, "gates": [{**ERRORS, "bad": "rate(bad[5m])"}]}
    result = lint(policy, targets=[{"place": "a", "url": url}, {"place": "b", "url": url}])
    assert any(one["code"] == "no_such_metric" and "not a selector" in one["reason"] for one in result["findings"])


def test_lint_warns_of_a_label_that_nothing_has(place: Place, url: str) -> None:
    place.serve(5000)
    typo = {**ERRORS, "bad": 'http_requests_total{cod=~"5.."}'}
    policy = {"source": {"type": "exposition"}, "traffic": 500, "gates": [typo]}
    result = lint(policy, targets=[{"place": f"web{n}", "url": url} for n in range(4)])
    assert any(one["code"] == "unseen_label" and "label cod" in one["reason"] for one in result["findings"])


def test_lint_without_places_is_refused() -> None:
    with pytest.raises(OptionError, match="no places are named"):
        lint({"source": {"type": "exposition"}, "gates": [ERRORS]})


def test_strict_lint_fails_on_warnings(place: Place, url: str) -> None:
    policy = {"source": {"type": "exposition"}, "gates": [ERRORS]}
    places = [f"web{index}" for index in range(4)]
    loose = lint(policy, places=places, probe=False)
    assert loose["findings"] and loose["errors"] == 0 and not loose["failed"]
    assert loose["detection"] == {}
    assert lint(policy, places=places, probe=False, strict=True)["failed"]


def test_an_expression_reads_numbers_counts_or_a_default(place: Place, url: str) -> None:
    place.queue.labels("a").set(7)
    page = {"type": "exposition", "url": url}
    assert read(["queue_length", "queue_length"], page, {}, Wanted()) == [7, 7]
    assert read(["nothing"], page, {}, Wanted(has_default=True)) == [None]
    assert read([ERRORS["bad"]], page, {}, Wanted(total=ERRORS["total"], place="web1")) == [
        {"bad": 0, "total": 0, "rate": None}
    ]
    place.serve(3, 1)
    assert read([ERRORS["bad"]], page, {}, Wanted(total=ERRORS["total"])) == [{"bad": 1, "total": 4, "rate": 0.25}]
    with pytest.raises(SourceError, match="nothing: no series: there is no metric nothing"):
        read(["nothing"], page, {}, Wanted())
    with pytest.raises(OptionError, match="not a mapping"):
        read(["x"], "page", {}, Wanted())


def test_an_expression_asks_the_server_that_the_plugin_was_told_of() -> None:
    with web(api({"max": told("vector", [number({"instance": "web1:1"}, 5)])})) as (server, seen):
        options = {"url": server, "token": "tk", "username": None}
        assert read(["max(x)"], {}, options, Wanted(place="web1")) == [5]
        assert read(["max(x)"], {}, options, Wanted()) == [5]
    assert {request.headers["Authorization"] for request in seen} == {"Bearer tk"}
    with pytest.raises(SourceError, match="refuses the connection"):
        read(["max(x)"], {}, options, Wanted())
    assert read(["max(x)"], {}, options, Wanted(has_default=True, default=0)) == [0]


class Ended(Exception):
    pass


class FakeModule(AnsibleModule):
    """Only what `run` touches: the real one ends the process."""

    def __init__(self) -> None:
        self.said: Dict[str, Any] = {}

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        self.said = {"failed": True, "msg": msg, **kwargs}
        raise Ended

    def exit_json(self, **kwargs: Any) -> NoReturn:
        self.said = kwargs
        raise Ended


def ended(error: Exception | None) -> Dict[str, Any]:
    module = FakeModule()

    def work(_module: AnsibleModule) -> Dict[str, object]:
        if error:
            raise error
        return {"changed": False}

    with pytest.raises(Ended):
        run(module, work)
    return module.said


def test_every_end_is_told_once_and_without_a_secret() -> None:
    assert ended(None) == {"changed": False}
    known = ended(OptionError("it is wrong", mend="Mend it", service="shop", details={"a": 1}))
    assert known == {"failed": True, "msg": "shop: it is wrong. Mend it.", "service": "shop", "details": {"a": 1}}
    bug = ended(ValueError("https://ada:hunter2@host"))
    assert "hunter2" not in json.dumps(bug) and "ValueError" in str(bug["msg"])
    assert any("in work" in line for line in bug["details"]["trace"])
    library = failure(ImportError("no", name="prometheus_client.parser"))
    assert "the Python library prometheus_client is missing" in str(library["msg"])


def test_the_options_of_a_source_are_those_that_are_parsed() -> None:
    from ansible_collections.selfheal.delivery.plugins.module_utils._sense.options import KEYS

    options, targets = source_spec()["source"]["options"], targets_spec()["targets"]["options"]
    assert isinstance(options, dict) and set(options) == set(KEYS)
    assert isinstance(targets, dict) and set(targets) == {"place", "url", "urls", "instance"}
    for name, option in options.items():
        secret = name in ("token", "password", "headers")
        assert option.get("no_log", False) is secret
