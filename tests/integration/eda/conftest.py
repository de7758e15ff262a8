# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-rulebook is installed beside the oldest ansible-core alone; the playbook that it calls runs on all.

Both act on a shop of real places, already on 1.0.0 known good.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Iterator

import pytest
from ansible.release import __version__ as core
from shops import Shop, shops

if not core.startswith("2.19."):
    collect_ignore_glob = ["test_[!r]*.py"]  # all but test_respond_*.py


@pytest.fixture
def make_shop(tmp_path: Path, ansible_env: Dict[str, str]) -> Iterator[Callable[..., Shop]]:
    with shops(tmp_path, ansible_env) as make:
        yield make
