# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger that most tests want: in one SQLite file."""

from __future__ import annotations

from typing import Any

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.book import Book
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.sqlite import SqliteStore


class SqliteLedger(Book):
    """The ledger in the file `path`; `options` are those of `SqliteStore`."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(SqliteStore(path, **options))
