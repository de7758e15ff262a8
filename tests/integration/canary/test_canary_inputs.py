# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input gets a clear error and changes nothing; and beside the canary: watch, continue, reading along."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Dict, Iterator, List, Mapping

import ansible_runner
import pytest

OLD = dict.fromkeys(("web1", "web2", "web3", "web4"), "1.0.0")
GOOD = dict.fromkeys(OLD, "2.0.1")
RATIO: Dict[str, Any] = {"name": "errors", "bad": 'http_requests_total{code=~"5.."}', "total": "http_requests_total"}


def refused(shop, run, *told: str) -> None:
    """The play failed, said why, and no place, release or ledger knows of it."""
    assert run.process.returncode != 0, run.output
    for text in told:
        assert text in run.output, run.output
    assert shop.current() == dict.fromkeys(shop.names, "1.0.0")
    for name in shop.names:
        assert {path.name for path in (shop.place(name) / "releases").iterdir()} == {"1.0.0"}
    assert not shop.ledger.exists() or not shop.rollouts()


def stored(shop, name: str, release: str) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = json.loads((shop.place(name) / "releases" / release / ".release.json").read_text())
    return facts


@pytest.mark.parametrize(
    "variables, told",
    [
        ({"canary_steps": []}, "the canary steps are empty"),
        ({"canary_steps": [3, 1]}, "is smaller than the one before it"),
        ({"canary_steps": [5]}, "exceeds the 4 places"),
        ({"canary_steps": ["a few"]}, "neither a number of places nor a share"),
        ({"canary_release": "../../evil"}, "'../../evil' cannot name a release"),
        ({"delivery_service": "all"}, "all"),
        ({"delivery_service": "shap"}, "delivery_service must name an inventory group with hosts"),
        ({"delivery_service": "empty"}, "delivery_service must name an inventory group with hosts"),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(make_shop, variables: Dict[str, object], told: str) -> None:
    shop = make_shop()
    inventory = json.loads((shop.folder / "inventory.json").read_text())
    inventory["empty"] = {"hosts": {}}
    (shop.folder / "inventory.json").write_text(json.dumps(inventory))
    refused(shop, shop.play("2.0.1", **variables), told)


@pytest.mark.parametrize(
    "gate, told",
    [
        ({**RATIO, "maxx": 0.1}, "did you mean 'max'"),
        ({"name": "errors", "max": 0.1}, "errors"),
        ({**RATIO, "max": "low"}, "max"),
        ({**RATIO, "bad": "http_request_total"}, "http_request_total"),
        ({**RATIO, "max": 0.1, "source": {"type": "exposition", "url": "http://127.0.0.1:1/metrics"}}, "every place"),
    ],
    ids=["typo", "no query", "no number", "no such metric", "one page for all"],
)
def test_a_wrong_gate_is_refused_by_name(make_shop, gate: Dict[str, object], told: str) -> None:
    shop = make_shop(gates=[gate])
    refused(shop, shop.play("2.0.1"), "errors", told)


class Page(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        body = b"<html><body>Please log in</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Tests read no log."""


@contextmanager
def html() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", ["exposition", "prometheus"])
def test_a_source_that_answers_html_is_refused(make_shop, kind: str) -> None:
    with html() as url:
        shop = make_shop(source={"type": kind, "url": url})
        refused(shop, shop.play("2.0.1"), "HTML")


@pytest.mark.parametrize("kind", ["exposition", "prometheus"])
def test_a_source_that_refuses_is_named(make_shop, kind: str) -> None:
    shop = make_shop(source={"type": kind, "url": "http://127.0.0.1:1/metrics"})
    refused(shop, shop.play("2.0.1"), "127.0.0.1:1")


@pytest.mark.parametrize(
    "keyword, told",
    [
        ({"serial": 2}, "uses serial"),
        ({"max_fail_percentage": 30}, "uses max_fail_percentage"),
        ({"strategy": "free"}, "not supported in the free strategy"),  # says Ansible itself
    ],
    ids=str,
)
def test_play_keywords_that_break_the_promise_are_refused(make_shop, keyword: Dict[str, object], told: str) -> None:
    shop = make_shop()
    book = shop.folder / "book.json"
    play = {"hosts": "shop", "gather_facts": False, "roles": ["selfheal.delivery.canary"], **keyword}
    book.write_text(json.dumps([play]))
    given = {"canary_release": "2.0.1", "canary_src": str(shop.folder / "artifacts" / "2.0.1")}
    run = shop.run(shop.command(str(book), given))
    run.end()
    refused(shop, run, told)


def test_a_limit_is_refused(make_shop) -> None:
    shop = make_shop()
    refused(shop, shop.play("2.0.1", "--limit", "web1,web2"), "web3, web4", "not in this play")


def test_a_release_folder_that_cannot_be_written_is_named(make_shop) -> None:
    shop = make_shop()
    inventory = json.loads((shop.folder / "inventory.json").read_text())
    services = inventory["all"]["vars"]["delivery_services"]
    (shop.folder / "file").write_text("")
    services["shop"]["path"] = "{{ demo }}/file/{{ inventory_hostname }}"
    (shop.folder / "inventory.json").write_text(json.dumps(inventory))
    refused(shop, shop.play("2.0.1", canary_first_release=True), str(shop.folder / "file"))


def test_a_first_release_is_asked_for_by_name(make_shop) -> None:
    shop = make_shop(first=False)
    run = shop.play("1.0.0")
    assert run.process.returncode != 0
    assert "no known good release to go back to" in run.output and "canary_first_release" in run.output
    assert not any((shop.place(name) / "releases").exists() for name in shop.names)


def test_without_a_known_good_release_nothing_starts(make_shop) -> None:
    shop = make_shop()
    file = shop.place("web2") / "releases" / "1.0.0" / ".release.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "known_good": None}))
    refused(shop, shop.play("2.0.1"), "web2 has no known good release to go back to")


def test_one_place_is_judged_by_limits_and_its_own_history_and_it_says_so(make_shop) -> None:
    shop = make_shop(places=1)
    with shop.load():
        run = shop.play("2.0.1")
        assert run.process.returncode == 0, run.output
        assert "no old place is left to compare with; judged by errors ≤ 10.000% (limit)" in run.output
        shop.break_release("web1", "2.0.0", errors=0.5)
        bad = shop.play("2.0.0")
    assert bad.process.returncode != 0
    assert "its last passed bake" in bad.output
    assert shop.current() == {"web1": "2.0.1"}


def watched(shop, release: str, **variables: object) -> Any:
    run = shop.run(shop.command("selfheal.delivery.watch", {"watch_release": release, **variables}))
    run.end()
    return run


@pytest.mark.parametrize("places", [("web1", "web2"), tuple(OLD)], ids=["beside the old one", "everywhere"])
def test_a_release_of_somebody_else_that_is_bad_goes_back_and_is_marked_bad(shop, places: List[str]) -> None:
    shop.deployed("2.0.0", places)
    run = watched(shop, "2.0.0")
    assert run.process.returncode != 0
    assert shop.current() == OLD, run.output
    assert (shop.last().kind, shop.last().state) == ("watch", "undone")
    assert all(stored(shop, name, "2.0.0")["bad"] for name in places)
    assert "2.0.0 was taken back" in run.output


def test_a_release_of_somebody_else_that_is_good_is_marked_known_good(shop) -> None:
    shop.deployed("2.0.1", OLD)
    assert not stored(shop, "web1", "2.0.1").get("known_good")
    run = watched(shop, "2.0.1")
    assert run.process.returncode == 0, run.output
    assert shop.current() == GOOD
    assert all(stored(shop, name, "2.0.1")["known_good"] for name in OLD)
    assert "2.0.1 passed its bake" in run.output


def test_a_release_that_is_not_out_cannot_be_watched(make_shop) -> None:
    shop = make_shop()
    refused(shop, watched(shop, "2.0.1"), "no place runs 2.0.1")


def settled(shop, state: str, **variables: object) -> None:
    """Call reconcile, as a schedule does, until the rollout is in that state."""
    began = time.monotonic()
    while shop.last().state != state:
        run = shop.reconcile(**variables)
        assert time.monotonic() - began < 60, run.output


def test_a_watch_whose_controller_dies_takes_nothing_back(make_shop) -> None:
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 60, "deadline": 120, "warm_up": 0, "verify_for": 1})
    with shop.load():
        shop.deployed("2.0.1", OLD)
        run = shop.run(shop.command("selfheal.delivery.watch", {"watch_release": "2.0.1", "watch_lease_ttl": 3}))
        run.until("bake 1/")
        run.kill()
        run.end()
        settled(shop, "undone")
    assert shop.current() == GOOD


def test_a_run_killed_while_it_deploys_is_undone(make_shop) -> None:
    shop = make_shop()
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_lease_ttl=3))
        while shop.current()["web1"] != "2.0.1":  # the module is at work: it has switched, and is not done yet
            assert run.process.poll() is None, run.output
        run.kill()
        run.end()
        settled(shop, "undone")
    assert shop.current() == OLD
    assert not stored(shop, "web1", "2.0.1").get("bad")


def test_a_run_killed_between_release_and_bake_is_undone(make_shop) -> None:
    shop = make_shop()
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_lease_ttl=3))
        run.until("canary : Bake]")
        run.kill()
        run.end()
        settled(shop, "undone")
    assert shop.current() == OLD


def test_a_run_killed_while_it_bakes_is_continued_where_the_policy_says_so(make_shop) -> None:
    shop = make_shop()
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_lease_ttl=3))
        run.until("bake 1/")
        run.kill()
        run.end()
        settled(shop, "done", reconcile_on_interrupt="continue")
    assert shop.current() == GOOD
    assert all(stored(shop, name, "2.0.1")["known_good"] for name in OLD)


JSON_CALLBACK = """
import json
from ansible.plugins.callback import CallbackBase

class CallbackModule(CallbackBase):
    CALLBACK_TYPE, CALLBACK_NAME, CALLBACK_VERSION = "stdout", "whole_json", 2.0

    def __init__(self):
        super().__init__()
        self.tasks = []

    def v2_runner_on_ok(self, result, **kwargs):
        self.tasks.append(str(result.task_name if hasattr(result, "task_name") else result._task))

    def v2_playbook_on_stats(self, stats):
        self._display.display(json.dumps({"tasks": self.tasks}))
"""


def test_a_watch_that_was_killed_is_continued_where_it_watched(make_shop) -> None:
    shop = make_shop()
    shop.deployed("2.0.1", ["web1", "web2"])
    with shop.load():
        run = shop.run(
            shop.command("selfheal.delivery.watch", {"watch_release": "2.0.1", "watch_lease_ttl": 3}),
        )
        run.until("bake 1/")
        run.kill()
        run.end()
        settled(shop, "done", reconcile_on_interrupt="continue")
    assert shop.current() == {**OLD, "web1": "2.0.1", "web2": "2.0.1"}
    assert stored(shop, "web1", "2.0.1")["known_good"]


def test_progress_is_live_on_standard_error_and_leaves_standard_output_to_json(make_shop, tmp_path: Path) -> None:
    """As the json callback does, which is not part of ansible-core: one document, when all is over."""
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 4, "deadline": 20, "warm_up": 0, "verify_for": 1})
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks" / "whole_json.py").write_text(JSON_CALLBACK)
    environment = {k: v for k, v in shop.env.items() if k != "PYTHONUNBUFFERED"}
    environment.update(ANSIBLE_STDOUT_CALLBACK="whole_json", ANSIBLE_CALLBACK_PLUGINS=str(tmp_path / "callbacks"))
    command = shop.canary("2.0.1", canary_steps=["100%"])
    came: List[float] = []
    with shop.load(), open(tmp_path / "out.json", "w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        came.extend(time.monotonic() for line in process.stderr if "bake 1/" in line)
        assert process.wait(timeout=60) == 0
    assert "Bake" in " ".join(json.loads((tmp_path / "out.json").read_text())["tasks"])
    assert len(came) >= 8 and came[-1] - came[0] > 3
    assert max(later - earlier for earlier, later in zip(came, came[1:], strict=False)) < 2.5


def test_reading_the_gates_again_keeps_the_lease(make_shop) -> None:
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 8})
    with shop.load():
        run = shop.run(shop.canary("2.0.0", canary_lease_ttl=3))
        run.until("verify   7s of 8s")
        assert shop.holder() is not None
        assert run.end() != 0
    assert "web1 is back on 1.0.0" in run.output and "recovered" in run.output
    assert (shop.last().state, shop.current()) == ("undone", OLD)


def test_another_environments_reconcile_leaves_it_alone(make_shop) -> None:
    """One ledger for two environments, whose places have the same names."""
    shop = make_shop()
    with shop.load():
        run = shop.run(shop.canary("2.0.1", canary_lease_ttl=5))
        run.until("bake 1/")
        run.kill()
        run.end()
    everything = ["ansible-playbook", "-i", str(shop.folder / "inventory.json"), "selfheal.delivery.reconcile"]
    other = shop.run([*everything, "-e", "delivery_environment=staging"])
    assert other.end() == 0, other.output
    assert "not of this inventory: demo/shop" in other.output
    assert (shop.last().state, shop.current()) == ("open", {**OLD, "web1": "2.0.1"})
    began = time.monotonic()
    while shop.last().state == "open":
        ours = shop.run(everything)
        assert ours.end() == 0 and time.monotonic() - began < 60, ours.output
    assert (shop.last().state, shop.current()) == ("undone", OLD)


@pytest.mark.parametrize("playbook", ["reconcile", "control", "watch"])
def test_a_service_that_is_not_there_ends_as_failed(make_shop, playbook: str) -> None:
    shop = make_shop(first=False)
    given = {"delivery_service": "shap", "delivery_command": "hold", "watch_release": "1.0.0"}
    run = shop.run(shop.command(f"selfheal.delivery.{playbook}", given))
    assert run.end() != 0, run.output
    assert "shap" in run.output or "must name an inventory group" in run.output


def test_a_reader_that_goes_away_leaves_nothing_on_an_unproven_release(make_shop) -> None:
    """As `| head` does. Ansible itself hangs then; the rollout is settled by reconcile all the same."""
    shop = make_shop()
    command = shop.canary("2.0.1", canary_lease_ttl=3)
    with shop.load():
        process = subprocess.Popen(
            command, env=shop.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        assert process.stdout is not None
        assert any("bake 1/" in line for line in process.stdout)
        process.stdout.close()
        try:
            began = time.monotonic()
            while shop.last().state not in ("done", "undone"):
                run = shop.reconcile()
                assert time.monotonic() - began < 60, run.output
        finally:
            process.kill()
            process.wait()
    assert set(shop.current().values()) == ({"2.0.1"} if shop.last().state == "done" else {"1.0.0"})


def test_progress_is_in_the_events_of_a_runner(make_shop, tmp_path: Path) -> None:
    shop = make_shop()
    events: List[Dict[str, Any]] = []

    def heard(event: Dict[str, Any]) -> bool:
        events.append(event)
        return True

    (tmp_path / "runner").mkdir()
    extra = {"delivery_service": "shop", "canary_release": "2.0.1"}
    with shop.load():
        run = ansible_runner.run(
            private_data_dir=str(tmp_path / "runner"),
            playbook="selfheal.delivery.canary",
            inventory=str(shop.folder / "inventory.json"),
            extravars={**extra, "canary_src": str(shop.folder / "artifacts" / "2.0.1")},
            envvars=shop.env,
            event_handler=heard,
            quiet=True,
        )
    assert run.rc == 0, "".join(str(event["stdout"]) for event in events)
    lines = [event for event in events if "bake 1/" in str(event["stdout"])]
    assert len({event["created"] for event in lines}) >= 2
    assert shop.current() == GOOD


def test_a_runners_cancel_in_the_middle_of_a_bake_is_undone_by_reconcile(make_shop, tmp_path: Path) -> None:
    """As AWX cancels a job: ansible-runner ends the whole process group."""
    shop = make_shop(bake={"look_every": 0.5, "min_bake": 60, "deadline": 120, "warm_up": 0, "verify_for": 1})
    looks: List[str] = []

    def heard(event: Dict[str, Any]) -> bool:
        looks.extend(line for line in str(event["stdout"]).splitlines() if "bake 1/" in line)
        return True

    (tmp_path / "runner").mkdir()
    extra: Dict[str, object] = {"delivery_service": "shop", "canary_release": "2.0.1", "canary_lease_ttl": 3}
    with shop.load():
        run = ansible_runner.run(
            private_data_dir=str(tmp_path / "runner"),
            playbook="selfheal.delivery.canary",
            inventory=str(shop.folder / "inventory.json"),
            extravars={**extra, "canary_src": str(shop.folder / "artifacts" / "2.0.1")},
            envvars=shop.env,
            event_handler=heard,
            cancel_callback=lambda: len(looks) >= 2,
            quiet=True,
        )
        assert run.status == "canceled"
        assert shop.current() == {**OLD, "web1": "2.0.1"}
        settled(shop, "undone")
    assert shop.current() == OLD


def test_a_source_below_the_folder_it_was_called_from_is_kept_whole_for_whoever_goes_on(make_shop) -> None:
    shop = make_shop()
    command = shop.command("selfheal.delivery.canary", {"canary_release": "2.0.1", "canary_src": "artifacts/2.0.1"})
    with shop.load():
        run = shop.run(command, cwd=shop.folder)
        assert run.end() == 0, run.output
    assert shop.last().intent["src"] == str(shop.folder / "artifacts" / "2.0.1")
    assert shop.current() == GOOD
