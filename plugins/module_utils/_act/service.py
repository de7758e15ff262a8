# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarting what serves a release: a command or a service of the machine, with its output kept in a file.

The command writes into a file and not into our pipes, and has its own session: what it leaves running in the
background neither dies with this module nor keeps it waiting.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess  # nosec B404 - the command is the user's own
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple, Union

from .._errors import OptionError, PlaceError

TAIL = 2000  # characters of output that a message may carry
_GRACE = 2.0  # seconds between asking a late command to end and ending it
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]*\Z")


@dataclass(frozen=True)
class Restart:
    """How to restart. `chdir` is relative to the place's folder; `timeout` is in seconds."""

    argv: Tuple[str, ...]
    timeout: float = 60.0
    chdir: str = "current"


def argv_of(command: Union[str, Tuple[str, ...]], option: str) -> Tuple[str, ...]:
    """The command's words; a string is split as a shell would, but no shell runs it."""
    try:
        argv = tuple(shlex.split(command)) if isinstance(command, str) else command
    except ValueError as problem:
        raise OptionError(f"{option} cannot be split into words ({problem})") from None
    if not argv or not argv[0] or any("\0" in word for word in argv):
        raise OptionError(f"{option} is empty or holds a NUL")
    return argv


def service_argv(name: str) -> Tuple[str, ...]:
    """How this machine restarts the service `name`: systemd where it runs, else `service`."""
    if not _SERVICE.match(name):
        raise OptionError(f"{name!r} cannot name a service")
    if os.path.isdir("/run/systemd/system"):
        return ("systemctl", "restart", "--", name)
    return ("service", name, "restart")


if TYPE_CHECKING:
    _Popen = subprocess.Popen[bytes]
else:
    _Popen = subprocess.Popen


class _Session(_Popen):
    """A command with a session of its own: what it leaves in the background lives on, unless all of it is ended."""

    def end(self) -> None:
        """End the command with its whole session's group."""
        for number, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
            try:
                os.killpg(self.pid, number)
                self.wait(grace)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue


def run(argv: Tuple[str, ...], *, folder: str, log: str, timeout: float) -> Optional[str]:
    """Run the command; None when it went well, else one line of why not, with the end of its output."""
    _forget(log)  # what the last command left running may still write into its own
    try:
        with open(log, "ab", opener=_private) as output:
            child = _Session(
                argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
    except OSError as problem:
        return f"{argv[0]!r} could not be started: {problem.strerror}"
    try:
        code = child.wait(timeout)
    except subprocess.TimeoutExpired:
        child.end()
        return f"{argv[0]!r} did not end within {timeout:g} s{tail(log)}"
    return None if code == 0 else f"{argv[0]!r} ended with {code}{tail(log)}"


def tail(log: str) -> str:
    """`, saying: …` with the last of the output, or nothing; never more than TAIL characters."""
    try:
        with open(log, "rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL))
            said = stream.read().decode("utf-8", "replace").strip()
    except OSError as problem:
        raise PlaceError(f"{log} cannot be read: {problem.strerror}") from None
    return f", saying: {said}" if said else ""


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
