# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that run as children of a test: they log to a file, and never outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, List, Mapping, Sequence

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class ChildFailed(Exception):
    """A server that did not come up, with the last lines of its log."""


def free_ports(count: int) -> List[int]:
    """Ports of 127.0.0.1 that nobody listens on, all of them different.

    They lie below the range that the kernel takes the ports of outgoing connections from: while a server restarts, no
    client's connection can take its port, not even by connecting to itself.
    """
    found: List[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    return found


class Child:
    """One server. The kernel kills it when the thread that started it ends, whatever ended that."""

    def __init__(self, name: str, command: Sequence[str | Path], folder: Path, env: Mapping[str, str] | None = None):
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = [str(word) for word in command]
        self._folder = folder
        self._env = {**os.environ, **(env or {})}
        self.start()

    def start(self) -> None:
        """Start it, or start it again after `kill`."""
        parent = os.getpid()

        def die_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

        with open(self.log, "ab") as log:
            # a session of its own: Ctrl-C ends the test, which then stops its servers in their order
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def kill(self) -> None:
        """End it at once, as a crash does; what it holds is thrown away with the test."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def wait_ready(self, ready: Callable[[], bool], timeout: float = 60) -> None:
        """Until `ready()`; raises ChildFailed when the server ends, or after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not ready():
            ended = self.process.poll()
            if ended is not None:
                raise ChildFailed(f"{self.name} ended with code {ended}:\n{self.last_lines()}")
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self.name} is not ready after {timeout:g} s:\n{self.last_lines()}")
            time.sleep(0.05)

    def last_lines(self, count: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
