# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop of four real places for each test, already on 1.0.0 known good, under load, and breakable on purpose."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Dict, Iterator

import pytest
from shops import Shop, shops


@pytest.fixture
def make_shop(tmp_path: Path, ansible_env: Dict[str, str]) -> Iterator[Callable[..., Shop]]:
    with shops(tmp_path, ansible_env) as make:
        yield make


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Iterator[Shop]:
    """Four places on 1.0.0, known good, under load."""
    shop = make_shop()
    with shop.load():
        yield shop


@pytest.fixture
def alone() -> Callable[[int], bool]:
    """Is the process with this id gone?"""

    def gone(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    return gone
