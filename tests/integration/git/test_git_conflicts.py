# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `git` when others push too: never overwritten, redone where that is safe, and told."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import pytest
from git_site import Site

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError


def then(*works: Callable[[], object]) -> Callable[[str], None]:
    """A checkpoint before the push that does one work after the other, each time the push is tried."""
    left = list(works)

    def checkpoint(step: str) -> None:
        assert step == "push"
        if left:
            left.pop(0)()

    return checkpoint


def bad_release(site: Site) -> None:
    site.commit("others", {"apps/cart/values.yaml": "cart"})
    site.good("1.0.0")
    site.deploy("2.0.0")


def pushed(site: Site, *files: str) -> Callable[[], object]:
    return lambda: site.commit("meanwhile " + files[0], dict.fromkeys(files, "meanwhile"))


def test_another_path_moved_on_so_it_is_done_again_on_top(site: Site) -> None:
    bad_release(site)
    meanwhile = then(pushed(site, "apps/cart/a"), pushed(site, "apps/shopping/b"))
    back = site.back(release="2.0.0", checkpoint=meanwhile)
    assert back["current"] == "1.0.0"
    assert site.log()[:3] == ["shop: back to 1.0.0 from 2.0.0", "meanwhile apps/shopping/b", "meanwhile apps/cart/a"]
    assert (site.file(), site.file("apps/cart/a")) == ("image: shop:1.0.0", "meanwhile")
    assert len([ref for ref in site.refs() if "/selfheal/" in ref]) == 4


@pytest.mark.parametrize("wish", [{}, {"release": "2.0.0"}, {"undo": True, "rollout": "r2"}])
def test_a_newer_change_of_the_same_path_is_a_conflict(site: Site, wish: Dict[str, Any]) -> None:
    bad_release(site)
    site.back(to="1.0.0")
    site.do(release="2.0.0", rollout="r2")
    site.pull()
    refs: List[str] = []

    def meanwhile() -> None:
        site.commit("more memory", {"apps/shop/memory.yaml": "1Gi", "README": "x"})
        refs.extend(site.refs())

    with pytest.raises(PlaceError, match="conflict on main:apps/shop: .*so nothing was pushed") as raised:
        site.back(**wish, checkpoint=then(meanwhile))
    newer = site.head()
    assert f"commits {newer[:10]} by Ann: more memory; files A apps/shop/memory.yaml" in raised.value.message
    assert raised.value.details["commits"] == [{"id": newer, "author": "Ann", "subject": "more memory"}]
    assert raised.value.details["files"] == ["A apps/shop/memory.yaml"]
    assert (raised.value.details["changed"], raised.value.details["current"]) == (False, newer[:12])
    assert site.refs() == refs


def test_a_newer_change_before_we_looked(site: Site) -> None:
    bad_release(site)
    fix = site.image("2.0.1")
    before = site.refs()
    wishes: List[Dict[str, Any]] = [{"state": "known_good", "release": "2.0.0"}, {"release": "2.0.0"}]
    for wish in wishes:
        with pytest.raises(PlaceError, match="a newer change lies on top of release 2.0.0"):
            site.do(**wish)
    with pytest.raises(PlaceError, match=f"cannot promote release 2.0.0: {fix[:12]} is current here"):
        site.do(state="promoted", release="2.0.0")
    assert site.look()["settled"] is False
    site.do(release="2.0.1")
    with pytest.raises(PlaceError, match="release 2.0.1 was deployed after release 2.0.0"):
        site.back(release="2.0.0")
    assert len(site.refs()) == len(before) + 1
    assert site.back(mark_bad="x")["current"] == "1.0.0"  # but a person may go back over all of it
    site.pull()
    site.image("2.0.2")
    with pytest.raises(PlaceError, match="a newer change lies on top of release 1.0.0"):
        site.back(release="2.0.1")  # run twice, with a fix in between
    unrecorded = site.back(mark_bad="y")
    assert (unrecorded["current"], unrecorded["releases"][0]["bad"]["reason"]) == ("1.0.0", "y")


def test_the_same_thing_done_by_somebody_else_is_no_conflict(site: Site) -> None:
    bad_release(site)
    done = site.back(release="2.0.0", checkpoint=then(lambda: site.back(release="2.0.0")))
    assert (done["changed"], done["current"]) == (False, "1.0.0")
    assert len(site.log()) == 4


def test_of_two_promotions_with_different_tokens_the_older_is_refused(site: Site) -> None:
    site.deploy("1.0.0")

    def newer() -> None:
        site.do(state="promoted", release="1.0.0", token=6)

    with pytest.raises(PlaceError, match="fencing token 5 is lower than 6"):
        site.do(state="promoted", release="1.0.0", token=5, checkpoint=then(newer))


def test_a_branch_that_never_rests(site: Site) -> None:
    bad_release(site)
    works = [pushed(site, f"apps/cart/{number}") for number in range(9)]
    with pytest.raises(PlaceError, match="main moved 5 times while we pushed to it .*site.git says 'fetch first'"):
        site.back(checkpoint=then(*works))
    assert site.file() == "image: shop:2.0.0"


def test_a_deploy_is_fast_forward_only(site: Site) -> None:
    bad_release(site)
    site.git("checkout", "--quiet", "-b", "next")
    site.image("3.0.0", push=False)
    site.git("push", "--quiet", "origin", "next")
    site.git("checkout", "--quiet", "main")
    site.commit("hotfix", {"apps/shop/hotfix": "x"})
    before = site.refs()
    with pytest.raises(PlaceError, match="next does not contain main, so nothing was pushed .*: hotfix") as raised:
        site.do(release="3.0.0", ref="next")
    assert "Merge or rebase it" in raised.value.message
    with pytest.raises(PlaceError, match="is older than main"):
        site.do(release="0.9", ref=site.git("rev-parse", "main~2"))
    assert site.refs() == before
    site.git("checkout", "--quiet", "next")
    site.git("merge", "--quiet", "main", "-m", "merge main")
    site.git("push", "--quiet", "origin", "next")
    site.git("tag", "next", "next~1")
    site.git("push", "--quiet", "origin", "refs/tags/next")
    with pytest.raises(OptionError, match="ref 'next' is a tag and a branch. Say refs/tags/next or refs/heads/next"):
        site.do(release="3.0.0", ref="next")
    site.commit("and more", {"apps/cart/a": "x"}, push=False)
    site.git("push", "--quiet", "origin", "HEAD:refs/heads/next")
    done = site.do(release="3.0.0", ref="refs/heads/next")
    assert done["warnings"] == ["refs/heads/next also changes 1 files outside apps/shop, such as A apps/cart/a"]
    assert site.file() == "image: shop:3.0.0"


def test_a_history_that_was_rewritten(site: Site) -> None:
    site.commit("root", {"README": "x"})
    site.good("1.0.0")
    good = site.head()
    site.deploy("2.0.0")
    site.git("reset", "--quiet", "--hard", "HEAD~2")
    other = site.image("9", push=False)
    site.git("push", "--quiet", "--force", "origin", f"{other}:refs/heads/main")
    for wish in ({}, {"to": "1.0.0"}):
        with pytest.raises(PlaceError, match=f"cannot go back to release 1.0.0: main no longer contains .*{good[:10]}"):
            site.back(**wish)
    with pytest.raises(PlaceError, match="release 1.0.0 is not in the history of main any more"):
        site.do(release="1.0.0")
    assert site.head() == other
    assert [known["complete"] for known in site.look()["releases"]] == [False, False]


def test_a_repository_that_is_cut_off(site: Site) -> None:
    bad_release(site)
    shallow = site.bare.parent / "shallow.git"
    site.git("clone", "--quiet", "--bare", "--depth=1", site.url, str(shallow))
    site.git("fetch", "--quiet", "--depth=1", "origin", "refs/tags/*:refs/tags/*", cwd=shallow)
    with pytest.raises(PlaceError, match="release 1.0.0: main no longer contains its commit .* or is cut off"):
        site.back(repository=f"file://{shallow}")
