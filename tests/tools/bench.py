# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the benches: `bench.py [NAME ...]` runs tests/bench/*/bench_NAME.py in turn, all of them by default."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import List

from environment import ROOT, ready

# benches that need an environment of their own; the others run in the one that this tool is called in
NEEDS = {"kubernetes": "bench"}


def main(names: List[str]) -> int:
    benches = {path.stem.removeprefix("bench_"): path for path in sorted(ROOT.glob("tests/bench/*/bench_*.py"))}
    unknown = [name for name in names if name not in benches]
    if unknown or not benches:
        print(f"no bench {', '.join(unknown)}: there are {', '.join(benches) or 'none'}.", file=sys.stderr)
        return 2
    (ROOT / "build/bench").mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".tree"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree")}
    missed = []
    for name in names or benches:
        print(f"===== bench {name} =====", flush=True)
        # The environment's python, not the one that runs this tool.
        python = ready(NEEDS[name]) if name in NEEDS else "python"
        if subprocess.run([python, benches[name]], cwd=ROOT, env=environment, check=False).returncode:
            missed.append(name)
    print(f"bars missed by: {', '.join(missed)}" if missed else "all bars hold")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
