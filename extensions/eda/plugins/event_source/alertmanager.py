# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take alerts from Alertmanager, keep them on disk before saying so, and hand them to the rulebook in a fair order.

ansible-rulebook loads this file by its path: it stands alone, and needs nothing but aiohttp.

The way of an alert: `Reception` (HTTP, limits) asks `Door` who sends, `read_alerts` makes `Item`s of the body, `Spool`
writes them, `FairOrder` says whose turn it is, and `Delivery` puts one service's alerts on the engine's queue and
waits until they are done.
"""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: alertmanager
short_description: Receive alerts from Alertmanager and lose none
version_added: 1.1.0
author: selfheal.delivery contributors (@selfheal-delivery)
description:
  - Receives what Alertmanager (or Grafana) posts to C(/alerts), and signed calls of people, CI and log pipelines at
    C(/calls). It answers 200 only when everything in the request is on disk, 503 when it cannot be taken now, and 4xx
    when it never can. C(/healthz), C(/readyz) and C(/metrics) answer anybody who reaches the port.
  - An event has the shape of C(eda.builtin.webhook), with the waiting alerts of one service in C(payload). Put the
    filter P(selfheal.delivery.alerts#event_filter) behind it.
  - An alert that is sent again with the same C(fingerprint), C(startsAt) and C(status) is counted and not emitted again
    for O(spool_keep) seconds, and neither is a C(firing) that arrives after its own C(resolved). The same error code of
    the same release within five minutes is one.
  - The service that was served least lately goes first, so that a storm of one service does not hold up another.
  - Of the ways to authenticate, each that is configured is enough by itself; but credentials that are shown and wrong
    are refused, whatever else is shown. Without any, it does not start.
  - Files with secrets are read again within a second after a change. A file that has become unusable is reported, and
    what was read before stays valid.
  - Alertmanager never repeats a request that was answered 429. So who is known and sends too much gets 503 with
    C(Retry-After), and only who is not known gets 429.
options:
  host:
    description: The address to listen on.
    type: str
    default: 127.0.0.1
  port:
    description: The port to listen on.
    type: int
    default: 5050
  certfile:
    description: A file with the certificate of this server, and perhaps its key. It is read again when it changes.
    type: path
  keyfile:
    description: A file with the key of O(certfile), without a passphrase.
    type: path
  client_ca:
    description:
      - A file with the authorities whose client certificates are accepted (mTLS). It wants O(certfile).
    type: path
  token_file:
    description: A file with bearer tokens, one a line, each of 16 characters or more. All of them are valid.
    type: path
  users_file:
    description: A file with lines C(name:password) for basic authentication, with passwords of 16 characters or more.
    type: path
  signing_keys_file:
    description:
      - A file with lines C(name whsec_...), the names and the base64 secrets (24 to 64 bytes) of those who sign as
        U(https://www.standardwebhooks.com) says. One name may have several keys.
    type: path
  unauthenticated:
    description:
      - To accept alerts from anybody, give this sentence and none of the files above,
        V(anybody who reaches this port may take releases back). C(/calls) stays closed even then.
    type: str
  max_body:
    description: The largest body that is read, in bytes. More is answered 413.
    type: int
    default: 1048576
  max_alerts:
    description: The most alerts in one request. More is answered 413.
    type: int
    default: 2000
  rate:
    description: Requests a second that each sender may make in the long run; four times as many at once.
    type: float
    default: 50
  spool:
    description:
      - The folder in which alerts are kept until they are done, on a local disk. It is created when its parent exists.
    type: path
    required: true
  spool_max:
    description: The most alerts that wait at a time. Beyond it, requests are answered 503.
    type: int
    default: 100000
  spool_keep:
    description:
      - Seconds for which an alert is remembered, so that it is not emitted twice. After a restart, what is not done is
        emitted again if it is younger than this.
    type: float
    default: 3600
  wait_for:
    description:
      - When an alert is done. With V(engine), three seconds after the engine took it; with C(feedback=true) and
        C(--persistence-id), three seconds after the engine confirmed it.
      - With V(playbook), once there is an empty file C(done/UUID) in O(spool) for each UUID that the event names in
        C(meta.selfheal.ack), also of what resolves. Until then no other event of that service is emitted, and at most
        O(slots) of all.
      - A file C(done/UUID.again) says that another answer may be given when the alert is sent again, see
        O(again_after).
      - Each attempt has a C(meta.selfheal.emission) of its own, which survives a crash. The filter makes C(meta.uuid)
        of it, so that C(--persistence-id) drops what the engine had before a crash, and nothing else.
    type: str
    choices: [engine, playbook]
    default: engine
  again_after:
    description:
      - Seconds after C(done/UUID.again) for which the same alert is still not emitted again. When it is sent after
        that, it is.
    type: float
    default: 60
  slots:
    description: How many services may be waited for at a time, with O(wait_for=playbook).
    type: int
    default: 2
  slot_timeout:
    description: Seconds after which a playbook that does not report is no longer waited for.
    type: float
    default: 900
  service_label:
    description: The label that names the service.
    type: str
    default: service
  watchdog:
    description: The name of the alert that always fires. It is not kept, and emitted at once.
    type: str
    default: Watchdog
  watchdog_every:
    description: Seconds between two events with the O(watchdog), at least.
    type: float
    default: 30
  replay_window:
    description: Seconds by which the timestamp of a signature may be off.
    type: float
    default: 300
"""

EXAMPLES = r"""
- name: Alerts of an Alertmanager that shows a bearer token
  selfheal.delivery.alertmanager:
    host: 0.0.0.0
    certfile: /etc/selfheal/tls.pem
    token_file: /etc/selfheal/alertmanager.token
    spool: /var/lib/selfheal/spool
    wait_for: playbook
    feedback: true

- name: Signed calls of CI as well
  selfheal.delivery.alertmanager:
    token_file: /etc/selfheal/alertmanager.token
    signing_keys_file: /etc/selfheal/callers.keys
    spool: /var/lib/selfheal/spool
"""

import asyncio
import base64
import binascii
import calendar
import difflib
import fcntl
import hashlib
import heapq
import hmac
import json
import logging
import math
import os
import queue
import re
import sqlite3
import ssl
import stat
import threading
import time
import uuid
from collections import Counter, OrderedDict
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import (
    Any,
    AsyncIterator,
    Awaitable,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    cast,
)

from aiohttp import web

logger = logging.getLogger("selfheal.delivery.alertmanager")

NAMESPACE = uuid.UUID("1f0a4c52-6a0e-5d3b-9f0c-0d6f4f0b7a11")  # of the uuids of alerts; never to be changed
OPEN_DOOR = "anybody who reaches this port may take releases back"
BATCH = 100  # alerts in one event, at most
DEPTH = 16  # levels of a body; Alertmanager's have four
SHORTEST = 16  # characters of a token or password


class SourceError(Exception):
    """Why the source cannot start: what is wrong, where, and what to do."""


# --- options ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """The options, as DOCUMENTATION describes them; '' where a file is not given."""

    spool: str = ""
    host: str = "127.0.0.1"
    port: int = 5050
    certfile: str = ""
    keyfile: str = ""
    client_ca: str = ""
    token_file: str = ""
    users_file: str = ""
    signing_keys_file: str = ""
    unauthenticated: str = ""
    max_body: int = 1048576
    max_alerts: int = 2000
    rate: float = 50.0
    spool_max: int = 100000
    spool_keep: float = 3600.0
    wait_for: str = "engine"
    again_after: float = 60.0
    slots: int = 2
    slot_timeout: float = 900.0
    service_label: str = "service"
    watchdog: str = "Watchdog"
    watchdog_every: float = 30.0
    replay_window: float = 300.0


ENGINES_OWN = ("eda_feedback_queue", "feedback")
RANGES = {
    "port": (1, 65535),
    "max_body": (1024, 64 * 1048576),
    "max_alerts": (1, 100000),
    "rate": (0.1, 100000),
    "spool_max": (1, 10000000),
    "spool_keep": (1, 30 * 86400),
    "again_after": (0.1, 86400),
    "slots": (1, 1000),
    "slot_timeout": (1, 7 * 86400),
    "watchdog_every": (0.1, 86400),
    "replay_window": (1, 3600),
}


def read_options(args: Mapping[str, Any]) -> Options:
    """The options of a rulebook's source, checked; SourceError names the first that is wrong."""
    known = {each.name: type(each.default) for each in fields(Options)}
    given: Dict[str, Any] = {}
    for name, value in args.items():
        if name in ENGINES_OWN:
            continue
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known))}"
            raise SourceError(f"Unknown option {name!r} of the source alertmanager: {hint}")
        if value is not None and value != "":
            given[name] = _converted(name, value, known[name])
    options = Options(**given)
    if not options.spool:
        raise SourceError("The option spool is not set: give a folder on a local disk in which alerts are kept")
    if options.wait_for not in ("engine", "playbook"):
        raise SourceError(f"wait_for is {options.wait_for!r}: it may be engine or playbook")
    _check_door(options, [name for name, value in args.items() if value == ""])
    return options


def _converted(name: str, value: Any, wanted: type) -> Any:
    """The value of an option as its type; what comes from a variable of the rulebook is text."""
    if wanted is str:
        if isinstance(value, str):
            return value
        raise SourceError(f"{name} is of type {type(value).__name__}: it must be text")
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        number = wanted(value)
        if number != float(value):
            raise ValueError
    except (ValueError, OverflowError):
        raise SourceError(f"{name} is {str(value)[:40]!r}: it must be a number") from None
    low, high = RANGES[name]
    if not low <= number <= high:
        raise SourceError(f"{name} is {number}: it must be between {low} and {high}")
    return number


def _check_door(options: Options, empty: Sequence[str]) -> None:
    """Refuse an open door that nobody asked for in plain words."""
    ways = [name for name in ("client_ca", "token_file", "users_file", "signing_keys_file") if getattr(options, name)]
    if (options.client_ca or options.keyfile) and not options.certfile:
        raise SourceError("client_ca and keyfile want certfile: give the certificate of this server as well")
    if options.unauthenticated and options.unauthenticated != OPEN_DOOR:
        raise SourceError(f"unauthenticated must be exactly this sentence: {OPEN_DOOR}")
    if options.unauthenticated and ways:
        raise SourceError(f"unauthenticated contradicts {', '.join(ways)}: choose one")
    if not ways and not options.unauthenticated:
        left = f" ({', '.join(empty)} is empty: is a variable of the rulebook not set?)" if empty else ""
        raise SourceError(
            f"Nobody could be told apart{left}: set token_file, users_file, client_ca or signing_keys_file;"
            f" or, where anybody may, unauthenticated: {OPEN_DOOR}"
        )


# --- authentication ---------------------------------------------------------------------------------------------------


class Caller(NamedTuple):
    """Who was verified, and how: bearer, basic, mtls, standard-webhooks, or '' where anybody may."""

    verified: str
    key: str


class Secret(NamedTuple):
    """The name of a key, and what it is compared by: the digest of a token, or the key itself."""

    name: str
    value: bytes


class Unauthorised(Exception):
    """Why somebody is not let in, in words that hold nothing of what was sent."""


Rows = Sequence[Tuple[int, str]]  # number and text of each line that is neither empty nor a comment


def read_tokens(path: str, rows: Rows) -> List[Secret]:
    for number, row in rows:
        if len(row) < SHORTEST or " " in row:
            raise SourceError(f"Line {number} of {path} is no token of {SHORTEST} or more characters without a space")
    return [Secret(f"token-{number}", digest(row.encode())) for number, row in rows]


def read_users(path: str, rows: Rows) -> List[Secret]:
    found = []
    for number, row in rows:
        name, colon, password = row.partition(":")
        if not name or not colon or len(password) < SHORTEST:
            raise SourceError(f"Line {number} of {path} is not name:password with {SHORTEST} or more characters")
        found.append(Secret(plain(name, 80), digest(row.encode())))
    return found


def read_signing_keys(path: str, rows: Rows) -> List[Secret]:
    found = []
    for number, row in rows:
        name, space, text = row.partition(" ")
        try:
            key = base64.b64decode(text.strip()[len("whsec_") :], validate=True)
        except ValueError:
            key = b""
        if not space or not text.strip().startswith("whsec_") or not 24 <= len(key) <= 64:
            raise SourceError(f"Line {number} of {path} is not: a name, a space, whsec_ and base64 of 24 to 64 bytes")
        found.append(Secret(plain(name, 80), key))
    return found


class SecretFile:
    """The secrets in a file, read again when it changes. After a failed reading the last good ones stay valid."""

    def __init__(self, path: str, reader: Callable[[str, Rows], List[Secret]]) -> None:
        self.path = path
        self.reader = reader
        self.stale = False
        self.stamp: Tuple[int, ...] = ()
        self.secrets: List[Secret] = []
        if path:
            self.secrets = self._read()
            self.stamp = file_stamp(path)

    def refresh(self) -> None:
        """Called in a thread."""
        stamp = file_stamp(self.path) if self.path else ()
        if stamp == self.stamp:
            return
        self.stamp = stamp
        try:
            self.secrets = self._read()
            self.stale = False
            logger.info("%s was read again: %d secrets", self.path, len(self.secrets))
        except SourceError as problem:
            self.stale = True
            logger.error("What was read before stays valid: %s", problem)

    def _read(self) -> List[Secret]:
        try:
            with open(self.path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                text = file.read(1048576).decode("utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            why = getattr(problem, "strerror", "") or "it is not UTF-8"
            raise SourceError(f"{self.path} cannot be read: {why}") from None
        if stat.S_IMODE(mode) & 0o077:
            logger.warning("%s has secrets and others may read it: chmod 600 it", self.path)
        lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
        rows = [(number, line) for number, line in lines if line and not line.startswith("#")]
        if not rows:
            raise SourceError(f"{self.path} is empty: it must have one secret a line")
        return self.reader(self.path, rows)


def file_stamp(path: str) -> Tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return (0,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()


def match(secrets: Iterable[Secret], value: bytes) -> str:
    """The name of the secret whose digest is that of `value`, or ''; it takes as long whichever it is."""
    found = ""
    wanted = digest(value)
    for secret in secrets:
        if hmac.compare_digest(secret.value, wanted):
            found = secret.name
    return found


SIGNED_BY = ("webhook-id", "webhook-timestamp", "webhook-signature")
MESSAGE_ID = re.compile(r"[!-\-/-~]{1,128}")  # printable, and without the full stop that ends it in what is signed


def check_signature(
    secrets: Iterable[Secret], headers: Mapping[str, str], body: bytes, *, now: float, window: float
) -> str:
    """The name of the key that signed `id.timestamp.body` (Standard Webhooks 1.0); else Unauthorised.

    Only signatures of version 1 (HMAC-SHA256) count; others in the same header are passed over.
    """
    message, moment, signatures = (headers.get(name, "") for name in SIGNED_BY)
    if not MESSAGE_ID.fullmatch(message):
        raise Unauthorised("webhook-id is missing or not plain")
    if not re.fullmatch(r"[0-9]{1,12}", moment) or abs(now - int(moment)) > window:
        raise Unauthorised("webhook-timestamp is missing, or too far from the time here")
    given = [each.encode("utf-8", "replace") for each in signatures.split(" ")[:16]]
    signed = b".".join((message.encode(), moment.encode(), body))
    found = ""
    for secret in secrets:
        code = base64.b64encode(hmac.new(secret.value, signed, hashlib.sha256).digest())
        for each in given:
            if hmac.compare_digest(b"v1," + code, each):
                found = secret.name
    if not found:
        raise Unauthorised("no signature of version 1 fits")
    return found


class Door:
    """Who may send."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.tokens = SecretFile(options.token_file, read_tokens)
        self.users = SecretFile(options.users_file, read_users)
        self.keys = SecretFile(options.signing_keys_file, read_signing_keys)

    def stale(self) -> bool:
        return any(each.stale for each in (self.tokens, self.users, self.keys))

    def refresh(self) -> None:
        for each in (self.tokens, self.users, self.keys):
            each.refresh()

    def before_body(self, request: web.Request) -> Optional[Caller]:
        """Whom the connection and the headers show; None when only a signature of the body could tell."""
        for name in ("Authorization", *SIGNED_BY):
            if len(request.headers.getall(name, [])) > 1:
                raise Unauthorised(f"{name} is there twice")
        caller = self._by_header(request.headers.get("Authorization")) or self._by_certificate(request)
        if caller is None and self.options.unauthenticated:
            caller = Caller("", "")
        if caller is None and not self.signed(request):
            raise Unauthorised("nothing shows who sends this")
        return caller

    def signed(self, request: web.Request) -> bool:
        return bool(self.keys.secrets) and any(name in request.headers for name in SIGNED_BY)

    def by_signature(self, request: web.Request, body: bytes, now: float) -> Caller:
        window = self.options.replay_window
        return Caller(
            "standard-webhooks", check_signature(self.keys.secrets, request.headers, body, now=now, window=window)
        )

    def _by_header(self, header: Optional[str]) -> Optional[Caller]:
        if header is None or not (self.tokens.secrets or self.users.secrets):
            return None
        scheme, blank, value = header.partition(" ")
        sent = value.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() == "bearer":
            verified, name = "bearer", match(self.tokens.secrets, sent)
        else:
            verified, name = "basic", match(self.users.secrets, _decoded(sent) if scheme.lower() == "basic" else b"")
        if not name:
            raise Unauthorised("what Authorization shows is not valid here")
        return Caller(verified, name)

    def _by_certificate(self, request: web.Request) -> Optional[Caller]:
        transport = request.transport
        shown = transport.get_extra_info("peercert") if transport and self.options.client_ca else None
        if not shown:
            return None
        subject = dict(pair for part in shown.get("subject", ()) for pair in part)
        others = [value for kind, value in shown.get("subjectAltName", ()) if kind in ("DNS", "URI")]
        return Caller("mtls", plain(str(subject.get("commonName", "") or next(iter(others), "")), 80))


def _decoded(sent: bytes) -> bytes:
    try:
        return base64.b64decode(sent, validate=True)
    except binascii.Error:
        return b""


def tls(options: Options) -> Optional[ssl.SSLContext]:
    """The server's side of TLS; a client's certificate is asked for, and checked when it is shown."""
    if not options.certfile:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, options)
    if options.client_ca:
        try:
            context.load_verify_locations(options.client_ca)
        except (OSError, ssl.SSLError) as problem:
            raise SourceError(f"client_ca {options.client_ca} cannot be used: {problem.strerror}") from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def load_certificate(context: ssl.SSLContext, options: Options) -> None:
    try:
        # a passphrase would be asked for on the terminal: an empty one is an error instead
        context.load_cert_chain(options.certfile, options.keyfile or None, password="")
    except (OSError, ssl.SSLError, ValueError) as problem:
        why = getattr(problem, "strerror", "") or "the key wants a passphrase"
        raise SourceError(f"certfile {options.certfile} with its key cannot be used: {why}") from None


# --- bodies -----------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """What a request is answered when it is not taken: status, outcome for the metrics, and a sentence."""

    def __init__(self, status: int, outcome: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.outcome = outcome


@dataclass(frozen=True)
class Item:
    """One thing to be done: an alert (several of one service share an event), or a call, which goes alone."""

    uuid: str
    kind: str  # alert, call
    service: str
    incident: str  # the same for the firing and the resolved of one
    status: str
    starts: Optional[float]  # epoch seconds
    text: str  # JSON


@dataclass(frozen=True)
class Post:
    """What one request brings. `group` is JSON: the fields around the alerts, and who sent them."""

    group: str
    items: Sequence[Item]
    watchdog: Optional[Mapping[str, Any]] = None  # the body, with nothing but the watchdog
    message: str = ""  # the id of a signed message


def plain(text: str, most: int) -> str:
    """Text that is surely UTF-8 and printable, cut."""
    return "".join(each if each.isprintable() else "?" for each in text[:most])


def dumped(value: Any) -> str:
    """JSON that is surely UTF-8; ValueError for what JSON cannot say."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace").decode()


def named(*parts: str) -> str:
    """The uuid of what these parts name together."""
    return str(uuid.uuid5(NAMESPACE, "|".join(parts).encode("utf-8", "replace").decode()))


def shallow(value: Any, left: int = DEPTH) -> bool:
    if not isinstance(value, (dict, list)):
        return True
    below = value.values() if isinstance(value, dict) else value
    return left > 0 and all(shallow(each, left - 1) for each in below)


def no_constant(name: str) -> float:
    raise ValueError(name)


def read_body(body: bytes) -> Dict[str, Any]:
    """A JSON object that is not nested deeply."""
    try:
        found = json.loads(body.decode("utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "refused", "The body is not JSON in UTF-8") from None
    if not isinstance(found, dict) or not shallow(found):
        raise Refused(400, "refused", f"The body is not a JSON object of at most {DEPTH} levels")
    return found


MOMENT = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,12}))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)


def epoch(text: str) -> Optional[float]:
    """Epoch seconds of an RFC 3339 time, or None."""
    found = MOMENT.fullmatch(text)
    if not found:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if not (1970 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
        return None
    offset = int(found[9] or 0) * 3600 + int(found[10] or 0) * 60
    whole = calendar.timegm((year, month, day, hour, minute, second))
    return whole + float(f"0.{found[7] or 0}") - (-offset if found[8] == "-" else offset)


def read_alerts(body: bytes, options: Options, caller: Caller) -> Post:
    """What Alertmanager's webhook (version 4) or Grafana's (version 1) sends; Refused says what is wrong with it."""
    found = read_body(body)
    if found.get("version") not in ("4", "1"):
        raise Refused(400, "refused", "version is neither '4' (Alertmanager) nor '1' (Grafana)")
    alerts = found.pop("alerts", None)
    if not isinstance(alerts, list):
        raise Refused(400, "refused", "alerts is not a list")
    if len(alerts) > options.max_alerts:
        raise Refused(413, "too_large", f"There are {len(alerts)} alerts: max_alerts is {options.max_alerts}")
    items, watchdogs = [], []
    for alert in alerts:
        labels = _labels(alert)
        alert.pop("ack", None)  # a word of ours, see Delivery._composed
        if options.watchdog and labels.get("alertname") == options.watchdog:
            watchdogs.append(alert)
        else:
            items.append(_alert_item(alert, labels, options))
    fires = any(each["status"] == "firing" for each in watchdogs)
    watchdog = {**found, "status": "firing", "alerts": watchdogs[:1]} if fires else None
    try:
        return Post(dumped({"fields": found, "caller": caller}), items, watchdog)
    except ValueError:
        raise Refused(400, "refused", "A number in the body is out of range") from None


def _labels(alert: Any) -> Mapping[str, str]:
    """The labels of what has the shape of an alert; else Refused."""
    shapes = {"labels": dict, "annotations": dict, "status": str, "startsAt": str, "fingerprint": str}
    if not isinstance(alert, dict) or any(not isinstance(alert.get(key, kind()), kind) for key, kind in shapes.items()):
        raise Refused(400, "refused", "An alert is not an object with labels, annotations, status and startsAt")
    if alert.get("status") not in ("firing", "resolved") or "labels" not in alert:
        raise Refused(400, "refused", "An alert has no labels, or a status that is neither firing nor resolved")
    labels: Mapping[str, str] = alert["labels"]
    if not all(isinstance(value, str) for value in (*labels.values(), *alert.get("annotations", {}).values())):
        raise Refused(400, "refused", "A label or an annotation of an alert is not text")
    return labels


def _alert_item(alert: Mapping[str, Any], labels: Mapping[str, str], options: Options) -> Item:
    starts = epoch(alert.get("startsAt", ""))
    fingerprint = alert.get("fingerprint") or dumped(sorted(labels.items()))
    began = alert.get("startsAt", "") if starts is None else f"{starts:.6f}"
    try:
        text = dumped(alert)
    except ValueError:
        raise Refused(400, "refused", "A number in an alert is out of range") from None
    return Item(
        uuid=named(fingerprint, began, alert["status"]),
        kind="alert",
        service=plain(labels.get(options.service_label, ""), 200),
        incident=named(fingerprint, began),
        status=alert["status"],
        starts=starts,
        text=text,
    )


CALLS = {"selfheal.call": ("name", "service", "id"), "selfheal.error_code": ("error_code", "service", "timestamp")}
IDENTITY = {
    "selfheal.call": ("name", "id", "service", "environment"),
    "selfheal.error_code": ("error_code", "service", "environment", "version"),
}
CODE_WINDOW = 300  # seconds: error codes within one of these are one, for the filter as well


def read_call(body: bytes, options: Options, caller: Caller) -> Post:
    """The call of a person or of CI, or an error code of a log pipeline; Refused says what is wrong with it."""
    found = read_body(body)
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in CALLS:
        raise Refused(400, "refused", f"type is none of {', '.join(CALLS)}")
    if len(body) > 65536 or any(isinstance(value, (dict, list)) for value in found.values()):
        raise Refused(400, "refused", "A call is a flat object of at most 64 KiB")
    for name in CALLS[kind]:
        if not isinstance(found.get(name), str) or not found[name]:
            raise Refused(400, "refused", f"{name} is missing, or not text")
    uid = named(kind, *(str(found.get(name, "")) for name in IDENTITY[kind]), _window(kind, found))
    try:
        text, group = dumped(found), dumped({"fields": {}, "caller": caller})
    except ValueError:
        raise Refused(400, "refused", "A number in the body is out of range") from None
    return Post(group, [Item(uid, "call", plain(found["service"], 200), uid, "firing", None, text)])


def _window(kind: str, found: Mapping[str, Any]) -> str:
    """When an error code was logged, in windows; '' where that is no time, so that it is refused but once."""
    at = epoch(found["timestamp"]) if kind == "selfheal.error_code" else None
    return "" if at is None else str(int(at // CODE_WINDOW))


def merged(groups: Sequence[Mapping[str, Any]], alerts: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
    """One body of Alertmanager's shape for alerts that came in several: what differs between groups is left out.

    `groups` are the fields around the alerts of each body, the newest last; scalars such as groupKey are the newest's.
    """
    body = dict(groups[-1])
    for name in ("groupLabels", "commonLabels", "commonAnnotations"):
        maps: List[Dict[str, Any]] = [each[name] if isinstance(each.get(name), dict) else {} for each in groups]
        body[name] = {k: v for k, v in maps[-1].items() if all(k in each and each[k] == v for each in maps)}
    body["status"] = "firing" if any(each["status"] == "firing" for each in alerts) else "resolved"
    body["alerts"] = list(alerts)
    return body


# --- spool ------------------------------------------------------------------------------------------------------------

LAYOUT = """
CREATE TABLE item (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, service TEXT NOT NULL,
    incident TEXT NOT NULL, status TEXT NOT NULL, starts REAL, at REAL NOT NULL, state INTEGER NOT NULL,
    post TEXT NOT NULL, body TEXT NOT NULL, emission TEXT NOT NULL DEFAULT '', answered REAL NOT NULL DEFAULT 0);
CREATE INDEX item_incident ON item (incident);
CREATE INDEX item_at ON item (at);
CREATE INDEX item_waiting ON item (state) WHERE state = 0;
CREATE INDEX item_post ON item (post) WHERE post <> '';
CREATE TABLE post (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE message (id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE note (key TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""
# The state of an item. LEFT is no longer waited for: it is emitted again when it is sent again, or after a restart.
# AGAIN was answered, and is emitted again when it is sent `again_after` seconds later.
WAITING, DONE, LEFT, AGAIN = 0, 1, 2, 3
NETWORK = frozenset("9p afs beegfs ceph cifs fuse.sshfs glusterfs gpfs lustre ncpfs nfs nfs4 smb3 smbfs".split())
Job = Callable[[sqlite3.Connection], Any]


class SpoolError(Exception):
    """Why nothing can be kept now."""


class SpoolFull(SpoolError):
    """As many alerts wait as may."""


@dataclass(frozen=True, order=True)
class Waiting:
    """An item that is on disk and not done. They sort as they are emitted within their service."""

    order: float  # epoch seconds: when it started, or arrived
    seq: int
    uuid: str = field(compare=False)
    service: str = field(compare=False)
    alone: bool = field(compare=False)
    size: int = field(compare=False)  # characters of its JSON
    at: float = field(compare=False)  # epoch seconds of its arrival
    tries: int = field(compare=False, default=0)
    emission: str = field(compare=False, default="")  # under which the engine may have had it before a crash


class Taken(NamedTuple):
    """What became of the items of a request."""

    new: List[Waiting]
    duplicates: int
    late: Set[str]  # uuids of what fires although its resolved came before
    replayed: bool = False


class Spool:
    """What was taken, in one SQLite file that one thread writes.

    Jobs that arrive while a transaction is written share the next one, so that one fsync (WAL, synchronous=FULL) serves
    many requests.
    """

    def __init__(self, folder: str) -> None:
        self.folder = os.path.abspath(folder)
        self.path = os.path.join(self.folder, "spool.sqlite")
        self.done = os.path.join(self.folder, "done")
        self.trouble = ""
        self.jobs: "queue.SimpleQueue[Optional[Tuple[Job, asyncio.Future[Any]]]]" = queue.SimpleQueue()
        self.lock = self._locked()
        try:
            self.connection = self._opened()
        except BaseException:
            os.close(self.lock)
            raise
        self.file = file_stamp(self.path)[:2]
        self.loop = asyncio.get_running_loop()
        self.thread = threading.Thread(target=self._work, name="selfheal-spool", daemon=True)
        self.thread.start()

    def _locked(self) -> int:
        try:
            for folder in (self.folder, self.done):
                if not os.path.isdir(folder):
                    os.mkdir(folder, 0o700)
            lock = os.open(os.path.join(self.folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise SourceError(f"The spool {self.folder} cannot be written: {problem.strerror}") from None
        if stat.S_IMODE(os.stat(self.done).st_mode | os.stat(self.folder).st_mode) & 0o022:
            logger.warning("Others may write into the spool %s, and so say that an alert is done", self.folder)
        kind = file_system(self.folder)
        if kind in NETWORK:
            os.close(lock)
            raise SourceError(f"The spool {self.folder} lies on {kind}, which machines share: put it on a local disk")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise SourceError(
                f"The spool {self.folder} is used by another process: each source wants a spool of its own"
            ) from None
        return lock

    def _opened(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as problem:
            raise SourceError(
                f"{self.path} cannot be used: {problem}. Free the disk or give the rights; if the file is corrupt, move"
                " it away, and what it kept is lost"
            ) from None
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {LAYOUT} COMMIT;")
            fsync_folder(self.folder)
        elif version != 1:
            raise SourceError(f"{self.path} was written by a newer version: use that, or another folder")

    async def run(self, job: Job) -> Any:
        """What `job` returns, once it is durable; SpoolError when it could not be made so."""
        future: "asyncio.Future[Any]" = self.loop.create_future()
        self.jobs.put((job, future))
        return await future

    def close(self) -> None:
        self.jobs.put(None)
        self.thread.join(5)
        os.close(self.lock)

    def _work(self) -> None:
        with closing(self.connection):
            while True:
                batch = [self.jobs.get()]
                while len(batch) < 256 and batch[-1] is not None and not self.jobs.empty():
                    batch.append(self.jobs.get())
                asked = [each for each in batch if each is not None]
                outcomes = self._settled([job for job, future in asked])
                self.loop.call_soon_threadsafe(_tell, [future for job, future in asked], outcomes)
                if batch[-1] is None:
                    return

    def _settled(self, jobs: Sequence[Job]) -> List[Tuple[Any, Optional[Exception]]]:
        """The result of each job, or why it failed. One that fails in a shared transaction fails alone."""
        try:
            outcomes: List[Tuple[Any, Optional[Exception]]] = [(each, None) for each in self._committed(jobs)]
            self.trouble = ""
        except SpoolFull as problem:
            outcomes = [(None, problem)]
        except (sqlite3.Error, OSError, SpoolError) as problem:
            self.trouble = plain(str(problem), 200)
            outcomes = [(None, SpoolError(self.trouble))]
            self._relieve()
        except Exception as problem:
            outcomes = [(None, problem)]
        if len(jobs) > 1 and outcomes[0][1] is not None:
            return [self._settled([job])[0] for job in jobs]
        return outcomes

    def _relieve(self) -> None:
        """Begin SQLite's log anew in the room that it has: on a full disk that may be all there is."""
        try:
            self.connection.execute("PRAGMA wal_checkpoint(RESTART)")
        except sqlite3.Error as problem:
            logger.debug("The spool's log cannot be begun anew: %s", problem)

    def _committed(self, jobs: Sequence[Job]) -> List[Any]:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            results = [job(self.connection) for job in jobs]
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        # SQLite goes on writing into a file that was deleted
        if file_stamp(self.path)[:2] != self.file:
            raise SpoolError("the file of the spool was deleted or replaced: restart the source")
        return results


def _tell(futures: "Sequence[asyncio.Future[Any]]", outcomes: Sequence[Tuple[Any, Optional[Exception]]]) -> None:
    for future, (result, problem) in zip(futures, outcomes):
        if future.done():
            continue
        if problem is None:
            future.set_result(result)
        else:
            future.set_exception(problem)


def fsync_folder(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_system(path: str) -> str:
    """The type of the file system that holds the path, as Linux lists it, or ''."""
    best, kind = "", ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            rows = [line.split(" ") for line in mounts]
    except OSError:
        return ""
    real = os.path.realpath(path)
    for row in rows:
        point = row[1].replace("\\040", " ")
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
            best, kind = point, row[2]
    return kind


def take(post: Post, now: float, limit: int, again_after: float) -> Job:
    """Keep the items of a request, all or none: Taken, or SpoolFull."""

    def job(connection: sqlite3.Connection) -> Taken:
        if post.message:
            if connection.execute("SELECT 1 FROM message WHERE id = ?", (post.message,)).fetchone():
                return Taken([], len(post.items), set(), replayed=True)
            connection.execute("INSERT INTO message VALUES (?, ?)", (post.message, now))
        if post.watchdog is not None:  # so that it shows whether anything could be kept
            connection.execute("INSERT OR REPLACE INTO note VALUES ('watchdog', ?)", (now,))
        fresh, duplicates, late = _sorted_out(connection, post.items, now, again_after)
        waiting = connection.execute("SELECT count(*) FROM item WHERE state = 0").fetchone()[0] if fresh else 0
        if waiting + len(fresh) > limit:
            raise SpoolFull(f"{waiting} alerts wait already")
        if fresh:
            group = named(post.group)
            connection.execute("INSERT OR IGNORE INTO post VALUES (?, ?)", (group, post.group))
            new = [_kept(connection, item, group, now) for item in fresh]
        else:
            new = []
        return Taken(new, duplicates, late)

    return job


def _sorted_out(
    connection: sqlite3.Connection, items: Sequence[Item], now: float, again_after: float
) -> Tuple[List[Item], int, Set[str]]:
    """The items that are new, how many are known, and the uuids of those that fire although they ended before."""
    fresh: Dict[str, Item] = {}
    ended: Set[str] = set()
    late: Set[str] = set()
    duplicates = 0
    for item in items:
        rows = connection.execute(
            "SELECT uuid, status, state, answered FROM item WHERE incident = ?", (item.incident,)
        ).fetchall()
        known = [row[2:] for row in rows if row[0] == item.uuid]
        if item.status == "firing" and (
            item.incident in ended or any(status == "resolved" for uid, status, state, answered in rows)
        ):
            late.add(item.uuid)
        elif item.uuid in fresh or any(not _is_open(state, now - answered, again_after) for state, answered in known):
            duplicates += 1
        else:
            # one that nobody reported in time, or that may get another answer, is asked anew when it is sent again
            connection.execute("DELETE FROM item WHERE uuid = ?", (item.uuid,))
            fresh[item.uuid] = item
            if item.status == "resolved":
                ended.add(item.incident)
    return list(fresh.values()), duplicates, late


def _is_open(state: int, since: float, again_after: float) -> bool:
    """Whether an item of this state that is sent again is to be emitted again; `since` is the age of its answer."""
    # less than nothing: the clock was put back
    return state == LEFT or (state == AGAIN and not 0 <= since < again_after)


def _kept(connection: sqlite3.Connection, item: Item, group: str, now: float) -> Waiting:
    row = (item.uuid, item.kind, item.service, item.incident, item.status, item.starts, now, WAITING, group, item.text)
    insert = (
        "INSERT INTO item (uuid, kind, service, incident, status, starts, at, state, post, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    )
    seq = connection.execute(insert, row).lastrowid or 0
    return _waiting(seq, item.uuid, item.kind, item.service, item.starts, now, len(item.text))


def _waiting(
    seq: int, uid: str, kind: str, service: str, starts: Optional[float], at: float, size: int, emission: str = ""
) -> Waiting:
    order = at if starts is None else min(starts, at)
    # what was emitted together comes together, and first: the engine knows it by that
    return Waiting(0.0 if emission else order, seq, uid, service, kind == "call", size, at, emission=emission)


class Remembered(NamedTuple):
    """What a source that starts finds in its spool."""

    waiting: List[Waiting]
    firing: List[Tuple[str, str, float]]  # incident, service, when it arrived
    expired: int


def remember(now: float, keep: float) -> Job:
    """Everything that is not done and young enough to be emitted again; the rest is given up."""

    def job(connection: sqlite3.Connection) -> Remembered:
        old = connection.execute("DELETE FROM item WHERE state IN (0, 2) AND at < ?", (now - keep,)).rowcount
        connection.execute("UPDATE item SET state = ?, emission = '' WHERE state = ?", (WAITING, LEFT))
        rows = connection.execute(
            "SELECT seq, uuid, kind, service, starts, at, length(body), emission FROM item"
            " WHERE state = ? ORDER BY seq",
            (WAITING,),
        )
        firing = connection.execute(
            "SELECT incident, service, max(at) FROM item WHERE kind = 'alert' AND at >= ?"
            " GROUP BY incident HAVING max(status = 'resolved') = 0 ORDER BY max(at)",
            (now - keep,),
        )
        return Remembered([_waiting(*row) for row in rows], firing.fetchall(), old)

    return job


def load(items: Sequence[Waiting], emission: str) -> Job:
    """Rows (seq, group, JSON of the item) of those of these items that are to be emitted, in their order.

    It writes under which emission they are, unless they have been under it before.
    """

    def job(connection: sqlite3.Connection) -> List[Tuple[int, str, str]]:
        find = (
            "SELECT seq, (SELECT body FROM post WHERE id = item.post), body FROM item WHERE seq = ? AND state IN (0, 2)"
        )
        rows = [row for row in (connection.execute(find, (item.seq,)).fetchone() for item in items) if row]
        if emission != items[0].emission:
            write = "UPDATE item SET emission = ? WHERE seq = ?"
            connection.executemany(write, [(emission, row[0]) for row in rows])
        return rows

    return job


def finish(uuids: Sequence[str], state: int, now: float) -> Job:
    """Nothing more is to be done about these; what was answered needs its text no more. Returns how many it changed."""
    changes = {
        DONE: "state = 1, post = '', body = '' WHERE state <> 1",
        LEFT: "state = 2 WHERE state = 0",
        AGAIN: "state = 3, post = '', body = '' WHERE state IN (0, 2)",
    }

    def job(connection: sqlite3.Connection) -> int:
        change = f"UPDATE item SET answered = ?, {changes[state]} AND uuid = ?"
        return connection.executemany(change, [(now, uid) for uid in uuids]).rowcount

    return job


def prune(now: float, keep: float, limit: int, window: float) -> Job:
    """Forget what nobody asks for any more, in steps that do not hold up requests: True when there may be more."""

    def job(connection: sqlite3.Connection) -> bool:
        known = connection.execute("SELECT count(*) FROM item").fetchone()[0]
        old = "SELECT seq FROM item WHERE state <> 0 AND at < ? ORDER BY at LIMIT 2000"
        gone = connection.execute(f"DELETE FROM item WHERE seq IN ({old})", (now - keep,)).rowcount
        if not gone and known > 2 * limit:
            some = "SELECT seq FROM item WHERE state IN (1, 3) ORDER BY at LIMIT 2000"
            gone = connection.execute(f"DELETE FROM item WHERE seq IN ({some})").rowcount
        connection.execute("DELETE FROM post WHERE NOT EXISTS (SELECT 1 FROM item WHERE item.post = post.id)")
        connection.execute("DELETE FROM message WHERE at < ?", (now - 2 * window - 60,))
        return bool(gone == 2000)

    return job


# --- fair order -------------------------------------------------------------------------------------------------------


class FairOrder:
    """Whose turn it is: the service with the least load of late, where an alert weighs 1 and being served `SERVED`.

    Load halves every `HALF_LIFE` seconds. It is kept as a logarithm on a scale that grows with time (an alert at t adds
    2^(t / HALF_LIFE)), so that it never has to be reckoned anew; and as newcomers weigh more and more on that scale,
    whoever waits is overtaken for a limited time only.
    """

    HALF_LIFE = 30.0
    SERVED = 1000.0

    def __init__(self) -> None:
        self.load: Dict[str, float] = {}
        self.queues: Dict[str, List[Waiting]] = {}
        self.busy: Set[str] = set()
        self.turns: List[Tuple[float, Waiting, str]] = []  # a heap; loads only grow, so that an entry is never too late
        self.listed: Set[str] = set()
        self.arrivals: "OrderedDict[str, float]" = OrderedDict()
        self.length = 0

    def weigh(self, service: str, weight: float, now: float) -> None:
        added = math.log2(weight) + now / self.HALF_LIFE
        before = self.load.get(service)
        if before is None:
            self.load[service] = added
        else:
            high, low = max(before, added), min(before, added)
            self.load[service] = high + math.log2(1.0 + 2.0 ** max(low - high, -60.0))

    def add(self, item: Waiting) -> None:
        heapq.heappush(self.queues.setdefault(item.service, []), item)
        self.arrivals[item.uuid] = item.at
        self.length += 1
        self._list(item.service)

    def _list(self, service: str) -> None:
        if service in self.queues and service not in self.listed and service not in self.busy:
            self.listed.add(service)
            heapq.heappush(self.turns, (self.load.get(service, -math.inf), self.queues[service][0], service))

    def next(self, now: float, most: int, size: int) -> List[Waiting]:
        """The next service's waiting items, in order: up to `most`, and `size` characters; a call comes alone."""
        while self.turns:
            load, first, service = heapq.heappop(self.turns)
            self.listed.discard(service)
            if service in self.busy or service not in self.queues:
                continue
            if load < self.load.get(service, -math.inf):
                self._list(service)
                continue
            self.weigh(service, self.SERVED, now)
            return self._popped(service, most, size)
        return []

    def _popped(self, service: str, most: int, size: int) -> List[Waiting]:
        waiting = self.queues[service]
        found: List[Waiting] = []
        while waiting and len(found) < most and not (found and (waiting[0].alone or found[0].alone)):
            size -= waiting[0].size
            if found and (size < 0 or waiting[0].emission != found[0].emission):
                break
            found.append(heapq.heappop(waiting))
            self.arrivals.pop(found[-1].uuid, None)
        self.length -= len(found)
        if not waiting:
            del self.queues[service]
        self._list(service)
        return found

    def hold(self, service: str) -> None:
        """Pass this service over until it is freed."""
        self.busy.add(service)

    def free(self, service: str) -> None:
        self.busy.discard(service)
        self._list(service)

    def oldest(self) -> Optional[float]:
        """When the item that waits longest arrived (epoch seconds)."""
        return next(iter(self.arrivals.values()), None)

    def forget(self, now: float) -> None:
        """Drop loads that weigh nothing any more."""
        least = now / self.HALF_LIFE - 20.0
        self.load = {name: load for name, load in self.load.items() if load > least or name in self.queues}


class Alarms:
    """Which services have an alert that fires, as far as was told within `keep` seconds."""

    def __init__(self, keep: float, most: int) -> None:
        self.keep = keep
        self.most = most
        self.firing: "OrderedDict[str, Tuple[str, float]]" = OrderedDict()
        self.services: "Counter[str]" = Counter()

    def told(self, incident: str, service: str, *, firing: bool, at: float) -> None:
        self._drop(incident)
        if firing:
            self.firing[incident] = (service, at)
            self.services[service] += 1
        while self.firing and (len(self.firing) > self.most or next(iter(self.firing.values()))[1] < at - self.keep):
            self._drop(next(iter(self.firing)))

    def _drop(self, incident: str) -> None:
        service, at = self.firing.pop(incident, (None, 0.0))
        if service is not None:
            self.services[service] -= 1
            if not self.services[service]:
                del self.services[service]

    def count(self) -> int:
        return len(self.services)


# --- delivery ---------------------------------------------------------------------------------------------------------


@dataclass
class Flight:
    """Items that were emitted and of which some are not done yet."""

    service: str
    items: Sequence[Waiting]
    left: Set[str]  # uuids that are waited for
    since: float = math.inf  # monotonic seconds: when the engine had it
    confirmed: Set[str] = field(default_factory=set)  # by the engine, of `left`
    heard: float = math.inf  # monotonic seconds: when that was last


ANSWER = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(\.again)?")  # the name of a file in `done`
CONFIRMED_WITHIN = 60.0  # seconds; after that, the engine is given the event again
QUIET = 3.0  # seconds after the engine's last word on an event, of which the filters may have made several
TRIES = 3
ACKS_EVERY = 0.2  # seconds


class Delivery:
    """Take what requests bring, emit it, and see to it that it is done."""

    def __init__(self, options: Options, spool: Spool, events: Any, feedback: Any) -> None:
        self.options = options
        self.spool = spool
        self.events = events
        self.feedback = feedback
        self.playbook = options.wait_for == "playbook"
        self.order = FairOrder()
        self.alarms = Alarms(options.spool_keep, options.spool_max)
        self.counts: "Counter[str]" = Counter()
        self.flights: Dict[str, Flight] = {}  # by each uuid that is waited for
        self.finished: Dict[str, int] = {}  # uuids whose state is not on disk yet
        self.reading = 0  # items that are neither in the queue nor under way yet: they are read
        self.acks: Set[str] = set()  # names of files in `done` that were read
        self.stir = asyncio.Event()
        self.marking = asyncio.Event()
        self.slots_used = 0
        self.watchdog: Optional[Dict[str, Any]] = None  # an event that is due
        self.watchdog_seen = 0.0
        self.watchdog_sent = -math.inf
        self.closing = False

    async def start(self) -> None:
        """Take up what an earlier run left; SourceError when the spool cannot be read."""
        try:
            self._reported(await asyncio.to_thread(read_acks, self.spool.done))
            await self._mark()
            found: Remembered = await self.spool.run(remember(time.time(), self.options.spool_keep))
        except (SpoolError, OSError) as problem:
            raise SourceError(f"The spool {self.spool.folder} cannot be used: {problem}") from None
        for item in found.waiting:
            self.order.add(item)
        for incident, service, at in found.firing:
            self.alarms.told(incident, service, firing=True, at=at)
        self.counts["expired"] += found.expired
        if found.waiting or found.expired:
            logger.info("The spool had %d alerts to emit, and %d too old", len(found.waiting), found.expired)

    async def take(self, post: Post, caller: Caller) -> Taken:
        """Keep what a request brought; SpoolError when it cannot be kept now."""
        now = time.time()
        taken: Taken = await self.spool.run(take(post, now, self.options.spool_max, self.options.again_after))
        self.counts["duplicate"] += taken.duplicates
        self.counts["late"] += len(taken.late)
        self.counts["taken"] += len(taken.new)
        if taken.replayed:
            return taken
        for item in post.items:
            self.order.weigh(item.service, 1.0, now)
            if item.kind == "alert" and item.uuid not in taken.late:
                self.alarms.told(item.incident, item.service, firing=item.status == "firing", at=now)
        for each in taken.new:
            self.order.add(each)
        if post.watchdog is not None:
            self._watchdog(post.watchdog, caller, now)
        self.stir.set()
        return taken

    def _watchdog(self, body: Mapping[str, Any], caller: Caller, now: float) -> None:
        self.watchdog_seen = now
        self.counts["watchdog"] += 1
        if time.monotonic() - self.watchdog_sent >= self.options.watchdog_every:
            self.watchdog_sent = time.monotonic()
            self.watchdog = self._event(body, caller, [], "")

    def _event(
        self, payload: Mapping[str, Any], caller: Sequence[str], uuids: Sequence[str], emission: str
    ) -> Dict[str, Any]:
        about = {"source": "alertmanager", "verified": caller[0], "key": caller[1], "ack": list(uuids)}
        if emission:
            about["emission"] = emission
        return {
            "payload": dict(payload),
            "meta": {"headers": {}, "selfheal": {**about, "alarming": self.alarms.count()}},
        }

    async def emit(self) -> None:
        """Emit for ever: the watchdog at once, everything else in fair order."""
        while True:
            if self.watchdog is not None:
                event, self.watchdog = self.watchdog, None
                await self._put(event)
            free = not self.playbook or self.slots_used < self.options.slots
            items = self.order.next(time.time(), BATCH, self.options.max_body) if free else []
            if items:
                await self._emitted(items)
            elif self.watchdog is None:
                self.stir.clear()
                await self.stir.wait()

    async def _emitted(self, items: Sequence[Waiting]) -> None:
        service = items[0].service
        if self.playbook:
            self.order.hold(service)
        # a repeat after a crash has the name that it had; with wait_for=engine, the engine knows repeats by the alert
        emission = items[0].emission or (uuid.uuid4().hex if self.playbook else "")
        self.reading = len(items)
        try:
            rows = await self.spool.run(load(items, emission))
        except SpoolError as problem:
            logger.error("The spool cannot be read, and is asked again: %s", problem)
            await asyncio.sleep(1)
            self._back(items, tried=False)
            return
        finally:
            self.reading = 0
        there = {seq for seq, group, text in rows}
        items = [item for item in items if item.seq in there]
        if not items:  # somebody reported them while they waited
            if self.playbook:
                self.order.free(service)
            return
        event = self._composed(items, rows, emission)
        flight = self._take_off(items)
        if await self._put(event):
            self.counts["emitted"] += len(items)
            flight.since = time.monotonic()
            if not self.playbook and self.feedback is None:
                flight.confirmed, flight.heard = set(flight.left), flight.since
        else:
            self._land(flight)
            self._back(items, tried=True)

    def _composed(
        self, items: Sequence[Waiting], rows: Sequence[Tuple[int, str, str]], emission: str
    ) -> Dict[str, Any]:
        """The event of these items; each alert has in `ack` which of them it is."""
        bodies = [json.loads(text) for seq, group, text in rows]
        for body, item in zip(bodies, items):
            body["ack"] = item.uuid
        groups = {group: seq for seq, group, text in sorted(rows)}  # the number of the last alert of each
        around = [json.loads(group) for group in sorted(groups, key=lambda each: groups[each])]
        payload = bodies[0] if items[0].alone else merged([each["fields"] for each in around], bodies)
        return self._event(payload, around[-1]["caller"], [item.uuid for item in items], emission)

    async def _put(self, event: Dict[str, Any]) -> bool:
        """Give the engine an event; False when one of the rulebook's filters failed on it."""
        try:
            await self.events.put(event)
        except Exception as problem:
            self.counts["filter_failed"] += 1
            logger.error("A filter of the rulebook failed on an event: %s", type(problem).__name__)
            return False
        return True

    def _take_off(self, items: Sequence[Waiting]) -> Flight:
        """Wait for a playbook, which has to hear of what is over as well, or for the engine."""
        flight = Flight(items[0].service, items, {item.uuid for item in items})
        self.flights.update(dict.fromkeys(flight.left, flight))
        if self.playbook:
            self.slots_used += 1
        return flight

    def _land(self, flight: Flight) -> None:
        """Wait no more for any of a flight."""
        waited = bool(flight.left)
        for uid in flight.left:
            self.flights.pop(uid, None)
        flight.left = set()
        if waited and self.playbook:
            self.slots_used -= 1
            self.order.free(flight.service)
        self.stir.set()

    def _back(self, items: Sequence[Waiting], *, tried: bool) -> None:
        """Queue items again; those that were tried too often are left alone until a restart."""
        for item in items:
            tries = item.tries + tried
            if tries >= TRIES:
                self.counts["given_up"] += 1
                logger.error("%s is given up after %d tries", item.uuid, tries)
                self._finish([item.uuid], LEFT)
            else:
                self.order.add(replace(item, tries=tries, emission="" if tried else item.emission))
        if self.playbook and items:
            self.order.free(items[0].service)
        self.stir.set()

    def answered(self, uid: str, state: int) -> None:
        """A playbook says that this is DONE, or may be asked AGAIN."""
        self._finish([uid], state)
        flight = self.flights.get(uid)
        if flight is None:
            return
        if flight.left == {uid}:
            self._land(flight)
        else:
            flight.left.discard(uid)
            del self.flights[uid]

    def _finish(self, uuids: Iterable[str], state: int) -> None:
        """An answer counts more than none, and DONE more than AGAIN."""
        for uid in uuids:
            if state == DONE or self.finished.get(uid, LEFT) == LEFT:
                self.finished[uid] = state
        self.marking.set()

    def loops(self) -> List[Awaitable[None]]:
        """What is to run as long as the source does."""
        feedback = [] if self.feedback is None else [self.watch_feedback()]
        return [self.emit(), self.mark(), self.watch_acks(), *feedback]

    async def stop(self) -> None:
        """Write what is finished; whatever cannot be written is emitted again after the next start."""
        try:
            await self._mark()
        except SpoolError as problem:
            logger.error("What is done could not be written: %s", problem)

    async def mark(self) -> None:
        """Write for ever what is finished."""
        while True:
            await self.marking.wait()
            try:
                await self._mark()
            except SpoolError as problem:
                logger.error("What is done could not be written, and is tried again: %s", problem)
                await asyncio.sleep(1)

    async def _mark(self) -> None:
        self.marking.clear()
        finished, self.finished = self.finished, {}
        try:
            for state, outcome in ((DONE, "done"), (AGAIN, "again"), (LEFT, "")):
                uuids = [uid for uid, wanted in finished.items() if wanted == state]
                if uuids:
                    marked: int = await self.spool.run(finish(uuids, state, time.time()))
                    self.counts[outcome] += marked
        except BaseException:
            self.finished = {**finished, **self.finished}
            self.marking.set()
            raise
        read = {name for name in self.acks if finished.get(answer(name)[0]) in (DONE, answer(name)[1])}
        if read:
            await asyncio.to_thread(remove_acks, self.spool.done, read)
            self.acks -= read

    async def watch_acks(self) -> None:
        """Read for ever what playbooks report."""
        while True:
            await asyncio.sleep(ACKS_EVERY if self.playbook else 25 * ACKS_EVERY)
            try:
                names = await asyncio.to_thread(read_acks, self.spool.done)
            except OSError as problem:
                logger.error("%s cannot be read: %s", self.spool.done, problem.strerror)
                continue
            self._reported(names)

    def _reported(self, names: Iterable[str]) -> None:
        """Files in `done`, which are removed when what they say is on disk."""
        new = [name for name in names if name not in self.acks]
        self.acks.update(new)
        for name in new:
            self.answered(*answer(name))

    async def watch_feedback(self) -> None:
        """Take for ever what the engine confirms: the events, as its filters made them."""
        while True:
            event = await self.feedback.get()
            for uid in () if self.playbook else confirmed(event):
                flight = self.flights.get(uid)
                if flight is not None:
                    flight.confirmed.add(uid)
                    flight.heard = time.monotonic()

    def sweep(self, now: float) -> None:
        """Close what the engine confirmed, and give up waiting for what took too long."""
        most = self.options.slot_timeout if self.playbook else CONFIRMED_WITHIN
        for flight in {id(each): each for each in self.flights.values()}.values():
            if flight.left <= flight.confirmed and now - flight.heard >= QUIET and now >= flight.since:
                self._finish([item.uuid for item in flight.items], DONE)
                self._land(flight)
            elif now - flight.since < most:
                continue
            elif self.playbook:
                self.counts["timed_out"] += 1
                logger.warning("No playbook reported %s within %.0f s", next(iter(flight.left)), most)
                self._finish([item.uuid for item in flight.items], LEFT)
                self._land(flight)
            else:
                unconfirmed = [item for item in flight.items if item.uuid in flight.left - flight.confirmed]
                self._finish(flight.confirmed, DONE)
                self._land(flight)
                self._back(unconfirmed, tried=True)


def read_acks(folder: str) -> List[str]:
    """The names of files in the folder that are answers."""
    os.makedirs(folder, 0o700, exist_ok=True)
    return [name for name in os.listdir(folder) if ANSWER.fullmatch(name)]


def answer(name: str) -> Tuple[str, int]:
    """Which item a file in `done` is about, and what it says."""
    uid, dot, word = name.partition(".")
    return uid, AGAIN if dot else DONE


def remove_acks(folder: str, names: Iterable[str]) -> None:
    for name in names:
        try:
            os.unlink(os.path.join(folder, name))
        except FileNotFoundError:
            pass
        except OSError as problem:
            logger.warning("%s in %s cannot be removed: %s", name, folder, problem.strerror)


def confirmed(event: Any) -> List[str]:
    """The uuids that an event names, whether the rulebook's filters flattened it or not."""
    if not isinstance(event, dict):
        return []
    found = event.get("ack")
    if found is None:
        meta = event.get("meta")
        about = meta.get("selfheal") if isinstance(meta, dict) else None
        found = about.get("ack") if isinstance(about, dict) else None
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


# --- HTTP -------------------------------------------------------------------------------------------------------------


class RateLimit:
    """A bucket of `4 * rate` requests for each sender, filled with `rate` a second; the least recent are forgotten."""

    def __init__(self, rate: float, most: int = 4096) -> None:
        self.rate = rate
        self.burst = max(1.0, 4 * rate)
        self.most = most
        self.buckets: "OrderedDict[str, Tuple[float, float]]" = OrderedDict()

    def allows(self, sender: str, now: float) -> bool:
        left, at = self.buckets.pop(sender, (self.burst, now))
        left = min(self.burst, left + max(0.0, now - at) * self.rate)
        allowed = left >= 1.0
        self.buckets[sender] = (left - allowed, now)
        if len(self.buckets) > self.most:
            self.buckets.popitem(last=False)
        return allowed


READ_WITHIN = 10.0  # seconds for a body, and for the first headers of a connection
CONNECTIONS = 500  # at a time; each takes a file of the engine's process
HELD = 64 * 1048576  # bytes of bodies that are read at a time


class Reception:
    """What the paths answer."""

    def __init__(self, options: Options, door: Door, delivery: Delivery) -> None:
        self.options = options
        self.door = door
        self.delivery = delivery
        self.known = RateLimit(options.rate)
        self.unknown = RateLimit(options.rate)
        self.counts: "Counter[str]" = Counter()
        self.held = 0
        self.under_way: "Set[asyncio.Future[Taken]]" = set()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self.answered])
        app.router.add_post("/alerts", self.alerts)
        app.router.add_post("/calls", self.calls)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        app.router.add_get("/metrics", self.metrics)
        return app

    @web.middleware
    async def answered(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Every answer that is not 200 is a sentence, and is counted."""
        if isinstance(request.protocol, Connection):
            request.protocol.heard = True
        try:
            return await handler(request)
        except Refused as refused:
            problem = refused
        except web.HTTPException as other:
            problem = Refused(other.status, "refused", f"{other.reason}: post to /alerts or /calls")
        except Exception as mistake:
            where = mistake.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            logger.error("A request failed with %s at line %s", type(mistake).__name__, where and where.tb_lineno)
            problem = Refused(500, "error", "This request failed here; the log has more")
        self.counts[problem.outcome] += 1
        headers = {"Retry-After": "1"} if problem.status in (429, 503) else {}
        if problem.status == 401:
            headers["WWW-Authenticate"] = "Basic" if self.door.users.secrets else "Bearer"
        return web.json_response({"error": str(problem)}, status=problem.status, headers=headers)

    async def alerts(self, request: web.Request) -> web.Response:
        return await self._received(request, read_alerts)

    async def calls(self, request: web.Request) -> web.Response:
        return await self._received(request, read_call)

    async def _received(self, request: web.Request, reader: Callable[[bytes, Options, Caller], Post]) -> web.Response:
        caller, body = await self._let_in(request)
        if reader is read_call and caller.verified in ("", "basic"):
            raise Refused(403, "unauthorised", "A call wants a bearer token, a client certificate or a signature")
        if len(body) > 65536:
            post = await asyncio.to_thread(reader, body, self.options, caller)
        else:
            post = reader(body, self.options, caller)
        if caller.verified == "standard-webhooks":
            post = replace(post, message=f"{caller.key} {request.headers['webhook-id']}")
        # whoever hangs up meanwhile must not keep what is written from being emitted
        taking = asyncio.ensure_future(self.delivery.take(post, caller))
        self.under_way.add(taking)
        taking.add_done_callback(self.under_way.discard)
        try:
            taken = await asyncio.shield(taking)
        except SpoolFull as problem:
            raise Refused(503, "unavailable", f"The spool is full: {problem}; try again") from None
        except SpoolError as problem:
            raise Refused(503, "unavailable", f"Nothing can be kept now: {problem}; try again") from None
        self.counts["ok"] += 1
        return web.json_response({"taken": len(taken.new), "duplicates": taken.duplicates, "late": len(taken.late)})

    async def _let_in(self, request: web.Request) -> Tuple[Caller, bytes]:
        """Who sends this, and the body; Refused when it is not to be looked at."""
        try:
            caller = self.door.before_body(request)
            body = await self._read(request)
            if self.door.signed(request):
                signer = self.door.by_signature(request, body, time.time())
                caller = signer if caller is None or not caller.verified else caller
        except Unauthorised as problem:
            if not self.unknown.allows(request.remote or "", time.monotonic()):
                raise Refused(429, "limited", "Too many requests of nobody that is known here") from None
            raise Refused(401, "unauthorised", f"Not let in: {problem}") from None
        if caller is None:
            raise Refused(401, "unauthorised", "Not let in: nothing shows who sends this")
        if not self.known.allows(f"{caller.verified} {caller.key}", time.monotonic()):
            raise Refused(503, "limited", f"More than {self.options.rate} requests a second: try again")
        return caller, body

    async def _read(self, request: web.Request) -> bytes:
        if request.content_type != "application/json":
            raise Refused(415, "refused", "The content type must be application/json")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused(415, "refused", "The body must not be compressed")
        if (request.content_length or 0) > self.options.max_body:
            raise Refused(413, "too_large", f"The body is larger than max_body, {self.options.max_body} bytes")
        chunks: List[bytes] = []
        try:
            await asyncio.wait_for(self._read_into(chunks, request), READ_WITHIN)
        except asyncio.TimeoutError:
            raise Refused(408, "refused", f"The body took more than {READ_WITHIN:.0f} s") from None
        except (OSError, web.RequestPayloadError):
            raise Refused(400, "refused", "The body broke off, or its chunks are malformed") from None
        finally:
            self.held -= sum(map(len, chunks))
        return b"".join(chunks)

    async def _read_into(self, chunks: List[bytes], request: web.Request) -> None:
        size = 0
        async for chunk in request.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            self.held += len(chunk)
            if size > self.options.max_body:
                raise Refused(413, "too_large", f"The body is larger than max_body, {self.options.max_body} bytes")
            if self.held > HELD:
                raise Refused(503, "unavailable", "Too many large bodies are read at a time: try again")

    async def healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """Whether the next alert would be taken."""
        trouble = self.delivery.spool.trouble
        if not trouble and self.delivery.order.length >= self.options.spool_max:
            trouble = "the spool is full"
        if self.delivery.closing:
            trouble = "the source is shutting down"
        return web.json_response({"status": trouble or "ok"}, status=503 if trouble else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=exposition(self, time.time()), headers={"Content-Type": "text/plain; version=0.0.4"})


REQUESTS = ("ok", "refused", "too_large", "unauthorised", "limited", "unavailable", "malformed", "error")
ALERTS = "taken duplicate late emitted done again timed_out given_up expired filter_failed watchdog".split()


def exposition(reception: Reception, now: float) -> str:
    """The metrics in Prometheus' text format."""
    delivery = reception.delivery
    oldest = delivery.order.oldest()
    gauges = {
        "queue_length": ("Alerts that wait to be emitted.", delivery.order.length + delivery.reading),
        "queue_oldest_seconds": ("For how long the first of them waits.", max(0.0, now - oldest) if oldest else 0),
        "in_flight": ("Alerts that were emitted and are not done.", len(delivery.flights)),
        "slots_in_use": ("Services whose playbook is waited for.", delivery.slots_used),
        "slots": ("Services that may be waited for at a time.", reception.options.slots),
        "alarming_services": ("Services that have an alert firing.", delivery.alarms.count()),
        "watchdog_last_seen_timestamp_seconds": ("When the watchdog came last, or 0.", delivery.watchdog_seen),
        "spool_failing": ("1 while nothing can be kept.", int(bool(delivery.spool.trouble))),
        "secrets_stale": ("1 while a changed file with secrets cannot be used.", int(reception.door.stale())),
    }
    lines = []
    counters = {
        "requests_total": ("Requests to take something, by outcome.", REQUESTS, reception.counts),
        "alerts_total": ("Alerts and calls, by what became of them.", ALERTS, delivery.counts),
    }
    for name, (text, outcomes, counts) in counters.items():
        lines += [f"# HELP selfheal_events_{name} {text}", f"# TYPE selfheal_events_{name} counter"]
        lines += [f'selfheal_events_{name}{{outcome="{each}"}} {counts[each]}' for each in outcomes]
    for name, (text, value) in gauges.items():
        lines += [f"# HELP selfheal_events_{name} {text}", f"# TYPE selfheal_events_{name} gauge"]
        lines.append(f"selfheal_events_{name} {value}")
    return "\n".join(lines) + "\n"


class Malformed(logging.Handler):
    """Counts what the HTTP server says about requests that are none, and keeps it out of the log: it quotes them."""

    def __init__(self, counts: "Counter[str]") -> None:
        super().__init__()
        self.counts = counts

    def emit(self, record: logging.LogRecord) -> None:
        self.counts["malformed"] += 1


# --- main -------------------------------------------------------------------------------------------------------------


class Connection(web.RequestHandler):
    """One of a limited number of connections, which are closed when nobody asks anything.

    What was malformed is not quoted to its sender: senders log what they are answered.
    """

    __slots__ = ("counts", "heard", "others")

    def __init__(self, *args: Any, others: "Set[Connection]", counts: "Counter[str]", **more: Any) -> None:
        super().__init__(*args, **more)
        self.others = others
        self.counts = counts
        self.heard = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self.others) >= CONNECTIONS:
            self.counts["limited"] += 1
            self.force_close()
            return
        self.others.add(self)
        asyncio.get_running_loop().call_later(READ_WITHIN, self.close_unless_heard)

    def connection_lost(self, exc: Optional[BaseException]) -> None:
        self.others.discard(self)
        super().connection_lost(exc)

    def close_unless_heard(self) -> None:
        """Close what has not sent whole headers; aiohttp's keepalive_timeout does so for the later ones."""
        if not self.heard and self in self.others:
            self.counts["malformed"] += 1
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: Optional[BaseException] = None,
        message: Optional[str] = None,
    ) -> web.StreamResponse:
        return super().handle_error(request, status, exc, "This is no HTTP request that is understood here")


@asynccontextmanager
async def listening(
    options: Options, reception: Reception, context: Optional[ssl.SSLContext]
) -> AsyncIterator[web.AppRunner]:
    """Answer requests meanwhile; at the end, those that are under way are answered still."""
    silent = logging.Logger("selfheal.delivery.alertmanager.http", logging.ERROR)
    silent.addHandler(Malformed(reception.counts))
    runner = web.AppRunner(reception.application(), shutdown_timeout=2.0)
    await runner.setup()
    loop = asyncio.get_running_loop()
    connection = partial(
        Connection,
        cast(web.Server, runner.server),
        others=set(),
        counts=reception.counts,
        loop=loop,
        logger=silent,
        access_log=silent,
        auto_decompress=False,
        keepalive_timeout=75.0,
        lingering_time=1.0,
    )
    try:
        try:
            server = await loop.create_server(
                connection,
                options.host,
                options.port,
                ssl=context,
                backlog=128,
                ssl_handshake_timeout=READ_WITHIN if context else None,
            )
        except (OSError, OverflowError, UnicodeError) as problem:
            why = getattr(problem, "strerror", "") or str(problem)
            raise SourceError(f"Cannot listen on {options.host} port {options.port}: {why}") from None
        try:
            yield runner
        finally:
            server.close()
    finally:
        await runner.cleanup()


def certificate_stamp(options: Options) -> Tuple[Tuple[int, ...], ...]:
    return file_stamp(options.certfile), file_stamp(options.keyfile)


async def keep_house(options: Options, door: Door, delivery: Delivery, context: Optional[ssl.SSLContext]) -> None:
    """Every second: secrets that changed, playbooks that take too long, a spool that may work again; rarely: tidy."""
    spool = delivery.spool
    stamp = certificate_stamp(options)
    pruned = 0.0
    while True:
        await asyncio.sleep(1)
        await asyncio.to_thread(door.refresh)
        delivery.sweep(time.monotonic())
        if context and stamp != certificate_stamp(options):
            stamp = certificate_stamp(options)
            try:
                load_certificate(context, options)
            except SourceError as problem:
                logger.error("What was read before stays valid: %s", problem)
        try:
            if spool.trouble:
                await spool.run(lambda each: each.execute("INSERT OR REPLACE INTO note VALUES ('probe', 0)"))
            now = time.time()
            if now - pruned > 30:
                delivery.order.forget(now)
                more = await spool.run(prune(now, options.spool_keep, options.spool_max, options.replay_window))
                pruned = 0.0 if more else now
        except SpoolError as problem:
            logger.error("Nothing can be kept now: %s", problem)


def warn(options: Options) -> None:
    """What may be wanted, and is dangerous."""
    if options.unauthenticated:
        logger.warning("Alerts are taken from anybody who reaches %s port %d", options.host, options.port)
    if not options.certfile and options.host not in ("127.0.0.1", "::1", "localhost"):
        logger.warning("Without certfile, secrets and alerts pass in the clear to %s", options.host)


async def main(queue: Any, args: Dict[str, Any]) -> None:
    """Receive alerts until cancelled; SourceError when that cannot begin."""
    options = read_options(args)
    door = Door(options)
    context = tls(options)
    warn(options)
    spool = Spool(options.spool)
    try:
        delivery = Delivery(options, spool, queue, args.get("eda_feedback_queue"))
        await delivery.start()
        async with listening(options, Reception(options, door, delivery), context):
            logger.info("Listening on %s port %d", options.host, options.port)
            try:
                await until_one_ends(*delivery.loops(), keep_house(options, door, delivery, context))
            finally:
                delivery.closing = True
        await delivery.stop()
    finally:
        spool.close()


async def until_one_ends(*loops: Awaitable[None]) -> None:
    """None of them ends by itself; when one fails, or when cancelled, all are stopped."""
    tasks = [asyncio.ensure_future(each) for each in loops]
    try:
        ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
