# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flipt's version 2 against its published contract: a server that knows these calls only, and insists on their form."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Dict

import pytest
from flag_flipt import CLIENT, Evaluating, segment, shares, threshold
from flag_vendors import JSON, Asked, Contract, Reply, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

TOKEN = "management-secret"
ROOT = "/api/v2/environments"
RESOURCES = f"{ROOT}/production/namespaces/shop/resources"
FLAG = {
    "@type": str,
    "key": str,
    "type?": str,
    "name?": str,
    "description?": str,
    "enabled?": bool,
    "variants?": list,
    "rules?": list,
    "rollouts?": [dict],
    "defaultVariant?": str,
    "metadata?": dict,
}


class FliptV2(Evaluating):
    versioned = True

    def __init__(self) -> None:
        super().__init__()
        self.flag: Dict[str, Any] = {
            "@type": "flipt.core.Flag",
            "key": "new-search",
            "type": "BOOLEAN_FLAG_TYPE",
            "name": "New search",
            "enabled": True,
            "rollouts": [],
            "metadata": {"owner": "search"},
        }
        self.revision = 1
        self.environments = ["production"]

    def served(self) -> Dict[str, Any]:
        return self.flag

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            return self.evaluate(asked)
        if asked.header("Authorization") != f"Bearer {TOKEN}":
            return Reply(401, {"code": 16, "message": "request was not authenticated", "details": []})
        kind = f"{RESOURCES}/flipt.core.Flag"
        routes = {
            ("GET", ROOT): lambda asked: Reply(200, {"environments": [{"key": one} for one in self.environments]}),
            ("GET", f"{ROOT}/production/namespaces"): lambda asked: Reply(200, {"items": [{"key": "shop"}]}),
            ("GET", kind): lambda asked: Reply(200, {"resources": [self.resource()], "revision": "1"}),
            ("GET", f"{kind}/new-search"): lambda asked: self.told(),
            ("PUT", RESOURCES): self.update,
        }
        route = routes.get((asked.method, asked.path))
        return route(asked) if route else Reply(404, {"code": 5, "message": "not found", "details": []})

    def resource(self) -> Dict[str, Any]:
        return {"namespaceKey": "shop", "key": "new-search", "payload": self.flag}

    def told(self) -> Reply:
        return Reply(200, {"resource": self.resource(), "revision": str(self.revision)})

    def update(self, asked: Asked) -> Reply:
        insist(asked.header("Content-Type") == JSON, "JSON")
        shaped(asked.body, {"key": str, "payload": FLAG, "revision": str})
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        insist(body["payload"]["@type"] == "flipt.core.Flag" and body["payload"]["key"] == body["key"], "the same flag")
        if body["revision"] != str(self.revision):
            return Reply(409, {"code": 10, "message": "revision is not the latest", "details": []})
        self.old = deepcopy(self.flag)
        self.flag = body["payload"]
        self.revision += 1
        return self.told()


class TestFliptV2(Contract):
    make = FliptV2
    type = "flipt_v2"
    token, client_token = TOKEN, CLIENT

    def test_everything_else_is_kept(self, vendor: FliptV2) -> None:
        before = deepcopy(vendor.flag)
        carry_out(self.provider(vendor), self.where, self.off)
        assert vendor.flag == {**before, "enabled": False}

    def test_off_takes_thresholds_along(self, vendor: FliptV2) -> None:
        vendor.flag["rollouts"] = [segment(False), threshold(100)]
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert done.served.value is False and len(vendor.writes) == 1
        assert vendor.flag["rollouts"] == [
            segment(False),
            {**threshold(0), "threshold": {"percentage": 0, "value": True}},
        ]

    def test_members_of_a_segment_still_have_it(self, vendor: FliptV2) -> None:
        vendor.flag["rollouts"] = [segment(True)]
        done = carry_out(self.provider(vendor), self.where, self.off, asks=1)
        assert not done.served.known and "1 of its rollouts still serve true" in done.served.why

    def test_percentages(self, vendor: FliptV2) -> None:
        wishes = [Wish(ON, serve=True, percentage=one) for one in (20, 20, 100, 0, 12.5)]
        assert shares(self, vendor, wishes) == [(True, 20), (False, 20), (True, 100), (True, 0), (True, 12.5)]
        assert vendor.flag["rollouts"] == [
            {"type": "THRESHOLD_ROLLOUT_TYPE", "threshold": {"percentage": 12.5, "value": True}}
        ]

    def test_somebody_else_was_faster(self, vendor: FliptV2) -> None:
        provider = self.provider(vendor)
        state = provider.state(self.where)
        vendor.revision += 1
        with pytest.raises(FlagError, match="HTTP 409: somebody else changed it"):
            provider.set(self.where, self.off, state)
        provider.close()

    def test_the_only_environment_need_not_be_named(self, vendor: FliptV2) -> None:
        done = carry_out(self.provider(vendor), Where("new-search", "", "shop"), self.off)
        assert done.served.value is False
        vendor.environments.append("test")
        told = self.error(vendor, Where("new-search", "", "shop"))
        assert "is in 2 environments, and none is named. Set environment to one of production, test" in told

    @pytest.mark.parametrize(
        ("where", "told"),
        [
            (Where("new-search", "prodution", "shop"), "no environment 'prodution' (did you mean 'production'?)"),
            (Where("new-search", "production", "shopp"), "no project 'shopp' in Flipt's namespaces (did you mean"),
        ],
    )
    def test_what_is_not_there(self, vendor: FliptV2, where: Where, told: str) -> None:
        assert told in self.error(vendor, where)
