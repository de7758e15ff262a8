# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three real stores; a test that takes `serve` runs on each. Their servers are started once for each worker.

`script_env` is for the scripts beside the tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Iterator

import pytest
from stores import STORES, Serving, serving


@pytest.fixture(scope="session", params=[pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in STORES])
def kind(request: pytest.FixtureRequest) -> str:
    """The store that the test runs on: all tests of one store run on one worker of pytest."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def serve(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Makes fresh ledgers."""
    with serving(kind, tmp_path_factory.mktemp(kind)) as fresh:
        yield fresh


@pytest.fixture
def script_env(ansible_env: Dict[str, str], checkout: Path) -> Dict[str, str]:
    """For a script that a test starts as a process of its own: our tree and the tests' tools, and no .pyc files."""
    path = os.pathsep.join(str(checkout / folder) for folder in (".tree", "tests/tools"))
    return {**ansible_env, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
