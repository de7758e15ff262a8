# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LaunchDarkly, by semantic patches; what clients are served is asked as their SDKs ask.

After the published contract: LaunchDarkly REST API, "Update feature flag" (instructions turnFlagOff, turnFlagOn and
updateFallthroughVariationOrRollout; weights are thousandths of a percent) and "Approvals"; the client side after the
open source SDKs (`/sdk/latest-all` of server SDKs, `/sdk/evalx/…` of JavaScript's, `/msdk/evalx/…` of mobile ones).

| off means | serves | verified by | tried against |
|---|---|---|---|
| targeting is off | the off variation; without one it is refused | what an SDK is given [1] | published contract |

[1] By an SDK key (`sdk-…`) its rules and so the percentage; by a mobile key (`mob-…`) or a client-side ID one value.
"""

from __future__ import annotations

import base64
import json
from typing import Dict, List, Mapping, Optional

from .._errors import OptionError
from .client import Answer, Http, refused, segment, token_of, unknown
from .model import OFF, Change, Deadline, FlagError, Options, Provider, Served, State, Value, Where, Wish
from .texts import same
from .vendors import (
    Sides,
    attributes,
    mapping,
    mappings,
    no_client,
    number,
    required,
    targeting_key,
    texts,
    unknown_to_clients,
    without_token,
)

_URL = "https://app.launchdarkly.com"
_SERVER_SDK, _CLIENT_SDK = "https://sdk.launchdarkly.com", "https://clientsdk.launchdarkly.com"
_SEMANTIC = {"Content-Type": "application/json; domain-model=launchdarkly.semanticpatch"}
_WHOLE = 100_000  # 100 % in LaunchDarkly's weights
_DEFAULT = "clients get their code's default"


def build(options: Options, deadline: Deadline) -> Provider:
    return LaunchDarkly(Sides(options, deadline, "/api/v2"))


def _headers(token: str) -> Dict[str, str]:
    if token.startswith(("sdk-", "mob-")):
        raise OptionError(
            "provider.token is an SDK's key, which cannot change flags",
            mend="Set an access token (api-…); the SDK's key is client_token",
        )
    return {"Authorization": token}


class LaunchDarkly:
    """`where.project` is the project's key (`default` when nobody says), `where.environment` the environment's."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides

    @property
    def _http(self) -> Http:
        return self._sides.management(_URL, _headers)

    def state(self, where: Where) -> State:
        environment = required(where.environment, "environment", "LaunchDarkly", "production")
        answer = self._http.get(self._path(where), {"env": environment})
        if answer.status in (400, 404):
            raise self._not_there(where, answer)
        if not answer.ok:
            raise refused(answer, f"reading {where}", mend="Set an access token (api-…) of the right account")
        settings = mapping(mapping(answer.fields.get("environments")).get(environment))
        if not settings:
            raise self._no_environment(where) or refused(answer, f"reading {where} in {environment}")
        if answer.fields.get("archived") is True or settings.get("archived") is True:
            raise FlagError(f"{where} is archived: {_DEFAULT}", mend="Restore the flag first, or change the code")
        flag = {"variations": answer.fields.get("variations"), "settings": settings}
        return State(
            on=settings.get("on") is True,
            percentage=None if _targets(settings) else _on_side(settings),
            variation=_name(flag, _fallthrough(settings)),
            revision=str(answer.fields.get("_version", "")),
            raw=flag,
        )

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        if wish.state == OFF:
            self._off_value(where, wish, state)
            return state.on
        instruction = _rollout(where, wish, state)
        return not state.on or (bool(instruction) and _differs(instruction, state))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        instructions: List[Mapping[str, object]] = [{"kind": "turnFlagOff"}]
        query = {"ignoreConflicts": "true"}  # off must not wait for somebody's scheduled change
        if wish.state != OFF:
            rollout = _rollout(where, wish, state)
            instructions = [*([rollout] if rollout else []), *([] if state.on else [{"kind": "turnFlagOn"}])]
            query = {}
        body: Dict[str, object] = {"environmentKey": where.environment, "instructions": instructions}
        if wish.reason:
            body["comment"] = wish.reason
        answer = self._http.ask("PATCH", self._path(where), body, query=query, headers=_SEMANTIC)
        if answer.status == 405:
            return self._approval(where, wish, instructions)
        if not answer.ok:
            hints = {400: "it is invalid, or would make a scheduled change or an approval request fail"}
            raise refused(answer, f"turning {where} {wish.state}", hints)
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        key = token_of(self._sides.options, client=True, needed=False)
        if not key:
            return without_token()
        if key.startswith("api-"):
            raise OptionError(
                "provider.client_token is an access token, which no client has",
                mend="Set an SDK key (sdk-…), a mobile key (mob-…) or a client-side ID",
            )
        return self._by_rules(where, wish, key) if key.startswith("sdk-") else self._by_value(where, wish, key)

    def close(self) -> None:
        self._sides.close()

    def _path(self, where: Where) -> str:
        return f"/api/v2/flags/{segment(where.project or 'default')}/{segment(where.flag)}"

    def _off_value(self, where: Where, wish: Wish, state: State) -> None:
        """OptionError unless off serves what is wished."""
        values, off = _values(state.raw), _off_variation(mapping(state.raw["settings"]))
        if off is None or off >= len(values):
            raise OptionError(
                f"{where}: no off variation is set: clients would get their code's default",
                mend="Set the flag's off variation in this environment",
            )
        value = values[off]
        if not same(value, wish.serve):
            raise OptionError(
                f"{where}: its off variation serves {json.dumps(value)}, not {json.dumps(wish.serve)}",
                mend="Set serve to what its off variation serves, or set another off variation",
            )

    def _approval(self, where: Where, wish: Wish, instructions: List[Mapping[str, object]]) -> Change:
        """The environment takes only what is approved: ask for it, unless that was done already."""
        path = (
            f"/api/v2/projects/{segment(where.project or 'default')}/flags/{segment(where.flag)}"
            f"/environments/{segment(where.environment)}/approval-requests"
        )
        found = self._http.get(path)
        if not found.ok:
            raise refused(found, f"looking for approval requests of {where}")
        kinds = [one.get("kind") for one in instructions]
        for one in mappings(found.fields.get("items")):
            if one.get("status") == "pending" and texts(one.get("instructions"), "kind") == kinds:
                return _waiting(one)
        text = wish.reason or f"turn {where.flag} {wish.state}"
        asked = self._http.ask("POST", path, {"description": text, "instructions": instructions})
        if not asked.ok:
            raise refused(asked, f"asking for approval to turn {where} {wish.state}")
        return _waiting(asked.fields)

    def _by_rules(self, where: Where, wish: Wish, key: str) -> Served:
        answer = self._sides.clients(_SERVER_SDK, {"Authorization": key}).get("/sdk/latest-all")
        self._taken(answer, where)
        flag = mapping(mapping(answer.fields.get("flags")).get(where.flag))
        by = "rules that server SDKs are given"
        if not flag:
            return unknown_to_clients(f"clients have no flag {where.flag!r}: {_DEFAULT}", by)
        values = flag.get("variations")
        values = values if isinstance(values, list) else []
        if flag.get("on") is not True:
            return _served(values, _off_variation(flag), 0.0, by)
        if _targets(flag):
            why = "it is on, and has targets, rules or prerequisites that only SDKs evaluate"
            return unknown_to_clients(why, by, final=wish.state != OFF)
        share = _share(flag, values, wish)
        chosen = _fallthrough(flag)
        if chosen is None:
            return Served(known=True, percentage=share, why="it is split by weights", by=by)
        return _served(values, chosen, share, by)

    def _by_value(self, where: Where, wish: Wish, key: str) -> Served:
        text = json.dumps(_context(wish), separators=(",", ":")).encode()
        context = base64.urlsafe_b64encode(text).decode()
        if key.startswith("mob-"):
            http, path = self._sides.clients(_CLIENT_SDK, {"Authorization": key}), f"/msdk/evalx/contexts/{context}"
        else:
            http, path = self._sides.clients(_CLIENT_SDK, {}), f"/sdk/evalx/{segment(key)}/contexts/{context}"
        answer = http.get(path)
        self._taken(answer, where)
        found = mapping(answer.fields.get(where.flag))
        by = "evaluation for client-side SDKs"
        if not found:
            return unknown_to_clients(f"client-side SDKs are not given flag {where.flag!r}: {_DEFAULT}", by)
        if found.get("variation") is None:
            return unknown_to_clients(f"no variation is served: {_DEFAULT}", by)
        return Served(known=True, value=found.get("value"), by=by)

    def _taken(self, answer: Answer, where: Where) -> None:
        what = f"asking what clients are served of {where}"
        if answer.status in (400, 401, 403, 404):
            raise no_client(answer, what, "SDK key, mobile key or client-side ID of this environment")
        if not answer.ok:
            raise refused(answer, what)

    def _not_there(self, where: Where, answer: Answer) -> FlagError:
        project = where.project or "default"
        flags = self._http.get(f"/api/v2/flags/{segment(project)}", {"limit": "100", "summary": "true"})
        if where.flag in texts(flags.fields.get("items"), "key"):
            missing = self._no_environment(where)
            return missing or refused(answer, f"reading {where}")
        if flags.ok:
            return unknown("flag", where.flag, texts(flags.fields.get("items"), "key"), f"project {project!r}")
        projects = self._http.get("/api/v2/projects", {"limit": "100"})
        if flags.status == 404 and projects.ok:
            return unknown("project", project, texts(projects.fields.get("items"), "key"))
        return refused(flags, f"looking for the flags of project {project!r}")

    def _no_environment(self, where: Where) -> Optional[FlagError]:
        """The error for an environment that is not there; None when it is."""
        project = where.project or "default"
        found = self._http.get(f"/api/v2/projects/{segment(project)}/environments", {"limit": "100"})
        names = texts(found.fields.get("items"), "key") if found.ok else []
        if where.environment in names:
            return None
        return unknown("environment", where.environment, names, f"project {project!r}")


def _context(wish: Wish) -> Dict[str, object]:
    known = attributes(wish)
    return {"kind": "user", "key": targeting_key(wish), "anonymous": "targetingKey" not in wish.context, **known}


def _waiting(request: Mapping[str, object]) -> Change:
    name = request.get("_id")
    if request.get("reviewStatus") == "approved":
        return Change(pending=f"approval request {name} is approved, and not applied yet")
    return Change(pending=f"approval request {name} waits for its review")


def _values(flag: Mapping[str, object]) -> List[Value]:
    return [one.get("value") for one in mappings(flag["variations"])]


def _off_variation(settings: Mapping[str, object]) -> Optional[int]:
    found = settings.get("offVariation")
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def _fallthrough(settings: Mapping[str, object]) -> Optional[int]:
    """The one variation that is served where nothing else holds; None when it is split."""
    found = mapping(settings.get("fallthrough")).get("variation")
    return found if isinstance(found, int) else None


def _weights(settings: Mapping[str, object]) -> Dict[int, float]:
    """How many of 100,000 get which variation, where nothing else holds."""
    chosen = _fallthrough(settings)
    if chosen is not None:
        return {chosen: _WHOLE}
    weights: Dict[int, float] = {}
    for one in mappings(mapping(mapping(settings.get("fallthrough")).get("rollout")).get("variations")):
        index, weight = one.get("variation"), number(one.get("weight"))
        if isinstance(index, int) and weight:
            weights[index] = weights.get(index, 0) + weight
    return weights


def _on_side(settings: Mapping[str, object]) -> Optional[float]:
    """How many of 100 do not get the off variation, where nothing else holds."""
    weights, off = _weights(settings), _off_variation(settings)
    if not weights or off is None:
        return None
    return sum(weight for index, weight in weights.items() if index != off) * 100 / _WHOLE


def _share(settings: Mapping[str, object], values: List[Value], wish: Wish) -> float:
    """How many of 100 get what is wished, where nothing else holds; with off, how many do not."""
    weights = {index: part for index, part in _weights(settings).items() if index < len(values)}
    meant = sum(part for index, part in weights.items() if same(values[index], wish.serve))
    return (sum(weights.values()) - meant if wish.state == OFF else meant) * 100 / _WHOLE


def _targets(settings: Mapping[str, object]) -> bool:
    """Does what is served depend on who asks, by more than a number?"""
    individual = mappings(settings.get("targets")) + mappings(settings.get("contextTargets"))
    return any(one.get("values") for one in individual) or any(settings.get(n) for n in ("rules", "prerequisites"))


def _served(values: List[Value], index: Optional[int], percentage: Optional[float], by: str) -> Served:
    if index is None or not 0 <= index < len(values):
        return unknown_to_clients(f"no off variation is set: {_DEFAULT}", by)
    return Served(known=True, value=values[index], percentage=percentage, by=by)


def _name(flag: Mapping[str, object], index: Optional[int]) -> str:
    found = mappings(flag["variations"])
    if index is None or not 0 <= index < len(found):
        return ""
    return str(found[index].get("name") or json.dumps(found[index].get("value")))


def _wished(where: Where, wish: Wish, state: State) -> int:
    """The variation that is meant, by its name, or by the value it serves."""
    names = [_name(state.raw, index) for index in range(len(_values(state.raw)))]
    if wish.variation:
        if wish.variation not in names:
            raise OptionError(f"{where} has no variation {wish.variation!r}", mend=f"It has {', '.join(names)}")
        return names.index(wish.variation)
    found = [index for index, value in enumerate(_values(state.raw)) if same(value, wish.serve)]
    if len(found) != 1:
        raise OptionError(
            f"{where} has {len(found)} variations that serve {json.dumps(wish.serve)}",
            mend=f"Name one by variation: {', '.join(names)}",
        )
    return found[0]


def _rollout(where: Where, wish: Wish, state: State) -> Dict[str, object]:
    """The instruction for whom nothing else holds; empty when the flag's own rules are to stay."""
    if wish.percentage is None and not wish.variation:
        return {}
    settings, ids = mapping(state.raw["settings"]), texts(state.raw["variations"], "_id")
    meant, off = _wished(where, wish, state), _off_variation(settings)
    percentage = 100.0 if wish.percentage is None else wish.percentage
    kind = "updateFallthroughVariationOrRollout"
    if percentage == 100:
        return {"kind": kind, "variationId": ids[meant]}
    if off is None or off == meant or off >= len(ids):
        raise OptionError(
            f"{where}: no off variation is set besides the one to be served, so that the others have nothing to get",
            mend="Set the flag's off variation in this environment",
        )
    if percentage == 0:
        return {"kind": kind, "variationId": ids[off]}
    weight = round(percentage * _WHOLE / 100)
    return {"kind": kind, "rolloutWeights": {ids[meant]: weight, ids[off]: _WHOLE - weight}}


def _differs(instruction: Mapping[str, object], state: State) -> bool:
    ids = texts(state.raw["variations"], "_id")
    now = {ids[index]: weight for index, weight in _weights(mapping(state.raw["settings"])).items()}
    one = instruction.get("variationId")
    return now != ({one: _WHOLE} if one else instruction.get("rolloutWeights"))
