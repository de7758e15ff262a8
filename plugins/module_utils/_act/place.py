# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One place on disk: where things are, how they are read, and the two pairs of hands that change them.

    <path>/releases/<id>/.release.json   a release and what is known of it
    <path>/releases/<id>/.rollback-blocked   brought by the release itself: it must not be rolled back
    <path>/shared/                       what outlives releases
    <path>/current -> releases/<id>      switched by one rename
    <path>/.delivery/                    lock, fence.json, journal.json, restart.log, health.log

`Hands` really does it, `NoHands` is for check mode. A half-made or half-removed release has a name that starts with a
dot, so it is never taken for one.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import ContextManager, Dict, Iterator, List, Optional, Protocol, Tuple

from .._errors import OptionError, PlaceError
from . import content, durable, health, service
from .model import Journal, Release, Situation, release_id

_PARTIAL, _GONE = ".partial", ".gone"
_POLL = 0.05  # seconds between two tries for the lock


class Layout:
    """Where things are on the place at `path`, and what they say. Only reads."""

    def __init__(self, path: str) -> None:
        self.root = os.path.normpath(f"/{path}").replace("//", "/")  # normpath keeps two slashes at the front
        if not os.path.isabs(path) or "\n" in path or "\0" in path or self.root == "/":
            raise OptionError(f"path {path!r} is not an absolute path below /")
        self.releases = os.path.join(self.root, "releases")
        self.shared = os.path.join(self.root, "shared")
        self.current = os.path.join(self.root, "current")
        self.books = os.path.join(self.root, ".delivery")

    def release(self, release: str) -> str:
        return os.path.join(self.releases, release)

    def partial(self, release: str) -> str:
        return os.path.join(self.releases, f".{release}{_PARTIAL}")

    def gone(self, release: str) -> str:
        return os.path.join(self.releases, f".{release}{_GONE}")

    def metadata(self, release: str) -> str:
        return os.path.join(self.release(release), content.METADATA)

    def book(self, name: str) -> str:
        return os.path.join(self.books, name)

    def see(self) -> Situation:
        """What is here now; PlaceError when it cannot be told for sure."""
        known = [self._read_release(name) for name in self._names()]
        known.sort(key=lambda release: (release.deployed_at, release.id), reverse=True)
        return Situation(self._read_current(), tuple(known), self._read_journal(), self._read_token())

    def leftovers(self) -> List[str]:
        """What a killed run left behind in the folder of releases."""
        names = os.listdir(self.releases) if os.path.isdir(self.releases) else []
        ours = [name for name in names if name.startswith(".") and name.endswith((_PARTIAL, _GONE))]
        return [os.path.join(self.releases, name) for name in sorted(ours)]

    def _names(self) -> List[str]:
        if not os.path.isdir(self.releases):
            return []
        with os.scandir(self.releases) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name[0] != "."]

    def _read_current(self) -> Optional[str]:
        if not os.path.lexists(self.current):
            return None
        if not os.path.islink(self.current):
            raise PlaceError(
                f"{self.current} is not a link", mend=f"Move it to {self.releases}/<id> and link current to it"
            )
        to = os.readlink(self.current)
        folder, name = os.path.split(os.path.normpath(os.path.join(self.root, to)))
        if os.path.realpath(folder) != os.path.realpath(self.releases) or not name:
            raise PlaceError(f"{self.current} leads to {to!r}, which is not a release in {self.releases}")
        return name

    def _read_release(self, name: str) -> Release:
        try:
            data = durable.read_json(self.metadata(name))
        except ValueError:
            data = None  # written by somebody else: nobody vouches for this folder
        release = replace(Release.from_dict(data), id=name) if data else Release(name)
        blocked = os.path.lexists(os.path.join(self.release(name), content.BLOCKED))
        return replace(release, rollback="blocked") if blocked else release

    def _read_journal(self) -> Optional[Journal]:
        data = self._read_book("journal.json")
        return Journal.from_dict(data) if data else None

    def _read_token(self) -> Optional[int]:
        data = self._read_book("fence.json")
        if data is None:
            return None
        token = data.get("token")
        if not isinstance(token, int):
            raise PlaceError(f"{self.book('fence.json')} does not hold a token", mend="Restore it or remove it")
        return token

    def _read_book(self, name: str) -> Optional[Dict[str, object]]:
        try:
            return durable.read_json(self.book(name))
        except ValueError as problem:
            raise PlaceError(f"{self.book(name)} is damaged ({problem})", mend="Restore it or remove it") from None


class Changes(Protocol):
    """Everything that a run may do to a place.

    `restart` and `check` give why it went wrong, or None; `tidy` gives what it could not put away.
    """

    @property
    def restarts(self) -> bool:
        """Is there anything to restart?"""

    def hold(self, doing: str, *, make: bool) -> ContextManager[None]: ...
    def remember(self, token: int) -> None: ...
    def tidy(self) -> List[str]: ...
    def stage(self, release: Release, src: str, shared: Tuple[str, ...]) -> Release: ...
    def adopt(self, release: Release, shared: Tuple[str, ...]) -> None: ...
    def record(self, release: Release) -> None: ...
    def note(self, journal: Journal) -> None: ...
    def switch(self, release: str) -> None: ...
    def restart(self) -> Optional[str]: ...
    def check(self) -> Optional[str]: ...
    def remove(self, release: str) -> None: ...


class NoHands:
    """Check mode: everything goes well, and nothing happens."""

    def __init__(self, *, restarts: bool = False) -> None:
        self.restarts = restarts

    def hold(self, doing: str, *, make: bool) -> ContextManager[None]:
        return nullcontext()

    def remember(self, token: int) -> None: ...

    def tidy(self) -> List[str]:
        return []

    def stage(self, release: Release, src: str, shared: Tuple[str, ...]) -> Release:
        # the controller has not sent anything in check mode, so there may be no source to look at
        return replace(release, digest=content.digest(src)) if src else release

    def adopt(self, release: Release, shared: Tuple[str, ...]) -> None: ...

    def record(self, release: Release) -> None: ...

    def note(self, journal: Journal) -> None: ...

    def switch(self, release: str) -> None: ...

    def restart(self) -> Optional[str]:
        return None

    def check(self) -> Optional[str]:
        return None

    def remove(self, release: str) -> None: ...


class Hands:
    """Really does it, so that what was done is on disk before the call returns."""

    def __init__(
        self,
        layout: Layout,
        *,
        restart: Optional[service.Restart] = None,
        health: Optional[health.Health] = None,
        patience: float = 10.0,
        checkpoint: durable.Checkpoint = durable.nowhere,
    ) -> None:
        self.restarts = restart is not None
        self._at = layout
        self._restart = restart
        self._health = health
        self._patience = patience
        self._checkpoint = checkpoint

    @contextmanager
    def hold(self, doing: str, *, make: bool) -> Iterator[None]:
        """Be the only one here; PlaceError names who is, after `patience` seconds. `make` makes a new place."""
        if not make and not os.path.isdir(self._at.root):
            raise PlaceError(f"{self._at.root} is not a folder on this place", details={"changed": False})
        durable.make_folder(self._at.books)
        handle = os.open(self._at.book("lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock(handle)
            who = json.dumps({"pid": os.getpid(), "doing": doing, "since": round(time.time())})
            os.ftruncate(handle, 0)
            os.pwrite(handle, who.encode(), 0)
            self._checkpoint("lock: held")
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    who = os.pread(handle, 500, 0).decode("utf-8", "replace") or "an unknown process"
                    raise PlaceError(
                        f"another run has been at {self._at.root} for more than {self._patience:g} s: {who}",
                        mend="Wait for it to end and run this again",
                        details={"changed": False},
                    ) from None
                time.sleep(_POLL)

    def remember(self, token: int) -> None:
        durable.write_json(self._at.book("fence.json"), {"token": token}, self._checkpoint)

    def tidy(self) -> List[str]:
        stuck = []
        for path in self._at.leftovers():
            try:
                durable.remove(path)
            except OSError as problem:
                stuck.append(f"{path}, left by a killed run, cannot be removed: {problem.strerror}")
            self._checkpoint("leftover: removed")
        return stuck

    def stage(self, release: Release, src: str, shared: Tuple[str, ...]) -> Release:
        """Make the release aside, whole with its metadata, and then give it its name."""
        if not src:
            raise PlaceError(
                f"release {release.id} is not on this place", mend="Name its content in src, or prepare its folder"
            )
        durable.make_folder(self._at.releases)
        aside = self._at.partial(release.id)
        self._checkpoint("stage: begin")
        try:
            content.unpack(src, aside)
            self._checkpoint("stage: unpacked")
            staged = replace(release, digest=content.digest(aside))
            content.link_shared(aside, self._at.shared, shared)
            self._checkpoint("stage: linked")
            durable.write_json(os.path.join(aside, content.METADATA), staged.as_dict(), self._checkpoint)
            os.rename(aside, self._at.release(release.id))
        except (OSError, PlaceError, OptionError):
            durable.remove(aside)
            raise
        durable.sync(self._at.releases)
        self._checkpoint("stage: named")
        return staged

    def adopt(self, release: Release, shared: Tuple[str, ...]) -> None:
        content.link_shared(self._at.release(release.id), self._at.shared, shared)
        self._checkpoint("adopt: linked")
        self.record(release)

    def record(self, release: Release) -> None:
        durable.write_json(self._at.metadata(release.id), release.as_dict(), self._checkpoint)

    def note(self, journal: Journal) -> None:
        durable.write_json(self._at.book("journal.json"), journal.as_dict(), self._checkpoint)

    def switch(self, release: str) -> None:
        durable.point(self._at.current, f"releases/{release_id(release)}", self._checkpoint)

    def restart(self) -> Optional[str]:
        if self._restart is None:
            return None
        self._checkpoint("restart: begin")
        folder = os.path.join(self._at.root, self._restart.chdir)
        log, wait = self._at.book("restart.log"), self._restart.timeout
        problem = service.run(self._restart.argv, folder=folder, log=log, timeout=wait)
        self._checkpoint("restart: done")
        return problem

    def check(self) -> Optional[str]:
        if self._health is None:
            return None
        log = self._at.book("health.log")
        problem = health.wait(self._health, folder=self._at.current, log=log, now=time.monotonic, sleep=time.sleep)
        self._checkpoint("health: asked")
        return problem

    def remove(self, release: str) -> None:
        """Take the release's name away first, so that half of it is never taken for a release."""
        gone = self._at.gone(release)
        os.rename(self._at.release(release), gone)
        durable.sync(self._at.releases)
        self._checkpoint("remove: nameless")
        durable.remove(gone)
        self._checkpoint("remove: gone")
