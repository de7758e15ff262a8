# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the backend `git`: the modules' argument specifications, and what they stand for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Dict, Iterator, Mapping, Optional, Tuple
from urllib.parse import unquote

from ..._errors import OptionError
from ..durable import Checkpoint, nowhere
from ..model import number, text
from ..wishes import CONTROLLER, WISHES, Spec, fulfilled
from .address import address, branch_name, person, subfolder
from .backend import Author, GitBackend, look, never
from .branch import Branch, Reader
from .repository import opened

_WHERE: Spec = {
    "repository": {"type": "str", "required": True},
    "branch": {"type": "str", "default": "main"},
    "path": {"type": "str", "default": ""},
    "key_file": {"type": "path", "no_log": False},
    "timeout": {"type": "float", "default": 120.0},
}
ARGUMENTS: Spec = {
    **CONTROLLER,
    **WISHES,
    **_WHERE,
    "ref": {"type": "str"},
    "author_name": {"type": "str", "default": "selfheal.delivery"},
    "author_email": {"type": "str", "default": "selfheal.delivery@localhost"},
    "commit_message": {"type": "str"},
}
INFO_ARGUMENTS: Spec = {"service": {"type": "str", "required": True}, **_WHERE}


def change(
    params: Mapping[str, object], *, dry: bool, parent: Optional[str] = None, checkpoint: Checkpoint = nowhere
) -> Dict[str, object]:
    """Do what the options of module `git_release` say; in a dry run everything but the push."""
    with _backend(params, dry=dry, parent=parent, checkpoint=checkpoint) as (backend, branch):
        outcome = fulfilled(backend, params).as_dict()
        return {**outcome, **look(backend.view, branch)}


def see(params: Mapping[str, object], *, parent: Optional[str] = None) -> Dict[str, object]:
    """What module `git_release_info` tells; nothing is pushed."""
    with _backend(params, dry=True, parent=parent) as (backend, branch):
        return look(backend.read(), branch)


def secrets(params: Mapping[str, object]) -> Tuple[str, ...]:
    """What must not be seen in any result: the URL's user and password. Nothing where the address is wrong."""
    try:
        found = address(text(params, "repository"))
    except OptionError:
        return ()
    if not found.user or not found.url.startswith("http"):
        return ()
    # a token may stand where the user does; alone, a user's name would be masked in every text
    return tuple(word for word in (found.password, unquote(found.password), f"{found.user}@") if word)


@contextmanager
def _backend(
    params: Mapping[str, object], *, dry: bool, parent: Optional[str] = None, checkpoint: Checkpoint = nowhere
) -> Iterator[Tuple[GitBackend, str]]:
    """The backend that the options speak of, and its branch."""
    where = address(text(params, "repository"))
    service = text(params, "service")
    if not service:
        raise OptionError("service is not given", mend="Name the service whose releases these are")
    branch = Branch(branch_name(text(params, "branch")), subfolder(text(params, "path")), service)
    ref = text(params, "ref")
    if ref:
        branch_name(ref, "ref")
    name, email = person(text(params, "author_name") or "-", text(params, "author_email") or "-")
    timeout = number(params, "timeout")
    if not 0 < timeout < float("inf"):
        raise OptionError("timeout is not a number of seconds above 0")
    message = text(params, "commit_message").replace("\0", "")
    with opened(where, key_file=text(params, "key_file"), timeout=timeout, parent=parent) as repository:
        pushes = never if dry else None
        author = Author(name, email, message)
        backend = GitBackend(Reader(repository, branch), author, ref=ref, pushes=pushes, checkpoint=checkpoint)
        yield backend, branch.name
