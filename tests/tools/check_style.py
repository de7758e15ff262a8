# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""House rules that no linter knows: it prints one line per finding, and fails when there is one.

Functions stay short, a module's `main` is only wiring, the pure cores read no clock and know no Ansible, every file
names its licence, and nothing in the repository speaks of a machine or of a package registry.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple, Union

from tree_copy import ROOT, listed

LONGEST, USUAL, MAIN = 80, 40, 25  # lines: of any function, of 95 % of them, of a module's main
PURE = (
    "plugins/module_utils/_judge/*.py",
    *(
        f"plugins/module_utils/_guard/{name}.py"
        for name in ("chain", "checks", "clock", "decision", "freeze", "limits", "memory", "model", "outlook", "policy")
    ),
    *(f"plugins/module_utils/_guard/{name}.py" for name in ("retention", "rules")),
    "plugins/module_utils/_codes/[glms]*.py",
    "plugins/module_utils/_alerting/[bmr]*.py",
)
IMPURE = {"ansible", "kubernetes", "os", "prometheus_client", "random", "requests", "socket", "subprocess", "time"}
SPDX = ("SPDX-FileCopyrightText: ", "SPDX-License-Identifier: GPL-3.0-or-later")
ELSEWHERE = (
    (r"(?<![\w.~-])/(?:root|work|Users/\w+)/", "a path of one machine"),
    (
        r"\b(?:pypi|pythonhosted|npmjs|crates|proxy\.golang|maven|maven\.apache|deb\.debian|galaxy\.ansible)"
        r"\.(?:org|io|com)\b",
        "the host of a package registry",
    ),
)
Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def usual_length(lengths: Sequence[int]) -> float:
    """The 95th percentile."""
    return statistics.quantiles(lengths, n=20, method="inclusive")[-1] if len(lengths) > 1 else max(lengths, default=0)


def long_functions(name: str, tree: ast.AST) -> Iterator[str]:
    for function in functions(tree):
        most = MAIN if name.startswith("plugins/modules/") and function.name == "main" else LONGEST
        if length(function) > most:
            yield f"{name}:{function.lineno}: {function.name} has {length(function)} lines, at most {most}"


def imports(tree: ast.AST) -> Iterator[Tuple[int, str]]:
    """Line and top-level package of every absolute import, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def impure_imports(name: str, tree: ast.AST) -> Iterator[str]:
    if any(fnmatch(name, pattern) for pattern in PURE):
        for line, package in imports(tree):
            if package in IMPURE:
                yield f"{name}:{line}: a pure core imports {package}; take what it gives as an argument"


def unlicensed(name: str, text: str, side_car: bool, annotated: Sequence[str]) -> Iterator[str]:
    """A file names its licence in its first lines, in a `.license` file beside it, or in REUSE.toml."""
    head = text[:1000]
    if side_car or not text or any(fnmatch(name, pattern) for pattern in annotated):
        return
    if name != "LICENSE" and not name.startswith("LICENSES/") and not all(words in head for words in SPDX):
        yield f"{name}:1: no SPDX header"


def foreign_words(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, what in ELSEWHERE:
            found = re.search(pattern, line)
            if found:
                yield f"{name}:{number}: {what}: {found.group()}"


def annotated_paths(root: Path) -> List[str]:
    annotations = tomllib.loads((root / "REUSE.toml").read_text(encoding="utf-8"))["annotations"]
    return [path for annotation in annotations for path in annotation["path"]]


def findings(root: Path, paths: Sequence[Path]) -> Iterator[str]:
    annotated = annotated_paths(root)
    lengths: List[int] = []
    for path in paths:
        name = path.as_posix()
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            text = ""
        yield from unlicensed(name, text, Path(f"{root / path}.license").exists(), annotated)
        yield from foreign_words(name, text)
        # Tests tell a story from top to bottom, and may be longer.
        if path.suffix == ".py" and not name.startswith(("tests/unit/", "tests/integration/", "tests/bench/")):
            tree = ast.parse(text, filename=name)
            yield from long_functions(name, tree)
            yield from impure_imports(name, tree)
            lengths += map(length, functions(tree))
    if usual_length(lengths) > USUAL:
        yield f"95 % of the functions have up to {usual_length(lengths):.0f} lines, at most {USUAL}"


if __name__ == "__main__":
    found = list(findings(ROOT, listed()))
    print(*found, sep="\n")
    sys.exit(1 if found else 0)
