# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GO Feature Flag's flags, in a file or in a ConfigMap's key, JSON or YAML, as its relay proxy and its SDKs read them.

A flag with `disable: true` serves the caller's own default, and so does one outside of its experimentation, one whose
bucketing key a client does not send, and one with a schedule may be changed by that again. So whatever decides for some
(targeting, schedule, experimentation, bucketing key) is taken out and kept, as a text in the flag's metadata, until it
is turned on again, and the default rule serves everyone the variation with the wished value.

For the table of providers:
off means: `defaultRule` is the variation whose value is `serve`; what else decides is kept aside; `disable` goes.
serves: that variation's value; for a percentage, a default rule with two percentages.
verified by: with `client_url`, an OFREP evaluation by a relay proxy (its port is 1031), which polls the file; else the
document read back, as far as its rules are ours.
tried against: real files; the relay proxy by its published source and contract (OFREP).
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from .._errors import OptionError
from .document import Document, altered, document_of
from .model import OFF, Change, Deadline, FlagError, Options, Served, State, Where, Wish
from .names import unknown
from .ofrep import Ofrep
from .texts import CORE_YAML, same
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

_DECIDES = ("targeting", "scheduledRollout", "experimentation", "bucketingKey")  # for some, or at some time
_RULE = "defaultRule"

Flag = Dict[str, Any]


def build(options: Options, deadline: Deadline) -> "GoFeatureFlag":
    if (options.path or options.key).lower().endswith(".toml"):
        raise OptionError("flags in TOML are not taken", mend="Keep them as YAML or JSON, which its readers take, too")
    document = document_of(options, deadline, yaml=CORE_YAML)
    return GoFeatureFlag(document, Ofrep(options, deadline), deadline)


class GoFeatureFlag:
    """The flags of one document."""

    def __init__(self, document: Document, client: Ofrep, deadline: Deadline) -> None:
        self._document, self._client, self._deadline = document, client, deadline

    def state(self, where: Where) -> State:
        document, revision = self._document.read()
        flag = _flag(document, where, self._document.name)
        default = _default(flag)
        serves = flag["variations"].get(default, True)
        return State(
            on=not flag.get("disable") and (bool(_rules(flag)) or bool(serves)),
            percentage=None if _rules(flag) else 100.0,
            variation=default,
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
            document[where.flag] = wished(flag, where, wish)
            return document

        altered(self._document, self._deadline, edit)
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        if self._client.there and not wish.partial:
            return self._client.served(where, wish)
        document, revision = self._document.read()
        told = evaluated(_flag(document, where, self._document.name), wish)
        if not self._client.there:
            return told
        asked = self._client.served(where, wish)
        if not asked.known or not told.known:
            return asked if not asked.known else told
        return Served(True, asked.value, told.percentage, by=f"{asked.by}; the percentage: {BY}")

    def close(self) -> None:
        self._client.close()
        self._document.close()


def wished(flag: Mapping[str, Any], where: Where, wish: Wish) -> Flag:
    """The flag as it shall be. OptionError for a wish that it has no variation for."""
    new: Flag = {name: value for name, value in flag.items() if name != "disable" or not value}
    variant = serving(flag["variations"], _default(flag), where, wish)
    if wish.state == OFF:
        return _all_get(new, variant)
    if wish.percentage is None:
        return _own_rules(new, variant, wish)
    if wish.percentage >= 100:
        return _all_get(new, variant)
    rest = resting(flag["variations"], _default(flag) or _smaller(flag, variant), where, variant)
    if wish.percentage <= 0:
        return _all_get(new, rest)
    share = int(wish.percentage) if wish.percentage == int(wish.percentage) else round(wish.percentage, 3)
    return _bare(new, {"percentage": {variant: share, rest: round(100 - share, 3)}})


def evaluated(flag: Mapping[str, Any], wish: Wish) -> Served:
    """What clients make of the flag, as far as that takes only its default rule."""
    if flag.get("disable"):
        return not_known("it is disabled, so clients get their code's default")
    if any(flag.get(name) for name in _DECIDES) or flag[_RULE].get("progressiveRollout"):
        return not_known("its rules are evaluated by clients; set client_url to the relay proxy to ask it by OFREP")
    shares = _shares(flag[_RULE])
    if shares is None and flag[_RULE].get("variation"):
        shares = {flag[_RULE]["variation"]: 100.0}
    if not shares or not shares.keys() <= flag["variations"].keys():
        return not_known("its default rule names no variation of it, so clients get their code's default")
    return served_shares(flag["variations"], shares, wish)


def _all_get(flag: Mapping[str, Any], variant: str) -> Flag:
    return _bare(flag, {"variation": variant})


def _bare(flag: Mapping[str, Any], rule: Mapping[str, Any]) -> Flag:
    """The flag with `rule` for all; its own rules are kept, unless these are a percentage and others are kept."""
    rules, before = _rules(flag), kept(flag)
    name = {"name": flag[_RULE]["name"]} if "name" in flag[_RULE] else {}
    bare = {key: value for key, value in flag.items() if key not in _DECIDES}
    bare[_RULE] = {**name, **rule}
    if not rules or (before and _is_share(rules) and not _is_share(before)):
        return bare
    return with_kept(bare, rules)


def _own_rules(flag: Flag, variant: str, wish: Wish) -> Flag:
    """On, for whom the flag's own rules let: those that were kept, those that are there, or else everyone."""
    rules = kept(flag)
    if rules and not _rules(flag):
        return without_kept({**flag, **rules})
    if _rules(flag) and not wish.variation:
        return flag
    return {**flag, _RULE: {**{key: flag[_RULE][key] for key in ("name",) if key in flag[_RULE]}, "variation": variant}}


def _rules(flag: Mapping[str, Any]) -> Flag:
    """Whatever decides for some: those members with the default rule beside them, or a default rule of several."""
    rules = {name: flag[name] for name in _DECIDES if flag.get(name)}
    rule = flag[_RULE]
    return {**rules, _RULE: rule} if rules or rule.get("percentage") or rule.get("progressiveRollout") else {}


def _is_share(rules: Mapping[str, Any]) -> bool:
    return rules.keys() == {_RULE} and _shares(rules[_RULE]) is not None


def _shares(rule: Mapping[str, Any]) -> Optional[Dict[str, float]]:
    """How many of 100 get which variation, of a rule with percentages; None for another one."""
    percentages = rule.get("percentage")
    if not isinstance(percentages, Mapping) or rule.get("progressiveRollout"):
        return None
    numbers = {name: share for name, share in percentages.items() if isinstance(share, (int, float))}
    total = sum(numbers.values())
    return {name: 100 * share / total for name, share in numbers.items()} if total > 0 else None


def _default(flag: Mapping[str, Any]) -> str:
    """The variation of a default rule that has a single one."""
    rule = flag[_RULE]
    single = not rule.get("percentage") and not rule.get("progressiveRollout")
    return str(rule.get("variation") or "") if single else ""


def _smaller(flag: Mapping[str, Any], variant: str) -> Optional[str]:
    """The other variation of a default rule with two percentages."""
    others = [name for name in _shares(flag[_RULE]) or {} if name != variant]
    return others[0] if len(others) == 1 else None


def _note(flag: Mapping[str, Any]) -> str:
    if flag.get("disable"):
        return "disabled: clients get their code's default"
    return KEEPS if kept(flag) else ""


def _flag(document: Mapping[str, Any], where: Where, name: str) -> Flag:
    """The flag in the document; FlagError when there is none, or it is not of GO Feature Flag's form."""
    if where.flag not in document:
        raise unknown("flag", where.flag, document, name)
    flag = document[where.flag]
    good = isinstance(flag, dict) and isinstance(flag.get("variations"), dict) and isinstance(flag.get(_RULE), dict)
    if not good or not flag["variations"] or not isinstance(flag.get("metadata") or {}, dict):
        raise FlagError(f"{where} in {name} is not of GO Feature Flag's form", mend="It needs variations, defaultRule")
    found: Flag = flag
    return found
