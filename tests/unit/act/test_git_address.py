# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What git is let see as a repository, a branch and a path, and what a reader is let see of it."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act.git.address import (
    Address,
    address,
    branch_name,
    person,
    plain,
    subfolder,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._act.git.options import secrets
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("https://git.example.org/a/b.git", "https://git.example.org/a/b.git", "https://git.example.org/a/b.git"),
        ("https://ann:s3cret@h:8443/b?x=s3cret", "https://ann@h:8443/b?x=s3cret", "https://h:8443/b"),
        ("https://:t0ken@h/b", "https://h/b", "https://h/b"),
        ("https://t0ken@h/b", "https://t0ken@h/b", "https://h/b"),
        ("ssh://git@h:2222/~/b", "ssh://git@h:2222/~/b", "ssh://h:2222/~/b"),
        ("git@git.example.org:platform/apps.git", "git@git.example.org:platform/apps.git", None),
        ("host:apps", "host:apps", None),
        ("/srv/git/apps.git", "/srv/git/apps.git", None),
        ("file:///srv/git/apps.git", "file:///srv/git/apps.git", None),
    ],
)
def test_addresses(text: str, url: str, shown: "str | None") -> None:
    found = address(text)
    assert (found.url, found.shown) == (url, shown or text)
    assert "s3cret" not in found.shown and "t0ken" not in found.shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "apps.git",
        "./apps",
        "--upload-pack=touch x",
        "-u",
        "ext::sh -c id",
        "fd::7",
        "host::x",
        "ftp://h/x",
        "https:///x",
        "ssh://-oProxyCommand=id/x",
        "ssh://-oProxyCommand=id@h/x",
        "-oProxyCommand=id:x",
        "https://h/a\nb",
        "https://[::1/x",
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(OptionError, match="is not the address of a git repository") as raised:
        address(text)
    assert not text or text not in raised.value.message


def test_a_password_goes_to_a_credential_store_and_is_a_secret() -> None:
    found = address("https://ann:p%2Fw@h:1/x")
    assert found == Address("https://ann@h:1/x", "ann", "p%2Fw")
    assert found.credential == "https://ann:p%2Fw@h:1"
    assert set(secrets({"repository": "https://ann:p%2Fw@h:1/x"})) == {"p%2Fw", "p/w", "ann@"}
    assert secrets({"repository": "https://t0ken@h/x"}) == ("t0ken@",)
    assert secrets({"repository": "git@h:x"}) == secrets({"repository": "--x"}) == ()


@given(st.text(st.sampled_from("ab/.@{-~^:?*[\\ lock\x7f\u00e4"), min_size=1, max_size=12))
@example("a.lock/b")
@example("@")
@example("a@{b")
def test_no_name_passes_that_git_would_refuse(text: str) -> None:
    try:
        branch_name(text)
    except OptionError:
        return
    assert subprocess.run(["git", "check-ref-format", "--branch", text], capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["main", "feature/x-1", "v1.0.0", "release+1", "\u00fcml\u00e4ut", "0a1b2c3d"])
def test_usual_names_pass(name: str) -> None:
    assert branch_name(name) == name


@pytest.mark.parametrize(
    ("text", "path"), [("", ""), (".", ""), ("apps/shop/", "apps/shop"), ("a b/-c", "a b/-c"), ("..a", "..a")]
)
def test_paths(text: str, path: str) -> None:
    assert subfolder(text) == path


@pytest.mark.parametrize("text", ["/etc", "../x", "a/../b", "a//b", "./a", ".git/config", "a/.GIT/x", "a\nb", "/"])
def test_paths_that_leave_the_repository(text: str) -> None:
    with pytest.raises(OptionError, match="is not a path inside the repository"):
        subfolder(text)


def test_words_of_others_become_one_harmless_line() -> None:
    assert plain("fatal: https://ann:pw@h/x\n\x1b[31mno") == "fatal: https://h/x  [31mno"
    assert plain("\udcff" + "x" * 400, 3) == "?xx\u2026"
    assert person(" Ann ", "a@b") == ("Ann", "a@b")
    for name, mail in (("", "a@b"), ("Ann\n", "a@b"), ("Ann", "<a@b>")):
        with pytest.raises(OptionError, match="cannot stand in a commit"):
            person(name, mail)
