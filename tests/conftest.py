# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every test stands on: the Ansible tree around the checkout, an Ansible of its own, and no silent skips."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Dict, Generator

import pytest
from find_python import find_python
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

# Shared machines stall: the time of one example says nothing. In CI the examples are the same in every run.
settings.register_profile("local", deadline=None)
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if IN_CI else "local")


def pytest_configure() -> None:
    """Make `ansible_collections.selfheal.delivery` importable, also where pytest is called without make."""
    tree = ROOT / ".tree/ansible_collections/selfheal/delivery"
    tree.parent.mkdir(parents=True, exist_ok=True)
    try:
        tree.symlink_to("../../..")
    except FileExistsError:
        pass


def unskipped(report: pytest.CollectReport | pytest.TestReport) -> None:
    """In CI nothing is skipped in silence: a skip is a failure, an expected failure stays one."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where every part must be there: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    unskipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    unskipped(report)
    return report


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def python39() -> str:
    """A Python 3.9, the oldest that a place may have."""
    return str(find_python("3.9"))


@pytest.fixture
def ansible_env(tmp_path: Path) -> Dict[str, str]:
    """An environment for ansible commands: our tree, a home of the test's own, and no configuration of the user's."""
    home = tmp_path / "ansible-home"
    home.mkdir()
    config = home / "ansible.cfg"
    config.write_text("")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(home),
        "ANSIBLE_LOCAL_TEMP": str(home / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(home / "remote-tmp"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "PYTHONUNBUFFERED": "1",
    }
