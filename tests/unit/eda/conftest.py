# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of events run in ansible-rulebook, which is installed beside the oldest ansible-core alone."""

from __future__ import annotations

from ansible.release import __version__ as core

if not core.startswith("2.19."):
    collect_ignore_glob = ["test_source_*.py", "test_poll_*.py", "test_packaged_*.py"]
