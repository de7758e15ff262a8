# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GitLab's feature flags against their published contract: a server that insists on the form of every call."""

from __future__ import annotations

from copy import deepcopy
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, List

import pytest
from flag_vendors import JSON, Asked, Contract, Reply, Vendor, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

TOKEN, INSTANCE = "glpat-4711", "glffct-0815"
FLAGS = "/api/v4/projects/group%2Fshop/feature_flags"
SCOPE = {"id?": int, "environment_scope?": str, "_destroy?": bool}
STRATEGY = {"id?": int, "name?": str, "_destroy?": bool, "parameters?": {str: str}, "scopes?": [SCOPE]}
UPDATE = {"name?": str, "description?": str, "active?": bool, "strategies?": [STRATEGY]}


class GitLab(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.count = 100
        self.flag: Dict[str, Any] = {
            "name": "new-search",
            "description": None,
            "active": True,
            "version": "new_version_flag",
            "scopes": [],
            "strategies": [strategy(36, "default", "production"), strategy(37, "default", "staging")],
        }

    def is_client(self, asked: Asked) -> bool:
        return asked.path.startswith("/api/v4/feature_flags/unleash/")

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            return self.features(asked)
        if asked.header("PRIVATE-TOKEN") != TOKEN:
            return Reply(401, {"message": "401 Unauthorized"})
        project = {"id": 42, "path_with_namespace": "group/shop"}
        routes = {
            ("GET", "/api/v4/projects"): lambda asked: Reply(200, [project]),
            ("GET", "/api/v4/projects/group%2Fshop"): lambda asked: Reply(200, project),
            ("GET", FLAGS): lambda asked: Reply(200, [self.flag]),
            ("GET", f"{FLAGS}/new-search"): lambda asked: Reply(200, self.flag),
            ("PUT", f"{FLAGS}/new-search"): self.update,
        }
        route = routes.get((asked.method, asked.path))
        return route(asked) if route else Reply(404, {"message": "404 Not found"})

    def update(self, asked: Asked) -> Reply:
        insist(asked.header("Content-Type") == JSON, "JSON")
        shaped(asked.body, UPDATE)
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        insist(body, "something to change")
        self.old = deepcopy(self.flag)
        self.flag["active"] = body.get("active", self.flag["active"])
        for one in body.get("strategies", []):
            self.merge(self.flag["strategies"], one)
        return Reply(200, self.flag)

    def merge(self, there: List[Dict[str, Any]], one: Dict[str, Any]) -> None:
        """As Rails' nested attributes: by id it is changed or destroyed, without one it is new."""
        if "id" not in one:
            insist("name" in one or "environment_scope" in one, "what is new has a name")
            self.count += 1
            new: Dict[str, Any] = {**one, "id": self.count}
            if "name" in one:
                new["scopes"] = []
                for scope in one.get("scopes", []):
                    self.merge(new["scopes"], scope)
            there.append(new)
            return
        found = [each for each in there if each["id"] == one["id"]]
        insist(len(found) == 1, f"no id {one['id']}")
        if one.get("_destroy"):
            there.remove(found[0])
            return
        for scope in one.get("scopes", []):
            self.merge(found[0]["scopes"], scope)
        found[0].update({name: value for name, value in one.items() if name not in ("id", "scopes")})

    def features(self, asked: Asked) -> Reply:
        insist(asked.method == "GET" and asked.parts[4:] == ["42", "client", "features"], asked.path)
        environment = asked.header("UNLEASH-APPNAME")
        insist(environment, "the environment is the application's name")
        if asked.header("UNLEASH-INSTANCEID") != INSTANCE:
            return Reply(401, {"message": "401 Unauthorized"})
        flag: Dict[str, Any] = self.clients(self.flag)  # type: ignore[assignment]
        found = [
            {"name": one["name"], "parameters": one["parameters"]}
            for one in flag["strategies"]
            if any(fnmatchcase(environment, scope["environment_scope"]) for scope in one["scopes"])
        ]
        told = {"name": flag["name"], "description": "", "enabled": flag["active"], "strategies": found}
        return Reply(200, {"version": 1, "features": [told] if found else []})


def strategy(number: int, name: str, scope: str, **parameters: str) -> Dict[str, Any]:
    scopes = [{"id": number + 1000, "environment_scope": scope}]
    return {"id": number, "name": name, "parameters": parameters, "scopes": scopes, "user_list": None}


class TestGitLab(Contract):
    make = GitLab
    type = "gitlab"
    token, client_token = TOKEN, INSTANCE
    where = Where("new-search", "production", "group/shop")

    def test_other_environments_are_left_alone(self, vendor: GitLab) -> None:
        before = deepcopy(vendor.flag)
        carry_out(self.provider(vendor), self.where, self.off)
        staging = [one for one in vendor.flag["strategies"] if one["id"] == 37]
        assert staging == [before["strategies"][1]] and vendor.flag["active"]
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True))
        assert (done.called, done.served.value, len(vendor.flag["strategies"])) == (True, True, 2)
        assert [one["scopes"][0]["environment_scope"] for one in vendor.flag["strategies"]] == ["production", "staging"]

    def test_everywhere(self, vendor: GitLab) -> None:
        where = Where("new-search", "", "group/shop")
        done = carry_out(self.provider(vendor), where, self.off)
        assert (done.served.value, vendor.writes[0].body) == (False, {"active": False})
        assert "turn it on in other environments as well" in self.on_error(vendor, self.where)
        done = carry_out(self.provider(vendor), where, Wish(ON, serve=True))
        assert (done.served.value, vendor.writes[1].body) == (True, {"active": True})

    def on_error(self, vendor: GitLab, where: Where) -> str:
        with pytest.raises(OptionError) as told:
            carry_out(self.provider(vendor), where, Wish(ON, serve=True))
        return told.value.message

    def test_wildcards_are_refused(self, vendor: GitLab) -> None:
        vendor.flag["strategies"] = [strategy(36, "default", "*")]
        assert "has a strategy for *, which counts in other environments as well" in self.error(vendor)
        assert not vendor.writes

    def test_percentages(self, vendor: GitLab) -> None:
        for percentage, called in ((20, True), (20, False), (100, True), (0, True), (50, True)):
            wish = Wish(ON, serve=True, percentage=percentage)
            done = carry_out(self.provider(vendor), self.where, wish, asks=1)
            assert (done.called, done.served.known, done.served.percentage) == (called, True, percentage)
        assert vendor.flag["strategies"][-1]["parameters"]["rollout"] == "50"

    def test_a_share_that_is_there_is_used(self, vendor: GitLab) -> None:
        vendor.flag["strategies"] = [strategy(36, "gradualRolloutUserId", "production", groupId="g", percentage="5")]
        carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=30))
        assert vendor.writes[0].body == {"strategies": [{"id": 36, "parameters": {"groupId": "g", "percentage": "30"}}]}

    def test_a_share_comes_back_as_it_was(self, vendor: GitLab) -> None:
        own = strategy(36, "flexibleRollout", "production", rollout="30", groupId="g", stickiness="random")
        vendor.flag["strategies"] = [own]
        before, on = own["parameters"].copy(), Wish(ON, serve=True)
        for wish, share in ((self.off, 0), (on, 30), (self.off, 0)):
            assert carry_out(self.provider(vendor), self.where, wish, asks=1).served.percentage == share
        carry_out(self.provider(vendor), self.where, on, asks=1)
        assert [(one["id"], one["parameters"]) for one in vendor.flag["strategies"]] == [(36, before)]
        for wish, share in ((self.off, 0), (Wish(ON, serve=True, percentage=5), 5), (self.off, 0), (on, 5)):
            assert carry_out(self.provider(vendor), self.where, wish, asks=1).served.percentage == share
        assert len(vendor.flag["strategies"]) == 1, "a new share ends the old one"

    def test_named_users_are_not_guessed(self, vendor: GitLab) -> None:
        vendor.flag["strategies"] = [strategy(36, "userWithId", "production", userIds="7")]
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True), asks=1)
        assert not done.called and "which only SDKs evaluate" in done.served.why
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert done.served.value is False
        carry_out(self.provider(vendor), self.where, Wish(ON, serve=True), asks=1)
        assert [(one["id"], len(one["scopes"])) for one in vendor.flag["strategies"]] == [(36, 1)]

    @pytest.mark.parametrize("share", ["nan", "many", ""])
    def test_a_share_that_is_no_number_is_not_off(self, vendor: GitLab, share: str) -> None:
        vendor.flag["strategies"] = [strategy(36, "flexibleRollout", "production", rollout=share)]
        served = self.provider(vendor).effective(self.where, self.off)
        assert not served.known and "which only SDKs evaluate" in served.why

    def test_no_strategy_is_the_codes_default(self, vendor: GitLab) -> None:
        vendor.flag["strategies"] = [strategy(37, "default", "staging")]
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.called and "their code's default" in done.served.why

    def test_enabled_without_any_strategy_is_not_off(self, vendor: GitLab) -> None:
        told = {"name": "new-search", "enabled": True, "strategies": []}
        vendor.features = lambda asked: Reply(200, {"version": 1, "features": [told]})  # type: ignore[method-assign]
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.served.known and "which only SDKs evaluate" in done.served.why

    @pytest.mark.parametrize(
        ("wish", "told"),
        [
            (Wish("off", serve=True), "on serves true, off serves false"),
            (Wish(ON, serve=True, variation="x"), "no variations"),
            (Wish(ON, serve=True, percentage=0.5), "whole percentages"),
        ],
    )
    def test_what_it_cannot_do(self, vendor: GitLab, wish: Wish, told: str) -> None:
        with pytest.raises(OptionError, match=told):
            carry_out(self.provider(vendor), self.where, wish)
        assert not vendor.writes

    def test_what_is_not_there(self, vendor: GitLab) -> None:
        told = self.error(vendor, Where("new-search", "production", "group/shopp"))
        assert "no project 'group/shopp' (did you mean 'group/shop'?)" in told
        assert "GitLab needs project" in self.error(vendor, Where("new-search", "production"))

    def test_tokens_of_the_wrong_kind(self, vendor: GitLab) -> None:
        assert "is a client's instance ID, which cannot change flags" in self.error(vendor, token=INSTANCE)
        with pytest.raises(FlagError, match="is not the instance ID of this project's feature flags"):
            self.provider(vendor, client_token=TOKEN).effective(self.where, self.off)

    def test_a_legacy_flag(self, vendor: GitLab) -> None:
        vendor.forced = [Reply(404, {"message": "404 Not found"})]
        assert "is a legacy flag" in self.error(vendor)

    @pytest.mark.parametrize("path", ["/api/v4", "/api/v4/", "/api/v4/feature_flags/unleash/42"])
    def test_addresses_as_gitlab_shows_them(self, vendor: GitLab, path: str) -> None:
        vendor.url += path
        assert carry_out(self.provider(vendor), self.where, self.off).served.value is False

    def test_a_real_sdk_says_the_same(self, vendor: GitLab, tmp_path: Path) -> None:
        """GitLab's clients are Unleash's: one of them, asked for many users."""
        client_class = pytest.importorskip("UnleashClient").UnleashClient
        shares: List[Any] = []
        for wish in (Wish(ON, serve=True), self.off, Wish(ON, serve=True, percentage=30), Wish(ON, serve=True)):
            told = carry_out(self.provider(vendor), self.where, wish, asks=1).served
            client = client_class(
                f"{vendor.url}/api/v4/feature_flags/unleash/42",
                "production",
                instance_id=INSTANCE,
                disable_metrics=True,
                disable_registration=True,
                cache_directory=str(tmp_path / str(len(shares))),
            )
            client.initialize_client()
            on = sum(client.is_enabled("new-search", {"userId": str(user)}) for user in range(1000))
            client.destroy()
            shares.append((told.percentage, on / 10))
        assert shares[:2] == [(100, 100), (0, 0)]
        assert shares[2] == (30, pytest.approx(30, abs=5))
