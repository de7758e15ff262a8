# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's work in this process: only where the module would run as we do, and with what would come out of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Dict, Mapping

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import PlaceError
from ansible_collections.selfheal.delivery.plugins.plugin_utils._inside import Inside, done, runs_here

SPEC: Dict[str, Dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "count": {"type": "int", "default": 1},
    "key": {"type": "str", "no_log": True},
    "to": {"type": "str"},
}


def echo(params: Mapping[str, Any], dry: bool) -> Dict[str, object]:
    return {"changed": not dry, "told": dict(params), "pair": (1, 2)}


def inside(work: Any = echo) -> Inside:
    return Inside(SPEC, [("count", 2, ["to"])], work)


def test_options_get_their_types_and_defaults_and_results_are_plain() -> None:
    told = done(inside(), {"name": "shop", "count": "3"}, dry=True)
    assert told == {
        "changed": False,
        "told": {"name": "shop", "count": 3, "key": None, "to": None},
        "pair": [1, 2],
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "missing required"), ({"name": "x", "nmae": "y"}, "nmae"), ({"name": "x", "count": 2}, "to")],
)
def test_options_that_are_wrong_are_refused_before_anything_is_done(given: Dict[str, object], told: str) -> None:
    found = done(inside(lambda _params, _dry: pytest.fail("it was done")), given, dry=False)
    assert found["failed"] and told in found["msg"]


def test_a_secret_does_not_come_out() -> None:
    told = done(
        inside(lambda params, _dry: {"msg": f"with {params['key']}"}), {"name": "x", "key": "hush-hush"}, dry=False
    )
    assert "hush-hush" not in told["msg"]

    def fails(params: Mapping[str, Any], _dry: bool) -> Dict[str, object]:
        raise PlaceError(f"no {params['key']}", details={"current": "1.0.0", "changed": True})

    told = done(inside(fails), {"name": "x", "key": "hush-hush"}, dry=False)
    assert told["failed"] and "hush-hush" not in told["msg"]
    # what runs now is told although it failed
    assert (told["current"], told["changed"]) == ("1.0.0", True)


def test_a_library_that_is_missing_is_left_to_the_module() -> None:
    def missing(_params: Mapping[str, Any], _dry: bool) -> Dict[str, object]:
        raise ImportError("urllib3")

    with pytest.raises(ImportError):
        done(inside(missing), {"name": "x"}, dry=False)


def action(**changed: object) -> Any:
    usual: Dict[str, Any] = {"transport": "local", "become": False, "async_val": 0, "environment": [], **changed}
    return SimpleNamespace(
        _connection=SimpleNamespace(transport=usual["transport"]),
        _play_context=SimpleNamespace(become=usual["become"]),
        _task=SimpleNamespace(async_val=usual["async_val"], environment=usual["environment"]),
    )


def test_only_what_would_run_here_and_as_we_are_is_done_here() -> None:
    assert runs_here(action()) and runs_here(action(environment=[{}]))
    for other in ({"transport": "ssh"}, {"become": True}, {"async_val": 5}, {"environment": [{"K8S_AUTH_HOST": "x"}]}):
        assert not runs_here(action(**other))
