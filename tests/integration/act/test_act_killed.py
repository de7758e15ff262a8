# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""kill -9 at every step of every change: whatever is left, the next run brings the place where it belongs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import act_killed
import pytest
from act_place import DEFAULTS, HEALTH, MEMORY, RESTART, Place

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import PlaceError

MORE = 200  # checkpoints that no change has


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="act-killed-", dir=MEMORY) as made:
        yield Path(made)


def background(wish: Dict[str, Any]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, act_killed.__file__, str(MORE), json.dumps(wish)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def start(place: Place, nth: int, **given: Any) -> List[str]:
    """The checkpoints that a run passes which is killed at the nth, or all of them when it has fewer."""
    wish = {**DEFAULTS, "path": str(place.path), "restart": RESTART, "health": HEALTH, **given}
    ran = subprocess.run(
        [sys.executable, act_killed.__file__, str(nth), json.dumps(wish)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, -signal.SIGKILL), ran.stderr
    steps = ran.stdout.splitlines()
    return steps if ran.returncode else steps[:-1]


def killed_everywhere(folder: Path, prepare: Callable[[Place], Dict[str, Any]]) -> Iterator[Place]:
    """A fresh place for every checkpoint, killed there."""
    dry = Place(folder / "whole")
    every = start(dry, MORE, **prepare(dry))
    assert len(every) > 8
    for nth in range(1, len(every) + 1):
        place = Place(folder / str(nth))
        wish = prepare(place)
        assert len(start(place, nth, **wish)) == nth
        whole(place)
        yield place


def whole(place: Place) -> None:
    """What holds at every instant, also right after the kill."""
    seen = place.look()
    current = place.current()
    assert current == seen["current"]
    # the token is remembered before anything is done under it
    assert (seen["token"] or 0) >= (place.journal().get("token") or 0)
    if current is not None:
        assert current == "old" or place.metadata(current)["complete"] is True
        assert (place.path / "releases" / current / "version").read_text() == current


def settled(place: Place, current: Optional[str]) -> None:
    """What holds once a run has ended well."""
    assert place.current() == current
    assert place.running() == current
    assert place.look()["settled"] is True
    assert not [name for name in place.names() if name.startswith(".")]


def new_release(place: Place) -> Dict[str, Any]:
    place.good("1.0", token=3)
    return {"release": "2.0", "src": place.source("2.0", secret="s"), "rollout": "r2", "token": 4, "shared": ["secret"]}


def undo_of_it(place: Place) -> Dict[str, Any]:
    place.do(**new_release(place))
    return {"state": "known_good", "undo": True, "rollout": "r2", "release": "2.0", "mark_bad": "5xx", "token": 5}


def undo_to_the_unproven(place: Place) -> Dict[str, Any]:
    """What ran before was never called good here: only the journal knows the way back."""
    place.deploy("0.9", rollout="r0")
    place.deploy("2.0", rollout="r2", token=4)
    return {"state": "known_good", "undo": True, "rollout": "r2", "token": 5}


def promotion(place: Place) -> Dict[str, Any]:
    place.good("0.8")
    place.deploy("0.9")
    place.do(**new_release(place))
    return {"state": "promoted", "release": "2.0", "rollout": "r2", "token": 5, "keep": 1}


def adoption(place: Place) -> Dict[str, Any]:
    """The first release of ours on a place that somebody else made."""
    for release in ("old", "2.0"):
        folder = place.path / "releases" / release
        folder.mkdir(parents=True)
        (folder / "version").write_text(release)
    os.symlink("releases/old", place.path / "current")
    (place.path / "running").write_text("old")
    return {"release": "2.0", "rollout": "r2", "shared": ["log/", "version"]}


def test_deploy_again(folder: Path) -> None:
    for place in killed_everywhere(folder, new_release):
        place.do(release="2.0", src=place.source("2.0"), rollout="r2", token=4, shared=["secret"])
        settled(place, "2.0")
        assert place.journal()["before"] == "1.0"
        assert place.look()["token"] == 4
        assert (place.path / "releases/2.0/secret").read_text() == "s"
        assert not place.do(release="2.0", rollout="r2", token=4).changed
        assert place.back(undo=True, rollout="r2", token=4).current == "1.0"


def test_deploy_undone(folder: Path) -> None:
    for place in killed_everywhere(folder, new_release):
        place.back(undo=True, rollout="r2", release="2.0", mark_bad="the controller died", token=5)
        settled(place, "1.0")
        assert place.metadata("1.0")["bad"] is None
        assert not place.back(undo=True, rollout="r2", release="2.0", mark_bad="again", token=5).changed


def test_deploy_and_then_another_release(folder: Path) -> None:
    for place in killed_everywhere(folder, new_release):
        place.deploy("3.0", rollout="r3", token=6)
        settled(place, "3.0")
        assert place.back(undo=True, rollout="r3", token=6).current == "1.0"


def test_undo_again(folder: Path) -> None:
    for place in killed_everywhere(folder, undo_of_it):
        place.back(undo=True, rollout="r2", release="2.0", mark_bad="5xx", token=5)
        settled(place, "1.0")
        bad = place.metadata("2.0")["bad"]
        assert isinstance(bad, dict) and bad["reason"] == "5xx"
        assert not place.back(undo=True, rollout="r2", release="2.0", mark_bad="5xx", token=5).changed


def test_undo_to_the_unproven_again(folder: Path) -> None:
    for place in killed_everywhere(folder, undo_to_the_unproven):
        place.back(undo=True, rollout="r2", token=5)
        settled(place, "0.9")


def test_undo_and_then_deployed_after_all(folder: Path) -> None:
    for place in killed_everywhere(folder, undo_of_it):
        place.do(release="2.0", rollout="r2", token=6)
        settled(place, "2.0")
        assert place.back(undo=True, rollout="r2", token=6).current == "1.0"


def test_promotion_again(folder: Path) -> None:
    for place in killed_everywhere(folder, promotion):
        assert {"1.0", "2.0"} <= set(place.names())
        place.do(state="promoted", release="2.0", rollout="r2", token=5, keep=1)
        settled(place, "2.0")
        assert place.names() == ["1.0", "2.0"]
        assert place.metadata("2.0")["known_good"] is not None
        assert place.back(release="2.0").current == "1.0"


def test_adoption_again(folder: Path) -> None:
    for place in killed_everywhere(folder, adoption):
        place.do(release="2.0", rollout="r2", shared=["log/", "version"])
        settled(place, "2.0")
        assert (place.path / "shared/version").read_text() == "2.0"
        assert place.back(undo=True, rollout="r2").current == "old"


@pytest.mark.parametrize("again", [{}, {"state": "known_good"}, {"state": "known_good", "undo": True, "rollout": "r2"}])
def test_between_switch_and_restart(folder: Path, again: Dict[str, Any]) -> None:
    """`current` is right already, and still the process is not."""
    whole_run = Place(folder / "whole")
    steps = start(whole_run, MORE, **undo_of_it(whole_run))
    place = Place(folder / "killed")
    start(place, steps.index("current: link durable") + 1, **undo_of_it(place))
    assert (place.current(), place.running()) == ("1.0", "2.0")
    assert place.do(**{"release": "1.0", **again} if not again else again).actions == ("restarted 1.0",)
    assert place.running() == "1.0"


def test_in_the_middle_of_the_restart(folder: Path) -> None:
    place = Place(folder)
    place.good("1.0")
    slow = {"command": ["/bin/sh", "-c", "echo $$ > ../../slow; exec sleep 60"], "timeout": 60.0}
    wish = {**DEFAULTS, "path": str(place.path), "restart": slow, "health": None}
    wish.update(release="2.0", src=place.source("2.0"), rollout="r2")
    run = background(wish)
    noted = place.path / "slow"
    try:
        while not (noted.exists() and noted.read_text().endswith("\n")):
            assert run.poll() is None
        run.kill()
        run.communicate()
        assert (place.current(), place.running(), place.journal()["phase"]) == ("2.0", "1.0", "restarting")
        assert place.back(undo=True, rollout="r2").actions == ("switched to 1.0", "restarted 1.0")
    finally:
        os.kill(int(noted.read_text()), signal.SIGKILL)
    settled(place, "1.0")


def test_two_at_once(folder: Path) -> None:
    """The second waits, and then says who is there; what the first one does comes to its end."""
    place = Place(folder)
    place.good("1.0")
    script = f"touch {folder}/began; while ! test -e {folder}/go; do sleep 0.02; done; cp version ../../running"
    wish = {**DEFAULTS, "path": str(place.path), "restart": {"command": ["/bin/sh", "-c", script], "timeout": 60.0}}
    first = background({**wish, "health": None, "release": "2.0", "src": place.source("2.0")})
    while not (folder / "began").exists():
        assert first.poll() is None
    with pytest.raises(PlaceError, match=f'"pid": {first.pid}, "doing": "deploying 2.0"') as told:
        place.deploy("3.0")
    assert told.value.details == {"changed": False}
    (folder / "go").touch()
    assert first.communicate()[0].splitlines()[-1] == "2.0"
    settled(place, "2.0")
    assert place.deploy("3.0").before == "2.0"
