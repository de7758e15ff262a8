# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""PagerDuty, by its Events API v2: one incident for each service and what happened to it, told apart by dedup_key.

202 is success; 400 never gets right; 429 and 5xx are tried again, as the API's reference asks.
"""

from __future__ import annotations

import json
import time
from typing import Dict, Mapping, Sequence

from .channel import Config, Sent, check_url, text
from .message import TRIGGER, Message, addresses, incident_action, rows
from .posting import Answer, post, refused

ENQUEUE = "https://events.pagerduty.com/v2/enqueue"
_SUMMARY = 1024  # characters


class PagerDuty:
    OPTIONS: Mapping[str, type] = {"routing_key": str, "url": str, "ca_path": str, "validate_certs": bool}
    REQUIRED: Sequence[str] = ("routing_key",)
    SECRETS: Sequence[str] = ("routing_key",)
    LEAST = "warning"
    ORDERED = True

    def check(self, config: Config) -> None:
        check_url(text(config, "url", ENQUEUE), confidential=True)

    def send(self, message: Message, config: Config, timeout: float) -> Sent:
        url = text(config, "url", ENQUEUE)
        event = json.dumps(body(message, text(config, "routing_key"))).encode()
        answer = post(url, event, {}, config, timeout)
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 202 and not answer.is_html:
            return Sent(True, f"accepted ({incident_action(message)})")
        return refused(url, answer, {400: "it takes the event or the routing key for wrong"})


def body(message: Message, routing_key: str) -> Dict[str, object]:
    """What is posted; only a trigger has a payload."""
    event = {
        "routing_key": routing_key,
        "event_action": incident_action(message),
        "dedup_key": message.dedup_key,
    }
    if event["event_action"] != TRIGGER:
        return {**event}
    payload: Dict[str, object] = {
        "summary": message.summary[:_SUMMARY],
        "source": message.service,
        "severity": message.severity,
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(message.at)),
        "component": message.service.rpartition("/")[2],
        "class": message.code or message.event,
        "custom_details": {name.lower().replace(" ", "_"): value for name, value in rows(message)},
    }
    if message.environment:
        payload["group"] = message.environment
    links = [{"href": href, "text": words} for href, words in addresses(message)]
    return {**event, "client": "selfheal.delivery", "payload": payload, **({"links": links} if links else {})}
