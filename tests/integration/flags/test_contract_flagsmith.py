# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flagsmith against its published contract: a server that knows these calls only, and insists on their form."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Dict, List

import pytest
from flag_vendors import JSON, Asked, Contract, Reply, Vendor, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, Where, Wish

TOKEN, KEY = "organisation-secret", "8KzETdDeMY7xkqSkY3Gsg"
STATE = {"enabled?": bool, "feature_state_value?": (str, int)}
UPDATE = {"feature": {"name": str}, "enabled": bool, "value": {"type": str, "value": str}}


class Flagsmith(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.environment = {
            "id": 11,
            "name": "production",
            "api_key": KEY,
            "project": 7,
            "minimum_change_request_approvals": None,
            "hide_disabled_flags": False,
            "use_v2_feature_versioning": False,
        }
        self.default: Dict[str, Any] = {
            "id": 301,
            "feature": {"id": 21, "name": "new-search", "type": "STANDARD", "project": 7},
            "enabled": True,
            "feature_state_value": None,
            "environment": 11,
            "identity": None,
            "feature_segment": None,
        }
        self.overrides: List[Dict[str, Any]] = []

    def is_client(self, asked: Asked) -> bool:
        return asked.path == "/api/v1/flags/"

    def answer(self, asked: Asked) -> Reply:
        insist(asked.path.endswith("/"), "every path of Django ends with a slash")
        if self.is_client(asked):
            return self.flags(asked)
        if asked.header("Authorization") != f"Api-Key {TOKEN}":
            return Reply(401, {"detail": "Valid Master API Key not found."})
        routes = {
            ("GET", "/api/v1/environments/"): self.environments,
            ("GET", f"/api/v1/environments/{KEY}/"): lambda asked: Reply(200, self.environment),
            ("GET", f"/api/v1/environments/{KEY}/featurestates/"): self.states,
            ("PATCH", f"/api/v1/environments/{KEY}/featurestates/301/"): self.patch,
            ("GET", "/api/v1/features/featurestates/"): self.all_states,
            ("GET", "/api/v1/projects/7/features/"): lambda asked: page({"id": 21, "name": "new-search"}),
            ("POST", f"/api/experiments/environments/{KEY}/update-flag-v1/"): self.update,
        }
        route = routes.get((asked.method, asked.path))
        return route(asked) if route else Reply(404, {"detail": "Not found."})

    def environments(self, asked: Asked) -> Reply:
        if asked.query.get("project") != "7":
            return Reply(400, ["Invalid or missing value for project parameter."])
        return page(self.environment, {**self.environment, "name": "development", "api_key": "other"})

    def states(self, asked: Asked) -> Reply:
        insist(set(asked.query) == {"feature_name"}, "read by the feature's name")
        return page(self.default) if asked.query["feature_name"] == "new-search" else page()

    def all_states(self, asked: Asked) -> Reply:
        numbers = {name: value for name, value in asked.query.items() if name != "page"}
        insist(numbers == {"environment": "11", "feature": "21"}, "read by numbers")
        first = page(self.default, *(self.overrides[:1]))
        if len(self.overrides) < 2:
            return first
        assert isinstance(first.data, dict)
        return page(*self.overrides[1:]) if asked.query.get("page") == "2" else Reply(200, {**first.data, "next": "/2"})

    def patch(self, asked: Asked) -> Reply:
        insist(not self.environment["use_v2_feature_versioning"], "versions are published, not patched")
        insist(asked.header("Content-Type") == JSON, "JSON")
        shaped(asked.body, STATE)
        self.old = deepcopy(self.default)
        self.default.update(asked.body)  # type: ignore[call-overload]
        return Reply(200, self.default)

    def update(self, asked: Asked) -> Reply:
        shaped(asked.body, UPDATE)
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        insist(body["value"]["type"] in ("integer", "string", "boolean"), "a type of three")
        self.old = deepcopy(self.default)
        self.default.update(enabled=body["enabled"], feature_state_value=body["value"]["value"] or None)
        return Reply(204, text="")

    def flags(self, asked: Asked) -> Reply:
        if asked.header("X-Environment-Key") == "other":  # development, where it is off
            return Reply(200, [{**self.default, "enabled": False}])
        if asked.header("X-Environment-Key") != KEY:
            return Reply(401, {"detail": "Invalid or missing Environment key"})
        now: Dict[str, Any] = self.clients(self.default)  # type: ignore[assignment]
        hidden = self.environment["hide_disabled_flags"] and not now["enabled"]
        return Reply(200, [] if hidden else [now])


def page(*results: Any) -> Reply:
    return Reply(200, {"count": len(results), "next": None, "previous": None, "results": list(results)})


class TestFlagsmith(Contract):
    make = Flagsmith
    type = "flagsmith"
    token, client_token = TOKEN, KEY
    where = Where("new-search", "production", "7")
    secrets = (TOKEN,)  # an environment's key is public, and part of addresses

    def test_no_client_token_is_not_known(self, vendor: Vendor) -> None:
        """Here it is known: the environment's own key is what clients have."""
        done = carry_out(self.provider(vendor, client_token=""), self.where, self.off)
        assert (done.served.known, done.served.value) == (True, False)

    def test_only_enabled_is_changed(self, vendor: Flagsmith) -> None:
        vendor.default["feature_state_value"] = "blue"
        carry_out(self.provider(vendor), self.where, self.off)
        assert vendor.writes[0].body == {"enabled": False}
        carry_out(self.provider(vendor), self.where, Wish(ON, serve="green"))
        assert vendor.writes[1].body == {"enabled": True, "feature_state_value": "green"}

    def test_the_environment_by_its_key(self, vendor: Flagsmith) -> None:
        done = carry_out(self.provider(vendor), Where("new-search", KEY), self.off)
        assert done.served.value is False

    def test_versions_are_published(self, vendor: Flagsmith) -> None:
        vendor.environment["use_v2_feature_versioning"] = True
        vendor.default["feature_state_value"] = 7
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert done.served.value is False
        value = {"type": "integer", "value": "7"}
        assert vendor.writes[0].body == {"feature": {"name": "new-search"}, "enabled": False, "value": value}

    def test_change_requests(self, vendor: Flagsmith) -> None:
        vendor.environment["minimum_change_request_approvals"] = 1
        assert "takes changes by change request only; nothing was changed" in self.error(vendor)
        assert not vendor.writes

    def test_segments_that_still_have_it_on(self, vendor: Flagsmith) -> None:
        vendor.overrides = [{**vendor.default, "id": 302, "feature_segment": 5}]
        done = carry_out(self.provider(vendor), self.where, self.off, asks=2)
        assert not done.served.known and "1 segments or identities still have it turned on" in done.served.why

    def test_segments_on_a_further_page(self, vendor: Flagsmith) -> None:
        segment = {**vendor.default, "id": 302, "feature_segment": 5}
        vendor.overrides = [{**segment, "enabled": False}, segment]
        done = carry_out(self.provider(vendor), self.where, self.off, asks=2)
        assert not done.served.known and "1 segments or identities" in done.served.why

    def test_clients_of_another_environment_show_nothing(self, vendor: Flagsmith) -> None:
        assert "client_token is no environment key of production" in self.error(vendor, client_token="other")

    def test_hidden_flags_are_the_codes_default(self, vendor: Flagsmith) -> None:
        vendor.environment["hide_disabled_flags"] = True
        done = carry_out(self.provider(vendor), self.where, self.off, asks=2)
        assert not done.served.known and "their code's default" in done.served.why

    @pytest.mark.parametrize(
        ("wish", "told"),
        [
            (Wish(ON, serve=True, percentage=20), "20 % cannot be set"),
            (Wish(ON, variation="blue"), "no variations by name"),
            (Wish("off", serve="legacy"), "off serves false"),
        ],
    )
    def test_what_it_cannot_do(self, vendor: Flagsmith, wish: Wish, told: str) -> None:
        with pytest.raises(OptionError, match=told):
            carry_out(self.provider(vendor), self.where, wish)
        assert not vendor.writes

    def test_none_and_all(self, vendor: Flagsmith) -> None:
        for percentage, on in ((0, False), (100, True)):
            done = carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=percentage), asks=1)
            assert (done.called, done.served.value, vendor.default["enabled"]) == (True, on, on)

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (Where("new-search", "prodution", "7"), "no environment 'prodution' in project 7 (did you mean"),
            (Where("new-search", "production"), "no environment 'production'. Name its key"),
            (Where("new-search", "production", "8"), "there is no such project"),
            (Where("new-search"), "Flagsmith needs environment"),
        ],
    )
    def test_what_is_not_there(self, vendor: Flagsmith, where: Where, told: str) -> None:
        assert told in self.error(vendor, where)

    def test_tokens_of_the_wrong_kind(self, vendor: Flagsmith) -> None:
        assert "is a server-side environment key" in self.error(vendor, token="ser.abc")
        assert "client_token is no environment key" in self.error(vendor, client_token="abcdef")
