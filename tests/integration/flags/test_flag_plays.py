# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""feature_flag, feature_flag_info and the lookup as people call them: in a play, with a ledger, and with secrets."""

from __future__ import annotations

import json
import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from guard_play import results, run

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

pytestmark = pytest.mark.demo_sized
SERVICE = "prod/shop"
OURS = "selfheal.delivery."
SECRET, CLIENT = "*:*.0f5ecrettoken0000", "default:production.0c1ienttoken0000"


class Blabbing(BaseHTTPRequestHandler):
    """A server that is broken in the worst way: each answer repeats the credentials that it was sent."""

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""

    def _answer(self) -> None:
        token = self.headers.get("Authorization", "")
        body = json.dumps({"name": "X", "message": f"the token {token} is not of this place"}).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = _answer


@contextmanager
def blabbing() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Blabbing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def entries(folder: Path) -> List[Dict[str, Any]]:
    """What the ledger has of the service's flags, oldest first."""
    with closing(open_ledger({"path": str(folder / "ledger.sqlite")})) as ledger:
        return [{"kind": one.kind, **one.body} for one in ledger.entries(SERVICE) if one.kind in ("action", "outcome")]


def test_a_flag_of_a_file_is_turned_verified_and_recorded(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(
        '{"production": {"search": true, "colour": "blue"}, "staging": {"beta": {"enabled": true, "percentage": 20}}}'
    )
    here: Dict[str, Any] = {"flag": "search", "environment": "production"}
    provider = {"type": "json", "path": str(flags)}
    where = {**here, "provider": provider}
    off = {"service": SERVICE, **where, "state": False}  # what YAML makes of an unquoted off
    colour_now = f"{{{{ lookup('{OURS}feature_flag', 'colour', provider=at, environment='production') }}}}"

    def beta(*options: str) -> str:
        """What a lookup makes of a flag that a fifth of the clients are served."""
        given = ", ".join(["'beta'", "provider=at", "environment='staging'", *options])
        return f"{{{{ lookup('{OURS}feature_flag', {given}) | to_json }}}}"

    told = results(
        [
            {f"{OURS}feature_flag": off, "check_mode": True, "diff": True},
            {f"{OURS}feature_flag_info": where},
            {f"{OURS}feature_flag": {**off, "reason": "it is slow"}},
            {f"{OURS}feature_flag": off},
            {f"{OURS}feature_flag": {**off, "flag": "serch"}},
            {f"{OURS}feature_flag": {**off, "environment": "prodction"}},
            {f"{OURS}feature_flag": {**off, "state": True, "percentage": 120}},
            {f"{OURS}feature_flag": {**off, "provider": {**provider, "pth": 1}}},
            {f"{OURS}feature_flag": {**off, "flag": "colour", "serve": "red"}},
            {f"{OURS}feature_flag": {**off, "state": True, "verify": False}},
            # in an environment of its own it is the module's work
            {f"{OURS}feature_flag": off, "environment": {"LC_ALL": "C"}},
            {f"{OURS}feature_flag_info": where, "environment": {"LC_ALL": "C"}},
            {"ansible.builtin.debug": {"msg": f"{colour_now} {beta('default=[]')}"}, "vars": {"at": provider}},
            {"ansible.builtin.debug": {"msg": beta()}, "vars": {"at": provider}},
        ],
        ansible_env,
        tmp_path,
    )
    checked, looked, turned, again, flag, environment, share, key, colour, unasked, module, asked, some, split = told
    assert checked["changed"] and checked["diff"]["after"] == {
        **checked["diff"]["before"],
        "on": False,
        "served": False,
    }
    assert looked["state"]["on"] and looked["served"]["value"] is True, "check mode sets nothing"
    assert (turned["changed"], turned["status"], turned["served"]["value"]) == (True, "effective", False)
    assert 0 <= turned["call_took"] < 1 and 0 <= turned["effective_after"] < 1
    assert (again["changed"], again["status"]) == (False, "effective")
    assert flag["failed"] and "did you mean 'search'" in flag["msg"] and flag["changed"] is False
    assert environment["failed"] and "did you mean 'production'" in environment["msg"]
    assert share["failed"] and "0 to 100" in share["msg"]
    assert key["failed"] and "did you mean 'path'" in key["msg"]
    assert colour["status"] == "effective" and colour["served"]["value"] == "red"
    assert unasked["status"] == "unverified" and not unasked.get("failed")
    assert (module["changed"], module["status"], module["recorded"]) == (True, "effective", True)
    assert some["msg"] == "red []" and split["failed"] and "not all served the same" in split["msg"]
    assert (asked["state"]["on"], asked["served"]["value"]) == (False, False)
    assert json.loads(flags.read_text()) == {
        "production": {"search": False, "colour": "red"},
        "staging": {"beta": {"enabled": True, "percentage": 20}},
    }
    recorded = entries(tmp_path)
    intent, outcome = recorded[:2]
    assert (intent["kind"], intent["state"], intent["flag"], intent["reason"]) == (
        "action",
        "off",
        "search",
        "it is slow",
    )
    assert (outcome["ok"], outcome["status"], outcome["served"]["value"]) == (True, "effective", False)
    assert [one["ok"] for one in recorded if one["kind"] == "outcome"].count(False) == 3, "each failure is recorded"


def test_no_token_shows_anywhere(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    (tmp_path / "client").write_text(f"{CLIENT}\n")
    with blabbing() as url:
        off = {"service": SERVICE, "flag": "search", "environment": "production", "state": "off", "deadline": 5}
        inline = {"type": "unleash", "url": url, "token": SECRET, "client_token": CLIENT}
        files = {"token_file": str(tmp_path / "token"), "client_token_file": str(tmp_path / "client")}
        providers: List[Dict[str, Any]] = [inline, {"type": "unleash", "url": url, **files}, {"type": "unleash"}]
        tasks: List[Dict[str, Any]] = []
        for provider in providers:
            asked = {"flag": "search", "environment": "production", "provider": provider}
            value = f"{{{{ lookup('{OURS}feature_flag', 'search', provider={provider}, environment='production') }}}}"
            tasks += [
                {f"{OURS}feature_flag": {**off, "provider": provider}},
                {f"{OURS}feature_flag_info": asked},
                {"ansible.builtin.debug": {"msg": value}},
            ]
        tasks.append({f"{OURS}feature_flag": {**off, "provider": inline}, "environment": {"LC_ALL": "C"}})
        env = {
            **ansible_env,
            "SELFHEAL_FLAGS_URL": url,
            "SELFHEAL_FLAGS_TOKEN": SECRET,
            "SELFHEAL_FLAGS_CLIENT_TOKEN": CLIENT,
        }
        steps = [{**task, "ignore_errors": True} for task in tasks]
        output = run([{"hosts": "all", "gather_facts": False, "tasks": steps}], env, tmp_path, "-vvv", "--diff")
    assert output.count("is not of this place") >= 10, output
    told = entries(tmp_path)
    assert len(told) == 8 and not any(one.get("ok") for one in told)
    # of the lookup Ansible itself shows the expression, which holds what its author wrote there
    shown = "\n".join(line for line in output.splitlines() if "lookup(" not in line)
    for text in (shown, json.dumps(told), (tmp_path / "ledger.sqlite").read_bytes().decode("latin-1")):
        for token in (SECRET, CLIENT):
            assert token.rpartition(".")[2] not in text
