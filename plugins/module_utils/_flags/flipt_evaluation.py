# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Flipt's clients are served: both versions of Flipt have the same evaluation API.

After the published contract: Flipt OpenAPI 1.47 and 2.9, EvaluationRequest, BooleanEvaluationResponse and
VariantEvaluationResponse. What is false may be left out of an answer.
"""

from __future__ import annotations

from typing import Callable, Dict

from .client import Http, refused, token_of
from .flipt_rules import Rules
from .model import OFF, FlagError, Served, Where, Wish
from .vendors import Sides, attributes, targeting_key, unknown_to_clients, without_token

LOCAL = "http://localhost:8080"  # where Flipt listens when nobody says
_BY = "evaluation API"


def bearer(token: str) -> Dict[str, str]:
    """Who asks; Flipt may be set up so that anybody may."""
    return {"Authorization": f"Bearer {token}"} if token else {}


class Evaluation:
    """Asked as clients ask; `environment` is '' for version 1, which has none."""

    def __init__(self, sides: Sides, namespace: str, environment: str = "") -> None:
        self._sides, self._namespace, self._environment = sides, namespace, environment

    def served(self, where: Where, wish: Wish, rules: Callable[[], Rules]) -> Served:
        """The evaluation, and the share that `rules` say; they are asked when one evaluation does not say it all."""
        token = token_of(self._sides.options, client=True, needed=False)
        http = self._sides.clients(self._sides.options.url or LOCAL, bearer(token))
        body: Dict[str, object] = {
            "namespaceKey": self._namespace,
            "flagKey": where.flag,
            "entityId": targeting_key(wish),
            "context": {name: str(value) for name, value in attributes(wish).items()},
        }
        if self._environment:
            body["environmentKey"] = self._environment
        answer = http.ask("POST", "/evaluate/v1/boolean", body, evaluates=True)
        if answer.status == 401 and not token:
            return without_token()
        if answer.status == 404:
            return unknown_to_clients(f"clients have no flag {where.flag!r}: they get their code's default", _BY)
        if answer.status == 400:  # it is no boolean flag
            return _variant(http, body, where)
        if not answer.ok or not answer.fields.get("reason"):
            raise refused(answer, f"asking what clients are served of {where}", {401: "client_token is wrong"})
        return self._boolean(answer.fields.get("enabled") is True, wish, rules)

    def _boolean(self, enabled: bool, wish: Wish, rules: Callable[[], Rules]) -> Served:
        served = Served(known=True, value=enabled, by=_BY)
        if enabled is not wish.serve and wish.percentage is None:
            return served
        try:
            found = rules()
        except FlagError:
            if self._sides.may_manage:
                raise
            return served  # this one may not ask for them
        if wish.state == OFF and found.segments and not wish.looks:
            return unknown_to_clients(f"{found.segments} of its rollouts still serve true to members of segments", _BY)
        return Served(known=True, value=enabled, percentage=found.percentage, by=f"{_BY}, and rollouts")


def _variant(http: Http, body: Dict[str, object], where: Where) -> Served:
    answer = http.ask("POST", "/evaluate/v1/variant", body, evaluates=True)
    if not answer.ok or not answer.fields.get("reason"):
        raise refused(answer, f"asking what clients are served of {where}")
    variant = answer.fields.get("variantKey")
    if not variant:
        off = answer.fields.get("reason") == "FLAG_DISABLED_EVALUATION_REASON"
        return unknown_to_clients("no variant is served: clients get their code's default", _BY, final=off)
    return Served(known=True, value=variant, by=_BY)
