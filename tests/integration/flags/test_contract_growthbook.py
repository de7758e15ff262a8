# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GrowthBook against its published contract: a server that knows these calls only, and insists on their form."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any, Dict

import pytest
from flag_vendors import JSON, Asked, Contract, Reply, Vendor, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

TOKEN, KEY = "secret_user_4711", "sdk-abcdef123"
RULE = {
    "value": str,
    "type?": str,
    "id?": str,
    "description?": str,
    "enabled?": bool,
    "condition?": str,
    "savedGroups?": list,
    "prerequisites?": list,
    "allEnvironments?": bool,
    "environments?": [str],
    "coverage?": (int, float),
    "hashAttribute?": str,
    "seed?": str,
    "hashVersion?": int,
}
UPDATE = {"rules?": [RULE], "environments?": {str: {"enabled": bool}}, "defaultValue?": str}


class GrowthBook(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.tells_connections = True
        self.feature: Dict[str, Any] = {
            "id": "new-search",
            "archived": False,
            "project": "shop",
            "valueType": "boolean",
            "defaultValue": "false",
            "environments": {"production": {"enabled": True}, "dev": {"enabled": True}},
            "rules": [rule("true")],
        }

    def is_client(self, asked: Asked) -> bool:
        return asked.path.startswith("/api/features/")

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            return self.payload(asked)
        if asked.header("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"message": "Invalid API key"})
        if asked.path == "/api/v2/features" and asked.method == "GET":
            return Reply(200, {"features": [self.feature], "limit": 100, "total": 1})
        if asked.parts[:-1] == ["api", "v1", "sdk-connections", "lookup"]:
            return self.connection(asked.parts[-1])
        insist(asked.parts[:3] == ["api", "v2", "features"] and len(asked.parts) == 4, asked.path)
        if asked.parts[3] != "new-search":
            return Reply(404, {"message": "Could not find a feature with that key"})
        if asked.method == "GET":
            return Reply(200, {"feature": self.feature})
        return self.update(asked)

    def connection(self, key: str) -> Reply:
        environment = {KEY: "production", "sdk-dev": "dev"}.get(key)
        if environment is None or not self.tells_connections:
            return Reply(404, {"message": "Could not find an sdkConnection with that key"})
        return Reply(200, {"sdkConnection": {"id": "sdk-1", "key": key, "environment": environment}})

    def update(self, asked: Asked) -> Reply:
        insist(asked.method == "POST" and asked.header("Content-Type") == JSON, "POST of JSON")
        shaped(asked.body, UPDATE)
        body: Dict[str, Any] = deepcopy(asked.body)  # type: ignore[arg-type]
        self.old = deepcopy(self.feature)
        for place, one in enumerate(body.get("rules", [])):
            insist(one.get("coverage", 1) == 1 or one.get("hashAttribute"), "hashAttribute where coverage is below 1")
            one.setdefault("id", f"fr_{place}_{len(self.asked)}")
        self.feature["rules"] = body.get("rules", self.feature["rules"])
        for name, one in body.get("environments", {}).items():
            self.feature["environments"][name].update(one)
        return Reply(200, {"feature": self.feature})

    def payload(self, asked: Asked) -> Reply:
        insist(asked.method == "GET" and not asked.header("Authorization"), "the client key is in the path")
        if asked.parts[-1] == "sdk-dev":
            return Reply(200, {"status": 200, "features": {"new-search": {"defaultValue": False}}})
        if asked.parts != ["api", "features", KEY]:
            return Reply(400, {"status": 400, "error": "Invalid API key"})
        feature: Dict[str, Any] = self.clients(self.feature)  # type: ignore[assignment]
        if not feature["environments"]["production"]["enabled"]:
            return Reply(200, {"status": 200, "features": {}})
        rules = []
        for one in feature["rules"]:
            if one.get("allEnvironments") or "production" in one.get("environments", []):
                share = {"coverage": one["coverage"]} if "coverage" in one else {}
                condition = {"condition": json.loads(one["condition"])} if one.get("condition") else {}
                rules.append({"id": one["id"], "force": json.loads(one["value"]), **share, **condition})
        told = {"defaultValue": json.loads(feature["defaultValue"]), **({"rules": rules} if rules else {})}
        return Reply(200, {"status": 200, "features": {"new-search": told}, "dateUpdated": "2026-11-21"})


def rule(value: str, **more: Any) -> Dict[str, Any]:
    known = {"id": "fr_1", "type": "force", "description": "", "enabled": True, "allEnvironments": True}
    return {**known, "value": value, **more}


class TestGrowthBook(Contract):
    make = GrowthBook
    type = "growthbook"
    token, client_token = TOKEN, KEY
    secrets = (TOKEN,)  # a client key is public, and part of addresses

    def test_a_rule_that_somebody_added_meanwhile_is_kept(self, vendor: GrowthBook) -> None:
        provider = self.provider(vendor)
        state = provider.state(self.where)
        vendor.feature["rules"].append(rule("false", id="fr_2"))
        provider.set(self.where, self.off, state)
        provider.close()
        assert [one["id"] for one in vendor.feature["rules"]][1:] == ["fr_1", "fr_2"]

    def test_clients_of_another_environment_show_nothing(self, vendor: GrowthBook) -> None:
        told = self.error(vendor, client_token="sdk-dev")
        assert "client_token is a client key of environment 'dev', not of 'production'" in told
        vendor.tells_connections = False  # not every token may ask
        assert carry_out(self.provider(vendor), self.where, self.off).served.value is False

    def test_the_rule_comes_before_the_others(self, vendor: GrowthBook) -> None:
        before = deepcopy(vendor.feature["rules"])
        carry_out(self.provider(vendor), self.where, self.off)
        first, *others = vendor.feature["rules"]
        assert others == before and vendor.feature["environments"]["production"]["enabled"]
        assert (first["value"], first["environments"]) == ("false", ["production"])
        assert first["description"] == "selfheal.delivery: off, alert HighErrors"

    def test_on_takes_it_away_again(self, vendor: GrowthBook) -> None:
        before = deepcopy(vendor.feature)
        carry_out(self.provider(vendor), self.where, self.off)
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True))
        assert (done.called, done.served.value, vendor.feature) == (True, True, before)

    def test_off_counts_more_than_conditions(self, vendor: GrowthBook) -> None:
        vendor.feature["rules"] = [rule("true", condition='{"country": "DE"}')]
        vendor.lag = 2
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert (done.served.value, done.served.percentage, done.asks) == (False, 0, 3)

    def test_a_disabled_feature_is_the_codes_default(self, vendor: GrowthBook) -> None:
        vendor.feature["environments"]["production"]["enabled"] = False
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.called and "their code's default" in done.served.why and done.served.final
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True))
        assert done.served.value is True and vendor.feature["environments"]["production"]["enabled"]

    def test_percentages(self, vendor: GrowthBook) -> None:
        vendor.feature["rules"] = []
        for percentage, called in ((20, True), (20, False), (100, True), (0, True), (12.5, True)):
            wish = Wish(ON, serve=True, percentage=percentage)
            done = carry_out(self.provider(vendor), self.where, wish, asks=1)
            assert (done.called, done.served.known, done.served.percentage) == (called, True, percentage)
        assert [one["value"] for one in vendor.feature["rules"]] == ["true", "false"]
        carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=0))
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True))
        assert (done.called, done.served.percentage) == (True, 100)

    def test_a_share_counts_more_than_other_rules(self, vendor: GrowthBook) -> None:
        before = deepcopy(vendor.feature["rules"])
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=30))
        assert (done.served.percentage, vendor.feature["rules"][2:]) == (30, before)

    def test_a_rollout_that_is_there_is_used(self, vendor: GrowthBook) -> None:
        own = {"allEnvironments": False, "environments": ["production"]}
        vendor.feature["rules"] = [rule("true", type="rollout", coverage=0.1, hashAttribute="user", **own)]
        carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=30))
        assert [(one["coverage"], one["hashAttribute"]) for one in vendor.feature["rules"]] == [(0.3, "user")]

    def test_conditions_are_not_guessed(self, vendor: GrowthBook) -> None:
        vendor.feature["rules"] = [rule("true", condition='{"country": "DE"}')]
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True), asks=1)
        assert not done.called and "which only SDKs evaluate" in done.served.why

    def test_approvals(self, vendor: GrowthBook) -> None:
        provider = self.provider(vendor)
        state = provider.state(self.where)
        review = Reply(403, {"message": "This feature requires a review"})
        vendor.update = lambda asked: review  # type: ignore[method-assign]
        with pytest.raises(FlagError, match="or changes there need an approval; nothing was changed: This feature"):
            provider.set(self.where, self.off, state)
        provider.close()

    @pytest.mark.parametrize(
        ("wish", "told"),
        [
            (Wish("off", serve="x"), "is of type boolean"),
            (Wish(ON, serve=True, variation="x"), "no variations by name"),
            (Wish(ON, serve=False, percentage=5), "serves false by default"),
        ],
    )
    def test_what_it_cannot_do(self, vendor: GrowthBook, wish: Wish, told: str) -> None:
        with pytest.raises(OptionError, match=told):
            carry_out(self.provider(vendor), self.where, wish)
        assert not vendor.writes

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (Where("new-search", "prodution"), "no environment 'prodution' (did you mean 'production'?)"),
            (Where("new-search"), "is in 2 environments, and none is named. Set environment to one of dev, production"),
            (Where("new-search", "production", "desk"), "no project 'desk' in what the feature is in"),
        ],
    )
    def test_what_is_not_there(self, vendor: GrowthBook, where: Where, told: str) -> None:
        assert told in self.error(vendor, where)

    def test_keys_of_the_wrong_kind(self, vendor: GrowthBook) -> None:
        assert "is an SDK's client key" in self.error(vendor, token=KEY)
        assert "client_token is no client key" in self.error(vendor, client_token="sdk-other")
        vendor.feature["archived"] = True
        assert "is archived" in self.error(vendor)

    def test_an_address_as_growthbook_shows_it(self, vendor: GrowthBook) -> None:
        vendor.url += "/api"
        assert carry_out(self.provider(vendor), self.where, self.off).served.value is False
        vendor.forced = [Reply(400, {"message": "it is too late"})]
        assert "reading flag 'new-search'" in self.error(vendor)
