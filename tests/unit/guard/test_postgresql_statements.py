# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes to different tables go to PostgreSQL as one statement, with the values of each in their place."""

from __future__ import annotations

from typing import List, Tuple

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.postgresql_rows import merged
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.postgresql_wire import Statement

A = ("INSERT INTO a VALUES ($1, $2)", [b"1", b"2"])
B = ("UPDATE b SET x = $2 WHERE y = $1 OR z = $1", [b"3", b"4"])
C = ("DELETE FROM c", [])


def test_values_move_with_their_statement() -> None:
    many = [(f"t{number}", (f"DELETE FROM t{number} WHERE x = $1", [b"%d" % number])) for number in range(12)]
    assert merged([("a", A), ("b", B), ("c", C)]) == [
        (
            "WITH part0 AS (INSERT INTO a VALUES ($1, $2)), part1 AS (UPDATE b SET x = $4 WHERE y = $3 OR z = $3)"
            " DELETE FROM c",
            [b"1", b"2", b"3", b"4"],
        )
    ]
    ((sql, values),) = merged(many)
    assert sql.endswith(" DELETE FROM t11 WHERE x = $12") and values[11] == b"11"


def test_of_one_table_each_sees_what_the_one_before_it_wrote() -> None:
    writes: List[Tuple[str, Statement]] = [("a", A), ("b", B), ("a", C), ("a", A), ("b", C)]
    assert [sql.count("part") for sql, _values in merged(writes)] == [1, 0, 1]
    assert merged([("a", A)]) == [A] and merged([]) == []
