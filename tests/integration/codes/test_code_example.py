# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example application, scraped by a real Prometheus with the generated rules, before and after a bad deploy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
import requests
from child import Child, free_ports
from code_catalogue import CART, EXAMPLE, catalogue, entry
from go_tool import go_tool
from traffic import IMPATIENT

from ansible_collections.selfheal.delivery.plugins.module_utils._ansible.code_tasks import (
    ERROR_CODE_GATE,
    error_code_gate,
)
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError

PATIENCE = 60.0
LOG_FIELDS = {
    "timestamp",
    "level",
    "message",
    "error_code",
    "severity",
    "service",
    "version",
    "environment",
    "trace_id",
}
PAYMENT, SEARCH = "SHOP-PAYMENT-001", "SHOP-SEARCH-001"


def play(folder: Path, env: Dict[str, str], tasks: List[Dict[str, Any]], **told: Any) -> List[Dict[str, Any]]:
    """Each task's result."""
    steps: List[Dict[str, Any]] = []
    for index, task in enumerate(tasks):
        steps.append({**task, "register": f"told{index}", "ignore_errors": True})
    said = "{{ [" + ", ".join(f"told{index}" for index in range(len(tasks))) + "] | to_json }}"
    steps.append({"ansible.builtin.copy": {"content": said, "dest": str(folder / "told.json")}})
    whole = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {**told, "ansible_python_interpreter": sys.executable},
        "tasks": steps,
    }
    (folder / "play.yml").write_text(json.dumps([whole]))
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "--diff", "play.yml"]
    done = subprocess.run(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results: List[Dict[str, Any]] = json.loads((folder / "told.json").read_text())
    return results


class Shop:
    """The example, run as its README line says, with a version of its own."""

    def __init__(self, folder: Path, version: str, catalogue: Path) -> None:
        self.port = free_ports(1)[0]
        command: List[str | Path] = [
            sys.executable,
            EXAMPLE / "shop.py",
            "--port",
            str(self.port),
            "--version",
            version,
        ]
        self.child = Child(f"shop-{version}", [*command, "--catalogue", catalogue], folder)
        self.child.wait_ready(lambda: "listening" in self.child.last_lines())
        self.session = requests.Session()
        self.session.trust_env = False

    def get(self, path: str) -> requests.Response:
        return self.session.get(f"http://127.0.0.1:{self.port}{path}", timeout=5)

    def fail(self, code: str, times: int = 1) -> None:
        for _number in range(times):
            assert self.get(f"/cart?fail={code}").status_code == 500

    def logged(self) -> List[Dict[str, Any]]:
        return [json.loads(line) for line in self.child.last_lines(1000).splitlines() if line.startswith("{")]


@contextmanager
def watching(folder: Path, rules: Path, targets: List[int]) -> Iterator[str]:
    port = free_ports(1)[0]
    listed = ", ".join(f"'127.0.0.1:{target}'" for target in targets)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 500ms}\n"
        f"rule_files: ['{rules}']\n"
        f"scrape_configs: [{{job_name: shop, static_configs: [{{targets: [{listed}]}}]}}]\n"
    )
    command: List[str | Path] = [go_tool("prometheus"), f"--config.file={folder}/prometheus.yml", "--log.level=warn"]
    command += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    server = Child("prometheus", [*command, *IMPATIENT], folder)
    url = f"http://127.0.0.1:{port}"
    try:
        server.wait_ready(lambda: bool(series(url, "app_errors_total")))
        yield url
    finally:
        server.kill()


def asked(url: str, path: str, **form: str) -> Any:
    try:
        return requests.get(f"{url}/api/v1/{path}", form, timeout=2, proxies={"http": ""}).json()["data"]
    except (requests.RequestException, ValueError, KeyError):
        return {}


def series(url: str, query: str) -> List[Any]:
    found: List[Any] = asked(url, "query", query=query).get("result", [])
    return found


def until(what: Callable[[], bool], words: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, f"never: {words}"
        time.sleep(0.2)


def seen(url: str, code: str, count: int) -> bool:
    """Has Prometheus scraped so many of them?"""
    found = series(url, f'sum(app_errors_total{{error_code="{code}"}})')
    return bool(found) and float(found[0]["value"][1]) >= count


def quick(path: Path) -> None:
    """The example's catalogue, whose alerts need no minutes."""
    text = (EXAMPLE / "error_codes.yml").read_text()
    alert = "    alert: {for: 0s, keep_firing_for: 0s, window: 30s, min_count: 5, ratio: 2}\n"
    assert "    alert: {for: 1m, window: 5m, min_count: 5, ratio: 2}\n" in text
    path.write_text(text.replace("    alert: {for: 1m, window: 5m, min_count: 5, ratio: 2}\n", alert))


def gate(url: str, **given: Any) -> Dict[str, Any]:
    """What the task says, called as the action calls it, with the spec's defaults."""
    defaults = {name: option.get("default") for name, option in ERROR_CODE_GATE.items()}
    source = {"type": "prometheus", "url": url}
    who = {"source": source, "service": "shop", "environment": "production", "code": CART}
    result = error_code_gate({**defaults, **who, **given})
    json.dumps(result, allow_nan=False)
    return result


def test_a_bad_deploy_of_the_example_is_counted_alerted_and_blamed(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    codes, made = tmp_path / "error_codes.yml", tmp_path / "made"
    quick(codes)
    rules = {"catalogue": str(codes), "dest": str(made), "route": {"receiver": "on-call"}}
    first = play(tmp_path, ansible_env, [{"selfheal.delivery.error_code_rules": rules}])[0]
    assert first["changed"] and [Path(path).name for path in first["written"]] == [
        "error_codes.rules.yml",
        "error_codes.alertmanager.yml",
        "error_codes.runbooks.md",
    ]
    with ExitStack() as stack:
        old, new = (Shop(tmp_path, version, codes) for version in ("1.0.0", "2.0.0"))
        stack.callback(old.child.kill)
        stack.callback(new.child.kill)
        url = stack.enter_context(watching(tmp_path, made / "error_codes.rules.yml", [old.port, new.port]))
        # before the deploy: the provider fails now and then, and the search seldom
        begun = time.time()
        for _number in range(12):
            old.fail(PAYMENT, 4)
            time.sleep(0.5)
        old.fail(SEARCH, 2)
        until(lambda: seen(url, SEARCH, 2), "the errors before the deploy are scraped")
        changed_at = time.time()
        for _number in range(6):
            new.fail(CART, 5)
            new.fail(SEARCH, 10)
            old.fail(PAYMENT, 4)
            time.sleep(0.5)
        until(lambda: seen(url, SEARCH, 62), "the errors after the deploy are scraped")
        until(lambda: CART in firing(url), "the alert fires")
        assert firing(url)[CART]["version"] == "2.0.0" and PAYMENT not in firing(url)

        window = {"changed_at": changed_at, "before": changed_at - begun, "catalogue": str(codes)}
        cart = gate(url, **window)
        assert (cart["verdict"], cart["reason"], cart["counts"], cart["attributable"]) == ("fail", "new", True, True)
        assert (cart["before"]["count"], cart["versions"]) == (0, {"2.0.0": 30}) and cart["unit"] == "seconds"
        search = gate(url, **{**window, "code": SEARCH})
        assert (search["verdict"], search["reason"]) == ("fail", "raised") and search["before"]["count"] == 2
        payment = gate(url, **{**window, "code": PAYMENT})
        assert payment["verdict"] != "fail" and not payment["counts"] and payment["attributable"] is False
        by_requests = gate(url, **window, total='app_errors_total{service="shop"}')
        assert by_requests["unit"] == "requests" and by_requests["verdict"] == "fail"
        the_gate_is_inconclusive_or_says_what_is_wrong(url, window)
        in_a_play(tmp_path, ansible_env, url, window)
        what_the_user_reads_and_what_is_logged(new)


def firing(url: str) -> Dict[str, Dict[str, str]]:
    alerts = asked(url, "alerts").get("alerts", [])
    return {alert["labels"]["error_code"]: alert["labels"] for alert in alerts if alert["state"] == "firing"}


def the_gate_is_inconclusive_or_says_what_is_wrong(url: str, window: Dict[str, Any]) -> None:
    down = gate("http://127.0.0.1:1", **window)
    assert (down["verdict"], down["reason"], down["before"]) == ("inconclusive", "provider_error", None)
    for lacking in ({"service": "nobody"}, {"environment": "test"}, {"metric": "no_such_total"}):
        told = gate(url, **{**window, **lacking})
        assert (told["verdict"], told["reason"], told["counts"]) == ("inconclusive", "no_data", False), lacking
    # Prometheus did not run then: nobody knows what was usual
    unknown = gate(url, **{**window, "changed_at": window["changed_at"] - 1000, "after": 2000.0})
    assert (unknown["verdict"], unknown["reason"]) == ("inconclusive", "no_data")
    wrong: List[Any] = [
        ({"code": "SHOP-CRAT-001"}, "did you mean 'SHOP-CART-001'"),
        ({"changed_at": time.time() + 600}, r"changed_at lies \d+ s in the future"),
        ({"changed_at": float("nan")}, "changed_at must be a number of seconds"),
        ({"service": " "}, "never everything"),
        ({"metric": "rate(x[5m])"}, "is not a selector"),
        ({"total": "sum(x)"}, "is not a selector"),
        ({"ratio": 0.5}, "below 1"),
        ({"min_count": 0}, "below 1"),
        ({"source": {"type": "exposition", "url": url}}, "knows no past"),
    ]
    for given, words in wrong:
        with pytest.raises(OptionError, match=words):
            gate(url, **{**window, **given})


def in_a_play(folder: Path, env: Dict[str, str], url: str, window: Dict[str, Any]) -> None:
    asked_for = {"source": {"type": "prometheus", "url": url}, "code": CART, "service": "shop", **window}
    asked_for["environment"] = "production"
    told = play(
        folder,
        env,
        [
            {"selfheal.delivery.error_code_gate": asked_for},
            {"selfheal.delivery.error_code_gate": {**asked_for, "fail_on": ["fail"]}},
            {"selfheal.delivery.error_code_gate": {**asked_for, "code": "SHOP-CRAT-001"}},
        ],
    )
    assert (told[0]["verdict"], told[0]["failed"], told[1]["failed"]) == ("fail", False, True)
    assert told[0]["msg"].startswith(f"{CART} of production/shop is new since the deploy: 0 in ")
    assert told[2]["failed"] and "did you mean 'SHOP-CART-001'" in told[2]["msg"]


def what_the_user_reads_and_what_is_logged(shop: Shop) -> None:
    answer = shop.get(f"/cart?fail={CART}")
    assert CART not in answer.text and answer.json()["message"].startswith("Your cart could not be saved")
    assert shop.get("/cart").status_code == 200 and shop.get("/cart?fail=NOPE").status_code == 400
    line = shop.logged()[-1]
    assert set(line) == LOG_FIELDS and (line["error_code"], line["version"]) == (CART, "2.0.0")
    assert line["trace_id"] == answer.json()["reference"]


@pytest.mark.demo_sized
def test_the_tasks_in_a_play(tmp_path: Path, ansible_env: Dict[str, str]) -> None:
    codes, old, made = tmp_path / "codes.yml", tmp_path / "old.yml", tmp_path / "made"
    codes.write_text(catalogue(SHOP_CART_001=entry(), SHOP_CART_002=entry(title="Another")))
    old.write_text(catalogue())
    broken = tmp_path / "broken.yml"
    broken.write_text(catalogue(SHOP_CART_001=entry(severity="critcal", title="Something else")))
    rules = {"catalogue": str(codes), "dest": str(made)}
    tasks: List[Dict[str, Any]] = [
        {"selfheal.delivery.error_code_lint": {"catalogue": str(codes), "against_file": str(old)}},
        {"selfheal.delivery.error_code_lint": {"catalogue": str(codes)}},
        {"selfheal.delivery.error_code_lint": {"catalogue": str(broken), "against_file": str(old)}},
        {"selfheal.delivery.error_code_lint": {"catalogue": str(old), "against_file": str(codes)}},
        {"selfheal.delivery.error_code_rules": rules, "check_mode": True},
        {"ansible.builtin.stat": {"path": str(made)}},
        {"selfheal.delivery.error_code_rules": rules},
        {"selfheal.delivery.error_code_rules": rules},
        {"selfheal.delivery.error_code_rules": {**rules, "catalogue": str(broken)}},
        {"selfheal.delivery.error_code_rules": {**rules, "dest": str(codes)}},
        {"selfheal.delivery.error_code_rules": {**rules, "route": {"receiver": " "}}},
        {"ansible.builtin.debug": {"msg": "{{ lookup('selfheal.delivery.error_code', 'SHOP-CART-001') }}"}},
        {"ansible.builtin.debug": {"msg": "{{ lookup('selfheal.delivery.error_code', 'SHOP-CRAT-001') }}"}},
    ]
    lint, alone, wrong, removed, checked, stat, wrote, again, refused, no_folder, no_pager, known, unknown = play(
        tmp_path, ansible_env, tasks, delivery_error_codes=str(codes)
    )
    assert (lint["failed"], lint["problems"], lint["compared"]) == (False, [], str(old))
    assert not alone["failed"] and [problem["rule"] for problem in alone["problems"]] == ["not_compared"]
    assert wrong["failed"] and (wrong["problems"][0]["line"], wrong["problems"][0]["key"]) == (6, f"{CART}.severity")
    assert "(did you mean 'critical'?)" in wrong["msg"]
    assert removed["failed"] and removed["problems"][0]["rule"] == "removed"
    assert checked["changed"] and len(checked["written"]) == 2 and not stat["stat"]["exists"]
    assert wrote["changed"] and wrote["codes"] == 2 and "alert: " in wrote["diff"][0]["after"]
    assert not again["changed"] and again["written"] == []
    assert refused["failed"] and "line 6, SHOP-CART-001.severity" in refused["msg"]
    assert no_folder["failed"] and "Not a directory" in no_folder["msg"]
    assert no_pager["failed"] and "route.receiver is empty" in no_pager["msg"]
    assert sorted(path.name for path in made.iterdir()) == ["error_codes.rules.yml", "error_codes.runbooks.md"]
    assert known["msg"]["runbook"].startswith("https://runbooks") and known["msg"]["response"] == ["rollback", "page"]
    assert unknown["failed"] and "did you mean 'SHOP-CART-001'" in unknown["msg"]
