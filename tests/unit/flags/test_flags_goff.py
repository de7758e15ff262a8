# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GO Feature Flag's flags: what a wish makes of a flag, what the document says is served, and its YAML files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
import yaml

from ansible_collections.selfheal.delivery.plugins.module_utils._errors import DeliveryError, OptionError
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.go_feature_flag import build, evaluated, wished
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.model import Deadline, Options, Where, Wish
from ansible_collections.selfheal.delivery.plugins.module_utils._flags.texts import KEPT

WHERE = Where("new-search")
TARGETING = [{"name": "staff", "query": 'email ew "@shop.test"', "variation": "yes"}]
OFF, ON = Wish("off"), Wish("on", serve=True)


def flag(variation: Optional[str] = "yes", **more: Any) -> Dict[str, Any]:
    found: Dict[str, Any] = {"variations": {"yes": True, "no": False}}
    return {**found, **({"defaultRule": {"variation": variation}} if variation else {}), **more}


def percent(number: float) -> Wish:
    return Wish("on", serve=True, percentage=number)


def test_off_serves_the_variation_with_the_value_and_is_not_disabled() -> None:
    assert wished(flag(), WHERE, OFF) == flag("no")
    assert wished(flag(disable=True, version="1"), WHERE, OFF) == flag("no", version="1")
    assert wished(flag("no", disable=False), WHERE, OFF) == flag("no", disable=False)
    assert evaluated(flag("no"), OFF).value is False


@pytest.mark.parametrize(
    "rules",
    [
        {"targeting": TARGETING},
        {"scheduledRollout": [{"date": "2026-01-01T00:00:00Z", "defaultRule": {"variation": "yes"}}]},
        {"experimentation": {"start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z"}},
        {"bucketingKey": "company"},
        {"defaultRule": {"name": "d", "percentage": {"yes": 20, "no": 70, "maybe": 10}}},
        {"defaultRule": {"progressiveRollout": {"initial": {}, "end": {}}}},
    ],
)
def test_whatever_decides_for_some_is_kept_while_it_is_off_and_comes_back(rules: Dict[str, Any]) -> None:
    before = flag("no", metadata={"owner": "search"}) | {"variations": {"yes": True, "no": False, "maybe": True}}
    before = {**before, **rules}
    off = wished(before, WHERE, OFF)
    assert set(off) == {"variations", "defaultRule", "metadata"}
    assert off["defaultRule"]["variation"] == "no"
    assert (evaluated(off, OFF).value, evaluated(off, OFF).percentage) == (False, 0)
    assert isinstance(off["metadata"][KEPT], str)
    assert wished(off, WHERE, OFF) == off
    assert wished(off, WHERE, ON) == before


def test_steps_of_a_percentage_keep_the_rules_that_were_its_own() -> None:
    before = flag("no", targeting=TARGETING)
    now = before
    for number, rest in ((5, 95), (12.5, 87.5)):
        now = wished(now, WHERE, percent(number))
        assert now["defaultRule"] == {"percentage": {"yes": number, "no": rest}}
        assert evaluated(now, percent(number)).percentage == number
    assert wished(wished(now, WHERE, percent(100)), WHERE, OFF)["defaultRule"] == {"variation": "no"}
    assert wished(wished(now, WHERE, percent(0)), WHERE, ON) == before


def test_a_percentage_needs_to_know_what_the_rest_get() -> None:
    three = {"variations": {"yes": True, "no": False, "maybe": True}, "defaultRule": {"variation": "no"}}
    now = wished(three, WHERE, percent(5))
    assert now["defaultRule"] == {"percentage": {"yes": 5, "no": 95}}
    assert wished(now, WHERE, percent(10))["defaultRule"] == {"percentage": {"yes": 10, "no": 90}}
    with pytest.raises(OptionError, match="none is said to be for the rest"):
        wished({**three, "defaultRule": {"percentage": {"yes": 1, "no": 1, "maybe": 1}}}, WHERE, percent(5))


def test_who_went_through_all_steps_is_on_for_everyone_and_stays_so() -> None:
    now = flag("no")
    for number in (5, 50, 100):
        now = wished(now, WHERE, percent(number))
    assert now == wished(now, WHERE, ON) == flag()
    off = wished(wished(now, WHERE, percent(5)), WHERE, OFF)
    assert wished(off, WHERE, ON)["defaultRule"] == {"percentage": {"yes": 5, "no": 95}}
    assert wished(off, WHERE, percent(100)) == flag()


@pytest.mark.parametrize(
    ("before", "why"),
    [
        (flag(disable=True), "disabled, so clients get their code's default"),
        (flag(targeting=TARGETING), "set client_url to the relay proxy"),
        (flag(bucketingKey="company"), "rules are evaluated by clients"),
        (flag("none"), "names no variation"),
        (flag(None, defaultRule={}), "names no variation"),
        (flag(None, defaultRule={"percentage": {"yes": 50, "gone": 50}}), "names no variation"),
    ],
)
def test_what_the_document_cannot_say_is_not_known(before: Dict[str, Any], why: str) -> None:
    told = evaluated(before, OFF)
    assert (told.known, told.final) == (False, True)
    assert why in told.why


YAML_FLAGS = """\
# read by the relay proxy
new-search:
  variations: {on: true, off: false}   # unquoted, as Go reads it
  targeting:
    - name: staff   # our own people
      query: email ew "@shop.test"
      variation: on
  defaultRule:
    variation: off
    # nobody else
other:
  variations: {a: 1.50, b: 2}
  defaultRule: {percentage: {a: 10, b: 90}}
"""


def changed(path: Path, wish: Wish, where: Where = WHERE) -> None:
    provider = build(Options("go_feature_flag", path=str(path)), Deadline.after(5))
    state = provider.state(where)
    if provider.wanted(where, wish, state):
        provider.set(where, wish, state)
    assert not provider.wanted(where, wish, provider.state(where))


def test_a_yaml_file_keeps_its_comments_and_gets_its_rules_back(tmp_path: Path) -> None:
    path = tmp_path / "flags.goff.yaml"
    path.write_text(YAML_FLAGS)
    changed(path, OFF)
    off = path.read_text()
    assert "# our own people\n" in off and "# nobody else\n" in off
    assert off.startswith("# read by the relay proxy\nnew-search:\n  variations: {on: true, off: false}   # unquoted")
    assert off.endswith(YAML_FLAGS[YAML_FLAGS.index("other:") :])
    provider = build(Options("go_feature_flag", path=str(path)), Deadline.after(5))
    assert provider.effective(WHERE, OFF).value is False
    assert provider.state(WHERE).note.startswith("its own rules are kept aside")
    changed(path, ON)
    on = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
    assert on == yaml.load(YAML_FLAGS, Loader=yaml.BaseLoader)


def test_what_cannot_be_is_said_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text(YAML_FLAGS)
    with pytest.raises(DeliveryError, match="did you mean 'new-search'"):
        changed(path, OFF, Where("new-serch"))
    with pytest.raises(OptionError, match='no variant that serves "x", so its off variation is not set'):
        changed(path, Wish("off", serve="x"))
    assert path.read_text() == YAML_FLAGS
    path.write_text(json.dumps({"new-search": {"variations": {}}}))
    with pytest.raises(DeliveryError, match="not of GO Feature Flag's form"):
        changed(path, OFF)
    with pytest.raises(OptionError, match="TOML"):
        build(Options("go_feature_flag", path="/x/flags.toml"), Deadline.after(1))
