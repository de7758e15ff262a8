# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Java that does not do is named, with the version that does."""

from __future__ import annotations

import os
from pathlib import Path

import java
import packages
import pytest


def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None) -> None:
    """Put a `java` on an otherwise empty PATH, and forbid to install another."""
    if script is not None:
        (tmp_path / "java").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(packages, "install", lambda *names: None)


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (None, "Java is missing: ansible-rulebook needs Java 17 or newer, on the PATH or named by JAVA_HOME"),
        ("echo 'openjdk version \"11.0.27\" 2025-04-15' >&2", "is Java 11: ansible-rulebook needs Java 17"),
        ("echo 'java version \"1.8.0_452\"' >&2", "is Java 8: ansible-rulebook needs Java 17"),
        ("exit 3", "does not run: exit code 3: ansible-rulebook needs Java 17"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, complaint: str
) -> None:
    there(tmp_path, monkeypatch, script)
    with pytest.raises(java.NoJava) as raised:
        java.java()
    assert complaint in str(raised.value)


@pytest.mark.parametrize("version", ["17", "17.0.15", "21.0.7", "25-ea"])
def test_one_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    there(tmp_path, monkeypatch, f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")
    assert java.java() == tmp_path / "java"


def test_java_home_comes_first_as_it_does_for_ansible_rulebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there(tmp_path, monkeypatch, "echo 'openjdk version \"21\"' >&2")
    monkeypatch.setenv("JAVA_HOME", os.fspath(tmp_path / "gone"))
    with pytest.raises(java.NoJava, match="gone/bin/java does not run: No such file"):
        java.java()
