# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that others wrote, made fit to be shown: one line, bounded, without secrets. Pure.

What a gate, a place or a notifier said is data. It must not break out of the field it is shown in, turn the text
around, or carry a credential on to people who only read the chat.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Iterable, List

from .._guard.chain import MASK
from .._sense.options import is_http

# controls, directions and joiners, halves of a character, private use, and every kind of line break
_UNFIT = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_MOST = 20_000  # characters that are looked at: nobody reads more, and whoever wrote them decides how many there are
_SHORTEST_SECRET = 4  # anything shorter is found in every other word
_SECRETS = (
    (re.compile(r"(?<=://)[^/@\s]+(?=@)"), MASK),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.+/=~-]{8,}"), rf"\1 {MASK}"),
    (
        re.compile(
            r"(?i)((?:password|passwd|passphrase|secret|token|authorization|api[-_]?key|private[-_]?key"
            r"|routing[-_]?key|cookie)[\"']?\s*[=:]\s*[\"']?)(?!\s|bearer|basic)[^\s\"',;&]+"
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(?i)(/services/|/workflows/|/triggers/)[\w/-]{8,}"), rf"\1{MASK}"),  # the secret half of a Slack hook
    (re.compile(r"\b(?:whsec_|xox[a-z]-|gh[pousr]_|glpat-)[\w+/=-]{8,}"), MASK),
)


def clean(text: object, limit: int, secrets: Iterable[str] = ()) -> str:
    """`text` in one line of at most `limit` characters, with what looks like a secret, and every given one, masked."""
    words = _without(str(text), secrets)
    if len(words) > _MOST:
        words = words[:_MOST].rpartition(" ")[0]  # not half of a secret
    words = _unlike(words)
    fit = "".join(" " if unicodedata.category(letter) in _UNFIT else letter for letter in words)
    return shortened(masked(" ".join(fit.split()), secrets), limit)


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets, and without what has the form of one."""
    return _unlike(_without(text, secrets))


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, MASK)
    return text


def _unlike(text: str) -> str:
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def escaped(text: str, limit: int) -> str:
    """`text` with &, < and > written as entities, cut between two characters so that all of it has `limit` at most."""
    pieces: List[str] = []
    left = limit
    for letter in text:
        piece = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}.get(letter, letter)
        left -= len(piece)
        if left < 0:
            break
        pieces.append(piece)
    return "".join(pieces)


def address(url: object, limit: int, secrets: Iterable[str] = ()) -> str:
    """`url` when it is a link that can be shown, without user and password; else nothing."""
    text = str(url).strip()
    if len(text) > limit:
        return ""
    text = masked(text, secrets)
    unfit = any(unicodedata.category(letter) in _UNFIT or letter in " <>\"'|\\`" for letter in text)
    return text if is_http(text) and not unfit else ""
