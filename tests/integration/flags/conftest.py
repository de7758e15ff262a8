# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real servers that tests about flags share."""

from __future__ import annotations

from typing import Iterator

import pytest
from unleash import Unleash, unleash


@pytest.fixture(scope="session")
def unleash_server() -> Iterator[Unleash]:
    """An Unleash with its PostgreSQL; its tests are of the group `unleash`, so that a run starts one only.

    Each test makes flags of its own there, and leaves the database running.
    """
    with unleash() as server:
        yield server
