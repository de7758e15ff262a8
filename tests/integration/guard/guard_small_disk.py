# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run in a mount namespace of its own by test_guard_disk.py: a ledger on a disk that is full, then read-only.

Called with an empty folder; prints what happened as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict

from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import StoreError
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout


def main(folder: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", folder], check=True)
    path = str(Path(folder) / "ledger.sqlite")
    story: Dict[str, object] = {}
    ledger = SqliteLedger(path)
    lease = ledger.acquire("shop", "run", 60, 100.0)
    ledger.open_rollout(lease, Rollout("r1", "shop", "2.0", "canary", "", 0, 0, 0, {"places": ["web1"]}), "ada", 100.0)
    ballast = Path(folder) / "ballast"
    ballast.write_bytes(b"x" * 150_000)
    try:
        for number in range(1000):
            ledger.set_state(lease, "r1", "open", {"number": number, "text": "x" * 5000}, "run", 101.0)
    except StoreError as error:
        story["full"] = error.message
    written, row = ledger.last_entries(limit=1)[0], ledger.unfinished()[0]
    story["same"] = written.body["outcome"] == row.outcome
    story["verify_full"] = ledger.verify()
    ballast.unlink()
    ledger.set_state(lease, "r1", "undone", {}, "run", 102.0)
    story["after"] = [ledger.unfinished(), ledger.verify()]
    ledger.close()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    for name, where in (("readonly", path), ("create", str(Path(folder) / "new" / "ledger.sqlite"))):
        try:
            SqliteLedger(where).acquire("shop", "run", 60, 200.0)
        except StoreError as error:
            story[name] = error.message
    subprocess.run(["umount", "--lazy", folder], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], check=True)
    try:
        SqliteLedger(path)
    except StoreError as error:
        story["too_small"] = error.message
    story["left"] = [file.name for file in Path(folder).iterdir()]
    print(json.dumps(story))


if __name__ == "__main__":
    main(sys.argv[1])
