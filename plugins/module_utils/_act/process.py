# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that are asked and answer, such as git and helm: no shell, no terminal, and an end with all they started."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Mapping, Optional, Sequence

if TYPE_CHECKING:
    _Popen = subprocess.Popen[str]
    Answer = subprocess.CompletedProcess[str]
else:
    _Popen = subprocess.Popen
    Answer = subprocess.CompletedProcess


class _Program(_Popen):
    """A program with a session of its own, so that nothing of it can ask a terminal for a password."""

    def end(self) -> None:
        """End it, and what it started: a transport that hangs would outlive it otherwise."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def answered(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    seconds: float,
    said: str = "",
    folder: Optional[str] = None,
    errors: str = "replace",
) -> Answer:
    """Run it, say `said` to it, and return what it answered, whatever its exit status.

    Raises subprocess.TimeoutExpired when it did not end within `seconds` and was ended, OSError when it cannot begin.
    """
    with _Program(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=folder,
        encoding="utf-8",
        errors=errors,
        start_new_session=True,
    ) as program:
        try:
            stdout, stderr = program.communicate(said, timeout=seconds)
        except BaseException:
            program.end()
            raise
    return Answer(argv, program.returncode, stdout, stderr)
