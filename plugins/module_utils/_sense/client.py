# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to HTTP: a kept session, bounded in time, size and retries, whose errors are one readable line."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import Callable, Dict, Iterator, Mapping, Optional, Union
from urllib.parse import urlsplit

from .._errors import SourceError
from .._judge.model import Absent
from .options import Access

try:
    import requests
    from requests.adapters import HTTPAdapter
    from requests.auth import HTTPBasicAuth
    from requests.utils import get_environ_proxies
    from urllib3.exceptions import HTTPError, ReadTimeoutError
except ImportError as error:
    # told where it is needed: Ansible loads this file also on machines that only look at it
    MISSING: Optional[ImportError] = error
else:
    MISSING = None

Auth = Callable[["requests.PreparedRequest"], "requests.PreparedRequest"]
MAX_BYTES = 64 * 1024 * 1024
RETRIES = 2
_CHUNK = 64 * 1024
_GATEWAY_ERRORS = (502, 503, 504)


class NoAnswer(SourceError):
    """A query gave no usable answer. `answered` tells whether somebody spoke HTTP at the other end at all."""

    def __init__(self, reason: str, detail: str, *, answered: bool = True) -> None:
        super().__init__(detail)
        self.absent = Absent(reason, detail)
        self.answered = answered


@dataclass(frozen=True)
class Page:
    """What a server answered, and when (epoch seconds)."""

    url: str  # without credentials
    status: int
    content_type: str
    body: bytes
    at: float

    @property
    def is_html(self) -> bool:
        return is_web_page(self.content_type, self.body)


class Client:
    """A session for one source, safe to be used by `connections` threads at the same time."""

    def __init__(
        self,
        access: Access,
        *,
        connections: int = 16,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if MISSING is not None:
            raise MISSING
        self._wall, self._sleep, self._jitter = wall, sleep, jitter
        self._session = requests.Session()
        # the environment is read here, once for each server: requests would do so for each question, let
        # REQUESTS_CA_BUNDLE override verify=False, and send what a ~/.netrc says where we name no credentials
        self._session.trust_env = False
        self._session.verify = trusted(access.ca_path) if access.validate_certs else False
        self._proxies: Dict[str, Dict[str, str]] = {}
        self._session.headers.update(access.headers)
        self._session.auth = _auth(access)
        if access.client_cert:
            self._session.cert = (access.client_cert, access.client_key) if access.client_key else access.client_cert
        adapter = HTTPAdapter(pool_connections=connections, pool_maxsize=connections)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def get(self, url: str, *, timeout: float, accept: str = "*/*") -> Page:
        return self._ask("GET", url, timeout=timeout, accept=accept, form=None)

    def post(self, url: str, form: Mapping[str, str], *, timeout: float) -> Page:
        """A form that only asks, so that repeating it is harmless."""
        return self._ask("POST", url, timeout=timeout, accept="application/json", form=form)

    def close(self) -> None:
        self._session.close()

    def _ask(self, method: str, url: str, *, timeout: float, accept: str, form: Optional[Mapping[str, str]]) -> Page:
        deadline = time.monotonic() + timeout
        for attempt in range(RETRIES + 1):
            try:
                return self._once(method, url, deadline=deadline, timeout=timeout, accept=accept, form=form)
            except requests.ConnectionError as error:
                # a kept connection that the server has closed, or a process that is just coming up
                pause = 0.05 * 2**attempt * (1.0 + self._jitter())
                if attempt == RETRIES or _is_final(error) or time.monotonic() + pause >= deadline:
                    raise _no_answer(url, error, timeout) from None
            except (requests.RequestException, OSError, ValueError) as error:
                raise _no_answer(url, error, timeout) from None
            self._sleep(pause)
        raise _no_answer(url, requests.Timeout(), timeout)

    def _once(
        self, method: str, url: str, *, deadline: float, timeout: float, accept: str, form: Optional[Mapping[str, str]]
    ) -> Page:
        left = deadline - time.monotonic()
        if left <= 0:
            raise requests.Timeout()
        with self._session.request(
            method,
            url,
            data=form,
            headers={"Accept": accept},
            timeout=left,
            proxies=self._proxies_for(url),
            stream=True,
            allow_redirects=False,
        ) as response:
            at = self._wall()
            body = bytearray()
            for chunk in pieces(response):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise NoAnswer("provider_error", f"{redacted(url)} answers more than {MAX_BYTES // 2**20} MiB")
                if time.monotonic() > deadline:
                    raise requests.Timeout()
            page = Page(redacted(url), response.status_code, response.headers.get("Content-Type", ""), bytes(body), at)
            if response.is_redirect:
                where = redacted(response.headers.get("Location", ""))
                raise NoAnswer("provider_error", f"{page.url} redirects to {where}: ask there")
            return page

    def _proxies_for(self, url: str) -> Dict[str, str]:
        server = urlsplit(url).netloc
        if server not in self._proxies:
            self._proxies[server] = dict(get_environ_proxies(url))
        return self._proxies[server]


def is_web_page(content_type: str, body: bytes) -> bool:
    """Did a person's page answer, such as a login, where a program was asked?"""
    return "html" in content_type.lower() or body[:256].lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))


def pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes in. `iter_content` waits for whole chunks: one byte a second would outlast any timeout."""
    read1 = getattr(response.raw, "read1", None)
    if read1 is None:  # urllib3 1
        yield from response.iter_content(_CHUNK)
        return
    try:
        while True:
            piece = read1(_CHUNK, decode_content=True)
            if not piece:
                return
            yield piece
    except ReadTimeoutError:
        raise requests.Timeout() from None
    except HTTPError as error:
        raise requests.ConnectionError(type(error).__name__) from None


def _is_final(error: Exception) -> bool:
    """Asking again would not help."""
    exceptions = requests.exceptions
    return isinstance(error, (exceptions.SSLError, exceptions.ProxyError, exceptions.ConnectTimeout))


def http_error(page: Page, said: str = "") -> Optional[NoAnswer]:
    """Why a page is no answer by its status, or None. A gateway's error means that nobody stands behind it."""
    if page.status < 400:
        return None
    hint = {401: ": the credentials are missing or wrong", 403: ": the credentials do not suffice"}.get(page.status, "")
    detail = f"{page.url} answers HTTP {page.status}{f': {said}' if said else hint}"
    return NoAnswer("provider_error", detail, answered=page.status not in _GATEWAY_ERRORS)


def redacted(url: str) -> str:
    """The URL without user, password, query and fragment, any of which may hold a secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    except ValueError:
        return "(a URL that is not one)"
    return f"{parts.scheme}://{host}{port}{parts.path}" if parts.scheme else parts.path


def trusted(ca_path: Optional[str] = None) -> Union[bool, str]:
    """Whose certificates are believed, as requests takes it: `ca_path`, else what the environment says, else the usual.

    For sessions with `trust_env` off: with it on, the environment would also undo that nobody is to be believed.
    """
    environ = os.environ
    return ca_path or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or True


class _Bearer:
    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        return request

    def _token(self) -> str:
        if self._access.token:
            return self._access.token
        try:
            # read each time: tokens of service accounts rotate
            with open(self._access.token_file, encoding="utf-8") as file:
                return file.read().strip()
        except OSError as error:
            file_name = self._access.token_file
            raise NoAnswer("provider_error", f"token_file {file_name} cannot be read: {error.strerror}") from None


def _auth(access: Access) -> Optional[Auth]:
    if access.token or access.token_file:
        return _Bearer(access)
    if access.username:
        return HTTPBasicAuth(access.username.encode(), access.password.encode())
    return None


def _no_answer(url: str, error: Exception, timeout: float) -> NoAnswer:
    if isinstance(error, NoAnswer):
        return error
    return NoAnswer("provider_error", f"{redacted(url)} {why(error, timeout)}", answered=False)


def why(error: Exception, timeout: float) -> str:
    """Why a request got no answer, to follow what was asked; `timeout` in seconds. Never the URL, nor what was sent."""
    if isinstance(error, requests.Timeout):
        return f"did not answer within {timeout:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return f"cannot be trusted: {_innermost(error)}"
    if isinstance(error, requests.exceptions.ProxyError):
        return "cannot be reached through the proxy"
    if isinstance(error, (requests.exceptions.MissingSchema, requests.exceptions.InvalidURL)):
        return "is not a URL"
    if isinstance(error, requests.exceptions.InvalidSchema):
        return "is not an http or https URL"
    text = str(error)
    if "refused" in text:
        return "refuses the connection"
    if "resolve" in text or "Name or service" in text:
        return "has a host name that is not known"
    if isinstance(error, (requests.ConnectionError, OSError)):
        return "broke the connection"
    return f"gave something that is not HTTP ({type(error).__name__})"


def _innermost(error: BaseException) -> str:
    """The TLS library's own words, without the URL that urllib3 wraps around them."""
    text = str(error)
    for opening in ("certificate verify failed", "WRONG_VERSION_NUMBER", "unknown ca", "certificate required"):
        if opening.lower() in text.lower():
            tail = text[text.lower().index(opening.lower()) :]
            return tail.partition("(_ssl")[0].rstrip(" )'\"")
    return "the TLS handshake failed"
