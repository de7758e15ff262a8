# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PostHog against its published contract: a server that knows these calls only, and insists on their form."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, Dict, List
from zlib import crc32

import pytest
from flag_vendors import JSON, Asked, Contract, Reply, Vendor, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

TOKEN, KEY = "phx_4711", "phc_0815"
GROUP = {"properties": list, "rollout_percentage": (int, float, type(None)), "variant?": (str, type(None))}
VARIANTS = {"variants": [{"key": str, "rollout_percentage": (int, float), "name?": str}]}
FILTERS = {"groups": [GROUP], "payloads?": dict, "multivariate?": (dict, type(None))}
UPDATE = {"active?": bool, "filters?": FILTERS, "version?": int}
ASKED = {"api_key": str, "distinct_id": str, "person_properties?": dict, "groups?": dict}


class PostHog(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.flags: List[Dict[str, Any]] = [flag(17, "new-search"), flag(18, "new-search-box")]
        self.gated = False
        self.own = KEY
        self.broken: Dict[str, Any] = {}
        self.reads_projects = True

    @property
    def flag(self) -> Dict[str, Any]:
        return self.flags[0]

    def is_client(self, asked: Asked) -> bool:
        return asked.path == "/flags/"

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            return self.evaluate(asked)
        insist(asked.path.endswith("/"), "every path of Django ends with a slash")
        if asked.header("Authorization") != f"Bearer {TOKEN}":
            detail = "Incorrect authentication credentials."
            return Reply(401, {"type": "authentication_error", "code": "authentication_failed", "detail": detail})
        if asked.parts == ["api", "projects"]:
            return Reply(200, {"results": [{"id": 42, "name": "shop"}]})
        if asked.parts[2] not in ("42", "@current"):
            return Reply(404, {"type": "invalid_request", "code": "not_found", "detail": "Project not found."})
        if asked.method == "PATCH":
            return self.patch(asked)
        if len(asked.parts) == 3:
            if not self.reads_projects:
                return Reply(403, {"code": "permission_denied", "detail": "API key missing scope 'project:read'"})
            return Reply(200, {"id": 42, "api_token": self.own})
        insist(asked.parts[3:] == ["feature_flags"] and set(asked.query) <= {"search", "limit"}, asked.path)
        found = [one for one in self.flags if asked.query.get("search", "") in one["key"]]
        return Reply(200, {"count": len(found), "next": None, "results": found})

    def patch(self, asked: Asked) -> Reply:
        insist(asked.parts[3:] == ["feature_flags", "17"] and asked.header("Content-Type") == JSON, asked.path)
        shaped(asked.body, UPDATE)
        body = dict(asked.body)  # type: ignore[call-overload]
        if body.get("filters", {}).get("multivariate"):
            shaped(body["filters"]["multivariate"], VARIANTS)
        if self.gated:
            told = {"code": "approval_required", "status": "approval_required", "change_request_id": "cr-1"}
            return Reply(409, {**told, "detail": "Approval required", "message": "Approval required"})
        if body.pop("version", self.flag["version"]) != self.flag["version"]:
            return Reply(409, {"type": "server_error", "code": "conflict", "detail": "The flag was updated by Ada"})
        self.old = deepcopy(self.flags)
        self.flag.update(deepcopy(body), version=self.flag["version"] + 1)
        return Reply(200, self.flag)

    def evaluate(self, asked: Asked) -> Reply:
        insist(asked.method == "POST" and asked.query == {"v": "2"} and asked.header("Content-Type") == JSON, "v=2")
        shaped(asked.body, ASKED)
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        if body["api_key"] != KEY:
            return Reply(401, {"type": "authentication_error", "code": "invalid_api_key", "detail": "Invalid token"})
        told: Dict[str, Any] = {}
        for one in self.clients(self.flags):  # type: ignore[attr-defined]
            share = one["filters"]["groups"][0]["rollout_percentage"]
            enabled = crc32((body["distinct_id"] + one["key"]).encode()) % 100 < (100 if share is None else share)
            variants = (one["filters"].get("multivariate") or {}).get("variants", [])
            variant = next((each["key"] for each in variants if each["rollout_percentage"] == 100), None)
            reason = {"code": "condition_match" if enabled else "out_of_rollout_bound", "condition_index": 0}
            if one["active"]:
                told[one["key"]] = {"key": one["key"], "enabled": enabled, "variant": variant, "reason": reason}
        return Reply(200, {"flags": told, "errorsWhileComputingFlags": False, "requestId": "r", **self.broken})


def flag(number: int, key: str) -> Dict[str, Any]:
    filters: Dict[str, Any] = {
        "groups": [{"properties": [], "rollout_percentage": None}],
        "payloads": {},
        "multivariate": None,
    }
    return {"id": number, "key": key, "name": "", "active": True, "deleted": False, "version": 3, "filters": filters}


class TestPostHog(Contract):
    make = PostHog
    type = "posthog"
    token, client_token = TOKEN, KEY
    where = Where("new-search", "", "42")

    def test_who_looks_is_told_what_is_served_to_whom(self, vendor: PostHog) -> None:
        vendor.flag["filters"]["groups"] = [{"properties": [], "rollout_percentage": 0}]
        provider = self.provider(vendor)
        assert provider.effective(self.where, self.off).value is True, "active is not off for everybody"
        assert provider.effective(self.where, replace(self.off, looks=True)).value is False
        provider.close()

    def test_by_its_number(self, vendor: PostHog) -> None:
        carry_out(self.provider(vendor), self.where, self.off)
        assert vendor.writes[0].path == "/api/projects/42/feature_flags/17/"
        assert vendor.writes[0].body == {"active": False, "version": 3}
        assert vendor.flags[1]["active"]

    def test_the_projects_own(self, vendor: PostHog) -> None:
        done = carry_out(self.provider(vendor), Where("new-search"), self.off)
        assert done.served.value is False and vendor.writes[0].parts[2] == "@current"

    def test_approvals(self, vendor: PostHog) -> None:
        vendor.gated = True
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert done.change.pending == "change request cr-1 waits for its approval" and vendor.flag["active"]

    def test_somebody_else_was_faster(self, vendor: PostHog) -> None:
        provider = self.provider(vendor)
        state = provider.state(self.where)
        vendor.flag["version"] += 1
        with pytest.raises(FlagError, match="HTTP 409: somebody else changed it"):
            provider.set(self.where, self.off, state)
        provider.close()

    def test_another_projects_token(self, vendor: PostHog) -> None:
        vendor.own = "phc_other"
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.served.known and "client_token is another project's" in done.served.why
        vendor.reads_projects = False
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.served.known and "cannot be asked (project:read)" in done.served.why

    def test_one_without_it_says_nothing_of_the_others(self, vendor: PostHog) -> None:
        vendor.flag["filters"]["groups"][0]["rollout_percentage"] = 0
        vendor.lag = None
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert done.called and done.served.value is True and done.served.why == "it is still active"

    @pytest.mark.parametrize(
        ("broken", "told"),
        [
            ({"errorsWhileComputingFlags": True}, "could not compute the flags"),
            ({"quotaLimited": ["feature_flags"], "flags": {}}, "quota of flag requests is used up"),
        ],
    )
    def test_no_flags_at_all(self, vendor: PostHog, broken: Dict[str, Any], told: str) -> None:
        vendor.broken = broken
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.served.known and told in done.served.why

    def test_percentages(self, vendor: PostHog) -> None:
        for percentage, called in ((20, True), (20, False), (100, True), (0, True), (12.5, True)):
            wish = Wish(ON, serve=True, percentage=percentage)
            done = carry_out(self.provider(vendor), self.where, wish, asks=1)
            assert (done.called, done.served.known, done.served.percentage) == (called, True, percentage)
        assert vendor.flag["filters"]["payloads"] == {}

    def test_a_variant(self, vendor: PostHog) -> None:
        variants = [{"key": "blue", "rollout_percentage": 50}, {"key": "red", "rollout_percentage": 50}]
        vendor.flag["filters"]["multivariate"] = {"variants": variants}
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve="red", variation="red"))
        assert (done.served.value, done.served.known) == ("red", True)
        with pytest.raises(OptionError, match="has no variant 'green'. It has blue, red"):
            carry_out(self.provider(vendor), self.where, Wish(ON, variation="green"))

    def test_what_it_cannot_do(self, vendor: PostHog) -> None:
        with pytest.raises(OptionError, match="off serves false"):
            carry_out(self.provider(vendor), self.where, Wish("off", serve="x"))
        vendor.flag["filters"]["groups"] *= 2
        with pytest.raises(OptionError, match="2 release conditions"):
            carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=5))
        vendor.flags.append(flag(19, "new-search"))
        assert "2 flags have the key 'new-search'" in self.error(vendor)
        assert not vendor.writes

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (Where("new-search", "", "43"), "no project '43'. There are 42"),
            (Where("new-search", "production", "42"), "environments are projects of their own"),
        ],
    )
    def test_what_is_not_there(self, vendor: PostHog, where: Where, told: str) -> None:
        assert told in self.error(vendor, where)

    def test_tokens_of_the_wrong_kind(self, vendor: PostHog) -> None:
        assert "is a project's token, which cannot change flags" in self.error(vendor, token=KEY)
        with pytest.raises(OptionError, match="a personal API key, which no client has"):
            self.provider(vendor, client_token=TOKEN).effective(self.where, self.off)
        with pytest.raises(FlagError, match="client_token is no project's token"):
            self.provider(vendor, client_token="phc_wrong").effective(self.where, self.off)
