# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is generated, held against the real promtool and amtool; and the committed version, out of a real git."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict, List

import pytest
import yaml
from code_catalogue import CART, EXAMPLE, NASTY, catalogue, entry, nasty
from go_tool import go_tool

from ansible_collections.selfheal.delivery.plugins.module_utils._codes.catalogue import load, parse
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.committed import NotInGit, committed
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.generate import Paging, route, rules
from ansible_collections.selfheal.delivery.plugins.module_utils._codes.model import Catalogue
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError


def run(*command: object, folder: Path) -> str:
    """What it prints; its end with an error fails the test."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


CATALOGUES = {
    "example": lambda: load(str(EXAMPLE / "error_codes.yml")),
    "nasty": lambda: parse(nasty()),
    "empty": lambda: parse("codes: {}"),
    "quick": lambda: parse(catalogue(SHOP_CART_001=entry(alert={"for": 0, "keep_firing_for": 0.5, "window": 1.5}))),
}


@pytest.mark.parametrize("name", CATALOGUES)
def test_prometheus_takes_the_rules(name: str, tmp_path: Path) -> None:
    codes = CATALOGUES[name]()
    (tmp_path / "rules.yml").write_text(rules(codes), encoding="utf-8")
    said = run(go_tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", "rules.yml", folder=tmp_path)
    assert f"{len(codes.codes)} rules found" in said


def test_the_rules_fire_by_what_is_counted_and_print_the_texts_as_they_stand(tmp_path: Path) -> None:
    """In promtool's own unit tests, whose annotations are what Prometheus has expanded."""
    (tmp_path / "rules.yml").write_text(rules(parse(nasty())), encoding="utf-8")
    series = 'app_errors_total{error_code="NASTY-TEXT-%03d",service="shop",environment="test",version="2",pod="a"}'
    labels = {"service": "shop", "environment": "test", "version": "2", "severity": "critical"}
    fixed = {**labels, "response": "rollback", "attributable": "true"}
    runbook = "https://runbooks.example.org/SHOP-CART-001"
    expected: List[object] = [
        {
            "alertname": "ErrorCodeRaised",
            "eval_time": "12m",
            "exp_alerts": [
                {
                    "exp_labels": {**fixed, "error_code": f"NASTY-TEXT-{number:03}", "owner": text},
                    "exp_annotations": {"summary": f"{text} (NASTY-TEXT-{number:03})", "runbook_url": runbook},
                }
                for number, text in enumerate(NASTY[:-3])
            ],
        },
        {"alertname": "ErrorCodeRaised", "eval_time": "10m", "exp_alerts": []},
    ]
    last = len(NASTY) - 3
    given = [
        # 6 more in the eleventh minute, of each
        *({"series": series % number, "values": "0x10 6x10"} for number in range(last)),
        # it begins with 2 errors, too few; it has always been at 9; it climbs too slowly
        {"series": series % last, "values": "_x10 2x10"},
        {"series": series % (last + 1), "values": "9x20"},
        {"series": series % (last + 2), "values": "0+0.5x20"},
    ]
    tests = {
        "rule_files": ["rules.yml"],
        "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": expected}],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    assert "SUCCESS" in run(go_tool("promtool"), "test", "rules", "tests.yml", folder=tmp_path)


def test_a_counter_that_begins_with_its_errors_fires_and_a_restart_does_not(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules(parse(catalogue())), encoding="utf-8")
    series = f'app_errors_total{{error_code="{CART}",service="%s",environment="test",version="2"}}'
    fired = {"service": "born", "environment": "test", "version": "2", "error_code": CART, "severity": "critical"}
    labels = {**fired, "owner": "team-shop", "response": "rollback", "attributable": "true"}
    summary = f"The cart cannot be saved ({CART})"
    annotations = {"summary": summary, "runbook_url": "https://runbooks.example.org/SHOP-CART-001"}
    given = [
        {"series": series % "born", "values": "_x10 7x10"},
        {"series": series % "restarted", "values": "50x10 0x10"},
    ]
    expected = [
        {
            "alertname": "ErrorCodeRaised",
            "eval_time": "13m",
            "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
        }
    ]
    tests = {
        "rule_files": ["rules.yml"],
        "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": expected}],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests), encoding="utf-8")
    assert "SUCCESS" in run(go_tool("promtool"), "test", "rules", "tests.yml", folder=tmp_path)


def configured(folder: Path, codes: Catalogue, paging: Paging) -> Path:
    """An Alertmanager's configuration into which the fragment is merged."""
    made = yaml.safe_load(route(codes, paging))
    names = sorted({"default", paging.receiver, *paging.owners.values()})
    whole = {
        "route": {"receiver": "default", "routes": made["routes"]},
        "receivers": [*({"name": name} for name in names), *made["receivers"]],
    }
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return path


@pytest.mark.parametrize("address", [{}, {"webhook_url": "http://127.0.0.1:5000/alerts"}, {"webhook_url_file": "/x"}])
def test_alertmanager_takes_the_route_whatever_the_owners_are_called(address: Dict[str, str], tmp_path: Path) -> None:
    paging = Paging("on-call", {text: f"of {number}" for number, text in enumerate(NASTY)}, **address)
    run(go_tool("amtool"), "check-config", configured(tmp_path, parse(nasty()), paging), folder=tmp_path)


def test_alerts_go_to_their_owner_and_to_the_controller_that_acts(tmp_path: Path) -> None:
    codes = load(str(EXAMPLE / "error_codes.yml"))
    paging = Paging("on-call", {"team-shop": "shop"}, "http://127.0.0.1:5000/alerts")
    config = configured(tmp_path, codes, paging)

    def receivers(**labels: str) -> str:
        words = [f"{key}={value}" for key, value in labels.items()]
        return run(
            go_tool("amtool"), "config", "routes", "test", f"--config.file={config}", *words, folder=tmp_path
        ).strip()

    ours = {"alertname": "ErrorCodeRaised", "error_code": CART}
    assert receivers(**ours, owner="team-shop", response="rollback") == "selfheal,shop"
    assert receivers(**ours, owner="team-shop", response="page") == "shop"
    assert receivers(**ours, owner="team-payments", response="page") == "on-call"
    assert receivers(alertname="Other", error_code=CART, response="rollback") == "default"
    assert receivers(alertname="ErrorCodeRaised", owner="team-shop", response="rollback") == "default"


def test_an_owner_that_no_code_has_is_refused() -> None:
    with pytest.raises(OptionError, match=r"no code is owned by 'team-shp' \(did you mean 'team-shop'\?\)"):
        route(parse(catalogue()), Paging("on-call", {"team-shp": "x"}))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a catalogue in a folder, committed once, then changed."""
    folder = tmp_path / "repository/config"
    folder.mkdir(parents=True)
    (folder / "codes.yml").write_text(catalogue())
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], [*author, "commit", "-qm", "codes"], ["tag", "v1"]):
        run("git", *words, folder=tmp_path / "repository")
    (folder / "codes.yml").write_text(catalogue(SHOP_CART_002=entry()))
    return folder


def test_the_committed_version_is_read_out_of_git(repository: Path, tmp_path: Path) -> None:
    path = repository / "codes.yml"
    linked = tmp_path / "linked.yml"
    linked.symlink_to(path)
    for told in (committed(str(path)), committed(str(path), "v1"), committed(str(linked), "main")):
        assert told == catalogue()
    (repository / "new.yml").write_text(catalogue())
    assert committed(str(repository / "new.yml")) is None


def test_what_git_cannot_say_is_told(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(repository / "codes.yml")
    for ref in ("nowhere", "--output=x", "-h", "v1:config", "main..v1"):
        with pytest.raises(OptionError, match="git finds no commit"):
            committed(path, ref)
    assert not (repository / "x").exists()
    (tmp_path / "alone.yml").write_text(catalogue())
    with pytest.raises(NotInGit):
        committed(str(tmp_path / "alone.yml"))
    run("git", "init", "-q", "empty", folder=tmp_path)
    (tmp_path / "empty/codes.yml").write_text(catalogue())
    with pytest.raises(NotInGit):
        committed(str(tmp_path / "empty/codes.yml"))
    with pytest.raises(OptionError, match="git finds no commit"):
        committed(str(tmp_path / "alone.yml"), "main")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(OptionError, match="dubious ownership") as raised:
        committed(path)
    assert not isinstance(raised.value, NotInGit), "nothing was compared, and nobody would know"
