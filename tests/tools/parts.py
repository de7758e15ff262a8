# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the parts of the test suite one after the other, all of them even when one fails, and sum them up.

`parts.py "lint" "unit CORE=2.20" …` runs each as `make` does, prints how long it took, and ends with the line
`N passed, N failed`: the tests that pytest reported, and one for each part without such a report.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Tuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "build/reports"


@dataclass(frozen=True)
class Part:
    """One part that ran: `took` in seconds, and its tests."""

    name: str
    took: float
    passed: int
    failed: int


def counted(report: Path, ok: bool) -> Tuple[int, int]:
    """Passed and failed tests of a pytest report; a part that failed has at least one failure."""
    if not report.exists():
        return int(ok), int(not ok)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    failed = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
    passed = int(suite.get("tests", "0")) - failed - int(suite.get("skipped", "0"))
    return passed, failed if ok else max(failed, 1)


def run(name: str) -> Part:
    print(f"\n===== {name} =====", flush=True)
    report = REPORTS / f"{name.replace(' CORE=', '-')}.xml"
    start = time.monotonic()
    # Not a child of the make that started us: its flags and jobserver are not ours to pass on.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", "--no-print-directory", *shlex.split(name), f"REPORT={report}"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    took = time.monotonic() - start
    print(f"===== {name}: {'ok' if done.returncode == 0 else 'FAILED'} in {took:.0f} s =====", flush=True)
    return Part(name, took, *counted(report, done.returncode == 0))


def main(names: List[str]) -> int:
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)
    parts = [run(name) for name in names]
    print(f"\n{'part':<24} {'passed':>7} {'failed':>7} {'seconds':>8}")
    for part in parts:
        print(f"{part.name:<24} {part.passed:>7} {part.failed:>7} {part.took:>8.0f}")
    failed = sum(part.failed for part in parts)
    print(f"\n{sum(part.passed for part in parts)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
