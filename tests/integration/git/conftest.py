# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real repository for each test, and a git that knows nothing of the user's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from git_site import ALONE, Site


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ALONE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
