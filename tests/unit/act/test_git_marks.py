# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of tags: what follows from it, and what may be thrown away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act.git.errors import Moved, gone_wrong, refused
from ansible_collections.selfheal.delivery.plugins.module_utils._act.git.marks import (
    Mark,
    View,
    mark,
    number_of,
    prefix,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.plan import known_good

WORDS = st.text(max_size=8)
ENTRIES = st.builds(
    Mark,
    number=st.integers(1, 999999),
    commit=st.text("0123456789abcdef", min_size=40, max_size=40),
    state=st.sampled_from(["deployed", "known_good", "promoted"]),
    release=st.text(min_size=1, max_size=8),
    content=WORDS,
    at=st.floats(0, 4e9),
    bad=WORDS,
    unproven=st.booleans(),
    token=st.none() | st.integers(0),
)


def entry(number: int, state: str, release: str, **given: Any) -> Mark:
    return Mark(number, f"commit {number}", state, release, f"tree {release}", float(number), **given)


def view(*marks: Mark, content: str = "", merged: "Tuple[int, ...] | None" = None) -> View:
    numbers = tuple(one.number for one in marks) if merged is None else merged
    last = [one.content for one in marks if one.moves][-1:]
    return View("head", content or "".join(last), "f" * 40, marks, frozenset(numbers), len(marks) + 1)


@given(ENTRIES)
def test_an_entry_is_read_as_it_was_written(written: Mark) -> None:
    assert mark(written.number, written.commit, written.body) == written
    assert "\n" not in written.body


@pytest.mark.parametrize("body", ["", "x", "[]", "{}", '{"state": "x", "release": "1"}', '{"state": "deployed"}'])
def test_other_tags_are_no_entries(body: str) -> None:
    assert mark(1, "c", body) is None


def test_names() -> None:
    shop = prefix("shop", "main", "apps/shop")
    assert shop.startswith("selfheal/shop/")
    assert (
        len(
            {shop, prefix("shop", "main", ""), prefix("shop", "prod", "apps/shop"), prefix("shop", "main/apps", "shop")}
        )
        == 4
    )
    assert prefix("--a b..lock/\u00e4", "main", "").startswith("selfheal/a-b-lock/")
    assert prefix("\u00e4", "main", "") != prefix("\u00f6", "main", "")
    assert (number_of(f"refs/tags/{shop}/000017"), number_of(f"{shop}/v1"), number_of(f"{shop}/17x")) == (
        17,
        None,
        None,
    )


def test_what_follows_from_a_journal() -> None:
    one, good = entry(1, "deployed", "1", by="ann"), entry(2, "promoted", "1", rollout="r1")
    two = entry(3, "deployed", "2", before="1", rollout="r2", token=5)
    back = entry(4, "known_good", "1", before="2", bad="slow", rollout="r2", token=6)
    forward = view(one, good, two)
    assert (forward.seen.current, forward.seen.previous, known_good(forward.seen)) == ("2", "1", "1")
    after = forward.after(back)
    assert (after.seen.current, after.seen.token, after.head, after.free) == ("1", 6, "commit 4", 5)
    assert [(known.id, bool(known.known_good), bool(known.bad)) for known in after.seen.releases] == [
        ("2", False, True),
        ("1", True, False),
    ]
    assert after.seen.journal and after.seen.journal.brought == "2"
    assert view(one, good, two, back, entry(5, "promoted", "2")).seen.releases[0].bad is None
    undone = view(one, good, replace(back, before="1", release="0", unproven=True))
    assert undone.seen.find("1").known_good is None  # type: ignore[union-attr]


def test_what_is_current() -> None:
    one, two = entry(1, "deployed", "1"), entry(2, "deployed", "2", before="1")
    assert view(one, two, content="tree 1").seen.current == "1"  # reverted by hand
    stray = view(one, two, content="tree of nobody")
    assert (stray.recorded, stray.seen.current) == (False, "f" * 12)
    assert View("head").seen.current is None
    assert not view(one, two, merged=(1,)).seen.find("2").complete  # type: ignore[union-attr]
    same = entry(3, "deployed", "3", before="2")
    assert view(one, two, replace(same, content="tree 2")).seen.current == "3"


def test_an_adopted_release_can_be_gone_back_to() -> None:
    first = entry(1, "deployed", "1", before="abc", adopted="commit 0", adopted_content="tree 0")
    seen = view(first)
    assert seen.commits == {"abc": "commit 0", "1": "commit 1"}
    assert [(known.id, known.complete, known.trusted) for known in seen.seen.releases] == [
        ("1", True, False),
        ("abc", True, False),
    ]


def test_only_what_nothing_hangs_on_may_go() -> None:
    marks = (
        entry(1, "deployed", "1", token=1),
        entry(2, "promoted", "1", token=1),
        entry(3, "deployed", "2", before="1", token=9),
        entry(4, "known_good", "1", before="2", bad="x"),
        entry(5, "deployed", "3", before="1"),
        entry(6, "promoted", "3"),
    )
    kept = view(*marks)
    assert [old.number for old in kept.disposable(("1",))] == [1, 2]  # 4 says that 2 is bad
    assert [old.number for old in kept.disposable(("1", "2"))] == [1, 2, 4]  # 3 has the highest token
    assert kept.disposable(("3",)) == ()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("fatal: Authentication failed for 'https://ann:pw@h/x/'", "does not let us in"),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", "does not let us in"),
        ("git@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", "does not let us in"),
        ("Host key verification failed.\nfatal: Could not read", "SSH host key of W is not known"),
        ("remote: Repository not found.\nfatal: repository 'https://h/x/' not found", "there is no git repository"),
        ("fatal: unable to access 'https://h/': Could not resolve host: h", "cannot be reached"),
        ("fatal: detected dubious ownership in repository at '/x'", "git does not trust W"),
        ("error: remote unpack failed: unable to create temporary object directory", "cannot be written"),
        ("fatal: the receiving end does not support --atomic push", "cannot take a commit and its tag together"),
        ("fatal: something new", "git failed on W: fatal: something new"),
        ("", "git says nothing"),
    ],
)
def test_what_git_says_becomes_what_to_do(said: str, told: str) -> None:
    message = gone_wrong(said, "W", "main", list).message
    assert told in message and "pw" not in message


def test_a_push_is_late_or_refused() -> None:
    late = [
        "!\trefs/heads/main:refs/heads/main\t[rejected] (fetch first)\n!\ta:b\t[rejected] (atomic push failed)",
        "!\ta:refs/tags/x\t[rejected] (already exists)",
        "!\ta:b\t[remote rejected] (cannot lock ref 'refs/heads/main': is at 1 but expected 2)",
        "!\ta:b\t[remote rejected] (failed to update ref)",
    ]
    assert all(isinstance(refused(f"To W\n{said}\nDone", "", "W"), Moved) for said in late)
    github = "remote: error: GH006: Protected branch update failed for refs/heads/main.\nremote: \nTo W\n"
    found = refused("!\ta:b\t[remote rejected] (protected branch hook declined)", github, "W")
    assert "W refused the push: error: GH006: Protected branch update failed" in found.message
    ruled = refused("!\ta:b\t[remote rejected] (push declined due to repository rule violations)", "", "W")
    assert "repository rule violations" in ruled.message and not isinstance(ruled, Moved)
    stuck = "remote: error: Unable to create '/x/main.lock': Permission denied"
    found = refused("!\ta:b\t[remote rejected] (atomic transaction failed)", stuck, "W")
    assert "W cannot be written" in found.message and not isinstance(found, Moved)
