# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flag turned on step by step, from ansible-playbook to what users are served, judged by a real Prometheus."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Dict, Iterator, Tuple

import pytest
from flag_shop import BAKE, FLAG, FlaggedShop, FlagSite, flagged

Running = Tuple[FlaggedShop, str]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with flagged(tmp_path_factory.mktemp("flagged")) as shop_and_url:
        yield shop_and_url


@pytest.fixture
def shop(running: Running) -> FlaggedShop:
    """Off for everybody, and good."""
    shop, _url = running
    shop.rate = 0.0
    shop.flags.write_text(json.dumps({FLAG: {"enabled": False, "percentage": 0}, "other": True}, indent=2))
    return shop


@pytest.fixture
def site(running: Running, shop: FlaggedShop, tmp_path: Path, ansible_env: Dict[str, str]) -> FlagSite:
    return FlagSite(tmp_path, ansible_env, running[1], shop.flags)


def test_a_bad_flag_is_off_again_and_a_good_one_is_on_for_all_until_it_is_rolled_back(
    site: FlagSite, shop: FlaggedShop
) -> None:
    shop.rate = 0.2
    bad = site.play("canary", canary_release="on", canary_traffic_steps=[10, 50, 100])
    assert bad.returncode != 0, bad.stdout
    assert shop.share() == 0, bad.stdout
    last = site.last()
    assert (last.state, last.outcome["bake"].get("verdict")) == ("undone", "fail"), bad.stdout
    assert last.outcome["verified"]["verdict"] == "recovered", bad.stdout
    assert json.loads(shop.flags.read_text())["other"] is True
    # to try it again is a person's decision, also when it is mended
    shop.rate = 0.0
    again = site.play("canary", canary_release="on")
    assert again.returncode != 0 and "on was found bad in its last rollout: errors failed" in again.stdout
    good = site.play("canary", canary_release="on", canary_traffic_steps=[10, 50, 100], canary_retry_bad=True)
    assert good.returncode == 0, good.stdout
    assert all(f"bake {step}/3" in good.stdout for step in (1, 2, 3))
    assert "no old place is left to compare with" in good.stdout
    assert (shop.share(), site.last().state) == (100, "done")
    nothing = site.play("canary", canary_release="on")
    assert nothing.returncode == 0 and "nothing to do" in nothing.stdout, nothing.stdout
    # in production for a while, and bad after all
    shop.rate = 0.2
    site.write(guard={"mode": "act", "alerts": ["SearchErrors"], "cooldown": 0})
    alert = {"kind": "alert", "name": "SearchErrors", "id": "a1"}
    back = site.play("rollback", rollback_trigger=alert, rollback_confirm_window=30)
    assert back.returncode == 0, back.stdout
    last = site.last()
    assert (last.kind, last.state, last.release) == ("rollback", "done", "on")
    assert last.outcome["verified"]["verdict"] == "recovered", back.stdout
    assert shop.share() == 0
    twice = site.play("rollback", rollback_reason="to be sure")
    assert twice.returncode == 0 and "nothing to roll back" in twice.stdout, twice.stdout


def test_a_flag_whose_controller_was_killed_is_off_again(site: FlagSite, shop: FlaggedShop) -> None:
    site.write(bake={**BAKE, "min_bake": 50})
    run = site.begin("canary", canary_release="on", canary_traffic_steps=[10], canary_lease_ttl=4)
    run.until("bake 1/1")
    assert 5 < shop.share() < 15
    run.kill()
    deadline = time.monotonic() + 60
    while site.play("reconcile").returncode or site.last().state != "undone":
        assert time.monotonic() < deadline, "it is undone"
    assert shop.share() == 0


def test_what_no_flag_can_be_is_refused_before_anything_is_begun(site: FlagSite, shop: FlaggedShop) -> None:
    before = shop.flags.read_text()
    plain = {**site.options, "flag": "other"}
    for variables, policy, said in (
        ({"canary_release": True}, {}, "Write it in quotes"),
        ({"canary_release": "on"}, {"backend_options": plain}, "is one value for all, so it has no percentage"),
        (
            {"canary_release": "on"},
            {"source": {**site.policy["source"], "place_label": "variant"}},
            "Correct the name or the labels",
        ),
    ):
        site.write(**policy)
        refused = site.play("canary", **variables)
        assert refused.returncode != 0 and said in refused.stdout, refused.stdout
        assert not site.rollouts()
    assert shop.flags.read_text() == before
