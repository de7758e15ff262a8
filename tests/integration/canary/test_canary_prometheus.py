# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A canary judged by a real Prometheus that scrapes the real places."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from typing import Iterator
from urllib.parse import quote
from urllib.request import urlopen

from fleet import Fleet, free_ports
from go_tool import go_tool

OLD = dict.fromkeys(("web1", "web2", "web3", "web4"), "1.0.0")


@contextmanager
def prometheus(shop: Fleet, port: int) -> Iterator[None]:
    targets = "".join(
        f"  - targets: ['127.0.0.1:{place}']\n    labels: {{instance: {name}}}\n"
        for name, place in zip(shop.names, shop.ports, strict=True)
    )
    scraped = "global: {scrape_interval: 500ms, scrape_timeout: 400ms}\nscrape_configs:\n- job_name: shop\n"
    (shop.folder / "prometheus.yml").write_text(f"{scraped}  static_configs:\n{targets}")
    command = [str(go_tool("prometheus")), f"--config.file={shop.folder}/prometheus.yml", "--log.level=error"]
    command += [f"--storage.tsdb.path={shop.folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while seen(port) < len(shop.names):
            assert time.monotonic() < deadline, "Prometheus does not see the places"
            time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def seen(port: int, what: str = 'count_over_time(http_requests_total{code="200"}[5s]) > 1') -> int:
    """Of how many places Prometheus says this: as it is, that they were scraped often enough to know their traffic."""
    try:
        query = quote(f"count({what})")
        with urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={query}", timeout=1) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return 0
    return int(found[0]["value"][1]) if found else 0


def test_a_bad_release_is_caught_and_a_good_one_promoted_by_what_prometheus_saw(make_shop) -> None:
    port = free_ports(1)[0]
    # seconds enough for several scrapes of a place that has just gone back, on a machine with other work too
    bake = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 5}
    shop = make_shop(source={"type": "prometheus", "url": f"http://127.0.0.1:{port}", "window": 10}, bake=bake)
    inventory = shop.folder / "inventory.json"
    contents = json.loads(inventory.read_text())
    del contents["all"]["vars"]["ansible_host"]  # the server knows the places by their names
    inventory.write_text(json.dumps(contents))
    with shop.load(), prometheus(shop, port):
        bad = shop.play("2.0.0")
        assert bad.process.returncode != 0
        assert shop.current() == OLD
        assert shop.last().outcome["bake"]["verdict"] == "fail", bad.output
        assert shop.last().outcome["verified"]["verdict"] == "recovered"
        good = shop.play("2.0.1")
        assert good.process.returncode == 0, good.output
    assert shop.current() == dict.fromkeys(OLD, "2.0.1")


def test_what_prometheus_remembers_confirms_a_rollback_at_once(make_shop) -> None:
    port = free_ports(1)[0]
    guard = {"mode": "act", "alerts": ["ShopErrors"]}
    bake = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 8}
    shop = make_shop(
        source={"type": "prometheus", "url": f"http://127.0.0.1:{port}", "window": 10}, bake=bake, guard=guard
    )
    inventory = shop.folder / "inventory.json"
    contents = json.loads(inventory.read_text())
    del contents["all"]["vars"]["ansible_host"]
    inventory.write_text(json.dumps(contents))
    shop.known_good("2.0.1")
    with shop.load(), prometheus(shop, port):
        shop.turn_bad("2.0.1")
        deadline = time.monotonic() + 60
        # a slot in which the new release began to count is left out: there has to be a whole one after it
        while seen(port, 'increase(http_requests_total{code="500"}[5s] offset 6s) > 50') < len(shop.names):
            assert time.monotonic() < deadline, "no alert would fire"
            time.sleep(0.1)
        alert = {"kind": "alert", "name": "ShopErrors", "id": "a1"}
        command = shop.command("selfheal.delivery.rollback", {"rollback_trigger": alert, "rollback_confirm_window": 40})
        run = shop.run(command)
        assert run.end() == 0, run.output
    assert shop.current() == OLD
    assert shop.last().outcome["verified"]["verdict"] == "recovered"
    said = [line for line in run.lines if line.startswith("confirm")]
    assert len(said) == 1 and said[0].startswith("confirm   0s  bad: errors"), said
