# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On which file system a path lies, read from the list of mounts as Linux writes it."""

from __future__ import annotations

import pytest

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import files
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.files import file_system

MOUNTS = r"""
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
auto.home /home autofs rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/vdb /home/ada/my\040disk xfs rw 0 0
overlay /var/lib overlay rw 0 0
//nas/state /var/lib/selfheal cifs rw 0 0
/dev/vdc /var/lib/selfheal ext4 rw 0 0
half a-line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/etc/ledger.sqlite", "ext4"),
        ("/home/ada/ledger.sqlite", "nfs4"),
        ("/homes/ledger.sqlite", "ext4"),
        ("/home/ada/my disk/ledger.sqlite", "xfs"),
        ("/var/lib/ledger.sqlite", "overlay"),
        ("/var/lib/selfheal/ledger.sqlite", "ext4"),
    ],
)
def test_the_innermost_and_newest_mount_counts(path: str, kind: str) -> None:
    assert file_system(path, MOUNTS) == kind


def test_where_nothing_is_known_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_system("/etc/ledger.sqlite", "") == ""
    monkeypatch.setattr(files, "MOUNTS", "/nonexistent/mounts")
    files.refuse_network("/etc/ledger.sqlite")
