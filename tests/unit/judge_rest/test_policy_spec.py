# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A policy is read as people write it, and every mistake names the gate, the key and the mend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any, Dict, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.recovery import ratio_spec
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import (
    BurnRule,
    BurnWindow,
    RatioRule,
    ValueRule,
    parse_policy,
)

ERRORS = {"name": "errors", "bad": "bad_total", "total": "all_total"}
MEMORY = {"name": "memory", "type": "value", "value": "rss", "max": 5e8}
BUDGET = {"name": "budget", "type": "burn_rate", "bad": "b", "total": "t", "slo": 0.999}


def policy(**changes: object) -> Dict[str, object]:
    return {"source": {"type": "exposition"}, "gates": [ERRORS], **changes}


def gate(base: Mapping[str, object] = ERRORS, **changes: object) -> Dict[str, object]:
    return policy(gates=[{key: value for key, value in {**base, **changes}.items() if value != "-"}])


def test_the_smallest_policy_has_every_default() -> None:
    read = parse_policy(policy(), "shop")
    assert (read.preset, read.alpha, read.traffic) == ("balanced", 0.01, None)
    assert (read.bake.look_every, read.bake.min_bake, read.bake.deadline, read.bake.extend) == (2, 60, 1800, 600)
    assert (read.bake.on_undecided, read.bake.hold_deadline, read.bake.resume_after) == ("hold", 3600, 300)
    assert read.gates[0].type == "ratio" and read.gates[0].rule == RatioRule()


def test_every_type_with_every_key() -> None:
    gates = [
        {**ERRORS, "tolerance": 2, "max": "5%", "margin": 2, "floor": 0.002, "min_bad": 4, "min_requests": "200"},
        {"name": "slow", "type": "latency", "histogram": "seconds", "over": "500ms", "timeout": "1.5s"},
        {**MEMORY, "pass_max": "4e8", "min": 1, "pass_min": 2, "fail_count": 2, "fail_of": 4, "consecutive": 3},
        {"name": "p99", "type": "ranks", "value": "p99", "direction": "either", "window": "1m", "min_samples": 6},
        {**BUDGET, "slo": "99.9%", "windows": [{"long": "10m", "factor": 6}, {"long": 60, "short": 5, "factor": 14.4}]},
    ]
    read = parse_policy(policy(gates=gates, bake={"deadline": "1h30m", "warm_up": "45"}), "shop")
    assert [spec.type for spec in read.gates] == ["ratio", "latency", "value", "ranks", "burn_rate"]
    assert read.gates[0].rule == RatioRule(2.0, 0.05, 2.0, 0.002, 4, 200)
    assert (read.gates[1].ask.over, read.gates[1].ask.timeout) == (0.5, 1.5)
    assert read.gates[2].rule == ValueRule(5e8, 4e8, 1.0, 2.0, 2, 4, 3)
    assert read.gates[4].rule == BurnRule(0.999, (BurnWindow(600, 50, 6), BurnWindow(60, 5, 14.4)))
    assert (read.bake.deadline, read.bake.warm_up) == (5400, 45)


def test_a_gate_may_have_its_own_source() -> None:
    own = {"type": "prometheus", "url": "http://127.0.0.1:9090"}
    read = parse_policy(policy(gates=[ERRORS, {**MEMORY, "source": own}]), "shop")
    assert read.source_of(read.gates[0]) == {"type": "exposition"}
    assert read.source_of(read.gates[1]) == own
    assert parse_policy({"gates": [{**MEMORY, "source": own}]}, "shop").source == {}


def test_a_secret_of_the_source_is_in_no_repr() -> None:
    secret = {"type": "prometheus", "url": "http://127.0.0.1:9090", "token": "hunter2"}
    read = parse_policy({"source": secret, "gates": [ERRORS, {**MEMORY, "source": secret}]}, "shop")
    assert "hunter2" not in repr(read) and read.source["token"] == "hunter2"


def test_fail_of_grows_with_fail_count() -> None:
    rule = parse_policy(gate(MEMORY, fail_count=8), "shop").gates[0].rule
    assert isinstance(rule, ValueRule) and (rule.fail_count, rule.fail_of) == (8, 8)


def test_alpha_is_split_over_the_gates_that_fail_by_the_sequential_test() -> None:
    slow = {"name": "slow", "type": "latency", "histogram": "h", "over": 0.5, "floor": 0.01}
    read = parse_policy(policy(gates=[ERRORS, slow, MEMORY], alpha=0.01), "shop")
    first, second = ratio_spec(read, read.gates[0]), ratio_spec(read, read.gates[1])
    assert (first.alpha, second.alpha) == (0.005, 0.005)
    assert (first.floor, second.floor) == (0.002, 0.01)


def test_no_rate_is_both_fine_and_too_much() -> None:
    read = parse_policy(gate(max=0.001), "shop")
    assert ratio_spec(read, read.gates[0]).floor == 0.001


MISTAKES = [
    (None, "the policy must be a mapping, not nothing"),
    (["x"], "the policy must be a mapping, not a list"),
    (policy(gates=[]), "the policy has no gates"),
    (policy(gates="errors"), "gates must be a list, not text"),
    (policy(gatse=[]), "unknown key 'gatse' (did you mean 'gates'?)"),
    (policy(gates=["errors"]), "gate 1 must be a mapping, not text"),
    (policy(gates=[True]), "gate 1 must be a mapping, not a boolean"),
    (gate(name="-"), "gate 1 needs a name"),
    (gate(name="5xx rate"), "not '5xx rate'"),
    (gate(name=[1]), "not a list"),
    (gate(name="alive"), "'alive' is a built-in gate"),
    (policy(gates=[ERRORS, MEMORY, ERRORS]), "gates 1 and 3 are both called 'errors'"),
    (
        gate(type="ration"),
        "must be one of ratio, latency, value, ranks, burn_rate, not 'ration' (did you mean 'ratio'?)",
    ),
    (gate(type=3), "type must be one of ratio, latency, value, ranks, burn_rate, not 3"),
    (gate(tolerence=2), "gate 'errors': unknown key 'tolerence' (did you mean 'tolerance'?)"),
    (gate(histogram="h"), "Known keys of a ratio gate: name, type, source, timeout, bad, total"),
    (gate(total="-"), "gate 'errors' has no query: total is missing"),
    (gate(bad=" "), "gate 'errors' has no query: bad is missing"),
    (gate(bad=["b"]), "bad must be text, not a list"),
    (gate(max="lots"), "gate 'errors': max must be a share such as 0.05 or 5%, not 'lots'"),
    (gate(max="5%%"), "not '5%%'"),
    (gate(max=5), "max must be at least 0 and at most 1, not 5"),
    (gate(max="nan"), "max must be a share such as 0.05 or 5%, not 'nan'"),
    (gate(max=float("inf")), "not inf"),
    (gate(max=True), "not True"),
    (gate(max={"a": 1}), "not a mapping"),
    (gate(tolerance="{{ two }}"), "tolerance must be a number, not '{{ two }}'"),
    (gate(tolerance=0.5), "tolerance must be at least 1, not 0.5"),
    (gate(margin=1), "margin must be above 1, not 1"),
    (gate(min_bad=2.5), "min_bad must be a whole number, not 2.5"),
    (gate(min_bad=0), "min_bad must be at least 1"),
    (gate(max=0.01, floor=0.02), "floor (0.02) is not below max (0.01)"),
    (gate(timeout="soon"), "timeout must be a duration in seconds, or text such as 30s, 5m or 1h, not 'soon'"),
    (gate(timeout=""), "not ''"),
    (gate(timeout=-1), "timeout must be at least 0.05"),
    (gate({"name": "slow", "type": "latency", "histogram": "h"}), "gate 'slow' has no over"),
    (gate({"name": "slow", "type": "latency", "over": 1}), "has no query: histogram is missing"),
    (gate(MEMORY, max="-"), "gate 'memory' has no limit"),
    (gate(MEMORY, value="-"), "has no query: value is missing"),
    (gate(MEMORY, pass_max=6e8), "pass_max (6e+08) is above max (5e+08)"),
    (gate(MEMORY, min=6e8), "min (6e+08) is above max (5e+08)"),
    (gate(MEMORY, pass_min=1), "a pass limit without the limit that fails"),
    (gate(MEMORY, fail_count=3, fail_of=2), "fail_count (3) of fail_of (2) can never be reached"),
    (gate(MEMORY, per="best"), "per must be one of worst, mean, not 'best'"),
    (gate({"name": "p", "type": "ranks", "value": "v"}, min_samples=3), "min_samples must be at least 5"),
    (gate(BUDGET, slo="-"), "gate 'budget' has no slo"),
    (gate(BUDGET, slo=1), "slo must be from 0.5 to below 1, not 1"),
    (gate(BUDGET, slo=99.9), "slo must be at least 0 and at most 1, not 99.9"),
    (gate(BUDGET, windows=[{"short": 1, "factor": 2}]), "windows has no long"),
    (gate(BUDGET, windows=[{"long": 60}]), "windows has no factor"),
    (gate(BUDGET, windows=[{"long": 60, "short": 90, "factor": 2}]), "short (90s) is longer than long (60s)"),
    (gate(BUDGET, windows=[60]), "windows must be a mapping, not a number"),
    ({"gates": [ERRORS]}, "gate 'errors' has no source"),
    (policy(source={}), "source has no type"),
    (policy(source={"type": "graphite"}), "type must be one of exposition, prometheus, not 'graphite'"),
    (policy(source="prometheus"), "source must be a mapping, not text"),
    (gate(source={"url": "x"}), "gate 'errors': source has no type"),
    (policy(preset="balance"), "(did you mean 'balanced'?)"),
    (policy(alpha=0), "alpha must be at least 1e-06 and at most 0.2"),
    (policy(traffic=0), "traffic must be above 0"),
    (policy(bake={"deadlin": 5}), "bake: unknown key 'deadlin' (did you mean 'deadline'?)"),
    (policy(bake={"on_undecided": "promote"}), "on_undecided must be one of hold, pass, undo"),
    (policy(bake={"min_bake": 90, "deadline": 60}), "min_bake (90s) is longer than deadline (60s)"),
    (policy(bake={"min_bake": 1, "deadline": 60, "look_every": 40}), "less than two looks"),
]


@pytest.mark.parametrize(("raw", "told"), MISTAKES, ids=[told[:50] for _raw, told in MISTAKES])
def test_a_mistake_is_named_with_its_mend(raw: object, told: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_policy(raw, "shop")
    assert told in str(caught.value)
    assert str(caught.value).startswith("shop: ") and caught.value.mend


class Lazy(Mapping[str, object]):
    """What Ansible hands over: a mapping that is no dict, with text that is no plain str."""

    def __init__(self, data: Mapping[str, object]) -> None:
        self._data = data

    def __getitem__(self, key: str) -> object:
        return self._data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def __len__(self) -> int:
        return len(self._data)


class Tagged(str):
    """A subclass of text that carries an origin."""


def test_lazy_mappings_and_tagged_text_are_read_and_left_behind() -> None:
    lazy = Lazy(
        {
            Tagged("source"): Lazy({"type": Tagged("exposition"), "port": 9100, "tls": None, "on": False, "x": 1.5}),
            "gates": (Lazy({key: Tagged(value) for key, value in ERRORS.items()}),),
        }
    )
    read = parse_policy(lazy, "shop")
    plain = {"type": "exposition", "port": 9100, "tls": None, "on": False, "x": 1.5}
    assert read.plain == {"source": plain, "gates": [ERRORS]}
    assert type(read.gates[0].name) is str and type(read.gates[0].ask.bad) is str


def test_what_is_no_json_becomes_text() -> None:
    read = parse_policy(policy(source={"type": "exposition", "since": date(2026, 1, 2)}), "shop")
    assert read.plain["source"] == {"type": "exposition", "since": "2026-01-02"}


RATIO_KEYS = ["tolerance", "max", "margin", "floor", "min_bad", "min_requests", "mox"]
ANYTHING = st.one_of(
    st.floats(), st.integers(), st.text(max_size=5), st.booleans(), st.none(), st.lists(st.integers(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(RATIO_KEYS), ANYTHING))
def test_whatever_people_write_is_a_policy_or_an_option_error(keys: Dict[str, Any]) -> None:
    raw = policy(gates=[{**ERRORS, **keys}])
    try:
        read = parse_policy(raw, "shop")
    except OptionError:
        return
    again = parse_policy(json.loads(json.dumps(read.plain, allow_nan=False)), "shop")
    assert again == read
