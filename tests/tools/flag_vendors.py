# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flag vendors as their published contracts say: servers on this machine that keep state and insist on every detail.

A vendor's test names its calls in `answer`; what the contract does not allow is a `Breach`, which ends the test.
`Contract` holds what every vendor must show; a vendor's test class says only how it differs.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.change import change
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import (
    OFF,
    Change,
    Deadline,
    FlagError,
    Options,
    Provider,
    Served,
    Where,
    Wish,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.providers import provider_of

JSON = "application/json"


class Breach(Exception):
    """A call that the vendor's contract does not have."""


@dataclass(frozen=True)
class Asked:
    """One request. `path` is still quoted, `parts` are its unquoted segments; `body` is its JSON, None without one."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: object = None

    @property
    def parts(self) -> List[str]:
        return [unquote(part) for part in self.path.strip("/").split("/")]

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Reply:
    status: int = 200
    data: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    kind: str = JSON


LOGIN = Reply(200, text="<!DOCTYPE html><title>Sign in</title>", kind="text/html")


def shaped(value: object, shape: object, at: str = "body") -> None:
    """`value` has the published shape: no key too many, none missing, except those whose name ends with `?`.

    A shape is a type, a tuple of types, a list of one shape, an object of shapes, or {str: shape} for any key.
    """
    if isinstance(shape, Mapping):
        insist(isinstance(value, Mapping), f"{at} is no object: {value!r}")
        assert isinstance(value, Mapping)
        if set(shape) == {str}:
            for key, one in value.items():
                shaped(one, shape[str], f"{at}.{key}")
            return
        known = {str(key).rstrip("?"): one for key, one in shape.items()}
        insist(set(value) <= set(known), f"{at} has {sorted(set(value) - set(known))}")
        missing = [key for key in shape if not str(key).endswith("?") and key not in value]
        insist(not missing, f"{at} has no {missing}")
        for key, one in value.items():
            shaped(one, known[key], f"{at}.{key}")
    elif isinstance(shape, list):
        insist(isinstance(value, list), f"{at} is no list: {value!r}")
        assert isinstance(value, list)
        for number, one in enumerate(value):
            shaped(one, shape[0], f"{at}[{number}]")
    elif shape is not object:
        types = shape if isinstance(shape, tuple) else (shape,)
        insist(type(value) in types, f"{at} is {value!r}, not {shape}")


def insist(holds: object, what: str) -> None:
    if not holds:
        raise Breach(what)


class Vendor:
    """One vendor: what it was asked, and what it answers.

    `forced` answers come first, each for one call that the management side gets, whatever it is. `lag` is how many
    reads clients are still given the former state after a change; None: for ever.
    """

    def __init__(self) -> None:
        self.asked: List[Asked] = []
        self.breaches: List[str] = []
        self.forced: List[Reply] = []
        self.lag: Optional[int] = 0
        self.old: object = None
        self.url = ""

    def answer(self, asked: Asked) -> Reply:
        """What the vendor answers; Breach for what its contract does not have."""
        raise NotImplementedError

    def is_client(self, asked: Asked) -> bool:
        """Is it a client's (SDK's) call?"""
        raise NotImplementedError

    def clients(self, now: object) -> object:
        """What clients read: `now`, unless the vendor is still behind."""
        if self.old is None or self.lag == 0:
            return now
        if self.lag is not None:
            self.lag -= 1
        return self.old

    @property
    def writes(self) -> List[Asked]:
        return [one for one in self.asked if one.method != "GET" and not self.is_client(one)]

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        try:
            if self.forced and not self.is_client(asked):
                return self.forced.pop(0)
            return self.answer(asked)
        except Breach as breach:
            self.breaches.append(f"{asked.method} {asked.path}: {breach}")
            return Reply(500, {"message": str(breach)})


def _handler(vendor: Vendor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: in two, the second waits for an acknowledgement

        def _do(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            split = urlsplit(self.path)
            body = json.loads(raw) if raw else None
            query = dict(parse_qsl(split.query, keep_blank_values=True, strict_parsing=bool(split.query)))
            reply = vendor.reply(Asked(self.command, split.path, query, dict(self.headers), body))
            data = reply.text.encode() if reply.data is None else json.dumps(reply.data).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": reply.kind, "Content-Length": str(len(data)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _do

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@contextmanager
def serving(vendor: Vendor) -> Iterator[Vendor]:
    """`vendor` on a free port; what broke its contract is raised at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(vendor))
    server.daemon_threads = True
    vendor.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield vendor
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert not vendor.breaches, vendor.breaches


@dataclass(frozen=True)
class Done:
    """How a wish went: was a call needed, what came of it, and what clients were served in the end."""

    called: bool
    change: Change
    served: Served
    asks: int


def carry_out(provider: Provider, where: Where, wish: Wish, asks: int = 6) -> Done:
    """State, change, and read-back, the last one up to `asks` times until clients are served what was wished."""
    try:
        state = provider.state(where)
        called = provider.wanted(where, wish, state)
        change = provider.set(where, wish, state) if called else Change()
        served, count = Served(False), 0
        while not change.pending and count < asks:
            served, count = provider.effective(where, wish), count + 1
            if served.known and _as_wished(served, wish):
                break
            time.sleep(0.001)
        return Done(called, change, served, count)
    finally:
        provider.close()


def _as_wished(served: Served, wish: Wish) -> bool:
    if wish.partial:
        return served.percentage == wish.percentage
    return served.value == wish.serve or bool(wish.variation)


class Contract:
    """What every vendor must show. A vendor's class sets the attributes, and overrides what it does differently."""

    make: Callable[[], Vendor]
    type = ""
    token = "management-secret"
    client_token = "client-secret"
    wrong_token = "not-the-right-secret"
    wrong_client_token = "not-the-right-client"
    secrets: Optional[Tuple[str, ...]] = None  # both tokens, when nobody says
    where = Where("new-search", "production", "shop")
    near = "new-serch"  # an unknown flag near to one that is there
    more: Dict[str, object] = {}  # further options of the provider
    off = Wish(OFF, serve=False, reason="alert HighErrors")

    @pytest.fixture
    def vendor(self) -> Iterator[Vendor]:
        with serving(type(self).make()) as vendor:
            yield vendor

    def provider(self, vendor: Vendor, seconds: float = 10, **changes: object) -> Provider:
        named: Dict[str, object] = {"token": self.token, "client_token": self.client_token, **self.more, **changes}
        options = Options(type=self.type, url=vendor.url, client_url=vendor.url, **named)  # type: ignore[arg-type]
        return provider_of(options, Deadline.after(seconds))

    def turned_off(self, vendor: Vendor, deadline: float, *, dry: bool = False) -> Dict[str, object]:
        """What module feature_flag returns."""
        tokens = {"token": self.token, "client_token": self.client_token}
        provider = {"type": self.type, "url": vendor.url, "client_url": vendor.url, **tokens, **self.more}
        where = {"flag": self.where.flag, "environment": self.where.environment, "project": self.where.project}
        done = change({**where, "state": OFF, "serve": False, "deadline": deadline, "provider": provider}, dry=dry)
        assert not any(secret in json.dumps(done) for secret in self.secrets or tokens.values()), "a secret is shown"
        return done

    def error(self, vendor: Vendor, where: Optional[Where] = None, seconds: float = 10, **changes: object) -> str:
        """The words of the error that turning the flag off ends with."""
        with pytest.raises((FlagError, OptionError)) as told:
            carry_out(self.provider(vendor, seconds, **changes), where or self.where, self.off)
        return self.shown(told.value)

    def shown(self, error: DeliveryError) -> str:
        secrets = self.secrets if self.secrets is not None else (self.token, self.client_token)
        assert not any(secret in error.message for secret in secrets), "a secret is shown"
        return error.message

    def test_off_becomes_effective(self, vendor: Vendor) -> None:
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert (done.called, done.change, done.served.known, done.served.value) == (True, Change(), True, False)
        assert len(vendor.writes) == 1 and done.served.by

    def test_what_is_off_already_is_not_called_again(self, vendor: Vendor) -> None:
        carry_out(self.provider(vendor), self.where, self.off)
        again = carry_out(self.provider(vendor), self.where, self.off)
        assert (again.called, again.served.value) == (False, False)
        assert len(vendor.writes) == 1

    def test_effective_only_after_a_while(self, vendor: Vendor) -> None:
        vendor.lag = 3
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert (done.asks, done.served.known, done.served.value) == (4, True, False)

    def test_never_effective(self, vendor: Vendor) -> None:
        vendor.lag = None
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert done.called and (not done.served.known or done.served.value is not False)

    def test_the_whole_change(self, vendor: Vendor) -> None:
        vendor.lag = 1
        assert self.turned_off(vendor, 10, dry=True)["changed"] and not vendor.writes
        first, again = self.turned_off(vendor, 10), self.turned_off(vendor, 10)
        assert (first["status"], first["changed"], again["status"], again["changed"]) == (
            *("effective", True),
            *("effective", False),
        )
        assert first["effective_after"] is not None and len(vendor.writes) == 1

    def test_the_wrong_token(self, vendor: Vendor) -> None:
        told = self.error(vendor, token=self.wrong_token)
        assert "HTTP 401" in told and self.wrong_token not in told
        assert not vendor.writes

    def test_a_token_that_does_not_suffice(self, vendor: Vendor) -> None:
        provider = self.provider(vendor)
        state = provider.state(self.where)
        vendor.forced = [Reply(403, {"message": "Forbidden"})] * 3
        with pytest.raises(FlagError, match="HTTP 403") as told:
            provider.set(self.where, self.off, state)
        provider.close()
        self.shown(told.value)

    def test_no_client_token_is_not_known(self, vendor: Vendor) -> None:
        done = carry_out(self.provider(vendor, client_token=""), self.where, self.off, asks=1)
        assert not done.served.known and "client_token" in done.served.why

    def test_a_wrong_client_token_changes_nothing(self, vendor: Vendor) -> None:
        self.client_token = self.wrong_client_token
        with pytest.raises(DeliveryError, match="client_token|SDK key|HTTP 401"):
            self.turned_off(vendor, 5)
        assert not vendor.writes

    def test_an_unknown_flag(self, vendor: Vendor) -> None:
        told = self.error(vendor, Where(self.near, self.where.environment, self.where.project))
        assert f"no flag '{self.near}'" in told and f"did you mean '{self.where.flag}'" in told
        assert not vendor.writes

    def test_a_web_page_is_no_answer(self, vendor: Vendor) -> None:
        vendor.forced = [LOGIN]
        assert "with a web page" in self.error(vendor)
        assert not vendor.writes

    def test_an_empty_object_is_no_flag(self, vendor: Vendor) -> None:
        vendor.forced = [Reply(200, {})]
        assert self.error(vendor)
        assert not vendor.writes

    def test_what_is_merely_accepted_is_not_done(self, vendor: Vendor) -> None:
        provider = self.provider(vendor)
        state = provider.state(self.where)
        vendor.forced = [Reply(202, {"message": "queued"})]
        with pytest.raises(FlagError, match="HTTP 202: it is accepted and not done yet") as told:
            provider.set(self.where, self.off, state)
        provider.close()
        assert told.value.details["http_status"] == 202

    def test_too_many_requests_are_waited_for(self, vendor: Vendor) -> None:
        vendor.forced = [Reply(429, {"message": "slow down"}, {"Retry-After": "1"})]
        begun = time.monotonic()
        done = carry_out(self.provider(vendor), self.where, self.off)
        assert done.served.value is False and time.monotonic() - begun >= 1

    def test_a_wait_past_the_deadline_is_refused(self, vendor: Vendor) -> None:
        vendor.forced = [Reply(429, {"message": "slow down"}, {"Retry-After": "60"})]
        assert "past the deadline" in self.error(vendor, seconds=5)
        assert not vendor.writes
