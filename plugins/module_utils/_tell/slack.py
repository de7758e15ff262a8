# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slack, by an incoming webhook: a line of text for the notification, and blocks for the reader.

The format is Slack's Block Kit with the limits that its reference names; &, < and > are escaped, so that no text can
become a mention or a link.
"""

from __future__ import annotations

import json
from typing import Dict, List, Mapping, Sequence

from .channel import Config, Sent, check_url, text
from .message import Message, addresses, rows
from .posting import Answer, post, refused
from .text import escaped

_TITLE, _SECTION, _FIELD, _FIELDS = 150, 3000, 2000, 10  # characters, and fields of a section
_MARKS = {"info": "ℹ️", "warning": "⚠️", "error": "❌", "critical": "🚨"}
_HINTS = {403: "the hook may not post there", 404: "the hook or its channel is gone", 410: "the channel is archived"}


class Slack:
    OPTIONS: Mapping[str, type] = {"url": str, "ca_path": str, "validate_certs": bool}
    REQUIRED: Sequence[str] = ("url",)
    SECRETS: Sequence[str] = ("url",)
    LEAST = "info"
    ORDERED = False

    def check(self, config: Config) -> None:
        check_url(text(config, "url"), confidential=True)

    def send(self, message: Message, config: Config, timeout: float) -> Sent:
        url = text(config, "url")
        answer = post(url, json.dumps(body(message)).encode(), {}, config, timeout)
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 200 and not answer.is_html:
            return Sent(True, "accepted")
        return refused(url, answer, _HINTS)


def body(message: Message) -> Dict[str, object]:
    """What is posted."""
    title = f"{message.service}: {message.event.replace('_', ' ')}"
    blocks: List[Dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": f"{_MARKS[message.severity]} {title}"[:_TITLE]}},
        {"type": "section", "text": _mrkdwn(escaped(message.summary, _SECTION))},
    ]
    fields = [_mrkdwn(f"*{name}*\n{escaped(value, _FIELD - 20)}") for name, value in rows(message)[:_FIELDS]]
    blocks.append({"type": "section", "fields": fields})
    links = [f"<{_href(href)}|{escaped(words, 300)}>" for href, words in addresses(message)]
    if links:
        # each alone: together they could be longer than a block may be
        blocks.append({"type": "context", "elements": [_mrkdwn(link) for link in links]})
    return {"text": escaped(f"{_MARKS[message.severity]} {message.summary}", _SECTION), "blocks": blocks}


def _mrkdwn(words: str) -> Dict[str, object]:
    return {"type": "mrkdwn", "text": words, "verbatim": True}


def _href(url: str) -> str:
    return url.replace("&", "&amp;").replace("<", "%3C").replace(">", "%3E").replace("|", "%7C")
