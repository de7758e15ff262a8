# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One POST of JSON: sent once, bounded in time and size, never redirected, and told in words."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Dict, Mapping, Union

from .._sense.client import is_web_page, trusted, why
from .channel import Config, Sent, authority, flag, host_of
from .text import clean

try:
    import requests
    from requests.utils import get_environ_proxies
except ImportError:
    # told where it is needed: e-mail does without
    HAS_REQUESTS = False
else:
    HAS_REQUESTS = True

_MOST = 4096  # bytes of an answer that are looked at
_SAID = 160  # characters of it that are shown
LATEST = 3600.0  # seconds that a server may ask us to wait
# what is wrong with the message itself stays wrong
NEVER = (400, 413, 415, 422)


@dataclass(frozen=True)
class Answer:
    """`said` is the beginning of the body; `after` is what Retry-After asks for, in seconds.

    `where` is the host that a redirect leads to.
    """

    status: int
    said: str = ""
    is_html: bool = False
    after: float = 0.0
    where: str = ""


def post(url: str, body: bytes, headers: Mapping[str, str], config: Config, timeout: float) -> Union[Answer, Sent]:
    """The answer, or why there is none."""
    if not HAS_REQUESTS:
        return Sent(False, "the Python library requests is missing on the controller", again=True, stop=True)
    try:
        with requests.Session() as session:
            session.trust_env = False  # a ~/.netrc must not add credentials, nor the environment undo validate_certs
            with session.post(
                url,
                data=body,
                headers={"Content-Type": "application/json", "User-Agent": "selfheal.delivery", **headers},
                timeout=timeout,
                verify=_verify(config),
                proxies=dict(get_environ_proxies(url)),
                allow_redirects=False,
                stream=True,
            ) as response:
                return _answer(response, time.monotonic() + timeout)
    except (requests.RequestException, OSError, ValueError) as error:
        return Sent(False, f"{host_of(url)} {why(error, round(timeout, 1))}", again=True, stop=True)


def _verify(config: Config) -> Union[bool, str]:
    return trusted(authority(config)) if flag(config, "validate_certs", True) else False


def _answer(response: requests.Response, deadline: float) -> Answer:
    body = bytearray()
    for chunk in response.iter_content(512):
        body += chunk
        if len(body) >= _MOST or time.monotonic() > deadline:
            break
    return Answer(
        response.status_code,
        bytes(body[:_MOST]).decode("utf-8", "replace"),
        is_web_page(response.headers.get("Content-Type", ""), bytes(body)),
        retry_after(response.headers, time.time()),
        host_of(response.headers.get("Location", "")) if response.is_redirect else "",
    )


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """Seconds, from a number or a date; an hour at most, and 0 when nobody says."""
    value = headers.get("Retry-After", "").strip()
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - now
    except (IndexError, OverflowError, TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), LATEST)


def refused(url: str, answer: Answer, hints: Mapping[int, str]) -> Sent:
    """Why an answer is no success. What the server said is shown in part, unless it is a web page."""
    host = host_of(url)
    if answer.where:
        return Sent(False, f"{host} redirects to {answer.where}: name the right address", again=True, stop=True)
    said = "a web page" if answer.is_html else clean(answer.said, _SAID)
    hint: Dict[int, str] = {401: "the credentials are wrong", 403: "the credentials do not suffice", 429: "too many"}
    reason = hints.get(answer.status) or hint.get(answer.status, "")
    told = ": ".join(part for part in (f"{host} answers HTTP {answer.status}", reason, said) if part)
    again = answer.status not in NEVER
    return Sent(False, told, again=again, after=answer.after if again else 0.0, stop=again)
