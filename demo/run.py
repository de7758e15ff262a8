# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a bad release is caught by its real metrics and taken back, and a good one is promoted everywhere.

Four places on this machine, each a real HTTP server under its own release directory, with a load generator sending
real requests to all of them. Everything is kept under build/demo; free ports are taken as they come.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from fleet import ROOT, Fleet

BACKGROUND = 0.005  # errors that every release has
RELEASES = {"1.0.0": BACKGROUND, "2.0.0": 0.05, "2.0.1": BACKGROUND}


def play(fleet: Fleet, release: str, **variables: object) -> int:
    return subprocess.run(fleet.canary(release, **variables), env=fleet.environment(), check=False).returncode


def _outcome(fleet: Fleet, release: str) -> Mapping[str, Any]:
    outcome: Mapping[str, Any] = next(one.outcome for one in fleet.rollouts() if one.release == release)
    return outcome


def _bad_summary(fleet: Fleet, before: Mapping[str, str]) -> Dict[str, object]:
    outcome, now = _outcome(fleet, "2.0.0"), fleet.current()
    return {
        "detected_after_s": round(outcome["bake"]["took"], 1),
        "bad_requests": fleet.served("2.0.0").get("bad", 0),
        "verdict": outcome["bake"]["verdict"],
        "gate": outcome["bake"]["gate"],
        "rolled_back_to": "1.0.0" if now == before else f"NOT BACK: {now}",
        "places_changed": sorted(place for place, result in outcome["places"].items() if result.get("changed")),
        "recovered": outcome["verified"]["verdict"] == "recovered",
    }


def _good_summary(fleet: Fleet) -> Dict[str, object]:
    outcome = _outcome(fleet, "2.0.1")
    return {
        "verdict": outcome["bake"]["verdict"],
        "promoted_places": [place for place, release in fleet.current().items() if release == "2.0.1"],
        "bake_s": round(outcome["bake"]["took"], 1),
    }


def _tell(summary: Mapping[str, Mapping[str, Any]], folder: Path, took: float) -> None:
    bad, good = summary["bad"], summary["good"]
    back = f"{', '.join(bad['places_changed'])} back on {bad['rolled_back_to']}"
    print(f"""
The demo took {took:.0f} s.
  2.0.0 (5 % errors)           {bad["verdict"]} by gate {bad["gate"]}, {bad["detected_after_s"]} s after its first look;
                               {bad["bad_requests"]} bad requests served in all, {back},
                               {"recovered" if bad["recovered"] else "NOT recovered"}
  2.0.1 (as good as 1.0.0)     {good["verdict"]} after {good["bake_s"]} s, now on {", ".join(good["promoted_places"])}
The same is in {folder}/summary.json, and the whole story in {folder}/ledger.sqlite.""")


def run(fleet: Fleet) -> int:
    began = time.monotonic()
    with fleet.load():
        if play(fleet, "1.0.0", canary_first_release=True) != 0:
            print(
                f"The first release did not come up: see above, and {fleet.folder}/places/*/server.log", file=sys.stderr
            )
            return 1
        before = fleet.current()
        caught = play(fleet, "2.0.0") != 0
        time.sleep(1.1)  # for the load's last second to be written
        bad = _bad_summary(fleet, before)
        promoted = play(fleet, "2.0.1") == 0
        summary = {"bad": bad, "good": _good_summary(fleet)}
    (fleet.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _tell(summary, fleet.folder, time.monotonic() - began)
    return 0 if caught and promoted and bad["rolled_back_to"] == "1.0.0" else 1


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "demo")
    parser.add_argument("--rate", type=float, default=60.0, help="requests per second to each place")
    parser.add_argument("--places", type=int, default=4)
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    if (folder / "inventory.json").exists():
        shutil.rmtree(folder)  # an earlier demo's
    fleet = Fleet(folder, releases=RELEASES, rate=given.rate, places=given.places)
    fleet.prepare()
    try:
        return run(fleet)
    finally:
        fleet.stop()


if __name__ == "__main__":
    sys.exit(main())
