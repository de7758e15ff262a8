# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options about flags: what they stand for, and what is refused before anybody is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.options import (
    parse,
    parse_look,
    provider_options,
    secrets_of,
)

HERE = {"type": "json", "path": "/flags.json"}


def task(**given: Any) -> Dict[str, Any]:
    return {"flag": "search", "state": "off", "provider": HERE, **given}


def refusal(**given: Any) -> str:
    with pytest.raises(OptionError) as raised:
        parse(task(**given), {})
    return raised.value.message


def test_what_is_not_said_is_what_the_state_means() -> None:
    off, on = parse(task(), {}), parse(task(state="on"), {})
    assert (off.wish.serve, on.wish.serve) == (False, True)
    assert off.verify and off.deadline == 30.0 and off.options.timeout == 5.0


@pytest.mark.parametrize(("yaml", "state"), [(False, "off"), (True, "on"), ("off", "off"), ("on", "on")])
def test_an_unquoted_off_is_off(yaml: object, state: str) -> None:
    assert parse(task(state=yaml), {}).wish.state == state


@pytest.mark.parametrize("state", [None, "", "enabled", 0, 1, [], "OFF"])
def test_any_other_state_is_refused(state: object) -> None:
    assert "neither on nor off" in refusal(state=state)


@pytest.mark.parametrize("percentage", [-0.1, 100.1, float("nan"), float("inf"), True, "20"])
def test_a_percentage_is_a_number_from_0_to_100(percentage: object) -> None:
    assert "0 to 100" in refusal(state="on", percentage=percentage)


def test_off_has_no_percentage() -> None:
    assert "percentage is of state: on" in refusal(percentage=0)


def test_a_variation_that_is_turned_on_needs_the_value_it_stands_for() -> None:
    assert "serve is missing" in refusal(state="on", variation="blue")
    assert parse(task(state="on", variation="blue", serve="#00f"), {}).wish.serve == "#00f"


def test_no_is_the_only_way_not_to_ask() -> None:
    assert not parse(task(verify="no"), {}).verify
    assert not parse(task(verify=False), {}).verify
    assert "verify" in refusal(verify="never")


@pytest.mark.parametrize("flag", ["", None, "a\nb", 7])
def test_a_flag_has_a_name(flag: object) -> None:
    assert "flag" in refusal(flag=flag)


@pytest.mark.parametrize("deadline", [0, -1, float("inf"), float("nan"), True, "soon"])
def test_a_deadline_is_seconds_above_0(deadline: object) -> None:
    assert "deadline" in refusal(deadline=deadline)


def test_wrong_keys_and_types_name_the_nearest_right_one() -> None:
    assert "did you mean 'token'" in refusal(provider={"type": "unleash", "tokn": "s3cret-t0ken"})
    assert "s3cret" not in refusal(provider={"type": "unleash", "tokn": "s3cret-t0ken"})
    assert "did you mean 'unleash'" in refusal(provider={"type": "unleesh"})
    assert "no type" in refusal(provider={})
    assert "not a mapping" in refusal(provider="unleash")
    assert "did you mean 'kubeconfig'" in refusal(provider={**HERE, "cluster": {"kubeconfg": "x"}})


@pytest.mark.parametrize(
    "url",
    [
        "flags.example.org/s3cret",
        "ftp://s3cret/",
        "https://",
        "https://me:s3cret@flags",
        "https://f/?t=s3cret",
        "http://f:s3cret",
    ],
)
def test_a_url_that_is_refused_is_not_repeated(url: str) -> None:
    for key in ("url", "client_url"):
        said = refusal(provider={"type": "unleash", key: url})
        assert f"provider.{key}" in said and "s3cret" not in said


def test_a_credential_of_the_task_goes_before_one_of_the_environment() -> None:
    environ = {
        "SELFHEAL_FLAGS_URL": "https://flags.example.org",
        "SELFHEAL_FLAGS_TOKEN": "theirs",
        "SELFHEAL_FLAGS_CLIENT_TOKEN_FILE": "/run/client",
    }
    told = provider_options({"type": "unleash", "token_file": "/run/token"}, environ)
    assert (told.url, told.token, told.token_file) == ("https://flags.example.org", "", "/run/token")
    assert told.client_token_file == "/run/client"
    assert provider_options({"type": "unleash"}, environ).token == "theirs"


def test_secrets_are_in_no_repr(tmp_path: Any) -> None:
    (tmp_path / "token").write_text("of-the-file\n")
    given = {"type": "unleash", "token": "tok-1", "client_token": "tok-2", "password": "tok-3", "token_file": ""}
    told = provider_options({**given, "cluster": {"api_key": "tok-4"}}, {})
    assert "tok-" not in repr(told) and "tok-" not in repr(parse(task(provider=given), {}))
    assert set(secrets_of(told)) == {"tok-1", "tok-2", "tok-3", "tok-4"}
    from_file = provider_options({"type": "unleash", "token_file": str(tmp_path / "token")}, {})
    assert secrets_of(from_file) == ("of-the-file",)
    assert secrets_of(provider_options({"type": "unleash", "token_file": str(tmp_path / "none")}, {})) == ()


def test_values_stay_of_their_kind() -> None:
    for text in ('"false"', "false", "0", "0.5", "null", '{"a": [1, "b"]}'):
        value = json.loads(text)
        expected = value if value is not None else False  # nothing said
        assert parse(task(serve=value), {}).wish.serve == expected
        assert type(parse(task(serve=value), {}).wish.serve) is type(expected)
    assert "serve" in refusal(serve=object())
    assert "context" in refusal(context=["user"])


def test_to_look_nothing_has_to_be_wished() -> None:
    told = parse_look({"flag": "search", "provider": HERE, "context": {"targetingKey": "u1"}}, {})
    assert told.wish.context == {"targetingKey": "u1"} and told.where.flag == "search"


def test_what_is_no_provider_is_refused() -> None:
    assert "neither true nor false" in refusal(provider={**HERE, "validate_certs": "no"})
    assert "not a mapping" in refusal(provider={**HERE, "cluster": "kind"})
    assert "not text" in refusal(provider={**HERE, "path": 7})
    assert "provider.timeout" in refusal(provider={**HERE, "timeout": 0})


def test_files_are_found_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's options are read so anyway; a lookup's and the environment's are not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    told = provider_options(
        {"type": "unleash", "token_file": "~/token"}, {"SELFHEAL_FLAGS_CLIENT_TOKEN_FILE": "$HOME/c"}
    )
    assert (told.token_file, told.client_token_file) == (str(tmp_path / "token"), str(tmp_path / "c"))
