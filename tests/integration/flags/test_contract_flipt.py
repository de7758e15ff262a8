# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flipt's version 1 against its published contract: a server that knows these calls only, and insists on their form."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, Dict

import pytest
from flag_flipt import CLIENT, Evaluating, segment, shares, threshold
from flag_vendors import JSON, Asked, Contract, Reply, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

TOKEN = "management-secret"
FLAG = "/api/v1/namespaces/shop/flags/new-search"
UPDATE = {
    "key?": str,
    "name?": str,
    "description?": str,
    "enabled?": bool,
    "namespaceKey?": str,
    "defaultVariantId?": str,
    "metadata?": dict,
}
SHARE = {"threshold": {"percentage": (int, float), "value": bool}, "description?": str}


class Flipt(Evaluating):
    def __init__(self) -> None:
        super().__init__()
        self.flag: Dict[str, Any] = {
            "key": "new-search",
            "name": "New search",
            "description": "finds more",
            "enabled": True,
            "namespaceKey": "shop",
            "type": "BOOLEAN_FLAG_TYPE",
            "variants": [],
            "metadata": {"owner": "search"},
        }
        self.rollouts: Any = []

    def served(self) -> Dict[str, Any]:
        return {**self.flag, "rollouts": self.rollouts}

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            return self.evaluate(asked)
        if asked.header("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"code": 16, "message": "request was not authenticated", "details": []})
        insist(asked.method == "GET" or asked.header("Content-Type") == JSON, "JSON")
        routes = {
            ("GET", "/api/v1/namespaces"): lambda asked: Reply(200, {"namespaces": [{"key": "shop"}]}),
            ("GET", "/api/v1/namespaces/shop/flags"): lambda asked: Reply(200, {"flags": [self.flag]}),
            ("GET", FLAG): lambda asked: Reply(200, self.flag),
            ("PUT", FLAG): self.update,
            ("GET", f"{FLAG}/rollouts"): lambda asked: Reply(200, {"rules": self.rollouts, "totalCount": 1}),
            ("POST", f"{FLAG}/rollouts"): self.add,
            ("PUT", f"{FLAG}/rollouts/r1"): self.share,
        }
        route = routes.get((asked.method, asked.path))
        if route is None:
            return Reply(404, {"code": 5, "message": "not found", "details": []})
        return route(asked)

    def update(self, asked: Asked) -> Reply:
        shaped(asked.body, UPDATE)
        self.old = deepcopy(self.served())
        emptied = {"name": "", "description": "", "enabled": False, "metadata": {}, "defaultVariantId": ""}
        self.flag.update({**emptied, **asked.body})  # type: ignore[dict-item]
        return Reply(200, self.flag)

    def share(self, asked: Asked) -> Reply:
        shaped(asked.body, SHARE)
        self.old = self.old or deepcopy(self.served())
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        self.rollouts[0].update(threshold=body["threshold"], description=body.get("description", ""))
        return Reply(200, self.rollouts[0])

    def add(self, asked: Asked) -> Reply:
        shaped(asked.body, {**SHARE, "rank": int})
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        insist(body["rank"] == len(self.rollouts) + 1, "behind the others")
        self.rollouts.append({"id": "r1", "type": "THRESHOLD_ROLLOUT_TYPE", **body})
        return Reply(200, self.rollouts[-1])


class TestFlipt(Contract):
    make = Flipt
    type = "flipt"
    token, client_token = TOKEN, CLIENT
    where = Where("new-search", "", "shop")

    def test_what_is_not_sent_would_be_emptied(self, vendor: Flipt) -> None:
        vendor.flag["defaultVariant"] = {"id": "v1", "key": "blue"}
        before = deepcopy(vendor.flag)
        carry_out(self.provider(vendor), self.where, self.off)
        assert vendor.flag == {**before, "enabled": False, "defaultVariantId": "v1"}

    def test_off_takes_thresholds_along(self, vendor: Flipt) -> None:
        vendor.rollouts = [threshold(100)]
        vendor.lag = 1
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert (done.served.value, done.served.percentage) == (False, 0)
        assert [one.path for one in vendor.writes] == [FLAG, f"{FLAG}/rollouts/r1"]
        assert vendor.rollouts[0]["description"] == "some"

    def test_members_of_a_segment_still_have_it(self, vendor: Flipt) -> None:
        vendor.rollouts = [segment(True)]
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.served.known and "1 of its rollouts still serve true" in done.served.why
        told = self.provider(vendor).effective(self.where, replace(self.off, looks=True))
        assert (told.known, told.value) == (True, False), "who looks is told what is served to them"
        vendor.rollouts = [segment(False)]
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert (done.served.value, done.served.percentage) == (False, None)

    def test_percentages(self, vendor: Flipt) -> None:
        wishes = [Wish(ON, serve=True, percentage=one) for one in (20, 20, 100, 0, 12.5)]
        assert shares(self, vendor, wishes) == [(True, 20), (False, 20), (True, 100), (True, 0), (True, 12.5)]
        assert shares(self, vendor, [Wish(ON, serve=True)]) == [(True, 100)]
        assert len(vendor.rollouts) == 1

    def test_a_variant_flag_serves_nothing(self, vendor: Flipt) -> None:
        vendor.flag["type"] = "VARIANT_FLAG_TYPE"
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert done.called and "their code's default" in done.served.why and done.served.final
        done = carry_out(self.provider(vendor), self.where, Wish(ON, serve="blue"))
        assert done.served.value == "blue"

    @pytest.mark.parametrize(
        ("wish", "told"),
        [
            (Wish("off", serve=True), "on serves true, off serves false"),
            (Wish(ON, serve=True, variation="blue"), "chooses variants by rules"),
        ],
    )
    def test_what_it_cannot_do(self, vendor: Flipt, wish: Wish, told: str) -> None:
        with pytest.raises(OptionError, match=told):
            carry_out(self.provider(vendor), self.where, wish)
        vendor.rollouts = [threshold(20), threshold(30)]
        with pytest.raises(OptionError, match="several thresholds"):
            carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=5))
        assert not vendor.writes

    def test_read_only_storage(self, vendor: Flipt) -> None:
        provider = self.provider(vendor)
        state = provider.state(self.where)
        vendor.forced = [Reply(501, {"code": 12, "message": "not implemented", "details": []})]
        with pytest.raises(FlagError, match="its storage is read-only"):
            provider.set(self.where, self.off, state)
        provider.close()

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (Where("new-search", "", "shopp"), "no project 'shopp' in Flipt's namespaces (did you mean 'shop'?)"),
            (Where("new-search", "production", "shop"), "version 1 has no environments"),
        ],
    )
    def test_what_is_not_there(self, vendor: Flipt, where: Where, told: str) -> None:
        assert told in self.error(vendor, where)

    def test_without_any_token(self, vendor: Flipt) -> None:
        """Flipt may be set up so that anybody may ask; if not, it says so."""
        assert "HTTP 401" in self.error(vendor, token="")
        served = self.provider(vendor, token="").effective(self.where, Wish(ON, serve=True))
        assert (served.known, served.value, served.percentage) == (True, True, None)
