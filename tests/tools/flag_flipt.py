# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flipt's evaluation API as its contract says, for the contract tests of both versions."""

from __future__ import annotations

from typing import Any, Dict, List
from zlib import crc32

from flag_vendors import JSON, Asked, Contract, Reply, Vendor, carry_out, insist, shaped

EVALUATION = {"namespaceKey": str, "flagKey": str, "entityId": str, "context": {str: str}, "requestId?": str}
CLIENT = "client-secret"


class Evaluating(Vendor):
    """`served()` gives the flag and its rollouts as they are stored now."""

    versioned = False

    def is_client(self, asked: Asked) -> bool:
        return asked.path.startswith("/evaluate/")

    def served(self) -> Dict[str, Any]:
        raise NotImplementedError

    def evaluate(self, asked: Asked) -> Reply:
        insist(asked.method == "POST" and asked.header("Content-Type") == JSON, "POST of JSON")
        if asked.header("Authorization") != f"Bearer {CLIENT}":
            return Reply(401, {"code": 16, "message": "request was not authenticated", "details": []})
        shaped(asked.body, {**EVALUATION, **({"environmentKey": str} if self.versioned else {})})
        body: Dict[str, Any] = asked.body  # type: ignore[assignment]
        flag: Dict[str, Any] = self.clients(self.served())  # type: ignore[assignment]
        if body["flagKey"] != flag["key"]:
            return Reply(404, {"code": 5, "message": f'flag "{body["flagKey"]}" not found', "details": []})
        boolean = flag.get("type") == "BOOLEAN_FLAG_TYPE"
        if asked.path == "/evaluate/v1/boolean":
            if not boolean:
                return Reply(400, {"code": 3, "message": "flag type VARIANT_FLAG_TYPE invalid", "details": []})
            return self.boolean(flag, crc32((body["entityId"] + body["flagKey"]).encode()) % 100)
        insist(asked.path == "/evaluate/v1/variant" and not boolean, asked.path)
        if not flag.get("enabled"):
            return Reply(200, {"match": False, "reason": "FLAG_DISABLED_EVALUATION_REASON", "flagKey": flag["key"]})
        told = {"match": True, "variantKey": "blue", "reason": "MATCH_EVALUATION_REASON", "flagKey": flag["key"]}
        return Reply(200, told)

    def boolean(self, flag: Dict[str, Any], bucket: int) -> Reply:
        """Rollouts in turn; `enabled` is the default, and left out when it is false. Nobody is in a segment."""
        found, reason = bool(flag.get("enabled")), "DEFAULT_EVALUATION_REASON"
        for one in flag["rollouts"]:
            share = one.get("threshold")
            if share and bucket < share.get("percentage", 0):
                found, reason = bool(share.get("value")), "MATCH_EVALUATION_REASON"
                break
        told = {"reason": reason, "flagKey": flag["key"], "requestDurationMillis": 0.1}
        return Reply(200, {**told, **({"enabled": True} if found else {})})


def threshold(percentage: float, value: bool = True) -> Dict[str, Any]:
    share = {"percentage": percentage, **({"value": True} if value else {})}
    return {"id": "r1", "type": "THRESHOLD_ROLLOUT_TYPE", "rank": 1, "description": "some", "threshold": share}


def segment(value: bool) -> Dict[str, Any]:
    member: Dict[str, Any] = {"segmentKey": "staff", **({"value": True} if value else {})}
    return {"id": "r2", "type": "SEGMENT_ROLLOUT_TYPE", "rank": 2, "segment": member}


def shares(contract: Contract, vendor: Evaluating, wishes: List[Any]) -> List[Any]:
    """The share of clients after each wish, and whether a call was needed."""
    found = []
    for wish in wishes:
        done = carry_out(contract.provider(vendor), contract.where, wish, asks=1)
        found.append((done.called, done.served.percentage))
    return found
