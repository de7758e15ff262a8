# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Helm says when it fails, in clear words and without a value of the chart. Pure."""

from __future__ import annotations

import re
from typing import Dict, Iterator, Sequence, Tuple

from ..._errors import PlaceError

_LONGEST = 500
# the API server quotes what it refuses, and that is the user's
_QUOTED = re.compile(
    r'((?:Invalid|Unsupported|Duplicate|Forbidden) value: )("(?:\\.|[^"\\])*"|[^\s:]*\{.*\}|[^\s:]+)', re.S
)
_DEBUG = re.compile(r"\w+\.go:\d+: ")
_WAITS = re.compile(r"\[debug\] (\w+) is not ready: ([^\s/]+)/(\S+?)(?:\. (.+?)\.?)?$")

# what Helm says -> what to do next
_MENDS: Sequence[Tuple[str, str]] = (
    ("another operation (install/upgrade/rollback) is in progress", "Wait until it ends and run this again"),
    ("already exists", "Somebody else was at it in the same moment: look at helm history and run this again"),
    ("cluster unreachable", "Check that the API server is up, and the connection's options"),
    ("is forbidden", "Grant it, or use an account that may do it"),
    ("unknown flag", "Use helm 3.13 or newer, of major version 3"),
    ("namespaces ", "Check namespace, or create it first"),
    ("chart", "Check chart and chart_version; helm runs where this task runs"),
    ("path ", "Check chart; helm runs where this task runs"),
    ("repo ", "Check chart, and add its repository with helm repo add where this task runs"),
    ("values", "Check values and values_files"),
)
_TIMED_OUT = ("context deadline exceeded", "timed out waiting for the condition")


def bare(text: str, hidden: Sequence[str] = ()) -> str:
    """`text` on one line, without the values that it quotes and without any of `hidden`."""
    for value in sorted(hidden, key=len, reverse=True):
        text = text.replace(value, "***")
    return " ".join(_QUOTED.sub(r"\1***", text).split())


def refused(stderr: str, doing: str, *, hidden: Sequence[str] = ()) -> PlaceError:
    """Why Helm failed: `doing` is what, on which release and where; `hidden` are values that must not be told."""
    said = bare(_error(stderr), hidden)[:_LONGEST] or "helm said nothing"
    if any(sign in said for sign in _TIMED_OUT):
        waiting = unready(stderr)
        which = "; ".join(f"{thing} ({why})" if why else thing for thing, why in waiting.items())
        return PlaceError(
            f"{doing} was not ready in time: {which or said}",
            mend="See kubectl describe for why; raise timeout where it only needs longer",
            details={"not_ready": dict(waiting)},
        )
    mend = next((mend for sign, mend in _MENDS if sign in said), "Try the same with helm itself")
    return PlaceError(f"{doing} failed: {said}", mend=mend)


def unready(stderr: str) -> Dict[str, str]:
    """What Helm waited for at its last look, which ends at the first object that is not ready -> why, if it says so."""
    found = [each for each in map(_WAITS.search, stderr.splitlines()) if each]
    return {f"{each.group(1)} {each.group(2)}/{each.group(3)}": each.group(4) or "" for each in found[-1:]}


def _error(stderr: str) -> str:
    return " ".join(_error_lines(stderr))


def _error_lines(stderr: str) -> Iterator[str]:
    """From `Error:` up to Helm's trace of it."""
    inside = False
    for line in stderr.splitlines():
        if line.startswith("Error: "):
            inside, line = True, line[len("Error: ") :]
        elif inside and _DEBUG.match(line):
            return
        if inside:
            yield line
