# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to a provider's HTTP API: bounded in time and size, whose errors are one readable line without a secret.

A provider that hangs is not waited for: a database that is down makes Unleash think for a minute. What only asks is
asked again after a broken connection; what changes something is not, because it may have been done.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Dict, List, Mapping, Optional, Tuple
from urllib.parse import urlencode

from .._errors import OptionError
from .._sense.client import is_web_page, pieces, redacted, trusted, why
from .._tell.posting import retry_after
from .._tell.text import clean
from .model import ACCEPTED, Deadline, FlagError, Options
from .names import segment, unknown

try:
    import requests
    from requests.utils import get_environ_proxies
except ImportError as error:
    # told where it is needed: a flag in a file does without
    MISSING: Optional[ImportError] = error
else:
    MISSING = None

__all__ = ("MAX_BYTES", "MISSING", "Answer", "Http", "refused", "segment", "token_of", "unknown")

MAX_BYTES = 16 * 1024 * 1024
_SAID = 200  # characters of a provider's own words that are shown
_RETRIES = 2
_READS = ("GET", "HEAD")
_UNCHANGED = "Nothing was changed by this call"


@dataclass(frozen=True)
class Answer:
    """One answer. `data` is its JSON, None when it has none; `said` is the provider's own message, shortened."""

    status: int
    url: str  # without credentials
    data: object = None
    said: str = ""
    is_html: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300 and self.status != ACCEPTED

    @property
    def fields(self) -> Mapping[str, object]:
        """Its JSON object; empty when it is something else."""
        return self.data if isinstance(self.data, Mapping) else {}


class Http:
    """A kept session with one server. `headers` say who we are; they are never shown."""

    def __init__(
        self,
        base: str,
        options: Options,
        headers: Mapping[str, str],
        deadline: Deadline,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if MISSING is not None:
            raise MISSING
        self._base, self._options, self._deadline, self._sleep = base.rstrip("/"), options, deadline, sleep
        self._session = requests.Session()
        # a ~/.netrc must not add credentials, nor the environment undo validate_certs
        self._session.trust_env = False
        self._session.verify = trusted(options.ca_path) if options.validate_certs else False
        self._session.headers.update({"Accept": "application/json", "User-Agent": "selfheal.delivery", **headers})

    def get(self, path: str, query: Optional[Mapping[str, str]] = None) -> Answer:
        return self.ask("GET", path, query=query)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Optional[Mapping[str, str]] = None,
        headers: Optional[Mapping[str, str]] = None,
        evaluates: bool = False,
    ) -> Answer:
        """The answer, whatever its status; FlagError when there is none within the timeout, or it is no API's.

        A 429 is obeyed: it is asked again after what Retry-After says, as long as the deadline allows. A POST that only
        `evaluates` changes nothing, so that it may be asked again after a broken connection, too.
        """
        url = f"{self._base}{path}{'?' + urlencode(query) if query else ''}"
        data = None if body is None else json.dumps(body).encode()
        sent = {**({"Content-Type": "application/json"} if data is not None else {}), **(headers or {})}
        while True:
            answer = self._answered(method, url, data, sent, reads=evaluates or method in _READS)
            if answer.status != 429:
                return answer
            after = retry_after(answer.headers, time.time()) or 1.0
            if after >= self._deadline.left():
                raise FlagError(
                    f"{answer.url} answers HTTP 429, and asks to wait {after:g} s, which is past the deadline",
                    mend="Nothing was changed by this call. Try again later, or raise deadline",
                )
            self._sleep(after)

    def close(self) -> None:
        self._session.close()

    def _answered(
        self, method: str, url: str, data: Optional[bytes], headers: Mapping[str, str], *, reads: bool
    ) -> Answer:
        for attempt in range(_RETRIES + 1):
            timeout = min(self._options.timeout, self._deadline.left())
            if timeout <= 0:
                raise FlagError(f"{redacted(url)} was not asked: the deadline has passed", mend=_UNCHANGED)
            try:
                return _within(timeout, partial(self._once, method, url, data, headers, timeout))
            except requests.Timeout as error:
                raise _unanswered(url, error, timeout, reads=reads) from None
            except requests.ConnectionError as error:
                if not reads or attempt == _RETRIES:
                    raise _unanswered(url, error, timeout, reads=reads) from None
                self._sleep(0.05 * 2**attempt)
            except (requests.RequestException, OSError, ValueError) as error:
                raise _unanswered(url, error, timeout, reads=reads) from None
        raise FlagError(f"{redacted(url)} gave no answer", mend=_doubt(reads))

    def _once(self, method: str, url: str, data: Optional[bytes], headers: Mapping[str, str], timeout: float) -> Answer:
        end = time.monotonic() + timeout
        with self._session.request(
            method,
            url,
            data=data,
            headers=headers,
            timeout=timeout,
            proxies=dict(get_environ_proxies(url)),
            allow_redirects=False,
            stream=True,
        ) as response:
            body = bytearray()
            for chunk in pieces(response):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise FlagError(f"{redacted(url)} answers more than {MAX_BYTES // 2**20} MiB")
                if time.monotonic() > end:
                    raise requests.Timeout()
            return _read(response, redacted(url), bytes(body))


def _within(seconds: float, call: Callable[[], Answer]) -> Answer:
    """What `call` returns or raises; Timeout when it takes longer, and then it goes on with nobody listening.

    No timeout of requests holds for a name service that hangs, nor for headers that come in byte by byte.
    """
    answers: List[Answer] = []
    errors: List[Exception] = []

    def run() -> None:
        try:
            answers.append(call())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not answers:
        raise requests.Timeout()
    return answers[0]


def _read(response: requests.Response, url: str, body: bytes) -> Answer:
    if response.is_redirect:
        raise FlagError(
            f"{url} redirects to {redacted(response.headers.get('Location', ''))}",
            mend="Name the address that answers itself",
        )
    is_html = is_web_page(response.headers.get("Content-Type", ""), body)
    data: object = None
    if body and not is_html:
        try:
            data = json.loads(body)
        except ValueError:
            data = None
    answer = Answer(response.status_code, url, data, _message(data), is_html, dict(response.headers))
    if 200 <= answer.status < 300 and (is_html or (body and data is None)):
        what = "a web page" if is_html else "something that is not JSON"
        raise FlagError(
            f"{url} answers HTTP {answer.status} with {what}, not as the provider's API does",
            mend="Check the provider's url; a proxy or a login page may stand before it",
        )
    return answer


def refused(answer: Answer, what: str, hints: Optional[Mapping[int, str]] = None, mend: str = "") -> FlagError:
    """Why an answer is no success, as an error to raise: `what` is what was tried, such as "turning flag 'f' off"."""
    known: Dict[int, str] = {
        ACCEPTED: "it is accepted and not done yet, and may wait for an approval",
        401: "the token is missing or wrong",
        403: "the token does not suffice, or is of the wrong kind",
        404: "there is no such thing there, or the token may not see it",
        409: "somebody else changed it at the same time",
    }
    why_not = (hints or {}).get(answer.status) or known.get(answer.status, "")
    said = "a web page" if answer.is_html else answer.said
    told = ": ".join(part for part in (f"{what}: {answer.url} answers HTTP {answer.status}", why_not, said) if part)
    return FlagError(told, mend=mend, details={"http_status": answer.status})


def token_of(options: Options, *, client: bool = False, needed: bool = True) -> str:
    """The token, or the clients' one; '' or OptionError when there is none. From its file it is read each time."""
    prefix = "client_" if client else ""
    token, file_name = (
        (options.client_token, options.client_token_file) if client else (options.token, options.token_file)
    )
    if file_name and not token:
        try:
            with open(file_name, encoding="utf-8") as file:
                token = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not text"
            raise OptionError(f"provider.{prefix}token_file {file_name} cannot be read: {cause}") from None
    if not token and needed:
        raise OptionError(
            f"provider has no {prefix}token", mend=f"Set provider.{prefix}token_file, or provider.{prefix}token"
        )
    if set("\r\n") & set(token):
        raise OptionError(f"provider.{prefix}token has a line break in it")
    return token


def _message(data: object) -> str:
    """A provider's own words about an error, for a person: shortened, one line, without control characters."""
    found: Tuple[object, ...] = ()
    if isinstance(data, Mapping):
        details = data.get("details")
        first = details[0] if isinstance(details, list) and details else None
        nested = first.get("message") if isinstance(first, Mapping) else None
        found = (nested, data.get("message"), data.get("detail"), data.get("error"), data.get("title"))
    return clean(next((one for one in found if isinstance(one, str) and one), ""), _SAID)


def _unanswered(url: str, error: Exception, timeout: float, *, reads: bool) -> FlagError:
    said = f"{redacted(url)} {why(error, round(timeout, 1))}"
    return FlagError(said, mend=_doubt(reads), details={"lost": not reads})


def _doubt(reads: bool) -> str:
    if reads:
        return _UNCHANGED
    return "Whether it was done is not known: look at the flag itself, or run this again"
