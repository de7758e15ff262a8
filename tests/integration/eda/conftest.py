# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-rulebook is installed beside the oldest ansible-core alone; the playbook that it calls runs on all."""

from __future__ import annotations

from ansible.release import __version__ as core

if not core.startswith("2.19."):
    collect_ignore_glob = ["test_[!r]*.py"]  # all but test_respond_*.py
