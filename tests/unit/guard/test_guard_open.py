# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options and the environment to a ledger, and who is at work."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Mapping, Tuple

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import LEDGER
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.identity import person
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import (
    OPTIONS,
    STORES,
    default_path,
    open_ledger,
    settled,
)


def test_the_default_path_follows_the_environment() -> None:
    home = os.path.expanduser("~")
    assert default_path({}) == f"{home}/.local/state/selfheal/ledger.sqlite"
    assert default_path({"XDG_STATE_HOME": "relative"}) == f"{home}/.local/state/selfheal/ledger.sqlite"
    assert default_path({"XDG_STATE_HOME": "/state"}) == "/state/selfheal/ledger.sqlite"


@pytest.mark.parametrize(
    ("options", "said", "settles"),
    [
        ({}, "", ("sqlite", {})),
        ({}, "~/l.sqlite", ("sqlite", {"path": "~/l.sqlite"})),
        ({}, "postgresql://db/d", ("postgresql", {"dsn": "postgresql://db/d"})),
        ({"schema": "two"}, "postgres://db/d", ("postgresql", {"dsn": "postgres://db/d", "schema": "two"})),
        ({"dsn": "host=x"}, "postgresql://db/d", ("postgresql", {"dsn": "host=x"})),
        ({}, "kubernetes://ops", ("kubernetes", {"namespace": "ops"})),
        ({"context": "eu"}, "kubernetes://ops/l", ("kubernetes", {"namespace": "ops", "name": "l", "context": "eu"})),
        ({"path": "/l.sqlite"}, "postgresql://db/d", ("sqlite", {"path": "/l.sqlite"})),
        ({"store": "sqlite"}, "postgresql://db/d", ("sqlite", {})),
        ({"store": "kubernetes", "path": None, "password": ""}, "/l.sqlite", ("kubernetes", {})),
    ],
)
def test_what_the_options_leave_open_is_taken_from_the_environment(
    options: Mapping[str, object], said: str, settles: Tuple[str, Mapping[str, object]]
) -> None:
    assert settled(options, {"SELFHEAL_LEDGER": said}) == settles


@pytest.mark.parametrize(
    ("options", "said", "told"),
    [
        (
            {"dsn": "host=x"},
            "",
            r"option dsn belongs to the store postgresql, and this one is in sqlite\. Set store to",
        ),
        ({"store": "postgresql", "path": "/x"}, "", "option path belongs to the store sqlite"),
        ({"store": "sqlite", "namespace": "x"}, "", "option namespace belongs to the store kubernetes"),
        ({"store": "postgresql", "password": 7}, "", "option password is of type int, not str"),
        ({"allow_network": "yes"}, "", "option allow_network is of type str, not bool"),
        ({}, "mysql://ada:hunter2@db", "begins with mysql://, which is no store. Set it to a path, postgresql://"),
        ({}, "kubernetes:///hunter2", "names no ConfigMap. Write kubernetes://namespace/name"),
        ({}, "kubernetes://a/b/hunter2", "names no ConfigMap"),
        ({}, "kubernetes://ada:hunter2@a", "names no ConfigMap"),
    ],
)
def test_what_belongs_to_another_store_or_to_none_is_refused_without_its_value(
    options: Mapping[str, object], said: str, told: str
) -> None:
    with pytest.raises(OptionError, match=told) as caught:
        open_ledger(options, environ={"SELFHEAL_LEDGER": said})
    assert "hunter2" not in str(caught.value)


def test_the_modules_know_the_same_stores_and_options() -> None:
    spec = LEDGER["ledger"]["options"]
    assert spec["store"]["choices"] == list(STORES)
    assert set(spec) == {"store", *(name for own in OPTIONS.values() for name in own)}


def test_a_store_imports_only_its_own_library(tmp_path: Path) -> None:
    code = (
        "import sys; from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger;"
        "open_ledger({'path': sys.argv[1]}).close();"
        "print([name for name in ('psycopg', 'kubernetes', 'requests', 'ansible') if name in sys.modules])"
    )
    env = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "l.sqlite")]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_a_path_option_goes_before_the_environment(tmp_path: Path) -> None:
    environ = {"SELFHEAL_LEDGER": str(tmp_path / "environment.sqlite")}
    for options, name in (
        ({}, "environment.sqlite"),
        ({"store": "sqlite", "path": None, "allow_network": False}, "environment.sqlite"),
        ({"path": str(tmp_path / "option.sqlite")}, "option.sqlite"),
    ):
        open_ledger(options, environ=environ).close()
        assert (tmp_path / name).exists()
        (tmp_path / name).unlink()


def test_a_relative_path_is_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_ledger({"path": "here.sqlite"}).close()
    assert (tmp_path / "here.sqlite").exists()


def test_without_create_a_missing_ledger_is_an_error_and_stays_missing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with pytest.raises(StoreError, match=rf"There is no ledger at {path}\. Set the ledger's path, or SELFHEAL_LEDGER"):
        open_ledger({"path": str(path)}, create=False)
    assert not path.exists()
    open_ledger({"path": str(path)}).close()
    open_ledger({"path": str(path)}, create=False).close()


def test_unknown_options_and_stores_are_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"no option 'pahth' \(did you mean 'path'\?\)"):
        open_ledger({"pahth": "/x"})
    with pytest.raises(OptionError, match=r"no ledger store 'sqllite' \(did you mean 'sqlite'\?\)"):
        open_ledger({"store": "sqllite"})
    with pytest.raises(StoreError, match="forgotten"):
        open_ledger({"path": ":memory:"})


def test_a_person_is_the_account_whatever_the_environment_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody-else")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert person() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    assert person() == f"uid {2**31 - 7}"
