# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be said of one gate by reading it: its expressions, its limits, its direction.

Expressions are read by pattern, not parsed: what looks odd is said, what cannot be read this way is left to the probes
(what the source answered) and to the self-test.
"""

from __future__ import annotations

import re
from typing import Iterator, Sequence, Tuple

from .spec import Ask, BurnRule, GateSpec, Policy, RanksRule, RatioRule, ValueRule

ERROR = "error"
WARNING = "warning"

Note = Tuple[str, str, str, str]  # level, code, reason, mend

_FEW_REQUESTS = 20
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0, "y": 31536000.0}
_HIDES = (
    (re.compile(r"\bor\s+(?:on\s*\([^)]*\)\s*)?vector\s*\(", re.I), "or vector(…)"),
    (re.compile(r"\bdefault\b", re.I), "default"),
    (re.compile(r"\bclamp_min\s*\(", re.I), "clamp_min"),
    (re.compile(r"\bor\s+on\s*\(\s*\)", re.I), "or on()"),
)
_AGGREGATION = re.compile(
    r"\b(?:sum|avg|min|max|count|quantile|topk|bottomk|stddev|stdvar|group)\s*(?:(by|without)\s*\(([^)]*)\)\s*)?\(",
    re.I,
)
_TRAILING_BY = re.compile(r"\)\s*(by|without)\s*\(([^)]*)\)", re.I)
_PLACE_LABELS = ("instance", "place", "host", "hostname", "node", "pod")
_RANGE = re.compile(r"\[\s*((?:\d+(?:ms|[smhdwy]))+)\s*[\]:]")
_RANGE_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_RATES = re.compile(r"\b(?:rate|irate|increase|delta|idelta|deriv)\s*\(", re.I)
_BAD_WORDS = re.compile(
    r"error|fail|exception|timeout|rejected|dropped|latency|duration|lag\b|_lag|queue|[\"'~^]5(?:\.\.|\d\d|xx)", re.I
)
_GOOD_WORDS = re.compile(
    r"success|succeeded|available|availability|healthy|ready|uptime|[\"'~^]2(?:\.\.|\d\d|xx)", re.I
)
_NEGATED = re.compile(r"!~|!=")


def of_rule(policy: Policy, gate: GateSpec) -> Iterator[Note]:
    """Everything odd about a gate by itself."""
    yield from _expressions(policy, gate)
    rule = gate.rule
    if isinstance(rule, RatioRule):
        yield from _of_ratio(gate, rule)
    elif isinstance(rule, ValueRule):
        yield from _of_value(gate, rule)
    elif isinstance(rule, RanksRule):
        yield from _of_ranks(gate, rule)
    else:
        yield from _of_burn(gate, rule)


def _queries(ask: Ask) -> Iterator[Tuple[str, str]]:
    for key, query in (("bad", ask.bad), ("total", ask.total), ("histogram", ask.histogram), ("value", ask.value)):
        if query:
            yield key, query


def _expressions(policy: Policy, gate: GateSpec) -> Iterator[Note]:
    source = policy.source_of(gate)
    label = str(source.get("place_label") or "instance")
    # two sides of one place are in the same pods and on the same hosts
    kept = (label,) if policy.by_sides else (label, *_PLACE_LABELS)
    for key, query in _queries(gate.ask):
        bare = _unquoted(query)
        for pattern, name in _HIDES:
            if pattern.search(bare):
                yield (
                    ERROR,
                    "hides_missing_data",
                    f"{name} in {key} turns missing data into a number, so that silence looks healthy or bad",
                    "Remove it: a look without data is inconclusive by itself",
                )
        yield from _per_place(key, bare, kept)
        if key != "value" and _RATES.search(bare):
            yield (
                ERROR,
                "not_a_counter",
                f"{key} is a rate, but this gate takes the increments of raw counters itself",
                "Write the counter alone, without rate() or increase()",
            )
        if source.get("type") == "exposition" and "(" in bare:
            yield (
                ERROR,
                "not_a_selector",
                f"{key} is an expression, but the exposition source knows selectors only",
                'Write name{label="value"}, or use the prometheus source',
            )


def _unquoted(query: str) -> str:
    """The expression without what stands in quotes, so that a label's value is not taken for a function."""
    return re.sub(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", '""', query)


def _per_place(key: str, query: str, kept: Sequence[str]) -> Iterator[Note]:
    """Does each aggregation keep one of the labels `kept`, of which the first is the one to name?"""
    trailing = _TRAILING_BY.findall(query)
    for kind, labels in _AGGREGATION.findall(query):
        if not kind and trailing:
            kind, labels = trailing.pop(0)
        named = any(name.strip() in kept for name in labels.split(","))
        if not (named if kind.lower() == "by" else kind and not named):
            yield (
                ERROR,
                "not_per_place",
                f"{key} adds all places up, so that a broken canary is diluted in the whole",
                f"Leave the aggregation out, or add by ({kept[0]})",
            )
            return


def _of_ratio(gate: GateSpec, rule: RatioRule) -> Iterator[Note]:
    ask = gate.ask
    if rule.max is not None and rule.max >= 1:
        yield (
            ERROR,
            "never_fails",
            "max is 1, and a share of requests is never higher",
            "Write 5% as 0.05 or 5%",
        )
    if ask.bad and ask.bad == ask.total:
        yield (ERROR, "same_query", "bad and total are the same query: every request is bad", "Narrow bad down")
    if _selects_good(ask.bad):
        yield (
            ERROR,
            "wrong_direction",
            "bad counts what looks like successes, so that a failing release looks better",
            'Count the failures, for example code=~"5.."',
        )
    if (rule.min_requests or _FEW_REQUESTS) < _FEW_REQUESTS or (rule.min_bad or 2) < 2:
        yield (
            WARNING,
            "no_minimum_sample",
            "so few requests decide that one blip is enough",
            f"Leave min_requests and min_bad out, or set at least {_FEW_REQUESTS} and 2",
        )


def _selects_good(query: str) -> bool:
    return bool(_GOOD_WORDS.search(query)) and not _BAD_WORDS.search(query) and not _NEGATED.search(query)


def _of_value(gate: GateSpec, rule: ValueRule) -> Iterator[Note]:
    query = gate.ask.value
    bad_metric, good_metric = bool(_BAD_WORDS.search(query)), _selects_good(query)
    if bad_metric and not _GOOD_WORDS.search(query) and rule.max is None:
        yield (
            ERROR,
            "wrong_direction",
            "it looks like a metric that is better when lower, but has only a min",
            "Set max instead",
        )
    if good_metric and rule.min is None:
        yield (
            ERROR,
            "wrong_direction",
            "it looks like a metric that is better when higher, but has only a max",
            "Set min instead",
        )
    if "/" in _unquoted(query) and _RATES.search(query) and rule.max is not None and rule.max >= 1:
        yield (
            WARNING,
            "never_fails",
            f"it looks like a share, which never exceeds 1, but max is {rule.max:g}",
            "Write 5% as 0.05, or use a ratio gate",
        )
    if rule.max is None and rule.min is not None and rule.min <= 0 and "-" not in _unquoted(query):
        yield (
            WARNING,
            "never_fails",
            f"few metrics are ever below {rule.min:g}, the only limit",
            "Raise min, or set max",
        )
    if rule.fail_count == 1 or rule.consecutive == 1:
        yield (WARNING, "no_minimum_sample", "one single value is enough to fail", "Let 3 of 5 values decide")
    yield from _overlap(gate, rule.every, "every", WARNING)


def _of_ranks(gate: GateSpec, rule: RanksRule) -> Iterator[Note]:
    query = gate.ask.value
    if rule.direction == "decrease" and _BAD_WORDS.search(query) and not _GOOD_WORDS.search(query):
        yield (ERROR, "wrong_direction", "it looks better when lower, but only a decrease fails", "Use increase")
    if rule.direction == "increase" and _selects_good(query):
        yield (
            ERROR,
            "wrong_direction",
            "it looks better when higher, but only an increase fails",
            "Use decrease",
        )
    if rule.direction == "decrease" and rule.tolerance >= 1:
        yield (ERROR, "never_fails", "a fall by 100% or more is tolerated", "Write tolerance as a share below 1")
    yield from _overlap(gate, rule.window, "window", ERROR)


def _overlap(gate: GateSpec, apart: float, key: str, level: str) -> Iterator[Note]:
    """Samples whose look-back overlaps repeat each other: the test then sees far more data than there is."""
    for text in _RANGE.findall(_unquoted(gate.ask.value)):
        looks_back = sum(float(number) * _DURATION_UNITS[unit] for number, unit in _RANGE_PART.findall(text))
        if looks_back > apart:
            yield (
                level,
                "overlapping_windows",
                f"each value looks back {looks_back:g}s, but counts anew every {apart:g}s",
                f"Set {key} to at least {looks_back:g}, or shorten the range",
            )


def _of_burn(gate: GateSpec, rule: BurnRule) -> Iterator[Note]:
    hottest = 1 / (1 - rule.slo)
    for pair in rule.windows:
        if pair.factor >= hottest:
            yield (
                ERROR,
                "never_fails",
                f"factor {pair.factor:g} is out of reach: with every request bad the budget burns {hottest:.3g} times",
                "Lower the factor or raise the slo",
            )
    if not rule.windows and hottest <= 14.4:
        yield (
            WARNING,
            "never_fails",
            f"an slo of {rule.slo:g} burns at most {hottest:.3g} times its budget, the quick window waits for 14.4",
            "Give windows of your own, or use a ratio gate with max",
        )
    if _selects_good(gate.ask.bad):
        yield (ERROR, "wrong_direction", "bad counts what looks like successes", 'Count failures: code=~"5.."')
    if rule.min_bad < 2 or rule.min_requests < _FEW_REQUESTS:
        yield (WARNING, "no_minimum_sample", "so few requests decide that one blip is enough", "Raise min_bad")
