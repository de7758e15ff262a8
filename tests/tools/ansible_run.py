# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ansible-playbook that is read as it goes, so that a test can wait for a line of it, and end it there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterable, List, Mapping, Sequence, Set, Tuple

PATIENCE = 120.0
LOCALHOST = str(Path(__file__).with_name("localhost.ini"))


class Run:
    """One ansible-playbook, read as it goes."""

    def __init__(self, command: List[str], environment: Mapping[str, str], **popen: Any) -> None:
        self.lines: List[str] = []
        self.process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **popen,
        )
        self._heard, self._over = threading.Condition(), False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._heard:
                self.lines.append(line.rstrip("\n"))
                self._heard.notify_all()
        with self._heard:
            self._over = True
            self._heard.notify_all()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def until(self, text: str) -> None:
        """Wait until a line has `text` in it."""
        with self._heard:
            self._heard.wait_for(lambda: self._over or self._has(text), timeout=PATIENCE)
            assert self._has(text), f"{text!r} never came:\n{self.output}"

    def _has(self, text: str) -> bool:
        return any(text in line for line in self.lines)

    def end(self) -> int:
        """Wait for the end; the exit status."""
        status = self.process.wait(timeout=PATIENCE)
        self._reader.join(timeout=10)
        return status

    def kill(self, with_signal: int = signal.SIGKILL) -> None:
        """End only the ansible-playbook itself: its workers are left as orphans, as the kernel's killer leaves them."""
        self.process.send_signal(with_signal)


def ping(folder: Path, environment: Mapping[str, str]) -> Tuple[float, float]:
    """How many seconds a playbook of one ping takes now, and for how many of them it had a processor.

    The latter is what it would take on a machine that has nothing else to do.
    """
    playbook = folder / "ping.yml"
    playbook.write_text(
        json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": [{"ansible.builtin.ping": None}]}])
    )
    began = time.monotonic()
    child = subprocess.Popen(
        ["ansible-playbook", "-i", LOCALHOST, "-e", f"ansible_python_interpreter={sys.executable}", str(playbook)],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _pid, status, used = os.wait4(child.pid, 0)
    took = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return took, used.ru_utime + used.ru_stime


def kill_all(run: Run, spared: Sequence[str]) -> None:
    """The playbook, its workers, which have sessions of their own, and the modules that they run; no one is left.

    Of what else they have started, scripts named `spared` go on: what would be systemd, the service and its users.
    """
    os.kill(run.process.pid, signal.SIGSTOP)
    for pid in family([run.process.pid], spared):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    run.process.wait(timeout=10)


def family(pids: Iterable[int], spared: Sequence[str] = ()) -> Set[int]:
    """These processes, and all that is below them; scripts named `spared` are not in it, nor what is below those."""
    found, grown = set(pids), True
    while grown:
        grown = False
        for stat in Path("/proc").glob("[0-9]*/stat"):
            pid = int(stat.parent.name)
            if _parent(stat) in found and pid not in found and script(pid) not in spared:
                found.add(pid)
                grown = True
    return found


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def script(pid: int) -> str:
    """The name of the script that a process runs."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return Path(command[1]).name if len(command) > 1 else ""
