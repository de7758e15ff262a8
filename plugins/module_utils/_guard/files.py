# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a ledger's file may lie: on a disk of this machine.

SQLite's locks and shared memory do not hold between machines: on a network file system two controllers could both
believe that they hold a lease. Linux lists the types in /proc/self/mounts; where there is no such list, nothing is
known and nothing is refused.
"""

from __future__ import annotations

import os
import re

from .._errors import StoreError

MOUNTS = "/proc/self/mounts"
NETWORK = frozenset(
    "9p afs autofs beegfs ceph cifs coda davfs fuse.ceph fuse.ceph-fuse fuse.cephfs fuse.davfs2 fuse.gcsfuse"
    " fuse.glusterfs fuse.mount.glusterfs fuse.rclone fuse.s3fs fuse.smbnetfs fuse.sshfs fuse.vmhgfs-fuse gfs2"
    " glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 orangefs smb3 smbfs vboxsf virtiofs".split()
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system(path: str, mounts: str) -> str:
    """The type of the file system that holds the absolute `path`, from the text of /proc/self/mounts, or ''."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = _OCTAL.sub(lambda code: chr(int(code.group(1), 8)), fields[1])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # of two mounts on one point, the later one hides the other
            best, kind = point, fields[2]
    return kind


def refuse_network(path: str) -> None:
    """StoreError when the absolute `path` would lie on a file system that machines share."""
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
            kind = file_system(os.path.realpath(path), mounts.read())
    except OSError:
        return
    if kind in NETWORK:
        raise StoreError(
            f"The ledger {path} would lie on {kind}, which machines share, and where SQLite's locks do not hold",
            mend="Put it on a local disk, or set allow_network when no other machine will ever use this file",
            details={"path": path, "file_system": kind},
        )
