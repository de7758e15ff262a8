# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging where no old place is left: by limits, and by what the service showed when a bake last passed. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Mapping, Tuple

from .presets import PRESETS
from .ratio import RatioSpec
from .spec import GateSpec, Policy, RatioRule

FLOOR = RatioSpec("").floor


def with_history(policy: Policy, levels: Mapping[str, float]) -> Tuple[Policy, str]:
    """The policy with a limit for each ratio gate, and one line that says where the limits come from.

    `levels` are rates, 0..1, by gate. The limit from history is the tolerance times the level, and at least the floor;
    a limit that the policy sets stays when it is the lower one.
    """
    told: List[str] = []
    gates = tuple(_limited(policy, gate, levels.get(gate.name), told) for gate in policy.gates)
    return replace(policy, gates=gates), f"judged by {', '.join(told) or 'the limits of the policy'}"


def _limited(policy: Policy, gate: GateSpec, level: float | None, told: List[str]) -> GateSpec:
    rule = gate.rule
    if not isinstance(rule, RatioRule) or level is None:
        if isinstance(rule, RatioRule):
            told.append(f"{gate.name} ≤ {rule.max:.3%} (limit)" if rule.max is not None else f"{gate.name}: no limit")
        return gate
    tolerance = rule.tolerance if rule.tolerance is not None else PRESETS[policy.preset].tolerance
    history = min(1.0, max(tolerance * level, rule.floor if rule.floor is not None else FLOOR))
    if rule.max is not None and rule.max <= history:
        told.append(f"{gate.name} ≤ {rule.max:.3%} (limit)")
        return gate
    told.append(f"{gate.name} ≤ {history:.3%} ({tolerance:g}× its last passed bake)")
    return replace(gate, rule=replace(rule, max=history))
