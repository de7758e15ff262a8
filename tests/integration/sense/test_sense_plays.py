# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks and the lookup in real plays: on the controller, and as modules on a gate host, packed by Ansible."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from sense_servers import Place, api, number, told, web

# everything that is not `local` is far away for Ansible, and gets the module packed and sent
FAR = """
from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = '''
name: far
short_description: this machine, as if it were another one
description: Runs on this machine.
'''

class Connection(Local):
    transport = "far"
"""
ERRORS = {"name": "errors", "bad": 'http_requests_total{code=~"5.."}', "total": "http_requests_total", "max": "1%"}
QUERY = {"gate": "errors", "bad": ERRORS["bad"], "total": ERRORS["total"]}


@pytest.fixture
def url() -> Iterator[str]:
    place = Place()
    place.serve(960, 40)
    place.queue.labels("a").set(7)
    with place.listening() as url:
        yield url


@pytest.fixture
def server() -> Iterator[str]:
    replies = {"sum(rate": told("vector", [number({}, 0.25)])}
    with web(api(replies)) as (url, _asked):
        yield url


def play(tasks: List[Dict[str, Any]], env: Dict[str, str], folder: Path) -> List[Dict[str, Any]]:
    """Each task's result; the play is over a host that nobody could reach."""
    (folder / "connection_plugins").mkdir()
    (folder / "connection_plugins/far.py").write_text(FAR)
    (folder / "ansible.cfg").touch()
    inventory = {
        "all": {
            "hosts": {
                "web1": {"ansible_host": "192.0.2.1"},
                "gate": {"ansible_connection": "far", "ansible_python_interpreter": sys.executable},
            }
        }
    }
    (folder / "hosts.json").write_text(json.dumps(inventory))
    steps: List[Dict[str, Any]] = []
    for index, task in enumerate(tasks):
        steps.append({**task, "register": f"told{index}", "ignore_errors": True})
    said = "{{ [" + ", ".join(f"told{index}" for index in range(len(tasks))) + "] | to_json }}"
    keep = {"content": said, "dest": str(folder / "told.json")}
    steps.append({"ansible.builtin.copy": keep, "delegate_to": "localhost"})
    (folder / "play.yml").write_text(json.dumps([{"hosts": "web1", "gather_facts": False, "tasks": steps}]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "hosts.json", "-v", "play.yml"],
        cwd=folder,
        env={
            **env,
            "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
            "ANSIBLE_CONNECTION_PLUGINS": str(folder / "connection_plugins"),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    results: List[Dict[str, Any]] = json.loads((folder / "told.json").read_text())
    return results


@pytest.mark.demo_sized
def test_metrics_are_read_here_and_on_a_gate_host(
    url: str, server: str, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    page = {"type": "exposition", "url": url}
    prometheus = {"type": "prometheus", "url": server, "token": "hunter2"}
    policy = {"source": page, "traffic": 500, "gates": [{**ERRORS, "bad": "nothing_total"}]}
    value = {"name": "rate", "type": "value", "value": "sum(rate(x[5m]))", "max": 1}
    works: List[Dict[str, Any]] = [
        {"selfheal.delivery.metric_gate": {"source": page, "gate": ERRORS}},
        {"selfheal.delivery.metric_gate": {"source": prometheus, "gate": value}},
        {"selfheal.delivery.metric_info": {"source": page, "queries": [QUERY]}},
        {"selfheal.delivery.metric_info": {"source": prometheus, "queries": [{"gate": "v", "value": "sum(rate(x))"}]}},
        {
            "selfheal.delivery.gate_lint": {
                "service": "shop",
                "policy": policy,
                "targets": [{"place": "a", "url": url}, {"place": "b", "url": url}],
            }
        },
    ]
    gate = [{**work, "delegate_to": "gate"} for work in works]
    results = play([*works, *gate], ansible_env, tmp_path)
    for here, there in zip(results[:5], results[5:], strict=True):
        assert {**strip(here)} == {**strip(there)}
        assert "invocation" not in here
    errors, rate, counted, server_sample, lint = results[:5]
    assert (errors["verdict"], errors["failed"]) == ("fail", False)
    assert (rate["verdict"], rate["value"]) == ("pass", 0.25)
    assert counted["sample"]["answers"]["errors"]["all"]["total"] == 1000
    assert server_sample["sample"]["answers"]["v"]["all"]["value"] == 0.25
    assert lint["failed"] and lint["findings"][0]["code"] == "no_such_metric"


def strip(result: Dict[str, Any]) -> Dict[str, Any]:
    """Without what differs from one look to the next, and between an action and a module."""
    kept = {key: value for key, value in result.items() if key not in ("took", "invocation", "exception", "sample")}
    if "sample" in result:
        kept["gates"] = sorted(result["sample"]["answers"])
    return kept


@pytest.mark.demo_sized
def test_wrong_options_and_sources_that_are_away_are_told_in_one_sentence(
    url: str, ansible_env: Dict[str, str], tmp_path: Path
) -> None:
    with Place().listening() as gone:
        pass
    away = gone.replace("http://", "http://ada:hunter2@")
    page = {"type": "exposition", "url": url}
    typo = {**ERRORS, "toal": "x"}
    tasks: List[Dict[str, Any]] = []
    for where in ({}, {"delegate_to": "gate"}):
        tasks += [
            {"selfheal.delivery.metric_gate": {"source": page, "gate": typo}, **where},
            {"selfheal.delivery.metric_gate": {"source": {**page, "tpe": "x"}, "gate": ERRORS}, **where},
            {
                "selfheal.delivery.metric_gate": {
                    "source": {"type": "exposition", "url": away},
                    "gate": ERRORS,
                    "fail_on": ["inconclusive"],
                },
                **where,
            },
        ]
    results = play(tasks, ansible_env, tmp_path)
    for told_typo, key, refused in (results[:3], results[3:]):
        assert "did you mean 'total'?" in told_typo["msg"]
        assert "tpe" in key["msg"]
        assert refused["failed"] and refused["msg"] == f"errors is inconclusive: {gone} refuses the connection"


def test_the_lookup_reads_in_an_expression(url: str, server: str, ansible_env: Dict[str, str], tmp_path: Path) -> None:
    page = {"type": "exposition", "url": url}

    def show(expression: str) -> Dict[str, Any]:
        return {"ansible.builtin.debug": {"msg": "{{ " + expression + " }}"}, "vars": {"page": page}}

    bad = "http_requests_total{code='500'}"
    results = play(
        [
            show("lookup('selfheal.delivery.metric', 'queue_length', source=page)"),
            show(f"lookup('selfheal.delivery.metric', \"{bad}\", total='http_requests_total', source=page)"),
            show("lookup('selfheal.delivery.metric', 'nothing', source=page, default='none')"),
            show("lookup('selfheal.delivery.metric', 'nothing', source=page)"),
            show("lookup('selfheal.delivery.metric', 'sum(rate(x[5m]))')"),
        ],
        {**ansible_env, "SELFHEAL_PROMETHEUS_URL": server, "SELFHEAL_PROMETHEUS_TOKEN": "hunter2"},
        tmp_path,
    )
    value, counted, default, nothing, rate = results
    assert value["msg"] == 7
    assert counted["msg"] == {"bad": 40, "total": 1000, "rate": 0.04}
    assert default["msg"] == "none"
    assert nothing["failed"] and "nothing: no series: there is no metric nothing" in nothing["msg"]
    assert rate["msg"] == 0.25
