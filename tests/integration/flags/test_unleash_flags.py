# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unleash itself, with its PostgreSQL and its Python SDK: off is seen to be off, and whatever stops it is said."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from guard_play import results
from unleash import ENVIRONMENT, Unleash, sdk

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import change
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    OFF,
    Deadline,
    FlagError,
    Options,
    Where,
    Wish,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.unleash import build

pytestmark = pytest.mark.xdist_group("unleash")

LAG = 5  # seconds: Unleash gives SDKs new definitions about once a second, on a machine that is not busy
NORWAY = {"contextName": "country", "operator": "IN", "values": ["NO"]}


def rollout(share: int, **more: Any) -> Dict[str, Any]:
    return {"name": "flexibleRollout", "parameters": {"rollout": str(share), "stickiness": "userId"}, **more}


def task(server: Unleash, flag: str, state: str = "off", **options: Any) -> Dict[str, Any]:
    """The options of module feature_flag; those that are a provider's go there."""
    provider = {"type": "unleash", "url": server.url, "token": server.admin, "client_token": server.client}
    own = {name: options.pop(name) for name in ("token", "client_token", "timeout") if name in options}
    room = {"environment": ENVIRONMENT, "deadline": 10, **options}
    return {"service": "shop", "flag": flag, "state": state, **room, "provider": {**provider, **own}}


def turned(server: Unleash, flag: str, state: str = "off", *, dry: bool = False, **options: Any) -> Dict[str, Any]:
    """The result of the task; no token is in it."""
    result = change(task(server, flag, state, **options), dry=dry)
    assert not any(token in json.dumps(result) for token in server.tokens)
    return result


def refusal(server: Unleash, flag: str, state: str = "off", **options: Any) -> str:
    """The words of the error that the task ends with; no token is in them."""
    with pytest.raises(DeliveryError) as told:
        change(task(server, flag, state, **options), dry=False)
    assert not any(token in told.value.message + json.dumps(told.value.details) for token in server.tokens)
    return told.value.message


def settings(server: Unleash, flag: str) -> Dict[str, Any]:
    found: Dict[str, Any] = server.ask("GET", f"projects/default/features/{flag}/environments/{ENVIRONMENT}")
    return found


def waited(met: Callable[[], bool], seconds: float = 10) -> float:
    """Seconds until it is met."""
    begun = time.monotonic()
    while not met():
        assert time.monotonic() - begun < seconds, "it did not come true"
        time.sleep(0.02)
    return time.monotonic() - begun


# --- off, on, and how many


def test_off_is_effective_and_measured(unleash_server: Unleash) -> None:
    flag = unleash_server.create("new-search")
    unleash_server.switch(flag, "on")
    result = turned(unleash_server, flag)
    assert (result["changed"], result["status"], result.get("failed")) == (True, "effective", None)
    assert (result["before"]["on"], result["before"]["percentage"], result["after"]["on"]) == (True, 100, False)
    assert (result["served"]["value"], result["served"]["by"]) == (False, "client API")
    assert 0 < result["call_took"] < 2 and 0 <= result["effective_after"] < LAG

    again = turned(unleash_server, flag)
    assert (again["changed"], again["status"], again["served"]["value"]) == (False, "effective", False)
    assert len(unleash_server.events(flag, "feature-environment-disabled")) == 1


def test_check_mode_turns_nothing(unleash_server: Unleash) -> None:
    flag = unleash_server.create("checked")
    unleash_server.switch(flag, "on")
    result = turned(unleash_server, flag, dry=True)
    assert (result["changed"], result["diff"]["before"] != result["diff"]["after"]) == (True, True)
    assert settings(unleash_server, flag)["enabled"] is True


def test_what_unleashs_sdk_serves_follows(unleash_server: Unleash, tmp_path: Path) -> None:
    flag = unleash_server.create("checkout-v2", strategies=[rollout(100)])
    unleash_server.switch(flag, "on")
    with sdk(unleash_server, tmp_path) as client:
        waited(lambda: client.is_enabled(flag, {"userId": "1"}))
        assert turned(unleash_server, flag)["status"] == "effective"
        assert waited(lambda: not client.is_enabled(flag, {"userId": "1"})) < LAG

        result = turned(unleash_server, flag, "on", percentage=20)
        assert (result["status"], result["served"]["percentage"]) == ("effective", 20)

        def served() -> int:
            return sum(client.is_enabled(flag, {"userId": str(number)}) for number in range(500))

        waited(lambda: served() > 0)
        assert 50 < served() < 150
        assert turned(unleash_server, flag, "on", percentage=100)["served"]["value"] is True
        waited(lambda: served() == 500)


def test_only_the_share_of_a_strategy_changes(unleash_server: Unleash) -> None:
    blue = {"name": "blue", "weight": 1000, "weightType": "variable", "stickiness": "userId"}
    strategy = rollout(50, title="half of them", variants=[blue])
    flag = unleash_server.create("shared", strategies=[strategy])
    unleash_server.switch(flag, "on")
    before = settings(unleash_server, flag)["strategies"]
    result = turned(unleash_server, flag, "on", percentage=5)
    assert (result["changed"], result["status"], result["before"]["percentage"]) == (True, "effective", 50)
    after = settings(unleash_server, flag)["strategies"]
    assert after[0]["parameters"].pop("rollout") == "5" and before[0]["parameters"].pop("rollout") == "50"
    assert after == before
    nobody = turned(unleash_server, flag, "on", percentage=0)
    assert (nobody["status"], nobody["served"]["value"], nobody["after"]["on"]) == ("effective", False, True)
    assert turned(unleash_server, flag, "on", percentage=0)["changed"] is False


def test_a_variation_gets_all_the_weight(unleash_server: Unleash, tmp_path: Path) -> None:
    half = {"weight": 500, "weightType": "variable", "stickiness": "userId"}
    blue = {"name": "blue", **half, "payload": {"type": "json", "value": '{"hue": 240}'}}
    green = {"name": "green", **half}
    flag = unleash_server.create("colours", strategies=[rollout(100, variants=[blue, green])])
    with sdk(unleash_server, tmp_path) as client:
        for variation, serve in (("blue", {"hue": 240}), ("green", "green")):
            result = turned(unleash_server, flag, "on", variation=variation, serve=serve)
            assert (result["changed"], result["status"], result["served"]["value"]) == (True, "effective", serve)
            assert turned(unleash_server, flag, "on", variation=variation, serve=serve)["changed"] is False
            everybody = [{"userId": str(number)} for number in range(50)]
            waited(lambda: {client.get_variant(flag, one)["name"] for one in everybody} == {variation})  # noqa: B023
    evaluated = {"client_token": unleash_server.frontend, "context": {"targetingKey": "1"}}
    result = turned(unleash_server, flag, "on", variation="green", serve="green", **evaluated)
    assert (result["status"], result["served"]["value"]) == ("effective", "green")
    assert "did you mean 'blue'" in refusal(unleash_server, flag, "on", variation="bleu", serve="blue")


def test_nobody_is_served_more_than_was_wished_in_between(unleash_server: Unleash) -> None:
    flag = unleash_server.create("fresh")
    assert turned(unleash_server, flag, "on", percentage=10)["status"] == "effective"
    found = settings(unleash_server, flag)["strategies"]
    assert [one["parameters"]["rollout"] for one in found] == ["10"]
    added, enabled = (
        unleash_server.events(flag, kind) for kind in ("feature-strategy-add", "feature-environment-enabled")
    )
    assert [event["data"]["parameters"]["rollout"] for event in added] == ["10"]
    assert added[0]["id"] < enabled[0]["id"]


@pytest.mark.parametrize(
    "strategies",
    [[rollout(50, constraints=[NORWAY])], [rollout(50), rollout(60)], [{"name": "default"}]],
    ids=["constraints", "two", "everybody"],
)
def test_what_is_not_one_number_gets_no_percentage(unleash_server: Unleash, strategies: Any) -> None:
    flag = unleash_server.create(f"rules-{len(strategies)}-{strategies[0]['name']}-{'constraints' in strategies[0]}")
    for strategy in strategies:
        path = f"projects/default/features/{flag}/environments/{ENVIRONMENT}/strategies"
        unleash_server.ask("POST", path, strategy)
    before = settings(unleash_server, flag)
    assert "not one number" in refusal(unleash_server, flag, "on", percentage=10)
    assert settings(unleash_server, flag) == before


def test_rules_of_its_own_need_somebody_to_evaluate_for(unleash_server: Unleash) -> None:
    flag = unleash_server.create("norwegians", strategies=[rollout(100, constraints=[NORWAY])])
    result = turned(unleash_server, flag, "on")
    assert (result["status"], result["failed"], result["changed"]) == ("unverified", True, True)
    assert "depends on its own rules" in result["msg"] and "frontend token" in result["msg"]

    norwegian = {"targetingKey": "1", "country": "NO"}
    frontend = unleash_server.frontend
    result = turned(unleash_server, flag, "on", client_token=frontend, context=norwegian)
    assert (result["changed"], result["status"], result["served"]["value"]) == (False, "effective", True)
    swede = {**norwegian, "country": "SE"}
    result = turned(unleash_server, flag, "on", client_token=frontend, context=swede, deadline=2)
    assert (result["status"], result["served"]["value"]) == ("not_effective", False)
    # off holds for everybody, whatever the rules are
    result = turned(unleash_server, flag)
    assert (result["status"], result["served"]["value"], result["served"]["percentage"]) == ("effective", False, 0)


def test_in_a_play(unleash_server: Unleash, tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    flag, gone = unleash_server.create("played"), unleash_server.create("played-out")
    unleash_server.switch(flag, "on")
    unleash_server.ask("DELETE", f"projects/default/features/{gone}")
    for name, token in (("token", unleash_server.admin), ("client", unleash_server.client)):
        (tmp_path / name).write_text(f"{token}\n")
    files = {"token_file": str(tmp_path / "token"), "client_token_file": str(tmp_path / "client")}
    here = {"provider": {"type": "unleash", "url": unleash_server.url, **files}, "environment": ENVIRONMENT}
    off = {"service": "production/shop", **here, "flag": flag, "state": "off", "deadline": 10}
    served = f"{{{{ lookup('selfheal.delivery.feature_flag', '{flag}', **here) }}}}"
    first, again, archived, known, looked = results(
        [
            {"selfheal.delivery.feature_flag": off, "diff": True},
            {"selfheal.delivery.feature_flag": off},
            {"selfheal.delivery.feature_flag": {**off, "flag": gone}},
            {"selfheal.delivery.feature_flag_info": {**here, "flag": flag}},
            {"ansible.builtin.debug": {"msg": served}, "vars": {"here": here}},
        ],
        ansible_env,
        tmp_path,
    )
    assert (first["changed"], first["status"], again["changed"], again["status"]) == (
        True,
        "effective",
        False,
        "effective",
    )
    assert archived["failed"] and "is archived" in archived["msg"]
    assert (known["state"]["on"], known["served"]["value"], looked["msg"]) == (False, False, False)


# --- what stops it


def test_an_archived_flag_is_not_off(unleash_server: Unleash) -> None:
    flag = unleash_server.create("archived")
    unleash_server.switch(flag, "on")
    unleash_server.ask("DELETE", f"projects/default/features/{flag}")
    told = refusal(unleash_server, flag)
    assert "is archived" in told and "their code's default" in told and "Revive" in told


def test_what_is_not_there_is_not_off(unleash_server: Unleash) -> None:
    flag = unleash_server.create("spelled-right")
    told = refusal(unleash_server, "spelled-rihgt")
    assert "no flag 'spelled-rihgt' in project 'default'" in told and "did you mean 'spelled-right'" in told
    told = refusal(unleash_server, flag, environment="developement")
    assert "no environment 'developement'" in told and "did you mean 'development'" in told
    told = refusal(unleash_server, flag, project="defualt")
    assert "no project 'defualt'" in told and "did you mean 'default'" in told
    told = refusal(unleash_server, flag, environment="")
    assert "none is chosen" in told and "development, production" in told


def test_tokens_of_the_wrong_kind(unleash_server: Unleash) -> None:
    flag = unleash_server.create("guarded")
    unleash_server.switch(flag, "on")
    for token in (unleash_server.client, unleash_server.frontend):
        told = refusal(unleash_server, flag, token=token)
        assert "HTTP 403: the token is of the wrong kind, one for clients" in told and "admin" in told
    assert "neither a backend (client) nor a frontend" in refusal(
        unleash_server, flag, client_token=unleash_server.admin
    )
    assert "HTTP 401: the token is missing or wrong" in refusal(unleash_server, flag, token="*:*.nonsense")
    assert "provider has no token" in refusal(unleash_server, flag, token="")
    elsewhere = "default:production.0123456789"
    assert "of environment 'production', not of 'development'" in refusal(unleash_server, flag, client_token=elsewhere)
    assert settings(unleash_server, flag)["enabled"] is True


def test_without_a_clients_token_nobody_can_tell(unleash_server: Unleash) -> None:
    flag = unleash_server.create("unseen")
    unleash_server.switch(flag, "on")
    result = turned(unleash_server, flag, client_token="")
    assert (result["changed"], result["status"], result["failed"]) == (True, "unverified", True)
    assert "client_token_file" in result["msg"] and result["after"]["on"] is False
    result = turned(unleash_server, flag, "on", client_token="", verify="no")
    assert (result["changed"], result["status"], result.get("failed")) == (True, "unverified", None)


@pytest.mark.parametrize(
    "wish, said",
    [
        ({"serve": True}, "serves false when a flag is off"),
        ({"state": "on", "variation": "blue", "serve": "blue"}, "no variation 'blue'"),
        ({"state": "on", "percentage": 12.5}, "whole percentages"),
    ],
)
def test_wishes_that_it_cannot_have(unleash_server: Unleash, wish: Dict[str, Any], said: str) -> None:
    flag = unleash_server.create(f"wish-{len(said)}")
    assert said in refusal(unleash_server, flag, **wish)
    assert settings(unleash_server, flag)["enabled"] is False


def test_fifty_at_once(unleash_server: Unleash) -> None:
    flags = [unleash_server.create(f"many-{number}") for number in range(50)]
    unleash_server.ask("POST", f"projects/default/bulk_features/environments/{ENVIRONMENT}/on", {"features": flags})
    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(lambda flag: turned(unleash_server, flag, deadline=60, timeout=30), flags))
    assert {(one["changed"], one["status"]) for one in results} == {(True, "effective")}
    found = unleash_server.ask("GET", "projects/default/features")["features"]
    still = [one["name"] for one in found if one["name"] in flags and one["environments"][0]["enabled"]]
    assert not still


def test_a_database_that_is_down_is_told_in_seconds(unleash_server: Unleash) -> None:
    flag, late = unleash_server.create("waiting"), unleash_server.create("late")
    unleash_server.switch(flag, "on")
    unleash_server.switch(late, "on")
    options = Options("unleash", url=unleash_server.url, token=unleash_server.admin, timeout=2)
    where = Where(late, ENVIRONMENT)
    with closing(build(options, Deadline.after(60))) as provider:
        state = provider.state(where)
        unleash_server.database.stop()
        try:
            begun = time.monotonic()
            told = refusal(unleash_server, flag, timeout=2)
            took = time.monotonic() - begun
            missing = refusal(unleash_server, "not-there", timeout=2)
            with pytest.raises(FlagError, match="Whether it was done is not known"):
                provider.set(where, Wish(OFF), state)
        finally:
            unleash_server.database.start()
    assert took < 6
    assert "its database may be down" in told and "Nothing was changed" in told
    assert "there is no" not in missing
    assert settings(unleash_server, flag)["enabled"] is True
    assert turned(unleash_server, flag)["status"] == "effective"
    # what was not answered was not forgotten
    waited(lambda: not settings(unleash_server, late)["enabled"])
