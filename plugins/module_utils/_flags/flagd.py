# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""flagd's flags, in a file, in a ConfigMap's key, or in an OpenFeature operator's FeatureFlag resource.

A flag that is DISABLED serves the caller's own default, so it is never set to that: it stays enabled, serves the
variant with the wished value to everyone, and its targeting rules are taken out and kept, as a text in its metadata
(or in an annotation of a FeatureFlag), until it is turned on again.

For the table of providers:
off means: `state: ENABLED`, `defaultVariant` is the variant whose value is `serve`, targeting is kept aside.
serves: that variant's value; for a percentage, a `fractional` rule over two variants by targetingKey.
verified by: with `client_url`, an OFREP evaluation; else the document read back, as far as its rules are ours: with a
resource that is what the API server hands to flagd's sync; when a client polls or a file is mounted again is its own.
tried against: files with the real Python OpenFeature SDK and flagd provider in FILE mode; ConfigMaps and FeatureFlags
of a real API server; OFREP by its published contract.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from .document import CONFIG_MAP, FEATURE_FLAG, FILE, document_of
from .in_document import Flag, InDocument
from .model import OFF, Deadline, FlagError, Options, Served, State, Where, Wish
from .names import unknown
from .ofrep import Ofrep
from .variants import kept, not_known, resting, served_shares, serving, with_kept, without_kept

_WEIGHTS = 1000  # percentages count in thousandths of one: flagd's weights are whole numbers


def build(options: Options, deadline: Deadline) -> "Flagd":
    document = document_of(options, deadline, kinds=(FILE, CONFIG_MAP, FEATURE_FLAG))
    return Flagd(document, Ofrep(options, deadline), deadline)


class Flagd(InDocument):
    """The flags of one document: members of its `flags`."""

    def flag(self, document: Mapping[str, Any], where: Where, name: str) -> Flag:
        flags = document.get("flags")
        if not isinstance(flags, dict):
            raise FlagError(f"{name} has no object of flags", mend="flagd's flags are members of its `flags`")
        if where.flag not in flags:
            raise unknown("flag", where.flag, flags, name)
        flag = flags[where.flag]
        good = isinstance(flag, dict) and flag.get("state") in ("ENABLED", "DISABLED")
        if not good or not isinstance(flag.get("variants"), dict) or not flag["variants"]:
            raise FlagError(f"{where} in {name} is not of flagd's form", mend="It needs state and variants")
        if not isinstance(flag.get("metadata", {}), dict) or not isinstance(flag.get("targeting") or {}, dict):
            raise FlagError(f"{where} in {name} is not of flagd's form", mend="metadata and targeting are objects")
        found: Flag = flag
        return found

    def put(self, document: Dict[str, Any], where: Where, flag: Flag) -> None:
        document["flags"][where.flag] = flag

    def wished(self, flag: Flag, where: Where, wish: Wish) -> Flag:
        return wished(flag, where, wish)

    def evaluated(self, flag: Flag, wish: Wish) -> Served:
        return evaluated(flag, wish)

    def described(self, flag: Flag) -> State:
        enabled, default = flag["state"] == "ENABLED", flag.get("defaultVariant")
        serves = flag["variants"].get(default, True) if isinstance(default, str) else True
        return State(
            on=enabled and (bool(flag.get("targeting")) or bool(serves)),
            percentage=_share(flag),
            variation=str(default or ""),
            note="" if enabled else "DISABLED: clients get their code's default",
        )


def wished(flag: Mapping[str, Any], where: Where, wish: Wish) -> Flag:
    """The flag as it shall be. OptionError for a wish that it has no variant for."""
    new: Flag = {**flag, "state": "ENABLED"}
    variant = serving(flag["variants"], flag.get("defaultVariant"), where, wish)
    if wish.state == OFF:
        return {**_bare(new, off=True), "defaultVariant": variant}
    if wish.percentage is None:
        return _own_rules(new, variant, wish)
    if wish.percentage >= 100:
        return {**_bare(new, off=False), "defaultVariant": variant}
    rules = flag.get("targeting")
    default = flag.get("defaultVariant") if not rules or ours(rules) else None
    rest = resting(flag["variants"], default, where, variant)
    if wish.percentage <= 0:
        return {**_bare(new, off=True), "defaultVariant": rest}
    weights = _weights(wish.percentage)
    rule = {"fractional": [[variant, weights[0]], [rest, weights[1]]]}
    return {**_bare(new, off=False), "defaultVariant": rest, "targeting": rule}


def evaluated(flag: Mapping[str, Any], wish: Wish) -> Served:
    """What clients make of the flag, as far as that takes no rules but ours."""
    variants, rules, default = flag["variants"], flag.get("targeting"), flag.get("defaultVariant")
    if flag["state"] != "ENABLED":
        return not_known("it is DISABLED, so clients get their code's default")
    if rules:
        shares = ours(rules)
        if shares is None or not shares.keys() <= variants.keys():
            return not_known("its targeting rules are evaluated by clients; set client_url to ask one by OFREP")
        return served_shares(variants, shares, wish)
    if not default:
        return not_known("it has no defaultVariant, so clients get their code's default")
    if default not in variants:
        return not_known(f"its defaultVariant {default!r} is no variant of it")
    return served_shares(variants, {default: 100.0}, wish)


def ours(rules: object) -> Optional[Dict[str, float]]:
    """How many of 100 get which variant, of a rule such as we write; None for any other rule."""
    pairs = rules.get("fractional") if isinstance(rules, Mapping) and len(rules) == 1 else None
    if not isinstance(pairs, list) or len(pairs) != 2:
        return None
    shares: Dict[str, int] = {}
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)):
            return None
        weight = pair[1]
        if not isinstance(weight, int) or isinstance(weight, bool):
            return None
        shares[pair[0]] = shares.get(pair[0], 0) + max(0, weight)
    total = sum(shares.values())
    return {name: 100 * weight / total for name, weight in shares.items()} if total else None


def _bare(flag: Mapping[str, Any], *, off: bool) -> Flag:
    """The flag without targeting rules. Its own are kept; a percentage of ours only when it goes off."""
    rules, before = flag.get("targeting"), kept(flag)
    bare = {name: value for name, value in flag.items() if name != "targeting"}
    own_before = before is not None and ours(before.get("targeting")) is None
    if rules and (ours(rules) is None or (off and not own_before)):
        return with_kept(bare, {"targeting": rules, "defaultVariant": flag.get("defaultVariant")})
    return bare if off or own_before else without_kept(bare)


def _own_rules(flag: Flag, variant: str, wish: Wish) -> Flag:
    """On, for whom the flag's own rules let: those that were kept, those that are there, or else everyone."""
    rules = kept(flag)
    if rules and not flag.get("targeting"):
        default = variant if wish.variation else rules.get("defaultVariant")
        bare = {name: value for name, value in without_kept(flag).items() if name != "defaultVariant"}
        return {**bare, **({"defaultVariant": default} if default else {}), "targeting": rules.get("targeting")}
    if flag.get("targeting") and not wish.variation:
        return flag
    return {**flag, "defaultVariant": variant}


def _weights(percentage: float) -> Tuple[int, int]:
    """The percentage and the rest as flagd's whole numbers."""
    if percentage == int(percentage):
        return int(percentage), 100 - int(percentage)
    weight = min(max(1, round(percentage * _WEIGHTS)), 100 * _WEIGHTS - 1)
    return weight, 100 * _WEIGHTS - weight


def _share(flag: Mapping[str, Any]) -> Optional[float]:
    """How many of 100 do not get the default variant, by a rule of ours; all without rules, None by other rules."""
    if not flag.get("targeting"):
        return 100.0
    shares = ours(flag["targeting"])
    return None if shares is None else 100 - shares.get(str(flag.get("defaultVariant")), 0.0)
