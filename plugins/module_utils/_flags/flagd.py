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

from .document import CONFIG_MAP, FEATURE_FLAG, FILE, Document, altered, document_of
from .model import OFF, Change, Deadline, FlagError, Options, Served, State, Where, Wish
from .names import unknown
from .ofrep import Ofrep
from .texts import same
from .variants import (
    BY,
    KEEPS,
    check_unmoved,
    kept,
    not_known,
    resting,
    served_shares,
    serving,
    with_kept,
    without_kept,
)

_WEIGHTS = 1000  # percentages count in thousandths of one: flagd's weights are whole numbers

Flag = Dict[str, Any]


def build(options: Options, deadline: Deadline) -> "Flagd":
    document = document_of(options, deadline, kinds=(FILE, CONFIG_MAP, FEATURE_FLAG))
    return Flagd(document, Ofrep(options, deadline), deadline)


class Flagd:
    """The flags of one document."""

    def __init__(self, document: Document, client: Ofrep, deadline: Deadline) -> None:
        self._document, self._client, self._deadline = document, client, deadline

    def state(self, where: Where) -> State:
        document, revision = self._document.read()
        flag = _flag(document, where, self._document.name)
        default, rules = flag.get("defaultVariant"), flag.get("targeting")
        serves = flag["variants"].get(default, True) if isinstance(default, str) else True
        return State(
            on=flag["state"] == "ENABLED" and (bool(rules) or bool(serves)),
            percentage=_share(flag),
            variation=str(default or ""),
            revision=revision,
            note="; ".join(filter(None, (_note(flag), self._document.note))),
            raw={"flag": flag},
        )

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        flag = state.raw["flag"]
        return isinstance(flag, dict) and not same(flag, wished(flag, where, wish))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        def edit(document: Dict[str, Any]) -> Dict[str, Any]:
            flag = _flag(document, where, self._document.name)
            check_unmoved(flag, state.raw["flag"], where, wish)
            document["flags"][where.flag] = wished(flag, where, wish)
            return document

        altered(self._document, self._deadline, edit)
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        if self._client.there and not wish.partial:
            return self._client.served(where, wish)
        document, revision = self._document.read()
        flag = _flag(document, where, self._document.name)
        told = evaluated(flag, wish)
        if not self._client.there:
            return told
        # one evaluation says nothing of the others: the server has to know the flag, and its rules say how many
        asked = self._client.served(where, wish)
        if not asked.known or not told.known:
            return asked if not asked.known else told
        return Served(True, asked.value, told.percentage, by=f"{asked.by}; the percentage: {BY}")

    def close(self) -> None:
        self._client.close()
        self._document.close()


def wished(flag: Mapping[str, Any], where: Where, wish: Wish) -> Flag:
    """The flag as it shall be. OptionError for a wish that it has no variant for."""
    new: Flag = {**flag, "state": "ENABLED"}
    variant = serving(flag["variants"], flag.get("defaultVariant"), where, wish)
    if wish.state == OFF:
        return {**_bare(new), "defaultVariant": variant}
    if wish.percentage is None:
        return _own_rules(new, variant, wish)
    if wish.percentage >= 100:
        return {**_bare(new), "defaultVariant": variant}
    rules = flag.get("targeting")
    default = flag.get("defaultVariant") if not rules or ours(rules) else None
    rest = resting(flag["variants"], default, where, variant)
    if wish.percentage <= 0:
        return {**_bare(new), "defaultVariant": rest}
    weights = _weights(wish.percentage)
    rule = {"fractional": [[variant, weights[0]], [rest, weights[1]]]}
    return {**_bare(new), "defaultVariant": rest, "targeting": rule}


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
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int):
            return None
        shares[pair[0]] = shares.get(pair[0], 0) + max(0, pair[1])
    total = sum(shares.values())
    return {name: 100 * weight / total for name, weight in shares.items()} if total else None


def _bare(flag: Mapping[str, Any]) -> Flag:
    """The flag without targeting rules; they are kept, unless they are ours and rules of its own are kept already."""
    rules, before = flag.get("targeting"), kept(flag)
    bare = {name: value for name, value in flag.items() if name != "targeting"}
    if not rules or (before and ours(rules) is not None and ours(before.get("targeting")) is None):
        return bare
    return with_kept(bare, {"targeting": rules, "defaultVariant": flag.get("defaultVariant")})


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


def _note(flag: Mapping[str, Any]) -> str:
    if flag["state"] != "ENABLED":
        return "DISABLED: clients get their code's default"
    return KEEPS if kept(flag) else ""


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


def _flag(document: Mapping[str, Any], where: Where, name: str) -> Flag:
    """The flag in the document; FlagError when there is none, or it is not of flagd's form."""
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
