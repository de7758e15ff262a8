# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the system's package manager for what is missing: as root, or by a sudo that wants no password."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import List


def install(*packages: str) -> None:
    """Try to install `packages`; it may not be allowed to, nor have them: look again afterwards."""
    if shutil.which("apt-get"):
        commands = [["apt-get", "update", "-q"], ["apt-get", "install", "-qy", *packages]]
    elif shutil.which("dnf"):
        commands = [["dnf", "install", "-qy", *packages]]
    else:
        return
    for command in commands:
        subprocess.run([*_rights(), *command], stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)


def _rights() -> List[str]:
    return [] if os.geteuid() == 0 or not shutil.which("sudo") else ["sudo", "-n"]
