# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only Unleash Enterprise has, against its published contract: change requests, and several projects.

Everything else is tried against Unleash itself. The refusal of a change that must be requested is as Unleash 8.2 words
it; the calls for change requests are those of Unleash's own, open source, administration pages.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Dict, List

import pytest
from flag_vendors import Asked, Contract, Reply, Vendor, carry_out, insist, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import ON, FlagError, Where, Wish

ADMIN, CLIENT = "management-secret", "client-secret"
MUST_ASK = (
    "You don't have the required permissions to perform this operation. "
    'To perform this action, you need the "SKIP_CHANGE_REQUEST" permission.'
)
ANOTHER_KIND = Reply(403, {"message": "invalid token: expected a different token type for this endpoint"})
FLAGS = {"new-search": "shop", "old-search": "shop", "desk-lamp": "desk"}


def missing(what: str) -> Reply:
    return Reply(404, {"name": "NotFoundError", "message": what, "details": [{"message": what}]})


class Enterprise(Vendor):
    def __init__(self) -> None:
        super().__init__()
        self.enabled = True
        self.must_ask = False
        self.requests: List[Dict[str, Any]] = []

    def is_client(self, asked: Asked) -> bool:
        return asked.path.startswith(("/api/client/", "/api/frontend"))

    def answer(self, asked: Asked) -> Reply:
        if self.is_client(asked):
            return self.to_client(asked)
        if asked.header("Authorization") != ADMIN:
            return Reply(401, {"name": "UnauthorizedError", "message": "You must log in to use Unleash."})
        insist(asked.parts[:2] == ["api", "admin"], "no such resource")
        if asked.parts[2:] == ["projects"]:
            return Reply(200, {"projects": [{"id": "default"}, {"id": "shop"}, {"id": "desk"}]})
        if asked.parts[2:] == ["search", "features"]:
            return self.search(asked)
        project, kind, rest = asked.parts[3], asked.parts[4], asked.parts[5:]
        if kind == "change-requests":
            return self.change_request(asked, rest)
        if kind == "environments":
            return self.propose(asked, rest)
        if not rest:
            return Reply(200, {"features": [{"name": name} for name, home in FLAGS.items() if home == project]})
        if rest[0] != "new-search" or project != "shop":
            return missing(f'There\'s no feature named "{rest[0]}" in project "{project}".')
        return self.turn(asked, rest[1:]) if rest[1:] else Reply(200, self.flag())

    def flag(self) -> Dict[str, Any]:
        strategy = {"id": "01", "name": "flexibleRollout", "parameters": {"rollout": "100"}, "disabled": False}
        rooms = {"development": False, "production": self.enabled}
        return {
            "name": "new-search",
            "project": "shop",
            "archived": False,
            "environments": [{"name": name, "enabled": on, "strategies": [strategy]} for name, on in rooms.items()],
        }

    def turn(self, asked: Asked, rest: List[str]) -> Reply:
        insist(rest[:2] == ["environments", "production"], asked.path)
        if self.must_ask:
            return Reply(403, {"name": "PermissionError", "message": MUST_ASK, "details": [{"message": MUST_ASK}]})
        insist(asked.method == "POST" and asked.body is None and rest[2:] in (["on"], ["off"]), asked.path)
        self.old, self.enabled = self.enabled, rest[2] == "on"
        return Reply(200)

    def search(self, asked: Asked) -> Reply:
        if asked.query.get("archived") == "IS:true":
            return Reply(200, {"features": [], "total": 0})
        found = [{"name": name, "project": home} for name, home in FLAGS.items() if asked.query["query"] in name]
        return Reply(200, {"features": found, "total": len(found)})

    def propose(self, asked: Asked, rest: List[str]) -> Reply:
        insist(asked.method == "POST" and rest == ["production", "change-requests"], asked.path)
        shaped(asked.body, [{"feature": str, "action": str, "payload": {"enabled": bool}}])
        made = asked.body[0]  # type: ignore[index]
        change = {"id": 1, "action": made["action"], "payload": made["payload"]}
        feature = {"name": made["feature"], "changes": [change]}
        self.requests.append({"id": 17, "state": "Draft", "environment": "production", "features": [feature]})
        return Reply(200, self.requests[-1])

    def change_request(self, asked: Asked, rest: List[str]) -> Reply:
        if rest[:1] == ["pending"]:
            insist(asked.method == "GET" and rest == ["pending", "new-search"], asked.path)
            return Reply(200, deepcopy(self.requests))
        insist(asked.method == "PUT" and rest == ["17", "state"] and asked.body == {"state": "In review"}, asked.path)
        self.requests[-1]["state"] = "In review"
        return Reply(200, self.requests[-1])

    def to_client(self, asked: Asked) -> Reply:
        if asked.header("Authorization") != CLIENT or asked.path != "/api/client/features":
            return ANOTHER_KIND
        definition = {"name": "new-search", "enabled": self.clients(self.enabled), "strategies": []}
        return Reply(200, {"version": 2, "features": [definition], "query": {"environment": "production"}})


class TestUnleashEnterprise(Contract):
    type = "unleash"
    make = Enterprise

    def test_a_change_that_has_to_be_approved_is_pending(self, vendor: Enterprise) -> None:
        vendor.must_ask = True
        for attempt in range(2):
            done = carry_out(self.provider(vendor), self.where, self.off)
            assert done.change.pending == "change request 17 of project shop waits for approval", attempt
        assert [request["state"] for request in vendor.requests] == ["In review"]
        assert vendor.enabled is True

    def test_a_share_is_not_asked_for(self, vendor: Enterprise) -> None:
        vendor.must_ask = True
        with pytest.raises(FlagError, match="changes of this environment have to be requested"):
            carry_out(self.provider(vendor), self.where, Wish(ON, serve=True, percentage=10))
        assert not vendor.requests

    def test_a_flag_of_another_project(self, vendor: Enterprise) -> None:
        told = self.error(vendor, Where("desk-lamp", "production", "shop"))
        assert "no flag 'desk-lamp' in project 'shop'" in told and "It is in project 'desk'" in told
        told = self.error(vendor, Where("new-search", "production", "shopp"))
        assert "no project 'shopp'" in told and "did you mean 'shop'" in told

    def test_a_404_that_its_own_list_contradicts(self, vendor: Enterprise) -> None:
        vendor.forced = [missing('There\'s no feature named "new-search".')]
        assert "contradicts itself" in self.error(vendor) and not vendor.writes

    def test_a_404_while_the_database_fails(self, vendor: Enterprise) -> None:
        vendor.forced = [missing("There's no feature."), Reply(500, {"message": "Knex: Timeout"})]
        told = self.error(vendor)
        assert "HTTP 500" in told and "Knex: Timeout" in told and "no flag" not in told
