# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Java that ansible-rulebook decides in: found as it finds it, or installed from the system's packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import packages

OLDEST = 17
# Releases of a system differ in which they have.
APT = ("openjdk-17-jre-headless", "default-jre-headless")
DNF = ("java-17-openjdk-headless", "java-21-openjdk-headless", "java-latest-openjdk-headless")


class NoJava(Exception):
    """No Java that is new enough is here, and none could be installed; says what to do."""


def java() -> Path:
    """The program `java`: of `JAVA_HOME` when that is set, else of the PATH. Raises NoJava."""
    wanted = () if os.environ.get("JAVA_HOME") else APT if shutil.which("apt-get") else DNF
    why = unfit()
    for package in wanted:
        if why:
            packages.install(package)
            why = unfit()
    if why:
        raise NoJava(f"{why}: ansible-rulebook needs Java {OLDEST} or newer, on the PATH or named by JAVA_HOME")
    found = _found()
    assert found is not None
    return found


def unfit() -> str:
    """Why the Java that is here does not do; nothing when it does."""
    found = _found()
    if found is None:
        return "Java is missing"
    try:
        done = subprocess.run([found, "-version"], check=False, capture_output=True, text=True, timeout=60)
    except OSError as error:
        return f"{found} does not run: {error.strerror}"
    version = re.search(r'version "(\d+)(?:\.(\d+))?', done.stderr)
    if done.returncode or version is None:
        return f"{found} does not run: exit code {done.returncode}"
    major = int(version[2] or 0) if version[1] == "1" else int(version[1])  # Java 8 calls itself 1.8
    return f"{found} is Java {major}" if major < OLDEST else ""


def _found() -> Path | None:
    home = os.environ.get("JAVA_HOME")
    there = str(Path(home, "bin/java")) if home else shutil.which("java")
    return Path(there) if there else None


def main() -> int:
    """Where it is, installed now if need be."""
    try:
        print(f"java                        {java()}")
    except NoJava as error:
        print(f"{error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
