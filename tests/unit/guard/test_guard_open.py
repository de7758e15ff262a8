# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From options and the environment to a ledger, and who is at work."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.identity import person
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import default_path, open_ledger


def test_the_default_path_follows_the_environment() -> None:
    home = os.path.expanduser("~")
    assert default_path({}) == f"{home}/.local/state/selfheal/ledger.sqlite"
    assert default_path({"XDG_STATE_HOME": "relative"}) == f"{home}/.local/state/selfheal/ledger.sqlite"
    assert default_path({"XDG_STATE_HOME": "/state"}) == "/state/selfheal/ledger.sqlite"
    assert default_path({"XDG_STATE_HOME": "/state", "SELFHEAL_LEDGER": "~/l.sqlite"}) == "~/l.sqlite"


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
