# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An error code as the reason to look: it is held against a release only if it is new or raised since its deploy."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from child import Child, free_ports
from code_catalogue import CART, EXAMPLE
from fleet import SERVICE
from go_tool import go_tool

from ansible_collections.selfheal.delivery.plugins.module_utils._guard.model import Entry
from ansible_collections.selfheal.delivery.plugins.module_utils._guard.open import open_ledger

NAMES = ("web1", "web2", "web3", "web4")
OLD, NEW = dict.fromkeys(NAMES, "1.0.0"), dict.fromkeys(NAMES, "2.0.1")
CATALOGUE = EXAMPLE / "error_codes.yml"
PROVIDER, STEADY, RARE = "SHOP-PAYMENT-001", "SHOP-SEARCH-001", "SHOP-SEARCH-002"
GUARD = {
    "mode": "act",
    "codes": [CART, PROVIDER, STEADY, RARE],
    "cooldown": 0,
    "global_cooldown": 0,
    "clear_for": 0,
}
BAKE = {"look_every": 0.5, "min_bake": 1, "deadline": 20, "warm_up": 0, "verify_for": 5}
PATIENCE = 60.0


def counting(folder: Path, port: int) -> Child:
    """The example application, which counts errors by code, as the demo's shop."""
    command: List[str | Path] = [sys.executable, EXAMPLE / "shop.py", "--port", str(port), "--version", "2.0.1"]
    child = Child("codes", [*command, "--environment", "demo", "--catalogue", CATALOGUE], folder)
    child.wait_ready(lambda: "listening" in child.last_lines())
    return child


def fail(port: int, code: str, times: int) -> None:
    for _number in range(times):
        with pytest.raises(HTTPError):
            urlopen(f"http://127.0.0.1:{port}/cart?fail={code}", timeout=5)


@contextmanager
def prometheus(shop: Any, port: int, codes: int) -> Iterator[None]:
    """It knows the places by their names, and beside them what counts the codes."""
    jobs = [([f"127.0.0.1:{place}"], {"instance": name}) for name, place in zip(shop.names, shop.ports, strict=True)]
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "400ms"},
        "scrape_configs": [
            {"job_name": "shop", "static_configs": [{"targets": targets, "labels": names} for targets, names in jobs]},
            {"job_name": "codes", "static_configs": [{"targets": [f"127.0.0.1:{codes}"]}]},
        ],
    }
    (shop.folder / "prometheus.yml").write_text(json.dumps(config))
    command: List[str | Path] = [go_tool("prometheus"), f"--config.file={shop.folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={shop.folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    server = Child("prometheus", [*command, "--log.level=error"], shop.folder)
    try:
        until(port, "count(app_errors_total)", 4)
        yield
    finally:
        server.kill()


def until(port: int, query: str, least: float) -> None:
    """Wait until Prometheus has seen so much."""
    deadline = time.monotonic() + PATIENCE
    while value(port, query) < least:
        assert time.monotonic() < deadline, f"Prometheus never saw {query} reach {least}"
        time.sleep(0.2)


def value(port: int, query: str) -> float:
    try:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={quote(query)}", timeout=1) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        return 0.0
    return float(found[0]["value"][1]) if found else 0.0


def newest(shop: Any, kind: str) -> Mapping[str, Any]:
    with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
        found: List[Entry] = [entry for entry in ledger.last_entries(SERVICE, 1000) if entry.kind == kind]
    return found[0].body


def roll_back(shop: Any, code: str, *, well: bool = False, catalogue: str = str(CATALOGUE)) -> str:
    """One run because of a new incident of `code`; what it said, in one line."""
    trigger = {"kind": "error_code", "name": code, "id": f"{code}.{time.time():.0f}"}
    given = {"rollback_trigger": trigger, "rollback_confirm_window": 40, "delivery_error_codes": catalogue}
    run = shop.run(shop.command("selfheal.delivery.rollback", given))
    assert (run.end() == 0) == well, run.output[-6000:]
    return " ".join(run.output.split())


def denied(shop: Any, code: str, counts: str, page: bool, words: str) -> None:
    """The gates say that it is bad; what is known of the code keeps the release all the same, and is told."""
    said = roll_back(shop, code)
    decision = newest(shop, "decision")
    assert (decision["verdict"], decision["reason"], decision["page"]) == ("denied", "not_confirmed", page), said
    evidence = newest(shop, "trigger")["evidence"]
    assert evidence["gates"]["confirmed"] is True and evidence["code"]["counts"] == counts, evidence
    assert words in said and words in evidence["code"]["msg"]
    assert shop.current() == NEW


def test_a_code_counts_only_if_it_is_new_or_raised_and_a_deploy_can_have_caused_it(make_shop: Any) -> None:
    port, codes = free_ports(2)
    shop = make_shop(
        source={"type": "prometheus", "url": f"http://127.0.0.1:{port}", "window": 10}, bake=BAKE, guard=GUARD
    )
    inventory = json.loads((shop.folder / "inventory.json").read_text())
    del inventory["all"]["vars"]["ansible_host"]
    (shop.folder / "inventory.json").write_text(json.dumps(inventory))
    with ExitStack() as stack:
        stack.callback(counting(shop.folder, codes).kill)
        stack.enter_context(shop.load())
        stack.enter_context(prometheus(shop, port, codes))
        for _half in range(16):
            fail(codes, STEADY, 20)
            time.sleep(0.5)
        until(port, f'app_errors_total{{error_code="{STEADY}"}}', 320)
        shop.known_good("2.0.1")
        shop.turn_bad("2.0.1")
        fail(codes, STEADY, 10)
        fail(codes, RARE, 3)
        fail(codes, PROVIDER, 30)
        fail(codes, CART, 400)  # so many that a few seconds without any before them are enough to tell
        until(port, f'app_errors_total{{error_code="{CART}"}}', 400)
        until(port, 'count(increase(http_requests_total{code="500"}[10s]) > 100)', len(NAMES))

        what_is_not_in_the_catalogue_is_an_error(shop)
        denied(shop, STEADY, "no", False, f"{STEADY} of demo/shop is not raised since the deploy: 320 in")
        denied(shop, PROVIDER, "no", False, f"{PROVIDER} cannot be the fault of a deploy")
        denied(shop, RARE, "unknown", True, f"{RARE} of demo/shop is inconclusive (low sample)")
        marked = deployed_at(shop, None)
        denied(shop, CART, "unknown", True, "nobody knows when 2.0.1 was deployed")
        deployed_at(shop, marked)
        # on a slow machine minutes have gone by, over which the first ones are few
        fail(codes, CART, 400)
        until(port, f'app_errors_total{{error_code="{CART}"}}', 800)
        roll_back(shop, CART, well=True)
    evidence = newest(shop, "trigger")["evidence"]["code"]
    assert (evidence["counts"], evidence["reason"], evidence["attributable"]) == ("yes", "new", True)
    assert shop.current() == OLD and shop.last().outcome["verified"]["verdict"] == "recovered"


def deployed_at(shop: Any, at: Optional[float]) -> float:
    """Have every place say that 2.0.1 was deployed then; when it was before."""
    was = 0.0
    for name in NAMES:
        mark = shop.place(name) / "releases" / "2.0.1" / ".release.json"
        told = json.loads(mark.read_text())
        was = told["deployed_at"]
        mark.write_text(json.dumps({**told, "deployed_at": at}))
    return was


def what_is_not_in_the_catalogue_is_an_error(shop: Any) -> None:
    assert "did you mean 'SHOP-CART-001'" in roll_back(shop, "SHOP-CRAT-001")
    assert "Name its file in delivery_error_codes" in roll_back(shop, CART, catalogue="")
    assert shop.current() == NEW
    with closing(open_ledger({"path": str(shop.ledger)}, create=False)) as ledger:
        assert not ledger.last_entries(SERVICE, 1000)
