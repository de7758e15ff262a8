# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A storm of alerts: each service that is to blame goes back once, nothing is lost, and nobody waits for the others.

`SELFHEAL_STORM=full` runs it in its full size, of 10,000 alerts about 50 of 500 services.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Mapping

import pytest
import requests
from child import free_ports
from many_services import ALARM, BAD, OLD, Playbooks, Services, name, services
from rulebook import HERE, Rulebook, alert, alertmanager, notification, rfc3339, rulebook, running
from tell_servers import hook

FULL = os.environ.get("SELFHEAL_STORM") == "full"
# alerts in all, how many of them differ, services that alarm, and services that there are
ALERTS, DISTINCT, ALARMING, KNOWN = (10_000, 500, 50, 500) if FULL else (1_000, 40, 4, 20)
WITHIN = 60.0  # seconds for all of them
POSTERS, IN_ONE = 4, 20
TAKEN_UP = 5.0  # seconds, and one playbook
COUNTED = ("taken", "duplicate", "late", "emitted", "done", "again", "timed_out")
FLAT = 64 * 2**20  # bytes that the process may grow by while a storm is worked off

pytestmark = [pytest.mark.xdist_group("eda-storm"), pytest.mark.timeout(3000)]


def storm(live: List[str], began: float, seed: int = 7) -> List[List[Dict[str, Any]]]:
    """The bodies that are posted: every alert many times and in no order, and some are over in between or before."""
    chance = random.Random(seed)
    firing, over = [], []
    for number in range(DISTINCT):
        about = (ALARM, live[number % len(live)], began + number % 7 / 10)
        firing.append(alert(*about, instance=f"pod-{number}"))
        # the first alert of each service goes on
        if number >= len(live) and number % 5 == 0:
            over.append(alert(*about, instance=f"pod-{number}", status="resolved"))
    once = [*firing, *over]
    chance.shuffle(once)
    bodies = [once[start : start + IN_ONE] for start in range(0, len(once), IN_ONE)]
    left = ALERTS - len(once)
    bodies += [chance.sample(firing, min(IN_ONE, left - done)) for done in range(0, left, IN_ONE)]
    chance.shuffle(bodies)
    return bodies


class Memory(threading.Thread):
    """How much the process holds, once a second."""

    def __init__(self, book: Rulebook) -> None:
        super().__init__(daemon=True)
        self._book, self._over, self.samples = book, threading.Event(), [book.rss()]
        self.start()

    def run(self) -> None:
        while not self._over.wait(1):
            self.samples.append(self._book.rss())

    def stop(self) -> None:
        self._over.set()
        self.join()


def post(book: Rulebook, bodies: List[List[Dict[str, Any]]]) -> float:
    """Seconds that it took; each body again until it is taken, as Alertmanager does it."""
    begun = time.monotonic()

    def one(body: List[Dict[str, Any]]) -> None:
        while book.post(notification(body)) != 200:
            assert time.monotonic() - begun < 300
            time.sleep(0.5)

    with ThreadPoolExecutor(POSTERS) as posters:
        for done in [posters.submit(one, body) for body in bodies]:
            done.result()
    return time.monotonic() - begun


def allowed(there: Services) -> Mapping[str, int]:
    """How often each service was allowed to be acted on."""
    found: Dict[str, int] = {}
    for entry in there.entries():
        if entry.kind == "decision" and entry.body["verdict"] == "allowed":
            found[entry.service] = found.get(entry.service, 0) + 1
    return found


def test_a_storm_heals_each_service_once_and_holds_up_nobody(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    live, other = [name(number) for number in range(ALARMING)], name(KNOWN - 1)
    with services(tmp_path / "services", KNOWN, [*live, other]) as there:
        book = Rulebook(tmp_path / "book", ansible_env, inventory=there.inventory)
        with running(book):
            seen, memory = Playbooks(book.folder / "tmp"), Memory(book)
            bodies = storm(live, time.time())
            took = post(book, bodies)
            asked = time.time()
            assert book.post(notification([alert(ALARM, other, asked)])) == 200
            book.wait(lambda: seen.of(other), "the other service's alert is taken up", 300)
            waited = seen.of(other)[0][1] - asked
            before = list(seen.durations())
            book.wait_idle(2400)
            seen.stop()
            memory.stop()
            counted = {what: book.count("alerts", what) for what in COUNTED}
            report(took, waited, seen, memory, counted)

        assert took < WITHIN
        assert counted["taken"] + counted["duplicate"] + counted["late"] == ALERTS + 1
        assert counted["done"] + counted["again"] == counted["emitted"] == counted["taken"]
        assert not counted["timed_out"]
        assert allowed(there) == dict.fromkeys([*live, other], 1)
        assert {one: there.current(one) for one in (*live, other)} == dict.fromkeys([*live, other], OLD)
        assert waited < TAKEN_UP + max(before)
        # of two services: one that fires, and what is over of the same one, which was acknowledged with it
        assert seen.most_at_once <= 4
        half = len(memory.samples) // 2
        assert max(memory.samples[half:]) - statistics.median(memory.samples[half // 2 : half]) < FLAT


def report(took: float, waited: float, seen: Playbooks, memory: Memory, counted: Mapping[str, int]) -> None:
    lasted = seen.durations()
    megabytes = [sample >> 20 for sample in memory.samples]
    print(
        f"\nposted in {took:.1f} s; {counted}; {len(lasted)} playbooks of {statistics.median(lasted):.1f} s"
        f" (longest {lasted[-1]:.1f}), at most {seen.most_at_once} at once; the other service waited {waited:.1f} s;"
        f" memory {megabytes[:: max(1, len(megabytes) // 12)]} MiB"
    )


def test_when_most_services_alarm_together_nothing_is_done_and_one_page_is_sent(
    tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    alarming = [name(number) for number in range(KNOWN * 3 // 5)]
    manager_port = free_ports(1)[0]
    manager = f"http://127.0.0.1:{manager_port}"
    with ExitStack() as stack:
        told = stack.enter_context(hook())
        variables = {"delivery_alerts": {"type": "alertmanager", "url": manager}}
        people = {"delivery_notify": {"people": {"type": "webhook", "url": told.url}}}
        there = stack.enter_context(services(tmp_path / "services", KNOWN, alarming[:2], **variables, **people))
        book = stack.enter_context(rulebook(tmp_path / "book", ansible_env, inventory=there.inventory))
        folder = tmp_path / "alertmanager"
        stack.enter_context(alertmanager(folder, f"{book.url}/alerts", book.token_file, manager_port))
        seen = Playbooks(book.folder / "tmp")
        labels = [{"alertname": ALARM, "service": service} for service in alarming]
        # without an end, Alertmanager takes an alert that is not told again for resolved after five minutes
        times = {"startsAt": rfc3339(time.time()), "endsAt": rfc3339(time.time() + 7200)}
        fired = [{"labels": one, **times} for one in labels]
        answer = requests.post(f"{manager}/api/v2/alerts", json=fired, timeout=30, proxies=HERE)
        assert answer.status_code == 200, answer.text
        book.wait(lambda: book.count("alerts", "taken") == len(alarming), "all of them are taken", 120)
        book.wait_idle(2400)
        seen.stop()
        pages = [post.body.decode() for post in told.posts]
        assert book.answered() == len(alarming)
    assert {run[0] for run in seen.runs.values()} == set(alarming)
    assert len(pages) == 1 and "selfheal.delivery.page" in pages[0], pages
    decided = {entry.body["reason"] for entry in there.entries() if entry.kind == "decision"}
    assert decided == {"blast_radius"} and not allowed(there)
    assert {there.current(service) for service in there.live} == {BAD}
