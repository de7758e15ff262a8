# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold each pure core to its share of covered branches, from coverage's JSON report."""

from __future__ import annotations

import json
import sys
from fnmatch import fnmatch
from typing import Dict, List, Mapping, Sequence

from environment import ROOT

REPORT = ROOT / "build/coverage/report.json"
LEAST = 95.0
GUARD = ("checks", "clock", "freeze", "limits", "memory", "policy", "rules")
CORES = {
    "the judge": ("*/module_utils/_judge/*",),
    "the guard's rules": tuple(f"*/module_utils/_guard/{name}.py" for name in GUARD),
    "whether an error code counts": ("*/module_utils/_codes/since.py",),
}


def branches(files: Mapping[str, Mapping[str, Mapping[str, int]]], patterns: Sequence[str]) -> float:
    """Percent of the branches in files that match one of `patterns` which the tests took; 100 where there is none."""
    sums = [entry["summary"] for name, entry in files.items() if any(fnmatch(name, pattern) for pattern in patterns)]
    every = sum(entry["num_branches"] for entry in sums)
    return 100.0 * sum(entry["covered_branches"] for entry in sums) / every if every else 100.0


def main() -> int:
    files: Dict[str, Dict[str, Dict[str, int]]] = json.loads(REPORT.read_text(encoding="utf-8"))["files"]
    low: List[str] = []
    for name, patterns in CORES.items():
        share = branches(files, patterns)
        print(f"branches of {name}: {share:.1f} % (at least {LEAST:.0f} %)")
        if share < LEAST:
            low.append(name)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
