# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""OFREP by its published contract (open-feature/protocol, service/openapi.yaml): flagd's side and GO Feature Flag's.

The server knows this one call only. Behind it flagd's own engine for Python evaluates the file that is changed; the
relay proxy of GO Feature Flag answers as its published source does.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping

import pytest
from flag_vendors import LOGIN, Asked, Reply, Vendor, insist, serving, shaped

from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    Deadline,
    FlagError,
    Options,
    Provider,
    Where,
    Wish,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.providers import provider_of

TOKEN = "client-secret"
WHERE = Where("new/search")  # a key is one segment of the path, whatever is in it
OFF, ON = Wish("off"), Wish("on", serve=True)
STAFF = {"targetingKey": "user-1", "email": "a@shop.test"}
RULES = {"if": [{"ends_with": [{"var": "email"}, "@shop.test"]}, "on", "off"]}


class Evaluator(Vendor):
    """What is common to the two: the form of a question."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def is_client(self, asked: Asked) -> bool:
        return False

    def answer(self, asked: Asked) -> Reply:
        insist(asked.method == "POST" and asked.parts[:-1] == ["ofrep", "v1", "evaluate", "flags"], "no such call")
        insist(asked.header("Content-Type") == "application/json", "a body is JSON")
        shaped(asked.body, {"context": {str: object}})
        if asked.header("Authorization") != f"Bearer {TOKEN}":
            return Reply(401)
        assert isinstance(asked.body, dict)
        return self.evaluate(asked.parts[-1], asked.body["context"])

    def evaluate(self, key: str, context: Mapping[str, Any]) -> Reply:
        raise NotImplementedError


class Flagd(Evaluator):
    disabled_is_not_found = False  # as it was until 2026

    def evaluate(self, key: str, context: Mapping[str, Any]) -> Reply:
        from openfeature.contrib.tools.flagd.core import FlagdCore  # not every environment of the matrix has it
        from openfeature.evaluation_context import EvaluationContext
        from openfeature.exception import FlagNotFoundError

        engine = FlagdCore()
        engine.set_flags(self.path.read_text())
        given = EvaluationContext(str(context.get("targetingKey", "")), dict(context))
        try:
            told = engine.resolve_boolean_value(key, True, given)
        except FlagNotFoundError:
            return Reply(404, {"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": f"flag `{key}` is unknown"})
        if told.reason == "DISABLED":
            if self.disabled_is_not_found:
                return Reply(
                    404, {"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": f"flag `{key}` is disabled"}
                )
            return Reply(200, {"key": key, "reason": "DISABLED", "metadata": {}})
        found = {"key": key, "reason": str(told.reason), "variant": told.variant, "metadata": dict(told.flag_metadata)}
        return Reply(200, {**found, "value": told.value})


class RelayProxy(Evaluator):
    def evaluate(self, key: str, context: Mapping[str, Any]) -> Reply:
        if not context.get("targetingKey"):
            return Reply(400, {"key": key, "errorCode": "TARGETING_KEY_MISSING", "errorDetails": "MUST have a key"})
        flag = json.loads(self.path.read_text()).get(key)
        if flag is None:
            return Reply(404, {"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": "Error while evaluating"})
        if flag.get("disable"):
            default = {"value": "thisisadefaultvaluethatItest1233%%", "variant": "SdkDefault"}
            return Reply(200, {"key": key, "reason": "DISABLED", "metadata": {}, **default})
        insist(set(flag) <= {"variations", "defaultRule", "metadata"}, "only what this server evaluates")
        variant = flag["defaultRule"]["variation"]
        return Reply(200, {"key": key, "reason": "STATIC", "variant": variant, "value": flag["variations"][variant]})


def flagd_flag(**more: Any) -> Dict[str, Any]:
    return {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on", **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"flags": {WHERE.flag: flagd_flag(targeting=RULES)}}))
    return path


@pytest.fixture
def flagd(path: Path) -> Iterator[Vendor]:
    with serving(Flagd(path)) as vendor:
        yield vendor


def provider(vendor: Vendor, path: Path, kind: str = "flagd", **more: Any) -> Provider:
    given: Dict[str, Any] = {"client_url": vendor.url, "client_token": TOKEN, **more}
    return provider_of(Options(kind, path=str(path), **given), Deadline.after(5))


def changed(provider: Provider, wish: Wish) -> None:
    provider.set(WHERE, wish, provider.state(WHERE))


def test_contract_flagd_is_asked_for_whom_the_task_names(flagd: Vendor, path: Path) -> None:
    ours = provider(flagd, path)
    staff, guest = Wish("on", serve=True, context=STAFF), Wish("on", serve=True, context={"email": "a@else.test"})
    assert (ours.effective(WHERE, staff).value, ours.effective(WHERE, guest).value) == (True, False)
    assert ours.effective(WHERE, guest).by == "OFREP evaluation"
    changed(ours, OFF)
    told = ours.effective(WHERE, Wish("off", context=STAFF))
    assert (told.known, told.value) == (True, False)
    changed(ours, ON)
    assert ours.effective(WHERE, staff).value is True
    ours.close()


def test_contract_off_is_not_shown_by_who_was_not_targeted_anyway(flagd: Vendor, path: Path) -> None:
    """The server reads another file, or has not read it yet: who is asked for was served false all the time."""
    ours, everybody = provider(flagd, path), Wish("on", serve=True, percentage=100)
    for wish in (OFF, Wish("on", serve=True, percentage=0), replace(everybody, context=STAFF)):
        told = ours.effective(WHERE, wish)
        assert not told.known and not told.final and "others may be served something else" in told.why
    assert ours.effective(WHERE, replace(OFF, looks=True)).value is False, "who only looks is told what is served"
    path.write_text(json.dumps({"flags": {WHERE.flag: flagd_flag()}}))
    assert ours.effective(WHERE, everybody).value is True
    ours.close()


def test_contract_a_percentage_is_that_of_the_document_and_the_server_knows_the_flag(flagd: Vendor, path: Path) -> None:
    ours, wish = provider(flagd, path), Wish("on", serve=True, percentage=25)
    changed(ours, wish)
    told = ours.effective(WHERE, wish)
    assert (told.known, told.percentage, told.by) == (True, 25, "OFREP evaluation; the percentage: document read back")
    ours.close()


@pytest.mark.parametrize("not_found", [False, True])
def test_contract_a_disabled_flag_is_never_off(flagd: Vendor, path: Path, not_found: bool) -> None:
    assert isinstance(flagd, Flagd)
    flagd.disabled_is_not_found = not_found
    path.write_text(json.dumps({"flags": {WHERE.flag: flagd_flag(state="DISABLED", defaultVariant="off")}}))
    ours = provider(flagd, path)
    if not_found:
        with pytest.raises(FlagError, match=r"HTTP 404: .*no such flag that works: flag `new/search` is disabled"):
            ours.effective(WHERE, OFF)
    else:
        told = ours.effective(WHERE, OFF)
        assert (told.known, told.why) == (False, "clients get their code's default, reason DISABLED")
    changed(ours, OFF)
    assert ours.effective(WHERE, OFF).value is False
    ours.close()


def test_contract_what_is_no_answer_is_an_error_without_the_token(flagd: Vendor, path: Path) -> None:
    for reply, why in (
        (LOGIN, "with a web page"),
        (Reply(500, {"errorDetails": "no store"}), "HTTP 500: no store"),
        (Reply(400, {"errorCode": "PARSE_ERROR"}), "HTTP 400: PARSE_ERROR"),
        (Reply(429, {}, {"Retry-After": "60"}), "past the deadline"),
    ):
        flagd.forced = [reply]
        with pytest.raises(FlagError, match=why) as told:
            provider(flagd, path).effective(WHERE, OFF)
        assert TOKEN not in told.value.message
    with pytest.raises(FlagError, match="HTTP 401: the client token is missing or wrong") as told:
        provider(flagd, path, client_token="another-secret").effective(WHERE, OFF)
    assert "another-secret" not in told.value.message


def test_contract_the_relay_proxy_serves_off_and_a_disabled_flag_is_not_known(path: Path) -> None:
    flag = {"variations": {"on": True, "off": False}, "defaultRule": {"variation": "on"}}
    path.write_text(json.dumps({WHERE.flag: {**flag, "disable": True}}))
    with serving(RelayProxy(path)) as relay:
        ours = provider(relay, path, "go_feature_flag")
        told = ours.effective(WHERE, OFF)
        assert (told.known, told.why) == (False, "clients get their code's default, reason DISABLED")
        changed(ours, OFF)
        told = ours.effective(WHERE, OFF)
        assert (told.known, told.value, told.by) == (True, False, "OFREP evaluation")
        path.write_text("{}")
        with pytest.raises(FlagError, match="no such flag that works"):
            ours.effective(WHERE, OFF)
        ours.close()
