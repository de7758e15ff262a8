# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""On every store, controllers in turns know the same, whether they were there before or come new."""

from __future__ import annotations

from pathlib import Path

import pytest
from guard_turns import in_turns
from stores import Serving

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import postgresql_rows, sqlite


@pytest.mark.parametrize("seed", [11, 12])
def test_controllers_in_turns_know_what_a_new_one_reads(
    serve: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for rows in (sqlite._Rows, postgresql_rows.PostgresqlRows):
        monkeypatch.setattr(rows, "lag", 9)
    in_turns(serve().open, str(tmp_path / "alone.sqlite"), seed, rounds=100)
