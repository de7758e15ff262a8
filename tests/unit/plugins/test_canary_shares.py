# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which shares of a place's traffic a plan walks through, when nobody says which."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.action.canary_plan import DEFAULT_TRAFFIC, _traffic
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import Policy, parse_policy


def policy_of(backend: str, **options: object) -> Policy:
    source = {"type": "prometheus", "url": "http://127.0.0.1:9090"}
    gates = [{"name": "errors", "bad": "bad", "total": "all"}]
    raw: Dict[str, Any] = {"backend": backend, "backend_options": options, "source": source, "gates": gates}
    return parse_policy(raw, "test/shop")


def test_a_deployment_is_given_shares_and_what_can_have_no_canary_beside_it_is_released_whole() -> None:
    auto = {"traffic_steps": "auto"}
    assert _traffic(auto, policy_of("deployment"), {}) == DEFAULT_TRAFFIC
    assert _traffic(auto, policy_of("argo_rollout"), {}) == DEFAULT_TRAFFIC
    for kind in ("StatefulSet", "DaemonSet"):
        assert _traffic(auto, policy_of("deployment", kind=kind), {}) == ()
    assert _traffic(auto, policy_of("deployment", strategy="blue_green"), {}) == ()
    assert _traffic(auto, policy_of("helm"), {}) == ()


@pytest.mark.parametrize(
    "backend, options, said",
    [
        ("deployment", {"kind": "StatefulSet"}, "a StatefulSet cannot"),
        ("deployment", {"strategy": "blue_green"}, "strategy blue_green cannot"),
        ("helm", {}, "backend helm cannot"),
    ],
)
def test_shares_that_cannot_be_are_refused_before_anything_is_begun(
    backend: str, options: Dict[str, object], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        _traffic({"traffic_steps": [10]}, policy_of(backend, **options), {})
