# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a policy before anything runs: gates that cannot fail, cannot pass, or see the wrong thing.

Every finding names the gate, the reason and the mend. An `error` is a gate that does not do what it is there for; a
`warning` is one that does it badly. The expressions are read by pattern, not parsed: what looks odd is said, what
cannot be read is left to the probes (what the source answered) and to the self-test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._errors import nearest
from .detect import expected_detection
from .lint_rules import ERROR, WARNING, Note, of_rule
from .model import Arms, Probed
from .recovery import ratio_spec
from .selftest import BASE_SHARE, prove
from .spec import BurnRule, GateSpec, Policy, RanksRule, RatioRule

_NOMINAL_RPS = 100.0  # per place; what the self-test assumes where nobody knows the traffic
_FEW_PLACES = 6


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `gate` is empty where the policy as a whole is meant."""

    gate: str
    level: str
    code: str
    reason: str
    mend: str

    def as_dict(self) -> Dict[str, str]:
        return {"level": self.level, "gate": self.gate, "code": self.code, "reason": self.reason, "mend": self.mend}

    def __str__(self) -> str:
        where = f"gate {self.gate!r}" if self.gate else "the policy"
        return f"{self.level}: {where}: {self.reason}. {self.mend}."


@dataclass(frozen=True)
class _Fleet:
    """Who is compared with whom: all places, and how many of them are on the new release at each step."""

    places: Tuple[str, ...]
    sizes: Tuple[int, ...]
    later: Tuple[str, ...] = ()
    given: Optional[float] = None

    @property
    def first(self) -> int:
        return min(self.sizes)

    @property
    def share(self) -> float:
        """The part of the requests that the new release gets at the first step."""
        return self.first / len(self.places) if self.given is None else self.given


def lint(
    policy: Policy,
    places: Sequence[str],
    *,
    sizes: Sequence[int],
    probes: Optional[Mapping[str, Probed]] = None,
    share: Optional[float] = None,
    later: Sequence[str] = (),
) -> List[Finding]:
    """Everything wrong with `policy` on `places`, errors first.

    `sizes` are the numbers of places on the new release at each step (a `watch` over all places: `[len(places)]`);
    `probes` say, by gate, what the source answered, and are left out where it was not asked. `share` is the part of the
    requests, 0..1, that the first step gives the new release, where places do not share them evenly; of the places
    `later` nothing is measured before the release is there.
    """
    fleet = _Fleet(tuple(places), tuple(size for size in sizes if 0 < size <= len(places)), tuple(later), share)
    findings = [Finding("", *note) for note in _of_bake(policy)]
    if not fleet.sizes:
        told = (ERROR, "no_places", "no step puts the release on any place", "Name at least one place and one step")
        return _sorted(findings + [Finding("", *told)])
    for gate in policy.gates:
        notes = list(of_rule(policy, gate)) + list(_of_fleet(gate, fleet))
        probe = (probes or {}).get(gate.name)
        if probe is not None:
            notes += _of_probe(gate, probe, fleet)
        notes += _of_reach(policy, gate, fleet, _traffic(policy, probes))
        findings += [Finding(gate.name, *note) for note in notes]
    return _sorted(findings)


def _sorted(findings: Sequence[Finding]) -> List[Finding]:
    unique = list(dict.fromkeys(findings))
    return sorted(unique, key=lambda finding: finding.level != ERROR)


def _traffic(policy: Policy, probes: Optional[Mapping[str, Probed]]) -> Optional[float]:
    """Requests per second over all places: as the policy expects them, else as the source has seen them."""
    seen = [probe.rate for probe in (probes or {}).values() if probe.rate is not None]
    return policy.traffic if policy.traffic is not None else max(seen, default=None)


def _of_bake(policy: Policy) -> Iterator[Note]:
    bake = policy.bake
    if bake.warm_up >= bake.deadline:
        yield (
            ERROR,
            "never_passes",
            f"warm_up ({bake.warm_up:g}s) lasts as long as the bake ({bake.deadline:g}s), so nothing is ever judged",
            "Lower warm_up or raise deadline",
        )
    if bake.on_undecided == "pass":
        yield (
            WARNING,
            "undecided_promotes",
            "on_undecided: pass promotes a release that nobody has shown to be good",
            "Use hold or undo, or give the bake more time or traffic",
        )


def _of_fleet(gate: GateSpec, fleet: _Fleet) -> Iterator[Note]:
    rule, left = gate.rule, len(fleet.places) - max(fleet.sizes)
    if left == 0 and (isinstance(rule, RanksRule) or (isinstance(rule, RatioRule) and rule.max is None)):
        never = len(fleet.places) == fleet.first
        yield (
            ERROR if never else WARNING,
            "no_baseline",
            "no place is left on the old release to compare with" + ("" if never else " at the last step"),
            "Keep a holdback of one place"
            if isinstance(rule, RanksRule)
            else "Set max, or keep a holdback of one place",
        )
    compared = isinstance(rule, RatioRule) and rule.max is None
    if compared and 0 < len(fleet.places) - fleet.first < _FEW_PLACES:
        yield (
            WARNING,
            "few_baseline_places",
            f"{len(fleet.places) - fleet.first} baseline places say little about how bursty the errors are",
            f"Set max beside the comparison; from {_FEW_PLACES} places on the comparison stands alone",
        )


def _of_probe(gate: GateSpec, probe: Probed, fleet: _Fleet) -> Iterator[Note]:
    if not probe.exists:
        detail = f": {probe.detail}" if probe.detail else ""
        yield (ERROR, "no_such_metric", f"the source does not have it{detail}", "Correct the name or the labels")
        return
    if probe.series > 1:
        yield (
            ERROR,
            "several_series",
            f"one place answers with {probe.series} series where one is expected",
            "Narrow the selector down to one series, or add them up per place",
        )
    if probe.unseen:
        yield (
            WARNING,
            "unseen_label",
            f"no series of its metric has the label {', '.join(probe.unseen)}, so that nothing is counted as yet",
            "Correct the label's name, unless it shows only on events that have not happened yet",
        )
    missing = [place for place in fleet.places if place not in (*probe.places, *fleet.later)]
    if missing and probe.places:
        hint = nearest(missing[0], [place for place in probe.places if place not in fleet.places])
        yield (
            ERROR,
            "not_per_place",
            f"nothing tells these places apart from the rest: {', '.join(missing[:5])}{hint}",
            "Let the label that names the place have the inventory's names, or map it in source",
        )
    elif missing:
        yield (
            ERROR,
            "not_per_place",
            "the answer names no place, so that a broken canary is diluted in the whole",
            "Keep the label that names the place in the expression",
        )
    over = gate.ask.over
    if over is not None and probe.edges and not any(abs(edge - over) <= 1e-9 * max(1.0, over) for edge in probe.edges):
        below = [max(edge for edge in probe.edges if edge < over)] if min(probe.edges) < over else []
        above = [min(edge for edge in probe.edges if edge > over)] if max(probe.edges) > over else []
        yield (
            ERROR,
            "no_bucket_edge",
            f"the histogram has no bucket edge at {over:g}s",
            f"Set over to an edge, for example {' or '.join(f'{edge:g}' for edge in below + above)}",
        )


def _of_reach(policy: Policy, gate: GateSpec, fleet: _Fleet, traffic: Optional[float]) -> Iterator[Note]:
    """Does the gate do what it should on synthetic looks, within the bake of the smallest step?"""
    bake, arms = policy.bake, Arms(fleet.places[: fleet.first], fleet.places[fleet.first :])
    counted = isinstance(gate.rule, (RatioRule, BurnRule))
    if counted and traffic is None:
        yield (
            WARNING,
            "unknown_traffic",
            "nobody knows how many requests to expect, so nobody can say how long a verdict takes",
            "Set traffic to the requests per second over all places",
        )
    rps = traffic if traffic is not None else _NOMINAL_RPS * len(fleet.places)
    where = f"on {fleet.first} of {len(fleet.places)} places" if fleet.given is None else f"at {fleet.given:.3g} of all"
    where += f" with {rps:g} requests/s in all" if counted else ""
    if prove(policy, gate, arms, rps=rps, bad=True, share=fleet.share).failed is None:
        yield (
            ERROR,
            "never_fails",
            f"self-test: a release that is plainly bad is not failed within {bake.deadline:g}s {where}",
            "Lower the limit or the sample it asks for, raise deadline or the first step, or bring more traffic",
        )
    elif isinstance(gate.rule, RatioRule):
        yield from _slow(policy, gate, arms, (rps, fleet.share), where)
    good = prove(policy, gate, arms, rps=rps, bad=False, share=fleet.share)
    if good.failed is not None:
        yield (
            ERROR,
            "fails_good",
            f"self-test: a release that does what the baseline does is failed after {good.failed:g}s {where}",
            "Raise the limit or the tolerance",
        )
    elif good.passed is None:
        yield (
            ERROR,
            "never_passes",
            f"self-test: a good release does not pass within {bake.deadline + bake.extend:g}s {where}",
            "Raise the floor or the tolerance, deadline or the first step, or bring more traffic",
        )


def _slow(policy: Policy, gate: GateSpec, arms: Arms, traffic: Tuple[float, float], where: str) -> Iterator[Note]:
    """`traffic` are the requests per second of all, and the canary's part of them."""
    (rps, share), spec = traffic, ratio_spec(policy, gate)
    rate, horizon = BASE_SHARE, policy.bake.deadline
    seen = expected_detection(spec, rps, share, baseline_rate=rate, places=len(arms.baseline), horizon=horizon)
    if arms.baseline and seen["5x"] is None:
        yield (
            WARNING,
            "slow_to_fail",
            f"five times {rate:.1%} errors would not be seen within {horizon:g}s {where}",
            "Raise deadline or the first step, or bring more traffic",
        )
