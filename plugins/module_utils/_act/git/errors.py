# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What git says when it fails, turned into what happened and what to do. Its words are somebody else's text."""

from __future__ import annotations

import re
from typing import Callable, List, Sequence, Tuple

from ..._errors import DeliveryError, OptionError, PlaceError, nearest
from .address import plain

_MISSING_REF = re.compile(r"couldn't find remote ref", re.IGNORECASE)
_MOVED = re.compile(
    r"fetch first|non-fast-forward|already exists|stale info|cannot lock ref|failed to update ref|incorrect old value"
    r"|transaction failed"
)
_DENIED = re.compile(r"declined|protected|den(?:ied|y)|prohibited|not allowed", re.IGNORECASE)
_IN_THE_WAY = re.compile(r"'([^']+)' exists; cannot create")
_UNWRITABLE = re.compile(
    r"insufficient permission|permission denied|read-only file system|no space left", re.IGNORECASE
)

# the first that matches is told: (what git says, what happened, what to do)
_CAUSES: Tuple[Tuple[str, str, str], ...] = (
    (
        r"dubious ownership",
        "git does not trust {where}: its folder belongs to another user",
        "Run this as its owner, or allow it with git config --global --add safe.directory <folder>",
    ),
    (
        r"host key verification failed",
        "the SSH host key of {where} is not known where this task runs",
        "Add it to known_hosts there",
    ),
    (
        r"authentication failed|could not read (username|password)|terminal prompts disabled|permission denied \(public"
        r"|returned error: 40[13]|invalid username or (password|token)|access denied",
        "{where} does not let us in",
        "Give credentials by a credential helper, an SSH agent or key_file, for a user who may read and push",
    ),
    (
        r"repository .*not found|returned error: 404|does not appear to be a git repository|does not exist"
        r"|not a git repository",
        "there is no git repository at {where}, or we may not see it",
        "Check the option repository, and the rights of the credentials",
    ),
    (
        r"could not resolve|connection (refused|timed out|reset|closed)|network is unreachable|no route to host"
        r"|failed to connect|couldn't connect|could not connect|unable to access|operation too slow",
        "{where} cannot be reached",
        "Check the address, the network and the server; nothing was changed",
    ),
    (
        r"unable to create temporary|insufficient permission|permission denied|read-only file system"
        r"|unpacker error|no space left",
        "{where} cannot be written",
        "Check the rights and the disk of the server",
    ),
    (
        r"does not support --atomic",
        "{where} cannot take a commit and its tag together (git push --atomic)",
        "Use a server that speaks git's own protocol",
    ),
    (
        r"mismatched algorithms|object format",
        "{where} uses another object format than SHA-1",
        "Use a repository with SHA-1 objects",
    ),
)


class Moved(PlaceError):
    """Somebody else's push came first: read again and decide again."""


def gone_wrong(stderr: str, where: str, branch: str, branches: Callable[[], Sequence[str]]) -> DeliveryError:
    """Why a fetch failed. `branches` asks which there are; only when the one that was wanted is not."""
    if _MISSING_REF.search(stderr):
        known = list(branches())
        if not known:
            return PlaceError(
                f"{where} has no branch yet", mend=f"Push a first commit to {branch}", details={"changed": False}
            )
        listed = ", ".join(plain(name, 60) for name in sorted(known)[:10])
        return OptionError(f"{where} has no branch {branch!r}{nearest(branch, known)}", mend=f"There are: {listed}")
    return _explained(stderr, where)


def refused(stdout: str, stderr: str, where: str) -> DeliveryError:
    """Why a push failed; `Moved` when a newer state of the branch or of the journal is the reason."""
    lines = [line for line in stdout.split("\n") if line.startswith("!")]
    told = "\n".join(lines)
    if _DENIED.search(told):
        reasons = " ".join(_remote_words(stderr)) or plain(told)
        return PlaceError(
            f"{where} refused the push: {plain(reasons)}",
            mend="Let these credentials push to the branch and create tags below selfheal/, or change the rule there",
            details={"changed": False},
        )
    blocking = _IN_THE_WAY.search(stderr)
    if blocking:
        return PlaceError(
            f"{plain(blocking.group(1), 80)} in {where} is in the way of our tags below selfheal/",
            mend="Rename it",
            details={"changed": False},
        )
    if _MOVED.search(told) and not _UNWRITABLE.search(stderr):
        why = re.findall(r"\(([^()]*)\)$", lines[0].strip())
        return Moved(f"{where} says {plain(''.join(why))!r}", mend="Run this again", details={"changed": False})
    return _explained(f"{stderr}\n{told}", where)


def _explained(stderr: str, where: str) -> PlaceError:
    for pattern, what, mend in _CAUSES:
        if re.search(pattern, stderr, re.IGNORECASE):
            what = what.format(where=where)
            return PlaceError(f"{what} ({_fatal(stderr)})", mend=mend, details={"changed": False})
    return PlaceError(
        f"git failed on {where}: {_fatal(stderr)}", mend="Look at what git says", details={"changed": False}
    )


def _fatal(stderr: str) -> str:
    """The line that says it best."""
    lines = [line for line in stderr.split("\n") if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))]
    return plain((telling or lines or ["git says nothing"])[0], 200)


def _remote_words(stderr: str) -> List[str]:
    """What the server itself says."""
    said = [line[len("remote:") :].strip() for line in stderr.split("\n") if line.startswith("remote:")]
    return [line for line in said if line]
