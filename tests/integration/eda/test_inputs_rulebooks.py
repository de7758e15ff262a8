# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people leave out or get wrong: each rulebook says which, before it listens, or does nothing and says why."""

from __future__ import annotations

import os
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
import yaml
from child import free_ports
from environment import ROOT
from many_services import ALARM, BAD, services
from rulebook import Rulebook, alert, notification, rulebook

BOOKS = sorted((ROOT / "extensions/eda/rulebooks").glob("*.yml"))
NAMES = {path.stem for path in BOOKS}

pytestmark = [pytest.mark.xdist_group("eda-end-to-end")]


def short_token(book: Rulebook) -> None:
    book.token_file.write_text("short")


def no_java(book: Rulebook) -> None:
    """A PATH with this ansible-rulebook and nothing else that it needs."""
    folder = book.folder / "bin"
    folder.mkdir()
    for program in ("ansible-rulebook", "ansible-galaxy", "ansible-playbook", "sh"):
        (folder / program).symlink_to(str(shutil.which(program, path=book.env["PATH"])))
    book.env = {**book.env, "PATH": str(folder), "JAVA_HOME": ""}
    book.env.pop("JAVA_HOME")


def broken_database(book: Rulebook) -> None:
    """What the engine remembers is gone: it must not begin anew as if nothing had happened."""
    (book.folder / "engine.mv.db").write_text("this is no database")


def test_what_is_wrong_is_said_at_the_start(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("all: {hosts: {web1: {}}}\n")
    taken = socket.socket()
    taken.bind(("127.0.0.1", free_ports(1)[0]))
    taken.listen()
    port = taken.getsockname()[1]
    cases: List[Tuple[str, Dict[str, Any], Any, str]] = [
        ("alert_rollback", {"selfheal_token_file": None}, None, "'selfheal_token_file' is undefined"),
        ("canary_abort", {"selfheal_spool": None}, None, "'selfheal_spool' is undefined"),
        ("kill_switch", {"selfheal_spool": None}, None, "'selfheal_spool' is undefined"),
        ("error_code", {}, None, "'selfheal_signing_keys_file' is undefined"),
        ("webhook", {"SELFHEAL_TOKEN": None}, None, "'SELFHEAL_TOKEN' is undefined"),
        ("alert_rollback", {"selfheal_token_file": ""}, None, "token_file"),
        ("alert_rollback", {}, short_token, "is no token of 16 or more characters"),
        ("alert_rollback", {"selfheal_port": port}, None, f"{port}"),
        ("alert_rollback", {}, no_java, "Java executable or JAVA_HOME environment variable not found"),
        ("alert_rollback", {}, broken_database, "engine.mv.db"),
    ]

    def said(number: int) -> str:
        name, variables, spoil, _text = cases[number]
        folder = tmp_path / str(number)
        book = Rulebook(
            folder,
            ansible_env,
            f"selfheal.delivery.{name}",
            inventory=inventory,
            variables=variables,
            persistence=spoil is broken_database,
        )
        if spoil is not None:
            spoil(book)
        return book.failed_start()

    with taken, ThreadPoolExecutor(2) as pool:
        logs = list(pool.map(said, range(len(cases))))
    for (name, _variables, _spoil, text), log in zip(cases, logs, strict=True):
        assert text in log, (name, log)
    assert NAMES == {"alert_rollback", "awx", "canary_abort", "error_code", "kill_switch", "webhook"}


def test_what_cannot_be_taken_is_said_and_holds_up_nothing(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    with services(tmp_path / "services", 3, ["svc000"], delivery_error_codes="") as there:
        with rulebook(tmp_path / "book", ansible_env, inventory=there.inventory) as book:
            now = time.time()
            unlabelled = alert(ALARM, "svc000", now)
            del unlabelled["labels"]["service"]
            wrong = [
                alert(ALARM, "svc00O", now),
                alert(ALARM, "@/etc/passwd", now),
                alert(ALARM, "svc000", now, environment="prod"),
                alert(ALARM, "svc001", now, error_code="SHOP-CART-001"),
                unlabelled,
            ]
            assert book.post(notification(wrong)) == 200
            assert book.post({"version": "3", "alerts": []}) == 400
            book.wait_idle(120)
            book.wait(lambda: book.log.count("PLAY RECAP") >= len(wrong), "every playbook has ended", 60)
            log = book.log
            assert book.answered() == len(wrong)
        for text in (
            "no service 'svc00O' (did you mean 'svc00",
            "'@/etc/passwd' is no plain name of an inventory group",
            "is about the environment 'prod'",
            "there is no catalogue to look SHOP-CART-001 up in",
            "no label service says which service it is about",
        ):
            assert text in log.replace("\n", " "), (text, log)
        assert "root:" not in log
        assert there.current("svc000") == BAD
        assert not [entry for entry in there.entries() if entry.kind in ("action", "decision")]


def test_every_rulebook_hands_the_event_on_as_it_is_and_waits_for_no_other_service() -> None:
    for path in BOOKS:
        (rules,) = yaml.safe_load(path.read_text())
        assert rules["execution_strategy"] == "parallel", path
        (source,) = rules["sources"]
        assert [next(iter(one)) for one in source["filters"]] == ["selfheal.delivery.alerts"], path
        for rule in rules["rules"]:
            (kind, action), *others = rule["action"].items()
            assert not others
            if kind == "debug":
                continue
            given = action.get("job_args", action)["extra_vars"]
            assert given["respond_event"] == "{{ event }}" and "lock" in action, (path, rule["name"])
            assert os.path.basename(str(action["name"])) == "selfheal.delivery.respond" or kind == "run_job_template"
