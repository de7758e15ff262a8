# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's policy for judging: what people write, checked and typed.

Every mistake raises an `OptionError` that names the gate, the key and, for a typo, the nearest known word. Durations
are seconds, as a number or as text ("30s", "5m", "1h30m"); shares are numbers or text ("0.05", "5%").
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Sequence, Tuple, Union

from .._errors import OptionError
from .part import Part, kind_of, shown
from .presets import DEFAULT_PRESET, PRESETS

JUDGE_KEYS = ("source", "preset", "alpha", "traffic", "bake", "gates")
# a service's policy stands in one mapping; these keys are for the other rooms, which check them
DELIVERY_KEYS = (
    "owner",
    "runbook",
    "backend",
    "backend_options",
    "path",
    "restart",
    "health",
    "keep",
    "shared",
    "guard",
    "flag",
    "flags",
    "response",
)
POLICY_KEYS = JUDGE_KEYS + DELIVERY_KEYS
SOURCES = ("exposition", "prometheus")
BACKENDS = ("releases", "deployment", "argo_rollout", "helm", "git", "flag")
# inside a place of these, old and new pods run side by side, and each pod is measured on its own
POD_BACKENDS = ("deployment", "argo_rollout")
# inside a place of these, each request is served by one of two sides, and each side is measured on its own
SIDED_BACKENDS = ("flag",)
# what serves in a place of these, or on a side of one, is measured as one
COLLECTIVE_BACKENDS = ("helm", "git", "flag")
# the label by which a metrics server tells them apart, unless the source names another one
_LABELS: Mapping[str, str] = {"deployment": "pod", "argo_rollout": "pod", "flag": "flag_variant"}
ON_UNDECIDED = ("hold", "pass", "undo")
ON_WEAK = ("undo", "hold")
DIRECTIONS = ("increase", "decrease", "either")
PER = ("worst", "mean")
BUILT_IN = ("alive", "share")

_GATE_KEYS = ("name", "type", "source", "timeout")
_RATIO_KEYS = ("tolerance", "max", "margin", "floor", "min_bad", "min_requests")
KEYS: Mapping[str, Tuple[str, ...]] = {
    "ratio": _GATE_KEYS + ("bad", "total") + _RATIO_KEYS,
    "latency": _GATE_KEYS + ("histogram", "over") + _RATIO_KEYS,
    "value": _GATE_KEYS
    + ("value", "max", "pass_max", "min", "pass_min", "fail_count", "fail_of", "consecutive", "every", "per"),
    "ranks": _GATE_KEYS + ("value", "direction", "tolerance", "confidence", "window", "min_samples"),
    "burn_rate": _GATE_KEYS + ("bad", "total", "slo", "windows", "pass_burn", "min_bad", "min_requests"),
}
_BAKE_KEYS = (
    "look_every",
    "min_bake",
    "deadline",
    "extend",
    "warm_up",
    "on_undecided",
    "on_weak",
    "hold_deadline",
    "resume_after",
    "resume_below",
    "verify_for",
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True)
class Ask:
    """What the sources are asked for one gate. `source` is None where the policy's own source answers."""

    bad: str = ""
    total: str = ""
    histogram: str = ""
    over: Optional[float] = None  # seconds
    value: str = ""
    timeout: float = 5.0  # seconds
    source: Optional[Mapping[str, object]] = field(default=None, repr=False)


@dataclass(frozen=True)
class RatioRule:
    """Bad of total, canary against baseline and against `max`. None leaves the choice to the preset."""

    tolerance: Optional[float] = None  # rate ratio that is still allowed before a fail
    max: Optional[float] = None  # share of requests, 0..1
    margin: Optional[float] = None  # rate ratio that a pass has to exclude
    floor: Optional[float] = None  # share of requests below which a service is fine whatever its baseline
    min_bad: Optional[int] = None
    min_requests: Optional[int] = None


@dataclass(frozen=True)
class ValueRule:
    """Limits with a grey zone between `pass_*` and the limit; fails at k of n, or at so many in a row."""

    max: Optional[float] = None
    pass_max: Optional[float] = None
    min: Optional[float] = None
    pass_min: Optional[float] = None
    fail_count: int = 3
    fail_of: int = 5
    consecutive: Optional[int] = None
    every: float = 10.0  # seconds between two values that count
    per: str = "worst"


@dataclass(frozen=True)
class RanksRule:
    """The canary's values against the baseline's by ranks; `tolerance` is a share of the baseline's median."""

    direction: str = "increase"
    tolerance: float = 0.1
    confidence: float = 0.98
    window: float = 30.0  # seconds that one sample is the mean of
    min_samples: int = 5  # per side


@dataclass(frozen=True)
class BurnWindow:
    """Fires when the budget burns faster than `factor` in the last `long` and the last `short` seconds."""

    long: float
    short: float
    factor: float


@dataclass(frozen=True)
class BurnRule:
    """Error budget spent by the canary alone. Without `windows`, the workbook's are scaled to the bake."""

    slo: float
    windows: Tuple[BurnWindow, ...] = ()
    pass_burn: float = 3.0
    min_bad: int = 4
    min_requests: int = 200


Rule = Union[RatioRule, ValueRule, RanksRule, BurnRule]


@dataclass(frozen=True)
class GateSpec:
    """One gate as the policy wants it. `type` is one of KEYS."""

    name: str
    type: str
    ask: Ask
    rule: Rule


@dataclass(frozen=True)
class BakeSpec:
    """How long to watch, in seconds, and what happens when the time is up without a verdict."""

    look_every: float = 2.0
    min_bake: float = 60.0  # of each step
    deadline: float = 1800.0  # of each step
    extend: float = 600.0  # once, when the sample was too small at the deadline
    warm_up: float = 30.0
    on_undecided: str = "hold"
    on_weak: str = "undo"  # a fail against fewer baseline places than tell how errors scatter
    hold_deadline: float = 3600.0
    resume_after: float = 300.0
    resume_below: float = 0.8  # share of what a gate tolerates; the lower threshold of a held rollout
    verify_for: float = 30.0


@dataclass(frozen=True)
class Policy:
    """How one service is judged. `plain` is the mapping it was parsed from, JSON-safe; its source may hold secrets."""

    service: str
    source: Mapping[str, object] = field(repr=False)
    preset: str
    alpha: float  # of the whole rollout: how often a healthy release may be aborted
    traffic: Optional[float]  # expected requests per second over all places
    bake: BakeSpec
    gates: Tuple[GateSpec, ...]
    backend: str = "releases"
    plain: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    @property
    def by_pods(self) -> bool:
        """Is each pod measured, rather than each place?"""
        return self.backend in POD_BACKENDS

    @property
    def by_sides(self) -> bool:
        """Is each side of a place measured, rather than the place?"""
        return self.backend in SIDED_BACKENDS

    @property
    def collective(self) -> bool:
        """Is a place many processes that are measured as one, and replaced one by one?"""
        return self.backend in COLLECTIVE_BACKENDS

    def source_of(self, gate: GateSpec) -> Mapping[str, object]:
        """Where this gate's numbers come from, and by which label a metrics server tells pods or sides apart."""
        source = gate.ask.source if gate.ask.source is not None else self.source
        return {"place_label": _LABELS[self.backend], **source} if self.backend in _LABELS else source


def parse_policy(raw: object, service: str) -> Policy:
    """The policy of `service`, or an OptionError that says which key of which gate is wrong and what would be right."""
    try:
        return _policy(raw, service)
    except OptionError as error:
        raise error.on(service) from None


def _policy(raw: object, service: str) -> Policy:
    part = Part("the policy", raw, POLICY_KEYS)
    gates = tuple(_gate(item, index) for index, item in enumerate(part.items("gates")))
    if not gates:
        raise OptionError("the policy has no gates", mend="Name at least one metric under gates")
    _no_twins(gates)
    source = _source(part)
    for gate in gates:
        if source is None and gate.ask.source is None:
            raise OptionError(
                f"gate {gate.name!r} has no source",
                mend="Set source for the policy or for this gate: {type: exposition} or {type: prometheus, url: …}",
            )
    return Policy(
        service=service,
        source=source or {},
        preset=part.choice("preset", tuple(PRESETS), DEFAULT_PRESET),
        alpha=part.share("alpha", 0.01, least=1e-6, most=0.2),
        traffic=part.maybe("traffic", above=0.0),
        bake=_bake(part.get("bake")),
        gates=gates,
        backend=part.choice("backend", BACKENDS, "releases"),
        plain=part.plain(),
    )


def _no_twins(gates: Sequence[GateSpec]) -> None:
    seen: Dict[str, int] = {}
    for index, gate in enumerate(gates, 1):
        if gate.name in seen:
            raise OptionError(
                f"gates {seen[gate.name]} and {index} are both called {gate.name!r}", mend="Give each gate its own name"
            )
        if gate.name in BUILT_IN:
            raise OptionError(f"{gate.name!r} is a built-in gate", mend="Give this gate another name")
        seen[gate.name] = index


def _bake(raw: object) -> BakeSpec:
    part = Part("bake", {} if raw is None else raw, _BAKE_KEYS)
    default = BakeSpec()
    bake = BakeSpec(
        look_every=part.seconds("look_every", default.look_every, least=0.1),
        min_bake=part.seconds("min_bake", default.min_bake),
        deadline=part.seconds("deadline", default.deadline, least=1.0),
        extend=part.seconds("extend", default.extend),
        warm_up=part.seconds("warm_up", default.warm_up),
        on_undecided=part.choice("on_undecided", ON_UNDECIDED, default.on_undecided),
        on_weak=part.choice("on_weak", ON_WEAK, default.on_weak),
        hold_deadline=part.seconds("hold_deadline", default.hold_deadline, least=1.0),
        resume_after=part.seconds("resume_after", default.resume_after, least=1.0),
        resume_below=part.share("resume_below", default.resume_below, least=0.01, most=1.0),
        verify_for=part.seconds("verify_for", default.verify_for, least=1.0),
    )
    if bake.min_bake > bake.deadline:
        raise OptionError(
            f"bake: min_bake ({bake.min_bake:g}s) is longer than deadline ({bake.deadline:g}s)",
            mend="Lower min_bake or raise deadline",
        )
    if bake.look_every > bake.deadline / 2:
        raise OptionError(
            f"bake: look_every ({bake.look_every:g}s) leaves less than two looks before deadline ({bake.deadline:g}s)",
            mend="Lower look_every or raise deadline",
        )
    return bake


def _gate(raw: object, index: int) -> GateSpec:
    if not isinstance(raw, Mapping):
        raise OptionError(f"gate {index + 1} must be a mapping, not {kind_of(raw)}", mend="Write it as {name: …, …}")
    name = raw.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError(
            f"gate {index + 1} needs a name of letters, digits, '_', '.' and '-', not {shown(name)}",
            mend="Set name: it stands for the gate in every verdict",
        )
    where = f"gate {str(name)!r}"
    kind = Part(where, raw, tuple(raw)).choice("type", tuple(KEYS), "ratio")
    part = Part(where, raw, KEYS[kind], of=f"a {kind} gate")
    ask = _ask(part, kind)
    rule: Rule
    if kind in ("ratio", "latency"):
        rule = _ratio(part)
    elif kind == "value":
        rule = _value(part)
    elif kind == "ranks":
        rule = _ranks(part)
    else:
        rule = _burn(part)
    return GateSpec(name=str(name), type=kind, ask=ask, rule=rule)


def _ask(part: "Part", kind: str) -> Ask:
    timeout = part.seconds("timeout", 5.0, least=0.05)
    source = _source(part)
    if kind in ("ratio", "burn_rate"):
        return Ask(bad=part.query("bad"), total=part.query("total"), source=source, timeout=timeout)
    if kind == "latency":
        over = part.need("over", part.maybe_seconds("over", least=1e-6), "the limit in seconds, for example 0.5")
        return Ask(histogram=part.query("histogram"), over=over, source=source, timeout=timeout)
    return Ask(value=part.query("value"), source=source, timeout=timeout)


def _ratio(part: "Part") -> RatioRule:
    rule = RatioRule(
        tolerance=part.maybe("tolerance", least=1.0),
        max=part.maybe_share("max"),
        margin=part.maybe("margin", above=1.0),
        floor=part.maybe_share("floor"),
        min_bad=part.maybe_whole("min_bad", least=1),
        min_requests=part.maybe_whole("min_requests", least=1),
    )
    if rule.max is not None and rule.floor is not None and rule.floor >= rule.max:
        raise OptionError(
            f"{part.where}: floor ({rule.floor:g}) is not below max ({rule.max:g})",
            mend="A rate under the floor passes, a rate over max fails: lower floor",
        )
    return rule


def _value(part: "Part") -> ValueRule:
    default = ValueRule()
    highest, lowest = part.maybe("max"), part.maybe("min")
    if highest is None and lowest is None:
        raise OptionError(
            f"{part.where} has no limit", mend="Set max or min (and pass_max or pass_min for a grey zone)"
        )
    rule = ValueRule(
        max=highest,
        pass_max=part.maybe("pass_max"),
        min=lowest,
        pass_min=part.maybe("pass_min"),
        fail_count=part.whole("fail_count", default.fail_count, least=1),
        fail_of=part.whole("fail_of", max(default.fail_of, part.whole("fail_count", 1, least=1)), least=1),
        consecutive=part.maybe_whole("consecutive", least=1),
        every=part.seconds("every", default.every, least=0.1),
        per=part.choice("per", PER, default.per),
    )
    _check_limits(part.where, rule)
    return rule


def _check_limits(where: str, rule: ValueRule) -> None:
    ordered = (
        ("pass_max", rule.pass_max, "max", rule.max),
        ("min", rule.min, "pass_min", rule.pass_min),
        ("min", rule.min, "max", rule.max),
    )
    for low_key, low, high_key, high in ordered:
        if low is not None and high is not None and low > high:
            raise OptionError(
                f"{where}: {low_key} ({low:g}) is above {high_key} ({high:g})",
                mend=f"{low_key} must be at most {high_key}",
            )
    if (rule.pass_max is not None and rule.max is None) or (rule.pass_min is not None and rule.min is None):
        raise OptionError(
            f"{where}: a pass limit without the limit that fails", mend="Set max beside pass_max, min beside pass_min"
        )
    if rule.fail_count > rule.fail_of:
        raise OptionError(
            f"{where}: fail_count ({rule.fail_count}) of fail_of ({rule.fail_of}) can never be reached",
            mend="fail_count must be at most fail_of",
        )


def _ranks(part: "Part") -> RanksRule:
    default = RanksRule()
    return RanksRule(
        direction=part.choice("direction", DIRECTIONS, default.direction),
        tolerance=part.share("tolerance", default.tolerance, least=0.0, most=100.0),
        confidence=part.share("confidence", default.confidence, least=0.5, most=0.9999),
        window=part.seconds("window", default.window, least=1.0),
        min_samples=part.whole("min_samples", default.min_samples, least=5),
    )


def _burn(part: "Part") -> BurnRule:
    slo = part.need("slo", part.maybe_share("slo"), "the share of requests that must be good, for example 0.999")
    if not 0.5 <= slo < 1.0:
        raise OptionError(f"{part.where}: slo must be from 0.5 to below 1, not {slo:g}", mend="Write 99.9% as 0.999")
    default = BurnRule(slo=slo)
    return BurnRule(
        slo=slo,
        windows=tuple(_burn_window(part.where, item) for item in part.items("windows")),
        pass_burn=part.number("pass_burn", default.pass_burn, above=0.0),
        min_bad=part.whole("min_bad", default.min_bad, least=1),
        min_requests=part.whole("min_requests", default.min_requests, least=1),
    )


def _burn_window(where: str, raw: object) -> BurnWindow:
    part = Part(f"{where}: windows", raw, ("long", "short", "factor"))
    long = part.need("long", part.maybe_seconds("long", least=1.0), "the long window, in seconds")
    short = part.seconds("short", long / 12, least=0.1)
    factor = part.need("factor", part.maybe("factor", above=0.0), "how many times faster than the budget allows")
    if short > long:
        raise OptionError(f"{part.where}: short ({short:g}s) is longer than long ({long:g}s)", mend="Swap them")
    return BurnWindow(long=long, short=short, factor=factor)


def _source(part: Part) -> Optional[Mapping[str, object]]:
    """The part's source, of which only the type is checked here: the rest is for the room that asks it."""
    raw = part.get("source")
    if raw is None:
        return None
    where = f"{part.where}: source" if part.where.startswith("gate") else "source"
    source = Part(where, raw, tuple(raw) if isinstance(raw, Mapping) else ())
    if source.get("type") is None:
        raise OptionError(f"{where} has no type", mend=f"Set type to one of {', '.join(SOURCES)}")
    source.choice("type", SOURCES, "")
    return source.plain()
