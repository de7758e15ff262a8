# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The source alertmanager keeps what it answered 200, through kill -9 and a full disk, until it is done."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from source_alone import Source, alert, group

KILLS = int(os.environ.get("SELFHEAL_KILLS", "8"))


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Source]:
    running = Source(tmp_path)
    yield running
    running.stop()


def test_repeats_and_what_comes_too_late_are_not_emitted(source: Source) -> None:
    firing, resolved = alert("High"), alert("High", status="resolved")
    assert source.post(group(firing)) == (200, {"taken": 1, "duplicates": 0, "late": 0})
    assert source.post(group(firing, alert("Slow"))) == (200, {"taken": 1, "duplicates": 1, "late": 0})
    assert source.post(group(resolved)) == (200, {"taken": 1, "duplicates": 0, "late": 0})
    assert source.post(group(firing)) == (200, {"taken": 0, "duplicates": 0, "late": 1})
    assert source.post(group(alert("Mem", status="resolved"))) == (200, {"taken": 1, "duplicates": 0, "late": 0})
    assert source.post(group(alert("Mem"))) == (200, {"taken": 0, "duplicates": 0, "late": 1})
    assert source.post(group(alert("High", begun=60))) == (200, {"taken": 1, "duplicates": 0, "late": 0})
    expected = [("High", "firing"), ("Slow", "firing"), ("High", "resolved"), ("Mem", "resolved"), ("High", "firing")]
    assert source.until(5) == expected
    source.child.wait_ready(lambda: source.metrics()['alerts_total{outcome="done"}'] == 5, 10)
    source.restart()
    assert source.post(group(firing, resolved, alert("Slow"))) == (200, {"taken": 0, "duplicates": 2, "late": 1})
    time.sleep(0.3)
    assert len(source.alerts()) == 5
    numbers = source.metrics()
    assert numbers['alerts_total{outcome="duplicate"}'] == 2
    assert numbers['alerts_total{outcome="late"}'] == 1
    assert numbers["alarming_services"] == 1


def test_one_event_has_the_alerts_of_one_service(tmp_path: Path) -> None:
    source = Source(tmp_path, wait_for="playbook", slots=2)
    source.post(group(alert("First", "a"), alert("First", "b")))
    source.until(2)
    common = {"env": "live", "team": "x"}
    source.post(group(*(alert(f"N{n:03}", "shop", begun=300 - n) for n in range(130)), commonLabels=common))
    source.post(group(alert("Late", "shop", status="resolved"), commonLabels={"env": "live"}, groupKey="second"))
    first = source.events()[0]["meta"]["selfheal"]
    assert {key: first[key] for key in ("source", "verified", "key")} == {
        "source": "alertmanager",
        "verified": "bearer",
        "key": "token-1",
    }
    for uuid in first["ack"]:
        (source.spool / "done" / uuid).touch()
    source.until(102)
    event = source.events()[2]
    names = [each["labels"]["alertname"] for each in event["payload"]["alerts"]]
    assert names == ["Late", *(f"N{n:03}" for n in range(129, 30, -1))]  # by their beginning, a hundred at most
    assert event["payload"]["groupKey"] == "second"
    assert event["payload"]["commonLabels"] == {"env": "live"}
    assert event["payload"]["status"] == "firing"
    assert event["meta"]["selfheal"]["alarming"] == 3
    assert len(set(event["meta"]["selfheal"]["ack"])) == 100
    assert source.metrics()["slots_in_use"] == 2
    assert source.metrics()["queue_length"] == 31
    source.stop()


def test_a_playbook_holds_its_service_and_a_slot_until_it_reports(tmp_path: Path) -> None:
    source = Source(tmp_path, wait_for="playbook", slots=2, slot_timeout=3)
    source.post(group(*(alert("High", f"s{n}") for n in range(4))))
    source.until(2)
    source.post(group(alert("Slow", "s0"), alert("High", "s0", status="resolved")))
    time.sleep(0.5)
    assert len(source.events()) == 2
    (done,) = (uuid for event in source.events()[:1] for uuid in event["meta"]["selfheal"]["ack"])
    (source.spool / "done" / done).touch()
    source.until(3)
    assert source.events()[2]["payload"]["alerts"][0]["labels"]["service"] == "s2"
    deadline = time.monotonic() + 5
    while (source.spool / "done" / done).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    source.until(6, timeout=10)  # nobody reports the others: their slots are free after a while
    numbers = source.metrics()
    assert numbers['alerts_total{outcome="timed_out"}'] >= 1
    assert "No playbook reported" in source.log()
    late = source.events()[1]["meta"]["selfheal"]["ack"][0]
    (source.spool / "done" / late).touch()
    time.sleep(0.5)
    before = len(source.alerts())
    source.restart()  # what was not reported is emitted again
    again = source.until(before + 2)[before:]
    assert ("High", "firing") in again
    assert late not in [uuid for event in source.events()[4:] for uuid in event["meta"]["selfheal"]["ack"]]
    source.stop()


def uuids(source: Source) -> Dict[str, str]:
    """The uuid of each service's alert that is kept."""
    with closing(sqlite3.connect(source.spool / "spool.sqlite")) as database:
        return dict(database.execute("SELECT service, uuid FROM item"))


def test_what_is_reported_while_it_waits_or_too_late_or_not_at_all(tmp_path: Path) -> None:
    source = Source(tmp_path, wait_for="playbook", slots=1, slot_timeout=1, spool_keep=4)
    source.post(group(alert("High", "a"), alert("High", "b")))
    source.until(1)
    (source.spool / "done" / "not-a-uuid").touch()
    (source.spool / "done" / uuids(source)["b"]).touch()
    source.child.wait_ready(lambda: source.metrics()['alerts_total{outcome="timed_out"}'] == 1, 10)
    source.child.wait_ready(lambda: source.metrics()["queue_length"] == 0, 10)
    assert len(source.alerts()) == 1
    # whoever sends it again gives it another chance
    assert source.post(group(alert("High", "a"), alert("High", "b")))[1] == {"taken": 1, "duplicates": 1, "late": 0}
    source.until(2)
    (source.spool / "done" / uuids(source)["a"]).touch()
    source.child.wait_ready(lambda: source.metrics()["slots_in_use"] == 0, 10)
    source.post(group(alert("Old", "c")))
    source.until(3)
    time.sleep(4.5)
    source.restart()
    time.sleep(0.5)
    assert len(source.alerts()) == 3
    assert source.post(group(alert("Old", "c")))[1]["taken"] == 1  # forgotten
    source.stop()


def emission(event: Dict[str, Any]) -> str:
    word: str = event["meta"]["selfheal"]["emission"]
    return word


def test_each_alert_carries_its_item_and_each_attempt_its_emission(tmp_path: Path) -> None:
    source = Source(tmp_path, wait_for="playbook", slots=1, slot_timeout=2)
    forged = {**alert("Forged", begun=3), "ack": "0" * 36}
    source.post(group(alert("First")))
    source.until(1)
    source.post(group(alert("High", begun=1), alert("Slow", begun=2), forged))
    first = source.events()[0]
    (source.spool / "done" / first["meta"]["selfheal"]["ack"][0]).touch()
    source.until(4)
    event = source.events()[1]
    carried = [each["ack"] for each in event["payload"]["alerts"]]
    assert carried == event["meta"]["selfheal"]["ack"] and len(set(carried)) == 3
    (source.spool / "done" / carried[1]).touch()
    source.post(group(alert("Early")))
    source.child.wait_ready(lambda: source.metrics()["in_flight"] == 2, 10)
    source.child.wait_ready(lambda: not list((source.spool / "done").iterdir()), 10)
    source.restart()  # what was under way comes again as it was, before what waits
    source.until(6)
    repeated = source.events()[2]
    assert [each["ack"] for each in repeated["payload"]["alerts"]] == [carried[0], carried[2]]
    assert emission(repeated) == emission(event) != emission(first)
    source.child.wait_ready(lambda: source.metrics()['alerts_total{outcome="timed_out"}'] == 1, 10)
    source.until(7)
    source.post(group(alert("High", begun=1)))
    source.until(8, timeout=10)
    assert len({emission(each) for each in source.events()}) == 4  # another attempt is none of the engine's repeats
    source.stop()


def test_what_may_be_asked_again_is_when_it_comes_again(tmp_path: Path) -> None:
    source = Source(tmp_path, wait_for="playbook", slots=1, again_after=3)

    def said(word: str) -> None:
        uid = source.events()[-1]["meta"]["selfheal"]["ack"][0]
        (source.spool / "done" / f"{uid}{word}").touch()
        source.child.wait_ready(lambda: source.metrics()["slots_in_use"] == 0, 10)
        source.child.wait_ready(lambda: not list((source.spool / "done").iterdir()), 10)

    source.post(group(alert("High")))
    source.until(1)
    said(".again")
    assert source.metrics()['alerts_total{outcome="again"}'] == 1
    assert source.post(group(alert("High")))[1]["duplicates"] == 1
    source.restart()
    time.sleep(0.5)
    assert len(source.events()) == 1  # it was answered: only whoever sends it again asks again
    time.sleep(3)
    assert source.post(group(alert("High")))[1]["taken"] == 1
    source.until(2)
    said("")
    (source.spool / "done" / f"{source.events()[-1]['meta']['selfheal']['ack'][0]}.again").touch()
    time.sleep(3.5)
    assert source.post(group(alert("High")))[1]["duplicates"] == 1  # done is done
    assert emission(source.events()[0]) != emission(source.events()[1])
    source.stop()


def test_the_engine_confirms(tmp_path: Path) -> None:
    source = Source(tmp_path, feedback=True, silent=1)
    source.post(group(alert("Lost", "a")))
    source.until(1)
    source.post(group(alert("Had", "b")))
    source.until(2)
    source.child.wait_ready(lambda: source.metrics()["in_flight"] == 1)
    source.restart()
    assert source.until(3)[2] == ("Lost", "firing")
    source.stop()


@pytest.mark.xdist_group("source_killed")
def test_nothing_that_was_answered_200_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    source = Source(tmp_path, spool_keep=600)
    said: List[str] = []
    ending = threading.Event()

    def send(number: int) -> None:
        count = 0
        while not ending.is_set():
            count += 1
            names = [f"A{number}-{count}-{part}" for part in range(3)]
            try:
                status, taken = source.post(group(*(alert(name, f"s{count % 7}") for name in names)))
            except (OSError, ValueError):
                continue
            if status == 200:
                said.extend(names)

    senders = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for sender in senders:
        sender.start()
    for _round in range(KILLS):
        time.sleep(random.uniform(0.05, 0.7))
        source.restart()
    time.sleep(0.3)
    ending.set()
    for sender in senders:
        sender.join()
    source.child.wait_ready(lambda: source.metrics()["queue_length"] == 0)
    time.sleep(0.2)
    emitted = Counter(name for name, status in source.alerts())
    assert len(said) > 3 * KILLS
    assert not [name for name in said if name not in emitted]
    source.stop()


def test_a_disk_that_is_full_and_is_freed(source: Source) -> None:
    assert source.post(group(alert("Before")))[0] == 200
    size = max(path.stat().st_size for path in source.spool.iterdir())
    pid = source.child.process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    statuses = [source.post(group(alert("Full", f"s{n}", note="x" * 20000)))[0] for n in range(20)]
    assert statuses[-1] == 503
    assert set(statuses) <= {200, 503}
    status, answer = source.post(group(alert("Watchdog", note="x" * 20000), alert("Full", "x", note="x" * 20000)))
    assert (status, answer["error"].split(":")[0]) == (503, "Nothing can be kept now")
    assert source.get("/readyz")[0] == 503
    assert source.get("/healthz")[0] == 200
    assert source.metrics()["spool_failing"] == 1
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    source.child.wait_ready(source.ready, 10)  # without anybody posting
    assert source.post(group(alert("After")))[0] == 200
    emitted = source.until(2 + statuses.count(200))
    assert emitted.count(("Full", "firing")) == statuses.count(200)
    assert ("Watchdog", "firing") not in emitted  # a dead man's switch must notice


def test_a_spool_that_is_full_or_lost(tmp_path: Path) -> None:
    source = Source(tmp_path, wait_for="playbook", slots=1, spool_max=5)
    assert source.post(group(*(alert(f"N{n}") for n in range(6))))[0] == 503
    assert source.post(group(*(alert(f"N{n}") for n in range(5))))[0] == 200
    status, answer = source.post(group(alert("More")))
    assert (status, answer["error"]) == (503, "The spool is full: 5 alerts wait already; try again")
    assert source.post(group(alert("N1")))[0] == 200  # a repeat needs no room
    source.stop()
    source = Source(tmp_path)
    shutil.rmtree(source.spool)
    assert "deleted or replaced" in source.post(group(alert("More")))[1]["error"]
    assert source.get("/readyz")[0] == 503
    source.restart()
    assert source.post(group(alert("More")))[0] == 200
    source.stop()


def test_a_call_goes_alone_and_in_its_turn(tmp_path: Path) -> None:
    source = Source(tmp_path, take=0.1, wait_for="playbook", slots=1)
    call = {"type": "selfheal.call", "name": "ci", "service": "shop", "environment": "", "id": "1", "reason": "bad"}
    code = {"type": "selfheal.error_code", "error_code": "SHOP-CART-001", "service": "shop", "version": "1"}
    source.post(group(alert("High")))
    assert source.post({**call, "ack": "0" * 36}, "/calls") == (200, {"taken": 1, "duplicates": 0, "late": 0})
    assert source.post(call, "/calls") == (200, {"taken": 0, "duplicates": 1, "late": 0})
    assert source.post({**code, "timestamp": "2026-11-20T12:00:00Z"}, "/calls")[0] == 200
    assert source.post(code, "/calls")[0] == 400
    assert source.post({**call, "type": "selfheal.rollback"}, "/calls")[0] == 400
    assert source.post({**call, "id": "2", "extra": {"a": 1}}, "/calls")[0] == 400
    deadline = time.monotonic() + 10
    while len(source.events()) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    payloads: List[Dict[str, Any]] = [event["payload"] for event in source.events()]
    assert payloads[1] == {**call, "ack": source.events()[1]["meta"]["selfheal"]["ack"][0]}
    assert payloads[2]["error_code"] == "SHOP-CART-001"
    source.stop()


def test_the_watchdog_is_emitted_now_and_then(tmp_path: Path) -> None:
    source = Source(tmp_path, watchdog_every=1, wait_for="playbook", slots=1)
    source.post(group(alert("High")))  # which holds the one slot
    source.until(1)
    begun = time.monotonic()
    for _time in range(12):
        assert source.post(group(alert("Watchdog"), alert("High")))[0] == 200
        time.sleep(0.15)
    events = source.events()[1:]
    assert 2 <= len(events) <= 1 + (time.monotonic() - begun)
    assert [each["labels"]["alertname"] for each in events[0]["payload"]["alerts"]] == ["Watchdog"]
    assert events[0]["meta"]["selfheal"]["ack"] == []
    assert time.time() - source.metrics()["watchdog_last_seen_timestamp_seconds"] < 5
    source.stop()


def test_memory_stays_flat_through_ten_thousand_alerts(tmp_path: Path) -> None:
    source = Source(tmp_path)

    def storm(begin: int) -> int:
        for post in range(begin, begin + 50):
            alerts = [alert(f"A{post}-{n}", f"s{n % 50}", note="x" * 200) for n in range(100)]
            assert source.post(group(*alerts))[0] == 200
        emitted = (begin + 50) * 100
        source.child.wait_ready(lambda: source.metrics()['alerts_total{outcome="emitted"}'] == emitted)
        status = Path(f"/proc/{source.child.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0])

    begun = time.monotonic()
    first = storm(0)
    second = storm(50)
    assert second < first * 1.15, (first, second)
    assert time.monotonic() - begun < 60
    source.stop()
