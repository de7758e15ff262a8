# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Unleash's own words mean: whom a flag's strategies serve it, and what SDKs make of a definition. Pure."""

from __future__ import annotations

import json
from math import isfinite
from typing import Dict, Mapping, Optional, Sequence

from .._errors import OptionError
from .client import unknown
from .model import ON, Served, State, Value, Where, Wish
from .vendors import mapping, mappings

ROLLOUT, _EVERYBODY = "flexibleRollout", "default"  # names of strategies
SHARE, VARIANTS = "/parameters/rollout", "/variants"  # parts of a strategy
_ALL = 1000  # the weights of variants, together
_FIELDS = ("userId", "sessionId", "remoteAddress", "appName", "currentTime")  # of Unleash's context


def environment_of(flag: Mapping[str, object], where: Where) -> Mapping[str, object]:
    """The flag's settings in the environment that is meant."""
    shared = {"dependencies": flag.get("dependencies")}
    settings = {str(one.get("name")): {**one, **shared} for one in mappings(flag.get("environments"))}
    if where.environment in settings:
        return settings[where.environment]
    if where.environment:
        raise unknown("environment", where.environment, settings, f"project {where.project!r}")
    if len(settings) != 1:
        raise OptionError(
            f"{where} is in {len(settings)} environments, and none is chosen",
            mend=f"Set environment: there are {', '.join(sorted(settings))}",
        )
    return next(iter(settings.values()))


def active(settings: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    return [one for one in mappings(settings.get("strategies")) if one.get("disabled") is not True]


def one_rollout(settings: Mapping[str, object]) -> Optional[Mapping[str, object]]:
    """The one strategy that gives the flag to a share of everybody; None where there is none, or more than that."""
    strategies = active(settings)
    share = share_of(settings) if len(strategies) == 1 else None
    return strategies[0] if share is not None and strategies[0].get("name") == ROLLOUT else None


def share_of(settings: Mapping[str, object]) -> Optional[float]:
    """How many of 100 are served true while it is on, None where that depends on who asks."""
    strategies = active(settings)
    if settings.get("dependencies"):  # on another flag
        return None
    if not strategies:
        return 100.0
    return _strategy_share(strategies[0]) if len(strategies) == 1 else None


def _strategy_share(strategy: Mapping[str, object]) -> Optional[float]:
    """The share of a strategy without rules about who asks.

    One that sticks to a field such as userId leaves out who has none, even at 100.
    """
    if strategy.get("constraints") or strategy.get("segments"):
        return None
    if strategy.get("name") == _EVERYBODY:
        return 100.0
    try:
        number = float(str(mapping(strategy.get("parameters")).get("rollout")))
    except ValueError:
        return None
    if not isfinite(number):
        return None
    # it takes any number, and serves everybody from 100 on
    return min(100.0, max(0.0, number)) if strategy.get("name") == ROLLOUT else None


def variants_of(strategy: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    return mappings(strategy.get("variants"))


def chosen_variant(strategy: Mapping[str, object]) -> Mapping[str, object]:
    """The variant that has all the weight; empty when there is none."""
    return next((one for one in variants_of(strategy) if one.get("weight") == _ALL), {})


def changes_for(state: State, wish: Wish) -> Dict[str, object]:
    """What has to change in the one strategy, by its part."""
    changes: Dict[str, object] = {}
    if wish.percentage is not None and wish.percentage != state.percentage:
        changes[SHARE] = str(round(wish.percentage))
    if wish.variation and wish.variation != state.variation:
        # Unleash insists on one whose weight is not fixed
        weights = {True: {"weight": _ALL, "weightType": "variable"}, False: {"weight": 0, "weightType": "fix"}}
        variants = variants_of(one_rollout(state.raw) or {})
        changes[VARIANTS] = [{**one, **weights[one.get("name") == wish.variation]} for one in variants]
    return changes


def value_of(variant: Mapping[str, object]) -> Value:
    """What a variant stands for."""
    payload = mapping(variant.get("payload"))
    text = str(payload.get("value", variant.get("name", "")))
    if payload.get("type") not in ("json", "number"):
        return text
    try:
        found: Value = json.loads(text)
    except ValueError:
        return text
    return found


def meaning(definition: Optional[Mapping[str, object]], wish: Wish) -> Served:
    """What an SDK serves that was given this definition."""
    by = "client API"
    if definition is None:
        return Served(
            known=False,
            why="clients with this token are given no such flag (archived, or of another project): "
            "they get their code's default",
            by=by,
        )
    if definition.get("enabled") is not True:
        return Served(known=True, value=False, percentage=0.0, by=by)
    share = share_of(definition)
    if share is not None and wish.variation:
        variant = chosen_variant(one_rollout(definition) or {})
        if variant.get("name") != wish.variation:
            return Served(known=False, why=f"clients are not all given variation {wish.variation!r} yet", by=by)
        return Served(known=True, value=value_of(variant) if share == 100 else None, percentage=share, by=by)
    if share is not None:
        return Served(known=True, value={0.0: False, 100.0: True}.get(share), percentage=share, by=by)
    return Served(
        known=False,
        why="the flag is on, and whom it is served depends on its own rules: "
        "to evaluate it for context, set provider.client_token_file to a frontend token",
        by=by,
        final=wish.state == ON,  # that it is off will be seen
    )


def context_of(context: Mapping[str, object]) -> Dict[str, str]:
    """Whom to evaluate for, as the frontend API takes it."""
    told = {("userId" if name == "targetingKey" else name): str(value) for name, value in context.items()}
    return {(name if name in _FIELDS else f"properties[{name}]"): value for name, value in told.items()}


def proposes(request: Mapping[str, object], where: Where, enabled: bool) -> bool:
    """Is this a change request for the same?"""
    if request.get("environment") != where.environment:
        return False
    features = [one for one in mappings(request.get("features")) if one.get("name") == where.flag]
    changes = [change for one in features for change in mappings(one.get("changes"))]
    return any(
        one.get("action") == "updateEnabled" and mapping(one.get("payload")).get("enabled") is enabled
        for one in changes
    )
