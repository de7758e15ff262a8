# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend `git` when something is wrong: a clear error, nothing changed, and no password anywhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any, Dict
from urllib.parse import quote

import pytest
from git_http import PASSWORD, USER, served
from git_site import Site

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, PlaceError


@pytest.fixture
def bad(site: Site) -> Site:
    """A site that could go back."""
    site.good("1.0.0")
    site.deploy("2.0.0")
    return site


def test_no_option_becomes_a_command(site: Site, tmp_path: Path) -> None:
    site.image("1.0.0")
    before = site.refs()
    words = ("--upload-pack=touch made", "-omade", "ext::sh -c touch% made", "--output=made", "../made")
    for option in ("repository", "branch", "ref", "path", "release", "to"):
        for word in words:
            state = "known_good" if option == "to" else "deployed"
            given: Dict[str, Any] = {"release": "1.0.0", "state": state, option: word}
            with pytest.raises(DeliveryError):
                site.do(**given)
    # any text names a service: it is only ever part of a tag's name
    assert site.do(dry=True, release="1.0.0", service="--upload-pack=touch made")["current"] == "1.0.0"
    assert site.refs() == before
    assert not [path for path in tmp_path.rglob("*") if "made" in path.name]


def test_what_is_not_there_is_told_with_the_nearest_name(bad: Site) -> None:
    bad.git("push", "--quiet", "origin", "HEAD:refs/heads/production", "HEAD:refs/tags/v2.0.0")
    cases: "list[tuple[Dict[str, Any], str]]" = [
        ({"branch": "prodution"}, "no branch 'prodution' .did you mean 'production'.*There are: main, production"),
        ({"release": "3", "ref": "v2.0.O"}, "no tag, branch or commit 'v2.0.O' .did you mean 'v2.0.0'"),
        ({"release": "3", "path": "apps/shp"}, "has nothing at path 'apps/shp' .did you mean 'apps/shop'"),
        ({"repository": f"{bad.url}x"}, "there is no git repository at file://.*site.gitx"),
        ({"repository": "/nowhere/at/all"}, "there is no git repository at /nowhere/at/all"),
        (
            {"state": "known_good", "to": "7"},
            "cannot go back to release 7: it is not on this place.*good here: 1.0.0",
        ),
        ({"state": "promoted", "release": "9"}, "cannot promote release 9: 2.0.0 is current"),
        ({"key_file": "/no/key"}, "key_file /no/key is not a file"),
        ({"author_name": "a <b>"}, "author_name cannot stand in a commit"),
        ({"timeout": 0.0}, "timeout is not a number of seconds above 0"),
        ({"service": ""}, "service is not given"),
    ]
    before = bad.refs()
    for given, reason in cases:
        with pytest.raises(DeliveryError, match=reason):
            bad.do(**{"release": "2.0.0", **given})
    assert bad.refs() == before


def test_an_empty_repository(site: Site) -> None:
    with pytest.raises(PlaceError, match="has no branch yet. Push a first commit to main"):
        site.look()


def test_a_hook_that_refuses_is_quoted(bad: Site) -> None:
    bad.hook("pre-receive", "echo 'main is frozen until Monday' >&2; exit 1")
    before = bad.refs()
    with pytest.raises(
        PlaceError, match="refused the push: main is frozen until Monday. Let these credentials"
    ) as raised:
        bad.back(mark_bad="x")
    assert (raised.value.details["changed"], raised.value.details["current"]) == (False, "2.0.0")
    bad.hook("pre-receive", "exit 0")
    # one that only refuses the branch stops the tag with it
    bad.hook("update", 'test "$1" = refs/heads/main || exit 0; echo protected >&2; exit 1')
    with pytest.raises(PlaceError, match="refused the push: .*protected"):
        bad.back()
    assert bad.refs() == before


def test_a_tag_that_is_in_the_way(site: Site) -> None:
    site.image("1.0.0")
    site.git("push", "--quiet", "origin", "HEAD:refs/tags/selfheal")
    with pytest.raises(
        PlaceError, match="refs/tags/selfheal in .* is in the way of our tags below selfheal/. Rename it"
    ):
        site.do(release="1.0.0")


def test_a_server_that_is_gone_or_silent(site: Site) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(PlaceError, match=f"http://127.0.0.1:{port}/x.git cannot be reached"):
            site.look(repository=f"http://user:secret@127.0.0.1:{port}/x.git")
        bound.listen()
        with pytest.raises(PlaceError, match="was not done within 0.5 s. Raise timeout"):
            site.look(repository=f"http://127.0.0.1:{port}/x.git", timeout=0.5)


def test_over_http_with_a_password_in_the_url(bad: Site) -> None:
    with served(bad.bare.parent) as server:
        url = f"http://{USER}:{quote(PASSWORD, safe='')}@{server.host}/site.git"
        bad.image("3.0.0", push=False)
        bad.git("push", "--quiet", "origin", "HEAD:refs/heads/next")
        assert bad.do(repository=url, release="3.0.0", ref="next")["current"] == "3.0.0"
        assert bad.back(repository=url)["current"] == "1.0.0"
        assert bad.file() == "image: shop:1.0.0"
        wrong = url.replace(quote(PASSWORD, safe=""), "wr0ng-passw0rd")
        with pytest.raises(PlaceError, match="/site.git does not let us in .*Give credentials") as raised:
            bad.look(repository=wrong)
        assert "wr0ng-passw0rd" not in str(raised.value.details) + raised.value.message
        with pytest.raises(PlaceError, match="does not let us in"):  # nobody is asked
            bad.look(repository=f"http://{server.host}/site.git")
        bad.git("config", "http.receivepack", "false", cwd=bad.bare)
        with pytest.raises(PlaceError, match="does not let us in .*403"):
            bad.do(repository=url, release="2.0.0")
        with pytest.raises(PlaceError, match="there is no git repository at http") as raised:
            bad.look(repository=f"{url}x")
        assert PASSWORD not in raised.value.message and quote(PASSWORD, safe="") not in raised.value.message


def test_the_key_file_is_what_ssh_takes(bad: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an ssh that notes its options and reaches this machine."""
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin/ssh"
    ssh.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}{os.pathsep}{os.environ['PATH']}")
    key = tmp_path / "the key"
    key.touch()
    assert bad.back(repository=f"ssh://git@site.example{bad.bare}", key_file=str(key))["current"] == "1.0.0"
    assert bad.look(repository=f"git@site.example:{bad.bare}")["current"] == "1.0.0"
    first, *_others, last = (tmp_path / "asked").read_text().splitlines()
    assert f"-i {key} -o IdentitiesOnly=yes -o BatchMode=yes" in first
    assert "git@site.example" in first and "git@site.example" in last and str(key) not in last
