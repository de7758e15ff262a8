# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an Alertmanager again and again what fires, and hand each alert to the rulebook once.

ansible-rulebook loads this file by its path: it stands alone, and needs nothing but aiohttp.
"""

from __future__ import annotations

DOCUMENTATION = r"""
---
name: alertmanager_poll
short_description: Read the firing alerts from Alertmanager's API
version_added: 1.0.0
author: selfheal.delivery contributors (@selfheal-delivery)
description:
  - Asks version 2 of Alertmanager's API every few seconds for the alerts that fire, and emits those that are new. It is
    for places where no webhook can reach, and a second eye beside P(selfheal.delivery.alertmanager#event_source) that
    finds what a lost webhook missed. An alert that both of them see is one incident for the guard.
  - An event has the shape of C(eda.builtin.webhook), with the alerts of one service in C(payload) as Alertmanager's
    webhook would send them. Put the filter P(selfheal.delivery.alerts#event_filter) behind it.
  - An alert that is silenced, inhibited, or muted by a time interval is left out, and does not count as resolved.
  - An Alertmanager that does not answer, or answers anything but a list of alerts, is logged once for each kind of
    failure, is counted, and is asked again, at longer and longer intervals of up to a minute. It never counts as
    "nothing fires", and never ends the activation. Meanwhile the alert O(watchdog) is not emitted either, so that a
    dead man's switch behind it notices.
  - What was told is kept in memory. After a restart everything that fires is emitted again; the guard acts once for
    each incident.
options:
  url:
    description:
      - Where Alertmanager is, with its path prefix if it has one, such as V(https://alertmanager.example.org:9093).
    type: str
    required: true
  every:
    description: Seconds between two questions, give or take a tenth.
    type: float
    default: 15
  timeout:
    description: Seconds that one question may take as a whole.
    type: float
    default: 10
  matchers:
    description:
      - Only alerts that all of these match, written as for C(amtool), such as C(severity="page"). The O(watchdog) needs
        to match them too.
    type: list
    elements: str
    default: []
  receiver:
    description: Only alerts that Alertmanager routes to a receiver whose whole name matches this regular expression.
    type: str
    default: ""
  token_file:
    description:
      - A file with the bearer token. Files with secrets are read for each question, and may be replaced at any time.
    type: path
  username:
    description: The user for basic authentication.
    type: str
    default: ""
  password_file:
    description: A file with the password of O(username).
    type: path
  ca:
    description: A file with the certificates of the authorities to trust, instead of the system's.
    type: path
  certfile:
    description: A file with the certificate, and perhaps the key, that this client shows (mTLS).
    type: path
  keyfile:
    description: A file with the key of O(certfile), without a passphrase.
    type: path
  service_label:
    description: The label that names the service. Alerts are emitted together with the others of their service.
    type: str
    default: service
  again_after:
    description: Emit an alert that still fires again after this many seconds.
    type: float
    default: 3600
  gone_after:
    description:
      - Emit an alert that was told as resolved, once every answer for this many seconds was without it. An Alertmanager
        that has just been started knows no alerts until Prometheus sends them again, which takes it a minute.
    type: float
    default: 120
  watchdog:
    description: The name of the alert that always fires. It is emitted every O(watchdog_every) seconds.
    type: str
    default: Watchdog
  watchdog_every:
    description: Seconds between two events with the O(watchdog).
    type: float
    default: 30
  max_answer:
    description: The largest answer that is read, in bytes.
    type: int
    default: 16777216
  max_alerts:
    description: How many alerts of an answer are looked at. Nothing counts as resolved while there are more.
    type: int
    default: 20000
  metrics_file:
    description:
      - A file that is written after each question with counters in Prometheus' text format, for the textfile collector
        of the node exporter.
    type: path
"""

EXAMPLES = r"""
- name: Ask Alertmanager every 15 seconds, with a token, for what it routes to the receiver selfheal
  selfheal.delivery.alertmanager_poll:
    url: https://alertmanager.example.org
    token_file: /etc/selfheal/alertmanager.token
    ca: /etc/selfheal/ca.pem
    receiver: selfheal

- name: Ask for what is meant for the one on call, and for the alert that always fires
  selfheal.delivery.alertmanager_poll:
    url: http://127.0.0.1:9093
    matchers:
      - severity=~"page|none"
"""

import asyncio
import base64
import ipaddress
import json
import logging
import os
import random
import re
import ssl
import time
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Protocol, Sequence, Tuple
from urllib.parse import urlsplit

import aiohttp

logger = logging.getLogger("selfheal.delivery.alertmanager_poll")

Key = Tuple[str, str]  # fingerprint and startsAt: one incident of one alert

LONGEST_PAUSE = 60.0  # seconds between two questions to an Alertmanager that does not answer
AT_ONCE = 2000  # alerts in one event, at most: as many as the filter reads
NOTHING_SINCE = 0.0  # an alert that was not told yet
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Queue(Protocol):
    """Where a source puts its events."""

    async def put(self, data: object) -> None: ...


class Unanswered(Exception):
    """No list of alerts came. `word` is the kind of failure, as it is counted; the text says what to look at."""

    def __init__(self, word: str, text: str) -> None:
        super().__init__(text)
        self.word = word


@dataclass(frozen=True)
class Options:
    """The options of the source, as its documentation has them."""

    url: str
    every: float = 15.0
    timeout: float = 10.0
    matchers: Sequence[str] = ()
    receiver: str = ""
    token_file: str = ""
    username: str = ""
    password_file: str = ""
    ca: str = ""
    certfile: str = ""
    keyfile: str = ""
    service_label: str = "service"
    again_after: float = 3600.0
    gone_after: float = 120.0
    watchdog: str = "Watchdog"
    watchdog_every: float = 30.0
    max_answer: int = 16 * 1024 * 1024
    max_alerts: int = 20_000
    metrics_file: str = ""


@dataclass(frozen=True)
class Alert:
    """One alert of an answer. `quiet`: it is silenced, inhibited or muted, or Alertmanager has not looked at it yet."""

    fingerprint: str
    starts_at: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    generator: str
    quiet: bool

    @property
    def key(self) -> Key:
        return self.fingerprint, self.starts_at


@dataclass
class Known:
    """What is kept of an alert. Times are seconds of a clock that only goes forward; 0 is "never"."""

    alert: Alert
    told: float = NOTHING_SINCE
    missing: float = NOTHING_SINCE  # since the first answer that was without it


@dataclass
class Counts:
    """What `metrics_file` has, and what a failure is told with."""

    answers: Dict[str, int] = field(default_factory=dict)  # by "answered" or the word of the failure
    emitted: Dict[str, int] = field(default_factory=dict)  # by "firing", "resolved" or "watchdog"
    alerts: Dict[str, int] = field(default_factory=dict)  # in the last answer, by "active", "quiet" or "malformed"
    failing: int = 0  # questions in a row
    answered_at: float = 0.0  # epoch seconds

    def count(self, which: Dict[str, int], word: str, by: int = 1) -> None:
        which[word] = which.get(word, 0) + by


# --- options


def parse_options(args: Mapping[str, Any]) -> Options:
    """The options; raises ValueError that names everything that is wrong with them."""
    wanted = {option.name: option for option in fields(Options)}
    wrong = [f"{name} is no option of it" for name in args if name not in wanted]
    given: Dict[str, Any] = {}
    for name, option in wanted.items():
        default = () if option.default is MISSING else option.default
        if name in args and args[name] is not None:
            try:
                given[name] = _converted(args[name], str if name == "url" else type(default))
            except ValueError as error:
                wrong.append(f"{name} {error}")
    if not given.get("url"):
        wrong.append("url is missing: where Alertmanager is, such as https://alertmanager.example.org:9093")
        given["url"] = ""
    options = Options(**given)
    wrong += _misfits(options)
    if wrong:
        raise ValueError(f"selfheal.delivery.alertmanager_poll: {'; '.join(wrong)}.")
    return options


def _converted(value: object, kind: type) -> Any:
    """`value` as a `kind`: a variable of a rulebook may give a number as text, or a text as a number."""
    if kind is tuple:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueError("is no list")
        return tuple(str(item) for item in value)
    if kind is str:
        if isinstance(value, (bool, dict, list)):
            raise ValueError("is no text")
        return str(value).strip()
    try:
        number = kind(str(value))
    except ValueError:
        raise ValueError("is no whole number" if kind is int else "is no number") from None
    if not 0 <= number < float("inf"):
        raise ValueError("is less than nothing" if number < 0 else "is no number")
    return number


def _misfits(options: Options) -> Iterator[str]:
    """What single options are fine with, but the whole is not."""
    parts = urlsplit(options.url)
    if options.url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
        yield "url is not http://HOST:PORT/PREFIX or https://HOST:PORT/PREFIX"
    if parts.username or parts.password:
        yield "url has a user or a password in it: use username and password_file"
    if options.token_file and options.username:
        yield "token_file and username exclude each other"
    if bool(options.username) != bool(options.password_file):
        yield "username and password_file go together"
    if options.keyfile and not options.certfile:
        yield "keyfile without certfile"
    secret = options.token_file or options.username
    if parts.scheme == "http" and secret and not _is_here(parts.hostname or ""):
        yield "a token or a password is not sent over http: use https"
    if parts.scheme == "http" and (options.ca or options.certfile):
        yield "ca and certfile need https"
    for name in ("every", "timeout", "watchdog_every", "max_answer", "max_alerts"):
        if not getattr(options, name):
            yield f"{name} is 0"
    if not LABEL.fullmatch(options.service_label):
        yield "service_label is not the name of a label"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# --- one question


def secret_of(path: str) -> str:
    """What stands in a file with a secret; raises Unanswered. The text of an error never has any of it."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise Unanswered("secret", f"{path} cannot be read: {why}") from None
    if not text:
        raise Unanswered("secret", f"{path} is empty: put the secret into it")
    if not text.isprintable():
        raise Unanswered("secret", f"{path} has more than one line, or bytes that no secret has")
    return text


def access(options: Options) -> Tuple[Dict[str, str], Optional[ssl.SSLContext]]:
    """Headers and TLS for a question, from the files as they are now; raises Unanswered. It blocks, so use a thread."""
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if options.token_file:
        headers["Authorization"] = f"Bearer {secret_of(options.token_file)}"
    elif options.username:
        pair = f"{options.username}:{secret_of(options.password_file)}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    if not options.url.startswith("https:"):
        return headers, None
    try:
        context = ssl.create_default_context(cafile=options.ca or None)
        if options.certfile:
            # an empty passphrase, or OpenSSL would ask for one on the terminal
            context.load_cert_chain(options.certfile, options.keyfile or None, password="")
    except (OSError, ValueError) as error:
        names = ", ".join(filter(None, (options.ca, options.certfile, options.keyfile)))
        raise Unanswered("secret", f"no TLS with {names}: {_reason(error)}") from None
    return headers, context


async def ask(options: Options) -> List[object]:
    """The alerts as the API lists them, not looked at yet; raises Unanswered."""
    headers, context = await asyncio.to_thread(access, options)
    query = [("active", "true"), ("silenced", "true"), ("inhibited", "true"), ("unprocessed", "true")]
    query += [("filter", matcher) for matcher in options.matchers]
    if options.receiver:
        query.append(("receiver", options.receiver))
    # a connection of its own for each question: what was rotated counts at once
    connector = aiohttp.TCPConnector(ssl=context if context is not None else True, force_close=True)
    limit = aiohttp.ClientTimeout(total=options.timeout)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=limit, auto_decompress=False) as session:
            url = f"{options.url.rstrip('/')}/api/v2/alerts"
            async with session.get(url, params=query, headers=headers, allow_redirects=False) as answer:
                _check_status(answer.status)
                body = await _bounded(answer, options.max_answer)
    except asyncio.TimeoutError:
        raise Unanswered("timeout", f"no whole answer within {options.timeout:g} s") from None
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise Unanswered("tls", f"no TLS: {_reason(error)}; look at ca, certfile and keyfile") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Unanswered("unreachable", _reason(error)) from None
    return await asyncio.to_thread(_listed, body)


def _check_status(status: int) -> None:
    if status in (401, 403):
        raise Unanswered("refused", f"it answers {status}: look at token_file, or username and password_file")
    if 300 <= status < 400:
        raise Unanswered("redirected", f"it answers {status}: name the address that it redirects to in url")
    if status != 200:
        hint = ": look at matchers and receiver" if status == 400 else ": look at url" if status == 404 else ""
        raise Unanswered("status", f"it answers {status}{hint}")


async def _bounded(answer: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(1 << 16):
        body += chunk
        if len(body) > most:
            raise Unanswered("too_large", f"the answer has more than {most} bytes: narrow it by matchers")
    return bytes(body)


def _listed(body: bytes) -> List[object]:
    try:
        alerts = json.loads(body)
    except (ValueError, RecursionError):
        raise Unanswered("not_json", "the answer is no JSON: is there something else at url?") from None
    if not isinstance(alerts, list):
        raise Unanswered("not_alerts", "the answer is no list of alerts: is there something else at url?")
    return alerts


def _reason(error: BaseException) -> str:
    """What an error of the network says, on one line and bounded."""
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- what an answer means


def read_alert(told: object) -> Optional[Alert]:
    """One item of the answer; nothing when it is no alert as the API describes it."""
    if not isinstance(told, dict):
        return None
    texts = [told.get(name) for name in ("fingerprint", "startsAt")]
    labels, annotations, status = (told.get(name) for name in ("labels", "annotations", "status"))
    if not all(isinstance(text, str) and text for text in texts) or not _is_texts(labels) or not labels:
        return None
    if not isinstance(status, dict) or not _is_texts(annotations or {}):
        return None
    quiet = status.get("state") != "active" or any(status.get(f"{how}By") for how in ("silenced", "inhibited", "muted"))
    return Alert(str(texts[0]), str(texts[1]), labels, annotations or {}, str(told.get("generatorURL") or ""), quiet)


def _is_texts(value: object) -> bool:
    """Whether it is a mapping from texts to texts."""
    return isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)


class Watch:
    """What fires, as far as the answers tell. It has no clock and no network of its own."""

    def __init__(self, options: Options, counts: Counts) -> None:
        self._options = options
        self._counts = counts
        self._known: Dict[Key, Known] = {}

    def unanswered(self) -> None:
        """Nothing is known of what happened meanwhile: whoever was missing has not been missing since."""
        for known in self._known.values():
            known.missing = NOTHING_SINCE

    def answered(self, told: Sequence[object], now: float, wall: float) -> List[Dict[str, Any]]:
        """The events that an answer makes. `now` is a clock that only goes forward, `wall` epoch seconds."""
        alerts = [alert for alert in map(read_alert, told[: self._options.max_alerts]) if alert]
        quiet = sum(alert.quiet for alert in alerts)
        self._counts.alerts = {"active": len(alerts) - quiet, "quiet": quiet, "malformed": len(told) - len(alerts)}
        present = {alert.key for alert in alerts}
        firing = [alert for alert in alerts if self._is_due(alert, now)]
        resolved = self._resolved(present, now, complete=len(alerts) == len(told))
        self._bound(present)
        alarming = {self._service(alert) for alert in alerts if not alert.quiet and not self._is_watchdog(alert)} - {""}
        return list(self._events(firing, resolved, len(alarming), wall))

    def _is_due(self, alert: Alert, now: float) -> bool:
        known = self._known.setdefault(alert.key, Known(alert))
        known.missing = NOTHING_SINCE
        pause = self._options.watchdog_every if self._is_watchdog(alert) else self._options.again_after
        if alert.quiet or (known.told and now - known.told < pause):
            return False
        known.told = now
        return True

    def _resolved(self, present: Iterable[Key], now: float, *, complete: bool) -> List[Alert]:
        """Who was told to fire and no longer does. From an answer that is not complete nobody is known to be gone."""
        present = set(present)
        started = {fingerprint for fingerprint, starts_at in present}
        gone = []
        for key, known in list(self._known.items()):
            if key in present:
                continue
            known.missing = (known.missing or now) if complete else NOTHING_SINCE
            anew = key[0] in started  # the same alert has begun once more: this time of it is over
            if anew or (known.missing and now - known.missing >= self._options.gone_after):
                del self._known[key]
                if known.told and not self._is_watchdog(known.alert):
                    gone.append(known.alert)
        return gone

    def _bound(self, present: Iterable[Key]) -> None:
        """Forget whom no answer can ever show to be gone, rather than to keep more and more of them."""
        too_many = len(self._known) - 2 * self._options.max_alerts
        if too_many > 0:
            absent = self._known.keys() - set(present)
            for key in sorted(absent, key=lambda key: self._known[key].told)[:too_many]:
                del self._known[key]

    def _events(
        self, firing: Sequence[Alert], resolved: Sequence[Alert], alarming: int, wall: float
    ) -> Iterator[Dict[str, Any]]:
        ended = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall))
        groups: Dict[Tuple[str, bool], List[Dict[str, Any]]] = {}
        for alerts, ends_at in ((resolved, ended), (firing, "")):
            for alert in alerts:
                watchdog = self._is_watchdog(alert)
                word = "watchdog" if watchdog else "resolved" if ends_at else "firing"
                self._counts.count(self._counts.emitted, word)
                groups.setdefault((self._service(alert), watchdog), []).append(_as_posted(alert, ends_at))
        for group, posted in groups.items():
            for start in range(0, len(posted), AT_ONCE):
                body = self._body(group[0], posted[start : start + AT_ONCE])
                about = {"source": "poll", "verified": "", "key": "", "ack": [], "alarming": alarming}
                yield {"payload": body, "meta": {"headers": {}, "selfheal": about}}

    def _body(self, service: str, posted: Sequence[Mapping[str, Any]]) -> Dict[str, Any]:
        """The alerts of one service as Alertmanager's webhook, version 4, would send them."""
        label = {self._options.service_label: service} if service else {}
        firing = any(alert["status"] == "firing" for alert in posted)
        return {
            "version": "4",
            "groupKey": f"poll:{json.dumps(label)}",
            "truncatedAlerts": 0,
            "status": "firing" if firing else "resolved",
            "receiver": self._options.receiver,
            "groupLabels": label,
            "commonLabels": _common([alert["labels"] for alert in posted]),
            "commonAnnotations": _common([alert["annotations"] for alert in posted]),
            "externalURL": self._options.url,
            "alerts": list(posted),
        }

    def _service(self, alert: Alert) -> str:
        return alert.labels.get(self._options.service_label, "")

    def _is_watchdog(self, alert: Alert) -> bool:
        return alert.labels.get("alertname") == self._options.watchdog


def _as_posted(alert: Alert, ends_at: str) -> Dict[str, Any]:
    """One alert as the webhook has it: `ends_at` is set when it is resolved."""
    return {
        "status": "resolved" if ends_at else "firing",
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": alert.starts_at,
        "endsAt": ends_at or "0001-01-01T00:00:00Z",
        "generatorURL": alert.generator,
        "fingerprint": alert.fingerprint,
    }


def _common(maps: Sequence[Mapping[str, str]]) -> Dict[str, str]:
    first, *others = maps
    return {name: text for name, text in first.items() if all(other.get(name) == text for other in others)}


# --- the loop


class Poll:
    """Asks, tells, and keeps count."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._counts = Counts()
        self._watch = Watch(options, self._counts)
        self._told: List[str] = []  # the failures of this outage that were logged

    async def once(self, queue: Queue) -> None:
        """Ask, and put what is new into `queue`."""
        try:
            found = await ask(self._options)
            events = await asyncio.to_thread(self._watch.answered, found, time.monotonic(), time.time())
        except Unanswered as error:
            self._failed(error.word, str(error))
        except Exception as error:
            # a mistake of ours must not take the other sources of the activation down: the engine would end
            logger.debug("alertmanager_poll", exc_info=True)
            self._failed("unexpected", f"{type(error).__name__}, which is a mistake in alertmanager_poll: report it")
        else:
            self._recovered()
            for event in events:
                await queue.put(event)
        if self._options.metrics_file:
            await asyncio.to_thread(self._write_metrics)

    def pause(self) -> float:
        """Seconds until the next question: longer while there is no answer, and never quite the same."""
        slower = 2.0 ** min(max(self._counts.failing - 1, 0), 10)
        usual = max(self._options.every, min(self._options.every * slower, LONGEST_PAUSE))
        return usual * random.uniform(0.9, 1.1)

    def _failed(self, word: str, text: str) -> None:
        self._counts.count(self._counts.answers, word)
        self._counts.failing += 1
        self._watch.unanswered()
        self._log(word, f"what fires at {self._options.url} is not known: {text}. It is asked again and again.")

    def _recovered(self) -> None:
        if self._counts.failing:
            logger.warning("%s answers again, after %d failures.", self._options.url, self._counts.failing)
        self._told.clear()
        self._counts.count(self._counts.answers, "answered")
        self._counts.failing = 0
        self._counts.answered_at = time.time()
        if self._counts.alerts["malformed"]:
            text = "%d alerts of %s are not looked at: they are more than max_alerts, or no alerts."
            self._log("malformed", text % (self._counts.alerts["malformed"], self._options.url))

    def _log(self, word: str, text: str) -> None:
        if word not in self._told:
            self._told.append(word)
            logger.warning("%s", text)

    def _write_metrics(self) -> None:
        target = Path(self._options.metrics_file)
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            partial.write_text(metrics(self._counts), encoding="utf-8")
            partial.replace(target)
        except OSError as error:
            self._log("metrics_file", f"{target} cannot be written: {error.strerror}")


def metrics(counts: Counts) -> str:
    """The counters in Prometheus' text format."""
    prefix = "selfheal_events_poll"
    lines = []
    for name, label, kind, values in (
        ("questions_total", "result", "counter", counts.answers),
        ("emitted_total", "status", "counter", counts.emitted),
        ("alerts", "state", "gauge", counts.alerts),
    ):
        lines.append(f"# TYPE {prefix}_{name} {kind}")
        lines += [f'{prefix}_{name}{{{label}="{word}"}} {count}' for word, count in sorted(values.items())]
    gauges = {"up": int(not counts.failing), "last_answer_timestamp_seconds": round(counts.answered_at, 3)}
    for name, value in gauges.items():
        lines += [f"# TYPE {prefix}_{name} gauge", f"{prefix}_{name} {value}"]
    return "\n".join(lines) + "\n"


async def main(queue: Queue, args: Dict[str, Any]) -> None:
    """Ask for ever; raises ValueError when an option, or a file that it names, is wrong at the start."""
    options = parse_options(args)
    try:
        await asyncio.to_thread(access, options)
    except Unanswered as error:
        raise ValueError(f"selfheal.delivery.alertmanager_poll: {error}.") from None
    poll = Poll(options)
    while True:
        await poll.once(queue)
        await asyncio.sleep(poll.pause())
