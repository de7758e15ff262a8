# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A document of flags, wherever it lies: a file, a ConfigMap's key, or a FeatureFlag resource.

Nothing of another writer is lost: a change is made to exactly what was read, and begins anew when it has moved.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import stat
import time
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any, Callable, Dict, Iterator, Mapping, Protocol, Tuple

from .._act.durable import sync
from .._errors import OptionError, nearest
from .model import Deadline, FlagError, Options
from .texts import MAX_BYTES, YAML, edited, form_of, parsed, same

FILE = "file"
CONFIG_MAP = "ConfigMap"
FEATURE_FLAG = "FeatureFlag"

_SHORTEST, _LONGEST = 0.005, 1.0  # seconds before a change is tried again
_POLL = 0.01  # seconds between two looks at a lock
_CHUNK = 1 << 20

Flags = Dict[str, Any]


class Moved(FlagError):
    """The document is not as it was read, so nothing was written; or with `lost`, nobody knows. Reading it tells."""


class Document(Protocol):
    """Where flags lie. `name` says it to a person, as "file /etc/flags.json"; `note` who else has a hand in it."""

    name: str
    note: str

    def read(self) -> Tuple[Flags, str]:
        """What it holds now, the caller's own, and the revision to pin a change to."""

    def write(self, document: Mapping[str, Any], revision: str) -> None:
        """Let it hold `document`, if it still is at `revision`, which was read last: else Moved."""

    def close(self) -> None:
        """Let go of connections."""


def document_of(
    options: Options, deadline: Deadline, *, kinds: Tuple[str, ...] = (FILE, CONFIG_MAP), yaml: str = YAML
) -> Document:
    """The document that the options name, one of `kinds`; asks nobody yet. OptionError where they name none, or two.

    `yaml` is how its readers read YAML.
    """
    kind = options.kind or FILE
    if kind not in kinds:
        raise OptionError(
            f"provider.kind {kind!r} is unknown for the type {options.type}{nearest(kind, kinds)}",
            mend=f"It takes {', '.join(kinds)}",
        )
    if kind == FILE:
        if options.name or options.namespace:
            raise OptionError("provider has a name of an object in a cluster, and no kind", mend="Set provider.kind")
        return FileDocument(options.path, deadline, yaml)
    if options.path:
        raise OptionError(f"provider has both path and kind {kind}, so two places", mend="Name one of them")
    from .document_cluster import ConfigMapDocument, FeatureFlagDocument

    if kind == CONFIG_MAP:
        return ConfigMapDocument(options, deadline, yaml)
    return FeatureFlagDocument(options, deadline)


def altered(
    document: Document,
    deadline: Deadline,
    edit: Callable[[Flags], Mapping[str, Any]],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Let the document be what `edit` makes of its copy; read and edited again when somebody else was faster.

    What is waited in between grows with how long a try takes, so that many who meet do not keep each other from it.
    """
    pause = 0.0
    while True:
        began = deadline.clock()
        found, revision = document.read()
        wanted = edit(deepcopy(found))
        try:
            if not same(wanted, found):
                document.write(wanted, revision)
            return
        except Moved as error:
            pause = min(max(2 * pause, deadline.clock() - began, _SHORTEST), _LONGEST, deadline.left())
            if pause <= 0:
                raise FlagError(
                    f"{error.what}, until the deadline", mend="Run it again", details=error.details
                ) from None
            sleep(random.uniform(0, pause))


class FileDocument:
    """A file on this machine, JSON or (named so) YAML.

    It is replaced by a rename, so that nobody reads half of it, under a lock on the file itself; its mode and owner
    stay, and a link goes on leading to it. Whoever has the file itself mounted, as containers do, does not see a
    rename: mount its folder.
    """

    def __init__(self, path: str, deadline: Deadline, yaml: str = YAML) -> None:
        path = os.path.expanduser(path)
        if not os.path.isabs(path):
            named = f"provider.path {path!r} is not an absolute path" if path else "provider has no path"
            raise OptionError(named, mend="Set provider.path to the file of flags")
        self.name = f"file {path}"
        self.note = ""
        self._path, self._deadline, self._yaml = path, deadline, yaml

    def read(self) -> Tuple[Flags, str]:
        with self._opened(os.O_RDONLY) as handle:
            text = self._text(handle)
        return parsed(text, self.name, form_of(self._path, text, self._yaml)), _revision(text)

    def write(self, document: Mapping[str, Any], revision: str) -> None:
        with self._opened(os.O_RDWR) as handle:
            self._lock(handle)
            real = os.path.realpath(self._path)
            if not os.path.samestat(os.fstat(handle), os.stat(real)):
                raise Moved(f"{self.name} was replaced since it was read")
            text = self._text(handle)
            if _revision(text) != revision:
                raise Moved(f"{self.name} was changed since it was read")
            new = edited(text, document, self.name, form_of(self._path, text, self._yaml))
            _replace(real, new, os.fstat(handle))

    def close(self) -> None:
        """There is nothing to let go of."""

    @contextmanager
    def _opened(self, mode: int) -> Iterator[int]:
        """A handle of the regular file; FlagError for whatever the system says until it is closed."""
        doing = "read" if mode == os.O_RDONLY else "changed"
        try:
            # without waiting: a pipe would wait for its other end
            handle = os.open(os.path.realpath(self._path), mode | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                yield handle
            finally:
                os.close(handle)
        except OSError as error:
            raise FlagError(
                f"{self.name} cannot be {doing}: {error.strerror or type(error).__name__}",
                mend="Check provider.path, and who may write there",
            ) from None

    def _text(self, handle: int) -> str:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise FlagError(f"{self.name} is not a regular file")
        if about.st_nlink > 1:
            raise FlagError(f"{self.name} has a second name, a hard link, which a change would not reach")
        if about.st_size > MAX_BYTES:
            raise FlagError(f"{self.name} is larger than {MAX_BYTES // 2**20} MiB")
        content, at = bytearray(), 0
        while len(content) <= MAX_BYTES:
            chunk = os.pread(handle, _CHUNK, at)
            if not chunk:
                break
            content += chunk
            at += len(chunk)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            raise FlagError(f"{self.name} is not text in UTF-8") from None

    def _lock(self, handle: int) -> None:
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._deadline.left() <= 0:
                    raise FlagError(f"{self.name} is locked by another run until after the deadline") from None
                time.sleep(_POLL)


def _revision(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _replace(path: str, text: str, about: os.stat_result) -> None:
    """Let the file hold `text` from one instant to the next, as the same owner's and with the same rights."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.new")  # under the lock, so that a killed run's one is nobody's
    with suppress(FileNotFoundError):
        os.unlink(aside)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            _own(handle, about)
            _label(path, handle)
            # who polls looks at the time: it has to be another one, whatever the clock does
            if os.fstat(handle).st_mtime_ns <= about.st_mtime_ns:
                os.utime(handle, ns=(about.st_atime_ns, about.st_mtime_ns + 1_000_000))
            os.fsync(handle)
        os.replace(aside, path)
    except (OSError, ValueError):
        with suppress(OSError):
            os.unlink(aside)
        raise
    sync(folder)


def _own(handle: int, about: os.stat_result) -> None:
    ours = os.fstat(handle)
    if (ours.st_uid, ours.st_gid) != (about.st_uid, about.st_gid):
        os.fchown(handle, about.st_uid, about.st_gid)
    os.fchmod(handle, stat.S_IMODE(about.st_mode))


def _label(path: str, handle: int) -> None:
    """Take over access lists and security labels, where there are any and the system lets us."""
    with suppress(OSError, AttributeError):  # AttributeError: there is none of this on other systems
        for name in os.listxattr(path):
            with suppress(OSError):
                os.setxattr(handle, name, os.getxattr(path, name))
