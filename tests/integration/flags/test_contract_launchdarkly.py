# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LaunchDarkly against its published contract: a server that knows these calls only, and insists on their form."""

from __future__ import annotations

import base64
import json
from copy import deepcopy
from typing import Any, Dict, List

import pytest
from flag_vendors import JSON, Asked, Contract, Reply, Vendor, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

TOKEN, SDK, MOBILE, CLIENT_ID = "api-0001-secret", "sdk-0002-secret", "mob-0003-secret", "client-side-0004"
YES, NO = "86208e6e", "7b32de80"
PATCH = {"environmentKey": str, "instructions": [dict], "comment?": str}
INSTRUCTIONS: Dict[str, Any] = {
    "turnFlagOn": {"kind": str},
    "turnFlagOff": {"kind": str},
    "updateFallthroughVariationOrRollout": {"kind": str, "variationId?": str, "rolloutWeights?": {str: int}},
}


def flag() -> Dict[str, Any]:
    """As the REST API gives it."""
    return {
        "name": "New search",
        "kind": "boolean",
        "key": "new-search",
        "_version": 2,
        "archived": False,
        "variations": [{"_id": YES, "value": True, "name": "true"}, {"_id": NO, "value": False, "name": "false"}],
        "environments": {
            "production": {
                "on": True,
                "archived": False,
                "salt": "61eddea",
                "targets": [],
                "contextTargets": [],
                "rules": [],
                "fallthrough": {"variation": 0},
                "offVariation": 1,
                "prerequisites": [],
                "_environmentName": "Production",
            }
        },
    }


class LaunchDarkly(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.flag = flag()
        self.approvals: List[Dict[str, Any]] = []
        self.must_approve = False

    @property
    def settings(self) -> Dict[str, Any]:
        found: Dict[str, Any] = self.flag["environments"]["production"]
        return found

    def is_client(self, asked: Asked) -> bool:
        return asked.path.startswith(("/sdk/", "/msdk/"))

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            insist(asked.method == "GET", "SDKs only read")
            return self.to_client(asked)
        if asked.header("Authorization") != TOKEN:
            return Reply(401, {"code": "unauthorized", "message": "Invalid access token"})
        if asked.path.endswith("/approval-requests"):
            return self.approve(asked)
        if asked.parts == ["api", "v2", "projects"]:
            return Reply(200, {"items": [{"key": "shop"}, {"key": "desk"}]})
        if asked.parts == ["api", "v2", "projects", "shop", "environments"]:
            return Reply(200, {"items": [{"key": "production"}, {"key": "test"}]})
        insist(asked.parts[:3] == ["api", "v2", "flags"], "no such resource")
        if asked.parts[3] != "shop":
            return Reply(404, {"code": "not_found", "message": "Unknown project key"})
        if len(asked.parts) == 4:
            return Reply(200, {"items": [{"key": "new-search"}, {"key": "old-search"}], "totalCount": 2})
        if asked.parts[4] != "new-search":
            return Reply(404, {"code": "not_found", "message": "Unknown feature flag key"})
        return self.patch(asked) if asked.method == "PATCH" else self.get(asked)

    def get(self, asked: Asked) -> Reply:
        insist(asked.method == "GET" and set(asked.query) == {"env"}, "one environment is asked for")
        one = {name: each for name, each in self.flag["environments"].items() if name == asked.query["env"]}
        return Reply(200, {**self.flag, "environments": one})

    def patch(self, asked: Asked) -> Reply:
        semantic = f"{JSON}; domain-model=launchdarkly.semanticpatch"
        insist(asked.header("Content-Type") == semantic, "not a semantic patch")
        insist(set(asked.query) <= {"ignoreConflicts", "dryRun"}, f"query {asked.query}")
        shaped(asked.body, PATCH)
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        insist(body["instructions"], "no instructions")
        for one in body["instructions"]:
            insist(one.get("kind") in INSTRUCTIONS, f"instruction {one}")
            shaped(one, INSTRUCTIONS[one["kind"]])
        if self.must_approve:
            return Reply(405, {"code": "method_not_allowed", "message": "Approval is required to make this request"})
        self.old = deepcopy(self.flag)
        for one in body["instructions"]:
            self.instruct(one)
        self.flag["_version"] += 1
        return Reply(200, self.flag)

    def instruct(self, one: Dict[str, Any]) -> None:
        if one["kind"] != "updateFallthroughVariationOrRollout":
            self.settings["on"] = one["kind"] == "turnFlagOn"
            return
        ids = [YES, NO]
        insist(("variationId" in one) != ("rolloutWeights" in one), "either one variation, or weights")
        if "variationId" in one:
            self.settings["fallthrough"] = {"variation": ids.index(one["variationId"])}
            return
        insist(sum(one["rolloutWeights"].values()) == 100_000, "weights must add up")
        weights = [{"variation": ids.index(name), "weight": part} for name, part in one["rolloutWeights"].items()]
        self.settings["fallthrough"] = {"rollout": {"variations": weights, "contextKind": "user"}}

    def approve(self, asked: Asked) -> Reply:
        where = ["api", "v2", "projects", "shop", "flags", "new-search", "environments", "production"]
        insist(asked.parts[:-1] == where, asked.path)
        if asked.method == "GET":
            return Reply(200, {"items": self.approvals})
        insist(asked.header("Content-Type") == JSON, "approval requests are plain JSON")
        shaped(asked.body, {"description": str, "instructions": [{"kind": str}], "comment?": str})
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        made = {"_id": "12ab3c45", "status": "pending", "reviewStatus": "pending", **body}
        self.approvals.append(made)
        return Reply(201, made)

    def to_client(self, asked: Asked) -> Reply:
        now: Dict[str, Any] = self.clients(self.flag)  # type: ignore[assignment]
        settings, values = now["environments"]["production"], [one["value"] for one in now["variations"]]
        if asked.path == "/sdk/latest-all":
            if asked.header("Authorization") != SDK:
                return Reply(401, text="")
            told = {"key": "new-search", "version": now["_version"], "deleted": False, **settings, "variations": values}
            return Reply(200, {"flags": {"new-search": told}, "segments": {}})
        if asked.parts[0] == "msdk":
            insist(asked.parts[:3] == ["msdk", "evalx", "contexts"], asked.path)
            if asked.header("Authorization") != MOBILE:
                return Reply(401, text="")
        else:
            insist(asked.parts[1] == "evalx" and asked.parts[3] == "contexts", asked.path)
            insist(not asked.header("Authorization"), "a client-side ID is in the path")
            if asked.parts[2] != CLIENT_ID:
                return Reply(404, text="")
        context = json.loads(base64.urlsafe_b64decode(asked.parts[-1]))
        insist(context["kind"] and isinstance(context["key"], str), context)
        index = settings["fallthrough"].get("variation") if settings["on"] else settings.get("offVariation")
        value = None if index is None else values[index]
        return Reply(200, {"new-search": {"value": value, "variation": index, "version": 7, "trackEvents": False}})


class TestLaunchDarkly(Contract):
    make = LaunchDarkly
    type = "launchdarkly"
    token, client_token = TOKEN, SDK

    @pytest.mark.parametrize("key", [SDK, MOBILE, CLIENT_ID])
    def test_every_kind_of_client(self, vendor: LaunchDarkly, key: str) -> None:
        vendor.lag = 1
        done = carry_out(self.provider(vendor, client_token=key), self.where, self.off)
        assert (done.served.value, done.asks) == (False, 2)
        assert vendor.writes[0].query == {"ignoreConflicts": "true"}
        assert vendor.writes[0].body == {
            "environmentKey": "production",
            "instructions": [{"kind": "turnFlagOff"}],
            "comment": "alert HighErrors",
        }

    def test_whom_it_is_asked_for(self, vendor: LaunchDarkly) -> None:
        wish = Wish("off", serve=False, context={"targetingKey": "u/1", "plan": "gold"})
        carry_out(self.provider(vendor, client_token=CLIENT_ID), self.where, wish)
        context = json.loads(base64.urlsafe_b64decode(vendor.asked[-1].parts[-1]))
        assert context == {"kind": "user", "key": "u/1", "anonymous": False, "plan": "gold"}

    def test_approval_is_asked_for_once(self, vendor: LaunchDarkly) -> None:
        vendor.must_approve = True
        for count in range(2):
            done = carry_out(self.provider(vendor), self.where, self.off)
            assert done.change.pending == "approval request 12ab3c45 waits for its review", count
        assert len(vendor.approvals) == 1 and vendor.settings["on"]

    def test_no_off_variation(self, vendor: LaunchDarkly) -> None:
        del vendor.settings["offVariation"]
        assert "no off variation is set: clients would get their code's default" in self.error(vendor)
        for none in (7, -1, True):
            vendor.settings["offVariation"] = none
            assert "no off variation is set" in self.error(vendor)
            with pytest.raises(OptionError, match="no off variation is set"):
                carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=20))
        assert not vendor.writes

    def test_off_serves_something_else(self, vendor: LaunchDarkly) -> None:
        vendor.settings["offVariation"] = 0
        assert "its off variation serves true, not false" in self.error(vendor)
        assert not vendor.writes

    def test_percentages(self, vendor: LaunchDarkly) -> None:
        for percentage, called in ((20, True), (20, False), (100, True), (0, True), (33.333, True)):
            wish = Wish(ON, serve=True, percentage=percentage)
            done = carry_out(self.provider(vendor), self.where, wish, asks=1)
            assert (done.called, done.served.known) == (called, True)
            assert done.served.percentage == pytest.approx(percentage)
        assert vendor.settings["fallthrough"]["rollout"]["variations"] == [
            {"variation": 0, "weight": 33333},
            {"variation": 1, "weight": 66667},
        ]

    def test_on_again_leaves_the_rules(self, vendor: LaunchDarkly) -> None:
        vendor.settings["rules"] = [{"variation": 0, "clauses": []}]
        carry_out(self.provider(vendor), self.where, self.off)
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True), asks=1)
        assert not done.served.known and "rules" in done.served.why
        assert vendor.writes[-1].body == {"environmentKey": "production", "instructions": [{"kind": "turnFlagOn"}]}

    def test_a_variation_by_its_name(self, vendor: LaunchDarkly) -> None:
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=False, variation="false"))
        assert (done.called, done.served.value, done.served.percentage) == (True, False, 100)
        with pytest.raises(OptionError, match="has no variation 'blue'"):
            carry_out(self.provider(vendor), self.where, Wish(ON, variation="blue"))

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (Where("new-search", "prodution", "shop"), "no environment 'prodution' in project 'shop' (did you mean"),
            (Where("new-search", "production", "shopp"), "no project 'shopp' (did you mean 'shop'?)"),
            (Where("new-search", "", "shop"), "LaunchDarkly needs environment"),
        ],
    )
    def test_what_is_not_there(self, vendor: LaunchDarkly, where: Where, told: str) -> None:
        assert told in self.error(vendor, where)

    def test_archived(self, vendor: LaunchDarkly) -> None:
        vendor.flag["archived"] = True
        assert "is archived: clients get their code's default" in self.error(vendor)

    def test_tokens_of_the_wrong_kind(self, vendor: LaunchDarkly) -> None:
        assert "is an SDK's key, which cannot change flags" in self.error(vendor, token=SDK)
        with pytest.raises(OptionError, match="which no client has"):
            self.provider(vendor, client_token=TOKEN).effective(self.where, self.off)
        with pytest.raises(FlagError, match="client_token is no SDK key") as told:
            self.provider(vendor, client_token="sdk-wrong").effective(self.where, self.off)
        assert "sdk-wrong" not in told.value.message
        with pytest.raises(FlagError, match="client_token is no SDK key") as told:
            self.provider(vendor, client_token="guess-4711").effective(self.where, self.off)
        assert "guess-4711" not in told.value.message

    def test_what_is_there_is_not_said_to_be_missing(self, vendor: LaunchDarkly) -> None:
        vendor.forced = [Reply(400, {"code": "invalid_request", "message": "it is too late"})]
        assert "HTTP 400: it is too late" in self.error(vendor)

    def test_a_change_that_nobody_sees_fails(self, vendor: LaunchDarkly) -> None:
        vendor.lag = None
        done = self.turned_off(vendor, 2)
        assert (done["failed"], done["changed"], done["status"]) == (True, True, "not_effective")
