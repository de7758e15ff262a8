# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Acting under the guard from people's own plays: asked, closed once, paused, approved, all on a real ledger."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from guard_play import results, run
from ledgers import SqliteLedger

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout

pytestmark = pytest.mark.demo_sized
SHOP = "production/shop"
GUARD = {
    "mode": "act",
    "alerts": ["ShopStuck", "ShopSlow", "ShopLost"],
    "cooldown": "0s",
    "global_cooldown": "0s",
    "attribution_window": "1h",
}


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(str(tmp_path / "ledger.sqlite"))


def guard(command: str, **options: Any) -> Dict[str, Any]:
    named = {} if options.get("all_services") or "service" in options else {"service": SHOP}
    return {"selfheal.delivery.guard": {"command": command, **named, **options}}


def acquire(incident: str = "", **options: Any) -> Dict[str, Any]:
    """A restart: of a person, or because of the alert's `incident`."""
    trigger = {"kind": "alert", "name": "ShopStuck", "id": incident} if incident else {}
    situation = {"confirmed": True, "places": 1, "current": "2.0.0", "services": 9}
    given = {"action": "restart", "trigger": trigger, "situation": situation, "guard": GUARD, "on_denied": "continue"}
    return guard("acquire", **{**given, **options})


def release(granted: int, **options: Any) -> Dict[str, Any]:
    """Of what the task number `granted` was given."""
    mine = {"rollout": f"{{{{ told[{granted}].rollout.id }}}}", "lease": f"{{{{ told[{granted}].lease }}}}"}
    return guard("release", **{**mine, "ok": True, **options})


DOCUMENTED = """
- name: Act under the guard
  hosts: all
  gather_facts: false
  tasks:
    - name: Restart it once, if the guard allows it
      block:
        - name: May we?
          selfheal.delivery.guard:
            command: acquire
            service: production/shop
            action: restart
            trigger:
              kind: alert
              name: "{{ alert }}"
              id: "{{ alert }}:{{ incident }}"
            situation:
              confirmed: true
              places: 1
            guard: "{{ guard }}"
          register: granted

        - name: Restart it
          ansible.builtin.copy:
            content: "{{ incident }}"
            dest: "{{ playbook_dir }}/{{ alert }}.restarted"
          failed_when: breaks | bool

        - name: Does it answer again?
          ansible.builtin.stat:
            path: "{{ playbook_dir }}/{{ alert }}.restarted"
          register: answered
          failed_when: not answered.stat.exists

        - name: Remember that it helped
          ansible.builtin.set_fact:
            healed: "{{ granted.rollout.id }}"
      rescue:
        - name: Say why it was not restarted, or did not help
          ansible.builtin.debug:
            msg: "told: {{ ansible_failed_result.msg }} {{ ansible_failed_result.decision.reason | default('') }}"
      always:
        - name: Record how it went, and give the lease back
          selfheal.delivery.guard:
            command: release
            service: production/shop
            rollout: "{{ granted.rollout.id }}"
            lease: "{{ granted.lease }}"
            ok: "{{ healed | default('') == granted.rollout.id }}"
            verified: "{{ 'recovered' if healed | default('') == granted.rollout.id else 'not_recovered' }}"
          when: granted.allowed | default(false)
"""


def documented(alert: str, incident: str, *, breaks: bool = False) -> List[Dict[str, Any]]:
    (play,) = yaml.safe_load(textwrap.dedent(DOCUMENTED))
    return [{**play, "vars": {"alert": alert, "incident": incident, "guard": GUARD, "breaks": breaks}}]


def test_the_documented_block_acts_once_and_records_how_it_went(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    output = run(documented("ShopStuck", "1") + documented("Unknown", "1"), ansible_env, tmp_path)
    assert "told:" in output and "not_eligible" in output, output
    assert (tmp_path / "ShopStuck.restarted").exists(), output
    assert not (tmp_path / "Unknown.restarted").exists()
    (action,) = ledger.last_rollouts()
    assert (action.kind, action.state, action.outcome["ok"]) == ("action", "done", True)
    assert action.outcome["verified"] == {"verdict": "recovered"}

    # the alert still fires: every copy of it is told the same, and nothing is done or recorded again
    entries = ledger.last_entries(limit=1)[0].seq
    output = run(documented("ShopStuck", "1"), ansible_env, tmp_path)
    assert "duplicate" in output
    assert ledger.last_entries(limit=1)[0].seq == entries

    # a failed action is recorded as failed, though the play was broken off in its middle, and opens the breaker
    output = run(documented("ShopSlow", "2", breaks=True) + documented("ShopLost", "3"), ansible_env, tmp_path)
    assert "breaker_open" in output, output
    failed, _first = ledger.last_rollouts()
    assert (failed.state, failed.outcome["ok"]) == ("undone", False)
    assert not ledger.leases(0) and ledger.verify() is None


def test_pauses_recommendations_and_closing_as_people_and_systems_meet(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    asks = {**GUARD, "mode": "recommend", "approval_ttl": "60s"}
    hasty = {**asks, "approval_ttl": "1s"}
    lately = "{{ told[%d].decision.id }}"
    tasks = [
        acquire(),  # 0: a person restarts
        acquire(),  # 1: and another, meanwhile
        release(0, ok=True, verified="unverified", facts={"seconds": 3}),  # 2
        release(0),  # 3: twice
        guard("pause", without_end=True, reason="CHG-1, the disks move", by="ada"),  # 4
        acquire("i1"),  # 5
        guard("resume", reason="moved", by="ada"),  # 6
        guard("resume"),  # 7: twice
        guard("pause", all_services=True, reason="CHG-2", **{"for": "2h"}),  # 8
        acquire("i2"),  # 9
        guard("resume"),  # 10: it is not this one that is paused
        {"selfheal.delivery.ledger_info": {"service": SHOP}},  # 11
        guard("resume", all_services=True),  # 12
        acquire("i3", guard=asks),  # 13: recommended
        guard("approve", decision=lately % 13, reason="the graphs agree", by="ada"),  # 14
        acquire("i3", guard=asks, approved=lately % 13),  # 15
        release(15, ok=True, verified="not_recovered"),  # 16
        guard("approve", decision=lately % 13, reason="again"),  # 17: done already
        guard("approve", decision="nothing", reason="again"),  # 18
        acquire("i4", guard={**hasty, "breaker": {"failures": 9}, "clear_for": "0s"}),  # 19: recommended, not for long
        {"ansible.builtin.pause": {"seconds": 2}},  # 20
        guard("approve", decision=lately % 19, reason="too late"),  # 21
        {"selfheal.delivery.guard_info": {"service": SHOP, "guard": GUARD}},  # 22
        {"selfheal.delivery.ledger_info": {"service": SHOP}},  # 23
        {"selfheal.delivery.ledger_verify": {}},  # 24
        {"selfheal.delivery.ledger_verify": {"head": "{{ told[24].head }}"}},  # 25
        {"selfheal.delivery.ledger_verify": {"head": "0123456789abcdef" * 4}},  # 26
        acquire(lease_ttl=1),  # 27
        {"ansible.builtin.pause": {"seconds": 2}},  # 28
        release(27),  # 29: too late, but nobody else came
        acquire(lease_ttl=1),  # 30
        {"ansible.builtin.pause": {"seconds": 2}},  # 31
        guard("release", rollout="{{ told[30].rollout.id }}", ok=False),  # 32: by somebody else
        release(30),  # 33
    ]
    told = results(tasks, ansible_env, tmp_path)
    said = [one.get("msg", "") for one in told]

    assert told[0]["allowed"] and told[0]["decision"]["verdict"] == "allowed" and told[0]["rollout"]["kind"] == "action"
    ident = told[0]["decision"]["id"]
    # a person's trigger is each time a new one
    assert told[0]["rollout"]["id"] == ident and told[0]["rollout"]["intent"] == {"action": "restart", "trigger": ident}
    assert (told[1]["decision"]["reason"], told[1]["lease"], told[1]["rollout"]) == ("in_progress", None, None)
    assert not told[1].get("failed")
    assert told[2]["outcome"] == "done" and told[2]["rollout"]["outcome"]["seconds"] == 3
    assert told[3]["failed"] and "closed already (done)" in said[3]

    assert told[4]["pause"]["until"] is None and "WITHOUT END" in said[4] and "ada" in said[4]
    assert (told[5]["decision"]["reason"], told[5]["decision"]["page"]) == ("paused", True)
    assert told[6]["unpaused"]
    assert told[7]["failed"] and "neither a pause nor an unfinished rollout" in said[7]
    assert told[9]["decision"]["reason"] == "paused" and told[9]["decision"]["until"] == told[8]["pause"]["until"]
    assert told[10]["failed"] and "all_services: true" in said[10]
    assert [pause["reason"] for pause in told[11]["pauses"]] == ["CHG-2"]
    assert told[12]["unpaused"] and "every service" in said[12]

    assert (told[13]["decision"]["verdict"], told[13]["allowed"]) == ("recommended", False)
    assert not told[14].get("failed") and told[14]["approved"] == told[13]["decision"]["id"]
    assert told[15]["allowed"] and told[16]["outcome"] == "done"
    assert told[17]["failed"] and "cannot be approved" in said[17]
    assert told[18]["failed"] and "cannot be approved" in said[18]
    assert told[19]["decision"]["verdict"] == "recommended", said[19]
    assert told[21]["failed"] and "expired" in said[21]

    (shop,) = told[22]["services"]
    assert (shop["breaker"]["state"], shop["breaker"]["failures"]) == ("open", 1)
    assert (shop["actions"], shop["running"], shop["pause"]) == (2, None, None)
    assert told[22]["pauses"] == [] and told[22]["watchdog_at"] is None
    counted = told[23]["statistics"][SHOP]
    assert counted["decisions:restart:allowed"] == 2 and counted["suppressed:restart:paused"] == 2
    assert counted["verified:not_recovered"] == 1
    kinds = {entry["kind"] for entry in told[23]["entries"]}
    assert {"trigger", "decision", "approval", "rollout", "state"} <= kinds
    assert said[24].startswith("The ledger is whole") and not told[25].get("failed")
    assert told[29]["outcome"] == "done" and told[29]["rollout"]["token"] > told[27]["lease"]["token"]
    assert told[32]["outcome"] == "undone" and told[33]["failed"] and "closed already (undone)" in said[33]
    assert told[26]["failed"] and "without the head 0123456789ab" in said[26]


def test_a_pause_without_end_is_shown_by_every_run(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    ledger.acquire(SHOP, "somebody", 60, 4e9)
    ledger.pause("", "ada", "CHG-3, for good", None, 1.0)
    tasks = [
        {"selfheal.delivery.ledger_info": {}},
        {"selfheal.delivery.guard_info": {}},
        {"selfheal.delivery.rollout": {"state": "due", "service": SHOP}},  # in every role
        acquire("i9"),
        guard("hold"),
    ]
    *told, refused = results(tasks, ansible_env, tmp_path)
    for one in told:
        (warning,) = one["warnings"]
        assert warning.startswith("every service is paused WITHOUT END, until somebody resumes it, by ada since 1970-")
        assert warning.endswith(": CHG-3, for good")
    assert refused["failed"] and "never had one" in refused["msg"]


def test_what_is_wrong_is_refused_with_its_mend_and_changes_nothing(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    lease = ledger.acquire(SHOP, "ci-7 pid 4711", 60, 4e9)
    ledger.open_rollout(lease, Rollout("r1", SHOP, "2.0.0", "canary", "", 0, 0, 0), "ada", 4e9)
    head, counters = ledger.head(), ledger.counters()
    nowhere = {"ledger": {"path": str(tmp_path / "ledger.sqlite" / "below")}}
    wrong = {
        "alert.*name and an id": acquire(trigger={"kind": "alert", "name": "ShopStuck"}),
        "action": guard("acquire"),
        "No service is named": guard("pause", service="", without_end=True, reason="x"),
        "without a service": guard("pause", service=SHOP, all_services=True, without_end=True, reason="x"),
        "for pause and resume": guard("acquire", all_services=True, action="restart"),
        "A pause needs an end": guard("pause", reason="x"),
        "A pause needs one end": guard("pause", reason="x", without_end=True, ends_at="2099-01-01T00:00:00Z"),
        "ends_at is no moment": guard("pause", reason="x", ends_at="tomorrow"),
        "is no moment: '2099": guard("pause", reason="x", ends_at="2099-01-01T00:00:00"),
        "over already": guard("pause", reason="x", ends_at="2001-01-01T00:00:00Z"),
        "pause: for must be a duration": guard("pause", reason="x", **{"for": "two days"}),
        "A pause needs a reason": guard("pause", **{"for": "2h"}),
        "An approval needs a reason": guard("approve", decision="d1"),
        "unknown key 'colldown'.*did you mean 'cooldown'": acquire(guard={"colldown": "5m"}),
        "cooldown must be a duration": acquire(guard={"cooldown": "soon"}),
        "is a canary, and not an action": guard("release", rollout="r1", ok=True),
        "no action 'r2' in the ledger": guard("release", rollout="r2", ok=True),
        "ok": guard("release", rollout="r1"),
        "There is no ledger at": {**guard("resume"), "environment": {}},
        "selects no place": acquire(situation={"confirmed": True}, on_denied="fail"),
    }
    wrong["There is no ledger at"] = guard("resume", ledger={"path": str(tmp_path / "none.sqlite")})
    told = results([*wrong.values(), acquire(on_denied="fail", **nowhere)], ansible_env, tmp_path, "--check")
    for pattern, one in zip(wrong, told, strict=False):
        assert one["failed"], pattern
        assert all(part in one["msg"] for part in pattern.split(".*")), (pattern, one["msg"])
    down = told[-1]["decision"]
    assert told[-1]["failed"] and not told[-1]["changed"]
    assert (down["verdict"], down["reason"], down["page"]) == ("denied", "store_unavailable", True)
    assert (ledger.head(), ledger.counters()) == (head, counters)


def test_the_playbook_for_people_pauses_and_resumes(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    book = "selfheal.delivery.control"
    words = {"delivery_command": "pause", "delivery_for": "2h", "delivery_reason": "CHG-5, a night's work"}
    output = run(book, ansible_env, tmp_path, "-e", json.dumps({**words, "delivery_all_services": True}))
    pause = ledger.fleet().pause
    assert (
        pause is not None and pause.reason == "CHG-5, a night's work" and pause.until == pytest.approx(pause.at + 7200)
    )
    assert "every service is paused until" in " ".join(output.split())
    named = {"delivery_environment": "production", "delivery_service": "shop"}
    run(book, ansible_env, tmp_path, "-e", json.dumps({**words, **named}))
    run(book, ansible_env, tmp_path, "-e", json.dumps({"delivery_command": "resume", **named}))
    assert ledger.memory(SHOP).pause is None and ledger.fleet().pause == pause


def test_check_mode_rehearses_every_command(ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path) -> None:
    ledger.pause("production/bank", "ada", "CHG-4", None, 1.0)
    head = ledger.head()
    told = results(
        [
            acquire(),
            release(0, ok=False),
            guard("pause", reason="x", without_end=True),
            guard("resume", service="production/bank"),
            guard("approve", decision="d1", reason="x"),
            guard("pause", service="production/bnak", reason="x", without_end=True),
        ],
        ansible_env,
        tmp_path,
        "--check",
    )
    assert told[0]["allowed"] and told[0]["rollout"]["id"] == "check"
    assert told[1]["outcome"] == "undone" and "check mode" in told[1]["msg"]
    assert told[2]["pause"]["service"] == SHOP and told[3]["unpaused"]
    assert told[4]["failed"] and "cannot be approved" in told[4]["msg"]
    assert ledger.head() == head and ledger.counters() == {}
