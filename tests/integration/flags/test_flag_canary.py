# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A flag turned on step by step, from ansible-playbook to what users are served, judged by a real Prometheus."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Tuple

import pytest
from flag_shop import FLAG, FlaggedShop, FlagSite, flagged, home_made
from flag_vendors import Asked, Reply, Vendor, insist, serving
from service_site import BAKE
from unleash import ENVIRONMENT, Unleash, sdk

FLAGS = {FLAG: {"enabled": False, "percentage": 0}, "other": True}
FLAGD = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
Begin = Callable[..., Any]


@pytest.fixture
def begin(tmp_path: Path, ansible_env: Dict[str, str]) -> Begin:
    """A shop with users that is served by a client of the flag, and the site that turns it."""

    @contextmanager
    def begun(
        served: Callable[[int], bool], options: Mapping[str, Any], **shop: Any
    ) -> Iterator[Tuple[FlaggedShop, FlagSite]]:
        with flagged(tmp_path, served, **shop) as (running, url):
            yield running, FlagSite(tmp_path, ansible_env, url, options)

    return begun


def test_a_bad_flag_is_off_again_and_a_good_one_is_on_for_all_until_it_is_rolled_back(
    begin: Begin, tmp_path: Path
) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(FLAGS, indent=2))
    with begin(home_made(flags), {"provider": {"type": "json", "path": str(flags)}}, rate=0.2) as (shop, site):
        bad = site.play("canary", canary_release="on", canary_traffic_steps=[10, 50, 100])
        assert bad.returncode != 0 and "bake 2/3" not in bad.stdout, bad.stdout
        assert shop.share() == 0, bad.stdout
        last = site.last()
        assert (last.state, last.outcome["bake"].get("verdict")) == ("undone", "fail"), bad.stdout
        assert last.outcome["verified"]["verdict"] == "recovered", bad.stdout
        assert json.loads(flags.read_text())["other"] is True
        # to try it again is a person's decision, also when it is mended
        shop.rate = 0.0
        again = site.play("canary", canary_release="on")
        assert again.returncode != 0 and "on was found bad in its last rollout: errors failed" in again.stdout
        good = site.play("canary", canary_release="on", canary_traffic_steps=[10, 50, 100], canary_retry_bad=True)
        assert good.returncode == 0, good.stdout
        assert all(f"bake {step}/3" in good.stdout for step in (1, 2, 3))
        assert "no old place is left to compare with" in good.stdout
        assert (shop.share(), site.last().state) == (100, "done")
        nothing = site.play("canary", canary_release="on")
        assert nothing.returncode == 0 and "nothing to do" in nothing.stdout, nothing.stdout
        # on for a while, and bad after all
        shop.rate = 0.2
        site.write(guard={"mode": "act", "alerts": ["SearchErrors"], "cooldown": 0})
        alert = {"kind": "alert", "name": "SearchErrors", "id": "a1"}
        back = site.play("rollback", rollback_trigger=alert, rollback_confirm_window=30)
        assert back.returncode == 0, back.stdout
        last = site.last()
        assert (last.kind, last.state, last.release) == ("rollback", "done", "on")
        assert last.outcome["verified"]["verdict"] == "recovered", back.stdout
        assert shop.share() == 0
        twice = site.play("rollback", rollback_reason="to be sure")
        assert twice.returncode == 0 and "nothing to roll back" in twice.stdout, twice.stdout


def test_what_a_person_switched_off_at_the_provider_is_not_turned_on_again(begin: Begin, tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(FLAGS))
    with begin(home_made(flags), {"provider": {"type": "json", "path": str(flags)}}) as (shop, site):
        site.write(bake={**BAKE, "min_bake": 8})
        run = site.begin("canary", canary_release="on", canary_traffic_steps=[10, 50])
        run.until("PASS")  # what was seen is enough, and the step has still to last
        flags.write_text(json.dumps(FLAGS))
        assert run.end() != 0 and "was switched off at its provider since this rollout turned it on" in run.output
        assert "bake 2/2" not in run.output
        assert (shop.share(), site.last().state) == (0, "undone"), run.output


class Behind(Vendor):
    """An OFREP server (open-feature/protocol, service/openapi.yaml) that does not follow the file of its flags."""

    def is_client(self, asked: Asked) -> bool:
        return True

    def answer(self, asked: Asked) -> Reply:
        insist(asked.method == "POST" and asked.parts == ["ofrep", "v1", "evaluate", "flags", FLAG], "no such call")
        return Reply(data={"key": FLAG, "value": False, "variant": "off", "reason": "STATIC"})


def test_a_flag_of_flagd_whose_controller_was_killed_or_whose_clients_do_not_follow_is_off_again(
    begin: Begin, tmp_path: Path
) -> None:
    flags = tmp_path / "flags.flagd.json"
    flags.write_text(json.dumps({"flags": {FLAG: FLAGD}}, indent=2))
    options = {"provider": {"type": "flagd", "path": str(flags)}}
    with openfeature(flags) as served, begin(served, options, rps=200) as (shop, site):
        site.write(bake={**BAKE, "min_bake": 50})
        run = site.begin("canary", canary_release="on", canary_traffic_steps=[10], canary_lease_ttl=4)
        run.until("bake 1/1")
        waited(lambda: 5 < shop.share() < 15)
        run.kill()
        waited(lambda: site.play("reconcile").returncode == 0 and site.last().state == "undone", 60)
        waited(lambda: shop.share() == 0)
        with serving(Behind()) as behind:
            provider = {**options["provider"], "client_url": behind.url}
            site.write(backend_options={**site.options, "provider": provider, "deadline": 1})
            late = site.play("canary", canary_release="on", canary_traffic_steps=[])
        assert late.returncode != 0 and "clients are served false, not true" in late.stdout, late.stdout
        assert (site.last().state, shop.share()) == ("undone", 0)
        assert "it could not be released to new-search" in late.stdout and "bake 1/1" not in late.stdout


@pytest.mark.xdist_group("unleash")
def test_a_flag_of_unleash_is_off_again_or_on_for_all(begin: Begin, tmp_path: Path, unleash_server: Unleash) -> None:
    server = unleash_server
    flag = server.create("searched-by-canary")
    tokens = {"token": server.admin, "client_token": server.client}
    options = {
        "flag": flag,
        "project": "default",
        "environment": ENVIRONMENT,
        "provider": {"type": "unleash", "url": server.url, **tokens},
    }

    def served(user: int) -> bool:
        return bool(client.is_enabled(flag, {"userId": str(user)}))

    with sdk(server, tmp_path) as client, begin(served, options, rps=400, rate=0.2) as (shop, site):
        # the SDK asks every second, and nothing is judged until all may have asked
        site.write(bake={**BAKE, "warm_up": 2})
        bad = site.play("canary", canary_release="on", canary_traffic_steps=[10])
        assert bad.returncode != 0 and site.last().outcome["bake"].get("verdict") == "fail", bad.stdout
        waited(lambda: shop.share() == 0)
        shop.rate = 0.0
        good = site.play("canary", canary_release="on", canary_traffic_steps=[50], canary_retry_bad=True)
        assert good.returncode == 0 and site.last().state == "done", good.stdout
        waited(lambda: shop.share() == 100)
        told = bad.stdout + good.stdout + site.ledger.read_bytes().decode("latin-1")
        assert not any(token in told for token in server.tokens)


def test_what_no_flag_can_be_is_refused_before_anything_is_begun(begin: Begin, tmp_path: Path) -> None:
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps(FLAGS))
    provider = {"type": "json", "path": str(flags)}
    with begin(home_made(flags), {"provider": provider}) as (_shop, site):
        source = {**site.policy["source"], "place_label": "variant"}
        for variables, policy, said in (
            ({"canary_release": True}, {}, "Write it in quotes"),
            (
                {},
                {"backend_options": {**site.options, "flag": "other"}},
                "one value for all, so it has no percentage",
            ),
            ({}, {"source": source}, "Correct the name or the labels"),
        ):
            site.write(**policy)
            refused = site.play("canary", **{"canary_release": "on", **variables})
            assert refused.returncode != 0 and said in refused.stdout, refused.stdout
            assert not site.rollouts()
        assert json.loads(flags.read_text()) == FLAGS


@contextmanager
def openfeature(flags: Path) -> Iterator[Callable[[int], bool]]:
    """What a user is served by the OpenFeature SDK with flagd's provider, which polls the file."""
    from openfeature import api  # not every environment of the matrix has it
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(flags), deadline_ms=200)
    api.set_provider_and_wait(provider, domain=str(flags))
    client = api.get_client(domain=str(flags))
    try:
        yield lambda user: bool(client.get_boolean_value(FLAG, False, EvaluationContext(f"user-{user}")))
    finally:
        provider.shutdown()


def waited(met: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)
