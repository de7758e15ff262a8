# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One line per look that a person can read: elapsed of total, and each gate's value, sample and evidence."""

from __future__ import annotations

import math
from typing import Collection, Optional, Sequence

from .model import FAIL, PASS, Verdict

_BARS = 8
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def line(
    gates: Sequence[Verdict], rates: Collection[str], *, step: str, elapsed: float, total: float, told: str = ""
) -> str:
    """The progress line. `rates` names the gates whose figures are shares of requests; `told` ends the line."""
    quiet = {"alive", "share"}
    parts = [f"bake {step}", f"{clock(elapsed)} of {clock(total)}"]
    parts += [gate_text(gate, gate.gate in rates) for gate in gates if gate.gate not in quiet or gate.verdict != PASS]
    return "  ".join(parts + ([told] if told else []))


def gate_text(verdict: Verdict, rate: bool) -> str:
    """`errors 4.81% vs 0.47% (n 812/2403, bad 39) fail ███████░ 92%`."""
    if verdict.value is None:
        return f"{verdict.gate} {(verdict.reason or verdict.verdict).replace('_', ' ')}"
    text = f"{verdict.gate} {figure(verdict.value, rate)}"
    if verdict.baseline is not None:
        text += f" vs {figure(verdict.baseline, rate)}"
    elif verdict.limit is not None:
        text += f" limit {figure(verdict.limit, rate)}"
    sides = [f"{verdict.samples[side]:.0f}" for side in ("canary", "baseline") if side in verdict.samples]
    bad = f", bad {verdict.samples['bad']:.0f}" if "bad" in verdict.samples else ""
    text += f" (n {'/'.join(sides)}{bad})" if sides else ""
    return f"{text} {_evidence(verdict)}"


def _evidence(verdict: Verdict) -> str:
    if verdict.verdict in (FAIL, PASS):
        return verdict.verdict.upper()
    fail, good = (_share(verdict.evidence.get(side)) for side in ("fail", "pass"))
    if fail <= 0 and good <= 0:
        return verdict.reason.replace("_", " ")
    side, share = ("fail", fail) if fail >= good else ("pass", good)
    full = int(share * _BARS)
    return f"{side} {'█' * full}{'░' * (_BARS - full)} {share:.0%}"


def _share(raw: object) -> float:
    return min(1.0, max(0.0, float(raw))) if isinstance(raw, (int, float)) and math.isfinite(raw) else 0.0


def figure(value: Optional[float], rate: bool) -> str:
    """A share as a percentage, anything else with three digits and a unit prefix."""
    if value is None or not math.isfinite(value):
        return "?"
    if rate:
        return f"{100 * value:.2f}%"
    for size, unit in _UNITS:
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def clock(seconds: float) -> str:
    """`00:24`, or `1:00:24` from an hour on."""
    whole = int(max(0.0, seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}"
