# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a service's gates to Prometheus' rules: how fast each release, and the service, burns the error budget. Pure.

The burn is bad requests ÷ all requests ÷ (1 − objective). A pair of windows fires when both burn faster than its
factor: the long one says that it matters, the short one that it still goes on (Site Reliability Workbook, chapter 5).
What is counted is recorded once for each window, by version, and every alert is reckoned from that. A release's burn is
its own, not thinned by the others: the errors of a canary with a tenth of the requests are a tenth of the service's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Sequence, Set, Tuple

from .._codes.generate import Doc, duration, template_text
from .._errors import OptionError
from .._judge.presets import PRESETS
from .._judge.spec import BurnRule, GateSpec, RatioRule
from .._sense.selector import NotASelector, Selector, base_of, bucket_at, parse_selector, quoted
from .model import CRITICAL, SEVERITIES, Watched, Watching, Window

RELEASE, SERVICE, UNSEEN = "ReleaseBurnsBudget", "ServiceBurnsBudget", "ServiceUnseen"
BAD, TOTAL = "selfheal:bad:increase", "selfheal:total:increase"
_RARELY = 1800.0  # seconds of the shortest window from which on a rule need not be evaluated often


class Uncounted(OptionError):
    """The gate does not count requests."""


@dataclass(frozen=True)
class Unwatched:
    """A gate that no alert watches, and why."""

    service: str
    gate: str
    why: str


@dataclass(frozen=True)
class Counted:
    """What a gate counts. Bad is what `bad` counts more than `good`; `proof` is missing when nothing is watched."""

    total: Selector
    bad: Selector
    good: Tuple[Selector, ...]
    proof: Selector


@dataclass(frozen=True)
class Budget:
    """One gate of one service, ready to be written down."""

    of: Watched
    gate: str
    counted: Counted
    share: float  # of the requests that may be bad
    least: int  # bad requests in the long window, before which nothing fires
    version: str  # the label that tells releases apart, or nothing

    @property
    def labels(self) -> Dict[str, str]:
        place = {"service": self.of.service, "environment": self.of.environment, "gate": self.gate}
        return {name: value for name, value in place.items() if value}

    def recorded(self, name: str, window: float) -> str:
        inner = ", ".join(f"{label}={quoted(value)}" for label, value in self.labels.items())
        return f"{name}{duration(window)}{{{inner}}}"


def groups(of: Watched, watching: Watching) -> Tuple[List[Doc], List[Unwatched]]:
    """The groups of one service, by severity, and the gates that no alert can watch."""
    budgets: List[Budget] = []
    unwatched: List[Unwatched] = []
    for gate in of.policy.gates:
        try:
            budgets.append(_budget(of, gate, watching))
        except (NotASelector, Uncounted) as error:
            unwatched.append(Unwatched(of.service, gate.name, error.what))
    made: List[Doc] = []
    recorded: Set[float] = set()
    for severity in SEVERITIES if budgets else ():
        pairs = [pair for pair in watching.windows if pair.severity == severity]
        # what two groups need is recorded by the first alone: twice the same series is an error
        new = {seconds for pair in pairs for seconds in (pair.long, pair.short)} - recorded
        made.append(_group(budgets, watching, severity, sorted(new)))
        recorded |= new
    return [group for group in made if group["rules"]], unwatched


def _group(budgets: Sequence[Budget], watching: Watching, severity: str, recorded: Sequence[float]) -> Doc:
    of = budgets[0].of
    pairs = [pair for pair in watching.windows if pair.severity == severity]
    rules: List[Doc] = []
    for budget in budgets:
        rules += _records(budget, recorded)
        if pairs:
            rules += _alerts(budget, pairs, watching, severity)
        if severity == CRITICAL:
            rules.append(_unseen(budget, watching))
    name = "-".join(part for part in ("selfheal", of.environment, of.service, severity) if part)
    rarely = min((pair.short for pair in pairs), default=0.0) >= _RARELY
    return {"name": name, **({"interval": "1m"} if rarely else {}), "rules": rules}


def _budget(of: Watched, gate: GateSpec, watching: Watching) -> Budget:
    rule = gate.rule
    counted = _counted(of, gate, watching)
    objective = of.objectives.get(gate.name, rule.slo if isinstance(rule, BurnRule) else watching.objective)
    share = round(1 - objective, 12)
    for pair in watching.windows:
        if pair.factor * share >= 1:
            raise OptionError(
                f"gate {gate.name!r}: an objective of {objective:.6g} never burns {pair.factor:g} times too fast: that "
                f"would be {pair.factor * share:.0%} bad requests",
                mend="Raise the objective, or lower the factor in windows",
                service=of.service,
            )
    least = rule.min_bad if isinstance(rule, (RatioRule, BurnRule)) else None
    least = PRESETS[of.policy.preset].min_bad if least is None else least
    return Budget(of, gate.name, counted, share, least, watching.labels.version)


def _counted(of: Watched, gate: GateSpec, watching: Watching) -> Counted:
    """What the gate counts, of this service alone; Uncounted where it counts nothing."""
    if gate.ask.histogram:
        base = _narrowed(base_of(gate.ask.histogram), of, watching)
        count, within = base.renamed(f"{base.name}_count"), bucket_at(base, gate.ask.over or 0.0)
        return Counted(count, count, (within,), within)
    if not gate.ask.bad:
        raise Uncounted(f"a {gate.type} gate counts no bad requests")
    total = _narrowed(parse_selector(gate.ask.total), of, watching)
    return Counted(total, _narrowed(parse_selector(gate.ask.bad), of, watching), (), total)


def _narrowed(selector: Selector, of: Watched, watching: Watching) -> Selector:
    """The selector for this service's series; what it already says of a label stays as it is."""
    labels = watching.labels
    named = {labels.service: of.service, **({labels.environment: of.environment} if of.environment else {})}
    for label, value in (of.series or named).items():
        if label and all(matcher.label != label for matcher in selector.matchers):
            selector = selector.narrowed(label, "=", value)
    return selector


def _records(budget: Budget, windows: Sequence[float]) -> Iterator[Doc]:
    """How much was counted in each window, by version."""
    counted = budget.counted
    for window in windows:
        bad = " - ".join(_increase(selector, window, budget.version) for selector in (counted.bad, *counted.good))
        total = _increase(counted.total, window, budget.version)
        for name, expression in ((TOTAL, total), (BAD, bad)):
            yield {"record": f"{name}{duration(window)}", "expr": expression, "labels": budget.labels}


def _increase(selector: Selector, window: float, version: str) -> str:
    by = f" by ({version}) " if version else ""
    return f"sum{by}(increase({selector}[{duration(window)}]))"


def _alerts(budget: Budget, pairs: Sequence[Window], watching: Watching, severity: str) -> Iterator[Doc]:
    """Who burns the budget: a release by itself, while it burns fast, and the service in any case."""
    fast = severity == CRITICAL
    if fast and budget.version:
        yield _alert(budget, pairs, watching, name=RELEASE, severity=severity, response="rollback")
    blamed = fast and not budget.version
    yield _alert(budget, pairs, watching, name=SERVICE, severity=severity, response="rollback" if blamed else "page")


def _alert(
    budget: Budget, pairs: Sequence[Window], watching: Watching, *, name: str, severity: str, response: str
) -> Doc:
    by_release = name == RELEASE
    release = {"release": f"{{{{ $labels.{budget.version} }}}}"} if by_release else {}
    whose = f"{{{{ with $labels.{budget.version} }}}}, release {{{{ . }}}},{{{{ end }}}}" if by_release else ""
    spans = ", ".join(f"{duration(pair.long)} and {duration(pair.short)}" for pair in pairs)
    return {
        "alert": name,
        "expr": "\nor\n".join(_burning(budget, pair, by_release) for pair in pairs),
        "for": duration(watching.hold),
        "keep_firing_for": duration(watching.keep_firing_for),
        "labels": {**_labels(budget, severity, response), **release},
        "annotations": {
            "summary": f"{budget.of.identity}{whose} burns the error budget of {budget.gate}",
            "description": "{{ $value | humanizePercentage }} of the requests are bad, and "
            f"{budget.share * 100:.6g}% may be. Windows: {spans}.",
            **_runbook(budget),
        },
    }


def _labels(budget: Budget, severity: str, response: str) -> Dict[str, str]:
    owner = {"owner": template_text(budget.of.owner)} if budget.of.owner else {}
    return {**budget.labels, "severity": severity, "response": response, **owner}


def _runbook(budget: Budget) -> Dict[str, str]:
    return {"runbook_url": template_text(budget.of.runbook)} if budget.of.runbook else {}


def _burning(budget: Budget, pair: Window, by_release: bool) -> str:
    limit = f"{pair.factor:g} * {budget.share:.12g}"

    def part(name: str, window: float) -> str:
        series = budget.recorded(name, window)
        return series if by_release else f"sum({series})"

    burns = [f"{part(BAD, window)} / {part(TOTAL, window)} > {limit}" for window in (pair.long, pair.short)]
    return "(\n  " + "\n  and ".join([*burns, f"{part(BAD, pair.long)} >= {budget.least}"]) + "\n)"


def _unseen(budget: Budget, watching: Watching) -> Doc:
    """Without the metric no alert above can fire, and nobody would know."""
    return {
        "alert": UNSEEN,
        "expr": f"absent({budget.counted.proof})",
        "for": duration(watching.silent_for),
        "labels": _labels(budget, "warning", "page"),
        "annotations": {
            "summary": f"{budget.of.identity}: nothing counts for {budget.gate}, and no alert can fire",
            "description": f"Prometheus has no series {template_text(str(budget.counted.proof))}",
            **_runbook(budget),
        },
    }
