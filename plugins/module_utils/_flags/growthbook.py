# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GrowthBook: off is a rule before all others, because a feature that is disabled vanishes from what SDKs are given.

After the published contract: GrowthBook REST API 5.1 (OpenAPI), "Get a single feature" and "Partially update a
feature" of version 2 (`rules` replaces the whole list, and is meant to be read, changed, and sent back), "Targeting
Rule model" (coverage is 0 to 1), "Find a single sdk connection by its key" (of which environment a client key is), and
the SDK endpoint `/api/features/{clientKey}`.

| off means | serves | verified by | tried against |
|---|---|---|---|
| a rule before the others forces `serve` in the environment | that value | SDK endpoint | published contract |

On takes that rule away again, and enables the environment. A feature that somebody disabled serves the code's default.
A percentage is the coverage of the environment's own rollout, or of a rule of ours before the others.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from .._errors import OptionError
from .client import Answer, Http, refused, segment, token_of, unknown
from .model import OFF, Change, Deadline, FlagError, Options, Provider, Served, State, Value, Where, Wish
from .texts import same
from .vendors import Sides, mapping, mappings, no_client, number, texts, unknown_to_clients, without_token

_URL, _CDN = "https://api.growthbook.io", "https://cdn.growthbook.io"
_OFF, _SHARE = "selfheal.delivery: off", "selfheal.delivery: share"  # how our rules' descriptions begin
_EXACT = 1e-9  # how far two shares may be apart that are the same
_HASHED = "id"  # the attribute that GrowthBook's SDKs split by
_BY = "SDK endpoint"
_Rule = Mapping[str, object]


def build(options: Options, deadline: Deadline) -> Provider:
    return GrowthBook(Sides(options, deadline, "/api"))


def _headers(token: str) -> Dict[str, str]:
    if token.startswith("sdk-"):
        raise OptionError(
            "provider.token is an SDK's client key, which cannot change features",
            mend="Set a secret key or a personal access token; the client key is client_token",
        )
    return {"Authorization": f"Bearer {token}"}


class GrowthBook:
    """`where.environment` need not be named when the feature has one only; `where.project` is its project's id."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._known_key = ""

    @property
    def _http(self) -> Http:
        return self._sides.management(_URL, _headers)

    def state(self, where: Where) -> State:
        answer = self._http.get(_path(where))
        if answer.status in (400, 404):
            raise self._not_there(where, answer)
        if not answer.ok:
            raise refused(answer, f"reading {where}")
        feature = mapping(answer.fields.get("feature"))
        if where.project and feature.get("project") != where.project:
            raise unknown("project", where.project, [str(feature.get("project") or "")], "what the feature is in")
        if feature.get("archived") is True:
            raise FlagError(f"{where} is archived: clients get their code's default", mend="Restore it first")
        plan = _plan(where, feature)
        killed = any(_is_ours(rule, _OFF, plan.environment) for rule in plan.rules)
        shares = _shares([_told(rule) for rule in plan.here], "")
        share = next((part for value, part in shares if value == "true"), 0.0) if shares is not None else None
        percentage = None if share is None or feature.get("valueType") != "boolean" else share * 100
        return State(on=plan.enabled and not killed, percentage=percentage, raw=feature)

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        now = _plan(where, state.raw)
        return _wished(where, wish, now, state.raw) != now

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        # the whole list is sent back, and nothing pins it: so it is read just before
        feature = self.state(where).raw
        now = _plan(where, feature)
        new = _wished(where, wish, now, feature)
        if new == now:
            return Change()
        body: Dict[str, object] = {"rules": [dict(rule) for rule in new.rules]}
        if new.enabled != now.enabled:
            body["environments"] = {new.environment: {"enabled": new.enabled}}
        answer = self._http.ask("POST", _path(where), body)
        if not answer.ok:
            hints = {403: "the token does not suffice, or changes there need an approval; nothing was changed"}
            raise refused(answer, f"turning {where} {wish.state}", hints)
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        key = token_of(self._sides.options, client=True, needed=False)
        if not key:
            return without_token()
        self._check_key(where, key)
        answer = self._sides.clients(self._sides.options.url or _CDN, {}).get(f"/api/features/{segment(key)}")
        what = f"asking what clients are served of {where}"
        if answer.status in (400, 401, 403, 404):
            raise no_client(answer, what, "client key (sdk-…)")
        if not answer.ok:
            raise refused(answer, what)
        features = answer.fields.get("features")
        if "encryptedFeatures" in answer.fields and not features:
            return unknown_to_clients("what SDKs are given is encrypted", _BY)
        if where.flag not in mapping(features):
            return unknown_to_clients("SDKs are given no such feature: clients get their code's default", _BY)
        feature = mapping(mapping(features)[where.flag])
        return _judged(wish, _shares(mappings(feature.get("rules")), feature.get("defaultValue")))

    def close(self) -> None:
        self._sides.close()

    def _check_key(self, where: Where, key: str) -> None:
        """OptionError for a client key of another environment, where management tells whose it is; asked once."""
        if key == self._known_key or not where.environment or not self._sides.may_manage:
            return
        try:
            answer = self._http.get(f"/api/v1/sdk-connections/lookup/{segment(key)}")
        except FlagError:
            return
        found = mapping(answer.fields.get("sdkConnection")).get("environment") if answer.ok else None
        if isinstance(found, str) and found not in ("", where.environment):
            raise OptionError(
                f"client_token is a client key of environment {found!r}, not of {where.environment!r}",
                mend=f"Set the client key of an SDK connection of {where.environment}",
            )
        self._known_key = key

    def _not_there(self, where: Where, answer: Answer) -> FlagError:
        features = self._http.get("/api/v2/features", {"limit": "100"})
        names = texts(features.fields.get("features"), "id")
        if not features.ok or where.flag in names:
            return refused(answer, f"reading {where}")
        return unknown("flag", where.flag, names)


@dataclass(frozen=True)
class _Plan:
    """What of a feature counts in one environment. `rules` are those of all environments, as they are sent back."""

    environment: str
    enabled: bool
    rules: Tuple[_Rule, ...]

    @property
    def here(self) -> List[_Rule]:
        """The rules that count in the environment."""
        return [rule for rule in self.rules if rule.get("enabled") is not False and _applies(rule, self.environment)]


def _path(where: Where) -> str:
    return f"/api/v2/features/{segment(where.flag)}"


def _plan(where: Where, feature: Mapping[str, object]) -> _Plan:
    environments = mapping(feature.get("environments"))
    name = where.environment
    if not name:
        if len(environments) != 1:
            raise OptionError(
                f"{where} is in {len(environments)} environments, and none is named",
                mend=f"Set environment to one of {', '.join(sorted(environments))}",
            )
        name = next(iter(environments))
    if name not in environments:
        raise unknown("environment", name, environments)
    enabled = mapping(environments[name]).get("enabled") is True
    return _Plan(name, enabled, tuple(mappings(feature.get("rules"))))


def _applies(rule: _Rule, environment: str) -> bool:
    names = rule.get("environments")
    return rule.get("allEnvironments") is True or (isinstance(names, list) and environment in names)


def _is_ours(rule: _Rule, mark: str, environment: str) -> bool:
    return str(rule.get("description", "")).startswith(mark) and rule.get("environments") == [environment]


def _wished(where: Where, wish: Wish, now: _Plan, feature: Mapping[str, object]) -> _Plan:
    """The plan as it has to be; OptionError for a wish that cannot be said so."""
    if wish.variation:
        raise OptionError("GrowthBook's features have no variations by name", mend="Set serve to the value")
    value = _text(where, wish.serve, feature.get("valueType"))
    environment = now.environment
    if wish.state == OFF:
        first = now.here[0] if now.here else {}
        if not now.enabled or (_is_ours(first, _OFF, environment) and first.get("value") == value):
            return now
        rule = _rule(f"{_OFF}{f', {wish.reason}' if wish.reason else ''}", value, environment)
        return _Plan(environment, True, (rule, *_without(now.rules, _OFF, environment)))
    rules = _without(now.rules, _OFF, environment)
    if wish.percentage is None:
        return _Plan(environment, True, tuple(_lifted(rule, environment) for rule in rules))
    default = str(feature.get("defaultValue"))
    if default == value:
        raise OptionError(f"{where} serves {value} by default, so that all get it", mend="Change its default value")
    return _Plan(environment, True, _with_share(rules, environment, (value, default), wish.percentage / 100))


def _with_share(
    rules: Tuple[_Rule, ...], environment: str, values: Tuple[str, str], coverage: float
) -> Tuple[_Rule, ...]:
    """The rules so that this share gets the first of the two values, and the others the second.

    A rollout for this environment alone is used, unless another rule has a say as well; then two of ours come before
    all others.
    """
    value, other = values
    for place, rule in enumerate(rules):
        alone = rule.get("environments") == [environment] and rule.get("allEnvironments") is not True
        if alone and rule.get("type") == "rollout" and rule.get("value") == value and not _conditional(_told(rule)):
            changed = (*rules[:place], {**rule, "coverage": coverage}, *rules[place + 1 :])
            if _is_share(_Plan(environment, True, changed), values, coverage):
                return changed
    share = {**_rule(_SHARE, value, environment), "type": "rollout", "coverage": coverage, "hashAttribute": _HASHED}
    return (share, _rule(f"{_SHARE}, the others", other, environment), *_without(rules, _SHARE, environment))


def _is_share(plan: _Plan, values: Tuple[str, str], coverage: float) -> bool:
    found = _shares([_told(rule) for rule in plan.here], values[1])
    return found is not None and abs(sum(part for value, part in found if value == values[0]) - coverage) < _EXACT


def _lifted(rule: _Rule, environment: str) -> _Rule:
    """Our share, when it is 0: on is on for somebody."""
    is_none = _is_ours(rule, _SHARE, environment) and rule.get("coverage") == 0
    return {**rule, "coverage": 1} if is_none else rule


def _without(rules: Tuple[_Rule, ...], mark: str, environment: str) -> Tuple[_Rule, ...]:
    return tuple(rule for rule in rules if not _is_ours(rule, mark, environment))


def _rule(description: str, value: str, environment: str) -> Dict[str, object]:
    scope = {"allEnvironments": False, "environments": [environment]}
    return {"type": "force", "description": description, "enabled": True, "value": value, **scope}


def _text(where: Where, value: Value, kind: object) -> str:
    """A value as the API has them: texts, whatever the feature's type is."""
    if kind == "string" and isinstance(value, str):
        return value
    is_number = number(value) is not None
    if kind == "json" or (kind == "boolean" and isinstance(value, bool)) or (kind == "number" and is_number):
        return json.dumps(value)
    raise OptionError(
        f"{where} is of type {kind}, so that it cannot serve {json.dumps(value)}",
        mend="Set serve to a value of the feature's type",
    )


def _told(rule: _Rule) -> Dict[str, object]:
    """A rule of the API as SDKs are told it, as far as it matters here: value, share, and whether it has conditions."""
    told: Dict[str, object] = {"coverage": rule.get("coverage", 1)}
    if rule.get("type") in ("force", "rollout"):
        told["force"] = rule.get("value")
    if rule.get("condition") not in (None, "", "{}"):
        told["condition"] = rule.get("condition")
    parents = [rule.get(name) for name in ("savedGroups", "savedGroupTargeting", "prerequisites", "scheduleRules")]
    if any(parents):
        told["parentConditions"] = parents
    return told


def _conditional(rule: _Rule) -> bool:
    """Does a rule depend on more than a share? Experiments do: they have variations instead of one value."""
    return "force" not in rule or any(
        rule.get(name) for name in ("condition", "parentConditions", "namespace", "range")
    )


def _shares(rules: List[_Rule], default: Value) -> Optional[List[Tuple[Value, float]]]:
    """Which value gets which share (0 to 1) by the rules in turn; None when rules that count have conditions."""
    found: List[Tuple[Value, float]] = []
    left = 1.0
    for rule in rules:
        if _conditional(rule):
            return None
        share = number(rule.get("coverage", 1))
        part = left * (1.0 if share is None else share)
        found.append((rule.get("force"), part))
        left -= part
        if left <= 0:
            return found
    return [*found, (default, left)]


def _judged(wish: Wish, shares: Optional[List[Tuple[Value, float]]]) -> Served:
    if shares is None:
        why = "it has rules with conditions or experiments, which only SDKs evaluate"
        return unknown_to_clients(why, _BY, final=wish.state != OFF)
    share = 100 * sum(part for value, part in shares if same(value, wish.serve))
    served = [value for value, part in shares if part == 1]
    percentage = 100 - share if wish.state == OFF else share
    return Served(True, served[0] if served else None, percentage=percentage, by=_BY)
