# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A gate judged by one look alone, for a task that asks once and goes on.

Every test is one-sided at 1 %: a rate against a limit by the score test (Wilson 1927), a rate against a baseline by the
exact conditional binomial test (Przyborowski and Wilenski 1940). That holds for one look; who looks again and again
until something shows needs the bake's sequential test.
"""

from __future__ import annotations

import math
from typing import List, Mapping, Optional, Tuple

from .._errors import OptionError
from .model import FAIL, INCONCLUSIVE, PASS, Arms, Counts, GateLook, Verdict
from .presets import PRESETS
from .spec import GateSpec, Policy, RatioRule, ValueRule

CHANCE = 0.01
Z = 2.3263478740408408  # the normal deviate of CHANCE
_EXACT = 10_000

# how far the evidence has come for a fail and for a pass, each 1 at CHANCE and beyond
Test = Tuple[float, float]


def judge_once(policy: Policy, gate: GateSpec, look: GateLook, arms: Arms) -> Verdict:
    """The verdict of one look; OptionError for a gate that one look cannot judge."""
    if isinstance(gate.rule, RatioRule):
        verdict = _ratio(policy, gate, gate.rule, look, arms)
    elif isinstance(gate.rule, ValueRule):
        verdict = _value(gate, gate.rule, look, arms)
    else:
        raise OptionError(
            f"gate {gate.name!r}: a {gate.type} gate cannot be judged by one look",
            mend="Watch it with canary_bake, or use a ratio, latency or value gate",
        )
    missing = [place for place in (*arms.canary, *arms.baseline) if place not in {**look.counts, **look.values}]
    if verdict.verdict == FAIL or not missing:
        return verdict
    return Verdict(INCONCLUSIVE, gate.name, _absence(look, missing), verdict.value, verdict.limit, verdict.baseline)


def _absence(look: GateLook, missing: List[str]) -> str:
    """The source's own trouble before plain silence."""
    reasons = [look.absent[place].reason for place in missing if place in look.absent]
    for reason, told in (("provider_error",) * 2, ("query_error",) * 2, ("several_series", "query_error")):
        if reason in reasons:
            return told
    return "no_data"


def _ratio(policy: Policy, gate: GateSpec, rule: RatioRule, look: GateLook, arms: Arms) -> Verdict:
    if rule.max is None and not arms.baseline:
        raise OptionError(f"gate {gate.name!r} has no limit", mend="Set max, or name the baseline to compare with")
    canary, baseline = _sum(look.counts, arms.canary), _sum(look.counts, arms.baseline)
    tests: List[Tuple[str, Test]] = []
    if rule.max is not None:
        tests.append(("limit", against_limit(canary, rule.max)))
    if arms.baseline:
        tests.append(("baseline", _against_baseline(policy, gate, canary, baseline)))
    preset = PRESETS[policy.preset]
    min_bad = preset.min_bad if rule.min_bad is None else rule.min_bad
    min_requests = preset.min_requests if rule.min_requests is None else rule.min_requests
    failed = [name for name, (fail, _good) in tests if fail >= 1.0 and canary.bad >= min_bad]
    verdict, reason = INCONCLUSIVE, "undecided"
    if failed:
        verdict, reason = FAIL, failed[0]
    elif canary.total < min_requests:
        reason = "low_sample"
    elif all(good >= 1.0 for _name, (_fail, good) in tests):
        verdict, reason = PASS, ""
    return Verdict(
        verdict,
        gate.name,
        reason,
        value=_rate(canary),
        limit=rule.max,
        baseline=_rate(baseline),
        samples={"canary": canary.total, "bad": canary.bad, "baseline": baseline.total, "baseline_bad": baseline.bad},
        evidence={
            "fail": max(fail for _name, (fail, _good) in tests),
            "pass": min(good for _name, (_fail, good) in tests),
        },
    )


def _sum(counts: Mapping[str, Counts], places: Tuple[str, ...]) -> Counts:
    here = [counts[place] for place in places if place in counts]
    return Counts(sum(count.bad for count in here), sum(count.total for count in here))


def _rate(counts: Counts) -> Optional[float]:
    return counts.bad / counts.total if counts.total > 0 else None


def against_limit(counts: Counts, limit: float) -> Test:
    """The score test of a share against `limit`."""
    expected = counts.total * limit
    deviation = math.sqrt(expected * (1.0 - limit))
    if deviation == 0.0:
        return float(counts.bad > expected), float(counts.bad <= expected)
    z = (counts.bad - expected) / deviation
    return _share(z / Z), _share(-z / Z)


def _against_baseline(policy: Policy, gate: GateSpec, canary: Counts, baseline: Counts) -> Test:
    # only a comparison needs the preset's whole specification
    from .recovery import ratio_spec

    spec = ratio_spec(policy, gate)
    bad = canary.bad + baseline.bad
    worse = binomial_tail(canary.bad, bad, _part(spec.tolerance, canary, baseline))
    not_worse = binomial_tail(baseline.bad, bad, 1.0 - _part(spec.margin, canary, baseline))
    _over, under_floor = against_limit(canary, spec.floor)
    return _evidence(worse), max(_evidence(not_worse), under_floor)


def _part(ratio: float, canary: Counts, baseline: Counts) -> float:
    """The canary's expected part of all bad requests when its rate is `ratio` times the baseline's."""
    weighted = ratio * canary.total
    return weighted / (weighted + baseline.total) if weighted + baseline.total > 0 else 0.5


def binomial_tail(count: float, trials: float, chance: float) -> float:
    """P(X ≥ count) of `trials`; interpolated counts round against the claim, many trials go by the normal curve."""
    k, n = math.floor(count), math.ceil(trials)
    if k <= 0:
        return 1.0
    if chance <= 0.0 or chance >= 1.0:
        return float(chance >= 1.0)
    if n > _EXACT:
        deviation = math.sqrt(n * chance * (1.0 - chance))
        return 0.5 * math.erfc((k - 0.5 - n * chance) / deviation / math.sqrt(2.0))
    log_p, log_q, log_n = math.log(chance), math.log1p(-chance), math.lgamma(n + 1)
    terms = (
        math.exp(log_n - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q)
        for i in range(k, n + 1)
    )
    return min(1.0, math.fsum(terms))


def _evidence(probability: float) -> float:
    return 1.0 if probability <= 0.0 else _share(math.log(probability) / math.log(CHANCE))


def _share(evidence: float) -> float:
    return min(1.0, max(0.0, evidence))


def _value(gate: GateSpec, rule: ValueRule, look: GateLook, arms: Arms) -> Verdict:
    values = [look.values[place] for place in arms.canary if place in look.values]
    others = [look.values[place] for place in arms.baseline if place in look.values]
    if rule.per == "mean" and values:
        values = [sum(values) / len(values)]
    over = [value for value in values if rule.max is not None and value > rule.max]
    under = [value for value in values if rule.min is not None and value < rule.min]
    highest = rule.max if rule.pass_max is None else rule.pass_max
    lowest = rule.min if rule.pass_min is None else rule.pass_min
    good = [v for v in values if (highest is None or v <= highest) and (lowest is None or v >= lowest)]
    verdict, reason = INCONCLUSIVE, "undecided"
    if over or under:
        verdict, reason = FAIL, "limit"
    elif values and len(good) == len(values):
        verdict, reason = PASS, ""
    by_min = bool(under) or rule.max is None
    return Verdict(
        verdict,
        gate.name,
        reason,
        value=(min if by_min else max)(values, default=None),
        limit=rule.min if by_min else rule.max,
        baseline=sum(others) / len(others) if others else None,
        samples={"canary": float(len(values)), "bad": float(len(over) + len(under))},
        evidence={"fail": float(verdict == FAIL), "pass": float(verdict == PASS)},
    )
