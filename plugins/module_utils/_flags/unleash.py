# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unleash, by its admin API; what clients are served is read where their SDKs read it.

A backend SDK fetches the definitions of all flags of its environment and decides by itself, so the definition it is
given holds for everybody: `enabled: false` there is off for all, where an evaluation speaks for one user only. That is
why a kill switch is best verified with a backend token (Unleash also calls it a client token). With a frontend token,
Unleash itself evaluates for the wish's `context`: that is how a flag with constraints of its own can be verified.
Which of both a token is, only Unleash knows, so it is asked. Either side lags about one second behind the admin API,
and every SDK behind that by its own refresh interval (15 s, unless its application says otherwise).

A variation is a variant of the one strategy that the flag has: it gets all the weight, the others none. Its value is
its payload, or its name where it has none. Unleash keeps no reason beside a change.

While its database is down, Unleash holds a call for a minute. It is not waited for, but it is done if the database is
back by then: a change that was not answered may still come true.

| off means | serves | verified by | tried against |
|---|---|---|---|
| the flag's environment is off | false to everyone; archived: refused, clients get their code's default | what SDKs are
given by the client API (backend token), or an evaluation for one context (frontend token) | Unleash 8.2 with PostgreSQL
and its Python SDK; change requests (Enterprise): published contract |
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import List, Mapping, Optional

from .._errors import OptionError
from .client import Answer, Http, refused, segment, token_of, unknown
from .model import OFF, ON, Change, Deadline, FlagError, Options, Provider, Served, State, Value, Where, Wish
from .unleash_rules import (
    ROLLOUT,
    SHARE,
    VARIANTS,
    active,
    changes_for,
    chosen_variant,
    context_of,
    environment_of,
    meaning,
    one_rollout,
    proposes,
    share_of,
    value_of,
    variants_of,
)
from .vendors import mapping, mappings, texts

_DEFAULT_PROJECT = "default"  # Unleash's own; every server has it
_DEFINITIONS, _EVALUATIONS = "/api/client/features", "/api/frontend"
_ADMIN_TOKEN = "Set provider.token to an admin's API token, or to a personal access token"
_NOT_ASKED = (
    "provider has no client_token, so that nobody could be asked what clients are served: "
    "set provider.client_token_file to a backend (client) token of this environment"
)
# project:environment.secret
_TOKEN = re.compile(r"[^:.]*:([^.]+)\..")


def build(options: Options, deadline: Deadline) -> Provider:
    if not options.url:
        raise OptionError("provider has no url", mend="Set provider.url to Unleash's address, without /api")
    return Unleash(options, deadline)


class Unleash:
    """`where.project` is Unleash's `default` when nobody says; `where.environment` may be left out if there is one."""

    def __init__(self, options: Options, deadline: Deadline) -> None:
        self._options, self._deadline = options, deadline
        self._http: Optional[Http] = None
        self._clients: Optional[_Clients] = None

    def state(self, where: Where) -> State:
        where = _at_home(where)
        answer = self._ask("GET", _path(where))
        if answer.status == 404:
            raise self._not_there(where)
        if not answer.ok:
            raise _denied(answer, f"reading {where}")
        if answer.fields.get("archived") is True:
            raise _archived(where)
        settings = environment_of(answer.fields, where)
        on = settings.get("enabled") is True
        # off without strategies, it is given one when it is turned on: which, the project says
        share = share_of(settings) if on or active(settings) else None
        return State(on, share, str(chosen_variant(one_rollout(settings) or {}).get("name", "")), raw=settings)

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        _refuse_what_it_has_not(wish)
        token = token_of(self._options, client=True, needed=False)
        if token:
            _same_environment(token, where)
        if wish.state == OFF:
            return state.on
        if wish.percentage is not None and one_rollout(state.raw) is None and active(state.raw):
            raise OptionError(
                f"{where} has strategies whose share is not one number",
                mend="Leave percentage out, or give the flag a single gradual rollout without constraints or segments",
            )
        if wish.variation:
            names = texts(variants_of(one_rollout(state.raw) or {}), "name")
            if wish.variation not in names:
                mend = "" if names else "Its variants have to be those of a single gradual rollout without constraints"
                raise unknown("variation", wish.variation, names, str(where), mend)
        return not state.on or bool(changes_for(state, wish))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        # the share before the switch: nobody is served more than was wished in between
        where = replace(_at_home(where), environment=str(state.raw["name"]))
        changes = changes_for(state, wish) if wish.state == ON else {}
        if changes:
            self._set_strategy(where, changes, one_rollout(state.raw))
        if state.on == (wish.state == ON):
            return Change()
        answer = self._ask("POST", f"{_path(where)}/environments/{segment(where.environment)}/{wish.state}")
        if _needs_approval(answer):
            return self._propose(where, wish)
        if not answer.ok:
            raise _denied(answer, f"turning {where} {wish.state}")
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        token = token_of(self._options, client=True, needed=False)
        if not token:
            return Served(known=False, why=_NOT_ASKED, final=True)
        _same_environment(token, where)
        if self._clients is None:
            self._clients = _Clients(self._options, self._deadline, token)
        return self._clients.served(_at_home(where), wish)

    def close(self) -> None:
        for side in (self._http, self._clients):
            if side is not None:
                side.close()

    # --- management

    def _ask(self, method: str, path: str, body: object = None, query: Optional[Mapping[str, str]] = None) -> Answer:
        """One call of the admin API; FlagError says so when Unleash runs and does not answer."""
        if self._http is None:
            headers = {"Authorization": token_of(self._options)}
            self._http = Http(_base(self._options.url), self._options, headers, self._deadline)
        try:
            return self._http.ask(method, f"/api/admin{path}", body, query=query)
        except FlagError as error:
            if "lost" in error.details and self._is_alive():
                what = f"{error.what}; Unleash itself runs, so its database may be down"
                raise FlagError(what, mend=error.mend, details=error.details) from None
            raise

    def _is_alive(self) -> bool:
        """Does Unleash answer what needs no database?"""
        options = replace(self._options, timeout=min(1.0, self._options.timeout))
        health = Http(_base(self._options.url), options, {}, self._deadline)
        try:
            return health.get("/health").ok
        except FlagError:
            return False
        finally:
            health.close()

    def _not_there(self, where: Where) -> FlagError:
        """What a 404 means. Unleash also answers it while its database fails, so the parts are looked at one by one."""
        projects = texts(self._listed("/projects", "projects", where), "id")
        if where.project not in projects:
            return unknown("project", where.project, projects, "Unleash, that this token may see")
        named = {"query": where.flag, "archived": "IS:true", "limit": "100"}
        if where.flag in texts(self._listed("/search/features", "features", where, named), "name"):
            return _archived(where)
        everywhere = self._listed("/search/features", "features", where, {"query": where.flag, "limit": "100"})
        other = next((flag.get("project") for flag in everywhere if flag.get("name") == where.flag), "")
        flags = texts(self._listed(f"/projects/{segment(where.project)}/features", "features", where), "name")
        if where.flag in flags:
            return FlagError(
                f"Unleash contradicts itself about {where}: there is no such flag, and it is in the project's list",
                mend="Its database may have been down for a moment: try again. Nothing was changed by this call",
            )
        mend = f"It is in project {other!r}: set project" if other else ""
        return unknown("flag", where.flag, flags, f"project {where.project!r}", mend)

    def _listed(
        self, path: str, name: str, where: Where, query: Optional[Mapping[str, str]] = None
    ) -> List[Mapping[str, object]]:
        answer = self._ask("GET", path, query=query)
        if not answer.ok or not isinstance(answer.fields.get(name), list):
            raise _denied(answer, f"finding out whether there is {where}")
        return mappings(answer.fields[name])

    def _set_strategy(
        self, where: Where, changes: Mapping[str, object], strategy: Optional[Mapping[str, object]]
    ) -> None:
        """Change only these parts of an existing strategy, pinned to what they were; who sticks to it stays."""
        path = f"{_path(where)}/environments/{segment(where.environment)}/strategies"
        if strategy is None:
            # the name as group: the same users as with the strategy that Unleash itself adds
            parameters = {"rollout": changes[SHARE], "stickiness": "default", "groupId": where.flag}
            answer = self._ask("POST", path, {"name": ROLLOUT, "parameters": parameters})
        else:
            before = {SHARE: mapping(strategy.get("parameters")).get("rollout"), VARIANTS: strategy.get("variants")}
            patch = [{"op": "test", "path": part, "value": before[part]} for part in changes]
            patch += [{"op": "replace", "path": part, "value": value} for part, value in changes.items()]
            answer = self._ask("PATCH", f"{path}/{segment(str(strategy.get('id')))}", patch)
        what = f"changing whom {where} is served"
        if answer.status == 500 and "Test operation failed" in answer.said:
            raise FlagError(f"{what}: somebody else changed it at the same time", details={"http_status": 409})
        if not answer.ok:
            raise _denied(answer, what)

    # --- change requests (Unleash Enterprise)

    def _propose(self, where: Where, wish: Wish) -> Change:
        """Ask for approval, unless the same is already asked for: who is asked twice approves neither."""
        project, enabled = f"/projects/{segment(where.project)}", wish.state == ON
        listed = self._ask("GET", f"{project}/change-requests/pending/{segment(where.flag)}")
        if not isinstance(listed.data, list):
            raise _denied(listed, f"looking for a change request that turns {where} {wish.state}")
        request = next((one for one in mappings(listed.data) if proposes(one, where, enabled)), None)
        if request is None:
            change = {"feature": where.flag, "action": "updateEnabled", "payload": {"enabled": enabled}}
            path = f"{project}/environments/{segment(where.environment)}/change-requests"
            proposed = self._ask("POST", path, [change])
            request = proposed.fields
            if not proposed.ok or request.get("id") is None:
                raise _denied(proposed, f"asking for approval to turn {where} {wish.state}")
        number = str(request["id"])
        if request.get("state") == "Draft":  # nobody looks at it yet
            review = self._ask("PUT", f"{project}/change-requests/{segment(number)}/state", {"state": "In review"})
            if not review.ok:
                raise _denied(review, f"sending change request {number} of {where} to its reviewers")
        return Change(pending=f"change request {number} of project {where.project} waits for approval")


class _Clients:
    """The side that SDKs talk to. `served` fetches definitions again only when they are new."""

    def __init__(self, options: Options, deadline: Deadline, token: str) -> None:
        base = _base(options.client_url or options.url)
        self._http = Http(base, options, {"Authorization": token}, deadline)
        self._evaluates = False  # it is a frontend token
        self._etag = ""
        self._definitions: Mapping[str, object] = {}

    def close(self) -> None:
        self._http.close()

    def served(self, where: Where, wish: Wish) -> Served:
        if not self._evaluates:
            answer = self._http.ask("GET", _DEFINITIONS, headers={"If-None-Match": self._etag} if self._etag else None)
            if answer.status != 403:
                return self._defined(answer, where, wish)
        return self._evaluated(where, wish)

    def _defined(self, answer: Answer, where: Where, wish: Wish) -> Served:
        if answer.status != 304:
            if not answer.ok or not isinstance(answer.fields.get("features"), list):
                raise refused(answer, f"asking what clients are served of {where}")
            tags = [value for name, value in answer.headers.items() if name.lower() == "etag"]
            self._etag, self._definitions = "".join(tags), answer.fields
        told = mapping(self._definitions.get("query")).get("environment")
        if where.environment and isinstance(told, str) and told != where.environment:
            raise _other_environment(told, where)
        flags = mappings(self._definitions["features"])
        definition = next((flag for flag in flags if flag.get("name") == where.flag), None)
        return meaning(definition, wish)

    def _evaluated(self, where: Where, wish: Wish) -> Served:
        answer = self._http.get(_EVALUATIONS, context_of(wish.context))
        if answer.status == 403:
            raise refused(
                answer,
                f"asking what clients are served of {where}",
                {403: "client_token is neither a backend (client) nor a frontend token that Unleash knows"},
            )
        if not answer.ok or not isinstance(answer.fields.get("toggles"), list):
            raise refused(answer, f"asking what clients are served of {where}")
        self._evaluates = True
        # those that are off are left out, and frontend SDKs serve false for what is left out
        flags = [flag for flag in mappings(answer.fields["toggles"]) if flag.get("enabled") is True]
        flag = next((one for one in flags if one.get("name") == where.flag), None)
        value: Value = flag is not None
        if flag is not None and wish.variation:
            value = value_of(mapping(flag.get("variant")))
        return Served(known=True, value=value, by="frontend API, for the given context")


# --- what is refused


def _refuse_what_it_has_not(wish: Wish) -> None:
    serves = wish.state == ON
    if not (serves and wish.variation) and wish.serve is not serves:
        raise OptionError(
            f"Unleash serves {str(serves).lower()} when a flag is {wish.state}, nothing else",
            mend=f"Set serve: {str(serves).lower()}, or leave it out",
        )
    if wish.percentage is not None and wish.percentage != round(wish.percentage):
        raise OptionError("Unleash's SDKs know whole percentages only", mend="Set percentage to a whole number")


def _same_environment(token: str, where: Where) -> None:
    """Every token of a client is of one environment; another one's says nothing."""
    found = _TOKEN.match(token)
    if found and where.environment and found.group(1) not in (where.environment, "*"):
        raise _other_environment(found.group(1), where)


def _other_environment(told: str, where: Where) -> OptionError:
    return OptionError(
        f"client_token is of environment {told!r}, not of {where.environment!r}",
        mend=f"Set provider.client_token_file to a backend (client) token of {where.environment}",
    )


def _archived(where: Where) -> FlagError:
    return FlagError(
        f"{where} is archived: it can be neither turned nor served, clients get their code's default",
        mend="Revive the flag in Unleash's archive first, or change the code",
    )


def _needs_approval(answer: Answer) -> bool:
    return answer.status == 403 and "SKIP_CHANGE_REQUEST" in answer.said


def _denied(answer: Answer, what: str) -> FlagError:
    """A refusal of the admin API."""
    if answer.status == 401:
        return refused(answer, what, mend=_ADMIN_TOKEN)
    if answer.status == 403 and "token type" in answer.said:
        return refused(answer, what, {403: "the token is of the wrong kind, one for clients"}, mend=_ADMIN_TOKEN)
    if _needs_approval(answer):
        return refused(
            answer,
            what,
            {403: "changes of this environment have to be requested"},
            mend="Change it there, or give the token the right to skip change requests",
        )
    return refused(answer, what)


def _path(where: Where) -> str:
    return f"/projects/{segment(where.project)}/features/{segment(where.flag)}"


def _at_home(where: Where) -> Where:
    return where if where.project else replace(where, project=_DEFAULT_PROJECT)


def _base(url: str) -> str:
    """The server's own address: SDKs are given it with /api behind."""
    return re.sub(r"(/api)?/*$", "", url.rstrip("/"))
