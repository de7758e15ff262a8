# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ConfigCat against its published contract: a server that knows these calls only, and insists on their form."""

from __future__ import annotations

import base64
from copy import deepcopy
from dataclasses import replace
from typing import Any, Dict

import pytest
from flag_vendors import JSON, Asked, Contract, Reply, Vendor, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

LOGIN, KEY = "public-user:public-secret", "configcat-sdk-1/AAAAAAAAAAAAAAAAAAAAAA/BBBBBBBBBBBBBBBBBBBBBB"
VALUE = {"boolValue?": (bool, type(None)), "stringValue?": (str, type(None))}
OPTIONS = [{"percentage": int, "value": VALUE}]
SHORT = {"boolValue": "b", "stringValue": "s"}


class ConfigCat(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.formula: Dict[str, Any] = {
            "lastVersionId": "08d8f29c",
            "defaultValue": {"boolValue": True, "stringValue": None},
            "targetingRules": [],
            "setting": {"settingId": 12, "key": "new-search", "settingType": "boolean"},
            "percentageEvaluationAttribute": None,
            "config": {"configId": "c", "name": "shop"},
            "environment": {"environmentId": "e", "name": "production"},
            "readOnly": False,
        }

    def is_client(self, asked: Asked) -> bool:
        return asked.path.startswith("/configuration-files/")

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            return self.download(asked)
        basic = base64.b64encode(LOGIN.encode()).decode()
        if asked.header("Authorization") != f"Basic {basic}":
            return Reply(401, text="")
        if asked.header("X-CONFIGCAT-SDKKEY") != KEY:
            return Reply(400, {"message": "Invalid SDK key"})
        insist(asked.parts[:2] == ["v2", "settings"] and asked.parts[3:] == ["value"], asked.path)
        if asked.parts[2] != "new-search":
            return Reply(404, text="")
        if asked.method == "GET":
            return Reply(200, self.formula)
        return self.patch(asked)

    def patch(self, asked: Asked) -> Reply:
        insist(asked.method == "PATCH" and asked.header("Content-Type") == JSON, "PATCH of JSON")
        insist(set(asked.query) <= {"reason"}, f"query {asked.query}")
        shaped(asked.body, [{"op": str, "path": str, "value": object}])
        before = deepcopy(self.formula)
        for one in asked.body:  # type: ignore[attr-defined]
            self.operate(one["op"], one["path"].strip("/").split("/"), one["value"])
        if before == self.formula:
            return Reply(204, text="")
        self.old = before
        return Reply(200, self.formula)

    def operate(self, op: str, path: Any, value: Any) -> None:
        if path[0] == "defaultValue":
            insist(op == "replace" and path[1] in VALUE or f"{path[1]}?" in VALUE, f"{op} {path}")
            self.formula["defaultValue"][path[1]] = value
        elif op == "add":
            insist(path == ["targetingRules", "-"], f"{op} {path}")
            shaped(value, {"conditions": list, "percentageOptions": OPTIONS})
            self.formula["targetingRules"].append(value)
        else:
            insist(path[0] == "targetingRules" and path[2] == "percentageOptions", f"{op} {path}")
            shaped(value, OPTIONS)
            insist(sum(one["percentage"] for one in value) == 100, "percentages must add up")
            self.formula["targetingRules"][int(path[1])]["percentageOptions"] = value

    def download(self, asked: Asked) -> Reply:
        insist(asked.method == "GET" and asked.parts[-1] == "config_v6.json", asked.path)
        insist(not asked.header("Authorization"), "SDKs have no credentials but their key")
        if asked.parts[1:-1] != KEY.split("/"):
            return Reply(404, text="")
        formula: Dict[str, Any] = self.clients(self.formula)  # type: ignore[assignment]
        setting: Dict[str, Any] = {"t": 0, "v": short(formula["defaultValue"])}
        for rule in formula["targetingRules"]:
            options = [{"p": one["percentage"], "v": short(one["value"])} for one in rule["percentageOptions"]]
            if rule["conditions"]:
                setting.setdefault("r", []).append({"c": rule["conditions"], "s": {"v": short(rule["value"])}})
            else:
                setting["p"] = options
        return Reply(200, {"p": {"u": "https://cdn", "r": 0, "s": "salt"}, "f": {"new-search": setting}, "s": []})


def short(value: Dict[str, Any]) -> Dict[str, Any]:
    return {SHORT[name]: one for name, one in value.items() if one is not None}


def rule(value: bool) -> Dict[str, Any]:
    who = {"userCondition": {"comparisonAttribute": "Email", "comparator": "contains"}}
    return {"conditions": [who], "percentageOptions": [], "value": {"boolValue": value}}


class TestConfigCat(Contract):
    make = ConfigCat
    type = "configcat"
    token, client_token = LOGIN, KEY
    wrong_token = "nobody:not-the-right-secret"

    def test_no_client_token_is_not_known(self, vendor: Vendor) -> None:
        """Here nothing can be done without it: it says which environment."""
        assert "provider has no client_token" in self.error(vendor, client_token="")

    def test_the_call(self, vendor: ConfigCat) -> None:
        carry_out(self.provider(vendor), self.where, self.off)
        assert vendor.writes[0].query == {"reason": "alert HighErrors"}
        assert vendor.writes[0].body == [{"op": "replace", "path": "/defaultValue/boolValue", "value": False}]

    def test_a_user_and_a_password(self, vendor: ConfigCat) -> None:
        user, password = LOGIN.split(":")
        provider = self.provider(vendor, token="", username=user, password=password)
        assert carry_out(provider, self.where, self.off).served.value is False
        assert "Public API credentials, not an SDK key" in self.error(vendor, token="configcat-sdk-1")

    def test_targeting_rules_still_serve_it(self, vendor: ConfigCat) -> None:
        vendor.formula["targetingRules"] = [rule(True)]
        vendor.lag = 1
        done = carry_out(self.provider(vendor), self.where, self.off, asks=2)
        assert (done.served.known, done.served.value, done.served.final) == (True, True, True)
        assert vendor.formula["targetingRules"] == [rule(True)]
        vendor.formula["targetingRules"] = [rule(False)]
        assert carry_out(self.provider(vendor), self.where, self.off).served.value is False

    def test_who_looks_is_not_told_what_a_rule_serves_to_others(self, vendor: ConfigCat) -> None:
        looks = replace(self.off, looks=True)
        for default, by_rule, known in ((False, True, False), (True, False, False), (True, True, True)):
            vendor.formula["defaultValue"]["boolValue"] = default
            vendor.formula["targetingRules"] = [rule(by_rule)]
            told = self.provider(vendor).effective(self.where, looks)
            assert told.known is known and (not known or told.value is default)

    def test_off_takes_percentages_along(self, vendor: ConfigCat) -> None:
        carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=20))
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert (done.served.value, done.served.percentage) == (False, 0)

    def test_a_rule_that_somebody_put_before_it_meanwhile_is_kept(self, vendor: ConfigCat) -> None:
        carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=20))
        provider = self.provider(vendor)
        state = provider.state(self.where)
        vendor.formula["targetingRules"].insert(0, rule(False))
        provider.set(self.where, self.off, state)
        provider.close()
        first, second = vendor.formula["targetingRules"]
        assert first == rule(False) and second["percentageOptions"][0]["percentage"] == 100

    def test_percentages(self, vendor: ConfigCat) -> None:
        vendor.formula["defaultValue"]["boolValue"] = False
        for percentage, called in ((20, True), (20, False), (100, True), (0, True)):
            wish = Wish(ON, serve=True, percentage=percentage)
            done = carry_out(self.provider(vendor), self.where, wish, asks=1)
            assert (done.called, done.served.known, done.served.percentage) == (called, True, percentage)
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True))
        assert (done.served.value, done.served.percentage) == (True, 100)
        vendor.formula["targetingRules"].insert(0, rule(False))
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=50), asks=1)
        assert not done.served.known and "which only SDKs evaluate" in done.served.why

    def test_values_of_other_kinds(self, vendor: ConfigCat) -> None:
        vendor.formula["defaultValue"] = {"boolValue": None, "stringValue": "blue"}
        done = carry_out(self.provider(vendor), self.where, Wish("off", serve="grey"))
        assert done.served.value == "grey"
        with pytest.raises(OptionError, match="so that it cannot serve false"):
            carry_out(self.provider(vendor), self.where, self.off)

    @pytest.mark.parametrize(
        ("wish", "told"),
        [
            (Wish(ON, serve=True, percentage=0.5), "whole percentages"),
            (Wish(ON, variation="x"), "no variations by name"),
        ],
    )
    def test_what_it_cannot_do(self, vendor: ConfigCat, wish: Wish, told: str) -> None:
        with pytest.raises(OptionError, match=told):
            carry_out(self.provider(vendor), self.where, wish)
        assert not vendor.writes

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (
                Where("new-search", "prodution", "shop"),
                "no environment 'prodution' in what this SDK key is of (did",
            ),
            (Where("new-search", "production", "desk"), "no project 'desk' in what this SDK key is of"),
        ],
    )
    def test_what_is_not_there(self, vendor: ConfigCat, where: Where, told: str) -> None:
        assert told in self.error(vendor, where)

    def test_the_wrong_sdk_key(self, vendor: ConfigCat) -> None:
        assert "the SDK key is wrong" in self.error(vendor, client_token="another/sdk-key")
        with pytest.raises(FlagError, match="client_token is no SDK key") as told:
            self.provider(vendor, client_token="another/sdk-key").effective(self.where, self.off)
        assert "another/sdk-key" not in told.value.message
