# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a task about a flag is done: here, or as a module on the machine of the task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict

import pytest

from ansible_collections.selfheal.delivery.plugins.plugin_utils._flag_task import done_by, refused
from ansible_collections.selfheal.delivery.plugins.plugin_utils._inside import Inside

SERVER = {"provider": {"type": "unleash"}}
FILE = {"provider": {"type": "json", "path": "/etc/shop/flags.json"}}
SPEC: Dict[str, Dict[str, Any]] = {"provider": {"type": "dict"}}


def where(given: Any, *, transport: str, missing: bool = False, become: bool = False, **task: Any) -> str:
    """`here`, `module`, or why it failed."""

    def work(params: object, dry: bool) -> Dict[str, object]:
        if missing:
            raise ModuleNotFoundError("No module named 'requests'", name="requests")
        return {"msg": "here"}

    settings = {"delegate_to": None, "async_val": 0, "environment": [], "check_mode": False, **task}
    action: Any = SimpleNamespace(
        _connection=SimpleNamespace(transport=transport),
        _play_context=SimpleNamespace(become=become),
        _task=SimpleNamespace(**settings),
        _execute_module=lambda **_options: {"msg": "module"},
    )
    return str(done_by(action, "selfheal.delivery.feature_flag", Inside(SPEC, (), work), given, {})["msg"])


def test_a_server_is_asked_from_the_controller_whatever_the_host() -> None:
    assert where(SERVER, transport="ssh") == "here"
    assert where(SERVER, transport="ssh", become=True, environment=[{"http_proxy": "x"}]) == "here"
    assert where(SERVER, transport="local") == "here"


def test_a_file_is_one_of_the_tasks_host() -> None:
    assert where(FILE, transport="ssh") == "module"
    assert where(FILE, transport="local") == "here"


@pytest.mark.parametrize("given", [SERVER, FILE])
def test_what_the_task_says_of_its_process_counts(given: Any) -> None:
    assert where(given, transport="ssh", delegate_to="gate1") == "module"
    assert where(given, transport="local", environment=[{"SELFHEAL_FLAGS_URL": "x"}]) == "module"
    assert where(given, transport="local", become=True) == "module"


def test_a_missing_library_sends_no_token_to_another_machine() -> None:
    assert "requests is missing" in where(SERVER, transport="ssh", missing=True)
    assert where(SERVER, transport="local", missing=True) == "module"


def test_a_wrong_provider_is_told_with_the_right_words() -> None:
    assert refused(SERVER) == refused(FILE) == refused({}) == {}
    assert "did you mean 'unleash'" in refused({"provider": {"type": "unlesh"}})["msg"]
    assert "not a mapping" in refused({"provider": "type=unleash token=s3cret"})["msg"]
    assert "s3cret" not in str(refused({"provider": "type=unleash token=s3cret"}))
