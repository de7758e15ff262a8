# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""git_release and git_release_info as people call them: in a play, with the ledger, and with a password in the URL."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List
from urllib.parse import quote

from git_http import PASSWORD, USER, served
from git_site import ALONE, Site

RELEASE, INFO, ROLLOUT, LEDGER = (
    f"selfheal.delivery.{name}" for name in ("git_release", "git_release_info", "rollout", "ledger_info")
)
LEASE = {"rollout": "{{ begun.rollout.id }}", "lease": "{{ begun.lease }}"}
Task = Dict[str, Any]


def told(folder: Path, env: Dict[str, str], tasks: List[Task]) -> "tuple[List[Dict[str, Any]], str]":
    """Every task's result, and what the run showed at its most talkative."""
    steps: List[Task] = [{"ansible.builtin.set_fact": {"told": []}}]
    for number, task in enumerate(tasks):
        name = task.get("register", f"result{number}")
        steps += [
            {"register": name, "ignore_errors": True, **task},
            {"ansible.builtin.set_fact": {"told": "{{ told + [%s] }}" % name}},
        ]
    result = folder / "told.json"
    steps.append({"ansible.builtin.copy": {"content": "{{ told | to_json }}", "dest": str(result)}, "diff": False})
    book = folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": steps}]))
    done = subprocess.run(
        ["ansible-playbook", "-vvv", "--diff", str(book)],
        env={**env, **ALONE, "SELFHEAL_LEDGER": str(folder / "ledger.sqlite")},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: List[Dict[str, Any]] = json.loads(result.read_text())
    return results, done.stdout + done.stderr


def test_a_rollout_in_a_play(site: Site, tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    site.good("1.0.0")
    for version in ("2.0.0", "3.0.0"):
        site.image(version, push=False)
        site.git("push", "--quiet", "origin", f"HEAD:refs/tags/v{version}")
    with served(site.bare.parent) as server:
        password = quote(PASSWORD, safe="")
        where = {
            "service": "shop",
            "repository": f"http://{USER}:{password}@{server.host}/site.git",
            "path": "apps/shop",
        }
        deploy = {**where, "release": "2.0.0", "ref": "v2.0.0"}
        intent = {"fleet": ["localhost"]}
        begin = {
            ROLLOUT: {"state": "begun", "service": "shop", "release": "2.0.0", "intent": intent},
            "register": "begun",
        }
        close = {ROLLOUT: {"state": "closed", "outcome": "done", "service": "shop", **LEASE}}
        results, shown = told(
            tmp_path,
            ansible_env,
            [
                {RELEASE: deploy, "check_mode": True},
                begin,
                {RELEASE: {**deploy, **LEASE}},
                {RELEASE: {**deploy, **LEASE}},
                {RELEASE: {**where, **LEASE, "release": "2.0.0", "state": "promoted"}},
                close,
                {INFO: where},
                {RELEASE: {**where, "release": "3.0.0", "ref": "v3.0.0"}},
                {RELEASE: {**where, "release": "3.0.0", "state": "known_good", "mark_bad": "slow"}},
                {RELEASE: {**where, "release": "3.0.0", "branch": "mian"}},
                {RELEASE: {**where, "state": "promoted"}},
                {LEDGER: {"service": "shop", "limit": 100}},
            ],
        )
    would, begun, new, again, good, _closed, info, _bad, back, wrong, lacking, ledger = results
    assert (would["changed"], would["current"], would["diff"]["after"]["files"]) == (
        True,
        "2.0.0",
        ["M apps/shop/values.yaml"],
    )
    assert (new["changed"], new["before"], new["recorded"]) == (True, "1.0.0", True)
    assert not again["changed"]
    assert (good["actions"], good["known_good"]) == (["marked 2.0.0 as known good"], "1.0.0")
    assert (info["current"], info["previous"], info["known_good"]) == ("2.0.0", "1.0.0", "1.0.0")
    assert info["token"] == begun["lease"]["token"]
    assert info["releases"][0]["known_good"]["rollout"] == begun["rollout"]["id"]
    assert (back["current"], back["actions"][0]) == ("2.0.0", "marked 3.0.0 as bad")
    assert site.file() == "image: shop:2.0.0"
    assert "has no branch 'mian' (did you mean 'main'?)" in wrong["msg"]
    assert "state is promoted but all of the following are missing: release" in lacking["msg"]
    assert not wrong["changed"] and not lacking["changed"]
    entries = [entry for entry in ledger["entries"] if entry["kind"] in ("action", "outcome")]
    assert len(entries) == 12
    assert '"current": "2.0.0"' in shown
    assert PASSWORD not in shown and password not in shown


def test_the_playbook_of_the_page(site: Site, tmp_path: Path, checkout: Path, ansible_env: Dict[str, str]) -> None:
    page = (checkout / "docs/backends/git.md").read_text(encoding="utf-8")
    (tmp_path / "play.yml").write_text(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])
    (tmp_path / "hosts").write_text("[shop]\nproduction ansible_connection=local\n")
    site.good("1.0.0")
    site.image("2.0.0", push=False)
    site.git("push", "--quiet", "origin", "HEAD:refs/tags/shop-2.0.0")
    given = {"apps_repository": site.url, "proven": False, "ansible_python_interpreter": sys.executable}
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts", "-e", json.dumps(given), "play.yml"],
        cwd=tmp_path,
        env={**ansible_env, **ALONE, "SELFHEAL_LEDGER": str(tmp_path / "ledger.sqlite")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site.file(), site.look()["releases"][0]["bad"]["reason"]) == ("image: shop:1.0.0", "5 % of requests failed")
    read = site.git("tag", "-n1", "-l", "selfheal/shop/*", cwd=site.bare)
    assert [re.sub(r"\s+", " ", line) for line in read.splitlines()] == re.findall(r"selfheal/shop/\S{8}/0.*", page)
