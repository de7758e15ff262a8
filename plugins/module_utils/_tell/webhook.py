# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Any HTTP endpoint: the message as JSON, with a bearer token or signed as Standard Webhooks says, or both.

The signature is HMAC-SHA256 over `id.timestamp.body` with the bytes behind `whsec_`. The id is the message's own and
the same each time it is tried again, so that a receiver can tell a repeated one.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import time
from hashlib import sha256
from typing import Dict, Mapping, Sequence

from .._errors import OptionError
from .channel import Config, Sent, check_url, text
from .message import Message, as_document
from .posting import Answer, post, refused

PREFIX = "whsec_"


class Webhook:
    OPTIONS: Mapping[str, type] = {"url": str, "token": str, "secret": str, "ca_path": str, "validate_certs": bool}
    REQUIRED: Sequence[str] = ("url",)
    SECRETS: Sequence[str] = ("url", "token", "secret")
    LEAST = "info"
    ORDERED = False

    def check(self, config: Config) -> None:
        token = text(config, "token")
        check_url(text(config, "url"), confidential=bool(token))
        if any(not "!" <= letter <= "~" for letter in token):
            raise OptionError("its token has characters that no header can carry", mend="Check for a stray line break")
        if text(config, "secret"):
            key_of(text(config, "secret"))

    def send(self, message: Message, config: Config, timeout: float) -> Sent:
        url, event = text(config, "url"), body(message)
        headers = {"webhook-id": message.id}
        if text(config, "token"):
            headers["Authorization"] = f"Bearer {text(config, 'token')}"
        if text(config, "secret"):
            headers.update(signed(message.id, int(time.time()), event, text(config, "secret")))
        answer = post(url, event, headers, config, timeout)
        if not isinstance(answer, Answer):
            return answer
        return Sent(True, "accepted") if 200 <= answer.status < 300 else refused(url, answer, {})


def body(message: Message) -> bytes:
    """What is posted: type, timestamp and data, as Standard Webhooks recommends."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(message.at))
    event = {"type": f"selfheal.delivery.{message.event}", "timestamp": at, "data": as_document(message)}
    return json.dumps(event, sort_keys=True).encode()


def signed(ident: str, timestamp: int, content: bytes, secret: str) -> Dict[str, str]:
    """The headers that prove who sent `content`, at `timestamp` (epoch seconds)."""
    what = b".".join((ident.encode(), str(timestamp).encode(), content))
    code = base64.b64encode(hmac.new(key_of(secret), what, sha256).digest()).decode()
    return {"webhook-id": ident, "webhook-timestamp": str(timestamp), "webhook-signature": f"v1,{code}"}


def key_of(secret: str) -> bytes:
    """The key behind `whsec_`; OptionError when there is none, without repeating it."""
    try:
        key = base64.b64decode(secret[len(PREFIX) :], validate=True) if secret.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise OptionError("its secret is not a signing secret", mend=f"It is {PREFIX} and base64, without line breaks")
    return key
