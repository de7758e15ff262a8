# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd would be on a real place: `place.py restart|stop ROOT PORT` runs the release that `current` points to.

Standard library only. It ends only the process that it started, known by its pid file and its start time. A file
`faults.json` in ROOT breaks releases on this place alone: `{"2.0.0": {"errors": 0.5}}`, or `{"start": false}` there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

PATIENCE = 5.0  # seconds for the old process to go


def started_at(pid: int) -> Optional[str]:
    """The kernel's start time of `pid`, which tells it from a later process of that number; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def stop(root: Path) -> None:
    pid_file = root / "server.pid"
    try:
        pid, start = pid_file.read_text().split()
    except (OSError, ValueError):
        return
    if started_at(int(pid)) == start:
        os.kill(int(pid), signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while started_at(int(pid)) == start and time.monotonic() < deadline:
            time.sleep(0.01)
        if started_at(int(pid)) == start:
            os.kill(int(pid), signal.SIGKILL)
    pid_file.unlink(missing_ok=True)


def start(root: Path, port: int) -> None:
    release = (root / "current").resolve()
    faults = root / "faults.json"
    fault = json.loads(faults.read_text()).get(release.name, {}) if faults.exists() else {}
    if fault.get("start") is False:
        sys.exit(f"{release.name} does not start here")
    with open(root / "server.log", "ab") as log:
        server = subprocess.Popen(
            [sys.executable, str(release / "app.py"), str(port), str(fault.get("errors", ""))],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (root / "server.pid").write_text(f"{server.pid} {started_at(server.pid)}\n")


def main() -> None:
    action, root, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    stop(root)
    if action == "restart":
        start(root, port)


if __name__ == "__main__":
    main()
