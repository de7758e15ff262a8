# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user says about a source of metrics, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from .._errors import OptionError, nearest

DEFAULT_UP = "up"
TYPES = ("exposition", "prometheus")
_TEXTS = (
    "type",
    "url",
    "token",
    "token_file",
    "username",
    "password",
    "client_cert",
    "client_key",
    "ca_path",
    "tenant",
    "place_label",
    "up",
)
# only for a metrics server: what it trusts must not be sent to each place that is scraped
ENVIRONMENT: Mapping[str, str] = {
    "url": "SELFHEAL_PROMETHEUS_URL",
    "token": "SELFHEAL_PROMETHEUS_TOKEN",
    "token_file": "SELFHEAL_PROMETHEUS_TOKEN_FILE",
    "username": "SELFHEAL_PROMETHEUS_USERNAME",
    "password": "SELFHEAL_PROMETHEUS_PASSWORD",
}
_CREDENTIALS = ("token", "token_file", "username", "password")
KEYS = (*_TEXTS, "urls", "headers", "validate_certs", "timeout", "window")


@dataclass(frozen=True)
class Access:
    """How a source is reached. Secrets stay out of its repr."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str = field(default="", repr=False)
    token_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    client_cert: str = ""
    client_key: str = ""
    ca_path: str = ""
    validate_certs: bool = True


@dataclass(frozen=True)
class SourceOptions:
    """One source. `window` and `timeout` are seconds.

    `place_label` is the label of the metrics server that tells the places apart; `window` is how far back its raw
    samples are fetched, longer than two of its scrape intervals; `up` selects its series about who answers.
    """

    type: str
    urls: Tuple[str, ...] = field(default=(), repr=False)
    access: Access = field(default_factory=Access)
    timeout: float = 5.0
    place_label: str = "instance"
    window: float = 150.0
    up: str = DEFAULT_UP


def parse_source(raw: Mapping[str, object], environment: Optional[Mapping[str, str]] = None) -> SourceOptions:
    """Check a `source` mapping; raises OptionError with what is wrong and the nearest right word.

    From `environment` come the address of a metrics server and who we are there, as far as the mapping does not say.
    """
    given = _with_environment({key: value for key, value in raw.items() if value is not None}, environment or {})
    for key in given:
        if key not in KEYS:
            raise OptionError(f"source has no key {key!r}{nearest(key, KEYS)}", mend=f"It takes {', '.join(KEYS)}")
    texts = {key: _text(given, key) for key in _TEXTS if key in given}
    kind = texts.get("type", "")
    if kind not in TYPES:
        wrong = f"has the unknown type {kind!r}{nearest(kind, TYPES)}" if kind else "has no type"
        raise OptionError(f"source {wrong}", mend=f"Use {' or '.join(TYPES)}")
    urls = _urls(given)
    if kind == "prometheus" and len(urls) != 1:
        raise OptionError("a prometheus source needs one url", mend="Give the address of its HTTP API as source.url")
    return SourceOptions(
        type=kind,
        urls=urls,
        access=_access(given, texts),
        timeout=_seconds(given, "timeout", 5.0),
        place_label=texts.get("place_label", "instance"),
        window=_seconds(given, "window", 150.0),
        up=texts.get("up", DEFAULT_UP),
    )


def _with_environment(source: Dict[str, object], environment: Mapping[str, str]) -> Dict[str, object]:
    if source.get("type") != "prometheus":
        return source
    says_who = any(source.get(key) for key in _CREDENTIALS)
    for key, variable in ENVIRONMENT.items():
        told = environment.get(variable)
        if told and not source.get(key) and not (says_who and key in _CREDENTIALS):
            source[key] = told
    return source


def _access(given: Mapping[str, object], texts: Mapping[str, str]) -> Access:
    headers: Dict[str, str] = {}
    named = given.get("headers", {})
    if not isinstance(named, Mapping):
        raise OptionError("source.headers is not a mapping of names to values")
    for name, value in named.items():
        headers[str(name)] = str(value)
    if texts.get("tenant"):
        headers["X-Scope-OrgID"] = texts["tenant"]
    if any(set("\r\n") & set(name + value) for name, value in headers.items()):
        raise OptionError("source.headers has a line break in a header")
    if (texts.get("token") or texts.get("token_file")) and texts.get("username"):
        raise OptionError("source has both a token and a username", mend="Give one of them")
    if texts.get("client_key") and not texts.get("client_cert"):
        raise OptionError("source.client_key needs client_cert beside it")
    return Access(
        headers=headers,
        token=texts.get("token", ""),
        token_file=texts.get("token_file", ""),
        username=texts.get("username", ""),
        password=texts.get("password", ""),
        client_cert=texts.get("client_cert", ""),
        client_key=texts.get("client_key", ""),
        ca_path=texts.get("ca_path", ""),
        validate_certs=_flag(given, "validate_certs"),
    )


def _urls(given: Mapping[str, object]) -> Tuple[str, ...]:
    listed = given.get("urls", [])
    if isinstance(listed, str) or not isinstance(listed, (list, tuple)):
        raise OptionError("source.urls is not a list", mend="A single one goes to source.url")
    urls: List[str] = [str(url) for url in listed]
    if given.get("url"):
        urls.insert(0, str(given["url"]))
    return tuple(check_url(url) for url in urls)


def is_http(url: str) -> bool:
    """Is it an http or https URL with a host, and with a port that there can be, if it has one?"""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def check_url(url: str) -> str:
    """The URL; raises OptionError when it is not one of http or https, without repeating it: it may hold a secret."""
    if not is_http(url):
        raise OptionError(
            "a url of the source is not an http or https URL", mend="Write it like http://host:8001/metrics"
        )
    return url


def _text(given: Mapping[str, object], key: str) -> str:
    value = given[key]
    if not isinstance(value, str):
        raise OptionError(f"source.{key} is not text")
    return value


def _flag(given: Mapping[str, object], key: str) -> bool:
    value = given.get(key, True)
    if not isinstance(value, bool):
        raise OptionError(f"source.{key} is neither true nor false")
    return value


def _seconds(given: Mapping[str, object], key: str, default: float) -> float:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise OptionError(f"source.{key} is not a number of seconds above 0")
    return float(value)
