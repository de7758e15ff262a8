# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on events, done as it is written: from its inventory to a release that a person's yes takes back."""

from __future__ import annotations

import base64
import json
import re
import secrets
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest
import yaml
from child import free_ports
from go_tool import go_tool
from rulebook import Rulebook, configured_alertmanager, rulebook
from shops import Shop
from tell_servers import Hook, hook
from traffic import prometheus

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/events.md").read_text(encoding="utf-8")
INVENTORY, PLAYBOOK, VARIABLES, *_OTHERS = map(yaml.safe_load, re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL))
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = "".join(re.findall(r"```shell\n(.*?)```", PAGE, flags=re.DOTALL)).replace("\\\n", " ").splitlines()
BAKE = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 3}
# the same alerts, without the hours that a budget of 30 days takes
QUICK = {
    "alerting_windows": [{"long": "20s", "short": "5s", "factor": 14.4}],
    "alerting_for": "1s",
    "alerting_keep_firing_for": "2s",
    "alerting_labels": {"version": ""},
    "alerting_series": {"shop": {"job": "pods"}},
}

pytestmark = [pytest.mark.xdist_group("eda-guide"), pytest.mark.timeout(600)]


def command(beginning: str) -> str:
    """The one command of the page that begins so."""
    (found,) = [line for line in COMMANDS if line.startswith(beginning)]
    return found


class Follower:
    """Somebody who does what the page says, on one machine and for the shop of the tests."""

    def __init__(self, shop: Shop, folder: Path, told: Hook) -> None:
        self.shop, self.folder, self.told = shop, folder, told
        self.manager_port = free_ports(1)[0]
        self.manager = f"http://127.0.0.1:{self.manager_port}"
        self.inventory = shop.folder / "inventory.json"
        contents = json.loads(self.inventory.read_text())
        given = json.loads(json.dumps(INVENTORY["all"]["vars"]))
        given["delivery_alerts"]["url"] = self.manager
        given["delivery_notify"] = {"team": {"type": "webhook", "url": told.url}}
        contents["all"]["vars"].update({**given, "delivery_environment": "demo"})
        self.inventory.write_text(json.dumps(contents))
        self.key = folder / "ci.key"
        self.key.touch(0o600)
        self.key.write_text(f"ci whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}\n")

    def calls(self, book: Rulebook) -> str:
        """What a call is answered that the page's program makes."""
        program = PROGRAM.replace("/etc/selfheal/ci.key", str(self.key)).replace("5050", str(book.port))
        (self.folder / "call.py").write_text(program)
        return self.run("python3 call.py")

    def run(self, line: str, **words: str) -> str:
        """A command of the page, with what it has for an example replaced by what is here."""
        here = {
            "hosts.yml": str(self.inventory),
            "http://alertmanager.example.org:9093": self.manager,
            "environment=production": "environment=demo",
            "production/shop": "demo/shop",
            "amtool ": f"{go_tool('amtool')} --no-version-check ",
        }
        for old, new in {**here, **words}.items():
            line = line.replace(old, new)
        done = subprocess.run(
            ["bash", "-c", line], env=self.shop.env, cwd=self.folder, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def alerting(self, book: Rulebook) -> Dict[str, Path]:
        """Run the page's playbook; the files of rules and of Alertmanager's configuration that it makes."""
        play: Dict[str, Any] = json.loads(json.dumps(PLAYBOOK[0]))
        made = {"rules": self.folder / "rules.yml", "config": self.folder / "alertmanager.yml"}
        play.update(hosts="localhost", connection="local", become=False)
        play["roles"][0]["vars"].update(
            QUICK,
            alerting_rules_path=str(made["rules"]),
            alerting_config_path=str(made["config"]),
            alerting_url=f"{book.url}/alerts",
            alerting_credentials_file=str(book.token_file),
            alerting_promtool=str(go_tool("promtool")),
            alerting_amtool=str(go_tool("amtool")),
            alerting_must_check=True,
        )
        (self.folder / "alerting.yml").write_text(json.dumps([play]))
        self.run("ansible-playbook -i hosts.yml alerting.yml")
        return made

    def decisions(self, verdict: str) -> List[Dict[str, Any]]:
        if not self.shop.ledger.exists():
            return []
        with closing(open_ledger({"path": str(self.shop.ledger)}, create=False)) as ledger:
            entries = ledger.last_entries("demo/shop", 1000)
        return [dict(e.body) for e in entries if e.kind == "decision" and e.body["verdict"] == verdict]

    def reasons(self) -> List[str]:
        return [decision["reason"] for decision in self.decisions("denied")]


def test_a_release_that_turns_bad_is_recommended_to_go_back_and_goes_when_a_person_says_yes(
    make_shop: Callable[..., Shop], tmp_path: Path
) -> None:
    shop = make_shop(places=2, guard={}, bake=BAKE)
    shop.known_good("2.0.1")
    with hook() as told, shop.load():
        follower = Follower(shop, tmp_path, told)
        ready = {name: value for name, value in VARIABLES.items() if name == "selfheal_host"}
        ready["selfheal_signing_keys_file"] = str(follower.key)
        with rulebook(tmp_path / "book", shop.env, inventory=follower.inventory, variables=ready) as book:
            assert '"ok"' in follower.run(command("curl http").replace("5050", str(book.port)))
            made = follower.alerting(book)
            rules = yaml.safe_load(made["rules"].read_text())
            for group in rules["groups"]:
                group["interval"] = "500ms"
            made["rules"].write_text(yaml.safe_dump(rules))
            managers = {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{follower.manager_port}"]}]}]}
            more = yaml.safe_dump({"rule_files": [str(made["rules"])], "alerting": managers})
            targets = [f"127.0.0.1:{port}" for port in shop.ports]
            # one that is not there yet loses what it is told
            with configured_alertmanager(tmp_path, made["config"], follower.manager_port):
                with prometheus(tmp_path / "prometheus", targets, more=more):
                    book.wait(lambda: book.count("alerts", "watchdog") > 0, "the Watchdog comes", 60)
                    the_rest(follower, book)


def the_rest(follower: Follower, book: Rulebook) -> None:
    shop = follower.shop
    follower.run(command("amtool"))
    book.wait(follower.reasons, "crying wolf is denied", 60)
    assert follower.reasons() == ["not_confirmed"], book.log
    assert "not_confirmed" in follower.run(command("ansible -i hosts.yml localhost -m selfheal.delivery.ledger_info"))

    assert '"taken": 1' in follower.calls(book)
    book.wait(lambda: "not_eligible" in follower.reasons(), "a caller that nobody named is denied", 60)

    shop.turn_bad("2.0.1")
    book.wait(lambda: follower.decisions("recommended"), "it is recommended to go back", 90)
    decision = follower.decisions("recommended")[0]["id"]
    book.wait(lambda: any(decision in post.body.decode() for post in follower.told.posts), "the team is told", 30)
    assert set(shop.current().values()) == {"2.0.1"}

    follower.run(command("ansible-playbook -i hosts.yml selfheal.delivery.control"), **{"5f2c81d09ab4": decision})
    follower.run(command("ansible-playbook -i hosts.yml selfheal.delivery.rollback"), **{"5f2c81d09ab4": decision})
    assert set(shop.current().values()) == {"1.0.0"}
    deadline = time.monotonic() + 60
    while not book.idle():
        assert time.monotonic() < deadline, book.log
        time.sleep(0.2)
    assert set(shop.current().values()) == {"1.0.0"}
