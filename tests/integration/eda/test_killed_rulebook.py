# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-rulebook is killed at any moment of a run of alerts: nothing is lost, and nothing is done twice.

`SELFHEAL_KILLS=50` says how often; a handful of times is the default.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Dict, List, Mapping

import pytest
import requests
from many_services import ALARM, OLD, name, services
from rulebook import Rulebook, alert, ended, notification

KILLS = int(os.environ.get("SELFHEAL_KILLS", "3"))
ALARMING = max(3, KILLS // 2)
LONGEST = 8.0  # seconds that it is left alone once it is ready: some playbooks run to their end
IN_START = 0.4  # of the kills come before it is ready

pytestmark = [pytest.mark.xdist_group("eda-storm"), pytest.mark.timeout(3000)]


class Sender(threading.Thread):
    """Posts one alert after the other, each until it is taken, and never again after that."""

    def __init__(self, book: Rulebook, live: List[str]) -> None:
        super().__init__(daemon=True)
        self._book, self._waiting = book, list(live)
        self.taken: List[str] = []
        self.wanted = threading.Semaphore(0)
        self.start()

    def run(self) -> None:
        while self._waiting:
            self.wanted.acquire()
            service = self._waiting.pop(0)
            body = notification([alert(ALARM, service, time.time())])
            while not self._posted(body):
                time.sleep(0.1)
            self.taken.append(service)

    def _posted(self, body: Dict[str, object]) -> bool:
        try:
            return self._book.post(body) == 200
        except requests.RequestException:
            return False


def test_no_alert_is_lost_and_no_release_goes_back_twice(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    chance = random.Random(KILLS)
    live = [name(number) for number in range(ALARMING)]
    with (
        services(tmp_path / "services", 4 * ALARMING, live) as there,
        ended(Rulebook(tmp_path / "book", ansible_env, inventory=there.inventory, persistence=True)) as book,
    ):
        sender = Sender(book, live)
        for number in range(KILLS):
            if number % 2 == 0 or KILLS < 2 * ALARMING:
                sender.wanted.release()
            if chance.random() < IN_START:
                book.begin()
                time.sleep(chance.uniform(0.0, 3.0))
            else:
                book.start()
                time.sleep(chance.uniform(0.0, LONGEST))
            book.kill()
        for _alert in live:
            sender.wanted.release()
        book.start()
        book.wait(lambda: len(sender.taken) == len(live), "every alert is taken", 300)
        book.wait_idle(1200)
        book.stop()
        with closing(sqlite3.connect(book.spool / "spool.sqlite")) as spool:
            waiting = spool.execute("SELECT count(*) FROM item WHERE state = 0").fetchone()[0]
            kept = spool.execute("SELECT count(*) FROM item").fetchone()[0]
        interrupted = book.log.count("an interrupted run was taken back just now")
        print(f"\n{KILLS} kills, {len(live)} alerts; {interrupted} rollbacks were finished by another run")
        assert (waiting, kept) == (0, len(live))
        assert there.healed() == live
        assert [there.current(service) for service in live] == [OLD] * len(live)
        for service in live:
            (rollout,) = there.rollouts(service)
            found = there.entries(service)
            verdicts = [entry.body["verdict"] for entry in found if entry.kind == "decision"]
            assert verdicts.count("allowed") == 1, verdicts
            assert sum(entry.kind == "outcome" and bool(entry.body["changed"]) for entry in found) == 1, found
            assert (rollout.kind, rollout.state) == ("rollback", "done")


def test_the_playbooks_that_a_killed_rulebook_leaves_are_ended_and_nothing_else(
    tmp_path: Path, ansible_env: Dict[str, str]
) -> None:
    book, other = (Rulebook(tmp_path / name, ansible_env, inventory=tmp_path / "hosts") for name in ("book", "book2"))
    playbook = tmp_path / "ansible-playbook"
    # a process that is just being replaced has no variables to know it by
    playbook.write_text("sleep 60 & until grep -q sleep /proc/$!/cmdline; do :; done; echo; wait")
    with ExitStack() as stack:

        def started(command: List[str], env: Mapping[str, str]) -> "subprocess.Popen[bytes]":
            process = stack.enter_context(subprocess.Popen(command, env=env, stdout=subprocess.PIPE))
            stack.callback(process.kill)
            return process

        left, of_another = (started(["sh", str(playbook)], one.env) for one in (book, other))
        service = started(["sleep", "60"], book.env)
        for one in (left, of_another):
            assert one.stdout is not None and one.stdout.readline()  # it runs a task
        assert book.end_left() == 2
        assert left.stdout is not None and left.stdout.read() == b""  # nobody is left who could write
        assert [one.poll() for one in (left, of_another, service)] == [-signal.SIGKILL, None, None]
        assert other.end_left() == 2
