# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a release through a place, on real files and with a real restart."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any, Dict, List

import pytest
from act_place import Place

from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Deploy, Promote
from ansible_collections.selfheal.delivery.plugins.module_utils._act.place import Layout, NoHands
from ansible_collections.selfheal.delivery.plugins.module_utils._act.releases import ReleasesBackend
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import FencedError, OptionError, PlaceError


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_first_deploy(place: Place) -> None:
    done = place.deploy("1.0", version="one", by="anna", rollout="r1", token=7)

    assert done.changed
    assert (done.release, done.before, done.current, done.known_good) == ("1.0", None, "1.0", None)
    assert done.actions == ("staged 1.0", "switched to 1.0", "restarted 1.0")
    assert os.readlink(place.path / "current") == "releases/1.0"
    assert place.running() == "1.0"
    meta = place.metadata("1.0")
    assert (meta["id"], meta["version"], meta["by"], meta["complete"]) == ("1.0", "one", "anna", True)
    assert str(meta["digest"]).startswith("sha256:")
    seen = place.look()
    assert (seen["token"], seen["settled"], seen["previous"]) == (7, True, None)
    assert place.names() == ["1.0"]


def test_twice_changes_nothing(place: Place) -> None:
    place.deploy("1.0")
    before = place.picture()
    again = place.deploy("1.0")
    assert not again.changed
    assert again.actions == ()
    assert {k: v for k, v in place.picture().items() if "health.log" not in k} == {
        k: v for k, v in before.items() if "health.log" not in k
    }


def test_current_but_unhealthy_is_restarted(place: Place) -> None:
    place.deploy("1.0")
    (place.path / "running").write_text("nothing")
    done = place.deploy("1.0")
    assert done.actions == ("restarted 1.0",)
    assert place.running() == "1.0"


def test_diff_and_check_mode_tell_what_really_happens(place: Place) -> None:
    place.good("1.0")
    steps: List[Dict[str, Any]] = [
        {"release": "2.0", "src": place.source("2.0"), "rollout": "r", "token": 1},
        {"release": "2.0", "src": place.source("2.0"), "rollout": "r", "token": 1},
        {"state": "promoted", "release": "2.0", "keep": 1},
        {"state": "known_good", "release": "2.0", "mark_bad": "5xx"},
        {"state": "known_good", "release": "2.0", "mark_bad": "5xx"},
    ]
    for step in steps:
        before = place.picture()
        would = place.do(dry=True, **step)
        assert place.picture() == before
        did = place.do(**step)
        for fact in ("release", "before", "current", "known_good", "changed", "actions", "diff"):
            assert getattr(would, fact) == getattr(did, fact), fact
        assert did.changed == (did.diff["before"] != did.diff["after"])


def test_check_mode_leaves_no_trace_on_a_new_place(place: Place) -> None:
    would = place.deploy("1.0", dry=True, token=4)
    assert would.changed and would.current == "1.0"
    assert not place.path.exists()
    # the controller sends nothing in check mode, so the source may not be here
    assert place.do(dry=True, release="9.0").actions == ("staged 9.0", "switched to 9.0", "restarted 9.0")


def test_failed_restart_is_told_and_stays(place: Place) -> None:
    place.good("1.0")
    broken = {"command": "/bin/sh -c 'echo port is taken; exit 4'", "timeout": 5.0}
    with pytest.raises(
        PlaceError, match=r"restart of release 2\.0 failed: .* ended with 4, saying: port is taken"
    ) as told:
        place.deploy("2.0", restart=broken, rollout="r2")
    facts = told.value.details
    assert (facts["changed"], facts["before"], facts["current"], facts["known_good"]) == (True, "1.0", "2.0", "1.0")
    assert place.journal()["phase"] == "failed"
    assert "port is taken" in str(place.journal()["problem"])
    assert not place.look()["settled"]

    with pytest.raises(PlaceError, match="not restarted and found healthy"):
        place.do(state="promoted", release="2.0")

    assert place.back(undo=True, rollout="r2").current == "1.0"
    assert place.running() == "1.0"
    assert place.look()["settled"]


def test_failed_health_is_told_and_settled_by_the_next_run(place: Place) -> None:
    place.good("1.0")
    with pytest.raises(PlaceError, match=r"health check of release 2\.0 failed") as told:
        place.deploy("2.0", broken=True, rollout="r2")
    assert told.value.details["changed"] is True
    (place.path / "releases/2.0/broken").unlink()
    (place.sources / "2.0/broken").unlink()
    done = place.do(release="2.0", rollout="r2")
    assert (done.current, done.before, done.actions) == ("2.0", "1.0", ("restarted 2.0",))
    assert place.look()["settled"]


def test_going_back_twice(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0", rollout="r2")
    back = place.back(rollout="r2", undo=True, mark_bad="5 % of requests failed")
    assert (back.before, back.current, back.known_good) == ("2.0", "1.0", None)
    assert back.actions == ("marked 2.0 as bad", "switched to 1.0", "restarted 1.0")
    assert place.running() == "1.0"
    bad = place.metadata("2.0")["bad"]
    assert isinstance(bad, dict) and bad["reason"] == "5 % of requests failed"
    wishes: List[Dict[str, Any]] = [{"rollout": "r2", "undo": True}, {"release": "2.0"}, {"to": "1.0"}, {}]
    for wish in wishes:
        again = place.back(mark_bad="again", **wish)
        assert not again.changed and again.current == "1.0"
    assert place.metadata("1.0")["bad"] is None


def test_undo_leaves_places_alone_that_the_rollout_never_reached(place: Place) -> None:
    place.deploy("0.9", rollout="r0")  # never promoted: an adopted fleet
    done = place.back(rollout="r2", release="2.0", undo=True, mark_bad="5xx")
    assert not done.changed and done.current == "0.9"


def test_undo_returns_to_what_ran_before_even_if_nobody_called_it_good(place: Place) -> None:
    place.deploy("0.9", rollout="r0")
    place.deploy("1.0", rollout="r1")
    assert place.back(rollout="r1", undo=True).current == "0.9"
    place.deploy("1.0", rollout="r1")
    assert place.back(rollout="r1", undo=True, to="0.9").current == "0.9"


def test_a_promoted_release_that_turns_bad_is_left_when_it_is_named(place: Place) -> None:
    place.good("1.0")
    place.good("2.0")
    assert not place.back().changed
    done = place.back(release="2.0", rollout="watch", mark_bad="late leak")
    assert done.current == "1.0"
    assert not place.back(release="2.0", rollout="watch", mark_bad="late leak").changed
    with pytest.raises(PlaceError, match="no known good release to go back to"):
        place.back(release="1.0", mark_bad="this one too")
    assert place.metadata("1.0")["bad"] is None
    assert place.current() == "1.0"


def test_a_person_pins_a_release(place: Place) -> None:
    place.good("1.0")
    place.good("2.0")
    place.good("3.0")
    assert place.back(to="1.0").current == "1.0"
    assert not place.back(to="1.0").changed
    for wrong, why in (("9.9", "is not on this place"), ("3.1", "has never been known good"), ("2.0", "was found bad")):
        if wrong == "3.1":
            place.deploy("3.1")
            place.good("1.0")
        if wrong == "2.0":
            place.back(to="2.0")
            place.back(release="2.0", mark_bad="slow")
        with pytest.raises(PlaceError, match=why):
            place.back(to=wrong)


def test_an_undone_release_is_no_longer_known_good(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0", rollout="r2")
    place.do(state="promoted", release="2.0", rollout="r2")
    done = place.back(rollout="r2", undo=True)
    assert done.actions[0] == "marked 2.0 as not known good"
    assert (done.current, done.known_good) == ("1.0", None)


def test_blocked_releases_are_only_left_by_their_own_undo(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0", rollout="r2", rollback="blocked")
    before = place.picture()
    others: Dict[str, Any] = {"release": "2.0", "rollout": "other", "undo": True}
    for wish in ({}, {"to": "1.0"}, {"release": "2.0"}, others):
        with pytest.raises(PlaceError, match="does not allow to be rolled back") as told:
            place.back(mark_bad="5xx", **wish)
        assert told.value.details["changed"] is False
        assert place.picture() == before
    assert place.back(rollout="r2", undo=True).current == "1.0"


def test_a_release_blocks_its_rollback_itself(place: Place) -> None:
    place.good("1.0")
    source = Path(place.source("2.0"))
    (source / ".rollback-blocked").write_text("migration 42 drops a column")
    place.deploy("2.0")
    with pytest.raises(PlaceError, match="does not allow to be rolled back"):
        place.back(to="1.0", release="2.0")
    told = {release["id"]: release["rollback"] for release in place.look()["releases"]}
    assert told == {"1.0": "allowed", "2.0": "blocked"}


def test_somebody_elses_newer_release_is_not_taken_back_for_an_older_one(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0")
    place.deploy("3.0")
    left_alone = place.back(to="1.0", release="2.0", rollout="r9")
    assert (left_alone.changed, left_alone.current) == (False, "3.0")


def test_rollback_can_be_blocked_later(place: Place) -> None:
    place.deploy("1.0")
    done = place.deploy("1.0", rollback="blocked")
    assert done.actions == ("set rollback of 1.0 to blocked",)
    assert not place.deploy("1.0").changed
    assert place.metadata("1.0")["rollback"] == "blocked"


def test_no_known_good(place: Place) -> None:
    place.deploy("1.0", rollout="r1")
    before = place.picture()
    with pytest.raises(PlaceError, match="no known good release to go back to"):
        place.back(rollout="r1", undo=True, mark_bad="5xx")
    assert place.picture() == before
    assert not place.back(rollout="r0", undo=True).changed


def test_place_without_current_goes_to_the_known_good(place: Place) -> None:
    place.good("1.0")
    (place.path / "current").unlink()
    assert not place.back(undo=True, rollout="r").changed
    assert place.back(mark_bad="whatever").current == "1.0"


def test_current_whose_folder_is_gone(place: Place) -> None:
    place.good("1.0")
    os.symlink("releases/lost", place.path / "current.new")
    os.replace(place.path / "current.new", place.path / "current")
    with pytest.raises(PlaceError, match="folder is gone"):
        place.do(state="promoted", release="lost")
    assert place.back(mark_bad="whatever").current == "1.0"


def test_known_good_comes_from_the_last_promotion(place: Place) -> None:
    for release in ("1.0", "2.0", "3.0"):
        place.good(release)
    place.deploy("1.0")
    place.do(state="promoted", release="1.0", rollout="again")
    place.deploy("4.0")
    assert place.look()["known_good"] == "1.0"


def test_promote_needs_the_current_release(place: Place) -> None:
    place.deploy("1.0")
    with pytest.raises(PlaceError, match=r"cannot promote release 2\.0: 1\.0 is current here"):
        place.do(state="promoted", release="2.0")
    done = place.do(state="promoted", release="1.0", rollout="r")
    assert done.actions == ("marked 1.0 as known good",)
    assert not place.do(state="promoted", release="1.0", rollout="r").changed
    assert not place.do(state="promoted", release="1.0").changed


def test_promotion_clears_an_old_bad_mark_and_deploy_warns_of_it(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0", rollout="r")
    place.back(rollout="r", undo=True, mark_bad="provider was down")
    done = place.deploy("2.0", rollout="r3")
    assert done.warnings == ("release 2.0 was found bad here before: provider was down",)
    place.do(state="promoted", release="2.0", rollout="r3")
    assert place.metadata("2.0")["bad"] is None


def test_prune_keeps_what_is_needed(place: Place) -> None:
    place.good("1.0")
    for release in ("1.1", "1.2", "1.3", "1.4"):
        place.deploy(release)
    (place.path / "releases/by-hand").mkdir()
    done = place.do(state="promoted", release="1.4", keep=1, before="1.2")
    # 1.0 is the last known good, 1.2 is pinned, 1.3 is the journal's way back, by-hand is not ours
    assert place.names() == ["1.0", "1.2", "1.3", "1.4", "by-hand"]
    assert done.actions == ("marked 1.4 as known good", "removed 1.1")
    assert not place.do(state="promoted", release="1.4", keep=1, before="1.2").changed


def test_mark_good_prunes_nothing(place: Place) -> None:
    for release in ("1.0", "1.1", "1.2"):
        place.deploy(release)
    backend = ReleasesBackend(Layout(str(place.path)), NoHands())
    done = backend.mark_good(Promote("1.2", keep=1))
    assert done.actions == ("marked 1.2 as known good",)
    assert (backend.current(), backend.known_good()) == ("1.2", None)
    assert [release.id for release in backend.releases()] == ["1.2", "1.1", "1.0"]


def test_fencing(place: Place) -> None:
    place.good("1.0", token=5)
    place.deploy("2.0", token=8, rollout="r2")
    before = place.picture()
    for wish in (
        {"release": "3.0", "src": place.source("3.0")},
        {"state": "known_good", "undo": True, "rollout": "r2"},
        {"state": "promoted", "release": "2.0"},
    ):
        with pytest.raises(FencedError, match="fencing token 7 is lower than 8"):
            place.do(token=7, **wish)
        assert place.picture() == before
    assert place.back(token=8, undo=True, rollout="r2").current == "1.0"
    assert place.back(token=9).changed is False
    assert place.look()["token"] == 9


def test_fence_is_looked_at_again_under_the_lock(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.deploy("1.0", token=5)

    def overtaken(step: str) -> None:
        if step == "lock: held":
            (place.path / ".delivery/fence.json").write_text('{"token": 9}')

    with pytest.raises(FencedError):
        place.deploy("2.0", token=6, checkpoint=overtaken)
    assert place.current() == "1.0"


def test_damaged_books_stop_everything(place: Place) -> None:
    place.deploy("1.0", token=5)
    for book, text in (("fence.json", "{}"), ("fence.json", "["), ("journal.json", "[]"), ("journal.json", "nonsense")):
        kept = (place.path / ".delivery" / book).read_text()
        (place.path / ".delivery" / book).write_text(text)
        with pytest.raises(PlaceError, match="does not hold a token|is damaged"):
            place.deploy("2.0", token=6)
        (place.path / ".delivery" / book).write_text(kept)
    assert place.names() == ["1.0"]


def test_damaged_metadata_makes_a_release_unknown(place: Place) -> None:
    place.good("1.0")
    (place.path / "releases/1.0/.release.json").write_text("{")
    place.deploy("2.0", rollout="r")
    assert place.metadata("1.0")["complete"] is True  # it ran, so it can be gone back to
    assert place.back(undo=True, rollout="r").current == "1.0"


def test_an_existing_tree_is_taken_in(place: Place) -> None:
    """Capistrano's own: an absolute link, and no metadata."""
    old = place.path / "releases/20240101"
    old.mkdir(parents=True)
    (old / "version").write_text("20240101")
    os.symlink(old, place.path / "current")
    assert place.look()["current"] == "20240101"
    done = place.deploy("2.0", rollout="r")
    assert done.actions == ("staged 2.0", "adopted 20240101", "switched to 2.0", "restarted 2.0")
    assert done.before == "20240101"
    assert place.back(undo=True, rollout="r").current == "20240101"
    assert place.do(state="promoted", release="20240101").known_good is None


def test_first_promotion_takes_in_a_release_without_metadata(place: Place) -> None:
    (place.path / "releases/old").mkdir(parents=True)
    os.symlink("releases/old", place.path / "current")
    assert place.do(state="promoted", release="old").changed
    assert place.metadata("old")["complete"] is True


def test_a_prepared_folder(place: Place) -> None:
    prepared = place.path / "releases/3.0"
    prepared.mkdir(parents=True)
    (prepared / "version").write_text("3.0")
    done = place.do(release="3.0", version="three", shared=["log/"])
    assert done.actions == ("adopted 3.0", "switched to 3.0", "restarted 3.0")
    assert place.metadata("3.0")["version"] == "three"
    assert os.readlink(prepared / "log") == "../../shared/log"
    with pytest.raises(PlaceError, match=r"release 3\.0 is taken: what is here was prepared by somebody else"):
        place.deploy("3.0")


def test_taken_id(place: Place) -> None:
    place.deploy("1.0")
    (place.sources / "1.0" / "version").write_text("other")
    before = place.picture()
    with pytest.raises(PlaceError, match=r"release 1\.0 is taken: what is here has other content"):
        place.deploy("1.0", src=str(place.sources / "1.0"))
    assert place.picture() == before


def test_missing_content(place: Place) -> None:
    with pytest.raises(PlaceError, match="is not a folder on this place"):
        place.do(release="1.0")
    assert not place.path.exists()
    place.path.mkdir()
    with pytest.raises(PlaceError, match="is not on this place"):
        place.do(release="1.0")
    for src, why in (("relative", "not an absolute path"), ("/nowhere/at/all", "is not on this place")):
        with pytest.raises(OptionError, match=why):
            place.do(release="1.0", src=src)
    for state in ("promoted", "known_good"):
        with pytest.raises(PlaceError, match="is not a folder"):
            Place(place.folder / "other").do(state=state, release="1.0")


@pytest.mark.parametrize(
    "wrong", ["", ".", "..", "../up", "a/b", "/etc", ".hidden", "a\nb", "1.0\n", "a b", "-x", "x" * 129, "ä"]
)
def test_odd_ids(place: Place, wrong: str) -> None:
    place.good("1.0")
    before = place.picture()
    with pytest.raises(OptionError, match="cannot name a release"):
        place.do(release=wrong, src=place.source("2.0"))
    with pytest.raises(OptionError, match="cannot name a release"):
        place.do(state="promoted", release=wrong)
    if wrong:
        for option in ("to", "release"):
            with pytest.raises(OptionError, match=f"{option} .* cannot name a release"):
                place.back(**{option: wrong})
    assert place.picture() == before


@pytest.mark.parametrize("wrong", ["relative", "/", "//", "/a/..", "/a\nb"])
def test_odd_paths(place: Place, wrong: str) -> None:
    with pytest.raises(OptionError, match="is not an absolute path below /"):
        Layout(wrong)


def test_plain_paths() -> None:
    assert Layout("//srv///shop/").current == "/srv/shop/current"


def test_a_release_that_is_a_link_or_a_file(place: Place) -> None:
    place.deploy("1.0")
    os.symlink("/etc", place.path / "releases/evil")
    (place.path / "releases/note").write_text("a file")
    for name in ("evil", "note"):
        for src in (None, place.source(name)):
            with pytest.raises(PlaceError, match="is not a folder"):
                place.do(release=name, src=src)
    with pytest.raises(PlaceError, match="is not on this place"):
        place.back(to="evil")
    assert place.current() == "1.0"
    assert [release.id for release in Layout(str(place.path)).see().releases] == ["1.0"]


def test_current_is_not_ours(place: Place) -> None:
    (place.path / "current").mkdir(parents=True)
    with pytest.raises(PlaceError, match="is not a link"):
        place.deploy("1.0")
    (place.path / "current").rmdir()
    for elsewhere in ("/etc", "releases", "releases/1.0/sub", "../outside"):
        os.symlink(elsewhere, place.path / "current")
        with pytest.raises(PlaceError, match="which is not a release in"):
            place.deploy("1.0")
        with pytest.raises(PlaceError, match="which is not a release in"):
            place.look()
        (place.path / "current").unlink()
    assert place.names() == []


def test_lock_says_who(place: Place) -> None:
    place.deploy("1.0")
    with open(place.path / ".delivery/lock", "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.truncate(0)
        json.dump({"pid": 4711, "doing": "deploying 9.9"}, held)
        held.flush()
        with pytest.raises(PlaceError, match="another run has been at .* 4711.*deploying 9.9"):
            place.deploy("2.0")
        assert place.look()["current"] == "1.0"  # looking needs no lock
        assert place.deploy("2.0", dry=True).changed
        held.truncate(0)
        with pytest.raises(PlaceError, match="an unknown process"):
            place.deploy("2.0")
    assert place.deploy("2.0").changed


def test_leftovers_are_put_away(place: Place) -> None:
    place.deploy("1.0")
    for name in (".2.0.partial", ".0.9.gone", ".keepme"):
        (place.path / "releases" / name).mkdir()
        (place.path / "releases" / name / "x").write_text("x")
    (place.path / "releases/.3.0.partial").write_text("a file")
    assert place.deploy("2.0").changed
    assert place.names() == [".keepme", "1.0", "2.0"]


def test_no_restart_no_health(place: Place) -> None:
    done = place.deploy("1.0", restart=None, health=None)
    assert done.actions == ("staged 1.0", "switched to 1.0")
    assert not place.deploy("1.0", restart=None, health=None).changed


def test_before_is_what_the_intent_says(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0", before="1.0", rollout="r")
    place.deploy("2.1", before="1.0", rollout="r")
    assert place.journal()["before"] == "1.0"
    assert place.back(rollout="r", undo=True).current == "1.0"


def test_redeploy_after_going_back_does_not_take_the_bad_one_for_the_way_back(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0", rollout="r")
    place.back(rollout="r", undo=True)
    (place.path / "running").write_text("nothing")
    place.deploy("1.0", rollout="r3")
    assert place.journal()["before"] is None
    with pytest.raises(PlaceError, match="no known good"):
        place.back(rollout="r3", undo=True)


def test_protocol_is_kept(place: Place) -> None:
    from ansible_collections.selfheal.delivery.plugins.module_utils._act.model import Backend

    backend: Backend = ReleasesBackend(Layout(str(place.path)), NoHands())
    assert backend.deploy(Deploy("1.0")).current == "1.0"
    assert backend.current() is None


def test_a_restart_is_done_each_time_and_leaves_the_story_as_it_is(place: Place) -> None:
    place.good("1.0")
    place.deploy("2.0", rollout="r2", token=7)
    (place.path / "running").write_text("nothing")
    done = place.do(state="restarted", token=8)
    assert (done.current, done.before, done.actions) == ("2.0", "1.0", ("restarted 2.0",))
    assert place.running() == "2.0" and place.look()["token"] == 8
    assert place.do(state="restarted").actions == ("restarted 2.0",)
    assert place.do(dry=True, state="restarted").changed
    with pytest.raises(FencedError):
        place.do(state="restarted", token=7)
    # what an undo of its rollout goes by is still there
    assert place.back(undo=True, rollout="r2").current == "1.0"
    assert place.do(state="restarted").actions == ("restarted 1.0",)


def test_a_restart_that_fails_is_told_and_one_that_nobody_can_do_is_refused(place: Place) -> None:
    with pytest.raises(PlaceError, match="is not a folder"):
        place.do(state="restarted")
    place.good("1.0")
    with pytest.raises(OptionError, match="nobody says how to restart it"):
        place.do(state="restarted", restart=None)
    with pytest.raises(PlaceError, match=r"restart of release 1\.0 failed"):
        place.do(state="restarted", restart={"command": "/bin/false", "timeout": 5.0})
    assert not place.look()["settled"]
    assert place.do(release="1.0").actions == ("restarted 1.0",)
