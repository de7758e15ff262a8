# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every channel promises, and what they check in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional, Protocol, Sequence
from urllib.parse import urlsplit

from .._errors import OptionError
from .._sense.options import is_http
from .message import Message

Config = Mapping[str, object]
NEAR = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Sent:
    """What became of one message: `detail` says it in words, without a secret.

    When it is not `ok`, `again` says whether the same message may still get through, after `after` seconds at the
    earliest. `stop` says that the channel should get nothing more in this run.
    """

    ok: bool
    detail: str
    again: bool = False
    after: float = 0.0
    stop: bool = False


class Channel(Protocol):
    """One kind of notifier. It knows no secrets of its own: all of them come in with `config`."""

    OPTIONS: Mapping[str, type]  # each with what it takes
    REQUIRED: Sequence[str]
    SECRETS: Sequence[str]  # options that must never be shown, and may come from the environment
    LEAST: str  # the severity from which on it is told when nobody says
    # a late message would put back what a newer one about the same incident has said
    ORDERED: bool

    def check(self, config: Config) -> None:
        """OptionError when it can never work, without repeating a value."""

    def send(self, message: Message, config: Config, timeout: float) -> Sent:
        """Send it, within about `timeout` seconds; whatever goes wrong at the other end is told in the answer."""


def text(config: Config, name: str, otherwise: str = "") -> str:
    value = config.get(name)
    return value if isinstance(value, str) and value else otherwise


def flag(config: Config, name: str, otherwise: bool) -> bool:
    value = config.get(name)
    return value if isinstance(value, bool) else otherwise


def check_url(url: str, *, confidential: bool) -> None:
    """OptionError when `url` is none, or would carry a secret in the clear to another machine."""
    if not is_http(url) or any(letter.isspace() or not letter.isprintable() for letter in url):
        # not repeated: it may hold a secret
        raise OptionError("its url is not an http or https URL", mend="Write it like https://host/path")
    parts = urlsplit(url)
    if confidential and parts.scheme == "http" and parts.hostname not in NEAR:
        raise OptionError("its url would carry a secret unencrypted", mend="Use https")


def host_of(url: str) -> str:
    """What of a URL may be shown: the path of a hook is as good as a password."""
    try:
        return urlsplit(url).hostname or "it"
    except ValueError:
        return "it"


def secrets_of(channel: Channel, config: Config) -> Sequence[str]:
    """What must not stand in any text: the secrets, and the part of a secret URL that makes it one."""
    found = [text(config, name) for name in channel.SECRETS]
    paths = [_tail(value) for value in found if "://" in value]
    return [value for value in (*found, *paths) if value]


def _tail(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return parts.path.strip("/") + (f"?{parts.query}" if parts.query else "")


def authority(config: Config) -> Optional[str]:
    """The file of the authorities to trust instead of the usual ones."""
    return text(config, "ca_path") or None
