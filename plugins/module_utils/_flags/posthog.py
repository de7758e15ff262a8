# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostHog: a flag is found by its key, changed by its number, and left out of what clients get when it is inactive.

After the published contract: PostHog docs, API "Feature flags" (list with search, partial update by id; `version`
pins it), "Approvals" (a gated change answers 409 with a change request), "Projects" (`api_token`), and "Flags, the
feature flags evaluation API endpoint" (`/flags/?v=2`, as its SDKs write it).

| off means | serves | verified by | tried against |
|---|---|---|---|
| `active: false` | no value: PostHog's SDKs say that it is not enabled [1] | `/flags` endpoint | published contract |

[1] To be absent counts as false only after the project says that client_token is its own: in another project's answer
the flag would be absent as well.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

from .._errors import OptionError
from .client import Answer, Http, refused, segment, token_of, unknown
from .model import OFF, Change, Deadline, FlagError, Options, Provider, Served, State, Where, Wish
from .vendors import (
    Sides,
    attributes,
    mapping,
    mappings,
    number,
    targeting_key,
    texts,
    unknown_to_clients,
    without_token,
)

_URL, _CLIENTS = "https://us.posthog.com", "https://us.i.posthog.com"
_CURRENT = "@current"  # the project of the key
_BY = "flags endpoint"
_DISABLED = "flag_disabled"
_GATED = ("approval_required", "change_request_pending")


def build(options: Options, deadline: Deadline) -> Provider:
    return PostHog(Sides(options, deadline))


def _headers(token: str) -> Dict[str, str]:
    if token.startswith("phc_"):
        raise OptionError(
            "provider.token is a project's token, which cannot change flags",
            mend="Set a personal API key (phx_…) with scope feature_flag:write; the project's token is client_token",
        )
    return {"Authorization": f"Bearer {token}"}


class PostHog:
    """`where.project` is the project's number (the key's own when nobody says); environments are projects there."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._is_own: Optional[bool] = None

    @property
    def _http(self) -> Http:
        return self._sides.management(_URL, _headers)

    def state(self, where: Where) -> State:
        answer = self._http.get(f"{_project(where)}feature_flags/", {"search": where.flag, "limit": "100"})
        if answer.status == 404:
            raise self._no_project(where)
        flags = mappings(_taken(answer, f"reading {where}").fields.get("results"))
        found = [one for one in flags if one.get("key") == where.flag and one.get("deleted") is not True]
        if not found:
            raise self._not_there(where)
        if len(found) > 1:
            raise FlagError(f"{len(found)} flags have the key {where.flag!r}", mend="Delete or rename the others")
        flag = found[0]
        version = "" if flag.get("version") is None else str(flag["version"])
        return State(on=flag.get("active") is True, percentage=_share(flag), revision=version, raw=flag)

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        return bool(_changes(where, wish, state.raw))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        body = _changes(where, wish, state.raw)
        if state.raw.get("version") is not None:
            body["version"] = state.raw["version"]
        answer = self._http.ask("PATCH", f"{_project(where)}feature_flags/{segment(str(state.raw.get('id')))}/", body)
        if answer.status == 409 and answer.fields.get("code") in _GATED:
            return Change(pending=f"change request {answer.fields.get('change_request_id')} waits for its approval")
        _taken(answer, f"turning {where} {wish.state}")
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        token = token_of(self._sides.options, client=True, needed=False)
        if not token:
            return without_token()
        if token.startswith("phx_"):
            raise OptionError(
                "provider.client_token is a personal API key, which no client has",
                mend="Set the project's token (phc_…)",
            )
        body = {"api_key": token, "distinct_id": targeting_key(wish), "person_properties": attributes(wish)}
        clients = self._sides.clients(self._sides.options.url or _CLIENTS, {})
        answer = clients.ask("POST", "/flags/", body, query={"v": "2"}, evaluates=True)
        if not answer.ok:
            hints = {401: "client_token is no project's token"}
            raise refused(answer, f"asking what clients are served of {where}", hints)
        flags = answer.fields.get("flags")
        if not isinstance(flags, Mapping) or answer.fields.get("errorsWhileComputingFlags") is True:
            return unknown_to_clients("PostHog could not compute the flags", _BY, final=False)
        if answer.fields.get("quotaLimited"):
            return unknown_to_clients("PostHog's quota of flag requests is used up: clients get no flags", _BY)
        return self._served(where, wish, mapping(flags.get(where.flag)))

    def close(self) -> None:
        self._sides.close()

    def _served(self, where: Where, wish: Wish, flag: Mapping[str, object]) -> Served:
        if not flag:
            return self._absent(where)
        if mapping(flag.get("reason")).get("code") == _DISABLED:
            return Served(known=True, value=False, percentage=0.0, by=_BY)
        if wish.state == OFF and not wish.looks:
            # one person who does not get it says nothing about the others
            return Served(known=True, value=flag.get("variant") or True, why="it is still active", by=_BY)
        value = (flag.get("variant") or True) if flag.get("enabled") is True else False
        if wish.percentage is None or not self._sides.may_manage:
            return Served(known=True, value=value, by=_BY)
        share = _share(self.state(where).raw)
        return Served(known=True, value=value, percentage=share, by=f"{_BY}, and release conditions")

    def _absent(self, where: Where) -> Served:
        """Not among the flags: inactive, or the token is of a project that has no such flag."""
        if self._is_own is None and self._sides.may_manage:
            answer = self._http.get(_project(where))
            token = token_of(self._sides.options, client=True)
            self._is_own = answer.fields.get("api_token") == token if answer.ok else None
        if self._is_own:
            return Served(known=True, value=False, percentage=0.0, by=f"{_BY}: not among the flags")
        if self._is_own is None:
            why = "the flag is not served, but whether client_token is of this project cannot be asked (project:read)"
            return unknown_to_clients(why, _BY)
        return unknown_to_clients("client_token is another project's, which has no such flag", _BY)

    def _not_there(self, where: Where) -> FlagError:
        answer = self._http.get(f"{_project(where)}feature_flags/", {"limit": "100"})
        names = texts(answer.fields.get("results"), "key") if answer.ok else []
        return unknown("flag", where.flag, names, f"project {where.project}" if where.project else "")

    def _no_project(self, where: Where) -> FlagError:
        answer = self._http.get("/api/projects/", {"limit": "100"})
        found = mappings(answer.fields.get("results")) if answer.ok else []
        return unknown("project", where.project, [str(one.get("id")) for one in found])


def _project(where: Where) -> str:
    if where.environment:
        raise OptionError(
            "PostHog's environments are projects of their own",
            mend="Leave environment empty, and set project to the number of the one that is meant",
        )
    return f"/api/projects/{segment(where.project) if where.project else _CURRENT}/"


def _taken(answer: Answer, what: str) -> Answer:
    if not answer.ok:
        hints = {403: "the key lacks a scope such as feature_flag:write, or is of the wrong kind"}
        raise refused(answer, what, hints)
    return answer


def _groups(flag: Mapping[str, object]) -> List[Mapping[str, object]]:
    """The release conditions, of which one is enough."""
    return mappings(mapping(flag.get("filters")).get("groups"))


def _percentage(group: Mapping[str, object]) -> float:
    found = number(group.get("rollout_percentage"))
    return 100.0 if found is None else found


def _share(flag: Mapping[str, object]) -> Optional[float]:
    """How many of 100 get it; None where that depends on properties or on several conditions."""
    groups = _groups(flag)
    if any(_percentage(one) == 100 and not one.get("properties") for one in groups):
        return 100.0
    if len(groups) != 1 or groups[0].get("properties"):
        return None
    return _percentage(groups[0])


def _changes(where: Where, wish: Wish, flag: Mapping[str, object]) -> Dict[str, object]:
    """What to send so that it is as wished; nothing when it is. `filters` are replaced as a whole."""
    if wish.state == OFF:
        if wish.serve is not False:
            raise OptionError(f"{where}: off serves false in PostHog", mend="Set serve to false")
        return {"active": False} if flag.get("active") is True else {}
    changes: Dict[str, object] = {} if flag.get("active") is True else {"active": True}
    filters = dict(mapping(flag.get("filters")))
    if wish.percentage is not None:
        groups = _groups(flag)
        if len(groups) != 1:
            raise OptionError(
                f"{where} has {len(groups)} release conditions, of which none is the percentage",
                mend="Leave it one in PostHog",
            )
        if _percentage(groups[0]) != wish.percentage:
            whole = int(wish.percentage) if wish.percentage == int(wish.percentage) else wish.percentage
            filters["groups"] = [{**groups[0], "rollout_percentage": whole}]
    if wish.variation:
        filters["multivariate"] = _only(where, wish.variation, mapping(filters.get("multivariate")))
    return changes if filters == flag.get("filters") else {**changes, "filters": filters}


def _only(where: Where, variation: str, multivariate: Mapping[str, object]) -> Dict[str, object]:
    """The variants, so that everybody who gets the flag gets this one."""
    variants = mappings(multivariate.get("variants"))
    names = texts(variants, "key")
    if variation not in names:
        raise OptionError(f"{where} has no variant {variation!r}", mend=f"It has {', '.join(names) or 'none'}")
    shares = [{**one, "rollout_percentage": 100 if one.get("key") == variation else 0} for one in variants]
    return {**multivariate, "variants": shares}
