# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be handed to git as a repository, a branch, a ref or a path, and how an address is shown. Pure.

git takes much of what looks like a name for an option or a command (`--upload-pack=…`, `ext::…`); only what is
plainly a name passes here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple
from urllib.parse import urlsplit, urlunsplit

from ..._errors import OptionError

SCHEMES = ("https", "http", "ssh", "git", "file")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCP_LIKE = re.compile(r"(?:[\w.-]+@)?\w[\w.-]*:(?!:)[^:].*\Z")
_USERINFO = re.compile(r"(?<=://)[^/@\s]*@")
_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]")


@dataclass(frozen=True)
class Address:
    """Where a repository is. `url` has no password; `password` is percent-encoded as it stood in the URL."""

    url: str
    user: str = ""
    password: str = ""

    @property
    def local(self) -> bool:
        """Is it on this machine's disk?"""
        return self.url.startswith(("/", "file:"))

    @property
    def shown(self) -> str:
        """For messages: without user, password and query, which may all be secrets."""
        if "://" not in self.url:
            return self.url
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

    @property
    def credential(self) -> str:
        """The line of git's credential store for the password, or an empty string."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{self.user}:{self.password}@{host}" if self.password else ""


def address(text: str) -> Address:
    """A URL of a known kind, `user@host:path`, or an absolute path; OptionError for everything else."""
    if not text or text.startswith("-") or _CONTROL.search(text):
        raise _no_repository()
    if text.startswith("/"):
        return Address(text)
    if "://" not in text:
        if _SCP_LIKE.match(text):
            return Address(text)
        raise _no_repository()
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        raise _no_repository() from None
    if parts.scheme not in SCHEMES or host.startswith("-") or not (host or parts.scheme == "file"):
        raise _no_repository()
    userinfo, at, netloc = parts.netloc.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if userinfo.startswith("-"):
        raise _no_repository()
    if colon:
        netloc = f"{user}{at}{netloc}" if user else netloc
        return Address(urlunsplit(parts._replace(netloc=netloc)), user, password)
    return Address(text, user)


def branch_name(text: str, option: str = "branch") -> str:
    """`text`, when `git check-ref-format` would take it for a branch or a tag, without a leading dash."""
    parts = text.split("/")
    wrong = (
        not text
        or len(text) > 250
        or text.startswith("-")
        or text.endswith(".")
        or text in ("@", "HEAD")
        or ".." in text
        or "@{" in text
        or _IN_REF.search(text)
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
    )
    if wrong:
        raise OptionError(f"{option} {text[:80]!r} cannot name a branch or a tag in git", mend=f"Check {option}")
    return text


def subfolder(text: str) -> str:
    """`text` as a path inside the repository, without slashes around it; empty for the whole tree."""
    inside = text.rstrip("/") if text != "." else ""
    parts = inside.split("/") if inside else []
    leaves = any(part in ("", ".", "..") or part.lower() == ".git" for part in parts)
    if leaves or text.startswith("/") or _CONTROL.search(inside):
        raise OptionError(
            f"path {text[:80]!r} is not a path inside the repository", mend="Give it relative to the repository's root"
        )
    return inside


def person(name: str, email: str) -> Tuple[str, str]:
    """Name and address as they can stand in a commit."""
    for text, option in ((name, "author_name"), (email, "author_email")):
        if not text.strip() or _CONTROL.search(text) or "<" in text or ">" in text:
            raise OptionError(f"{option} cannot stand in a commit", mend="Use one line without < and >")
    return name.strip(), email.strip()


def plain(text: str, limit: int = 300) -> str:
    """Text that came from elsewhere, for a message: one line, without userinfo and control characters."""
    told = _CONTROL.sub(" ", _USERINFO.sub("", text)).strip().encode("utf-8", "replace").decode()
    return told if len(told) <= limit else f"{told[:limit]}…"


def _no_repository() -> OptionError:
    # the text is not repeated: it may hold a password
    return OptionError(
        "the option repository is not the address of a git repository",
        mend=f"Use a URL ({', '.join(SCHEMES)}), user@host:path, or an absolute path",
    )
