# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker of the house rules finds what it should, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from check_style import findings, usual_length

ROOT = Path(__file__).resolve().parents[3]
HEADER = "# SPDX-FileCopyrightText: selfheal.delivery contributors\n# SPDX-License-Identifier: GPL-3.0-or-later\n"


def check(tmp_path: Path, name: str, text: str) -> list[str]:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    (tmp_path / "REUSE.toml").write_text((ROOT / "REUSE.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return list(findings(tmp_path, [Path(name)]))


def function(name: str, lines: int) -> str:
    return f"{HEADER}def {name}():\n" + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("plugins/x.py", "x = 1\n", "plugins/x.py:1: no SPDX header"),
        ("plugins/x.py", function("long", 81), "long has 81 lines, at most 80"),
        ("plugins/modules/x.py", function("main", 26), "main has 26 lines, at most 25"),
        ("plugins/module_utils/_judge/x.py", HEADER + "import time\n", ":3: a pure core imports time"),
        ("plugins/module_utils/_judge/x.py", HEADER + "from ansible.errors import X\n", "imports ansible"),
        ("plugins/module_utils/_judge/x.py", HEADER + "def f():\n    import requests.auth\n", ":4: a pure core"),
        ("docs/x.md", HEADER + f"see /{'root'}/notes\n", ":3: a path of one machine"),
        ("docs/x.md", HEADER + f"from {'pypi'}.org\n", ":3: the host of a package registry"),
    ],
)
def test_a_broken_rule_is_found_at_its_line(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    found = check(tmp_path, name, text)
    assert len([line for line in found if complaint in line]) == 1, found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plugins/x.py", function("fine", 40)),
        ("plugins/modules/x.py", function("main", 25)),
        ("plugins/module_utils/_act/x.py", HEADER + "import time\n"),
        ("plugins/module_utils/_judge/x.py", HEADER + "from .time import now\n"),
        ("tests/unit/x/test_x.py", function("test_story", 100)),
        ("data/x.json", "{}\n"),
        ("docs/x.md", HEADER + f"https://example.org/{'root'}/x, ~/{'work'}/x\n"),
        ("LICENSE", "any text\n"),
    ],
)
def test_what_keeps_the_rules_is_left_alone(tmp_path: Path, name: str, text: str) -> None:
    assert check(tmp_path, name, text) == []


def test_most_functions_are_short(tmp_path: Path) -> None:
    text = HEADER + "".join(f"def f{n}():\n" + "    pass\n" * 49 for n in range(3))
    assert check(tmp_path, "plugins/x.py", text) == ["95 % of the functions have up to 50 lines, at most 40"]
    assert usual_length([1] * 99 + [79]) <= 2
