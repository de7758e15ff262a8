# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/error-codes.md says what the catalogue takes, and its example is one."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import (
    ALERT_KEYS,
    KEYS,
    REQUIRED,
    parse,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.lint import lint
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.model import (
    ACTIONS,
    CLASSES,
    SEVERITIES,
    Alerting,
)

PAGE = (Path(__file__).resolve().parents[3] / "docs/error-codes.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The table under this heading: the first column's word, and the other cells."""
    table = PAGE.split(f"\n{heading}\n")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]
    return {first.strip("`"): rest for first, *rest in cells}


def test_every_key_is_told() -> None:
    told = rows("| key | must | meaning |")
    assert set(told) == set(KEYS)
    assert {key for key, (must, _meaning) in told.items() if must == "yes"} == set(REQUIRED)
    for key, words in (("class", CLASSES), ("severity", SEVERITIES), ("response", ACTIONS)):
        assert set(re.findall(r"`(\w+)`", told[key][1])) == set(words)


def test_every_default_of_an_alert_is_told() -> None:
    told = {
        key: default.strip("`") for key, (default, _meaning) in rows("| key of `alert` | default | meaning |").items()
    }
    assert set(told) == set(ALERT_KEYS)
    alert = ", ".join(f"{key}: {default}" for key, default in told.items())
    text = re.sub(r"alert: \{.*\}", f"alert: {{{alert}}}", PAGE.split("```yaml\n")[1].split("```")[0])
    assert parse(text).code("SHOP-CART-001").alerting == Alerting()


def test_its_example_is_a_catalogue() -> None:
    assert lint(PAGE.split("```yaml\n")[1].split("```")[0], "the page") == []
