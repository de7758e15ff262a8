# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release's content: copied from a folder or taken out of a tar archive, told apart by its digest, linked to shared/.

The rules for archives are those of Python's `data` extraction filter, kept by hand because places may have 3.9.0: no
member leaves the folder, by its name or through a link; no devices; no set-uid bits; owners are not taken over.
Stricter than it in two things: absolute names and names that occur twice are refused, not mended.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import stat
import tarfile
import zlib
from contextlib import contextmanager
from typing import IO, Dict, Iterable, Iterator, List, Tuple, Type

from .._errors import OptionError, PlaceError
from .durable import make_folder, remove, sync, sync_tree

METADATA = ".release.json"
BLOCKED = ".rollback-blocked"  # a file of the content: the release itself says that it must not be rolled back
_CHUNK = 1 << 20


def check_source(src: str) -> None:
    """Refuse a source that is neither a folder nor a file."""
    if not os.path.isabs(src):
        raise OptionError(f"src {src!r} is not an absolute path on the place")
    if not os.path.isdir(src) and not os.path.isfile(src):
        raise OptionError(f"src {src} is not on this place", mend="Bring the folder or the tar archive there first")


def digest(src: str) -> str:
    """What the source would be as a release: `sha256:…` over paths, contents, links and executable bits.

    Empty folders, times and owners do not count, so that an archive packed again of the same files is the same.
    """
    lines = dict(_archive_lines(src) if os.path.isfile(src) else _folder_lines(src))
    total = hashlib.sha256()
    for path in sorted(lines):
        total.update(os.fsencode(path) + b"\0" + lines[path] + b"\n")
    return f"sha256:{total.hexdigest()}"


def unpack(src: str, into: str) -> None:
    """Let the folder `into`, which must not be there, hold the source's content, flushed."""
    if os.path.isfile(src):
        os.mkdir(into)
        _extract(src, into)
        _check_links(into)
    else:
        _copy(src, into)
    remove(os.path.join(into, METADATA))
    sync_tree(into)


def _copy(src: str, into: str) -> None:
    try:
        shutil.copytree(src, into, symlinks=True)
    except shutil.Error as problem:  # every file that could not be copied: the first says enough
        file, _target, why = problem.args[0][0]
        raise PlaceError(f"{file} cannot be copied: {why}") from None


def shared_paths(paths: Iterable[str]) -> Tuple[str, ...]:
    """`paths`, when each stays inside a release and none is inside another."""
    plain: List[str] = []
    for path in paths:
        parts = path.rstrip("/").split("/")
        if path.startswith("/") or "\0" in path or any(part in ("", ".", "..") for part in parts):
            raise OptionError(f"shared path {path!r} does not stay inside a release")
        plain.append("/".join(parts) + "/")
    for path in plain:
        if path == f"{METADATA}/" or sum(path.startswith(other) for other in plain) > 1:
            raise OptionError(f"shared path {path.rstrip('/')!r} is inside another one, or is ours")
    return tuple(paths)


def link_shared(release: str, shared: str, paths: Iterable[str]) -> None:
    """Let each path of the folder `release` be a link into the folder `shared`.

    What the release brings is taken as the first content of a path that `shared` does not have; otherwise a path that
    ends with `/` begins as an empty folder, and any other is refused.
    """
    for path in paths:
        inside, kept = os.path.join(release, path.rstrip("/")), os.path.join(shared, path.rstrip("/"))
        _stay(release, os.path.dirname(inside))
        if not os.path.lexists(kept):
            _begin(inside, kept, folder=path.endswith("/"))
        make_folder(os.path.dirname(inside))
        to = os.path.relpath(kept, os.path.dirname(inside))
        if not (os.path.islink(inside) and os.readlink(inside) == to):
            remove(inside)
            os.symlink(to, inside)
            sync(os.path.dirname(inside))


def _begin(inside: str, kept: str, *, folder: bool) -> None:
    make_folder(os.path.dirname(kept))
    aside = f"{kept}.new"
    remove(aside)
    if os.path.isdir(inside) and not os.path.islink(inside):
        _copy(inside, aside)
        sync_tree(aside)
    elif os.path.isfile(inside) and not os.path.islink(inside):
        shutil.copy2(inside, aside)
        sync(aside)
    elif folder:
        os.mkdir(aside)
    else:
        raise OptionError(
            f"shared path {os.path.basename(kept)!r} is neither in {os.path.dirname(kept)} nor in the release",
            mend="Put it there first, or end the path with / to begin with an empty folder",
        )
    os.rename(aside, kept)
    sync(os.path.dirname(kept))


def _stay(root: str, folder: str) -> None:
    """Refuse a folder that is reached through a link inside `root`."""
    while len(folder) > len(root):
        if os.path.islink(folder):
            raise OptionError(f"{folder} is a link, so nothing below it can be shared")
        folder = os.path.dirname(folder)


def _broken() -> Tuple[Type[Exception], ...]:
    """What reading a damaged archive raises."""
    damage = (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, OSError)
    try:
        from lzma import LZMAError
    except ImportError:  # this Python was built without it, and reads no such archives
        return damage
    return (*damage, LZMAError)


@contextmanager
def _opened(src: str) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(src, "r:*") as archive:
            yield archive
    except _broken() as problem:
        if isinstance(problem, OSError) and problem.errno is not None:
            raise  # of the disk, not of the archive
        why = str(problem).partition("\n")[0].rstrip(":") or type(problem).__name__
        raise OptionError(f"{src} is not a whole tar archive ({why})") from None


def _members(archive: tarfile.TarFile) -> Iterator[Tuple[str, tarfile.TarInfo]]:
    """Each member beside its path inside the release; OptionError at the first one that is not harmless."""
    kinds: Dict[str, str] = {".": "folder"}
    for member in archive:
        path, kind = _inside(member.name, member.name), _kind(member)
        for parent in _parents(path):
            if kinds.setdefault(parent, "folder") != "folder":
                raise OptionError(
                    f"archive member {member.name!r} would be written through {parent!r}, a {kinds[parent]}"
                )
        if kinds.get(path, kind) != kind or (path in kinds and kind != "folder"):
            raise OptionError(f"archive member {member.name!r} occurs twice")
        if member.issym():
            _inside(posixpath.join(posixpath.dirname(path), member.linkname), member.name)
        if member.islnk() and kinds.get(_inside(member.linkname, member.name)) != "file":
            raise OptionError(f"archive member {member.name!r} links to {member.linkname!r}, no file before it")
        kinds[path] = kind
        if path != ".":
            yield path, member
    _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """Refuse an archive that was cut between two members, or whose compression's own sum is wrong: tarfile does not."""
    stream = archive.fileobj
    if stream is None or stream.tell() <= archive.offset:
        raise tarfile.ReadError("its end is missing")
    while stream.read(_CHUNK):
        pass


def _inside(path: str, name: str) -> str:
    """The plain form of a member's path or target."""
    plain = posixpath.normpath(path)
    if plain.startswith(("/", "../")) or plain == "..":
        raise OptionError(f"archive member {name!r} leads outside the release")
    return plain


def _kind(member: tarfile.TarInfo) -> str:
    if member.isdir():
        return "folder"
    if member.issym():
        return "link"
    if member.isreg() or member.islnk():
        return "file"
    raise OptionError(f"archive member {member.name!r} is neither file, folder nor link")


def _parents(path: str) -> Iterator[str]:
    parent = posixpath.dirname(path)
    while parent:
        yield parent
        parent = posixpath.dirname(parent)


def _extract(src: str, into: str) -> None:
    """`_members` has made sure that no member is written through a link: the folder is new, and ours alone."""
    with _opened(src) as archive:
        for path, member in _members(archive):
            here = os.path.join(into, path)
            os.makedirs(os.path.dirname(here), exist_ok=True)
            if member.isdir():
                os.makedirs(here, exist_ok=True)
            elif member.issym():
                os.symlink(member.linkname, here)
            elif member.islnk():
                os.link(os.path.join(into, posixpath.normpath(member.linkname)), here)
            else:
                _write(archive, member, here)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, here: str) -> None:
    source = archive.extractfile(member)
    if source is None:
        raise OptionError(f"archive member {member.name!r} has no content")
    with source, open(here, "xb") as stream:
        shutil.copyfileobj(source, stream, _CHUNK)
    # as the data filter: no set-uid, set-gid, sticky bits, not writable by others; readable and writable by the owner
    os.chmod(here, (member.mode & 0o755) | 0o600)
    os.utime(here, (member.mtime, member.mtime))


def _check_links(root: str) -> None:
    """Refuse links that leave `root` once they are followed: through another link, a name alone does not tell."""
    real = os.path.realpath(root)
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            to = os.path.realpath(path)
            if os.path.islink(path) and to != real and not to.startswith(real + os.sep):
                raise OptionError(f"link {os.path.relpath(path, root)!r} of the archive leads outside the release")


def _line(kind: str, content: bytes, mode: int = 0) -> bytes:
    return f"{kind} {'x' if mode & stat.S_IXUSR else '-'} ".encode() + content


def _file_line(stream: IO[bytes], mode: int) -> bytes:
    total = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        total.update(chunk)
    return _line("file", total.hexdigest().encode(), mode)


def _folder_lines(root: str) -> Iterator[Tuple[str, bytes]]:
    for folder, folders, files in os.walk(root, onerror=_raise):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            inside = os.path.relpath(path, root)
            mode = os.lstat(path).st_mode
            if _ours(inside) or stat.S_ISDIR(mode):
                continue
            if stat.S_ISLNK(mode):
                yield inside, _line("link", os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(mode):
                with open(path, "rb") as stream:
                    yield inside, _file_line(stream, mode)
            else:
                raise PlaceError(f"{path} is neither file, folder nor link")


def _archive_lines(src: str) -> Iterator[Tuple[str, bytes]]:
    lines: Dict[str, bytes] = {}
    with _opened(src) as archive:
        for path, member in _members(archive):
            if member.issym():
                lines[path] = _line("link", os.fsencode(member.linkname))
            elif member.islnk():
                lines[path] = lines[posixpath.normpath(member.linkname)]
            elif member.isreg():
                source = archive.extractfile(member)
                if source is not None:
                    lines[path] = _file_line(source, member.mode)
    yield from ((path, line) for path, line in lines.items() if not _ours(path))


def _ours(path: str) -> bool:
    return path == METADATA or path.startswith(f"{METADATA}/")


def _raise(problem: OSError) -> None:
    raise problem
