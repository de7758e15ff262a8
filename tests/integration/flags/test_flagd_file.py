# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""flagd's flags in a file, with a real client: the OpenFeature SDK and flagd's provider, which polls the file."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Iterator

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.flagd import build
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    Change,
    Deadline,
    Options,
    Where,
    Wish,
)

if TYPE_CHECKING:
    from openfeature.client import OpenFeatureClient
    from openfeature.evaluation_context import EvaluationContext

WHERE = Where("new-search")
POLL = 0.1  # seconds
FLAGS = """{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "flags": {
    "new-search": {
      "state": "ENABLED",
      "variants": {"on": true, "off": false},
      "defaultVariant": "off",
      "targeting": {"if": [{"$ref": "staff"}, "on", "off"]}
    },
    "other": {"state": "ENABLED", "variants": {"a": 1.50, "b": 2}, "defaultVariant": "a"}
  },
  "$evaluators": {"staff": {"ends_with": [{"var": "email"}, "@shop.test"]}}
}
"""


@pytest.fixture
def flags(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(FLAGS)
    return path


def somebody(key: str | None = None, **known: str) -> EvaluationContext:
    from openfeature.evaluation_context import EvaluationContext  # not every environment of the matrix has it

    return EvaluationContext(key, known)


@pytest.fixture
def staff() -> EvaluationContext:
    return somebody("user-1", email="a@shop.test")


@contextmanager
def reading(flags: Path) -> Iterator[OpenFeatureClient]:
    """A client that looks at the file every `POLL` seconds; by default it would be 5 s."""
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType

    provider = FlagdProvider(
        resolver_type=ResolverType.FILE, offline_flag_source_path=str(flags), deadline_ms=int(POLL * 1000)
    )
    api.set_provider_and_wait(provider, domain=str(flags))
    try:
        yield api.get_client(domain=str(flags))
    finally:
        provider.shutdown()


@pytest.fixture
def client(flags: Path) -> Iterator[OpenFeatureClient]:
    with reading(flags) as client:
        yield client


def changed(flags: Path, wish: Wish) -> None:
    provider = build(Options("flagd", path=str(flags)), Deadline.after(5))
    assert provider.set(WHERE, wish, provider.state(WHERE)) == Change()
    assert not provider.wanted(WHERE, wish, provider.state(WHERE))


def seen_after(predicate: Callable[[], bool], seconds: float = 5) -> float:
    began = time.monotonic()
    while not predicate():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_a_client_is_served_off_within_its_poll_and_its_rules_come_back(
    flags: Path, client: OpenFeatureClient, staff: EvaluationContext, record_property: Callable[[str, Any], None]
) -> None:
    guest = somebody("user-2", email="a@else.test")

    def served(context: EvaluationContext) -> bool:
        return client.get_boolean_value("new-search", True, context)

    assert (served(staff), served(guest)) == (True, False)
    changed(flags, Wish("off"))
    took = seen_after(lambda: not served(staff))
    record_property("effective_after", took)
    assert took < 5 * POLL + 1
    # asked with the code's default true: what is served is the flag's
    details = client.get_boolean_details("new-search", True, staff)
    assert (details.value, details.variant, details.reason) == (False, "off", "STATIC")
    assert client.get_float_value("other", 0.0) == 1.5

    changed(flags, Wish("on", serve=True))
    seen_after(lambda: served(staff))
    assert not served(guest)
    assert json.loads(flags.read_text()) == json.loads(FLAGS)
    assert '"other": {"state": "ENABLED", "variants": {"a": 1.50, "b": 2}' in flags.read_text()


def test_a_percentage_is_the_share_of_the_clients_that_get_it(flags: Path, client: OpenFeatureClient) -> None:
    users = [somebody(f"user-{number}") for number in range(1000)]

    def share() -> float:
        return sum(client.get_boolean_value("new-search", False, user) for user in users) / len(users) * 100

    for wished in (12.5, 60.0, 100.0, 0.0):
        wish = Wish("on", serve=True, percentage=wished)
        changed(flags, wish)
        assert build(Options("flagd", path=str(flags)), Deadline.after(5)).effective(WHERE, wish).percentage == wished
        spread = 5 if wish.partial else 0
        seen_after(lambda wished=wished, spread=spread: abs(share() - wished) <= spread)  # type: ignore[misc]
        if wish.partial:  # who has no key gets the side that was there before
            assert client.get_boolean_value("new-search", True, somebody()) is False


def test_the_trap_a_disabled_flag_serves_the_callers_default(
    flags: Path, client: OpenFeatureClient, staff: EvaluationContext
) -> None:
    document = json.loads(FLAGS)
    document["flags"]["new-search"]["state"] = "DISABLED"
    flags.write_text(json.dumps(document))
    seen_after(lambda: client.get_boolean_details("new-search", True, staff).reason == "DISABLED")
    assert client.get_boolean_value("new-search", True, staff) is True
    told = build(Options("flagd", path=str(flags)), Deadline.after(5)).effective(WHERE, Wish("off"))
    assert (told.known, told.why) == (False, "it is DISABLED, so clients get their code's default")
    changed(flags, Wish("off"))
    seen_after(lambda: client.get_boolean_value("new-search", True, staff) is False)


def test_a_yaml_file_with_comments_is_read_by_a_client_after_each_change(
    tmp_path: Path, staff: EvaluationContext
) -> None:
    path = tmp_path / "flags.yaml"
    text = """\
flags:  # of the shop
  new-search:
    state: ENABLED
    variants: {"on": true, "off": false}
    defaultVariant: "off"
    targeting:
      if:  # staff only
        - ends_with: [{var: email}, "@shop.test"]
        - "on"
        - "off"
"""
    path.write_text(text)
    with reading(path) as client:

        def served(default: bool) -> bool:
            return client.get_boolean_value("new-search", default, staff)

        changed(path, Wish("off"))
        seen_after(lambda: served(True) is False)
        changed(path, Wish("on", serve=True))
        seen_after(lambda: served(False) is True)
    assert "# of the shop" in path.read_text() and "# staff only" in path.read_text()
