# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ConfigCat: the value of a setting in the environment that an SDK key stands for, changed by JSON Patch.

After the published contract: ConfigCat Public Management API v2, "Feature Flag & Setting values using SDK Key" (get and
update value; 204 when nothing changes), and the config JSON v6 that its SDKs download.

| off means | serves | verified by | tried against |
|---|---|---|---|
| default and percentages are `serve` | that, or what rules serve [1] | config JSON of SDKs | published contract |

[1] Rules with conditions are left as they are; while one of them serves another value, off is not effective.
"""

from __future__ import annotations

import base64
import json
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from .._errors import OptionError
from .client import Http, refused, segment, token_of, unknown
from .model import OFF, Change, Deadline, FlagError, Options, Provider, Served, State, Value, Where, Wish
from .texts import same
from .vendors import Sides, mapping, mappings, no_client, number, unknown_to_clients

_URL, _CDN = "https://api.configcat.com", "https://cdn-global.configcat.com"
_BY = "config JSON of SDKs"
_Op = Dict[str, object]


class _Kind(NamedTuple):
    """One kind of value: its field in the API, its field in the config JSON, and what it may be."""

    field: str
    short: str
    types: Tuple[type, ...]


_KINDS = (
    _Kind("boolValue", "b", (bool,)),
    _Kind("stringValue", "s", (str,)),
    _Kind("intValue", "i", (int,)),
    _Kind("doubleValue", "d", (float, int)),
)


def build(options: Options, deadline: Deadline) -> Provider:
    return ConfigCat(Sides(options, deadline))


class ConfigCat:
    """The SDK key (client_token) says which config and environment; where those are named, they have to be these."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides

    @property
    def _http(self) -> Http:
        return self._sides.management(_URL, self._headers, needed=False)

    def state(self, where: Where) -> State:
        answer = self._http.get(_path(where))
        if answer.status == 404:
            raise self._not_there(where)
        if not answer.ok:
            hints = {400: "the SDK key is wrong, or it is of a config V1, which this API does not have"}
            raise refused(answer, f"reading {where}", hints)
        found = answer.fields
        _is_of("environment", where.environment, mapping(found.get("environment")).get("name"))
        _is_of("project", where.project, mapping(found.get("config")).get("name"))
        default = _value(found.get("defaultValue"))
        on = any(value is not False for value, share in _served_by_default(found) if share > 0)
        percentage = None if _conditional(found) or not isinstance(default, bool) else _share(found, True)
        return State(on=on, percentage=percentage, revision=str(found.get("lastVersionId", "")), raw=found)

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        return bool(_patch(where, wish, state.raw))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        query = {"reason": wish.reason} if wish.reason else None
        # rules are named by their places, and nothing pins them: so they are read just before
        patch = _patch(where, wish, self.state(where).raw)
        if not patch:
            return Change()
        answer = self._http.ask("PATCH", _path(where), patch, query=query)
        if not answer.ok:
            raise refused(answer, f"turning {where} {wish.state}")
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        settings = self._downloaded(where)
        setting = mapping(settings.get(where.flag))
        if not setting:
            return unknown_to_clients(
                f"SDKs are given no setting {where.flag!r}: clients get their code's default", _BY
            )
        options = [(_short(one.get("v")), number(one.get("p")) or 0.0) for one in mappings(setting.get("p"))]
        shares = options or [(_short(setting.get("v")), 100.0)]
        return _judged(wish, shares, _by_rules(setting))

    def close(self) -> None:
        self._sides.close()

    def _headers(self, token: str) -> Dict[str, str]:
        options = self._sides.options
        login = f"{options.username}:{options.password}" if options.username else token
        if ":" not in login:
            raise OptionError(
                "ConfigCat's Public API needs a user name and a password",
                mend="Set provider.username and provider.password: Public API credentials, not an SDK key",
            )
        basic = base64.b64encode(login.encode()).decode()
        return {"Authorization": f"Basic {basic}", "X-CONFIGCAT-SDKKEY": token_of(options, client=True)}

    def _downloaded(self, where: Where) -> Mapping[str, object]:
        """The settings, as SDKs download them."""
        key = token_of(self._sides.options, client=True)
        path = f"/configuration-files/{'/'.join(map(segment, key.split('/')))}/config_v6.json"
        answer = self._sides.clients(_CDN, {}).get(path)
        what = f"asking what clients are served of {where}"
        if answer.status in (401, 403, 404):
            raise no_client(answer, what, "SDK key of a config V2")
        if not answer.ok:
            raise refused(answer, what)
        elsewhere = mapping(answer.fields.get("p"))
        if not isinstance(answer.fields.get("f"), Mapping) and elsewhere.get("u"):
            raise FlagError("this config is downloaded from elsewhere", mend=f"Set client_url to {elsewhere['u']}")
        return mapping(answer.fields.get("f"))

    def _not_there(self, where: Where) -> FlagError:
        return unknown("flag", where.flag, self._downloaded(where), "the config of this SDK key")


def _path(where: Where) -> str:
    return f"/v2/settings/{segment(where.flag)}/value"


def _is_of(kind: str, named: str, found: object) -> None:
    if named and named != found:
        raise unknown(kind, named, [str(found)], "what this SDK key is of", f"The SDK key is of {kind} {found!r}")


def _value(model: object) -> Value:
    """The value of a ValueModel, which has one of four fields."""
    fields = mapping(model)
    return next((fields[one.field] for one in _KINDS if fields.get(one.field) is not None), None)


def _short(model: object) -> Value:
    """The same of the config JSON."""
    fields = mapping(model)
    return next((fields[one.short] for one in _KINDS if one.short in fields), None)


def _split(formula: Mapping[str, object]) -> Optional[int]:
    """The place of the rule that has no conditions, and only splits by percentage."""
    for place, one in enumerate(mappings(formula.get("targetingRules"))):
        if not one.get("conditions") and one.get("percentageOptions"):
            return place
    return None


def _conditional(formula: Mapping[str, object]) -> bool:
    return len(mappings(formula.get("targetingRules"))) > (0 if _split(formula) is None else 1)


def _served_by_default(formula: Mapping[str, object]) -> List[Tuple[Value, float]]:
    """What those get whom no condition fits, and how many of 100."""
    place = _split(formula)
    if place is None:
        return [(_value(formula.get("defaultValue")), 100.0)]
    options = mappings(mappings(formula.get("targetingRules"))[place].get("percentageOptions"))
    return [(_value(one.get("value")), number(one.get("percentage")) or 0.0) for one in options]


def _share(formula: Mapping[str, object], value: Value) -> float:
    return sum(share for one, share in _served_by_default(formula) if same(one, value))


def _field(where: Where, wish: Wish, default: Value) -> str:
    """The field that holds the setting's kind of value."""
    for one in _KINDS:
        if type(default) in one.types and type(wish.serve) in one.types:
            return one.field
    raise OptionError(
        f"{where} serves values such as {json.dumps(default)}, so that it cannot serve {json.dumps(wish.serve)}",
        mend="Set serve to a value of the setting's type",
    )


def _patch(where: Where, wish: Wish, formula: Mapping[str, object]) -> List[_Op]:
    """The operations that make the formula as wished; none when it is."""
    if wish.variation:
        raise OptionError("ConfigCat's settings have no variations by name", mend="Set serve to the value")
    default = _value(formula.get("defaultValue"))
    name = _field(where, wish, default)
    if wish.state != OFF and wish.percentage is not None:
        return _split_patch(where, wish, formula, name)
    ops: List[_Op] = []
    if not same(default, wish.serve):
        ops.append({"op": "replace", "path": f"/defaultValue/{name}", "value": wish.serve})
    place, share = _split(formula), _share(formula, wish.serve)
    # on leaves a split as it is, as long as it serves somebody
    if place is not None and (share < 100 if wish.state == OFF else share == 0):
        ops.append(_shares(place, formula, name, wish.serve, 100))
    return ops


def _split_patch(where: Where, wish: Wish, formula: Mapping[str, object], name: str) -> List[_Op]:
    percentage = wish.percentage or 0.0
    if percentage != int(percentage):
        raise OptionError(f"ConfigCat has whole percentages, not {percentage:g}", mend="Set a whole percentage")
    place = _split(formula)
    if place is not None:
        same_share = _share(formula, wish.serve) == percentage
        return [] if same_share else [_shares(place, formula, name, wish.serve, int(percentage))]
    default = _value(formula.get("defaultValue"))
    other: Value = not wish.serve if isinstance(wish.serve, bool) else default
    if same(other, wish.serve):
        raise OptionError(f"{where} serves {json.dumps(default)} to everybody: the others have nothing else to get")
    options = [_option(int(percentage), name, wish.serve), _option(100 - int(percentage), name, other)]
    return [{"op": "add", "path": "/targetingRules/-", "value": {"conditions": [], "percentageOptions": options}}]


def _shares(place: int, formula: Mapping[str, object], name: str, serve: Value, percentage: int) -> _Op:
    """The split, so that `percentage` get `serve`; the first of the other values gets the rest."""
    others = [value for value, share in _served_by_default(formula) if not same(value, serve)]
    if not others:
        others = [not serve if isinstance(serve, bool) else serve]
    options = [_option(percentage, name, serve), _option(100 - percentage, name, others[0])]
    options += [_option(0, name, value) for value in others[1:]]
    return {"op": "replace", "path": f"/targetingRules/{place}/percentageOptions", "value": options}


def _option(percentage: int, name: str, value: Value) -> Dict[str, object]:
    return {"percentage": percentage, "value": {name: value}}


def _by_rules(setting: Mapping[str, object]) -> List[Value]:
    """What rules with conditions may serve, in the config JSON."""
    values: List[Value] = []
    for rule in mappings(setting.get("r")):
        values += [_short(one.get("v")) for one in mappings(rule.get("p"))]
        if not rule.get("p"):
            values.append(_short(mapping(rule.get("s")).get("v")))
    return values


def _judged(wish: Wish, shares: List[Tuple[Value, float]], by_rules: List[Value]) -> Served:
    share = sum(part for value, part in shares if same(value, wish.serve))
    served = [value for value, part in shares if part == 100]
    other = [value for value in by_rules if not same(value, wish.serve)]
    if wish.looks and not all(served and same(value, served[0]) for value in by_rules):
        return unknown_to_clients("it has targeting rules, which only SDKs evaluate", _BY)
    if other and wish.state == OFF and share == 100:
        return Served(True, other[0], why="targeting rules still serve it", by=f"{_BY}: targeting rules", final=True)
    if other and wish.state != OFF:
        return unknown_to_clients("it has targeting rules, which only SDKs evaluate", _BY)
    percentage = 100 - share if wish.state == OFF else share
    return Served(True, served[0] if served else None, percentage=percentage, by=_BY)
