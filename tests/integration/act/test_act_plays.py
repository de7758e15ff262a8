# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""release and release_info as people call them: in a play, on a place with today's Python and on one with 3.9."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from act_place import Place

RELEASE, INFO, ROLLOUT = (f"selfheal.delivery.{name}" for name in ("release", "release_info", "rollout"))
Task = Dict[str, Any]
SERVER = """
import http.server, os, sys
class Says(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(open("version", "rb").read())
    def log_message(self, *said): pass
http.server.HTTPServer.allow_reuse_address = True
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Says).serve_forever()
"""
# what people write: end the old one, start the new one in the background, nothing else
SCRIPT = """#!/bin/sh
test -e ../../pid && kill -9 $(cat ../../pid)
"$1" "$2" "$3" &
echo $! > ../../pid
"""


class Play:
    """Plays over localhost, each task on the place's Python; `run` gives every task's result."""

    def __init__(self, folder: Path, env: Dict[str, str], python: str) -> None:
        self.folder = folder
        self.place = Place(folder)
        self.python = python
        self.env = {**env, "SELFHEAL_LEDGER": str(folder / "ledger.sqlite"), "PATH": env["PATH"]}

    def run(self, *tasks: Task, options: "tuple[str, ...]" = ()) -> List[Dict[str, Any]]:
        steps: List[Task] = [{"ansible.builtin.set_fact": {"told": []}}]
        for number, task in enumerate(tasks):
            steps += [
                {**task, "register": f"result{number}", "ignore_errors": True},
                {"ansible.builtin.set_fact": {"told": "{{ told + [result%d] }}" % number}},
            ]
        told = self.folder / "told.json"
        copy = {"content": "{{ told | to_json }}", "dest": str(told)}
        steps.append({"ansible.builtin.copy": copy, "check_mode": False, "diff": False})
        book = self.folder / "play.yml"
        book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": steps}]))
        config = self.folder / "ansible.cfg"
        config.touch()
        done = subprocess.run(
            ["ansible-playbook", "-e", f"ansible_python_interpreter={self.python}", str(book), *options],
            env={**self.env, "ANSIBLE_CONFIG": str(config)},
            check=False,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.shown = done.stdout
        results: List[Dict[str, Any]] = json.loads(told.read_text())
        return results

    def begin(self, release: str) -> Task:
        return {ROLLOUT: {"state": "begun", "service": "shop", "release": release, "intent": {"fleet": ["localhost"]}}}

    def release(self, begun: str, **given: object) -> Task:
        lease = {"rollout": "{{ %s.rollout.id }}" % begun, "lease": "{{ %s.lease }}" % begun}
        return {RELEASE: {"service": "shop", "path": str(self.place.path), **lease, **given}}

    def close(self, begun: str, outcome: str = "done") -> Task:
        lease = {"rollout": "{{ %s.rollout.id }}" % begun, "lease": "{{ %s.lease }}" % begun}
        return {ROLLOUT: {"state": "closed", "outcome": outcome, "service": "shop", **lease}}

    def info(self) -> Task:
        return {INFO: {"path": str(self.place.path)}}


@pytest.fixture
def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(params=["today", "3.9"])
def play(request: pytest.FixtureRequest, tmp_path: Path, ansible_env: Dict[str, str]) -> Play:
    python = sys.executable if request.param == "today" else request.getfixturevalue("python39")
    return Play(tmp_path, ansible_env, python)


def server(play: Play, free_port: int) -> Dict[str, Any]:
    """A real server under each release, restarted by a plain script."""
    (play.folder / "restart.sh").write_text(SCRIPT)
    (play.folder / "server.py").write_text(SERVER)
    command = ["/bin/sh", str(play.folder / "restart.sh"), play.python, str(play.folder / "server.py"), str(free_port)]
    return {"command": command, "timeout": 20}


@pytest.mark.demo_sized
def test_a_server_from_release_to_release_and_back(play: Play, free_port: int) -> None:
    place, restart = play.place, server(play, free_port)
    health = {"url": f"http://127.0.0.1:{free_port}/", "timeout": 20, "interval": 0.05}
    serves = {"restart": restart, "health": health}
    one, two = place.source("1.0.0"), place.source("2.0.0")
    try:
        first = play.run(
            play.info(),
            play.begin("1.0.0"),
            play.release("result1", release="1.0.0", src=one, **serves),
            play.release("result1", release="1.0.0", src=one, **serves),
            play.release("result1", release="1.0.0", state="promoted"),
            play.close("result1"),
            play.info(),
            options=("--diff",),
        )
        assert not any(result.get("failed") for result in first), first
        new, again, promoted, info = first[2], first[3], first[4], first[6]
        assert first[0]["releases"] == []
        assert (new["changed"], new["before"], new["current"]) == (True, None, "1.0.0")
        assert new["actions"] == ["staged 1.0.0", "switched to 1.0.0", "restarted 1.0.0"]
        assert not again["changed"]
        assert promoted["actions"] == ["marked 1.0.0 as known good"]
        assert (info["current"], info["settled"]) == ("1.0.0", True)
        assert info["token"] == first[1]["lease"]["token"]
        assert info["releases"][0]["known_good"]["rollout"] == first[1]["rollout"]["id"]
        assert '+    "current": "1.0.0"' in play.shown
        first_pid = int((place.path / "pid").read_text())

        second = play.run(
            play.begin("2.0.0"),
            play.release("result0", release="2.0.0", src=two, **{**serves, "health": {**health, "contains": "2.0.0"}}),
            play.release(
                "result0", release="2.0.0", state="known_good", undo=True, mark_bad="5 % failed", to="1.0.0", **serves
            ),
            play.release("result0", release="2.0.0", state="known_good", undo=True, to="1.0.0", **serves),
            play.close("result0", "undone"),
            play.info(),
        )
        assert not any(result.get("failed") for result in second), second
        assert (second[1]["before"], second[1]["current"], second[1]["known_good"]) == ("1.0.0", "2.0.0", "1.0.0")
        assert second[2]["actions"] == ["marked 2.0.0 as bad", "switched to 1.0.0", "restarted 1.0.0"]
        assert not second[3]["changed"]
        assert second[5]["releases"][0]["bad"]["reason"] == "5 % failed"
        pid = int((place.path / "pid").read_text())
        assert pid != first_pid
        os.kill(pid, 0)  # still serves, though every module that started it is gone
    finally:
        if (place.path / "pid").exists():
            os.kill(int((place.path / "pid").read_text()), signal.SIGKILL)


def test_what_goes_wrong_is_told_with_where_the_place_stands(play: Play) -> None:
    play.place.good("1.0.0")
    src = play.place.source("2.0.0")
    broken = {"command": "/bin/sh -c 'echo the port is taken; exit 3'"}
    _begun, *wrong, halfway = play.run(
        play.begin("2.0.0"),
        play.release("result0", release="../2.0.0", src=src),
        play.release("result0", release="2.0.0", src=str(play.folder / "nothing"), remote_src=True),
        play.release("result0", release="3.0.0"),
        play.release("result0", release="1.0.0", state="known_good", mark_bad="x"),
        play.release("result0", release="2.0.0", restart={"command": "a", "service": "b"}),
        play.release("result0", state="promoted"),
        play.release("result0", release="2.0.0", src=src, restart=broken),
    )
    reasons = (
        "release '../2.0.0' cannot name a release",
        "nothing is not on this place",
        "release 3.0.0 is not on this place",
        "there is no known good release to go back to",
        "mutually exclusive",
        "state is promoted but all of the following are missing: release",
    )
    for result, reason in zip(wrong, reasons, strict=True):
        assert reason in result["msg"]
        assert (result["failed"], result["changed"]) == (True, False)
    assert "restart of release 2.0.0 failed: '/bin/sh' ended with 3, saying: the port is taken" in halfway["msg"]
    assert (halfway["failed"], halfway["changed"]) == (True, True)
    assert (halfway["before"], halfway["current"], halfway["known_good"]) == ("1.0.0", "2.0.0", "1.0.0")
    assert play.place.names() == ["1.0.0", "2.0.0"]


def test_check_mode(play: Play) -> None:
    play.place.good("1.0.0")
    before = play.place.picture()
    _begun, would, never = play.run(
        play.begin("2.0.0"),
        play.release("result0", release="2.0.0", src=play.place.source("2.0.0"), restart={"command": "x"}),
        play.release("result0", release="1.0.0", src=play.place.source("1.0.0")),
        options=("--check", "--diff"),
    )
    assert (would["changed"], would["current"]) == (True, "2.0.0")
    assert would["actions"] == ["staged 2.0.0", "switched to 2.0.0", "restarted 2.0.0"]
    assert '+    "current": "2.0.0"' in play.shown
    assert not never["changed"]
    assert play.place.picture() == before


def test_fencing(play: Play) -> None:
    play.place.good("1.0.0", token=10**12)  # of a controller that is far ahead
    before = play.place.picture()
    _begun, fenced = play.run(
        play.begin("2.0.0"), play.release("result0", release="2.0.0", src=play.place.source("2.0.0"))
    )
    assert "is lower than 1000000000000, the highest seen on this place" in fenced["msg"]
    assert (fenced["changed"], fenced["current"]) == (False, "1.0.0")
    assert play.place.picture() == before


@pytest.mark.parametrize("kind", ["canary", "watch"])
def test_a_store_that_dies_stops_what_is_new_and_no_way_back(
    kind: str, tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    play = Play(tmp_path, ansible_env, sys.executable)
    for release in ("1.0.0", "2.0.0"):
        play.place.good(release)
    begun = {"state": "begun", "service": "shop", "release": "2.0.0", "kind": kind, "intent": {"fleet": ["localhost"]}}
    broken = {"ansible.builtin.copy": {"content": "not a ledger " * 999, "dest": str(tmp_path / "ledger.sqlite")}}
    back = {"state": "known_good", "release": "2.0.0", "to": "1.0.0", "undo": kind == "canary"}
    told = play.run(
        {ROLLOUT: begun},
        {"ansible.builtin.file": {"path": str(tmp_path / "ledger.sqlite-wal"), "state": "absent"}},
        broken,
        play.release("result0", release="3.0.0", src=play.place.source("3.0.0")),
        play.release("result0", **back),
    )
    deployed, returned = told[3], told[4]
    assert deployed["failed"] and "is not a ledger" in deployed["msg"]
    assert not returned.get("failed"), returned
    assert (returned["changed"], returned["recorded"], play.place.current()) == (True, False, "1.0.0")
