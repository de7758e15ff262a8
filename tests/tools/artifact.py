# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the collection's artifact, hold its list of files against the repository, and import it as Galaxy does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, List, Mapping

from environment import ROOT
from tree_copy import build_ignore, copy_tree, listed, shipped

OUTPUT = ROOT / "build/artifact"
# Written by the build itself.
GENERATED = {"MANIFEST.json", "FILES.json"}
# Configuration of the build: it is in MANIFEST.json.
DROPPED = {"galaxy.yml"}


def build() -> Path:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    tree = copy_tree(OUTPUT, listed())
    command = ["ansible-galaxy", "collection", "build", "--output-path", str(OUTPUT), str(tree)]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    return next(iter(OUTPUT.glob("*.tar.gz")))


def differences(artifact: Path) -> List[str]:
    with tarfile.open(artifact) as archive:
        packed = {member.name for member in archive if not member.isdir()} - GENERATED
    wanted = {path.as_posix() for path in shipped(listed(), build_ignore())} - DROPPED
    return [
        *(f"{name}: packed, but not in the repository" for name in sorted(packed - wanted)),
        *(f"{name}: not packed" for name in sorted(wanted - packed)),
    ]


def imported(artifact: Path) -> int:
    """Run galaxy-importer without containers; a warning counts as much as an error."""
    environment = {
        **os.environ,
        "GALAXY_IMPORTER_CONFIG": str(ROOT / "tests/tools/galaxy-importer.cfg"),
        "GALAXY_IMPORTER_TMP_ROOT_DIR": str(OUTPUT),
        "ANSIBLE_INVENTORY": str(ROOT / "tests/tools/localhost.ini"),
    }
    command = ["python", "-m", "galaxy_importer.main", "--print-result", artifact.name]
    done = subprocess.run(
        command, cwd=OUTPUT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    log, result = (done.stdout.split("\n{", 1) + [""])[:2]
    print(log, done.stderr, sep="\n", flush=True)
    complaints = [line for line in (log + done.stderr).splitlines() if line.startswith(("WARNING", "ERROR"))]
    if done.returncode or not result or complaints:
        print(f"galaxy-importer: exit code {done.returncode}, {len(complaints)} warnings or errors")
        return 1
    told = json.loads("{" + result)
    silent = undocumented(told["docs_blob"])
    print(f"galaxy-importer: imported {len(told['contents'])} plugins, roles and playbooks")
    print(*silent, sep="\n", end="\n" if silent else "")
    return 1 if silent else 0


def undocumented(docs: Mapping[str, Any]) -> List[str]:
    """The plugins of ansible-rulebook that were not found, or have no documentation for Galaxy to show."""
    shown = {
        f"extensions/{content['content_type']}/{content['content_name']}.py"
        for content in docs["contents"]
        if (content.get("doc_strings") or {}).get("doc", {}).get("description")
    }
    there = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("extensions/eda/plugins/event_*/*.py")}
    return [f"{name}: Galaxy shows no documentation of it" for name in sorted(there - shown)]


def main() -> int:
    artifact = build()
    wrong = differences(artifact)
    print(*wrong, sep="\n")
    return 1 if wrong else imported(artifact)


if __name__ == "__main__":
    sys.exit(main())
