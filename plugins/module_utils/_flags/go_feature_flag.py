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
from .document import document_of
from .in_document import Flag, InDocument
from .model import OFF, Deadline, FlagError, Options, Served, State, Where, Wish
from .names import unknown
from .ofrep import Ofrep
from .texts import CORE_YAML
from .variants import kept, not_known, resting, served_shares, serving, with_kept, without_kept

_DECIDES = ("targeting", "scheduledRollout", "experimentation", "bucketingKey")  # for some, or at some time
_RULE = "defaultRule"


def build(options: Options, deadline: Deadline) -> "GoFeatureFlag":
    if (options.path or options.key).lower().endswith(".toml"):
        raise OptionError("flags in TOML are not taken", mend="Keep them as YAML or JSON, which its readers take, too")
    document = document_of(options, deadline, yaml=CORE_YAML)
    return GoFeatureFlag(document, Ofrep(options, deadline), deadline)


class GoFeatureFlag(InDocument):
    """The flags of one document: its members."""

    def flag(self, document: Mapping[str, Any], where: Where, name: str) -> Flag:
        if where.flag not in document:
            raise unknown("flag", where.flag, document, name)
        flag = document[where.flag]
        good = isinstance(flag, dict) and isinstance(flag.get("variations"), dict) and isinstance(flag.get(_RULE), dict)
        if not good or not flag["variations"] or not isinstance(flag.get("metadata") or {}, dict):
            raise FlagError(
                f"{where} in {name} is not of GO Feature Flag's form", mend="It needs variations and defaultRule"
            )
        found: Flag = flag
        return found

    def put(self, document: Dict[str, Any], where: Where, flag: Flag) -> None:
        document[where.flag] = flag

    def wished(self, flag: Flag, where: Where, wish: Wish) -> Flag:
        return wished(flag, where, wish)

    def evaluated(self, flag: Flag, wish: Wish) -> Served:
        return evaluated(flag, wish)

    def described(self, flag: Flag) -> State:
        rules, disabled = bool(_rules(flag)), bool(flag.get("disable"))
        return State(
            on=not disabled and (rules or bool(flag["variations"].get(_default(flag), True))),
            percentage=None if rules else 100.0,
            variation=_default(flag),
            note="disabled: clients get their code's default" if disabled else "",
        )


def wished(flag: Mapping[str, Any], where: Where, wish: Wish) -> Flag:
    """The flag as it shall be. OptionError for a wish that it has no variation for."""
    new: Flag = {name: value for name, value in flag.items() if name != "disable" or not value}
    variant = serving(flag["variations"], _default(flag), where, wish)
    if wish.state == OFF:
        return _bare(new, {"variation": variant}, off=True)
    if wish.percentage is None:
        return _own_rules(new, variant, wish)
    if wish.percentage >= 100:
        return _bare(new, {"variation": variant}, off=False)
    rest = resting(flag["variations"], _default(flag) or _smaller(flag, variant), where, variant)
    if wish.percentage <= 0:
        return _bare(new, {"variation": rest}, off=True)
    share = int(wish.percentage) if wish.percentage == int(wish.percentage) else round(wish.percentage, 3)
    return _bare(new, {"percentage": {variant: share, rest: round(100 - share, 3)}}, off=False)


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


def _bare(flag: Mapping[str, Any], rule: Mapping[str, Any], *, off: bool) -> Flag:
    """The flag with `rule` for all. Its own rules are kept; a percentage of ours only when it goes off."""
    rules, before = _rules(flag), kept(flag)
    name = {"name": flag[_RULE]["name"]} if "name" in flag[_RULE] else {}
    bare: Flag = {key: value for key, value in flag.items() if key not in _DECIDES}
    bare[_RULE] = {**name, **rule}
    own_before = before is not None and not _is_share(before)
    if rules and (not _is_share(rules) or (off and not own_before)):
        return with_kept(bare, rules)
    return bare if off or own_before else without_kept(bare)


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
    """Is it a rule such as we write, a percentage and the rest?"""
    return rules.keys() == {_RULE} and len(_shares(rules[_RULE]) or ()) == 2


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
