# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One GET by the standard library alone, bounded in time and size: to import `requests` takes longer than this."""

from __future__ import annotations

import os
import socket
import ssl
import time
from base64 import b64encode
from http.client import HTTPException
from typing import Dict, Optional
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from .._errors import SourceError
from .._sense.options import Access

MAX_BYTES = 64 * 1024 * 1024
_CHUNK = 64 * 1024


class _NoRedirect(HTTPRedirectHandler):
    """Where to ask is the inventory's to say."""

    def redirect_request(self, *_arguments: object) -> None:
        return None


def fetch(url: str, access: Access, timeout: float) -> bytes:
    """The body of the page; `timeout` in seconds, for all of it. SourceError in one line, without a secret."""
    where, deadline = _shown(url), time.monotonic() + timeout
    bare, headers = _told(url, access)
    try:
        request = Request(bare, headers={"Accept": "application/json", **access.headers, **headers})
        with _opener(access).open(request, timeout=timeout) as response:
            body = bytearray()
            while True:
                chunk = response.read1(_CHUNK)
                body += chunk
                if not chunk:
                    return bytes(body)
                if len(body) > MAX_BYTES:
                    raise SourceError(f"{where} answers more than {MAX_BYTES // 2**20} MiB")
                if time.monotonic() > deadline:
                    raise socket.timeout()
    except HTTPError as error:
        hint = {401: ": the credentials are missing or wrong", 403: ": the credentials do not suffice"}
        raise SourceError(f"{where} answers HTTP {error.code}{hint.get(error.code, '')}") from None
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise SourceError(f"{where} {_why(error, timeout)}") from None


def _opener(access: Access) -> OpenerDirector:
    authority = access.ca_path or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    context = ssl.create_default_context()
    if authority:
        context.load_verify_locations(*((None, authority) if os.path.isdir(authority) else (authority,)))
    if not access.validate_certs:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if access.client_cert:
        context.load_cert_chain(access.client_cert, access.client_key or None)
    return build_opener(_NoRedirect(), HTTPSHandler(context=context))


def _told(url: str, access: Access) -> "tuple[str, Dict[str, str]]":
    """The URL without the user in it, and who we are."""
    parts = urlsplit(url)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
    user, password = access.username or parts.username or "", access.password or parts.password or ""
    token = access.token or _read(access.token_file)
    if token:
        return bare, {"Authorization": f"Bearer {token}"}
    if user:
        return bare, {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
    return bare, {}


def _read(file_name: str) -> str:
    if not file_name:
        return ""
    try:
        with open(file_name, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise SourceError(f"token_file {file_name} cannot be read: {error.strerror}") from None


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _why(error: BaseException, timeout: float) -> str:
    reason: Optional[object] = getattr(error, "reason", None)
    cause = reason if isinstance(reason, BaseException) else error
    if isinstance(cause, socket.timeout):
        return f"did not answer within {timeout:g} s"
    if isinstance(cause, ssl.SSLError):
        return f"cannot be trusted: {getattr(cause, 'verify_message', '') or 'the TLS handshake failed'}"
    if isinstance(cause, ConnectionRefusedError):
        return "refuses the connection"
    if isinstance(cause, socket.gaierror):
        return "has a host name that is not known"
    if isinstance(cause, OSError):
        return "broke the connection"
    return f"gave something that is not HTTP ({type(cause).__name__})"
