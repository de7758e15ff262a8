# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failure cases of a canary, each on real places: nothing stays on the bad release but what is named."""

from __future__ import annotations

import json
import signal
import time

import pytest

OLD = {"web1": "1.0.0", "web2": "1.0.0", "web3": "1.0.0", "web4": "1.0.0"}
GOOD = dict.fromkeys(OLD, "2.0.1")


def stored(shop, name: str, release: str) -> dict:
    return json.loads((shop.place(name) / "releases" / release / ".release.json").read_text())


@pytest.mark.demo_sized
def test_a_good_release_is_promoted_everywhere_and_marked_known_good(shop) -> None:
    run = shop.play("2.0.1")
    assert run.process.returncode == 0, run.output
    assert shop.current() == GOOD
    assert shop.last().state == "done"
    assert all(stored(shop, name, "2.0.1")["known_good"] for name in OLD)
    assert "2.0.1 passed its bake" in run.output
    assert shop.holder() is None


@pytest.mark.demo_sized
def test_a_bad_release_is_caught_at_the_first_step_and_never_reaches_the_others(shop) -> None:
    run = shop.play("2.0.0")
    assert run.process.returncode != 0
    assert shop.current() == OLD
    last = shop.last()
    assert (last.state, last.outcome["bake"]["verdict"], last.outcome["bake"]["gate"]) == ("undone", "fail", "errors")
    assert last.outcome["verified"]["verdict"] == "recovered"
    assert stored(shop, "web1", "2.0.0")["bad"]
    assert not (shop.place("web2") / "releases" / "2.0.0").exists()
    message = next(line for line in run.lines if "was taken back" in line)
    for part in ("errors failed", "canary", "bad of", "web1 is back on 1.0.0", "recovered"):
        assert part in message, message


def test_a_release_that_was_found_bad_goes_out_again_only_when_somebody_says_so(shop) -> None:
    shop.play("2.0.0")
    run = shop.play("2.0.0")
    assert run.process.returncode != 0
    assert "2.0.0 was found bad on web1: errors failed" in run.output
    assert len(shop.rollouts()) == 1
    shop.play("2.0.0", canary_retry_bad=True)
    assert len(shop.rollouts()) == 2
    assert shop.current() == OLD


@pytest.mark.parametrize("bad_place", ["web2", "web3"])
def test_a_release_that_turns_bad_at_a_later_step_goes_back_on_every_place(shop, bad_place: str) -> None:
    shop.break_release(bad_place, "2.0.1", errors=0.6)
    run = shop.play("2.0.1", canary_steps=[1, 2, 3])
    assert run.process.returncode != 0
    assert shop.current() == OLD
    assert shop.last().state == "undone"


@pytest.mark.parametrize("broken", ["web1", "web3", "web4"])
def test_a_release_that_does_not_start_on_a_place_goes_back_on_every_place(shop, broken: str) -> None:
    shop.break_release(broken, "2.0.1", start=False)
    run = shop.play("2.0.1")
    assert run.process.returncode != 0
    assert shop.current() == OLD
    assert f"could not be released to {broken}" in run.output
    assert "does not start here" in run.output


def test_a_place_down_before_the_rollout_changes_nothing(shop) -> None:
    shop.take_down("web3")
    run = shop.play("2.0.1")
    assert run.process.returncode != 0
    assert shop.current() == OLD
    assert not shop.ledger.exists() or not shop.rollouts()


def test_a_place_lost_in_the_middle_is_unresolved_and_reconcile_takes_it_back_when_it_returns(shop) -> None:
    run = shop.run(shop.canary("2.0.0", canary_steps=[2]))
    run.until("bake 1/")
    shop.take_down("web2")
    assert run.end() != 0
    assert shop.current() == {**OLD, "web2": "2.0.0"}
    assert shop.last().state == "unresolved"
    assert "web2 could NOT go back" in run.output
    again = shop.play("2.0.1")
    assert again.process.returncode != 0
    assert shop.current() == {**OLD, "web2": "2.0.0"}
    shop.bring_up("web2")
    alive, shown = shop.folder / "heartbeat.json", shop.folder / "selfheal.prom"
    settled = shop.reconcile(delivery_heartbeat={"path": str(alive)}, delivery_metrics={"path": str(shown)})
    assert settled.process.returncode == 0, settled.output
    assert shop.current() == OLD
    assert shop.last().state == "undone"
    assert alive.exists() and "selfheal_chain_ok 1.0" in shown.read_text()


def test_a_place_whose_way_back_fails_does_not_stop_the_others(shop) -> None:
    run = shop.run(shop.canary("2.0.0", canary_steps=[2]))
    run.until("bake 1/")
    shop.break_release("web1", "1.0.0", start=False)
    assert run.end() != 0
    assert shop.current()["web2"] == "1.0.0"
    assert shop.last().state == "unresolved"
    assert "web1 could NOT go back" in run.output
    shop.mend("web1")
    assert shop.reconcile().process.returncode == 0
    assert shop.last().state == "undone"


def test_an_unreachable_gate_host_holds_and_pages_instead_of_judging(make_shop) -> None:
    shop = make_shop()
    contents = json.loads((shop.folder / "inventory.json").read_text())
    contents["gate"] = {"hosts": {"gate1": {"ansible_connection": "ssh"}}}
    (shop.folder / "inventory.json").write_text(json.dumps(contents))
    with shop.load():
        run = shop.play("2.0.1", canary_gate_host="gate1")
    assert run.process.returncode != 0
    assert shop.current()["web2"] == "1.0.0"


def test_check_mode_shows_the_plan_and_changes_nothing(shop) -> None:
    run = shop.play("2.0.1", "--check")
    assert run.process.returncode == 0, run.output
    assert shop.current() == OLD
    assert not shop.ledger.exists() or not shop.rollouts()


def test_check_mode_shows_the_plan_on_places_that_have_seen_a_token(shop) -> None:
    assert shop.play("2.0.1").process.returncode == 0
    run = shop.play("2.0.0", "--check")
    assert run.process.returncode == 0, run.output
    assert shop.current() == GOOD
    assert shop.last().release == "2.0.1"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_run_that_dies_leaves_no_bake_alive_and_is_undone_by_reconcile(make_shop, end: int) -> None:
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 60, "deadline": 120, "warm_up": 0, "verify_for": 1})
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_lease_ttl=5))
        run.until("bake 1/")
        run.kill(end)
        run.end()
        died = time.monotonic()
        looks = len([line for line in run.lines if "bake 1/" in line])
        while shop.last().state != "undone":
            shop.reconcile()
            assert time.monotonic() - died < 5 + 30, run.output
        assert shop.current() == OLD
        assert len([line for line in run.lines if "bake 1/" in line]) <= looks + 2


def test_two_runs_at_once_the_second_says_who_holds_it(make_shop) -> None:
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 8, "deadline": 20, "warm_up": 0, "verify_for": 1})
    with shop.load():
        first = shop.run(shop.canary("2.0.1"))
        first.until("bake 1/")
        second = shop.play("2.0.0")
        assert second.process.returncode != 0
        assert "is not finished" in second.output and "holds it" in second.output
        assert first.end() == 0, first.output
    assert shop.current() == GOOD


def test_a_person_aborts_a_bake(make_shop) -> None:
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 15, "deadline": 20, "warm_up": 0, "verify_for": 1})
    with shop.load():
        run = shop.run(shop.canary("2.0.1"))
        run.until("bake 1/")
        assert shop.say("abort", "checkout is broken").process.returncode == 0
        assert run.end() != 0
    assert shop.current() == OLD
    assert "aborted by" in run.output and "checkout is broken" in run.output
    assert not stored(shop, "web1", "2.0.1").get("bad")


def test_a_person_promotes_ahead_of_the_gates_only_with_a_reason(make_shop) -> None:
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 15, "deadline": 20, "warm_up": 0, "verify_for": 1})
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_steps=["100%"]))
        run.until("bake 1/")
        refused = shop.say("promote")
        assert refused.process.returncode != 0 and "reason" in refused.output
        assert shop.say("promote", "INC-1").process.returncode == 0
        assert run.end() == 0, run.output
    assert shop.current() == GOOD


def test_a_person_holds_and_resumes(make_shop) -> None:
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 6, "deadline": 30, "warm_up": 0, "verify_for": 1})
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_steps=["100%"]))
        run.until("bake 1/")
        shop.say("hold")
        run.until("held by")
        shop.say("resume")
        assert run.end() == 0, run.output
    assert shop.current() == GOOD


def test_without_data_nothing_is_promoted_and_the_rollout_is_held_until_its_deadline(make_shop) -> None:
    bake = {
        "look_every": 0.5,
        "min_bake": 1,
        "deadline": 3,
        "extend": 0,
        "warm_up": 0,
        "verify_for": 1,
        "hold_deadline": 4,
    }
    shop = make_shop(bake=bake)
    run = shop.play("2.0.1")
    assert run.process.returncode != 0
    assert shop.last().state == "held"
    assert "is held where it is" in run.output
    assert shop.current() == {**OLD, "web1": "2.0.1"}
    deadline = time.monotonic() + 60
    while shop.last().state == "held" and time.monotonic() < deadline:
        shop.reconcile()
    assert shop.last().state == "undone"
    assert shop.current() == OLD


def test_a_first_release_that_fails_stays_named_and_does_not_block_the_mended_one(make_shop) -> None:
    shop = make_shop(first=False)
    shop.place("web2").mkdir(parents=True)
    shop.break_release("web2", "1.0.0", start=False)
    with shop.load():
        run = shop.play("1.0.0", canary_first_release=True)
        assert run.process.returncode != 0
        assert "web2" in run.output and "no known good release is there to go back to" in run.output
        assert shop.last().state == "undone"
        shop.mend("web2")
        mended = shop.play("2.0.1", canary_first_release=True)
    assert mended.process.returncode == 0, mended.output
    assert shop.current() == GOOD
