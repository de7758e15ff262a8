# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports, heartbeats and metrics as people call them, on a real ledger and to a real HTTP server."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest
from guard_play import results
from ledgers import SqliteLedger
from tell_servers import hook

from ansible_collections.selfheal.delivery.plugins.module_utils._guard import chain
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.export import Shape, kept
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Rollout

SHOP = "production/shop"


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    """Of a service with a release that passed a hundred days ago."""
    book = SqliteLedger(str(tmp_path / "ledger.sqlite"))
    then = time.time() - 100 * 86400
    lease = book.acquire(SHOP, "ci-7 pid 4711", 60, then)
    book.open_rollout(lease, Rollout("r1", SHOP, "2.0.0", "canary", "", 0, 0, 0), "ada", then)
    book.set_state(lease, "r1", "done", {"ok": True}, "ada", then + 30)
    book.release(lease, then + 30)
    return book


def export(dest: Path, **options: Any) -> Dict[str, Any]:
    return {"selfheal.delivery.ledger_export": {"dest": str(dest), **options}}


def heartbeat(state: str, **options: Any) -> Dict[str, Any]:
    return {"selfheal.delivery.heartbeat": {"state": state, **options}}


def pause(reason: str) -> Dict[str, Any]:
    return {"selfheal.delivery.guard": {"command": "pause", "service": SHOP, "for": "1h", "reason": reason}}


def seqs(path: Path, format: str = "jsonl") -> List[int]:
    return [kept(line, Shape(format)).seq for line in path.read_text().splitlines()]


def test_an_export_goes_on_where_it_ended_and_old_entries_leave_the_ledger(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    lines, sent, foreign = tmp_path / "ledger.jsonl", tmp_path / "sent.json", tmp_path / "foreign.jsonl"
    foreign.write_text('{"a": 1}\n')
    head = ledger.head()
    told = results(
        [
            export(lines),  # 0: all four
            export(lines),  # 1: nothing new
            pause("CHG-1"),  # 2: the fifth
            export(lines),  # 3
            export(lines, prune_before="2160h"),  # 4
            {"selfheal.delivery.ledger_verify": {"head": "{{ told[0].head }}"}},  # 5
            export(lines),  # 6: what was removed is told, too
            export(sent, format="cdevents", after=0, environment="x"),  # 7
            export(sent, format="cdevents", after=5),  # 8
            export(sent, format="cdevents", after=5),  # 9: the same again
            export(sent, format="jsonl"),  # 10: of another format
            export(foreign),  # 11
            export(tmp_path / "none" / "x.jsonl"),  # 12
            export(lines, prune_before="soon"),  # 13
            export(lines, prune_before="1h", after=3),  # 14
        ],
        ansible_env,
        tmp_path,
    )
    assert [told[at]["exported"] for at in (0, 1, 3, 4, 6, 7, 8, 9)] == [4, 0, 1, 0, 1, 2, 1, 1]
    assert [told[at]["changed"] for at in (0, 1, 3, 4, 6, 8, 9)] == [True, False, True, True, True, True, False]
    assert told[0]["head"] == head and told[4]["pruned"] == 4
    assert not told[5].get("failed"), told[5]
    assert seqs(lines) == [1, 2, 3, 4, 5, 6] and seqs(sent, "cdevents") == [6]
    assert chain.first_break([kept(line, Shape()) for line in lines.read_text().splitlines()][:5]) is None
    assert os.stat(lines).st_mode & 0o777 == 0o600
    assert [entry.seq for entry in ledger.all_entries()] == [5, 6]
    good = ledger.last_rollouts(SHOP)[0]
    assert (good.release, good.state, ledger.verify()) == ("2.0.0", "done", None)
    refused = [
        "not as jsonl",
        "something else than an export",
        "No such file",
        "must be a duration",
        "do not go together",
    ]
    for words, one in zip(refused, told[10:], strict=True):
        assert one["failed"] and words in one["msg"], one["msg"]
    assert foreign.read_text() == '{"a": 1}\n'

    # a ledger that was cut off does not go on from what was exported
    ledger._store._db.execute("DELETE FROM entry WHERE seq = 6")  # type: ignore[attr-defined]
    (cut,) = results([export(lines)], ansible_env, tmp_path)
    assert cut["failed"] and "the export ends with entry 6, and the ledger with entry 5" in cut["msg"]
    assert seqs(lines) == [1, 2, 3, 4, 5, 6]


def test_heartbeats_go_out_and_the_watchdog_is_listened_to(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    beat, at = tmp_path / "heartbeat.json", time.time()
    with hook() as there, hook() as also:
        secret = f"{also.url}/ping/s3cr3t"
        told = results(
            [
                heartbeat("sent", path=str(beat), url=f"{there.url}/ping/s3cr3t", method="POST", every="2m"),  # 0
                heartbeat("sent", method="POST"),  # 1: to the address in the environment
                heartbeat("sent", path=str(beat), url="http://127.0.0.1:1/s3cr3t", instance="ci-8"),  # 2
                heartbeat("sent", url="s3cr3t"),  # 3
                heartbeat("checked", on_silent="warn"),  # 4
                heartbeat("checked"),  # 5
                heartbeat("seen", source="am-1", at=at - 400),  # 6
                heartbeat("checked", max_silence="5m"),  # 7
                heartbeat("checked", max_silence="10m"),  # 8
                heartbeat("seen", at=at + 900),  # 9
                heartbeat("seen", at=at - 500),  # 10
                heartbeat("seen", source="am-1"),  # 11
                heartbeat("checked"),  # 12
                heartbeat("sent", path=str(beat), ledger={"path": str(tmp_path / "none.sqlite")}),  # 13
                heartbeat("sent", path=str(beat), every="often"),  # 14
                {"selfheal.delivery.guard_info": {}},  # 15
            ],
            {**ansible_env, "SELFHEAL_HEARTBEAT_URL": secret},
            tmp_path,
        )
    assert told[0]["sent_to"] == [str(beat), "url 127.0.0.1"]
    (posted,) = there.posts
    assert posted.json["head"] == ledger.head() and posted.json["every"] == 120
    assert not told[1].get("failed") and told[1]["sent_to"] == ["url 127.0.0.1"]
    assert told[2]["failed"] and told[2]["sent_to"] == [str(beat)] and "refuses the connection" in told[2]["msg"]
    assert json.loads(beat.read_text())["host"] == "ci-8"
    assert told[3]["failed"] and "not an http or https URL" in told[3]["msg"]
    assert "s3cr3t" not in json.dumps(told)

    assert not told[4].get("failed") and not told[4]["alive"] and "never seen" in told[4]["warnings"][0]
    assert told[5]["failed"] and "cannot be believed" in told[5]["msg"]
    assert told[7]["failed"] and told[7]["alive"] is False and told[8]["alive"] is True
    assert told[9]["failed"] and "from now" in told[9]["msg"] and told[10]["failed"]
    assert told[12]["alive"] and told[15]["watchdog_at"] == told[11]["at"]
    assert told[13]["failed"] and "There is no ledger at" in told[13]["msg"]
    assert told[14]["failed"] and "every must be a duration" in told[14]["msg"]


def test_metrics_are_written_and_check_mode_only_shows_them(
    ledger: SqliteLedger, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "selfheal.prom"
    written = {"selfheal.delivery.guard_metrics": {"path": str(path)}}
    asked = {
        "selfheal.delivery.guard": {
            "command": "acquire",
            "service": SHOP,
            "action": "restart",
            "on_denied": "continue",
            "situation": {"places": 1},
        }
    }
    tasks = [
        written,  # 0
        written,  # 1: nothing new
        asked,  # 2
        {**written, "check_mode": True, "diff": True},  # 3
        written,  # 4
        pause("CHG-1"),  # 5
        {"selfheal.delivery.guard_metrics": {"guards": {SHOP: {"breaker": {"failures": 2}}}}},  # 6
        {"selfheal.delivery.guard_metrics": {"path": str(tmp_path / "selfheal.txt")}},  # 7
        {"selfheal.delivery.guard_metrics": {"gateway": "http://127.0.0.1:1"}},  # 8
        {"selfheal.delivery.guard_metrics": {"guard": {"mode": "acts"}}},  # 9
        heartbeat("sent", path=str(tmp_path / "heartbeat.json")),  # 10: in check mode below
    ]
    told = results(tasks, ansible_env, tmp_path)
    assert [told[at]["changed"] for at in (0, 1, 3, 4, 6)] == [True, False, True, True, False]
    allowed = f'selfheal_decisions_total{{action="restart",service="{SHOP}",verdict="allowed"}} 1.0\n'
    assert allowed not in told[3]["diff"]["before"] and allowed in told[3]["diff"]["after"]
    assert path.read_text() == told[4]["metrics"] and allowed in told[4]["metrics"]
    assert f'selfheal_unfinished_rollouts{{kind="action",service="{SHOP}",state="open"}} 1.0\n' in told[4]["metrics"]
    assert (
        "selfheal_chain_ok 1.0\n" in told[4]["metrics"] and "selfheal_clock_drift_seconds 0.0\n" in told[4]["metrics"]
    )
    assert f'selfheal_breaker_state{{service="{SHOP}",state="closed"}} 1.0\n' in told[6]["metrics"]
    assert f'selfheal_pause_end_timestamp_seconds{{service="{SHOP}"}} ' in told[6]["metrics"]
    for at, words in ((7, "does not end in .prom"), (8, "refuses the connection"), (9, "mode must be one of")):
        assert told[at]["failed"] and words in told[at]["msg"], told[at]["msg"]

    os.unlink(tmp_path / "heartbeat.json")
    shown = results([heartbeat("seen"), *tasks[-1:], written], ansible_env, tmp_path, "--check")
    assert not any(one.get("failed") for one in shown)
    assert not (tmp_path / "heartbeat.json").exists() and ledger.note("watchdog") == {}
