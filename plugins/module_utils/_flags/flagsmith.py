# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flagsmith: the feature's state in one environment; what clients are served comes from the Flags API.

After the published contract: Flagsmith docs, "Direct API Access" (featurestates, read by feature_name and patched),
"Updating Flags (Experimental)" for environments with feature versioning, and "Flags API" (`/api/v1/flags/`).

| off means | serves | verified by | tried against |
|---|---|---|---|
| `enabled: false` in the environment | false (disabled) | Flags API, and overrides that are on | published contract |

Flagsmith has percentages for segments and multivariate values only, so that those between 0 and 100 are refused. With
a `serve` that is no truth value, on sets the feature's value.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

from .._errors import OptionError
from .client import Answer, Http, refused, segment, token_of, unknown
from .model import OFF, Change, Deadline, FlagError, Options, Provider, Served, State, Value, Where, Wish
from .texts import same
from .vendors import Sides, mapping, mappings, required, texts, unknown_to_clients

_URL, _EDGE = "https://api.flagsmith.com", "https://edge.api.flagsmith.com"
_BY = "Flags API"


def build(options: Options, deadline: Deadline) -> Provider:
    return Flagsmith(Sides(options, deadline, "/api/v1"))


def _headers(token: str) -> Dict[str, str]:
    if token.startswith("ser."):
        raise OptionError(
            "provider.token is a server-side environment key, which cannot change flags",
            mend="Set an organisation's API key; the environment's key is client_token",
        )
    return {"Authorization": f"Api-Key {token}"}


class Flagsmith:
    """`where.project` is the project's number; with it, `where.environment` may be a name, else it is the key."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._environments: Dict[Where, Mapping[str, object]] = {}
        self._overrides: Dict[Where, int] = {}

    @property
    def _http(self) -> Http:
        return self._sides.management(_URL, _headers)

    def state(self, where: Where) -> State:
        environment = self._environment(where)
        answer = self._http.get(f"{_of(environment)}/featurestates/", {"feature_name": where.flag})
        if not answer.ok:
            raise refused(answer, f"reading {where}")
        found = mappings(answer.fields.get("results"))
        if not found:
            raise self._not_there(where, environment)
        if len(found) > 1:
            raise FlagError(f"{where} has {len(found)} states in one environment", mend="Look at it in Flagsmith")
        value = found[0].get("feature_state_value")
        return State(
            on=found[0].get("enabled") is True,
            variation="" if value is None else str(value),
            raw={"environment": environment, "state": found[0]},
        )

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        if wish.variation:
            raise OptionError("Flagsmith's flags have no variations by name", mend="Set serve to the value")
        if wish.partial:
            raise OptionError(
                f"Flagsmith has no percentage of a flag, so {wish.percentage:g} % cannot be set",
                mend="Make a segment with a percentage split in Flagsmith, or use 0 or 100",
            )
        if not _on(wish):
            if wish.state == OFF and wish.serve is not False:
                raise OptionError("off serves false in Flagsmith: the flag is disabled", mend="Set serve to false")
            return state.on
        return not state.on or not (_is_switch(wish) or same(_value(state), wish.serve))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        environment = mapping(state.raw["environment"])
        if environment.get("minimum_change_request_approvals") is not None:
            raise FlagError(
                f"{where} takes changes by change request only; nothing was changed",
                mend="Make the change request in Flagsmith, and have it approved there",
            )
        value = _value(state) if _is_switch(wish) else wish.serve
        if environment.get("use_v2_feature_versioning") is True:
            answer = self._new_version(where, environment, _on(wish), value)
        else:
            body: Dict[str, object] = {"enabled": _on(wish)}
            if not _is_switch(wish):
                body["feature_state_value"] = value
            path = f"{_of(environment)}/featurestates/{segment(str(mapping(state.raw['state']).get('id')))}/"
            answer = self._http.ask("PATCH", path, body)
        if not answer.ok:
            raise refused(answer, f"turning {where} {wish.state}")
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        key = self._client_key(where)
        clients = self._sides.clients(self._sides.options.url or _EDGE, {"X-Environment-Key": key})
        answer = clients.get("/api/v1/flags/")
        if not answer.ok:
            hints = {401: "client_token is no environment key", 403: "client_token is no environment key"}
            raise refused(answer, f"asking what clients are served of {where}", hints)
        found = [one for one in mappings(answer.data) if mapping(one.get("feature")).get("name") == where.flag]
        if len(found) != 1:
            return unknown_to_clients(f"clients are given no flag {where.flag!r}: they get their code's default", _BY)
        enabled, value = found[0].get("enabled") is True, found[0].get("feature_state_value")
        if not enabled and self._still_on(where):
            return unknown_to_clients(f"{self._overrides[where]} segments or identities still have it turned on", _BY)
        return Served(known=True, value=value if enabled and not _is_switch(wish) else enabled, by=_BY)

    def close(self) -> None:
        self._sides.close()

    def _client_key(self, where: Where) -> str:
        """The environment's own key, unless clients have another one, of servers; OptionError for another's."""
        key = token_of(self._sides.options, client=True, needed=False)
        if key and (key.startswith("ser.") or not self._sides.may_manage):
            return key
        own = str(self._environment(where)["api_key"])
        if key and key != own:
            raise OptionError(
                f"client_token is no environment key of {where.environment}",
                mend="Leave it out, or set it to that environment's client-side or server-side key",
            )
        return own

    def _environment(self, where: Where) -> Mapping[str, object]:
        if where not in self._environments:
            self._environments[where] = self._looked_up(where)
        return self._environments[where]

    def _looked_up(self, where: Where) -> Mapping[str, object]:
        name = required(where.environment, "environment", "Flagsmith", "its name with project, or its key")
        if not where.project:
            answer = self._http.get(f"/api/v1/environments/{segment(name)}/")
            if answer.status == 404:
                raise unknown("environment", name, (), mend="Name its key, or set project to the project's number")
            return _taken(answer, where).fields
        answer = self._http.get("/api/v1/environments/", {"project": where.project})
        hints = {400: "there is no such project", 404: "there is no such project"}
        known = mappings(_taken(answer, where, hints).fields.get("results"))
        for one in known:
            if name in (one.get("name"), one.get("api_key")):
                return one
        raise unknown("environment", name, texts(list(known), "name"), f"project {where.project}")

    def _still_on(self, where: Where) -> bool:
        """Do segments or identities have it turned on, whatever the environment's default is? Looked up once."""
        if where not in self._overrides and self._sides.may_manage:
            state = mapping(self.state(where).raw["state"])
            query = {"environment": str(self._environment(where).get("id")), "feature": str(_feature(state))}
            found: List[Mapping[str, object]] = []
            page, more = 1, True
            while more:
                number = {"page": str(page)} if page > 1 else {}
                answer = _taken(self._http.get("/api/v1/features/featurestates/", {**query, **number}), where)
                found += [one for one in mappings(answer.fields.get("results")) if one.get("enabled") is True]
                page, more = page + 1, bool(answer.fields.get("next"))
            self._overrides[where] = len([one for one in found if one.get("feature_segment") or one.get("identity")])
        return self._overrides.get(where, 0) > 0

    def _new_version(self, where: Where, environment: Mapping[str, object], on: bool, value: Value) -> Answer:
        """With feature versioning, a state is not patched: a new version of it is published."""
        path = f"/api/experiments/environments/{segment(str(environment.get('api_key')))}/update-flag-v1/"
        body = {"feature": {"name": where.flag}, "enabled": on, "value": _typed(value)}
        return self._http.ask("POST", path, body)

    def _not_there(self, where: Where, environment: Mapping[str, object]) -> FlagError:
        project = environment.get("project")
        answer = self._http.get(f"/api/v1/projects/{segment(str(project))}/features/", {"page_size": "100"})
        names: List[str] = texts(answer.fields.get("results"), "name") if answer.ok else []
        return unknown("flag", where.flag, names, f"project {project}")


def _of(environment: Mapping[str, object]) -> str:
    return f"/api/v1/environments/{segment(str(environment.get('api_key')))}"


def _taken(answer: Answer, where: Where, hints: Optional[Mapping[int, str]] = None) -> Answer:
    if not answer.ok:
        raise refused(answer, f"looking up {where}", hints)
    return answer


def _on(wish: Wish) -> bool:
    return wish.state != OFF and wish.percentage != 0


def _is_switch(wish: Wish) -> bool:
    """Is it about being enabled, and not about the feature's value?"""
    return isinstance(wish.serve, bool) or not _on(wish)


def _value(state: State) -> Value:
    return mapping(state.raw["state"]).get("feature_state_value")


def _feature(state: Mapping[str, object]) -> object:
    """The feature's number, which stands by itself or in the feature's object."""
    feature = state.get("feature")
    return mapping(feature).get("id") if isinstance(feature, Mapping) else feature


def _typed(value: Value) -> Dict[str, str]:
    if isinstance(value, bool):
        return {"type": "boolean", "value": str(value).lower()}
    if isinstance(value, int):
        return {"type": "integer", "value": str(value)}
    return {"type": "string", "value": "" if value is None else str(value)}
