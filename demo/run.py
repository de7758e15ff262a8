# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo`: a bad release is caught by its real metrics and taken back, and a good one is promoted everywhere.

Four places on this machine, each a real HTTP server under its own release directory, with a load generator sending
real requests to all of them. Everything is kept under build/demo; free ports are taken as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional

ROOT = Path(__file__).resolve().parent.parent
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / ".tree"))

BACKGROUND = 0.005  # errors that every release has
RELEASES = {"1.0.0": BACKGROUND, "2.0.0": 0.05, "2.0.1": BACKGROUND}
LOAD_SECONDS = 420.0  # the load ends by itself, whatever becomes of this script


class Demo:
    def __init__(self, folder: Path, *, rate: float, places: int) -> None:
        self.folder, self.rate = folder, rate
        self.ports = _free_ports(places)
        self.names = [f"web{number}" for number in range(1, places + 1)]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.sqlite"

    def prepare(self) -> None:
        self.folder.mkdir(parents=True)
        for version, errors in RELEASES.items():
            content = self.folder / "artifacts" / version
            content.mkdir(parents=True)
            shutil.copy(HERE / "app" / "app.py", content)
            (content / "release.json").write_text(json.dumps({"version": version, "error_rate": errors}))
        inventory = json.loads((HERE / "inventory.json").read_text())
        inventory["all"]["vars"].update(demo=str(self.folder), demo_rate=self.rate * len(self.names))
        inventory["all"]["vars"].update(demo_python=sys.executable, demo_here=str(HERE))
        hosts = {name: {"shop_port": port} for name, port in zip(self.names, self.ports)}
        inventory["shop"]["hosts"] = hosts
        (self.folder / "inventory.json").write_text(json.dumps(inventory, indent=2))

    def play(self, release: str, **variables: object) -> int:
        """Roll `release` out as a pipeline would; the exit status is ansible-playbook's."""
        given = {"delivery_service": "shop", "canary_release": release}
        given.update(canary_src=str(self.folder / "artifacts" / release), **variables)  # type: ignore[arg-type]
        command = ["ansible-playbook", "-i", str(self.folder / "inventory.json"), "selfheal.delivery.canary"]
        command += ["-e", json.dumps(given)]
        return subprocess.run(command, env=self.environment(), check=False).returncode

    def environment(self) -> Dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".tree"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_CONFIG": str(HERE / "ansible.cfg"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        }

    @contextmanager
    def load(self) -> Iterator[Path]:
        out = self.folder / "served.json"
        command = [sys.executable, str(HERE / "load.py"), str(out), str(self.rate), str(LOAD_SECONDS)]
        process = subprocess.Popen([*command, *map(str, self.ports)], stdin=subprocess.DEVNULL)
        try:
            yield out
        finally:
            process.terminate()
            process.wait(timeout=10)

    def stop_places(self) -> None:
        for name, port in zip(self.names, self.ports):
            place = self.folder / "places" / name
            if place.exists():
                subprocess.run([sys.executable, str(HERE / "place.py"), "stop", str(place), str(port)], check=False)

    def current(self) -> Dict[str, str]:
        """Where each place is now, read from the places themselves."""
        return {name: os.path.basename(os.readlink(self.folder / "places" / name / "current")) for name in self.names}


def _free_ports(count: int) -> List[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _outcome(ledger: Path, release: str) -> Mapping[str, Any]:
    """The ledger's record of the last rollout of `release`."""
    from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

    store = open_ledger({"path": str(ledger)}, create=False)
    try:
        return next(one.outcome for one in store.last_rollouts("demo/shop") if one.release == release)
    finally:
        store.close()


def _served(out: Path, release: str) -> Mapping[str, Any]:
    served: Mapping[str, Any] = json.loads(out.read_text())["served"].get(release, {})
    return served


def _bad_summary(demo: Demo, out: Path, before: Mapping[str, str]) -> Dict[str, object]:
    outcome, served = _outcome(demo.ledger, "2.0.0"), _served(out, "2.0.0")
    changed = sorted(place for place, result in outcome["places"].items() if result.get("changed"))
    now = demo.current()
    bake = outcome["bake"]
    return {
        "detected_after_s": round(bake["elapsed"], 1),
        "bad_requests": served.get("bad", 0),
        "verdict": bake["verdict"],
        "gate": bake["gate"],
        "rolled_back_to": "1.0.0" if now == before else f"NOT BACK: {now}",
        "places_changed": changed,
        "recovered": outcome["verified"]["verdict"] == "recovered",
    }


def _good_summary(demo: Demo) -> Dict[str, object]:
    outcome = _outcome(demo.ledger, "2.0.1")
    promoted = [place for place, release in demo.current().items() if release == "2.0.1"]
    return {
        "verdict": outcome["bake"]["verdict"],
        "promoted_places": promoted,
        "bake_s": round(outcome["bake"]["took"], 1),
    }


def _tell(summary: Mapping[str, Mapping[str, Any]], took: float) -> None:
    bad, good = summary["bad"], summary["good"]
    print(f"""
The demo took {took:.0f} s.
  2.0.0, 5 % errors    {bad["verdict"]} by gate {bad["gate"]} after {bad["detected_after_s"]} s; {bad["bad_requests"]} bad requests served;
                       {", ".join(bad["places_changed"])} went back to {bad["rolled_back_to"]}, recovered: {bad["recovered"]}
  2.0.1, as good as    {good["verdict"]} after {good["bake_s"]} s of baking, now on {", ".join(good["promoted_places"])}
  the old one
The same is in build/demo/summary.json, the whole story in build/demo/ledger.sqlite.""")


def run(demo: Demo) -> int:
    began = time.monotonic()
    with demo.load() as out:
        if demo.play("1.0.0", canary_first_release=True) != 0:
            print("The first release did not come up: see above, and build/demo/places/*/server.log", file=sys.stderr)
            return 1
        before = demo.current()
        caught = demo.play("2.0.0") != 0
        time.sleep(1.1)  # for the load's last second to be written
        bad = _bad_summary(demo, out, before)
        promoted = demo.play("2.0.1") == 0
        summary = {"bad": bad, "good": _good_summary(demo)}
    (demo.folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _tell(summary, time.monotonic() - began)
    return 0 if caught and promoted and bad["rolled_back_to"] == "1.0.0" else 1


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "demo")
    parser.add_argument("--rate", type=float, default=100.0, help="requests per second to each place")
    parser.add_argument("--places", type=int, default=4)
    given = parser.parse_args(arguments)
    folder = given.folder.resolve()
    if (folder / "inventory.json").exists():
        shutil.rmtree(folder)  # an earlier demo's
    demo = Demo(folder, rate=given.rate, places=given.places)
    demo.prepare()
    try:
        return run(demo)
    finally:
        demo.stop_places()


if __name__ == "__main__":
    sys.exit(main())
