# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate reference names every key, every default of the bake and every code of lint."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._judge import lint, lint_rules
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import KEYS, POLICY_KEYS, BakeSpec

PAGE = (Path(__file__).parents[3] / "docs" / "gates.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("key", sorted({*POLICY_KEYS, *KEYS, *(key for keys in KEYS.values() for key in keys)}))
def test_every_key_is_on_the_page(key: str) -> None:
    assert f"`{key}`" in PAGE


@pytest.mark.parametrize("field", fields(BakeSpec), ids=lambda field: str(field.name))
def test_every_default_of_the_bake_is_that_of_the_code(field: object) -> None:
    name, default = getattr(field, "name"), getattr(field, "default")  # noqa: B009
    shown = default if isinstance(default, str) else f"{default:g}"
    assert re.search(rf"\| `{name}` \|[^|]*\| `{shown}` \|", PAGE)


def test_every_code_of_lint_is_on_the_page() -> None:
    source = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (lint, lint_rules))
    codes = set(re.findall(r"(?:ERROR|WARNING),\s*\"([a-z_]+)\"", source))
    assert len(codes) > 15
    assert {code for code in codes if f"`{code}`" not in PAGE} == set()
