# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Unleash's words mean: shares, definitions, environments, contexts, tokens, and addresses."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    OFF,
    ON,
    Deadline,
    Options,
    State,
    Where,
    Wish,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.unleash import build
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.unleash_rules import (
    changes_for,
    context_of,
    environment_of,
    meaning,
    share_of,
)

WHERE = Where("f", "production", "default")


def strategy(share: object, **more: Any) -> Dict[str, Any]:
    return {"name": "flexibleRollout", "parameters": {"rollout": share}, **more}


@pytest.mark.parametrize(
    ("strategies", "share"),
    [
        ([], 100),
        ([strategy("20")], 20),
        ([strategy(20)], 20),
        ([strategy("120")], 100),  # Unleash takes it, and its SDKs serve everybody
        ([strategy("many")], None),
        ([strategy("nan")], None),
        ([strategy("20", disabled=True), strategy("30")], 30),
        ([strategy("20"), strategy("30")], None),
        ([strategy("20", constraints=[{"contextName": "country"}])], None),
        ([strategy("20", segments=[7])], None),
        ([{"name": "default"}], 100),
        ([{"name": "userWithId", "parameters": {"userIds": "1"}}], None),
    ],
)
def test_shares(strategies: List[Dict[str, Any]], share: Optional[float]) -> None:
    assert share_of({"strategies": strategies}) == share
    assert share_of({"strategies": strategies, "dependencies": [{"feature": "other"}]}) is None


@pytest.mark.parametrize(
    ("definition", "known", "value", "share"),
    [
        (None, False, None, None),
        ({"enabled": False, "strategies": [strategy("100")]}, True, False, 0),
        ({"enabled": True, "strategies": [strategy("100")]}, True, True, 100),
        ({"enabled": True, "strategies": [strategy("0")]}, True, False, 0),
        ({"enabled": True, "strategies": [strategy("20")]}, True, None, 20),
        ({"enabled": True, "strategies": [], "dependencies": [{"feature": "other"}]}, False, None, None),
    ],
)
def test_what_a_definition_serves(
    definition: Optional[Dict[str, Any]], known: bool, value: object, share: Optional[float]
) -> None:
    for state in (ON, OFF):
        served = meaning(definition, Wish(state))
        assert (served.known, served.value, served.percentage) == (known, value, share)
        assert bool(served.why) is not known


def test_only_what_differs_is_changed() -> None:
    blue, green = ({"name": name, "weight": 500, "weightType": "variable"} for name in ("blue", "green"))
    state = State(True, 20, raw={"strategies": [strategy("20", variants=[blue, green])]})
    assert changes_for(state, Wish(ON, True, percentage=20)) == {}
    assert changes_for(state, Wish(ON, True, percentage=30)) == {"/parameters/rollout": "30"}
    changed = changes_for(state, Wish(ON, "blue", variation="blue"))
    assert changed == {"/variants": [{**blue, "weight": 1000}, {**green, "weight": 0, "weightType": "fix"}]}


def test_the_environment_that_is_meant() -> None:
    flag = {"environments": [{"name": "production", "enabled": True}, {"name": "test", "enabled": False}]}
    assert environment_of(flag, WHERE)["enabled"] is True
    with pytest.raises(OptionError, match="there are production, test"):
        environment_of(flag, Where("f"))
    assert environment_of({"environments": flag["environments"][1:]}, Where("f"))["name"] == "test"


def test_a_context_is_told_as_unleash_has_it() -> None:
    told = context_of({"targetingKey": "user-1", "country": "NO", "sessionId": 7})
    assert told == {"userId": "user-1", "properties[country]": "NO", "sessionId": "7"}


def test_a_token_of_another_environment_is_told_before_anything_is_asked() -> None:
    options = Options("unleash", url="http://127.0.0.1:9/api/", token="t", client_token="default:test.5ecret")
    provider = build(options, Deadline.after(1))
    with pytest.raises(OptionError, match="is of environment 'test', not of 'production'") as told:
        provider.wanted(WHERE, Wish(OFF), State(True, 100))
    assert "5ecret" not in told.value.message
    with pytest.raises(OptionError, match="provider has no url"):
        build(Options("unleash"), Deadline.after(1))
