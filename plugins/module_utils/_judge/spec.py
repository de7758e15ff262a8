# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service's policy for judging: what people write, checked and typed.

Every mistake raises an `OptionError` that names the gate, the key and, for a typo, the nearest known word. Durations
are seconds, as a number or as text ("30s", "5m", "1h30m"); shares are numbers or text ("0.05", "5%").
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .._errors import OptionError, nearest
from .presets import DEFAULT_PRESET, PRESETS

JUDGE_KEYS = ("source", "preset", "alpha", "traffic", "bake", "gates")
# a service's policy stands in one mapping; these keys are for the other rooms, which check them
DELIVERY_KEYS = ("owner", "runbook", "backend", "path", "restart", "health", "keep", "shared")
POLICY_KEYS = JUDGE_KEYS + DELIVERY_KEYS
SOURCES = ("exposition", "prometheus")
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
_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
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
    source: Optional[Mapping[str, object]] = None


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
    """How one service is judged. `plain` is the mapping it was parsed from, JSON-safe, for the ledger."""

    service: str
    source: Mapping[str, object]
    preset: str
    alpha: float  # of the whole rollout: how often a healthy release may be aborted
    traffic: Optional[float]  # expected requests per second over all places
    bake: BakeSpec
    gates: Tuple[GateSpec, ...]
    plain: Mapping[str, object] = field(default_factory=dict, compare=False)

    def source_of(self, gate: GateSpec) -> Mapping[str, object]:
        """Where this gate's numbers come from."""
        return gate.ask.source if gate.ask.source is not None else self.source


def parse_policy(raw: object, service: str) -> Policy:
    """The policy of `service`, or an OptionError that says which key of which gate is wrong and what would be right."""
    try:
        return _policy(raw, service)
    except OptionError as error:
        raise error.on(service) from None


def _policy(raw: object, service: str) -> Policy:
    part = _Part("the policy", raw, POLICY_KEYS)
    gates = tuple(_gate(item, index) for index, item in enumerate(part.items("gates")))
    if not gates:
        raise OptionError("the policy has no gates", mend="Name at least one metric under gates")
    _no_twins(gates)
    source = part.source("source")
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
    part = _Part("bake", {} if raw is None else raw, _BAKE_KEYS)
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
        raise OptionError(f"gate {index + 1} must be a mapping, not {_kind(raw)}", mend="Write it as {name: …, …}")
    name = raw.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OptionError(
            f"gate {index + 1} needs a name of letters, digits, '_', '.' and '-', not {_shown(name)}",
            mend="Set name: it stands for the gate in every verdict",
        )
    where = f"gate {str(name)!r}"
    kind = _Part(where, raw, tuple(raw)).choice("type", tuple(KEYS), "ratio")
    part = _Part(where, raw, KEYS[kind], of=f"a {kind} gate")
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


def _ask(part: "_Part", kind: str) -> Ask:
    timeout = part.seconds("timeout", 5.0, least=0.05)
    source = part.source("source")
    if kind in ("ratio", "burn_rate"):
        return Ask(bad=part.query("bad"), total=part.query("total"), source=source, timeout=timeout)
    if kind == "latency":
        over = part.need("over", part.maybe_seconds("over", least=1e-6), "the limit in seconds, for example 0.5")
        return Ask(histogram=part.query("histogram"), over=over, source=source, timeout=timeout)
    return Ask(value=part.query("value"), source=source, timeout=timeout)


def _ratio(part: "_Part") -> RatioRule:
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


def _value(part: "_Part") -> ValueRule:
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


def _ranks(part: "_Part") -> RanksRule:
    default = RanksRule()
    return RanksRule(
        direction=part.choice("direction", DIRECTIONS, default.direction),
        tolerance=part.share("tolerance", default.tolerance, least=0.0, most=100.0),
        confidence=part.share("confidence", default.confidence, least=0.5, most=0.9999),
        window=part.seconds("window", default.window, least=1.0),
        min_samples=part.whole("min_samples", default.min_samples, least=5),
    )


def _burn(part: "_Part") -> BurnRule:
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
    part = _Part(f"{where}: windows", raw, ("long", "short", "factor"))
    long = part.need("long", part.maybe_seconds("long", least=1.0), "the long window, in seconds")
    short = part.seconds("short", long / 12, least=0.1)
    factor = part.need("factor", part.maybe("factor", above=0.0), "how many times faster than the budget allows")
    if short > long:
        raise OptionError(f"{part.where}: short ({short:g}s) is longer than long ({long:g}s)", mend="Swap them")
    return BurnWindow(long=long, short=short, factor=factor)


class _Part:
    """One mapping of the policy, read key by key, so that every error names its place."""

    def __init__(self, where: str, raw: object, known: Sequence[str], *, of: str = "") -> None:
        if not isinstance(raw, Mapping):
            raise OptionError(f"{where} must be a mapping, not {_kind(raw)}", mend="Write it as key: value")
        self.where = where
        self._raw = raw
        for key in raw:
            if key not in known:
                raise OptionError(
                    f"{where}: unknown key {str(key)!r}{nearest(str(key), known)}",
                    mend=f"Known keys{' of ' + of if of else ''}: {', '.join(known)}",
                )

    def get(self, key: str) -> object:
        return self._raw.get(key)

    def plain(self) -> Dict[str, object]:
        copy = _plain(self._raw)
        return copy if isinstance(copy, dict) else {}

    def items(self, key: str) -> Sequence[object]:
        raw = self.get(key)
        if raw is None:
            return ()
        if isinstance(raw, (str, bytes)) or not isinstance(raw, Sequence):
            raise OptionError(f"{self.where}: {key} must be a list, not {_kind(raw)}", mend=f"Write {key} as a list")
        return raw

    def need(self, key: str, value: Optional[float], what: str) -> float:
        if value is None:
            raise OptionError(f"{self.where} has no {key}", mend=f"Set {key}: {what}")
        return value

    def query(self, key: str) -> str:
        raw = self.get(key)
        if raw is None or (isinstance(raw, str) and not raw.strip()):
            raise OptionError(
                f"{self.where} has no query: {key} is missing", mend=f"Set {key} to a metric or a selector"
            )
        if not isinstance(raw, str):
            raise OptionError(f"{self.where}: {key} must be text, not {_kind(raw)}", mend="Quote the query")
        return str(raw).strip()

    def source(self, key: str) -> Optional[Mapping[str, object]]:
        raw = self.get(key)
        if raw is None:
            return None
        where = f"{self.where}: {key}" if self.where.startswith("gate") else key
        part = _Part(where, raw, tuple(raw) if isinstance(raw, Mapping) else ())
        if part.get("type") is None:
            raise OptionError(f"{where} has no type", mend=f"Set type to one of {', '.join(SOURCES)}")
        part.choice("type", SOURCES, "")
        return part.plain()

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        raw = self.get(key)
        if raw is None:
            return default
        if not isinstance(raw, str) or raw not in choices:
            near = nearest(raw, choices) if isinstance(raw, str) else ""
            raise OptionError(
                f"{self.where}: {key} must be one of {', '.join(choices)}, not {_shown(raw)}{near}",
                mend=f"Correct {key}",
            )
        return str(raw)

    def maybe(self, key: str, *, least: float = -math.inf, above: float = -math.inf) -> Optional[float]:
        raw = self.get(key)
        if raw is None:
            return None
        return self._within(key, _number(raw), raw, (least, above, math.inf), "a number")

    def number(self, key: str, default: float, *, above: float) -> float:
        value = self.maybe(key, above=above)
        return default if value is None else value

    def maybe_share(self, key: str, *, least: float = 0.0, most: float = 1.0) -> Optional[float]:
        raw = self.get(key)
        if raw is None:
            return None
        text = str(raw).strip() if isinstance(raw, str) else ""
        value = _number(text[:-1]) if text.endswith("%") else _number(raw)
        if value is not None and text.endswith("%"):
            value = round(value / 100, 15)
        return self._within(key, value, raw, (least, -math.inf, most), "a share such as 0.05 or 5%")

    def share(self, key: str, default: float, *, least: float, most: float) -> float:
        value = self.maybe_share(key, least=least, most=most)
        return default if value is None else value

    def maybe_seconds(self, key: str, *, least: float = 0.0) -> Optional[float]:
        raw = self.get(key)
        if raw is None:
            return None
        what = "a duration in seconds, or text such as 30s, 5m or 1h"
        return self._within(key, _seconds(raw), raw, (least, -math.inf, math.inf), what)

    def seconds(self, key: str, default: float, *, least: float = 0.0) -> float:
        value = self.maybe_seconds(key, least=least)
        return default if value is None else value

    def maybe_whole(self, key: str, *, least: int) -> Optional[int]:
        value = self.maybe(key, least=float(least))
        if value is not None and value != int(value):
            raise OptionError(f"{self.where}: {key} must be a whole number, not {value:g}", mend=f"Correct {key}")
        return None if value is None else int(value)

    def whole(self, key: str, default: int, *, least: int) -> int:
        value = self.maybe_whole(key, least=least)
        return default if value is None else value

    def _within(
        self, key: str, value: Optional[float], raw: object, bounds: Tuple[float, float, float], what: str
    ) -> float:
        if value is None:
            raise OptionError(f"{self.where}: {key} must be {what}, not {_shown(raw)}", mend=f"Correct {key}")
        least, above, most = bounds
        if value < least or value > most or value <= above:
            limits = [f"at least {least:g}"] * math.isfinite(least) + [f"above {above:g}"] * math.isfinite(above)
            limits += [f"at most {most:g}"] * math.isfinite(most)
            raise OptionError(
                f"{self.where}: {key} must be {' and '.join(limits)}, not {_shown(raw)}", mend=f"Correct {key}"
            )
        return value


def _number(raw: object) -> Optional[float]:
    """A finite number, also from text, which is what templates leave behind; None for anything else."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        value = float(raw)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def _seconds(raw: object) -> Optional[float]:
    value = _number(raw)
    if value is not None or not isinstance(raw, str):
        return value
    match = _DURATION.fullmatch(str(raw).strip())
    if match is None or not any(match.groups()):
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups(), (3600.0, 60.0, 1.0, 0.001)) if part)


def _kind(raw: object) -> str:
    names: List[Tuple[type, str]] = [(bool, "a boolean"), (str, "text"), (int, "a number"), (float, "a number")]
    if raw is None:
        return "nothing"
    return next(
        (name for kind, name in names if isinstance(raw, kind)), "a mapping" if isinstance(raw, Mapping) else "a list"
    )


def _shown(raw: object) -> str:
    if isinstance(raw, str):
        return repr(str(raw)[:60])
    return _kind(raw) if raw is None or isinstance(raw, (Mapping, Sequence)) else str(raw)[:60]


def _plain(raw: object) -> object:
    """A JSON-safe copy of plain types: Ansible hands over tagged subclasses and lazy containers."""
    if isinstance(raw, Mapping):
        return {str(key): _plain(value) for key, value in raw.items()}
    if isinstance(raw, str):
        return str(raw)
    if isinstance(raw, Sequence):
        return [_plain(item) for item in raw]
    if raw is None or isinstance(raw, bool):
        return raw
    if isinstance(raw, int):
        return int(raw)
    return float(raw) if isinstance(raw, float) else str(raw)
