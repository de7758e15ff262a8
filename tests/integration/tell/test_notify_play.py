# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""notify as people call it, the module and the role, with real servers, a real ledger, and some of them down."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from tell_servers import ACCEPTED, DOWN, PostOffice, Reply, hook, post_office

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.decision import Request, Situation, Trigger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.ledger import Ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.policy import parse_guard

pytestmark = pytest.mark.demo_sized
NOW = 1795251593.0
SECRET = "services/T000/B000/XyZzYXyZzY"
KEY = "e93facc04764012d7bfb002500d5d1a6"
NOTIFY = "selfheal.delivery.notify"


def undone(ledger: Ledger) -> Dict[str, Any]:
    """A rollout that was taken back, as the ledger has it."""
    lease = ledger.acquire("prod/shop", "ci-7", 60, NOW)
    ledger.open_rollout(
        lease, Rollout("r1", "prod/shop", "2.0.0", "canary", "", 0, 0, 0, {"fleet": ["web1"]}), "ada", NOW
    )
    outcome = {"why": "errors", "places": {"web1": {"changed": True, "current": "1.0.0"}}}
    closed = ledger.set_state(lease, "r1", "undone", outcome, "ada", NOW)
    return {"id": "r1", "service": closed.service, "release": "2.0.0", "state": closed.state, "outcome": outcome}


def play(tasks: List[Dict[str, Any]], env: Dict[str, str], folder: Path, **variables: Any) -> Tuple[List[Any], str]:
    """The results of `tasks` in a play over two hosts, neither of which is there, and all that was printed."""
    steps: List[Dict[str, Any]] = [{"ansible.builtin.set_fact": {"told": []}}]
    for task in tasks:
        steps += [
            {**task, **({} if "block" in task else {"register": "one", "ignore_errors": True})},
            {"ansible.builtin.set_fact": {"told": "{{ told + [one] }}"}, "run_once": True},
        ]
    result = folder / "told.json"
    keep = {"content": "{{ told | to_json }}", "dest": str(result)}
    steps.append({"ansible.builtin.copy": keep, "delegate_to": "localhost", "run_once": True, "check_mode": False})
    book = folder / "play.yml"
    book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": steps}]))
    command = ["ansible-playbook", "-vvv", "-i", "web1,web2,", str(book)]
    done = subprocess.run(command, env=env, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    told: List[Any] = json.loads(result.read_text())
    return told, done.stdout + done.stderr


def role(**variables: Any) -> Dict[str, Any]:
    """As the other roles call it: not even a secret that is not there may stop them."""
    return {"ansible.builtin.include_role": {"name": NOTIFY, "rolespec_validate": False}, "vars": variables}


def test_everybody_is_told_once_and_who_was_down_by_the_next_run(ansible_env: Dict[str, str], tmp_path: Path) -> None:
    where = {"path": str(tmp_path / "ledger.sqlite")}
    with closing(open_ledger(where)) as ledger:
        facts = undone(ledger)
        entry = ledger.last_entries("prod/shop", 1)[0]
    broken = tmp_path / "broken.sqlite"
    broken.write_bytes(b"not a ledger" * 999)
    env = {**ansible_env, "SELFHEAL_NOTIFY_ONCALL_ROUTING_KEY": KEY}
    with (
        hook(DOWN, Reply()) as team,
        hook(ACCEPTED) as oncall,
        hook(Reply(hang=True), Reply()) as slow,
        post_office(PostOffice()) as mail,
    ):
        channels = {
            "team": {"type": "slack", "url": f"{team.url}/{SECRET}"},
            "oncall": {"type": "pagerduty", "url": oncall.url},
            "slow": {"type": "webhook", "url": slow.url, "token": "t0ken-of-mine"},
            "owners": {
                "type": "email",
                "host": "127.0.0.1",
                "port": mail.port,
                "security": "none",
                "sender": "d@example.org",
                "to": "ada@example.org",
            },
        }
        usual = {"channels": "{{ channels }}", "ledger": where}
        about = {"rollout": facts, "runbook": "https://r.example.org/1", "sumary": "x", "why": f"key {KEY} of {SECRET}"}
        results, output = play(
            [
                {NOTIFY: {**usual, "facts": facts}, "check_mode": True},
                {NOTIFY: {**usual, "facts": about, "timeout": 2}},
                {NOTIFY: {**usual, "retry_only": True}},
                {NOTIFY: {**usual, "retry_only": True}},
                {NOTIFY: {**usual, "event": "page", "facts": {}}},
                {NOTIFY: {**usual, "channels": {"x": {"type": "slak", "url": SECRET}}, "facts": facts}},
                {NOTIFY: {"channels": {}, "facts": facts, "ledger": where}},
                {NOTIFY: {**usual, "facts": facts, "ledger": {"path": str(broken)}}},
            ],
            env,
            tmp_path,
            channels=channels,
        )
    checked, first, second, third, nameless, wrong, nobody, alone = results
    assert checked["msg"] == "nothing was sent: this is check mode; oncall, owners, slow, team would be told"
    assert not checked["changed"] and checked["sent"] == []

    assert sorted(one["channel"] for one in first["sent"]) == ["oncall", "owners"]
    assert {one["channel"]: (one["tries"], one["due"]) for one in first["kept"]} == {
        "slow": (1, "at the next run"),
        "team": (1, "at the next run"),
    }
    reasons = {one["channel"]: one["reason"] for one in first["kept"]}
    assert reasons["team"] == "127.0.0.1 answers HTTP 503: no healthy upstream"
    assert "did not answer within" in reasons["slow"]
    assert (first["changed"], first["dropped"]) == (True, [])
    assert first["msg"] == "sent to oncall, owners; kept for slow, team"
    assert "notify knows no fact 'sumary' (did you mean 'summary'?)" in first["warnings"]

    assert sorted(one["channel"] for one in second["sent"]) == ["slow", "team"]
    assert (second["kept"], third["sent"], third["changed"]) == ([], [], False)
    assert third["msg"] == "there was nothing to tell"
    assert nameless["failed"] and "the facts do not say which service" in nameless["msg"]
    assert wrong["failed"] and "has the type 'slak', which there is not (did you mean 'slack'?)" in wrong["msg"]
    assert nobody["msg"] == "there is no channel to tell"
    assert alone["msg"] == "sent to oncall, owners, slow, team"
    assert any("could not be looked for" in warning for warning in alone["warnings"])

    event = oncall.posts[0].json
    assert (len(oncall.posts), len(team.posts), len(slow.posts), len(mail.letters)) == (2, 3, 3, 2)
    assert (event["event_action"], event["dedup_key"]) == ("trigger", "prod/shop/r1")
    assert event["payload"]["custom_details"]["ledger_entry"] == f"{entry.seq} ({entry.hash[:12]})"
    assert event["payload"]["summary"].startswith("prod/shop: 2.0.0 was taken back: errors. web1 is back on 1.0.0.")
    assert team.posts[0].json == team.posts[1].json
    said = output + json.dumps(results) + (tmp_path / "ledger.sqlite").read_bytes().decode("latin-1")
    assert KEY not in said and "t0ken-of-mine" not in said and "XyZzYXyZzY" not in said


def test_the_role_tells_and_never_stops_the_play(ansible_env: Dict[str, str], tmp_path: Path) -> None:
    where = {"path": str(tmp_path / "ledger.sqlite")}
    with closing(open_ledger(where)) as ledger:
        facts = undone(ledger)
    goes_on = {"ansible.builtin.debug": {"msg": "it goes on"}}
    with hook(DOWN, Reply()) as team:
        good = {"team": {"type": "slack", "url": f"{team.url}/{SECRET}"}}
        bad = {"team": {"type": "slack", "uri": "x"}}
        broken = tmp_path / "broken.sqlite"
        broken.write_bytes(b"not a ledger" * 999)
        unset = {"team": {"type": "slack", "url": "{{ no_such_secret }}"}}
        results, output = play(
            [
                {"block": [role(notify_facts=facts), {**goes_on, "register": "one"}]},  # nobody to tell
                {"block": [role(notify_facts=facts, notify_channels=good), {**goes_on, "register": "one"}]},
                {"block": [role(notify_channels=good), {**goes_on, "register": "one"}]},
                {"block": [role(notify_channels=bad, notify_facts=facts), {**goes_on, "register": "one"}]},
                {"block": [role(notify_channels=unset, notify_facts=facts), {**goes_on, "register": "one"}]},
                {
                    "block": [
                        role(
                            notify_channels=good,
                            notify_event="page",
                            notify_message="The shop loses orders",
                            notify_facts={"service": "prod/shop", "code": "SHOP-ORDER-001"},
                            notify_ledger={"path": str(broken)},
                        ),
                        {**goes_on, "register": "one"},
                    ]
                },
            ],
            ansible_env,
            tmp_path,
            delivery_ledger=where,
        )
    assert [one["msg"] for one in results] == ["it goes on"] * 6
    assert re.findall(r"(\w+) +: ok=.* failed=(\d+)", output) == [("web1", "0"), ("web2", "0")]
    assert output.count("...ignoring") == 2
    assert "has no option 'uri'" in output
    assert "what was kept earlier could not be looked for" in output
    told = [post.json["blocks"][0]["text"]["text"] for post in team.posts]
    assert told == ["❌ prod/shop: undone", "❌ prod/shop: undone", "🚨 prod/shop: page"]
    assert "XyZzYXyZzY" not in output


def test_what_a_run_that_was_killed_had_to_tell_is_told_once_by_the_next(
    ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    where = {"path": str(tmp_path / "ledger.sqlite")}
    asked = Request(
        "d1",
        "prod/shop",
        "rollback",
        Trigger("alert", "ShopErrors", "a1"),
        "guard",
        Situation(confirmed=None, current="2.0.0", known_good="1.0.0", changed_at=NOW - 60, places=1),
    )
    with closing(open_ledger(where)) as ledger:
        undone(ledger)
        policy = parse_guard({"mode": "act", "alerts": ["ShopErrors"]}, "prod/shop")
        decision = ledger.decide(asked, policy, holder="ci-8", ttl=60, now=NOW + 10).decision
        assert (decision.reason, decision.page) == ("not_confirmed", True)
    with hook() as team:
        task = {
            NOTIFY: {"channels": {"team": {"type": "webhook", "url": team.url}}, "ledger": where, "retry_only": True}
        }
        told, _said = play([task, task], ansible_env, tmp_path)
    assert [post.json["data"]["event"] for post in team.posts] == ["undone", "page"]
    assert "Its source could not be asked again" in team.posts[1].json["data"]["summary"]
    assert [len(one["sent"]) for one in told] == [2, 0]
    with closing(open_ledger(where)) as ledger:
        assert ledger.owed() == {} and ledger.verify() is None
