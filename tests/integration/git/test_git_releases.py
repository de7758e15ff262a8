# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `git` on a real bare repository: forward, marked, and back."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import pytest
from git_site import Site

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import FencedError, PlaceError


def release(facts: Dict[str, Any], name: str) -> Dict[str, Any]:
    found: Dict[str, Any] = next(known for known in facts["releases"] if known["id"] == name)
    return found


def test_forward_by_a_ref_and_promoted(site: Site) -> None:
    base = site.image("0.9")
    site.git("checkout", "--quiet", "-b", "next")
    first = site.image("1.0.0", push=False)
    site.git("tag", "shop-1.0.0")
    site.git("push", "--quiet", "origin", "next", "shop-1.0.0")

    new = site.do(release="1.0.0", ref="shop-1.0.0", by="ann", version="1.0", rollout="r1", token=4)
    assert site.head() == first == new["head"]
    assert new["actions"] == [f"brought main to {first[:10]}", "marked 1.0.0 as deployed"]
    assert (new["before"], new["current"], new["known_good"]) == (base[:12], "1.0.0", None)
    assert new["diff"]["before"]["commit"] == base
    assert new["diff"]["after"]["files"] == ["M apps/shop/values.yaml"]
    before = site.refs()
    for ref in ("shop-1.0.0", "next", "refs/heads/next", first, first[:9]):
        assert not site.do(release="1.0.0", ref=ref, token=4)["changed"]
    assert site.refs() == before

    good = site.do(state="promoted", release="1.0.0", rollout="r1", token=4)
    assert good["actions"] == ["marked 1.0.0 as known good"]
    assert not site.do(state="promoted", release="1.0.0", rollout="r1", token=4)["changed"]
    facts = site.look()
    assert (facts["branch"], facts["head"], facts["current"], facts["settled"]) == ("main", first, "1.0.0", True)
    assert (facts["token"], facts["previous"], facts["known_good"]) == (4, base[:12], None)
    assert facts["journal"]["rollout"] == "r1"
    told = release(facts, "1.0.0")
    assert (told["by"], told["version"], told["complete"]) == ("ann", "1.0", True)
    assert told["known_good"]["rollout"] == "r1"


def test_back_over_three_bad_releases_in_one_commit(site: Site) -> None:
    site.commit("others", {"apps/cart/values.yaml": "cart", "README": "x"})
    site.good("1.0.0")
    for version in ("2.0.0", "3.0.0", "4.0.0"):
        site.deploy(version)
    site.commit("cart alone", {"apps/cart/values.yaml": "cart 2"})
    was = site.head()
    history = site.log()
    back = site.back(release="4.0.0", mark_bad="5 % failed", rollout="r4", token=9)
    assert back["actions"] == ["marked 4.0.0 as bad", "brought main:apps/shop back to 1.0.0"]
    assert (back["before"], back["current"], back["known_good"]) == ("4.0.0", "1.0.0", None)
    assert site.log() == ["shop: back to 1.0.0 from 4.0.0", *history]
    assert site.file() == "image: shop:1.0.0"
    assert site.git("rev-parse", "main^", cwd=site.bare) == was
    assert site.file("apps/cart/values.yaml") == "cart 2"
    said = site.git("log", "-1", "--format=%an|%ae|%(trailers:only,unfold)", "main", cwd=site.bare)
    assert said.startswith("robot|robot@example.org|Selfheal-Service: shop\n")
    assert "Selfheal-Release: 1.0.0\n" in said and "Selfheal-Rollout: r4\n" in said and "Selfheal-Token: 9" in said
    assert release(back, "4.0.0")["bad"]["reason"] == "5 % failed"

    before = site.refs()
    again = site.back(release="4.0.0", mark_bad="5 % failed", rollout="r4", token=9)
    assert (again["changed"], again["current"]) == (False, "1.0.0")
    assert not site.back()["changed"]
    assert site.refs() == before


def test_every_kind_of_change_goes_back(site: Site) -> None:
    files: Dict[str, "str | bytes | None"] = {
        "apps/shop/values.yaml": "good",
        "apps/shop/logo.png": bytes(range(256)) * 40,
        "apps/shop/old name.yaml": "moved\n" * 20,
        "apps/shop/deep/down/gone.yaml": "gone",
        "apps/shop/\u00fcml\u00e4ut.yaml": "x",
        "lib/shared.yaml": "one",
    }
    site.commit("good", files)
    site.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor")
    site.git("commit", "--quiet", "-m", "a submodule elsewhere")
    site.git("push", "--quiet", "origin", "HEAD:main")
    good = site.do(release="1.0.0")["head"]
    site.do(release="1.0.0", state="promoted")

    site.git("checkout", "--quiet", "-b", "feature")
    site.git("mv", "apps/shop/old name.yaml", "apps/shop/new name.yaml")
    site.git("rm", "--quiet", "-r", "apps/shop/deep")
    site.commit(
        "mixed", {"apps/shop/logo.png": b"\0other", "apps/shop/new/a.yaml": "new", "lib/shared.yaml": "two"}, push=False
    )
    site.git("checkout", "--quiet", "main")
    site.commit("meanwhile", {"README": "x"}, push=False)
    site.git("merge", "--quiet", "--no-ff", "-m", "merge feature", "feature")
    site.git("push", "--quiet", "origin", "HEAD:main")
    site.do(release="2.0.0")
    assert site.content("main") != site.content(good)

    back = site.back(release="2.0.0")
    assert site.content("main") == site.content(good)
    assert site.file("lib/shared.yaml") == "two"
    assert site.git("ls-tree", "main", "vendor", cwd=site.bare).startswith("160000")
    assert sorted(back["diff"]["after"]["files"]) == [
        "A apps/shop/deep/down/gone.yaml",
        "A apps/shop/old name.yaml",
        "D apps/shop/new name.yaml",
        "D apps/shop/new/a.yaml",
        "M apps/shop/logo.png",
    ]


@pytest.mark.parametrize("path", ["", "apps/shop/values.yaml", "apps"])
def test_the_whole_tree_one_file_or_a_folder(site: Site, path: str) -> None:
    site.good("1.0.0", path=path)
    good = site.head()
    site.deploy("2.0.0", path=path)
    site.back(path=path)
    assert site.git("rev-parse", f"main:{path}", cwd=site.bare) == site.git(
        "rev-parse", f"{good}:{path}", cwd=site.bare
    )


def test_what_was_removed_altogether_comes_back(site: Site) -> None:
    site.commit("x", {"README": "x"})
    site.good("1.0.0")
    site.commit("all gone", {"apps/shop/values.yaml": None})
    facts = site.look()
    assert (facts["current"], facts["settled"]) == (site.head()[:12], False)
    site.back()
    assert site.file() == "image: shop:1.0.0"
    assert site.file("README") == "x"


def test_an_undo_returns_even_to_nothing(site: Site) -> None:
    site.good("1.0.0")
    site.commit("all gone", {"apps/shop/values.yaml": None, "README": "x"})
    site.image("2.0.0", push=False)
    site.git("push", "--quiet", "origin", "HEAD:refs/heads/next")
    before = site.do(release="2.0.0", ref="next", rollout="r2")["before"]
    undone = site.back(release="2.0.0", undo=True, rollout="r2", to=before)
    assert (undone["current"], undone["settled"]) == (before, True)
    assert site.git("ls-tree", "-r", "--name-only", "main", cwd=site.bare) == "README"
    assert site.back(to="1.0.0")["current"] == "1.0.0"


def test_two_services_and_two_branches_in_one_repository(site: Site) -> None:
    site.image("1", app="cart")
    touched = site.image("1.0.0")
    site.do(release="1.0.0")
    site.do(release="1.0.0", state="promoted")
    cart: Dict[str, Any] = {"service": "cart", "path": "apps/cart"}
    site.do(release="1.0.0", **cart)
    site.do(release="1.0.0", state="promoted", **cart)
    site.image("2", app="cart")
    site.do(release="2.0.0", **cart)
    assert not site.back()["changed"]  # nothing happened to shop
    assert site.back(release="2.0.0", **cart)["current"] == "1.0.0"
    assert site.file("apps/cart/values.yaml") == "image: cart:1"
    assert site.file() == "image: shop:1.0.0"
    site.git("push", "--quiet", "origin", "HEAD:staging")
    staging = site.look(branch="staging")
    assert (staging["current"], staging["releases"]) == (touched[:12], [])


def test_a_release_that_is_known_is_put_back_and_marks_follow(site: Site) -> None:
    site.good("1.0.0")
    site.deploy("2.0.0", rollout="r2")
    site.back(undo=True, rollout="r2", release="2.0.0", mark_bad="slow")
    again = site.do(release="2.0.0", rollout="r3")
    assert again["warnings"] == ["release 2.0.0 was found bad here before: slow"]
    assert site.file() == "image: shop:2.0.0"
    assert site.log()[0] == "shop: back to 2.0.0 from 1.0.0"
    promoted = site.do(release="2.0.0", state="promoted", rollout="r3")
    assert (release(promoted, "2.0.0")["bad"], promoted["known_good"]) == (None, "1.0.0")
    # the undo of a rollout that did not finish takes back its promotion
    undone = site.back(undo=True, rollout="r3", release="2.0.0")
    assert undone["actions"] == ["marked 2.0.0 as not known good", "brought main:apps/shop back to 1.0.0"]
    assert release(undone, "2.0.0")["known_good"] is None


def test_the_first_rollout_goes_back_to_what_nobody_recorded(site: Site) -> None:
    found = site.image("0.9")
    site.image("1.0.0", push=False)
    site.git("push", "--quiet", "origin", "HEAD:next")
    site.do(release="1.0.0", ref="next", rollout="r1")
    with pytest.raises(PlaceError, match="there is no known good release"):
        site.back(release="1.0.0")
    undone = site.back(release="1.0.0", undo=True, rollout="r1")
    assert (undone["current"], site.file()) == (found[:12], "image: shop:0.9")


def test_a_revert_by_hand_is_seen_for_what_it_is(site: Site) -> None:
    site.good("1.0.0")
    site.deploy("2.0.0")
    site.git("revert", "--no-edit", "HEAD")
    site.git("push", "--quiet", "origin", "HEAD:main")
    assert site.look()["current"] == "1.0.0"
    assert not site.back(release="2.0.0")["changed"]


def test_blocked_releases_and_same_content(site: Site) -> None:
    site.good("1.0.0")
    site.deploy("2.0.0", rollback="blocked", rollout="r2")
    with pytest.raises(PlaceError, match="release 2.0.0 does not allow to be rolled back"):
        site.back()
    assert site.do(release="2.0.0", rollback="allowed")["actions"] == ["set rollback of 2.0.0 to allowed"]
    assert site.look()["journal"]["rollout"] == "r2"
    same = site.do(release="3.0.0")
    assert same["warnings"] == ["main:apps/shop has the same content as release 2.0.0"]
    with pytest.raises(PlaceError, match="release 1.0.0 is taken"):
        site.do(release="1.0.0", ref="main")


def test_fencing(site: Site) -> None:
    site.good("1.0.0", token=7)
    site.deploy("2.0.0", token=8)
    before = site.refs()
    wishes: List[Dict[str, Any]] = [
        {"state": "known_good"},
        {"state": "promoted", "release": "2.0.0"},
        {"release": "3.0.0"},
    ]
    for wish in wishes:
        with pytest.raises(FencedError, match="fencing token 7 is lower than 8") as raised:
            site.do(token=7, **wish)
        assert raised.value.details["changed"] is False
    assert site.refs() == before
    assert site.look()["token"] == 8


def test_check_mode_pushes_nothing(site: Site) -> None:
    site.good("1.0.0")
    site.deploy("2.0.0")
    site.image("3.0.0", push=False)
    site.git("push", "--quiet", "origin", "HEAD:next")
    before = site.refs()
    back = site.back(dry=True, mark_bad="x")
    assert (back["changed"], back["current"]) == (True, "1.0.0")
    assert back["diff"]["after"]["bad"] == ["2.0.0"]
    assert back["diff"]["after"]["files"] == ["M apps/shop/values.yaml"]
    forward = site.do(dry=True, release="3.0.0", ref="next")
    assert (forward["changed"], forward["before"], forward["current"]) == (True, "2.0.0", "3.0.0")
    good = site.do(dry=True, state="promoted", release="2.0.0", keep=1)
    assert (good["changed"], good["diff"]["after"]["known_good"]) == (True, ["2.0.0", "1.0.0"])
    assert not site.do(dry=True, release="2.0.0")["changed"]
    assert site.refs() == before


def test_old_tags_go_and_what_they_knew_of_others_stays(site: Site) -> None:
    for number in range(1, 5):
        last = site.good(f"{number}.0.0", token=number, keep=2)
    assert [known["id"] for known in last["releases"]] == ["4.0.0", "3.0.0"]
    assert (last["actions"][-1], last["known_good"]) == ("removed 2.0.0", "3.0.0")
    assert len([ref for ref in site.refs() if "/selfheal/" in ref]) == 4
    assert site.back(to="3.0.0")["current"] == "3.0.0"
    site.hook("update", 'case "$3" in 0000*) echo no tag is ever removed >&2; exit 1;; esac')
    site.pull()
    site.good("5.0.0")
    kept = site.good("6.0.0", keep=1)
    assert "tags of old releases could not be removed" in kept["warnings"][0]
    assert "no tag is ever removed" in kept["warnings"][0]
    assert kept["current"] == "6.0.0"


def test_a_tag_of_somebody_else_below_our_name(site: Site) -> None:
    site.good("1.0.0")
    names = [ref.split()[0] for ref in site.refs() if "/selfheal/" in ref]
    stray = names[-1][: -len("000002")] + "000007"
    site.git("push", "--quiet", "origin", f"HEAD:{stray}")
    assert site.deploy("2.0.0")["changed"]
    assert site.back()["current"] == "1.0.0"
    newest = site.git("for-each-ref", "--format=%(contents:body)", f"{stray[:-1]}9", cwd=site.bare)
    assert json.loads(newest)["state"] == "known_good"
