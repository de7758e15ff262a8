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

import json
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._errors import OptionError, nearest
from .document import CONFIG_MAP, FEATURE_FLAG, FILE, Document, altered, document_of
from .http import unknown
from .model import OFF, ON, Change, Deadline, FlagError, Options, Served, State, Where, Wish
from .ofrep import Ofrep
from .texts import KEPT, same

_BY = "document read back"
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
            note=_note(flag),
            raw={"flag": flag},
        )

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        flag = state.raw["flag"]
        return isinstance(flag, dict) and not same(flag, wished(flag, where, wish))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        def edit(document: Dict[str, Any]) -> Dict[str, Any]:
            flag = _flag(document, where, self._document.name)
            if wish.state == ON and not same(flag, state.raw["flag"]):
                raise FlagError(f"somebody changed {where} since it was looked at", mend="Look, and run this again")
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
        return Served(True, asked.value, told.percentage, by=f"{asked.by}; the percentage: {_BY}")

    def close(self) -> None:
        self._client.close()
        self._document.close()


def wished(flag: Mapping[str, Any], where: Where, wish: Wish) -> Flag:
    """The flag as it shall be. OptionError for a wish that it has no variant for."""
    new: Flag = {**flag, "state": "ENABLED"}
    variant = _variant(flag, where, wish)
    if wish.state == OFF:
        return {**_bare(new), "defaultVariant": variant}
    if wish.percentage is None:
        return _own_rules(new, variant, wish)
    rest = _rest_of(flag, where, variant) if wish.percentage < 100 else variant
    if wish.partial:
        weights = _weights(wish.percentage)
        rule = {"fractional": [[variant, weights[0]], [rest, weights[1]]]}
        return {**_bare(new), "defaultVariant": rest, "targeting": rule}
    return {**_bare(new), "defaultVariant": variant if wish.percentage else rest}


def evaluated(flag: Mapping[str, Any], wish: Wish) -> Served:
    """What clients make of the flag, as far as that takes no rules but ours."""
    variants, rules, default = flag["variants"], flag.get("targeting"), flag.get("defaultVariant")
    if flag["state"] != "ENABLED":
        return Served(False, why="it is DISABLED, so clients get their code's default", by=_BY, final=True)
    if rules:
        shares = ours(rules)
        if shares is None or not shares.keys() <= variants.keys():
            why = "its targeting rules are evaluated by clients; set client_url to ask one that speaks OFREP"
            return Served(False, why=why, by=_BY, final=True)
        hit = sum(share for name, share in shares.items() if same(variants[name], wish.serve))
        return Served(True, percentage=hit if wish.state == ON else 100 - hit, by=_BY)
    if not default:
        return Served(False, why="it has no defaultVariant, so clients get their code's default", by=_BY, final=True)
    if default not in variants:
        return Served(False, why=f"its defaultVariant {default!r} is no variant of it", by=_BY, final=True)
    hits = same(variants[default], wish.serve) == (wish.state == ON)
    return Served(True, variants[default], 100.0 if hits else 0.0, by=_BY)


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
    rules, kept = flag.get("targeting"), _kept(flag)
    bare = {name: value for name, value in flag.items() if name != "targeting"}
    if not rules or (kept and ours(rules) is not None and ours(kept["targeting"]) is None):
        return bare
    text = json.dumps({"targeting": rules, "defaultVariant": flag.get("defaultVariant")}, ensure_ascii=False)
    return {**bare, "metadata": {**flag.get("metadata", {}), KEPT: text}}


def _own_rules(flag: Flag, variant: str, wish: Wish) -> Flag:
    """On, for whom the flag's own rules let: those that were kept, those that are there, or else everyone."""
    kept = _kept(flag)
    if kept and not flag.get("targeting"):
        metadata = {name: value for name, value in flag["metadata"].items() if name != KEPT}
        flag = {name: value for name, value in flag.items() if name != "metadata"}
        default = variant if wish.variation else kept.get("defaultVariant")
        found = {**flag, "defaultVariant": default, "targeting": kept["targeting"]}
        return {**found, "metadata": metadata} if metadata else found
    if flag.get("targeting") and not wish.variation:
        return flag
    return {**flag, "defaultVariant": variant}


def _kept(flag: Mapping[str, Any]) -> Optional[Mapping[str, Any]]:
    text = flag.get("metadata", {}).get(KEPT)
    if text is None:
        return None
    try:
        kept = json.loads(text)
    except (TypeError, ValueError):
        kept = None
    if not isinstance(kept, dict) or not isinstance(kept.get("targeting"), dict):
        raise FlagError(f"what a flag's metadata keeps in {KEPT} is not as it was written", mend="Mend or remove it")
    return kept


def _note(flag: Mapping[str, Any]) -> str:
    if flag["state"] != "ENABLED":
        return "DISABLED: clients get their code's default"
    return "its targeting rules are kept aside, for turning it on again" if _kept(flag) else ""


def _variant(flag: Mapping[str, Any], where: Where, wish: Wish) -> str:
    """The variant to serve. Of several with the same value, the one that is the default already, or else the first."""
    variants: Mapping[str, Any] = flag["variants"]
    if wish.variation:
        if wish.variation not in variants:
            raise OptionError(f"{where} has no variation {wish.variation!r}{_told(variants, wish.variation)}")
        if not same(variants[wish.variation], wish.serve):
            raise OptionError(
                f"{where}: variation {wish.variation!r} serves {json.dumps(variants[wish.variation])}, and serve is "
                f"{json.dumps(wish.serve)}",
                mend="Set serve to what the variation serves",
            )
        return wish.variation
    fitting: List[str] = [name for name, value in variants.items() if same(value, wish.serve)]
    if not fitting:
        raise OptionError(
            f"{where} has no variant that serves {json.dumps(wish.serve)}, so its {wish.state} variation is not set"
            f"{_told(variants, '')}",
            mend="Add one, or set serve to a value of one of them",
        )
    default = flag.get("defaultVariant")
    return str(default) if default in fitting else fitting[0]


def _rest_of(flag: Mapping[str, Any], where: Where, variant: str) -> str:
    """The variant for those that a percentage does not hit."""
    others: List[str] = [name for name in flag["variants"] if name != variant]
    default, rules = flag.get("defaultVariant"), flag.get("targeting")
    if default in others and (not rules or ours(rules) is not None):
        return str(default)
    if len(others) == 1:
        return others[0]
    raise OptionError(
        f"{where} has several variants besides {variant!r}, and none is said to be for the rest",
        mend=f"Set its defaultVariant to one of {', '.join(others) or 'its own'} first",
    )


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


def _told(variants: Mapping[str, Any], name: str) -> str:
    listed: List[str] = [f"{key} ({json.dumps(value)[:40]})" for key, value in list(variants.items())[:10]]
    return f"{nearest(name, variants) if name else ''}; it has {', '.join(listed)}"


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
