# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the release healthy? Asked by a URL or by a command until it says yes or the time is over."""

from __future__ import annotations

import http.client
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Callable, Optional, Tuple
from urllib.parse import urlsplit, urlunsplit

from .._errors import OptionError
from . import service

_BODY = 1 << 20  # bytes of an answer that are searched for `contains`
_CHUNK = 1 << 16
_TRY = 5.0  # seconds that one try may take, at most


@dataclass(frozen=True)
class Health:
    """What has to be seen. One of `url` and `argv`; `timeout` for all tries and `interval` between are in seconds."""

    url: str = ""
    argv: Tuple[str, ...] = ()
    status: Tuple[int, ...] = (200,)
    contains: str = ""
    timeout: float = 30.0
    interval: float = 1.0


def checked_url(url: str) -> str:
    """`url`, when it can be asked without surprises."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        plain = False
    if not plain or any(ord(letter) <= 32 for letter in url):
        raise OptionError("health.url is not an http or https address without user and password")
    return url


def wait(
    health: Health, *, folder: str, log: str, now: Callable[[], float], sleep: Callable[[float], None]
) -> Optional[str]:
    """None as soon as the release is healthy, else why it was not at the last try. Tries at least once."""
    deadline = now() + health.timeout
    while True:
        limit = max(0.1, min(_TRY, deadline - now()))
        problem = _ask(health, limit) if health.url else _run(health, folder, log, limit)
        if problem is None or now() + health.interval >= deadline:
            return problem
        sleep(health.interval)


def _run(health: Health, folder: str, log: str, limit: float) -> Optional[str]:
    problem = service.run(health.argv, folder=folder, log=log, timeout=limit)
    if problem or not health.contains:
        return problem
    said = service.tail(log)
    return None if health.contains in said else f"{health.argv[0]!r} does not say {health.contains!r}{said}"


def _ask(health: Health, limit: float) -> Optional[str]:
    where = _shown(health.url)
    try:
        status, said = _get(health.url, limit)
    except (OSError, http.client.HTTPException) as problem:
        return f"{where} does not answer ({problem or type(problem).__name__})"
    if status not in health.status:
        return f"{where} answers {status}"
    if health.contains and health.contains not in said:
        return f"{where} answers {status}, but without {health.contains!r}"
    return None


def _get(url: str, limit: float) -> Tuple[int, str]:
    """Status and text of the answer. Neither proxies of the environment nor redirects come into it: it is our own."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=limit)) as connection:
        connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")))
        answer = connection.getresponse()
        return answer.status, _read(answer, limit).decode("utf-8", "replace")


def _read(answer: http.client.HTTPResponse, limit: float) -> bytes:
    """What came of the body within `limit`: some answers never end."""
    deadline, body = time.monotonic() + limit, bytearray()
    while len(body) < _BODY and time.monotonic() < deadline:
        more = answer.read1(_CHUNK)
        if not more:
            break
        body += more
    return bytes(body)


def _shown(url: str) -> str:
    """The address without its query, which may carry a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
