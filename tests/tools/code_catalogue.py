# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Catalogues of error codes for tests: one entry that is in order, and texts that try to break out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/error_codes"
CART = "SHOP-CART-001"

# what YAML, PromQL, Go templates, Alertmanager's matchers and Markdown read as something of theirs
NASTY = (
    '{{ $labels.service }} {{ "x" | query }}',
    "{{{{ }} {{- range query `up` -}}",
    'a" or vector(1) or up{a="',
    'a"} or vector(1) #',
    "back\\slash \\\" \\n \\'",
    "it's: a # comment, & *alias !!tag %d |",
    "`code` | [link](https://x.example.org) <script>alert(1)</script> ~~x~~",
    "null",
    "~",
    "yes",
    "0o17",
    "1_000",
    "2026-11-21",
    "- [x]",
    "💥 ümläut",
    "{%raw%}",
    "<% %> ${x} $(x)",
)


def entry(**changed: Any) -> Dict[str, Any]:
    """The keys of one code; those that are None are left out."""
    whole = {
        "title": "The cart cannot be saved",
        "class": "server",
        "owner": "team-shop",
        "severity": "critical",
        "retryable": True,
        "attributable": True,
        "response": ["rollback", "page"],
        "runbook": "https://runbooks.example.org/SHOP-CART-001",
        "public_message": "Your cart could not be saved. Please try again.",
        "since": "1.4.0",
        **changed,
    }
    return {key: value for key, value in whole.items() if value is not None}


def catalogue(**codes: Any) -> str:
    """The text of a catalogue; `_` stands for `-` in the names of the codes. One value a line, in JSON, which is YAML.

    Without codes it is the one entry, which begins in line 2, and whose keys follow line by line.
    """
    lines = ["codes:"]
    for name, keys in (codes or {CART: entry()}).items():
        lines.append(f"  {name.replace('_', '-')}:")
        lines += [f"    {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def nasty() -> str:
    """A catalogue whose every text is one of `NASTY`."""
    codes = {
        f"NASTY-TEXT-{number:03}": entry(title=text, owner=text, public_message=text, since=text)
        for number, text in enumerate(NASTY)
    }
    return catalogue(**{name.replace("-", "_"): keys for name, keys in codes.items()})
