# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GitLab's feature flags: `active` is for all environments, so that one environment is turned off by its strategies.

After the published contract: GitLab docs, "Feature flag API" (get, list and update; `strategies:_destroy` and
`strategies:scopes:_destroy`), and "Feature flags", whose Unleash clients ask
`/api/v4/feature_flags/unleash/:project_id/client/features` by instance ID and application name, the environment.

| off means | serves | verified by | tried against |
|---|---|---|---|
| a share of 0 % in the environment; for all: `active: false` [1] | false | Unleash client API | published contract |

[1] Strategies with a wildcard scope are left alone: they say what to do in other environments as well. A flag that
has no strategy in an environment is not told to its clients at all, so one with a share of 0 takes their place.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from math import isfinite
from typing import Dict, List, Mapping, Optional

from .._errors import OptionError
from .client import Http, refused, segment, token_of, unknown
from .model import OFF, Change, Deadline, FlagError, Options, Provider, Served, State, Where, Wish
from .vendors import Sides, itself, mapping, mappings, required, texts, unknown_to_clients, without_token

_URL = "https://gitlab.com"
_SHARES = {"flexibleRollout": "rollout", "gradualRolloutUserId": "percentage"}  # strategy: its parameter
_EVERYBODY = "default"
_BY = "Unleash client API"
_Strategy = Mapping[str, object]


def build(options: Options, deadline: Deadline) -> Provider:
    return GitLab(Sides(options, deadline, "/api/v4"))


def _headers(token: str) -> Dict[str, str]:
    if token.startswith("glffct-"):
        raise OptionError(
            "provider.token is a client's instance ID, which cannot change flags",
            mend="Set an access token with scope api; the instance ID is client_token",
        )
    return {"PRIVATE-TOKEN": token}


class GitLab:
    """`where.project` is the project's number or path; `where.environment` '' stands for all of them."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._numbers: Dict[str, str] = {}

    @property
    def _http(self) -> Http:
        return self._sides.management(_URL, _headers)

    def state(self, where: Where) -> State:
        answer = self._http.get(_path(where))
        if answer.status == 404:
            raise self._not_there(where)
        if not answer.ok:
            raise refused(answer, f"reading {where}")
        flag = itself(answer.fields, "name", where)
        share = _share(_matching(flag, where.environment))
        on = flag.get("active") is True and share != 0
        return State(on=on, percentage=share, revision=str(flag.get("updated_at", "")), raw=flag)

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        return bool(_body(where, wish, state.raw))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        answer = self._http.ask("PUT", _path(where), _body(where, wish, state.raw))
        if not answer.ok:
            raise refused(answer, f"turning {where} {wish.state}")
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        token = token_of(self._sides.options, client=True, needed=False)
        if not token:
            return without_token()
        clients = self._sides.clients(self._sides.options.url or _URL, {"UNLEASH-INSTANCEID": token})
        path = f"/api/v4/feature_flags/unleash/{self._number(where)}/client/features"
        answer = clients.ask("GET", path, headers={"UNLEASH-APPNAME": self._some_environment(where)})
        if not answer.ok:
            hints = {401: "client_token is not the instance ID of this project's feature flags"}
            raise refused(answer, f"asking what clients are served of {where}", hints)
        found = [one for one in mappings(answer.fields.get("features")) if one.get("name") == where.flag]
        if len(found) != 1:
            return unknown_to_clients(f"clients are given no flag {where.flag!r}: they get their code's default", _BY)
        strategies = mappings(found[0].get("strategies"))
        share = _share(strategies) if found[0].get("enabled") is True else 0.0
        if share is None or (share == 0 and found[0].get("enabled") is True and not strategies):  # SDKs differ there
            why = "it is on for named users, by several shares, or by nothing, which only SDKs evaluate"
            return unknown_to_clients(why, _BY, final=wish.state != OFF)
        value = {0.0: False, 100.0: True}.get(share)
        return Served(known=True, value=value, percentage=share, by=_BY)

    def close(self) -> None:
        self._sides.close()

    def _number(self, where: Where) -> str:
        """The project's number, which is what clients name it by."""
        project = required(where.project, "project", "GitLab", "group/app, or its number")
        if project.isdigit():
            return project
        if project not in self._numbers:
            answer = self._http.get(f"/api/v4/projects/{segment(project)}")
            if not answer.ok:
                raise refused(answer, f"looking for the number of project {project!r}")
            self._numbers[project] = str(answer.fields.get("id"))
        return self._numbers[project]

    def _some_environment(self, where: Where) -> str:
        """The environment; one that the flag has a strategy for where none is named."""
        if where.environment:
            return where.environment
        if self._sides.may_manage:
            scopes = [name for one in mappings(self.state(where).raw.get("strategies")) for name in _scopes(one)]
            return next((name for name in scopes if "*" not in name), "production")
        return "production"

    def _not_there(self, where: Where) -> FlagError:
        flags = self._http.get(f"/api/v4/projects/{segment(where.project)}/feature_flags", {"per_page": "100"})
        names = texts(flags.data, "name")
        if where.flag in names:
            return FlagError(f"{where} is a legacy flag, which the API lists only", mend="Make it anew in GitLab")
        if flags.ok:
            return unknown("flag", where.flag, names, f"project {where.project!r}")
        projects = self._http.get("/api/v4/projects", {"membership": "true", "simple": "true", "per_page": "100"})
        if flags.status == 404 and projects.ok:
            return unknown("project", where.project, texts(projects.data, "path_with_namespace"))
        return refused(flags, f"looking for the flags of project {where.project!r}")


def _path(where: Where) -> str:
    project = required(where.project, "project", "GitLab", "group/app, or its number")
    return f"/api/v4/projects/{segment(project)}/feature_flags/{segment(where.flag)}"


def _scopes(strategy: _Strategy) -> List[str]:
    return texts(strategy.get("scopes"), "environment_scope")


def _matching(flag: Mapping[str, object], environment: str) -> List[_Strategy]:
    """The strategies that count in the environment; '': that count anywhere."""
    found = mappings(flag.get("strategies"))
    if not environment:
        return [one for one in found if _scopes(one)]
    return [one for one in found if any(fnmatchcase(environment, scope) for scope in _scopes(one))]


def _share(strategies: List[_Strategy]) -> Optional[float]:
    """How many of 100 get it: one strategy that lets somebody is enough. None where that is more than one number."""
    names = [one.get("name") for one in strategies]
    if _EVERYBODY in names:
        return 100.0
    if any(name not in _SHARES for name in names):
        return None
    found = {_percentage(one) for one in strategies} - {0.0}
    if None in found:
        return None
    return 0.0 if not found else found.pop() if len(found) == 1 else None


def _percentage(strategy: _Strategy) -> Optional[float]:
    """None where it is no number, which nobody knows what SDKs make of."""
    value = mapping(strategy.get("parameters")).get(_SHARES[str(strategy.get("name"))], 0)
    try:
        found = float(str(value))
    except ValueError:
        return None
    return found if isfinite(found) else None


def _body(where: Where, wish: Wish, flag: Mapping[str, object]) -> Dict[str, object]:
    """What to send so that it is as wished; nothing when it is."""
    _insist(where, wish)
    active, environment = flag.get("active") is True, where.environment
    share = _share(_matching(flag, environment))
    if wish.state == OFF:
        if not active or (environment and share == 0):
            return {}
        return {"strategies": _at(where, flag, 0, keeps=True)} if environment else {"active": False}
    body: Dict[str, object] = {}
    if not active:
        if environment and any(_scopes(one) != [environment] for one in _matching(flag, "")):
            raise OptionError(
                f"{where} is inactive, and to make it active would turn it on in other environments as well",
                mend="Leave environment empty to turn it on everywhere, or change its strategies in GitLab first",
            )
        body["active"] = True
    if wish.percentage is None:
        again = _again(where, flag) if environment and share == 0 else []
    else:
        again = [] if share == wish.percentage else _at(where, flag, int(wish.percentage))
    return {**body, "strategies": again} if again else body


def _insist(where: Where, wish: Wish) -> None:
    if wish.variation:
        raise OptionError("GitLab's flags have no variations", mend="Leave variation out")
    if wish.serve is not (wish.state != OFF):
        raise OptionError(f"{where}: on serves true, off serves false in GitLab", mend="Set serve so")
    if wish.percentage is not None and wish.percentage != int(wish.percentage):
        raise OptionError(f"GitLab has whole percentages, not {wish.percentage:g}", mend="Set a whole percentage")
    if wish.percentage is not None and not where.environment:
        raise OptionError(f"{where}: a percentage is of one environment", mend="Set environment")


def _at(where: Where, flag: Mapping[str, object], percentage: int, *, keeps: bool = False) -> List[Dict[str, object]]:
    """One share in the environment, and no other strategy there: those are kept, without this environment.

    A share that is there is changed, unless it `keeps` that as well, for `_again`. A new one ends what was kept of old.
    """
    old = [one for one in mappings(flag.get("strategies")) if one.get("name") in _SHARES and not _scopes(one)]
    changes: List[Dict[str, object]] = [{"id": one.get("id"), "_destroy": True} for one in old if percentage]
    taken = False
    for one in _matching(flag, where.environment):
        if where.environment not in _scopes(one):
            raise OptionError(
                f"{where} has a strategy for {', '.join(_scopes(one))}, which counts in other environments as well",
                mend="Leave environment empty to turn it off everywhere, or split that strategy in GitLab",
            )
        is_share = one.get("name") in _SHARES and not (keeps and _percentage(one) != 0)
        if is_share and not taken and _scopes(one) == [where.environment]:
            parameter = {_SHARES[str(one["name"])]: str(percentage)}
            changes.append({"id": one.get("id"), "parameters": {**mapping(one.get("parameters")), **parameter}})
            taken = True
        else:
            gone = [s for s in mappings(one.get("scopes")) if s.get("environment_scope") == where.environment]
            changes.append({"id": one.get("id"), "scopes": [{"id": s.get("id"), "_destroy": True} for s in gone]})
    if not taken:
        parameters = {"rollout": str(percentage), "groupId": "default", "stickiness": "default"}
        scopes = [{"environment_scope": where.environment}]
        changes.append({"name": "flexibleRollout", "parameters": parameters, "scopes": scopes})
    return changes


def _again(where: Where, flag: Mapping[str, object]) -> List[Dict[str, object]]:
    """Undo a share of 0: the strategies that were left without an environment get this one back, or all get it."""
    bare = [one for one in mappings(flag.get("strategies")) if not _scopes(one)]
    if not bare:
        return _at(where, flag, 100)
    changes: List[Dict[str, object]] = [
        {"id": one.get("id"), "scopes": [{"environment_scope": where.environment}]} for one in bare
    ]
    none = [one for one in _matching(flag, where.environment) if one.get("name") == "flexibleRollout"]
    return changes + [{"id": one.get("id"), "_destroy": True} for one in none if _scopes(one) == [where.environment]]
