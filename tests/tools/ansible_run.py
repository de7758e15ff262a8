# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ansible-playbook that is read as it goes, so that a test can wait for a line of it, and end it there."""

from __future__ import annotations

import signal
import subprocess
import threading
from typing import Any, List, Mapping

PATIENCE = 120.0


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
