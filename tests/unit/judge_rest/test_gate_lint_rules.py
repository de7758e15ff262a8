# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lint finds every known way to write a gate that does not do its work, and leaves a good one alone."""

from __future__ import annotations

import json
from typing import Dict, List, Mapping, Optional, Sequence

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.lint import Finding, lint
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Arms, Probed
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.selftest import prove
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import parse_policy

PLACES = tuple(f"web{index}" for index in range(1, 11))
ERRORS = {"name": "g", "bad": 'http_requests_total{code=~"5.."}', "total": "http_requests_total"}
SLOW = {"name": "g", "type": "latency", "histogram": "http_request_duration_seconds", "over": 0.5}
MEMORY = {"name": "g", "type": "value", "value": "process_resident_memory_bytes", "max": 5e8}
RANKS = {"name": "g", "type": "ranks", "value": "p99_seconds"}
BUDGET = {
    "name": "g",
    "type": "burn_rate",
    "bad": 'requests_total{code=~"5.."}',
    "total": "requests_total",
    "slo": 0.999,
}


def findings(
    *gates: Mapping[str, object],
    places: Sequence[str] = PLACES,
    sizes: Sequence[int] = (1, 3, 9),
    probes: Optional[Mapping[str, Probed]] = None,
    source: str = "prometheus",
    **policy: object,
) -> List[Finding]:
    raw: Dict[str, object] = {"source": {"type": source}, "traffic": 1000, "gates": list(gates), **policy}
    read = parse_policy({key: value for key, value in raw.items() if value is not None}, "shop")
    return lint(read, places, sizes=sizes, probes=probes)


def codes(found: Sequence[Finding]) -> List[str]:
    return [f"{finding.level} {finding.code}" for finding in found]


@pytest.mark.parametrize(
    "gate", [ERRORS, {**ERRORS, "max": 0.05}, SLOW, MEMORY, RANKS, BUDGET], ids=lambda gate: str(gate.get("type"))
)
@pytest.mark.parametrize("source", ["prometheus", "exposition"])
def test_a_sound_gate_is_left_alone(gate: Mapping[str, object], source: str) -> None:
    assert findings(gate, source=source) == []


@pytest.mark.parametrize(
    "query",
    [
        "app_ready",
        'sum by (instance) (errors_total{code!~"2.."})',
        "sum(up) by (instance)",
        'max without (le) (queue_depth{namespace="default"})',
        'avg by (pod, job) (latency_seconds{path="sum(x)"})',
    ],
)
def test_an_expression_that_keeps_the_place_is_left_alone(query: str) -> None:
    found = findings({"name": "g", "type": "value", "value": query, "max": 5, "min": 1})
    assert found == []


STATIC = [
    ({**ERRORS, "max": 1}, "error never_fails"),
    ({**ERRORS, "bad": "http_requests_total"}, "error same_query"),
    ({**ERRORS, "bad": 'http_requests_total{code=~"2.."}'}, "error wrong_direction"),
    ({**ERRORS, "bad": "requests_succeeded_total"}, "error wrong_direction"),
    ({**BUDGET, "bad": "requests_success_total"}, "error wrong_direction"),
    ({**MEMORY, "value": "errors_per_second", "max": None, "min": 3}, "error wrong_direction"),
    ({**MEMORY, "value": "availability", "max": 0.99}, "error wrong_direction"),
    ({**RANKS, "direction": "decrease"}, "no"),
    ({**RANKS, "value": "latency_seconds", "direction": "decrease"}, "error wrong_direction"),
    ({**RANKS, "value": "availability"}, "error wrong_direction"),
    ({**ERRORS, "bad": "errors_total or vector(0)"}, "error hides_missing_data"),
    ({**ERRORS, "bad": "errors_total or on() vector(1)"}, "error hides_missing_data"),
    ({**ERRORS, "bad": "errors_total default 0"}, "error hides_missing_data"),
    ({**ERRORS, "total": "clamp_min(requests_total, 1)"}, "error hides_missing_data"),
    ({**MEMORY, "value": "rss OR ON() other"}, "error hides_missing_data"),
    ({**ERRORS, "bad": "rate(errors_total[1m])"}, "error not_a_counter"),
    ({**ERRORS, "bad": "sum(errors_total)"}, "error not_per_place"),
    ({**MEMORY, "value": "avg by (job) (rss)"}, "error not_per_place"),
    ({**MEMORY, "value": "sum(rss) by (job)"}, "error not_per_place"),
    ({**MEMORY, "value": "sum without (instance) (rss)"}, "error not_per_place"),
    ({**RANKS, "value": "rate(x[5m])"}, "error overlapping_windows"),
    ({**RANKS, "value": "max_over_time(x[1m30s:5s])", "window": "1m"}, "error overlapping_windows"),
    ({**MEMORY, "value": "rate(x[1m])"}, "warning overlapping_windows"),
    ({**MEMORY, "value": 'rate(e{c="5xx"}[10s]) / rate(t[10s])', "max": 5}, "warning never_fails"),
    ({**MEMORY, "max": None, "min": 0}, "warning never_fails"),
    ({**ERRORS, "min_bad": 1}, "warning no_minimum_sample"),
    ({**ERRORS, "min_requests": 5}, "warning no_minimum_sample"),
    ({**MEMORY, "fail_count": 1}, "warning no_minimum_sample"),
    ({**BUDGET, "min_bad": 1}, "warning no_minimum_sample"),
    ({**BUDGET, "windows": [{"long": 60, "factor": 2000}]}, "error never_fails"),
    ({**BUDGET, "slo": 0.9}, "warning never_fails"),
    ({**RANKS, "direction": "decrease", "tolerance": 1.5}, "error never_fails"),
    ({**MEMORY, "fail_count": 300, "fail_of": 300}, "error never_fails"),
    ({**MEMORY, "every": "20m"}, "error never_fails"),
    ({**MEMORY, "fail_of": 300}, "error never_passes"),
    ({**RANKS, "window": "10m"}, "error never_fails"),
    ({**BUDGET, "windows": [{"long": 600, "factor": 6}]}, "no"),
    ({**ERRORS, "max": 0.0002}, "error fails_good"),
    ({**ERRORS, "min_bad": 10**6}, "error never_fails"),
    ({**ERRORS, "min_requests": 10**9}, "error never_passes"),
]


@pytest.mark.parametrize(("gate", "code"), STATIC, ids=[f"{code} {number}" for number, (_g, code) in enumerate(STATIC)])
def test_what_is_wrong_with_a_gate_is_found(gate: Mapping[str, object], code: str) -> None:
    found = findings({key: value for key, value in gate.items() if value is not None})
    assert (code in codes(found)) if code != "no" else not found
    for finding in found:
        assert finding.gate == "g" and finding.reason and finding.mend


def test_an_expression_needs_a_server() -> None:
    gate = {**MEMORY, "value": "sum by (instance) (rss)"}
    assert codes(findings(gate, source="exposition")) == ["error not_a_selector"]
    assert findings(gate) == []


def test_the_place_label_may_have_another_name() -> None:
    gate = {**MEMORY, "value": "sum by (vm) (rss)"}
    assert codes(findings(gate)) == ["error not_per_place"]
    assert findings({**gate, "source": {"type": "prometheus", "place_label": "vm"}}) == []


def test_pods_tell_the_two_sides_of_a_flag_not_apart() -> None:
    sides = ("search/on", "search/off")
    by_pod, by_side = ({**MEMORY, "value": f"sum by ({label}) (rss)"} for label in ("pod", "flag_variant"))
    found = findings(by_pod, backend="flag", places=sides, sizes=[1])
    assert codes(found) == ["error not_per_place"] and "add by (flag_variant)" in found[0].mend
    assert findings(by_side, backend="flag", places=sides, sizes=[1]) == []


# --- the fleet


def test_two_sides_of_one_place_share_the_requests_as_they_are_given_them() -> None:
    gate, sides = {**ERRORS, "max": 0.02}, ("search/on", "search/off")
    read = parse_policy({"source": {"type": "prometheus"}, "traffic": 200, "gates": [gate]}, "search")
    half, few = (lint(read, sides, sizes=[1, 1, 2], share=share) for share in (None, 0.0005))
    assert half == []
    assert {finding.code for finding in few} == {"never_passes", "slow_to_fail"}
    assert "at 0.0005 of all with 200 requests/s in all" in few[0].reason
    # nobody has been served the side that is on
    probes = {"g": Probed("g", exists=True, places=sides[1:])}
    assert codes(lint(read, sides, sizes=[1], probes=probes)) == ["error not_per_place"]
    assert lint(read, sides, sizes=[1], probes=probes, later=sides[:1]) == []


def test_without_a_baseline_a_comparison_cannot_fail() -> None:
    assert "error no_baseline" in codes(findings(ERRORS, places=["web1"], sizes=[1]))
    assert "error no_baseline" in codes(findings(RANKS, sizes=[10]))
    assert codes(findings(ERRORS, sizes=[1, 10])) == ["warning no_baseline"]
    assert findings({**ERRORS, "max": 0.05}, places=["web1"], sizes=[1]) == []


def test_few_baseline_places_are_said() -> None:
    assert codes(findings(ERRORS, places=PLACES[:4], sizes=[1, 3])) == ["warning few_baseline_places"]
    assert findings({**ERRORS, "max": 0.05}, places=PLACES[:4], sizes=[1, 3]) == []


@pytest.mark.parametrize("sizes", [[], [0], [11]])
def test_steps_over_no_place(sizes: List[int]) -> None:
    assert codes(findings(ERRORS, sizes=sizes)) == ["error no_places"]


# --- the bake and its traffic


def test_too_little_traffic_for_a_verdict() -> None:
    assert codes(findings(ERRORS, traffic=0.01)) == ["error never_fails", "error never_passes"]
    assert "error never_passes" in codes(findings(BUDGET, traffic=1))


def test_a_small_regression_that_would_take_too_long_is_said() -> None:
    found = findings(ERRORS, traffic=10)
    assert "warning slow_to_fail" in codes(found) and "error never_fails" not in codes(found)


def test_unknown_traffic_is_said_and_the_source_may_know_it() -> None:
    assert codes(findings(ERRORS, traffic=None)) == ["warning unknown_traffic"]
    seen = Probed("g", exists=True, places=PLACES, rate=1000)
    assert findings(ERRORS, traffic=None, probes={"g": seen}) == []
    assert findings(MEMORY, traffic=None) == []


def test_a_bake_that_is_all_warm_up() -> None:
    assert "error never_passes" in codes(findings(MEMORY, bake={"warm_up": 100, "deadline": 100, "min_bake": 10}))


def test_promoting_the_undecided_is_said() -> None:
    assert codes(findings(MEMORY, bake={"on_undecided": "pass"})) == ["warning undecided_promotes"]


def test_errors_come_first_and_findings_speak() -> None:
    found = findings({**MEMORY, "value": "sum(rate(x[1m]))"})
    assert [finding.level for finding in found] == ["error", "warning"]
    assert str(found[0]) == (
        "error: gate 'g': value adds all places up, so that a broken canary is diluted in the whole."
        " Leave the aggregation out, or add by (instance)."
    )
    assert json.dumps([finding.as_dict() for finding in found])
    assert str(findings(MEMORY, sizes=[])[0]).startswith("error: the policy: no step")


# --- what the source answered

PROBES = [
    (ERRORS, Probed("g", exists=False, detail="no http_requests_total"), ["error no_such_metric"]),
    (ERRORS, Probed("g", exists=False), ["error no_such_metric"]),
    (ERRORS, Probed("g", exists=True, series=3, places=PLACES), ["error several_series"]),
    (ERRORS, Probed("g", exists=True), ["error not_per_place"]),
    (ERRORS, Probed("g", exists=True, places=("web-1", "web-2")), ["error not_per_place"]),
    (SLOW, Probed("g", exists=True, places=PLACES, edges=(0.1, 0.25, 1, 2.5)), ["error no_bucket_edge"]),
    (SLOW, Probed("g", exists=True, places=PLACES, edges=(0.1, 0.5, 1)), []),
    (SLOW, Probed("g", exists=True, places=PLACES), []),
]


@pytest.mark.parametrize(("gate", "probe", "expected"), PROBES)
def test_the_gate_is_held_against_what_the_source_answered(
    gate: Mapping[str, object], probe: Probed, expected: List[str]
) -> None:
    assert codes(findings(gate, probes={"g": probe})) == expected


def test_the_mends_name_what_is_there() -> None:
    slow = findings(SLOW, probes={"g": Probed("g", exists=True, places=PLACES, edges=(0.1, 0.25, 1, 2.5))})
    assert slow[0].mend == "Set over to an edge, for example 0.25 or 1"
    ends = [Probed("g", exists=True, places=PLACES, edges=edges) for edges in ((0.1,), (1.0, 2.0))]
    assert [findings(SLOW, probes={"g": probe})[0].mend[-3:] for probe in ends] == ["0.1", "e 1"]
    apart = findings(ERRORS, probes={"g": Probed("g", exists=True, places=("web01", *PLACES[1:]))})
    assert apart[0].reason.endswith("web1 (did you mean 'web01'?)")


# --- the self-test


@pytest.mark.parametrize("gate", [ERRORS, SLOW, MEMORY, {**MEMORY, "min": 1e8}, RANKS, BUDGET])
@pytest.mark.parametrize("preset", ["careful", "balanced", "fast"])
def test_the_synthetic_bad_fails_and_the_synthetic_good_passes(gate: Mapping[str, object], preset: str) -> None:
    read = parse_policy({"source": {"type": "exposition"}, "preset": preset, "gates": [gate]}, "shop")
    arms = Arms(PLACES[:1], PLACES[1:])
    bad = prove(read, read.gates[0], arms, rps=1000, bad=True)
    good = prove(read, read.gates[0], arms, rps=1000, bad=False)
    assert bad.failed is not None and bad.failed < 600 and bad.passed is None
    assert good.failed is None and good.passed is not None
